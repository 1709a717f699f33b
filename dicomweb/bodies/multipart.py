"""Write multipart bodies of images, and the head that makes a data set a file (RFC 2387, PS3.10 7.1, PS3.18 8.6).

Strict where reading is patient. A boundary is longer than chance can meet in pixels. What a data set says is not read:
the head names what the road already knows of it. Pure.
"""

from __future__ import annotations

import struct

from gateway.model.work.transfers import InstanceRef

BOUNDARY_CHARS = 32
"""Hexadecimal digits of 128 random bits: within the 70 characters of RFC 2046, and plain in every grammar."""

IMPLEMENTATION_CLASS_UID = "2.25.69878396489904178163600171755451916909"
IMPLEMENTATION_VERSION = "SHARING_GATEWAY"
"""As on associations: they say who wrote the head, and so nothing of who wrote the data set."""

_PREAMBLE = bytes(128) + b"DICM"
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
_SHORT = struct.Struct("<HH2sH")


class Multipart:
    """One body's borders."""

    def __init__(self, boundary: str, media_type: str) -> None:
        assert len(boundary) == BOUNDARY_CHARS
        self._border = b"\r\n--" + boundary.encode("ascii")
        self.content_type = f'multipart/related; type="{media_type}"; boundary="{boundary}"'
        """Of the whole body."""

    def head(self, content_type: str, location: str = "", *, is_first: bool = False) -> bytes:
        """The border and the fields that stand before a part."""
        border = self._border[2:] if is_first else self._border
        where = f"\r\nContent-Location: {location}" if location else ""
        return border + f"\r\nContent-Type: {content_type}{where}\r\n\r\n".encode("ascii")

    @property
    def end(self) -> bytes:
        """The closing border; without it a body is not whole."""
        return self._border + b"--\r\n"


def file_head(ref: InstanceRef, transfer_syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10 Table 7.1-1) to stand before an encoded data set."""
    elements = b"".join(
        (
            _VERSION,
            _element(0x0002, b"UI", ref.sop_class_uid),
            _element(0x0003, b"UI", ref.sop_uid),
            _element(0x0010, b"UI", transfer_syntax),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION),
        )
    )
    return _PREAMBLE + _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(elements)) + elements


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(2, number, vr, len(value)) + value
