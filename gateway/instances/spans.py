"""Where the elements of an encoded data set stand, in a beginning of it that need not reach to its end (PS3.5 7).

Steps from element to element by their lengths, and through what has none to where that says it ends. Values are not
looked at and nothing is copied. Bounded in nesting and in elements, whatever the bytes are. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from gateway.instances.encoding.structure import Syntax
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest

UNDEFINED_LENGTH = 0xFFFFFFFF
NESTING_MAX = 64
ELEMENTS_MAX = 100_000

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
_BEHIND_ALL_TAGS = 1 << 32

LONG_VRS = frozenset(vr.encode() for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs whose length has four bytes, behind two that are reserved (PS3.5 7.1.2)."""
SHORT_VRS = frozenset(vr.encode() for vr in "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs whose length has two bytes."""

_LITTLE, _BIG = (
    (struct.Struct(f"{order}HH"), struct.Struct(f"{order}H"), struct.Struct(f"{order}I")) for order in "<>"
)

Bytes = bytes | bytearray | memoryview


class MoreNeeded(Exception):
    """The bytes that are there end inside an element."""


class Span(NamedTuple):
    """One element in the bytes: from `start` to `end`, its value from `value` on."""

    tag: int
    vr: bytes
    """As written; empty where it is not."""
    start: int
    value: int
    end: int
    """Behind the value, and behind the delimiter of what has no length."""
    has_length: bool


class Spans:
    """Finds elements in the beginning of one data set. Raises `InvalidRequest` for what cannot be a data set."""

    def __init__(self, head: Bytes, transfer_syntax: str, *, elements_max: int = ELEMENTS_MAX) -> None:
        self.head = head
        self._elements_max = elements_max
        is_big = transfer_syntax == EXPLICIT_VR_BIG_ENDIAN
        self._pair, self._short, self._long = _BIG if is_big else _LITTLE
        is_explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
        if is_explicit and len(head) >= 6:
            # Some write implicitly whatever they have announced: read as every toolkit reads them.
            vr = bytes(head[4:6])
            is_explicit = vr in SHORT_VRS or vr in LONG_VRS
        self.syntax = Syntax(is_explicit=is_explicit, is_little=not is_big)
        """How the elements are written in fact."""
        self._counted = 0

    def top(self) -> Iterator[Span]:
        """The elements outside sequences, in the order of their bytes. `MoreNeeded` for one that is not all there."""
        return self.top_until(_BEHIND_ALL_TAGS)

    def top_until(self, last: int) -> Iterator[Span]:
        """The same as far as the first element of tag `last` or greater, which itself need not be all there."""
        at, end = 0, len(self.head)
        while at < end:
            tag, vr, value, length = self.element_head(at, is_explicit=self.syntax.is_explicit)
            if tag >= last and tag >> 16 != 0xFFFE:
                has_length = length != UNDEFINED_LENGTH
                yield Span(tag, vr, at, value, value + length if has_length else value, has_length)
                return
            span = self.element(at, is_explicit=self.syntax.is_explicit)
            yield span
            at = span.end
            if at > end:
                raise MoreNeeded

    def element(self, at: int, *, is_explicit: bool) -> Span:
        """The element at `at`; it may end behind what is there if it says how long it is."""
        tag, vr, value, length = self.element_head(at, is_explicit=is_explicit)
        if tag >> 16 == 0xFFFE:
            _refuse("an item of the instance stands outside a sequence")
        if length != UNDEFINED_LENGTH:
            return Span(tag, vr, at, value, value + length, True)
        end = self.behind_open(value, is_explicit=is_explicit and vr not in (b"UN", b""))
        return Span(tag, vr, at, value, end, False)

    def element_head(self, at: int, *, is_explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty: not written), where the value starts, and its length."""
        self._counted += 1
        if self._counted > self._elements_max:
            _refuse("the instance's header has too many elements")
        head = self.head
        if at + 8 > len(head):
            raise MoreNeeded
        group, number = self._pair.unpack_from(head, at)
        tag = group << 16 | number
        if group == 0xFFFE or not is_explicit:
            return tag, b"", at + 8, self._long.unpack_from(head, at + 4)[0]
        vr = bytes(head[at + 4 : at + 6])
        if vr in SHORT_VRS:
            return tag, vr, at + 8, self._short.unpack_from(head, at + 6)[0]
        # PS3.5 6.2: VRs that are yet to be defined have long lengths.
        if not (vr.isalpha() and vr.isupper()):
            _refuse("an element of the instance has no known value representation")
        if at + 12 > len(head):
            raise MoreNeeded
        return tag, vr, at + 12, self._long.unpack_from(head, at + 8)[0]

    def behind_open(self, at: int, *, is_explicit: bool) -> int:
        """Where the bytes go on behind a sequence, or behind fragments, whose first item is at `at`.

        Whatever says how long it is is stepped over in one go, so that the stack holds only what does not.
        """
        inside = [(True, is_explicit)]
        while inside:
            is_sequence, is_explicit = inside[-1]
            tag, vr, value, length = self.element_head(at, is_explicit=is_explicit)
            at = value
            if tag == (SEQUENCE_END if is_sequence else ITEM_END):
                inside.pop()
            elif is_sequence and tag != ITEM:
                _refuse("a sequence of the instance holds something that is no item")
            elif not is_sequence and tag >> 16 == 0xFFFE:
                _refuse("an item of the instance stands outside a sequence")
            elif length != UNDEFINED_LENGTH:
                at += length
            elif len(inside) >= 2 * NESTING_MAX:
                _refuse(f"sequences of the instance are nested deeper than {NESTING_MAX}")
            else:
                # Inside a sequence of unknown VR everything is written implicitly (PS3.5 6.2.2).
                inside.append((not is_sequence, is_explicit if is_sequence else is_explicit and vr not in (b"UN", b"")))
        return at


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequest(reason)
