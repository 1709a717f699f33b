"""Instances in other forms than they are kept in, for every edge: other transfer syntaxes, single frames, pictures.

Joins items of a retrieval with `gateway.pixels`, whose processes do the work and may die of it, and with the rewriting
of `gateway.instances`. What cannot be made is said so; it is never made up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import orjson

from dicomweb.wado.contents import reader_of
from dicomweb.wado.rendered import Rendered, RenderWish
from gateway.instances import documents, explicit
from gateway.instances.explicit import Rewriting
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, NATIVE
from gateway.model.errors import Damaged, InvalidRequest, NotAcceptable, NotFound
from gateway.model.work.retrievals import Item
from gateway.model.work.transfers import InstanceRef
from gateway.pixels import pictures, transcoding
from gateway.pixels.pool import Pool
from gateway.pixels.source import PixelSource, pixel_source
from gateway.pixels.wire import Head
from gateway.pixels.wishes import Media, PictureWish, Window, WindowFunction
from policy.parties import TrustId

HELD_BYTES_MAX = 64 * 1024 * 1024
"""What is made and not longer than this is kept until it is sent; anything longer is made twice, to know its length."""
QUALITY = 90

_PICTURES = tuple(media.value for media in Media)
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_REPORT_FORMS = ("text/html", "text/plain")
_WITHOUT_PICTURES = (
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.9.",
    "1.2.840.10008.5.1.4.1.1.66",
)
"""Models, presentation states, waveforms, raw data."""
_FIRST_BYTES = 64 * 1024

Makes = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class _Made:
    """An instance in another transfer syntax (`gateway.model.work.retrievals.Item`)."""

    kept: Item
    transfer_syntax: str
    data_bytes: int
    makes: Makes
    held: bytes | None

    @property
    def ref(self) -> InstanceRef:
        """See `Item`."""
        return self.kept.ref

    @property
    def source(self) -> TrustId:
        """See `Item`."""
        return self.kept.source

    @property
    def etag(self) -> str:
        """See `Item`."""
        return f"{self.kept.etag}-{self.transfer_syntax}"

    @asynccontextmanager
    async def open(self, first: int = 0, last: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Item`."""
        end = self.data_bytes if last is None else last + 1
        async with aclosing(self._pieces(first, end)) as pieces:
            yield pieces

    async def metadata(self) -> bytes:
        """See `Item`."""
        return await self.kept.metadata()

    async def _pieces(self, first: int, end: int) -> AsyncGenerator[bytes, None]:
        if self.held is not None:
            yield self.held[first:end]
            return
        at = 0
        try:
            async for piece in self.makes():
                wanted = piece[max(0, first - at) : max(0, end - at)]
                at += len(piece)
                if wanted:
                    yield wanted
                if at >= end:
                    return
        except (InvalidRequest, NotAcceptable) as error:
            raise Damaged("an instance could be made once and not again") from error


