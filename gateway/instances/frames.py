"""Where the frames of an instance's pixels stand, native or in fragments (PS3.5 8 and A.4, PS3.3 C.7.6.3).

From the header comes what one frame is; where fragments lie is read from the offset tables, or else by stepping from
item to item, so that only heads of items are read and never pixels. Which fragments belong to one frame is believed
only where a table, a count or the codec's own start marker says so. Numbers of frames and fragments are bounded before
anything is kept. Reads through a function that it is given; knows no file and no cache.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from struct import unpack, unpack_from

from gateway.instances.deflation import inflated_head
from gateway.instances.spans import (
    ITEM,
    PIXEL_DATA,
    SEQUENCE_END,
    Bytes,
    MoreNeeded,
    Span,
    Spans,
)
from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    RLE,
    VIDEO,
    is_encapsulated,
)
from gateway.model.errors import InvalidRequest, NotFound

HEADER_BYTES_MAX = 16 * 1024 * 1024
FRAMES_MAX = 100_000
FRAGMENTS_MAX = 400_000
SAMPLES_MAX = 4
_WINDOW_BYTES = 16 * 1024

Read = Callable[[int, int], Awaitable[bytes]]
"""Gives so many bytes from a place in the data set on (the inflated one, where it is deflated), fewer at its end."""

_FLOAT_PIXELS, _DOUBLE_PIXELS = 0x7FE00008, 0x7FE00009
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED = 0x00280010, 0x00280011, 0x00280100, 0x00280101
_HIGH_BIT, _PIXEL_REPRESENTATION = 0x00280102, 0x00280103
_NUMBERS = frozenset(
    {_SAMPLES, _PLANAR, _ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _PIXEL_REPRESENTATION}
)
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""How a JPEG or JPEG-LS image and a JPEG 2000 code stream begin."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """What an instance's header says of its pixels, within limits, and where they begin."""

    transfer_syntax: str
    photometric_interpretation: str
    rows: int
    columns: int
    samples: int
    planar_configuration: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    is_floating: bool
    frames: int
    starts: int
    """Where the element of the pixel data begins."""
    first: int
    """Where its value begins."""
    data_bytes: int | None
    """How long it is; None: in fragments."""
    extended_offsets: bytes = b""
    extended_lengths: bytes = b""

    @property
    def frame_bits(self) -> int:
        """How many bits one native frame has."""
        if self.photometric_interpretation == "YBR_FULL_422" and self.data_bytes is not None:
            # Two pixels share their colours (PS3.3 C.7.6.3.1.2).
            return self.rows * self.columns * 2 * self.bits_allocated
        return self.rows * self.columns * self.samples * self.bits_allocated

    @property
    def frame_bytes(self) -> int:
        """How many bytes one native frame takes, its last bits filled up."""
        return (self.frame_bits + 7) // 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes in the data set."""

    first: int
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where its bytes are, in order."""

    number: int
    """From 1 on."""
    pieces: tuple[Piece, ...]

    @property
    def data_bytes(self) -> int:
        """How long it is."""
        return sum(piece.data_bytes for piece in self.pieces)


def pixel_layout(head: Bytes, transfer_syntax: str, *, is_whole: bool = False) -> PixelLayout | None:
    """The layout of the instance that begins with `head`; None: more of its beginning is needed.

    Raises `NotFound` for an instance without pixels, `InvalidRequest` for one whose header cannot be true.
    """
    written = transfer_syntax
    if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        head, written = inflated_head(head, HEADER_BYTES_MAX), EXPLICIT_VR_LITTLE_ENDIAN
    spans = Spans(head, written)
    facts: dict[int, bytes] = {}
    try:
        for span in spans.top_until(PIXEL_DATA):
            if span.tag in (PIXEL_DATA, _FLOAT_PIXELS, _DOUBLE_PIXELS):
                return _layout(facts, span, transfer_syntax, is_little=spans.syntax.is_little)
            if span.tag in _NUMBERS or span.tag in (_PHOTOMETRIC, _FRAMES, _EXTENDED_OFFSETS, _EXTENDED_LENGTHS):
                if span.end > len(head):
                    raise MoreNeeded
                facts[span.tag] = bytes(head[span.value : span.end])
    except MoreNeeded:
        if is_whole:
            raise InvalidRequest("the instance ends inside an element") from None
    if is_whole:
        raise NotFound("the instance has no pixels")
    if len(head) >= HEADER_BYTES_MAX:
        raise InvalidRequest("the instance's header is longer than what is read")
    return None


async def frames(layout: PixelLayout, read: Read, numbers: Collection[int] = ()) -> Sequence[Frame]:
    """Where these frames are, in the order that was asked for; all of them, where none is named.

    Raises `NotFound` for a number that the instance does not have, `InvalidRequest` where the fragments do not add up.
    """
    wanted = numbers or range(1, layout.frames + 1)
    if any(not 1 <= number <= layout.frames for number in wanted):
        raise NotFound("the instance has no such frame")
    if layout.data_bytes is not None:
        return [_native(layout, layout.data_bytes, number) for number in wanted]
    if layout.transfer_syntax in VIDEO:
        raise InvalidRequest("frames of a video stream cannot be taken apart")
    if layout.extended_offsets:
        found = await _by_extended_table(layout, read, wanted)
        if found is not None:
            return found
    return await _Fragments(layout, read).frames(wanted)


def _layout(facts: dict[int, bytes], span: Span, transfer_syntax: str, *, is_little: bool) -> PixelLayout:
    def number(tag: int, default: int) -> int:
        value = facts.get(tag, b"")
        return int.from_bytes(value, "little" if is_little else "big") if len(value) == 2 else default

    is_floating = span.tag != PIXEL_DATA
    text = facts.get(_FRAMES, b"").strip(b" \0")
    frames = int(text) if text.isdigit() and len(text) < 9 else 1
    bits = number(_BITS_ALLOCATED, 64 if span.tag == _DOUBLE_PIXELS else 32 if is_floating else 0)
    found = PixelLayout(
        transfer_syntax=transfer_syntax,
        photometric_interpretation=facts.get(_PHOTOMETRIC, b"").decode("latin_1").strip(" \0"),
        rows=number(_ROWS, 0),
        columns=number(_COLUMNS, 0),
        samples=number(_SAMPLES, 1),
        planar_configuration=number(_PLANAR, 0),
        bits_allocated=bits,
        bits_stored=number(_BITS_STORED, bits),
        is_signed=number(_PIXEL_REPRESENTATION, 0) == 1,
        is_floating=is_floating,
        frames=max(1, frames),
        starts=span.start,
        first=span.value,
        data_bytes=span.end - span.value if span.has_length else None,
        extended_offsets=facts.get(_EXTENDED_OFFSETS, b""),
        extended_lengths=facts.get(_EXTENDED_LENGTHS, b""),
    )
    if not (found.rows and found.columns and 1 <= found.samples <= SAMPLES_MAX and bits in (1, 8, 16, 32, 64)):
        raise InvalidRequest("the instance's header does not say what its pixels are")
    if not 1 <= found.bits_stored <= bits:
        raise InvalidRequest("the instance's pixels have more bits stored than allocated")
    if found.frames > FRAMES_MAX:
        raise InvalidRequest(f"the instance has more than {FRAMES_MAX} frames")
    if is_encapsulated(transfer_syntax) == span.has_length:
        raise InvalidRequest("the instance's pixels are not as its transfer syntax says")
    return found


def _native(layout: PixelLayout, data_bytes: int, number: int) -> Frame:
    if layout.frame_bits % 8 and layout.frames > 1:
        raise InvalidRequest("frames that end inside a byte cannot be taken apart")
    size = layout.frame_bytes
    if number * size > data_bytes:
        raise InvalidRequest("the instance has fewer pixels than its header says")
    return Frame(number, (Piece(layout.first + (number - 1) * size, size),))


async def _by_extended_table(layout: PixelLayout, read: Read, wanted: Collection[int]) -> Sequence[Frame] | None:
    """By the extended offset table (PS3.3 C.7.6.3.1.8): one fragment a frame. None where it has another length."""
    if len(layout.extended_offsets) != 8 * layout.frames or len(layout.extended_lengths) != 8 * layout.frames:
        return None
    mark, length = _item(await read(layout.first, 8))
    if mark != ITEM:
        raise InvalidRequest("the fragments of the instance's pixels are not in items")
    start = layout.first + 8 + length
    found = []
    for number in wanted:
        (offset,) = unpack_from("<Q", layout.extended_offsets, 8 * (number - 1))
        (size,) = unpack_from("<Q", layout.extended_lengths, 8 * (number - 1))
        mark, length = _item(await read(start + offset, 8))
        if mark != ITEM or not size <= length <= size + 1:
            raise InvalidRequest("the instance's offset table does not lead to its fragments")
        found.append(Frame(number, (Piece(start + offset + 8, size),)))
    return found


class _Fragments:
    """Steps through the fragments of one instance."""

    def __init__(self, layout: PixelLayout, read: Read) -> None:
        self._layout = layout
        self._read = read
        self._window = b""
        self._window_first = 0

    async def frames(self, wanted: Collection[int]) -> Sequence[Frame]:
        """Where these frames are."""
        layout = self._layout
        mark, length = await self._head(layout.first)
        if mark != ITEM or length % 4 or length > 4 * FRAMES_MAX:
            raise InvalidRequest("the instance's pixels do not begin with an offset table")
        start = layout.first + 8 + length
        if length == 4 * layout.frames and layout.frames > 1:
            table = await self._read(layout.first + 8, length)
            if len(table) == length and (offsets := unpack(f"<{layout.frames}I", table))[0] == 0:
                return [await self._by_table(start, offsets, number) for number in wanted]
        groups = await self._grouped(await self._from(start, None))
        return [Frame(number, tuple(groups[number - 1])) for number in wanted]

    async def _by_table(self, start: int, offsets: Sequence[int], number: int) -> Frame:
        first = start + offsets[number - 1]
        behind = start + offsets[number] if number < len(offsets) else None
        if behind is not None and behind <= first:
            raise InvalidRequest("the instance's offset table does not lead to its fragments")
        return Frame(number, tuple(await self._from(first, behind)))

    async def _from(self, at: int, behind: int | None) -> list[Piece]:
        """Every fragment from the one at `at` on, as far as `behind`, or as far as there are any."""
        found: list[Piece] = []
        while behind is None or at < behind:
            mark, length = await self._head(at)
            if mark == SEQUENCE_END and behind is None:
                break
            if mark != ITEM or len(found) == FRAGMENTS_MAX:
                raise InvalidRequest("the fragments of the instance's pixels do not add up")
            found.append(Piece(at + 8, length))
            at += 8 + length
        if behind is not None and at != behind:
            raise InvalidRequest("the instance's offset table does not lead to its fragments")
        return found

    async def _grouped(self, fragments: list[Piece]) -> list[list[Piece]]:
        """Which fragments make each frame, where no table says so."""
        count = self._layout.frames
        if len(fragments) == count:
            return [[fragment] for fragment in fragments]
        if count == 1 and fragments and self._layout.transfer_syntax != RLE:
            return [fragments]
        if len(fragments) < count or self._layout.transfer_syntax == RLE:
            raise InvalidRequest("the instance has another number of frames than its header says")
        groups: list[list[Piece]] = []
        for fragment in fragments:
            if (await self._bytes(fragment.first, 4)).startswith(_STARTS):
                groups.append([])
            if not groups:
                break
            groups[-1].append(fragment)
        if len(groups) != count:
            raise InvalidRequest("the fragments of the instance's frames cannot be told apart")
        return groups

    async def _head(self, at: int) -> tuple[int, int]:
        return _item(await self._bytes(at, 8))

    async def _bytes(self, at: int, size: int) -> bytes:
        """A few bytes, mostly out of those that were read before."""
        begins = at - self._window_first
        if begins < 0 or begins + size > len(self._window):
            self._window, self._window_first, begins = await self._read(at, _WINDOW_BYTES), at, 0
        return self._window[begins : begins + size]


def _item(head: bytes) -> tuple[int, int]:
    """The tag and the length of an item; fragments are in little endian always."""
    if len(head) < 8:
        raise InvalidRequest("the instance ends inside its pixels")
    group, number, length = unpack("<HHI", head)
    if length == 0xFFFFFFFF:
        raise InvalidRequest("a fragment of the instance's pixels has no length")
    return group << 16 | number, length
