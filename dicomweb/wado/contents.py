"""Where things stand in an instance that is handed out: its frames, and its bulk values by their addresses.

Reads its beginning by ranges, and no more of it than it takes; what is found there is for `gateway.instances` to say.
"""

from __future__ import annotations

from collections import OrderedDict

from dicomweb.conditional import Span
from dicomweb.wado.single import Stretch
from gateway.instances import description, frames
from gateway.instances.description import BulkValue, Description
from gateway.instances.frames import PixelLayout, Read
from gateway.instances.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN
from gateway.model.errors import InvalidRequest, NotAcceptable, NotFound
from gateway.model.work.retrievals import Item

FIRST_BYTES = 64 * 1024
"""Enough of most images to know where everything stands."""
LAYOUTS_MAX, OFFSETS_BYTES_MAX = 4_096, 4_096
"""Layouts remembered, and how long a table of offsets may be in one."""


class Layouts:
    """Where the pixels of the instances stand whose frames were asked for of late: viewers ask for the next one soon.

    Bound to an instance's bytes by its tag. Says nothing of a patient.
    """

    def __init__(self, count_max: int = LAYOUTS_MAX) -> None:
        self._count_max = count_max
        self._by_etag: OrderedDict[str, PixelLayout] = OrderedDict()

    async def of(self, item: Item) -> PixelLayout:
        """As `layout_of` finds it."""
        layout = self._by_etag.pop(item.etag, None) or await layout_of(item)
        if len(layout.extended_offsets) <= OFFSETS_BYTES_MAX:
            self._by_etag[item.etag] = layout
            if len(self._by_etag) > self._count_max:
                self._by_etag.popitem(last=False)
        return layout


async def layout_of(item: Item) -> PixelLayout:
    """What the instance says of its pixels. Raises `NotFound` where it has none, `NotAcceptable` where it cannot be."""
    wanted = FIRST_BYTES
    while True:
        head = await _read(item, 0, wanted)
        try:
            layout = frames.pixel_layout(head, item.transfer_syntax, is_whole=len(head) == item.data_bytes)
        except InvalidRequest as error:
            raise _unreadable(error) from error
        if layout is not None:
            return layout
        wanted = min(4 * wanted, frames.HEADER_BYTES_MAX)


async def frames_of(item: Item, layouts: Layouts, numbers: tuple[int, ...] = ()) -> list[Stretch]:
    """The bytes of these frames as they are kept, in the order asked; of all of them, where none is named.

    Raises `NotFound` for a number that it does not have, `NotAcceptable` where they cannot be told apart.
    """
    layout = await layouts.of(item)
    try:
        found = await frames.frames(layout, reader_of(item), numbers)
    except InvalidRequest as error:
        raise _unreadable(error) from error
    if any(piece.first + piece.data_bytes > item.data_bytes for frame in found for piece in frame.pieces):
        raise _unreadable("the instance has fewer pixels than its header says")
    return [
        Stretch(item, tuple(Span(piece.first, piece.first + piece.data_bytes - 1) for piece in frame.pieces))
        for frame in found
    ]


async def bulk_value_of(item: Item, path: str) -> BulkValue:
    """Where the value of this address stands. Raises `NotFound` for an address that is none."""
    if item.transfer_syntax in (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN):
        raise NotAcceptable("bulk values are given of instances in little endian that are not deflated")
    value = (await _described(item)).bulk.get(path)
    if value is None:
        raise NotFound("the instance has no bulk value at this address")
    if value.first + (value.data_bytes or 0) > item.data_bytes:
        raise _unreadable("the instance ends inside the value")
    return value


def reader_of(item: Item) -> Read:
    """Reads an instance's bytes from a place on."""

    async def read(first: int, size: int) -> bytes:
        return await _read(item, first, size)

    return read


def _unreadable(why: object) -> NotAcceptable:
    # What an archive wrote is no mistake of the request's, and no damage of ours: as it is kept it can be had.
    return NotAcceptable(f"{why}: it can only be had whole")


async def _described(item: Item) -> Description:
    wanted = FIRST_BYTES
    while True:
        head = await _read(item, 0, wanted)
        try:
            found = description.describe(head, item.transfer_syntax, is_whole=len(head) == item.data_bytes)
        except InvalidRequest as error:
            raise _unreadable(error) from error
        if found is not None:
            return found
        wanted = min(4 * wanted, description.HEADER_BYTES_MAX)


async def _read(item: Item, first: int, size: int) -> bytes:
    last = min(first + size, item.data_bytes) - 1
    if last < first:
        return b""
    async with item.open(first, last) as pieces:
        return b"".join([piece async for piece in pieces])
