"""The sealed format: one object, encrypted and authenticated segment by segment, readable from any segment on.

A 32-byte preamble of ours, then exactly the stream that Tink's AES256_GCM_HKDF streaming AEAD writes with segments of
256 KiB (docs/sealed-file.md; DEC-22). The associated data binds an object to what it is: an object under another name,
of an older version, cut short or with segments moved does not open. Pure: no files, no clock, no key store; the source
of randomness is an argument. Not safe for use by two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.model.errors import Damaged

MAGIC = b"\x89SEAL\r\n\x1a"
VERSION = 1
PREAMBLE_BYTES = 32
KEY_ID_BYTES = 16
KEY_BYTES = 32
SEGMENT_BYTES = 262_144
"""A segment as it lies in the file, with its tag; the first one shares its room with the stream's header."""
TAG_BYTES = 16
SEGMENTS_MAX = 2**32

_SALT_BYTES, _PREFIX_BYTES = 32, 7
STREAM_HEADER_BYTES = 1 + _SALT_BYTES + _PREFIX_BYTES
_FIRST_PLAIN = SEGMENT_BYTES - STREAM_HEADER_BYTES - TAG_BYTES
_PLAIN = SEGMENT_BYTES - TAG_BYTES
HEAD_BYTES = PREAMBLE_BYTES + STREAM_HEADER_BYTES
"""What stands before the first segment."""


def preamble(key_id: bytes) -> bytes:
    """What an object begins with: `magic 8 | version 1 | zero 7 | key id 16`."""
    if len(key_id) != KEY_ID_BYTES:
        raise ValueError(f"a key id has {KEY_ID_BYTES} bytes")
    return MAGIC + bytes((VERSION,)) + bytes(7) + key_id


def key_id_of(head: bytes) -> bytes:
    """The id of the key that opens an object, from its first 32 bytes; raises `Damaged`."""
    if len(head) < PREAMBLE_BYTES or head[:16] != preamble(bytes(KEY_ID_BYTES))[:16]:
        raise Damaged("this is no sealed object of a known version")
    return bytes(head[16:PREAMBLE_BYTES])


