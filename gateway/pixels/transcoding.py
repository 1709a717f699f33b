"""An instance in another transfer syntax, for a receiver that refuses the one it is kept in, and with no loss of ours.

The header is rewritten as coercion rewrites it, in the few elements that describe the encoding; then frames are
decoded, and compressed again where the target asks for it, one at a time in a worker, so that memory holds one frame
whatever the image holds. What stands behind the pixels follows as it was. Pixels that were compressed with loss stay
as they are decoded, and say so as they did. Frames whose code nothing here decodes make the instance fail, in words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from struct import pack

from gateway.instances.coercion import plan
from gateway.instances.frames import Frame
from gateway.instances.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE,
)
from gateway.model.errors import InvalidRequest, NotAcceptable
from gateway.model.imaging import Element
from gateway.pixels.pool import Pool
from gateway.pixels.source import PixelSource
from gateway.pixels.wire import Head, Message

TARGETS = (EXPLICIT_VR_LITTLE_ENDIAN, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE)
"""The transfer syntaxes that instances are turned into, best first."""

_NATIVE_BYTES_MAX = 0xFFFFFFFE
_PIECE_BYTES = 1024 * 1024
_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = "7FE00001", "7FE00002"
_PHOTOMETRIC, _PLANAR = "00280004", "00280006"


async def transcoded(pool: Pool, source: PixelSource, target: str) -> AsyncIterator[bytes]:
    """The instance's encoded data set in the target's transfer syntax, in pieces.

    The source is in Explicit VR Little Endian, encapsulated or not. Raises `NotAcceptable` where nothing decodes or
    encodes its pixels so, `InvalidRequest` where the instance cannot be true, `OverCapacity`; the latter may come after
    the first piece.
    """
    layout = source.layout
    if target not in TARGETS or layout.is_floating or layout.bits_allocated not in (8, 16, 32):
        raise NotAcceptable("pixels are not turned into this transfer syntax")
    if layout.frame_bytes > pool.limits.frame_bytes_max:
        raise NotAcceptable("a frame of the instance is larger than is decoded")
    is_explicit = source.head[layout.starts + 4 : layout.starts + 6] in (b"OB", b"OW")
    if not is_explicit or source.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN:
        raise NotAcceptable("only an instance in explicit encoding and little endian is transcoded")
    frames = await source.frames()
    native_bytes = layout.rows * layout.columns * layout.samples * layout.bits_allocated // 8
    if target == EXPLICIT_VR_LITTLE_ENDIAN and native_bytes * len(frames) > _NATIVE_BYTES_MAX:
        raise NotAcceptable("the pixels are more than can be sent without compression")
    answer = await _decoded(pool, source, frames[0], target)
    # Only the decoder knows what the samples mean now, so the header waits for the first frame.
    yield _header(source, str(answer.head["photometric_interpretation"]))
    if target == EXPLICIT_VR_LITTLE_ENDIAN:
        size = native_bytes * len(frames)
        yield _PIXEL_DATA + (b"OW" if layout.bits_allocated > 8 else b"OB") + pack("<2xI", size + size % 2)
    else:
        yield _PIXEL_DATA + b"OB" + pack("<2xI", 0xFFFFFFFF) + _ITEM + pack("<I", 0)
    for frame in frames:
        if frame is not frames[0]:
            answer = await _decoded(pool, source, frame, target)
        body = answer.body
        if target == EXPLICIT_VR_LITTLE_ENDIAN and len(body) != native_bytes:
            raise NotAcceptable("the pixels have another size than the instance's header says")
        if target != EXPLICIT_VR_LITTLE_ENDIAN:
            body += b"\0" * (len(body) % 2)
            yield _ITEM + pack("<I", len(body))
        yield body
    if target != EXPLICIT_VR_LITTLE_ENDIAN:
        yield _SEQUENCE_END
    elif native_bytes * len(frames) % 2:
        yield b"\0"
    async for piece in _tail(source, frames):
        yield piece


async def _decoded(pool: Pool, source: PixelSource, frame: Frame, target: str) -> Message:
    if frame.data_bytes > pool.limits.frame_bytes_max:
        raise NotAcceptable("a frame of the instance is larger than is decoded")
    head: Head = {
        "task": "decode",
        "transfer_syntax": source.transfer_syntax,
        "head_bytes": len(source.head),
        "target": target,
    }
    return await pool.run(head, partial(source.task_bytes, frame))


def _header(source: PixelSource, photometric_interpretation: str) -> bytes:
    """The data set as far as its pixels, saying how they are written now."""
    layout = source.layout
    changes: dict[str, Element | None] = {_EXTENDED_OFFSETS: None, _EXTENDED_LENGTHS: None}
    if photometric_interpretation != layout.photometric_interpretation:
        changes[_PHOTOMETRIC] = {"vr": "CS", "Value": [photometric_interpretation]}
    if layout.samples > 1 and layout.planar_configuration:
        changes[_PLANAR] = {"vr": "US", "Value": [0]}
    coercion = plan(source.head, source.transfer_syntax, changes)
    if coercion is None:
        raise InvalidRequest("the instance's header does not go as far as its pixels")
    return coercion.prefix + source.head[coercion.replaces : layout.starts]


async def _tail(source: PixelSource, frames: Sequence[Frame]) -> AsyncIterator[bytes]:
    """What stands behind the pixels: padding, signatures."""
    if source.layout.data_bytes is not None:
        at = source.layout.first + source.layout.data_bytes
    else:
        last = frames[-1].pieces[-1]
        at = last.first + last.data_bytes + last.data_bytes % 2
        # A fragment that belongs to no frame may stand here; then nothing is known of what follows.
        if await source.read(at, 8) != _SEQUENCE_END:
            return
        at += 8
    while at < source.data_bytes and (piece := await source.read(at, _PIECE_BYTES)):
        yield piece
        at += len(piece)
