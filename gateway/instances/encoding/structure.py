"""The structure of an encoded data set (PS3.5 7 and Annex A): tags, value representations, lengths, items.

Knows nothing of what values mean. Every length must add up, inside items too; nesting and the number of elements are
bounded; a deflated data set is bounded before it is inflated. Raises `DatasetError` and nothing else, with words that
never repeat a value.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gateway.model.attributes import KIND_OF_VR, VRS_OF_TAG

_LITTLE = (struct.Struct("<HH"), struct.Struct("<H"), struct.Struct("<I"))
_BIG = (struct.Struct(">HH"), struct.Struct(">H"), struct.Struct(">I"))

UNDEFINED_LENGTH = 0xFFFFFFFF
NESTING_MAX = 64
"""Sequences inside sequences; no attribute of a search goes deeper than a few."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""VRs whose length has four bytes, behind two that are reserved (PS3.5 7.1.2)."""
SHORT_VRS = MappingProxyType({vr.encode(): vr for vr in KIND_OF_VR if vr.encode() not in _LONG_VRS})
"""VRs whose length has two bytes."""
_VR_OF_TAG = MappingProxyType({int(tag, 16): vrs[0] for tag, vrs in VRS_OF_TAG.items()})


class DatasetError(ValueError):
    """Why bytes are no data set that can be believed, in words that repeat nothing of them."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a transfer syntax writes data elements."""

    is_explicit: bool
    is_little: bool = True
    is_deflated: bool = False

    @property
    def order(self) -> str:
        """The byte order as `struct` writes it."""
        return "<" if self.is_little else ">"


_SYNTAXES = MappingProxyType(
    {
        IMPLICIT_VR_LITTLE_ENDIAN: Syntax(is_explicit=False),
        EXPLICIT_VR_LITTLE_ENDIAN: Syntax(is_explicit=True),
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Syntax(is_explicit=True, is_deflated=True),
        EXPLICIT_VR_BIG_ENDIAN: Syntax(is_explicit=True, is_little=False),
    }
)


@dataclass(frozen=True, slots=True)
class Raw:
    """One data element as encoded: its tag as a number, its VR, and its value or the items of its sequence."""

    tag: int
    vr: str
    value: bytes
    items: tuple[tuple[Raw, ...], ...] | None = None

    @property
    def name(self) -> str:
        """The tag as eight digits."""
        return f"{self.tag:08X}"


def syntax_of(transfer_syntax: str) -> Syntax:
    """How data sets are written in this transfer syntax; raises `DatasetError` for one that has pixels to compress."""
    try:
        return _SYNTAXES[transfer_syntax]
    except KeyError:
        refuse("the transfer syntax is none of those for data sets without pixels")


def refuse(reason: str) -> NoReturn:
    """Raise `DatasetError`."""
    raise DatasetError(reason)


def inflated(body: bytes, bytes_max: int) -> bytes:
    """A deflated data set as it was (PS3.5 A.5), never more than `bytes_max` of it."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = stream.decompress(body, bytes_max + 1)
    except zlib.error:
        refuse("the deflated data set is damaged")
    if len(found) > bytes_max:
        refuse(f"the deflated data set is longer than {bytes_max} bytes")
    # One byte may pad the stream to an even length.
    if not stream.eof or len(stream.unused_data) > 1:
        refuse("the deflated data set does not end where its bytes do")
    return found


def deflated(body: bytes) -> bytes:
    """A data set as the deflated transfer syntax sends it, of even length."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    found = stream.compress(body) + stream.flush()
    return found + b"\0" * (len(found) % 2)


