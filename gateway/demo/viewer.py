"""A viewer at a trust, as the region's gateway sees it: plain QIDO-RS over mutual TLS, nothing of ours in it.

The demonstration's check and the story tests act through it. A `WebAnswer` holds what a user could notice.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.demo.answer import Outcome, Row, studies_in
from gateway.demo.certificates import KeyPair

ANSWER_TIMEOUT_S: Final = 30.0

_OUTCOMES: Final = {
    200: Outcome.ANSWERED,
    400: Outcome.INVALID,
    403: Outcome.DENIED,
    503: Outcome.FAULT,
    504: Outcome.UNREACHED,
}
_NOT_MISSING: Final = frozenset(("answered", "not-shared"))
_CHANGING: Final = frozenset(("Date", "Gateway-Correlation"))
"""Headers that differ between any two answers."""


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """One answer: status, headers, and the rows or the problem that came with it."""

    status: int
    headers: Mapping[str, str]
    notices: tuple[str, ...]
    rows: tuple[Row, ...]
    problem: Mapping[str, Any]
    body: bytes

    @property
    def outcome(self) -> Outcome:
        """How the question ended."""
        return _OUTCOMES.get(self.status, Outcome.OTHER)

    @property
    def studies(self) -> frozenset[str]:
        """The Study Instance UIDs answered."""
        return studies_in(self.rows)

    @property
    def told(self) -> str:
        """The problem's detail."""
        return str(self.problem.get("detail", ""))

    @property
    def missing(self) -> frozenset[str]:
        """The trusts that `Gateway-Sources` does not call answered."""
        return frozenset(code for code, state in self._sources() if state not in _NOT_MISSING)

    @property
    def comparable(self) -> object:
        """Status, body, headers and warnings."""
        headers = {name: value for name, value in self.headers.items() if name not in _CHANGING}
        return self.status, self.body, headers, self.notices

    def source_state(self, ods_code: str) -> str:
        """What the answer says of one trust (`Gateway-Sources`); empty if it is not named."""
        return dict(self._sources()).get(ods_code, "")

    def _sources(self) -> Iterator[tuple[str, str]]:
        for item in filter(None, self.headers.get("Gateway-Sources", "").split(",")):
            token, *parameters = (part.strip() for part in item.split(";"))
            values = dict(part.partition("=")[::2] for part in parameters)
            yield token.strip('"'), values.get("state", "").strip('"')


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

    async def studies(self, *, purpose: str = "", trust: str = "", **keys: str) -> WebAnswer:
        """Search studies with these keys, for a purpose if one is named, at one trust if one is named."""
        return await self.search("studies", purpose=purpose, trust=trust, **keys)

    async def search(self, resource: str, *, purpose: str = "", trust: str = "", **keys: str) -> WebAnswer:
        """Search a QIDO-RS resource such as `studies/1.2.3/series`."""
        assert self._session is not None, "use `async with`"
        root = f"{self._url}/dicom-web" + (f"/trust/{trust}" if trust else "")
        headers = {"Accept": "application/dicom+json"} | ({"Gateway-Purpose": purpose} if purpose else {})
        async with self._session.get(f"{root}/{resource}", params=keys, headers=headers) as answer:
            body = await answer.read()
            content = await answer.json(content_type=None) if body else []
            return WebAnswer(
                status=answer.status,
                headers=dict(answer.headers),
                notices=tuple(answer.headers.getall("Warning", [])),
                rows=tuple(content) if isinstance(content, list) else (),
                problem=content if isinstance(content, dict) else {},
                body=body,
            )
