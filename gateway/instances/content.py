"""What two copies of an instance have to agree in: pixels, bulk data and the content of reports (SAF-35).

A digest of these alone, taken while the instance passes: names, numbers, descriptions and dates may differ and leave
it as it is, and so may the encoding of elements, the byte order, the character set and how pixels are cut into
fragments. Compressed pixels can be compared only with pixels compressed alike: the digest says which kind it is of.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from struct import pack

from gateway.instances.charsets import decode
from gateway.instances.encoding.dictionary import implicit_vr
from gateway.instances.encoding.json_values import BINARY, FALLBACK_CHARSET, swapped
from gateway.instances.encoding.stream import ElementStream
from gateway.instances.encoding.values import CHARACTER_SET, declared_terms
from gateway.instances.spans import ITEM, Bytes
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_BIG_ENDIAN, is_encapsulated

DIGEST_BYTES = 32
_TEXT_BYTES_MAX = 64 * 1024
"""Longer texts are compared by their bytes."""
_WORD_BYTES_MAX = 8

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_OF_PIXELS = frozenset({0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103})
_FRAMES = 0x00280008
_OF_REPORTS = frozenset({0x0040A040, 0x0040A043, 0x0040A050, 0x0040A491, 0x0040A493, 0x0040A730})
_BULK = frozenset({0x00420011, 0x54000100, 0x56000020, 0x00660002, 0x00700001})
_CONTENT = _PIXELS | _OF_PIXELS | _OF_REPORTS | _BULK | {_FRAMES}
_RADIOTHERAPY_GROUPS = range(0x3002, 0x300E)
_TEXT_VRS = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_IN_CHARACTER_SET = frozenset("LO LT PN SH ST UC UT".split())


@dataclass(frozen=True, slots=True)
class Content:
    """The digest of an instance's content."""

    kind: str
    """How its pixels are encoded: `native`, a transfer syntax, or nothing where there are none."""
    digest: bytes

    def can_be_compared(self, other: Content) -> bool:
        """Whether unequal digests mean unequal content."""
        return self.kind == other.kind


class ContentDigest:
    """Takes the digest of one instance from its pieces; raises `InvalidRequest`."""

    def __init__(self, transfer_syntax: str) -> None:
        self._kind = transfer_syntax if is_encapsulated(transfer_syntax) else "native"
        self._digesting = _Digesting(is_big=transfer_syntax == EXPLICIT_VR_BIG_ENDIAN)
        self._stream = ElementStream(transfer_syntax, self._digesting)

    def add(self, piece: Bytes) -> None:
        """Take the next bytes."""
        self._stream.feed(piece)

    def finish(self) -> Content:
        """The digest; no more bytes come."""
        self._stream.finish()
        return Content(self._kind if self._digesting.has_pixels else "", self._digesting.digest())


class _Digesting:
    """The sink that digests."""

    def __init__(self, *, is_big: bool) -> None:
        self._is_big = is_big
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self.has_pixels = False
        self._depth = 0
        self._is_inside = False
        """Whether what surrounds the element is content."""
        self._declared: list[tuple[str, ...]] = [()]
        self._fragments_seen: int | None = None
        """How many fragments began; None: not among fragments."""
        self._tag = 0
        self._vr = ""
        self._is_taken = False
        self._kept: bytearray | None = None
        self._word = b""

    def digest(self) -> bytes:
        """Of everything so far."""
        return self._hash.digest()

    def begin(self, tag: int, vr: bytes, length: int) -> None:
        """A value begins."""
        self._tag, self._vr, self._kept = tag, "", None
        if self._fragments_seen is not None:
            # The first is the table of offsets, which says nothing of pixels.
            self._is_taken = self._is_inside and self._fragments_seen > 0
            self._fragments_seen += 1
            return
        known = implicit_vr(tag, is_signed=False)
        written = vr.decode("ascii")
        # Somebody who did not know an element wrote it as unknown; of bytes the writer knew whether they are words.
        self._vr = written if known == "UN" or written in BINARY - {"UN"} else known
        self._is_taken = self._is_content(tag)
        is_text = self._vr in _TEXT_VRS and length <= _TEXT_BYTES_MAX
        if tag == CHARACTER_SET or (self._is_taken and is_text):
            self._kept = bytearray()
        elif self._is_taken:
            self._mark(b"V", tag)
            self.has_pixels = self.has_pixels or (tag in _PIXELS and self._depth == 0)

    def part(self, piece: memoryview) -> None:
        """Bytes of a value."""
        if self._kept is not None:
            self._kept += piece
        elif self._is_taken and self._is_big and self._fragments_seen is None:
            words = self._word + bytes(piece)
            whole = len(words) - len(words) % _WORD_BYTES_MAX
            self._hash.update(swapped(self._vr, words[:whole]))
            self._word = words[whole:]
        elif self._is_taken:
            self._hash.update(piece)

    def end(self) -> None:
        """The value is over."""
        if self._word:
            self._hash.update(swapped(self._vr, self._word))
            self._word = b""
        if self._kept is None:
            if self._is_taken and self._fragments_seen is None:
                self._mark(b"v", 0)
            return
        value, self._kept = bytes(self._kept), None
        if self._tag == CHARACTER_SET:
            self._declared[-1] = declared_terms(value)
        if not self._is_taken:
            return
        text = self._text(value)
        if self._tag == _FRAMES and text in ("", "1"):
            return
        self._mark(b"T", self._tag)
        written = text.encode()
        self._hash.update(pack("<I", len(written)) + written)

    def begin_sequence(self, tag: int) -> None:
        """Items begin."""
        if self._depth == 0:
            self._is_inside = self._is_content(tag) or tag >> 16 in _RADIOTHERAPY_GROUPS
        self._depth += 1
        if self._is_inside:
            self._mark(b"S", tag)

    def end_sequence(self) -> None:
        """Items end."""
        if self._is_inside:
            self._mark(b"s", 0)
        self._depth -= 1
        self._is_inside = self._is_inside and self._depth > 0

    def begin_item(self) -> None:
        """An item begins."""
        self._declared.append(self._declared[-1])
        if self._is_inside:
            self._mark(b"I", 0)

    def end_item(self) -> None:
        """An item ends."""
        self._declared.pop()
        if self._is_inside:
            self._mark(b"i", 0)

    def begin_fragments(self, tag: int) -> None:
        """Fragments begin."""
        self._fragments_seen = 0
        if self._depth == 0:
            self._is_inside = tag in _PIXELS
            self.has_pixels = self.has_pixels or self._is_inside
        if self._is_inside:
            self._mark(b"F", tag)

    def end_fragments(self) -> None:
        """Fragments end."""
        self._fragments_seen = None
        if self._is_inside:
            self._mark(b"f", 0)
        self._is_inside = self._is_inside and self._depth > 0

    def _is_content(self, tag: int) -> bool:
        """Whether an element counts. Private ones never do: what they are depends on who wrote them."""
        if tag >> 16 & 1 or tag & 0xFFFF == 0 or tag == ITEM:
            return False
        if self._depth:
            return self._is_inside and tag != CHARACTER_SET
        is_plane = tag >> 24 in (0x50, 0x60) and tag & 0xFFFF == 0x3000
        return tag in _CONTENT or is_plane

    def _text(self, value: bytes) -> str:
        declared = self._declared[-1] if self._vr in _IN_CHARACTER_SET else ()
        return decode(value, self._vr, declared, FALLBACK_CHARSET).strip(" \0")

    def _mark(self, what: bytes, tag: int) -> None:
        self._hash.update(what + pack("<I", tag))