class Walk:
    """Steps through one encoded data set."""

    def __init__(self, syntax: Syntax, body: bytes, *, elements_max: int) -> None:
        self._body = body
        self._elements_max = elements_max
        self._is_explicit = syntax.is_explicit
        self._structs = {True: _LITTLE if syntax.is_little else _BIG, False: _LITTLE}
        self.counted = 0
        """Elements and items inside sequences so far, and those that `elements` gave."""

    def elements(self) -> Iterator[Raw]:
        """Every element of the data set, in the order of its bytes."""
        offset = 0
        while offset < len(self._body):
            self._count()
            raw, offset = self.element(offset)
            yield raw

    def element(self, offset: int) -> tuple[Raw, int]:
        """The element at `offset`, and where the next one stands. Counts only what is inside it."""
        return self._element(offset, len(self._body), is_explicit=self._is_explicit, depth=0)

    def _element(self, offset: int, end: int, *, is_explicit: bool, depth: int) -> tuple[Raw, int]:
        tag, vr, start, length = self._header(offset, end, is_explicit=is_explicit)
        if tag >> 16 == 0xFFFE:
            refuse("an item stands outside a sequence")
        if vr == "SQ" or (vr == "UN" and length == UNDEFINED_LENGTH):
            # A sequence whose VR somebody did not know is written implicitly, whatever is around it (PS3.5 6.2.2).
            inner = is_explicit and vr == "SQ"
            stop = None if length == UNDEFINED_LENGTH else _within(start + length, end)
            items, stop = self._items(start, end if stop is None else stop, stop is None, inner, depth + 1)
            return Raw(tag, vr, b"", items), stop
        if length == UNDEFINED_LENGTH:
            refuse("an element that is no sequence has no length")
        stop = _within(start + length, end)
        return Raw(tag, vr, self._body[start:stop]), stop

    def _header(self, offset: int, end: int, *, is_explicit: bool) -> tuple[int, str, int, int]:
        """Tag, VR, where the value starts, and its length."""
        pair, short, long = self._structs[is_explicit]
        if offset + 8 > end:
            refuse("the data set ends inside an element")
        group, number = pair.unpack_from(self._body, offset)
        tag = group << 16 | number
        if not is_explicit or group == 0xFFFE:
            return tag, implicit_vr(tag), offset + 8, long.unpack_from(self._body, offset + 4)[0]
        code = self._body[offset + 4 : offset + 6]
        vr = SHORT_VRS.get(code)
        if vr is not None:
            return tag, vr, offset + 8, short.unpack_from(self._body, offset + 6)[0]
        if code not in _LONG_VRS:
            refuse("an element has no known value representation")
        if offset + 12 > end:
            refuse("the data set ends inside an element")
        return tag, code.decode(), offset + 12, long.unpack_from(self._body, offset + 8)[0]

    def _items(
        self, offset: int, end: int, is_open: bool, is_explicit: bool, depth: int
    ) -> tuple[tuple[tuple[Raw, ...], ...], int]:
        """The items of a sequence and where it ends: at `end`, or where it says so itself if it `is_open`."""
        if depth > NESTING_MAX:
            refuse(f"sequences are nested deeper than {NESTING_MAX}")
        items: list[tuple[Raw, ...]] = []
        while offset < end:
            self._count()
            tag, _, start, length = self._header(offset, end, is_explicit=is_explicit)
            if tag == _SEQUENCE_END and is_open and length == 0:
                return tuple(items), start
            if tag != _ITEM:
                refuse("a sequence holds something that is no item")
            if length == UNDEFINED_LENGTH:
                item, offset = self._open_item(start, end, is_explicit, depth)
            else:
                item, offset = self._closed_item(start, _within(start + length, end), is_explicit, depth)
            items.append(item)
        if is_open:
            refuse("a sequence does not end")
        return tuple(items), end

    def _closed_item(self, offset: int, end: int, is_explicit: bool, depth: int) -> tuple[tuple[Raw, ...], int]:
        found: list[Raw] = []
        while offset < end:
            self._count()
            raw, offset = self._element(offset, end, is_explicit=is_explicit, depth=depth)
            found.append(raw)
        return tuple(found), end

    def _open_item(self, offset: int, end: int, is_explicit: bool, depth: int) -> tuple[tuple[Raw, ...], int]:
        found: list[Raw] = []
        while True:
            tag, _, start, length = self._header(offset, end, is_explicit=is_explicit)
            if tag == _ITEM_END and length == 0:
                return tuple(found), start
            self._count()
            raw, offset = self._element(offset, end, is_explicit=is_explicit, depth=depth)
            found.append(raw)

    def _count(self) -> None:
        self.counted += 1
        if self.counted > self._elements_max:
            refuse("the data set has too many elements")


def implicit_vr(tag: int) -> str:
    """The VR of a tag that comes without one: the dictionary's, or by the rules for private and length elements."""
    vr = _VR_OF_TAG.get(tag)
    if vr is not None:
        return vr
    if tag & 0xFFFF == 0:
        return "UL"
    # PS3.5 7.8.1: what reserves a private block is a name.
    return "LO" if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else "UN"


def _within(stop: int, end: int) -> int:
    if stop > end:
        refuse("an element is longer than what holds it")
    return stop
