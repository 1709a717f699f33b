"""A viewer at a trust, as the region's gateway sees it: plain QIDO-RS over mutual TLS, nothing of ours in it.

The demonstration's check and the story tests act through it. An `Answer` holds what a user could notice.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.demo.certificates import KeyPair

STUDY_UID: Final = "0020000D"
ANSWER_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: status, headers, and the rows or the problem that came with it."""

    status: int
    headers: Mapping[str, str]
    warnings: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    problem: Mapping[str, Any]
    body: bytes

    @property
    def studies(self) -> frozenset[str]:
        """The Study Instance UIDs answered."""
        return frozenset(self.text(row, STUDY_UID) for row in self.rows)

    @staticmethod
    def text(row: Mapping[str, Any], tag: str) -> str:
        """The first value of an attribute as text; empty if there is none."""
        values = row.get(tag, {}).get("Value") or [""]
        value = values[0]
        return str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)

    def source_state(self, ods_code: str) -> str:
        """What the answer says of one trust (`Gateway-Sources`); empty if it is not named."""
        for item in self.headers.get("Gateway-Sources", "").split(","):
            token, *parameters = (part.strip() for part in item.split(";"))
            if token.strip('"') == ods_code:
                values = dict(part.partition("=")[::2] for part in parameters)
                return values.get("state", "").strip('"')
        return ""


class Viewer:
    """Asks one gateway under one client certificate, or under none. Use `async with`."""

    def __init__(self, url: str, authority: Path, pair: KeyPair | None) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.private_key)
        self._url = url
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Viewer:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context), timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def studies(self, *, purpose: str = "", trust: str = "", **keys: str) -> Answer:
        """Search studies with these keys, for a purpose if one is named, at one trust if one is named."""
        return await self.search("studies", purpose=purpose, trust=trust, **keys)

    async def search(self, resource: str, *, purpose: str = "", trust: str = "", **keys: str) -> Answer:
        """Search a QIDO-RS resource such as `studies/1.2.3/series`."""
        assert self._session is not None, "use `async with`"
        root = f"{self._url}/dicom-web" + (f"/trust/{trust}" if trust else "")
        headers = {"Accept": "application/dicom+json"} | ({"Gateway-Purpose": purpose} if purpose else {})
        async with self._session.get(f"{root}/{resource}", params=keys, headers=headers) as answer:
            body = await answer.read()
            content = await answer.json(content_type=None) if body else []
            return Answer(
                status=answer.status,
                headers=dict(answer.headers),
                warnings=tuple(answer.headers.getall("Warning", [])),
                rows=tuple(content) if isinstance(content, list) else (),
                problem=content if isinstance(content, dict) else {},
                body=body,
            )
