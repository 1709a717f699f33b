"""What an encoded instance says it is, read while it arrives and long before its pixels (PS3.5 7, PS3.3 C.7 and C.12).

Reads the few elements that name an instance and size it, from pieces of any size, in every transfer syntax of stored
objects; whatever else stands between them is stepped over, never kept. The bytes themselves are not touched: what was
read here goes on as it came. Bounded in bytes, nesting and elements. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.model.errors import InvalidRequest

HEADER_BYTES_MAX = 4 * 1024 * 1024
"""Behind as many bytes the last wanted element has to be passed."""
NESTING_MAX = 64
ELEMENTS_MAX = 100_000
VALUE_BYTES_MAX = 64 * 1024
"""A wanted element of more is no name, number or date."""

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

CHARACTER_SET, SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080005, 0x00080016, 0x00080018
STUDY_DATE, ACCESSION_NUMBER, MODALITY = 0x00080020, 0x00080050, 0x00080060
PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID = 0x00100010, 0x00100020, 0x00100021
BIRTH_DATE, SEX = 0x00100030, 0x00100040
STUDY_UID, SERIES_UID, SERIES_NUMBER, INSTANCE_NUMBER = 0x0020000D, 0x0020000E, 0x00200011, 0x00200013
FRAMES, ROWS, COLUMNS = 0x00280008, 0x00280010, 0x00280011
_OF_STUDY = (STUDY_DATE, ACCESSION_NUMBER, MODALITY, STUDY_UID, SERIES_UID, SERIES_NUMBER)
_OF_PATIENT = (PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, BIRTH_DATE, SEX)
_OF_INSTANCE = (CHARACTER_SET, SOP_CLASS_UID, SOP_INSTANCE_UID, INSTANCE_NUMBER, FRAMES, ROWS, COLUMNS)
WANTED = frozenset((*_OF_STUDY, *_OF_PATIENT, *_OF_INSTANCE))

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(vr.encode() for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(vr.encode() for vr in "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LITTLE, _BIG = (
    (struct.Struct(f"{order}HH"), struct.Struct(f"{order}H"), struct.Struct(f"{order}I")) for order in "<>"
)


@dataclass(frozen=True, slots=True)
class Header:
    """The wanted elements as encoded, by tag."""

    values: Mapping[int, bytes]
    is_big_endian: bool = False

    def uid(self, tag: int) -> str:
        """A UID without its padding; empty where it is missing."""
        return self.values.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")

    def text(self, tag: int) -> str:
        """A short text of the default repertoire, unpadded; empty where it is missing."""
        return self.values.get(tag, b"").strip(b"\0 ").decode("utf-8", "replace")

    def number(self, tag: int) -> int | None:
        """Rows, columns (US) or frames (IS); None where it is missing or none."""
        value = self.values.get(tag, b"")
        if tag == FRAMES:
            text = value.strip(b"\0 ")
            return int(text) if text.isdigit() and len(text) < 10 else None
        return int.from_bytes(value, "big" if self.is_big_endian else "little") if len(value) == 2 else None


@dataclass(slots=True)
class _Frame:
    """A sequence or an item that is being stepped through."""

    is_sequence: bool
    end: int | None
    """Where it ends; None: it says so itself."""
    is_explicit: bool


class HeaderReader:
    """Reads one instance's header from its pieces. `feed` until it returns True, or `end` where the bytes do."""

    def __init__(
        self,
        transfer_syntax: str,
        *,
        header_bytes_max: int = HEADER_BYTES_MAX,
        wanted: frozenset[int] = WANTED,
    ) -> None:
        """`wanted` elements alone are read, and nothing behind the last of them."""
        self._wanted, self._last = wanted, max(wanted)
        self._is_explicit = transfer_syntax != IMPLICIT
        self._structs = _BIG if transfer_syntax == BIG_ENDIAN else _LITTLE
        self._element = struct.Struct(">HH2sH" if transfer_syntax == BIG_ENDIAN else "<HH2sH")
        self._inflating = zlib.decompressobj(-zlib.MAX_WBITS) if transfer_syntax == DEFLATED else None
        self._bytes_max = header_bytes_max
        self._buffer = bytearray()
        self._dropped = 0
        """Bytes that were stepped over and are no longer in the buffer."""
        self._at = 0
        self._stack: list[_Frame] = []
        self._elements = 0
        self._values: dict[int, bytes] = {}
        self._is_done = False

    @property
    def header(self) -> Header:
        """What was read; whole once `feed` has returned True or `end` was called."""
        return Header(MappingProxyType(self._values), self._structs is _BIG)

    def feed(self, piece: bytes | memoryview) -> bool:
        """Take the next bytes; whether all that is wanted is read or passed. Raises `InvalidRequest`."""
        if self._is_done:
            return True
        if self._inflating is None:
            self._buffer += piece
        else:
            self._inflate(piece)
        is_done = self._read()
        if not is_done and self._at > self._bytes_max:
            raise InvalidRequest("the instance's identifiers stand behind more bytes than a header may have")
        self._drop()
        return is_done

    def end(self) -> None:
        """No more bytes come: an instance without pixels may end before the last wanted element does."""
        if not self._is_done and (self._stack or self._at != self._dropped + len(self._buffer)):
            raise InvalidRequest("the instance ends inside an element")
        self._is_done = True

    def _read(self) -> bool:
        """Read as far as the bytes go; whether that is far enough."""
        while self._step() and self._at <= min(self._bytes_max, self._dropped + len(self._buffer)):
            if self._is_explicit and not self._stack:
                self._step_over_short()
        return self._is_done

    def _inflate(self, piece: bytes | memoryview) -> None:
        assert self._inflating is not None
        room = self._bytes_max - self._dropped - len(self._buffer) + 1
        try:
            self._buffer += self._inflating.decompress(piece, max(1, room))
        except zlib.error as error:
            raise InvalidRequest("the deflated instance is damaged") from error

    def _drop(self) -> None:
        """Let go of what is read, so that no more is kept than one element."""
        passed = min(self._at - self._dropped, len(self._buffer))
        if passed > 64 * 1024 or passed == len(self._buffer):
            del self._buffer[:passed]
            self._dropped += passed

    def _step_over_short(self) -> None:
        """Most of a header at a tenth of the price: elements of two-byte length that nobody wants, at the top."""
        if self._stack or self._elements == 0:
            return
        buffer, wanted, short_vrs, unpack = self._buffer, self._wanted, _SHORT_VRS, self._element.unpack_from
        at, last, last_wanted = self._at - self._dropped, len(self._buffer) - 8, self._last
        while at <= last and self._elements <= ELEMENTS_MAX:
            group, number, vr, length = unpack(buffer, at)
            tag = group << 16 | number
            if vr not in short_vrs or tag in wanted or tag > last_wanted:
                break
            at += 8 + length
            self._elements += 1
        self._at = at + self._dropped

    def _step(self) -> bool:
        """Step over one element, item or end; False: more bytes are needed."""
        while self._stack and (end := self._stack[-1].end) is not None and self._at >= end:
            if self._at > end:
                raise InvalidRequest("an element of the instance is longer than what holds it")
            self._stack.pop()
        found = self._element_head()
        if found is None:
            return False
        tag, vr, start, length = found
        self._elements += 1
        if self._elements > ELEMENTS_MAX:
            raise InvalidRequest("the instance's header has too many elements")
        if self._stack:
            return self._inside(self._stack[-1], tag, vr, start, length)
        if tag >> 16 == 0xFFFE:
            raise InvalidRequest("an item of the instance stands outside a sequence")
        if tag > self._last:
            self._is_done = True
            return False
        if length == _UNDEFINED:
            self._enter(vr, start)
        elif tag in self._wanted:
            return self._take(tag, start, length)
        else:
            self._at = start + length
        return True

    def _inside(self, frame: _Frame, tag: int, vr: bytes, start: int, length: int) -> bool:
        self._at = start
        if frame.is_sequence:
            if tag == _SEQUENCE_END and frame.end is None:
                self._stack.pop()
            elif tag == _ITEM:
                self._push(_Frame(False, None if length == _UNDEFINED else start + length, frame.is_explicit))
            else:
                raise InvalidRequest("a sequence of the instance holds something that is no item")
        elif tag == _ITEM_END and frame.end is None:
            self._stack.pop()
        elif length == _UNDEFINED:
            self._enter(vr, start)
        else:
            self._at = start + length
        return True

    def _enter(self, vr: bytes, start: int) -> None:
        """Go into a sequence; one whose VR somebody did not know is written implicitly (PS3.5 6.2.2)."""
        if vr not in (b"SQ", b"UN", b""):
            raise InvalidRequest("an element of the instance's header has no length")
        is_explicit = (self._stack[-1].is_explicit if self._stack else self._is_explicit) and vr == b"SQ"
        self._at = start
        self._push(_Frame(True, None, is_explicit))

    def _push(self, frame: _Frame) -> None:
        if len(self._stack) >= 2 * NESTING_MAX:
            raise InvalidRequest(f"sequences of the instance are nested deeper than {NESTING_MAX}")
        self._stack.append(frame)

    def _take(self, tag: int, start: int, length: int) -> bool:
        if length > VALUE_BYTES_MAX:
            raise InvalidRequest("an identifier of the instance is too long")
        begins = start - self._dropped
        if begins + length > len(self._buffer):
            return False
        value = bytes(self._buffer[begins : begins + length])
        if self._values.setdefault(tag, value) != value:
            raise InvalidRequest("the instance names itself twice, and differently")
        self._at = start + length
        return True

    def _element_head(self) -> tuple[int, bytes, int, int] | None:
        """Tag, VR (empty: not written), where the value starts, and its length; None: more bytes are needed."""
        at = self._at - self._dropped
        if at + 8 > len(self._buffer):
            return None
        is_explicit = self._stack[-1].is_explicit if self._stack else self._is_explicit
        pair, short, long = self._structs
        group, number = pair.unpack_from(self._buffer, at)
        tag = group << 16 | number
        if group == 0xFFFE or not is_explicit:
            return tag, b"", self._at + 8, long.unpack_from(self._buffer, at + 4)[0]
        vr = bytes(self._buffer[at + 4 : at + 6])
        if vr in _SHORT_VRS:
            return tag, vr, self._at + 8, short.unpack_from(self._buffer, at + 6)[0]
        if vr not in _LONG_VRS and self._elements == 0:
            # Some write implicitly whatever they have announced: read as every toolkit reads them.
            self._is_explicit = False
            return self._element_head()
        if vr not in _LONG_VRS:
            raise InvalidRequest("an element of the instance has no known value representation")
        if at + 12 > len(self._buffer):
            return None
        return tag, vr, self._at + 12, long.unpack_from(self._buffer, at + 8)[0]
