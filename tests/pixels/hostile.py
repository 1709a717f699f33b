"""Instances made for pixels' tests: plain ones, and ones that lie."""

from __future__ import annotations

import struct

from gateway.instances.frames import Read

OPEN = 2**32 - 1


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    long = vr in (b"OB", b"OW", b"SQ")
    return head + (struct.pack("<2xI", size) if long else struct.pack("<H", size)) + value


def number(tag: int, value: int) -> bytes:
    """An element of one number."""
    return element(tag, b"US", struct.pack("<H", value))


def header(*, rows: int, columns: int, bits: int = 8, samples: int = 1, kind: str = "MONOCHROME2") -> bytes:
    """What an image says of its pixels."""
    return b"".join(
        (
            number(0x00280002, samples),
            element(0x00280004, b"CS", kind.encode() + b" " * (len(kind) % 2)),
            *([number(0x00280006, 0)] if samples > 1 else []),
            number(0x00280010, rows),
            number(0x00280011, columns),
            number(0x00280100, bits),
            number(0x00280101, bits),
            number(0x00280102, bits - 1),
            number(0x00280103, 0),
        )
    )


def fragments(*frames: bytes) -> bytes:
    """Frames in fragments, without a table."""
    items = (b"", *(frame + b"\0" * (len(frame) % 2) for frame in frames))
    found = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame for frame in items)
    return element(0x7FE00010, b"OB", found + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), OPEN)


def reading(body: bytes) -> Read:
    """Reads from bytes in memory."""

    async def read(first: int, size: int) -> bytes:
        return body[first : first + size]

    return read
