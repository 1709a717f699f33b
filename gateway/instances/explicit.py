"""An uncompressed instance in the other uncompressed transfer syntaxes, while it passes (PS3.5 A.1, A.2, A.3, A.5).

Explicit little endian is what nearly everybody takes, implicit little endian what everybody must. Only heads of
elements are written anew, and words turned round that came in big endian; sequences then say where they end, since
their lengths are not known before they are over. What counts bytes of the encoding is left out. No value is lost, and
of private elements whose VR was never written it stays unknown. Pure.
"""

from __future__ import annotations

from struct import pack
from types import MappingProxyType

from gateway.instances.encoding.dictionary import PIXEL_REPRESENTATION, implicit_vr
from gateway.instances.encoding.json_values import swapped
from gateway.instances.encoding.stream import ElementStream
from gateway.instances.spans import ITEM, PIXEL_DATA, SHORT_VRS, UNDEFINED_LENGTH, Bytes
from gateway.instances.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    NATIVE,
)
from gateway.model.errors import NotAcceptable

TARGETS = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""The transfer syntaxes that are written, better first."""

_SHORT_BYTES_MAX = 0xFFFE
_WORD_BYTES_MAX = 8
_LENGTH_TO_END, _BITS_ALLOCATED = 0x00080001, 0x00280100
_VR_OF_LONG_PIXELS = MappingProxyType({b"\0\x20": "OL", b"\0\x40": "OV"})
"""How pixels are turned round, by their number of bits in big endian."""
_ITEM = pack("<HHI", 0xFFFE, 0xE000, UNDEFINED_LENGTH)
_ITEM_END = pack("<HHI", 0xFFFE, 0xE00D, 0)
_SEQUENCE_END = pack("<HHI", 0xFFFE, 0xE0DD, 0)


class Rewriting:
    """Rewrites one instance. What `add` and `finish` give, in order, is the data set in the target's encoding.

    Raises `NotAcceptable` where one of the two is compressed, `InvalidRequest` for bytes that are no data set.
    """

    def __init__(self, transfer_syntax: str, target: str) -> None:
        if transfer_syntax not in NATIVE or target not in TARGETS:
            raise NotAcceptable("compressed pixels are not written anew in this way")
        self._writing = _Writing(
            to_explicit=target == EXPLICIT_VR_LITTLE_ENDIAN, from_big=transfer_syntax == EXPLICIT_VR_BIG_ENDIAN
        )
        self._stream = ElementStream(transfer_syntax, self._writing)

    def add(self, piece: Bytes) -> bytes:
        """Take the next bytes; give what can be written by now."""
        self._stream.feed(piece)
        return self._writing.taken()

    def finish(self) -> bytes:
        """No more bytes come; give what is left."""
        self._stream.finish()
        return self._writing.taken()


class _Writing:
    """The sink that writes."""

    def __init__(self, *, to_explicit: bool, from_big: bool) -> None:
        self._to_explicit = to_explicit
        self._from_big = from_big
        self._written = bytearray()
        self._is_signed = [False]
        """Of the pixels around, for the data set and each item inside it."""
        self._tag = 0
        self._vr = ""
        self._is_dropped = False
        self._word = b""
        """Bytes of a word that has come in part."""
        self._bits_allocated = bytearray()

    def taken(self) -> bytes:
        """What was written since this was asked last."""
        found = bytes(self._written)
        self._written.clear()
        return found

    def begin(self, tag: int, vr: bytes, length: int) -> None:
        """Write the head of an element."""
        self._tag = tag
        self._is_dropped = tag != ITEM and (tag & 0xFFFF == 0 or tag == _LENGTH_TO_END)
        if self._is_dropped:
            return
        if tag == PIXEL_REPRESENTATION:
            self._is_signed[-1] = False
        if tag == ITEM:
            self._vr = "OB"
            self._written += pack("<HHI", 0xFFFE, 0xE000, length)
            return
        self._vr = vr.decode("ascii") if vr else implicit_vr(tag, is_signed=self._is_signed[-1])
        self._written += self._head(tag, self._vr, length)
        if tag == PIXEL_DATA and self._vr == "OW":
            # In big endian long pixels are one word each, as pydicom and those who write them have it.
            self._vr = _VR_OF_LONG_PIXELS.get(bytes(self._bits_allocated), "OW")
        elif tag == _BITS_ALLOCATED:
            self._bits_allocated.clear()

    def part(self, piece: memoryview) -> None:
        """Write bytes of a value."""
        if self._tag == PIXEL_REPRESENTATION:
            self._is_signed[-1] = self._is_signed[-1] or any(piece)
        if self._tag == _BITS_ALLOCATED:
            self._bits_allocated += piece
        if self._is_dropped:
            return
        if not self._from_big:
            self._written += piece
            return
        words = self._word + bytes(piece)
        whole = len(words) - len(words) % _WORD_BYTES_MAX
        self._written += swapped(self._vr, words[:whole])
        self._word = words[whole:]

    def end(self) -> None:
        """Write what is left of a value."""
        if self._word:
            self._written += swapped(self._vr, self._word)
            self._word = b""

    def begin_sequence(self, tag: int) -> None:
        """Write the head of a sequence."""
        self._written += self._head(tag, "SQ", UNDEFINED_LENGTH)

    def end_sequence(self) -> None:
        """Write its end."""
        self._written += _SEQUENCE_END

    def begin_item(self) -> None:
        """Write the head of an item."""
        self._is_signed.append(self._is_signed[-1])
        self._written += _ITEM

    def end_item(self) -> None:
        """Write its end."""
        self._is_signed.pop()
        self._written += _ITEM_END

    def begin_fragments(self, tag: int) -> None:
        """Write the head of fragments."""
        self._written += self._head(tag, "OB", UNDEFINED_LENGTH)

    def end_fragments(self) -> None:
        """Write their end."""
        self._written += _SEQUENCE_END

    def _head(self, tag: int, vr: str, length: int) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if not self._to_explicit:
            return pack("<HHI", group, number, length)
        code = vr.encode("ascii")
        if code not in SHORT_VRS:
            return pack("<HH2s2xI", group, number, code, length)
        if length > _SHORT_BYTES_MAX:
            # PS3.5 6.2.2: a value too long for its VR's length is written as unknown.
            return pack("<HH2s2xI", group, number, b"UN", length)
        return pack("<HH2sH", group, number, code, length)
