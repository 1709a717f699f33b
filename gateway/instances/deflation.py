"""Deflated instances as they were, and deflated again (PS3.5 A.5). Bounded before anything is inflated. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from gateway.instances.spans import Bytes
from gateway.model.errors import InvalidRequest

INFLATED_BYTES_MAX = 32 * 1024 * 1024
"""A deflated data set of more is not taken apart."""
_ALWAYS_BYTES = 4 * 1024 * 1024
"""What little may grow to even if that is more than the ratio: an empty image is nearly nothing, deflated."""
_RATIO_MAX = 64
_TRAILER_BYTES_MAX = 8


def inflated(body: Bytes) -> bytes:
    """The data set as it was. Raises `InvalidRequest`."""
    bytes_max = min(max(_RATIO_MAX * len(body), _ALWAYS_BYTES), INFLATED_BYTES_MAX)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    found = _inflate(stream, body, bytes_max)
    if len(found) > bytes_max:
        raise InvalidRequest(f"the deflated instance is longer than {bytes_max} bytes")
    # A byte may pad the stream; some writers leave gzip's sum and length behind it.
    if not stream.eof or len(stream.unused_data) > _TRAILER_BYTES_MAX:
        raise InvalidRequest("the deflated instance does not end where its bytes do")
    return found


def inflated_head(head: Bytes, bytes_max: int) -> bytes:
    """As much of the data set's beginning as this beginning of it gives, and no more than `bytes_max`."""
    return _inflate(zlib.decompressobj(-zlib.MAX_WBITS), head, bytes_max)[:bytes_max]


def deflated(pieces: Iterable[Bytes]) -> bytes:
    """A data set as the deflated transfer syntax has it, of even length."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    found = bytearray()
    for piece in pieces:
        found += stream.compress(piece)
    found += stream.flush()
    found += b"\0" * (len(found) % 2)
    return bytes(found)


def _inflate(stream: zlib._Decompress, body: Bytes, bytes_max: int) -> bytes:
    try:
        return stream.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise InvalidRequest("the deflated instance is damaged") from error