class Pictures:
    """Makes what is asked of instances (`dicomweb.wado.rendered.Renderer`, and the `Transcoder` of both protocols)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def transcoded(self, item: Item, accepted: Collection[str]) -> Item | None:
        """The same instance in one of these transfer syntaxes, without loss; None: it cannot be had so."""
        for target in accepted:
            try:
                return await self._made(item, target)
            except (NotAcceptable, InvalidRequest, NotFound):
                continue
        return None

    def offered(self, sop_class_uid: str) -> Sequence[str]:
        """The media types that instances of a class can be rendered in, best first."""
        if sop_class_uid.startswith(_REPORTS):
            return _REPORT_FORMS
        if (wrapped := documents.MEDIA_TYPES.get(sop_class_uid, "")).startswith(("application/", "text/")):
            return (wrapped,)
        return () if sop_class_uid.startswith(_WITHOUT_PICTURES) else _PICTURES

    async def rendered(self, item: Item, wish: RenderWish) -> Rendered:
        """A picture of one frame, of a whole instance that in its middle; or the report or document that it is."""
        if wish.media_types[0] not in _PICTURES:
            return await _text(item, wish.media_types[0])
        source = await self._source(item)
        number = wish.frame if wish.frame is not None else (source.layout.frames + 1) // 2
        media = Media(wish.media_types[0])
        try:
            body = await pictures.picture(self._pool, source, number, _picture_wish(wish, media))
        except InvalidRequest as error:
            raise NotAcceptable(str(error)) from error
        return Rendered(media.value, body)

    async def unpacked(self, item: Item, number: int) -> bytes:
        """One frame, from 1, as native pixels in little endian."""
        source = await self._source(item)
        [frame] = await source.frames((number,))
        head: Head = {
            "task": "decode",
            "transfer_syntax": source.transfer_syntax,
            "head_bytes": len(source.head),
            "target": EXPLICIT_VR_LITTLE_ENDIAN,
        }
        if max(source.layout.frame_bytes, frame.data_bytes) > self._pool.limits.frame_bytes_max:
            raise NotAcceptable("a frame of the instance is larger than is decoded")
        try:
            return (await self._pool.run(head, (source.head, *await source.frame_bytes(frame)))).body
        except InvalidRequest as error:
            raise NotAcceptable(str(error)) from error

    async def _source(self, item: Item) -> PixelSource:
        try:
            return await pixel_source(item.transfer_syntax, item.data_bytes, reader_of(item))
        except (NotFound, InvalidRequest) as error:
            raise NotAcceptable("no picture can be made of this instance") from error

    async def _made(self, item: Item, target: str) -> _Made:
        makes = self._makes(item, target)
        held, size = bytearray(), 0
        async for piece in makes():
            size += len(piece)
            if size <= HELD_BYTES_MAX:
                held += piece
            else:
                held.clear()
        return _Made(item, target, size, makes, bytes(held) if size <= HELD_BYTES_MAX else None)

    def _makes(self, item: Item, target: str) -> Makes:
        """What makes it, as often as it is called. Raises `NotAcceptable`, then or at its first piece."""
        if item.transfer_syntax in NATIVE and target in explicit.TARGETS:
            return lambda: _rewritten(item, target)
        return lambda: self._recompressed(item, target)

    async def _recompressed(self, item: Item, target: str) -> AsyncIterator[bytes]:
        source = await pixel_source(item.transfer_syntax, item.data_bytes, reader_of(item))
        async for piece in transcoding.transcoded(self._pool, source, target):
            yield piece


async def _rewritten(item: Item, target: str) -> AsyncIterator[bytes]:
    rewriting = Rewriting(item.transfer_syntax, target)
    async with item.open() as pieces:
        async for piece in pieces:
            yield rewriting.add(piece)
    yield rewriting.finish()


async def _text(item: Item, media_type: str) -> Rendered:
    """A report in words, or the document that is wrapped; raises `NotAcceptable` where it cannot be read."""
    try:
        if media_type not in _REPORT_FORMS:
            return Rendered(media_type, await _document(item))
        report = documents.read_report(orjson.loads(await item.metadata()))
    except (NotFound, InvalidRequest) as error:
        raise NotAcceptable("the instance cannot be read as a document") from error
    words = report.html() if media_type == "text/html" else report.text()
    return Rendered(f"{media_type}; charset=utf-8", words.encode("utf-8"))


async def _document(item: Item) -> bytes:
    read, wanted = reader_of(item), _FIRST_BYTES
    while True:
        head = await read(0, wanted)
        found = documents.wrapped_document(head, item.transfer_syntax, is_whole=len(head) == item.data_bytes)
        if found is not None:
            break
        wanted *= 4
    if found.data_bytes > HELD_BYTES_MAX:
        raise NotAcceptable("the document is larger than is rendered")
    return await read(found.first, found.data_bytes)


def _picture_wish(wish: RenderWish, media: Media) -> PictureWish:
    window = None
    if wish.window is not None:
        window = Window(wish.window.centre, wish.window.width, WindowFunction[wish.window.function.name])
    viewport = wish.viewport
    return PictureWish(
        media,
        viewport.columns if viewport is not None else 0,
        viewport.rows if viewport is not None else 0,
        wish.quality if wish.quality is not None else QUALITY,
        window,
    )