def sealed_length(plain_length: int) -> int:
    """The bytes of an object that holds so many."""
    beyond = max(0, plain_length - _FIRST_PLAIN)
    return HEAD_BYTES + plain_length + TAG_BYTES * (1 + -(-beyond // _PLAIN))


class Sealer:
    """Seals one object, piece by piece: `head`, then what `add` returns, then what `finish` returns."""

    def __init__(
        self,
        key_id: bytes,
        key: bytes,
        context: bytes,
        random: Callable[[int], bytes],
        plain: list[bytes] | None = None,
    ) -> None:
        """`plain` is given what each segment holds, as it is sealed."""
        before = preamble(key_id)
        self._plain = plain
        salt, self._prefix = random(_SALT_BYTES), random(_PREFIX_BYTES)
        self._cipher = AESGCM(_derived(key, salt, before + context))
        self.head = before + bytes((STREAM_HEADER_BYTES,)) + salt + self._prefix
        self._pending = bytearray()
        self._room = _FIRST_PLAIN
        self._segment = 0
        self._is_finished = False

    def add(self, piece: bytes | memoryview) -> list[bytes]:
        """Take the next bytes; the segments that are whole by them."""
        if self._is_finished:
            raise ValueError("the object is finished")
        rest = memoryview(piece).cast("B")
        sealed: list[bytes] = []
        # A full segment waits until something follows it, for the last one is sealed as such.
        while rest:
            if len(self._pending) == self._room:
                sealed.append(self._seal(self._pending, is_last=False))
                self._pending = bytearray()
            while not self._pending and len(rest) > self._room:
                room = self._room
                sealed.append(self._seal(rest[:room], is_last=False))
                rest = rest[room:]
            taken = min(len(rest), self._room - len(self._pending))
            self._pending += rest[:taken]
            rest = rest[taken:]
        return sealed

    def finish(self) -> bytes:
        """The last segment; nothing can be added behind it."""
        self._is_finished = True
        return self._seal(self._pending, is_last=True)

    def _seal(self, plain: bytearray | memoryview, *, is_last: bool) -> bytes:
        nonce = _nonce(self._prefix, self._segment, is_last=is_last)
        self._segment, self._room = self._segment + 1, _PLAIN
        if self._plain is not None:
            self._plain.append(bytes(plain))
        return self._cipher.encrypt(nonce, plain, None)


@dataclass(frozen=True, slots=True)
class Span:
    """Where one segment lies in the object, and in what it holds."""

    number: int
    sealed_at: int
    sealed_bytes: int
    plain_at: int
    plain_bytes: int


class Opener:
    """Opens one object, from any segment on; raises `Damaged` for whatever is not as it was sealed."""

    def __init__(self, key: bytes, context: bytes, head: bytes, object_bytes: int) -> None:
        """`head` holds the object's first `HEAD_BYTES`; `object_bytes` is its whole length as it lies there."""
        key_id_of(head)
        stream = head[PREAMBLE_BYTES:HEAD_BYTES]
        body = object_bytes - HEAD_BYTES
        if len(stream) != STREAM_HEADER_BYTES or stream[0] != STREAM_HEADER_BYTES or body < TAG_BYTES:
            raise Damaged("a sealed object is too short")
        # As if the first segment had its full room: then all segments but the last are equal.
        room = body + STREAM_HEADER_BYTES
        self.segments = -(-room // SEGMENT_BYTES)
        if room - (self.segments - 1) * SEGMENT_BYTES <= TAG_BYTES and self.segments > 1:
            raise Damaged("a sealed object is cut inside its last segment")
        if self.segments > SEGMENTS_MAX:
            raise Damaged("a sealed object is too long")
        self._object_bytes = object_bytes
        self.plain_bytes = body - TAG_BYTES * self.segments
        salt, self._prefix = stream[1 : 1 + _SALT_BYTES], bytes(stream[1 + _SALT_BYTES :])
        self._cipher = AESGCM(_derived(key, salt, head[:PREAMBLE_BYTES] + context))

    def span(self, number: int) -> Span:
        """Where segment `number` (from 0) lies."""
        if not 0 <= number < self.segments:
            raise ValueError("the object has no such segment")
        begins = PREAMBLE_BYTES + (number * SEGMENT_BYTES if number else STREAM_HEADER_BYTES)
        ends = min(self._object_bytes, PREAMBLE_BYTES + (number + 1) * SEGMENT_BYTES)
        plain_at = _FIRST_PLAIN + (number - 1) * _PLAIN if number else 0
        return Span(number, begins, ends - begins, plain_at, ends - begins - TAG_BYTES)

    def spans(self, first: int = 0, last: int | None = None) -> range:
        """The numbers of the segments that hold the plain bytes `first` to `last`, both included."""
        last = self.plain_bytes - 1 if last is None else min(last, self.plain_bytes - 1)
        if not 0 <= first <= max(last, 0):
            raise ValueError("the object has no such bytes")
        return range(_segment_of(first), _segment_of(max(last, 0)) + 1)

    def open(self, number: int, sealed: bytes | memoryview) -> bytes:
        """The plain bytes of a segment."""
        nonce = _nonce(self._prefix, number, is_last=number == self.segments - 1)
        try:
            return self._cipher.decrypt(nonce, sealed, None)
        except InvalidTag:
            raise Damaged("a segment is not as it was sealed") from None


def _segment_of(plain_at: int) -> int:
    return 0 if plain_at < _FIRST_PLAIN else 1 + (plain_at - _FIRST_PLAIN) // _PLAIN


def _nonce(prefix: bytes, number: int, *, is_last: bool) -> bytes:
    if number >= SEGMENTS_MAX:
        raise ValueError("an object has at most 2^32 segments")
    return prefix + number.to_bytes(4, "big") + bytes((is_last,))


def _derived(key: bytes, salt: bytes | memoryview, info: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=bytes(salt), info=info).derive(key)
