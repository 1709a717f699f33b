"""How objects lie in pack files: frames behind each other, each found by walking from head to head. Pure.

A pack only grows, and by one process alone. A frame is `head 48 | payload`; a chunk's payload is bytes of a sealed
object, an entry's says, sealed as well, what the object is and where its chunks lie. An object exists once its entry
does: one sync of one file makes both durable (DEC-36), and the index can be made anew from the packs. A head binds its
frame to its pack and its place there, and stays when the room of the payload goes back to the disk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

HEAD_BYTES = 48
ID_BYTES = 16
"""Packs and objects are named by random ids of so many bytes."""

_MAGIC = b"\x89PCK"
_VERSION = 1
_FIELDS = struct.Struct(">4sBBxx16sQ")
_DIGEST_BYTES = HEAD_BYTES - _FIELDS.size
_EXTENT = struct.Struct(">16sQQ")


class FrameKind(IntEnum):
    """What a frame holds."""

    CHUNK = 1
    ENTRY = 2


_KINDS = frozenset(FrameKind)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes in a pack; never counts a frame's head."""

    pack_id: bytes
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as its head tells."""

    kind: FrameKind
    object_id: bytes
    payload: Extent


def head(kind: FrameKind, object_id: bytes, payload: Extent) -> bytes:
    """The bytes that stand before `payload`."""
    fields = _FIELDS.pack(_MAGIC, _VERSION, kind, object_id, payload.length)
    return fields + _digest(payload.pack_id, payload.at - HEAD_BYTES, fields)


def read_head(pack_id: bytes, at: int, found: bytes) -> Frame | None:
    """The frame whose head was found at this place; None if none was ever written there."""
    fields, digest = found[: _FIELDS.size], found[_FIELDS.size : HEAD_BYTES]
    if len(found) < HEAD_BYTES or digest != _digest(pack_id, at, fields):
        return None
    magic, version, kind, object_id, length = _FIELDS.unpack(fields)
    if magic != _MAGIC or version != _VERSION or kind not in _KINDS:
        return None
    return Frame(FrameKind(kind), object_id, Extent(pack_id, at + HEAD_BYTES, length))


def encode_extents(extents: Iterable[Extent]) -> bytes:
    """Extents as a column keeps them."""
    return b"".join(_EXTENT.pack(extent.pack_id, extent.at, extent.length) for extent in extents)


def decode_extents(encoded: bytes) -> tuple[Extent, ...]:
    """The extents of a column; raises `ValueError` for what is none."""
    if len(encoded) % _EXTENT.size:
        raise ValueError("no list of extents")
    return tuple(Extent(*fields) for fields in _EXTENT.iter_unpack(encoded))


def part(extents: Sequence[Extent], at: int, length: int) -> Iterator[Extent]:
    """Where `length` bytes from `at` of an object lie whose bytes are these extents, in order."""
    for extent in extents:
        if length <= 0:
            return
        if at >= extent.length:
            at -= extent.length
            continue
        taken = min(length, extent.length - at)
        yield Extent(extent.pack_id, extent.at + at, taken)
        at, length = 0, length - taken


def _digest(pack_id: bytes, at: int, fields: bytes) -> bytes:
    return blake2b(pack_id + at.to_bytes(8, "big") + fields, digest_size=_DIGEST_BYTES).digest()
