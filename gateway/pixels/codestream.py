"""What a compressed frame says of its own size, before any decoder sees it (ISO 10918-1 B.2.2, 14495-1, 15444-1 A.5).

A decoder allocates what the code stream announces: it is held to the instance's header first. Steps through a few
markers; whatever is not understood is left to the decoder and its limits. Pure.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

from gateway.instances.transfer_syntaxes import RLE
from gateway.model.errors import NotAcceptable

_MARKERS_MAX = 1_000
_START_OF_FRAME = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_SEGMENTS_MAX = 15
_JPEG_2000 = b"\xff\x4f\xff\x51"
_BOXES_BYTES_MAX = 4_096


def declared_size(frame: bytes, transfer_syntax: str) -> tuple[int, int, int] | None:
    """Rows, columns and samples that the frame announces; None where it announces none. Raises `NotAcceptable`."""
    try:
        if transfer_syntax == RLE:
            _judge_segments(frame)
            return None
        # Some put the whole file format around the code stream (ISO 15444-1 Annex I), which PS3.5 A.4.4 forbids.
        start = frame.find(_JPEG_2000, 0, _BOXES_BYTES_MAX) if frame[4:8] == b"jP  " else 0
        if frame.startswith(_JPEG_2000, max(0, start)):
            return _of_jpeg_2000(frame[max(0, start) :][:64])
        return _of_jpeg(frame)
    except (StructError, IndexError) as error:
        raise NotAcceptable("the pixels end inside their own header") from error


def _of_jpeg(frame: bytes) -> tuple[int, int, int] | None:
    if frame[:2] != b"\xff\xd8":
        raise NotAcceptable("the pixels are not of the kind that their transfer syntax says")
    at = 2
    for _ in range(_MARKERS_MAX):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _START_OF_FRAME:
            rows, columns, samples = unpack_from(">HHB", frame, at + 5)
            # Rows of nothing are told behind the first scan, if at all.
            return (rows, columns, samples) if rows else None
        at += 2 if marker in _WITHOUT_LENGTH else 2 + unpack_from(">H", frame, at + 2)[0]
    return None


def _of_jpeg_2000(frame: bytes) -> tuple[int, int, int]:
    right, bottom, left, top = unpack_from(">IIII", frame, 8)
    (samples,) = unpack_from(">H", frame, 40)
    return bottom - top, right - left, samples


def _judge_segments(frame: bytes) -> None:
    """The header of a frame in RLE (PS3.5 G.5): as many segments as it may have, in order and inside the frame."""
    count, *offsets = unpack_from("<16I", frame)
    used = offsets[:count]
    if not 1 <= count <= _SEGMENTS_MAX or used[0] != 64 or used != sorted(used) or used[-1] > len(frame):
        raise NotAcceptable("the pixels end inside their own header")
