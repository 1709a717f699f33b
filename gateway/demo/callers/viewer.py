"""A viewer at a trust, as the region's gateway sees it: QIDO-RS and WADO-RS over mutual TLS, nothing of ours in it.

The demonstration's check and the story tests act through it. A `WebAnswer` holds what a user could notice.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.demo.callers.answer import Outcome, Row, studies_in
from gateway.demo.callers.received import Image, image_of
from gateway.demo.certificates import KeyPair

ANSWER_TIMEOUT_S: Final = 30.0

_OUTCOMES: Final = {
    200: Outcome.ANSWERED,
    400: Outcome.INVALID,
    403: Outcome.DENIED,
    503: Outcome.FAULT,
    504: Outcome.UNREACHED,
}
_OUTCOMES_OF_IMAGES: Final = {**_OUTCOMES, 206: Outcome.ANSWERED, 404: Outcome.ANSWERED}
"""Nothing that may be had is absence, whatever the reason."""
_AS_KEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
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


@dataclass(frozen=True, slots=True)
class WebImages:
    """One answer of WADO-RS: status, headers, and the images or the problem that came with it."""

    status: int
    headers: Mapping[str, str]
    notices: tuple[str, ...]
    images: Mapping[str, Image]
    is_whole: bool
    """See `Received.is_whole`: 200, and closed."""
    problem: Mapping[str, Any]

    @property
    def outcome(self) -> Outcome:
        """See `Received.outcome`."""
        return _OUTCOMES_OF_IMAGES.get(self.status, Outcome.OTHER)

    @property
    def told(self) -> str:
        """See `Received.told`."""
        return "; ".join(filter(None, (str(self.problem.get("detail", "")), *self.notices)))

    @property
    def comparable(self) -> object:
        """See `Received.comparable`."""
        headers = {name: value for name, value in self.headers.items() if name not in _CHANGING}
        problem = {name: value for name, value in self.problem.items() if name != "requestId"}
        images = {uid: image.encoded for uid, image in self.images.items()}
        return self.status, headers, self.notices, images, problem


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

    async def retrieve(self, resource: str) -> WebImages:
        """Fetch the images of a WADO-RS resource such as `studies/1.2.3`, as they are kept."""
        assert self._session is not None, "use `async with`"
        async with self._session.get(f"{self._root()}/{resource}", headers={"Accept": _AS_KEPT}) as answer:
            notices = tuple(answer.headers.getall("Warning", []))
            if not answer.content_type.startswith("multipart/"):
                problem = await answer.json(content_type=None) if await answer.read() else {}
                return WebImages(answer.status, dict(answer.headers), notices, {}, answer.status == 404, problem)
            images: dict[str, Image] = {}
            is_whole = answer.status == 200
            try:
                async for file in _files_of(answer):
                    uid, image = image_of(file)
                    images[uid] = image
            except ValueError:
                is_whole = False
            return WebImages(answer.status, dict(answer.headers), notices, images, is_whole, {})

    async def store(self, *files: bytes) -> tuple[int, Mapping[str, Any]]:
        """Push images, each a DICOM file, by STOW-RS; the status and the answer's body (PS3.18 10.5)."""
        assert self._session is not None, "use `async with`"
        with aiohttp.MultipartWriter("related") as body:
            for file in files:
                body.append(BytesIO(file), {"Content-Type": "application/dicom"})
        kind = f'multipart/related; type="application/dicom"; boundary="{body.boundary}"'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        async with self._session.post(f"{self._root()}/studies", data=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None) if await answer.read() else {}

    async def search(self, resource: str, *, purpose: str = "", trust: str = "", **keys: str) -> WebAnswer:
        """Search a QIDO-RS resource such as `studies/1.2.3/series`."""
        assert self._session is not None, "use `async with`"
        headers = {"Accept": "application/dicom+json"} | ({"Gateway-Purpose": purpose} if purpose else {})
        async with self._session.get(f"{self._root(trust)}/{resource}", params=keys, headers=headers) as answer:
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

    def _root(self, trust: str = "") -> str:
        return f"{self._url}/dicom-web" + (f"/trust/{trust}" if trust else "")


async def _files_of(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Each whole part's bytes; raises `ValueError` for a body that ends before it is closed.

    Read whole: aiohttp's own reader of parts warns of itself wherever a border is cut by the network.
    """
    kind = Message()
    kind["Content-Type"] = answer.headers["Content-Type"]
    border = f"\r\n--{kind.get_param('boundary')}".encode()
    body = bytearray(b"\r\n")
    with suppress(aiohttp.ClientPayloadError):
        async for chunk in answer.content.iter_any():
            body += chunk
    *parts, end = bytes(body).split(border)
    for part in parts[1:]:
        yield part.partition(b"\r\n\r\n")[2]
    if not end.startswith(b"--"):
        raise ValueError("the body ends before it is closed")
