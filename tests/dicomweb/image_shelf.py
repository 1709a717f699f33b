"""Images in memory behind the DICOMweb edge: encoded instances, delivered as the core delivers them, faults too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import orjson
import pydicom
from aiohttp import web
from yarl import URL

from dicomweb.credentials import Callers
from dicomweb.listener import edge
from dicomweb.wado import service
from dicomweb.wado.file_meta import read_file_meta
from dicomweb.wado.images import Archive, KeepsAsItIs, Transcoder
from dicomweb.wado.rendered import Renderer
from gateway.instances.description import describe
from gateway.instances.header import SERIES_UID, STUDY_UID, HeaderReader
from gateway.model.errors import Damaged, GatewayError, InvalidRequest
from gateway.model.imaging import Source
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Counts, Failure, Given, Halt, InstanceState, RetrieveWish, Written
from gateway.model.work.transfers import InstanceRef
from policy.parties import Caller
from tests.dicomweb.small_region import PUBLIC_URL, ST_ELSEWHERE, Answer, Reception, served, source

PIECE_BYTES = 1024 * 1024

_BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


@dataclass(frozen=True)
class Kept:
    """One encoded instance."""

    ref: InstanceRef
    transfer_syntax: str
    content: bytes
    json: bytes = b""


def bundled() -> list[str]:
    """The names of pydicom's own files that name an instance."""
    return sorted(path.name for path in _BUNDLED.glob("*.dcm") if _names_instance(path.read_bytes()))


def _names_instance(whole: bytes) -> bool:
    try:
        return read_file_meta(whole) is not None
    except InvalidRequest:
        return False


def kept_file(name: str, **uids: str) -> Kept:
    """One of pydicom's own files, as it would lie in the cache."""
    return kept_of((_BUNDLED / name).read_bytes(), **uids)


def kept_of(whole: bytes, **uids: str) -> Kept:
    """A DICOM file, as it would lie in the cache."""
    meta = read_file_meta(whole)
    assert meta is not None
    content = whole[meta.data_set_at :]
    reader = HeaderReader(meta.transfer_syntax)
    reader.feed(content)
    try:
        described = describe(content, meta.transfer_syntax, is_whole=True)
    except InvalidRequest:
        described = None
    ref = InstanceRef(
        uids.get("study", reader.header.uid(STUDY_UID)),
        uids.get("series", reader.header.uid(SERIES_UID)),
        uids.get("sop", meta.sop_uid),
        meta.sop_class_uid,
    )
    return Kept(ref, meta.transfer_syntax, content, described.json if described is not None else b"")


def content_of(whole: bytes) -> bytes:
    """The encoded data set of a DICOM file."""
    meta = read_file_meta(whole)
    assert meta is not None
    return whole[meta.data_set_at :]


def made(number: int, content: bytes = b"", study: str = "1.2.3", series: str = "") -> Kept:
    """An instance of no meaning in an explicit syntax; its JSON is short."""
    ref = InstanceRef(study, series or f"{study}.1", f"{study}.{number}", "1.2.840.10008.5.1.4.1.1.2")
    json = orjson.dumps({"00080018": {"vr": "UI", "Value": [ref.sop_uid]}})
    return Kept(ref, "1.2.840.10008.1.2.1", content or bytes([number % 251]) * 1000, json)


