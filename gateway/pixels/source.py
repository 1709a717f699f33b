"""An instance whose pixels are wanted, read by ranges from wherever it is kept: its header, and one frame at a time.

Reads as much of the beginning as it takes to know where the pixels are, and then only the bytes of frames. A deflated
instance has no ranges: it is inflated whole, within limits. Knows no cache.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.instances.deflation import INFLATED_BYTES_MAX, inflated
from gateway.instances.frames import HEADER_BYTES_MAX, Frame, PixelLayout, Read, frames, pixel_layout
from gateway.instances.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest

_FIRST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PixelSource:
    """One instance with pixels."""

    layout: PixelLayout
    head: bytes
    """The data set as far as the first byte of its pixels."""
    data_bytes: int
    read: Read

    @property
    def transfer_syntax(self) -> str:
        """How what `read` gives is written."""
        return self.layout.transfer_syntax

    async def frames(self, numbers: Collection[int] = ()) -> Sequence[Frame]:
        """Where these frames are, or all; raises `NotFound`, `InvalidRequest`."""
        return await frames(self.layout, self.read, numbers)

    async def frame_bytes(self, frame: Frame) -> list[bytes]:
        """The bytes of a frame. Raises `InvalidRequest` where there are fewer than it says."""
        found = [await self.read(piece.first, piece.data_bytes) for piece in frame.pieces]
        if sum(len(piece) for piece in found) != frame.data_bytes:
            raise InvalidRequest("the instance ends inside its pixels")
        return found

    async def task_bytes(self, frame: Frame) -> list[bytes]:
        """What a worker needs of the instance for one frame: its beginning, and the frame."""
        return [self.head, *await self.frame_bytes(frame)]


async def pixel_source(transfer_syntax: str, data_bytes: int, read: Read) -> PixelSource:
    """An instance of so many bytes; raises `NotFound` where it has no pixels, `InvalidRequest` where it cannot be."""
    if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        if data_bytes > INFLATED_BYTES_MAX:
            raise InvalidRequest(f"the deflated instance is longer than {INFLATED_BYTES_MAX} bytes")
        whole = inflated(await read(0, data_bytes))
        transfer_syntax, data_bytes, read = EXPLICIT_VR_LITTLE_ENDIAN, len(whole), _reader(whole)
    wanted = _FIRST_BYTES
    while True:
        head = await read(0, min(wanted, data_bytes))
        layout = pixel_layout(head, transfer_syntax, is_whole=wanted >= data_bytes)
        if layout is not None:
            return PixelSource(layout, head[: layout.first], data_bytes, read)
        wanted = min(4 * wanted, HEADER_BYTES_MAX)


def _reader(whole: bytes) -> Read:
    async def read(first: int, size: int) -> bytes:
        return whole[first : first + size]

    return read
