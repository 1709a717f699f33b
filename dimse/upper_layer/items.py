"""The frame of items inside an association's PDUs, and the error of everything that does not fit it.

An item is its type, a reserved byte, a length of two bytes, and as many bytes of content (PS3.8 9.3.2). Lengths must
add up exactly; types that nobody knows are skipped by those who walk the items (PS3.8 9.3.1); reserved bytes are never
looked at. Pure.
"""

import re
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

# 128 contexts may each come with a role and two kinds of extended negotiation; nobody needs more in one field.
ITEMS_MAX = 512
_HEADER = Struct(">BxH")
_is_uid = re.compile(rb"[0-9.]{0,64}").fullmatch
_is_text = re.compile(rb"[ -~]*").fullmatch


class AbortReason(IntEnum):
    """Why the service provider aborts (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNISED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class PduError(ValueError):
    """A PDU that the standard does not allow. Its words are safe to log: they hold nothing of what the peer sent."""

    def __init__(self, words: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(words)
        self.reason = reason


def items(body: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Walk the items of a field, ITEMS_MAX at most: type, and where the content starts and ends. Raises PduError."""
    for _ in range(ITEMS_MAX):
        if start == end:
            return
        if end - start < _HEADER.size:
            raise PduError("an item ends within its header")
        item_type, length = _HEADER.unpack_from(body, start)
        start += _HEADER.size
        if length > end - start:
            raise PduError("an item is longer than what holds it")
        yield item_type, start, start + length
        start += length
    if start != end:
        raise PduError("a field has more items than anybody needs")


def item(item_type: int, content: bytes) -> bytes:
    """Frame one item. Raises ValueError for more than 65,535 bytes, which only we could have written."""
    if len(content) > 0xFFFF:
        raise ValueError("the content of an item has more than 65,535 bytes")
    return _HEADER.pack(item_type, len(content)) + content


def decode_uid(encoded: bytes) -> str:
    """Read a UID: digits and dots, 64 at most. One padding NUL is forgiven: many write it. Raises PduError."""
    if encoded.endswith(b"\0"):
        encoded = encoded[:-1]
    if not _is_uid(encoded):
        raise PduError("a UID has other characters than digits and dots, or more than 64")
    return encoded.decode("ascii")


def encode_uid(uid: str) -> bytes:
    """Write a UID, unpadded (PS3.8 F). Raises ValueError for what is none."""
    encoded = uid.encode("ascii")
    if not _is_uid(encoded):
        raise ValueError("not a UID: digits and dots are expected, 64 at most")
    return encoded


def decode_text(encoded: bytes, bytes_max: int) -> str:
    """Read a name: printable ISO 646, spaces around it and one padding NUL dropped. Raises PduError."""
    if encoded.endswith(b"\0"):
        encoded = encoded[:-1]
    if len(encoded) > bytes_max or not _is_text(encoded):
        raise PduError("a name has control or foreign characters, or too many")
    return encoded.decode("ascii").strip(" ")


def encode_text(text: str, bytes_max: int) -> bytes:
    """Write a name. Raises ValueError for one that could not be read back."""
    encoded = text.encode("ascii")
    if len(encoded) > bytes_max or not _is_text(encoded):
        raise ValueError(f"not a name: printable ISO 646 is expected, {bytes_max} bytes at most")
    return encoded
