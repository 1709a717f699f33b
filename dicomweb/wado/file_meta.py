"""Read what stands before an encoded data set in a DICOM file: preamble, prefix, file meta information (PS3.10 7.1).

Gives the three things that an instance is taken in by, and where its data set begins; reads nothing of the data set.
With limits, and from a stranger's bytes: nothing is believed but elements in their order. Pure.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from gateway.model.errors import InvalidRequest

FILE_META_BYTES_MAX = 64 * 1024
"""Preamble and prefix included; private information (0002,0102) is what may make it long."""

_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_GROUP_LENGTH, _SOP_CLASS_UID, _SOP_UID, _TRANSFER_SYNTAX = 0x00, 0x02, 0x03, 0x10
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_HEAD = struct.Struct("<HH2sH")
_LONG = struct.Struct("<I")
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*")
_UID_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What a file says of the data set in it, and where that begins."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    data_set_at: int


def read_file_meta(opening: bytes | bytearray) -> FileMeta | None:
    """Read a file's beginning; None while there is too little of it. Raises `InvalidRequest` for what is no DICOM file.

    Whoever calls again with more gives up behind `FILE_META_BYTES_MAX`, which this holds to.
    """
    at = _PREAMBLE_BYTES + len(_PREFIX)
    if not _PREFIX.startswith(bytes(opening[_PREAMBLE_BYTES:at])):
        raise InvalidRequest("a part is no DICOM file")
    found: dict[int, bytes] = {}
    end: int | None = None
    while at != end or _TRANSFER_SYNTAX not in found:
        # A group length may be wrong, and often was: what counts is the group of the element behind the last one.
        head = opening[at : at + _HEAD.size]
        if len(head) >= 2 and (head[0], head[1]) != (2, 0):
            break
        if len(head) < _HEAD.size:
            return _none_yet(opening)
        _, element, vr, length = _HEAD.unpack(head)
        at += _HEAD.size
        if vr in _LONG_VRS:
            if at + _LONG.size > len(opening):
                return _none_yet(opening)
            (length,) = _LONG.unpack_from(opening, at)
            at += _LONG.size
        elif not vr.isalpha():
            raise InvalidRequest("the file meta information cannot be read")
        value = bytes(opening[at : at + length])
        at += length
        if at > FILE_META_BYTES_MAX:
            raise InvalidRequest(f"the file meta information is longer than {FILE_META_BYTES_MAX} bytes")
        if len(value) < length:
            return _none_yet(opening)
        if element in found:
            raise InvalidRequest("the file meta information says something twice")
        found[element] = value
        if element == _GROUP_LENGTH and length == _LONG.size:
            end = at + _LONG.unpack(value)[0]
    return FileMeta(_uid(found, _SOP_CLASS_UID), _uid(found, _SOP_UID), _uid(found, _TRANSFER_SYNTAX), at)


def _none_yet(opening: bytes | bytearray) -> FileMeta | None:
    if len(opening) > FILE_META_BYTES_MAX:
        raise InvalidRequest(f"the file meta information is longer than {FILE_META_BYTES_MAX} bytes")
    return None


def _uid(found: dict[int, bytes], element: int) -> str:
    value = found.get(element, b"").rstrip(b"\0 ")
    if len(value) > _UID_BYTES_MAX or not _UID.fullmatch(value):
        raise InvalidRequest("the file meta information names no class, instance or transfer syntax")
    return value.decode("ascii")