@dataclass
class ShelfItem:
    """One instance handed out."""

    kept: Kept
    is_damaged_from: int | None = None
    opened: int = 0
    source = ST_ELSEWHERE

    @property
    def ref(self) -> InstanceRef:
        return self.kept.ref

    @property
    def transfer_syntax(self) -> str:
        return self.kept.transfer_syntax

    @property
    def data_bytes(self) -> int:
        return len(self.kept.content)

    @property
    def etag(self) -> str:
        return f"{len(self.kept.content):x}-{self.kept.ref.sop_uid}"

    @asynccontextmanager
    async def open(self, first: int = 0, last: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            end = self.data_bytes if last is None else last + 1
            for at in range(first, end, PIECE_BYTES):
                if self.is_damaged_from is not None and at >= self.is_damaged_from:
                    raise Damaged("an instance is not as it was sealed")
                yield self.kept.content[at : min(at + PIECE_BYTES, end)]

        yield pieces()

    async def metadata(self) -> bytes:
        return self.kept.json


@dataclass
class ShelfDelivery:
    """A retrieval that keeps account of what the door says."""

    shelf: ImageShelf
    kept: Sequence[Kept]
    states: dict[str, InstanceState] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    halted: Halt | None = None
    is_cancelled: bool = False
    is_spared: bool = False
    retrieval_id = "retrieval-1"

    @property
    def etag(self) -> str:
        return self.shelf.etag

    @property
    def refs(self) -> Sequence[InstanceRef]:
        return [each.ref for each in self.kept]

    @property
    def sources(self) -> Sequence[Source]:
        return self.shelf.sources

    @property
    def counts(self) -> Counts:
        sent, failed = (list(self.states.values()).count(state) for state in (InstanceState.SENT, InstanceState.FAILED))
        return Counts(len(self.kept) - sent - failed, sent, failed, 0)

    async def __aiter__(self) -> AsyncIterator[ShelfItem]:
        for each in self.kept:
            uid = each.ref.sop_uid
            await self.shelf.before_each(uid)
            if self.is_cancelled:
                return
            if self.shelf.halts_at == uid:
                self.halted = self.shelf.halts_as
                return
            if uid in self.shelf.lost_on_the_way:
                self._fail(each.ref, "could not be fetched")
            elif uid not in self.shelf.lost_before:
                item = ShelfItem(each, self.shelf.damaged_from.get(uid))
                self.shelf.handed_out.append(item)
                yield item

    async def described(self) -> AsyncIterator[Written]:
        async for item in self:
            yield Written(item.ref, await item.metadata())

    def sent(self, item: Given, warning: str = "") -> None:
        self.states[item.ref.sop_uid] = InstanceState.SENT

    def failed(self, item: Given, words: str) -> None:
        self._fail(item.ref, words)

    def cancel(self) -> None:
        self.is_cancelled = True

    def spare(self) -> None:
        self.is_spared = self.is_cancelled = True

    def _fail(self, ref: InstanceRef, words: str) -> None:
        self.states[ref.sop_uid] = InstanceState.FAILED
        self.failures.append(Failure(ref, words, ST_ELSEWHERE))


async def at_once(_sop_uid: str) -> None:
    """Wait for nothing."""


@dataclass
class ImageShelf:
    """What one caller may have."""

    kept: Sequence[Kept] = ()
    sources: Sequence[Source] = (source(),)
    error: GatewayError | None = None
    lost_before: frozenset[str] = frozenset()
    """Known to be missing before the first is handed out."""
    lost_on_the_way: frozenset[str] = frozenset()
    damaged_from: Mapping[str, int] = field(default_factory=dict)
    etag: str = "version-1"
    halts_at: str = ""
    halts_as: Halt = Halt.POLICY
    before_each: Callable[[str], Awaitable[None]] = at_once
    wishes: list[RetrieveWish] = field(default_factory=list)
    deliveries: list[ShelfDelivery] = field(default_factory=list)
    handed_out: list[ShelfItem] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a retrieval is over."""

    @asynccontextmanager
    async def retrieve(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[ShelfDelivery]:
        self.wishes.append(wish)
        if self.error is not None:
            raise self.error
        wanted = [
            each
            for each in self.kept
            if each.ref.study_uid in wish.study_uids
            and (not wish.series_uids or each.ref.series_uid in wish.series_uids)
            and (not wish.sop_uids or each.ref.sop_uid in wish.sop_uids)
        ]
        delivery = ShelfDelivery(self, wanted)
        for each in wanted:
            if each.ref.sop_uid in self.lost_before:
                delivery.failed(ShelfItem(each), "could not be fetched")
        self.deliveries.append(delivery)
        try:
            yield delivery
        finally:
            self.ended.set()

    @property
    def delivery(self) -> ShelfDelivery:
        """The latest."""
        return self.deliveries[-1]

    @property
    def sent(self) -> list[str]:
        """What the latest delivery counts as delivered."""
        return [uid for uid, state in self.delivery.states.items() if state is InstanceState.SENT]


def application(
    shelf: ImageShelf,
    *,
    reception: Reception | None = None,
    limits: Limits | None = None,
    transcoder: Transcoder | None = None,
    renderer: Renderer | None = None,
    cors_origins: Sequence[str] = (),
) -> web.Application:
    """The edge as the gateway builds it."""
    numbers = count(1)
    known = limits or Limits()
    archive = Archive(
        shelf,
        Callers(reception or Reception()),
        known,
        PUBLIC_URL,
        new_boundary=lambda: f"{next(numbers):032x}",
        transcoder=transcoder or KeepsAsItIs(),
    )
    app = web.Application(
        middlewares=[edge(known, new_id=lambda: f"request-{next(numbers)}", cors_origins=frozenset(cors_origins))]
    )
    app.add_routes(service.routes(archive, renderer))
    return app


@asynccontextmanager
async def serving(shelf: ImageShelf, **options: object) -> AsyncIterator[str]:
    """Serve images; gives the address of the DICOMweb service."""
    async with served(application(shelf, **options)) as origin:  # type: ignore[arg-type]  # passed through
        yield f"{origin}/dicom-web"


@dataclass(frozen=True)
class RawAnswer:
    """What came over a socket until its end."""

    head: bytes
    body: bytes
    """Without the framing of chunks."""
    is_whole: bool

    @property
    def status(self) -> int:
        """As its first line says."""
        return int(self.head.split(b" ", 2)[1])


async def ask_raw(base: str, path: str, version: str = "1.1") -> RawAnswer:
    """Ask for images by hand, and read until the connection ends: also what is cut can be looked at."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port)
    request = f"GET {URL(base).path}{path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
    writer.write(request.encode("ascii"))
    head, _, rest = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
    writer.close()
    if b"Transfer-Encoding: chunked" not in head:
        return RawAnswer(head, rest, True)
    body = bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return RawAnswer(head, bytes(body), rest == b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return RawAnswer(head, bytes(body), False)


async def ask(
    shelf: ImageShelf, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **options: object
) -> Answer:
    """Ask for images over HTTP; the path is sent as it stands. Raises what aiohttp raises for an answer that is cut."""
    sent = {"Accept-Encoding": "identity"} | (headers or {})
    async with (
        serving(shelf, **options) as base,
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, URL(base + path, encoded=True), headers=sent) as response,
    ):
        return Answer(response.status, response.headers, await response.read())
