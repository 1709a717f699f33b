"""Pictures of frames for those who have no viewer (PS3.18 8.3.5 and 10.4.1.1.3). Made by workers, never here."""

from __future__ import annotations

from functools import partial

from gateway.model.errors import NotAcceptable
from gateway.pixels.pool import Pool
from gateway.pixels.source import PixelSource
from gateway.pixels.wire import Head
from gateway.pixels.wishes import PictureWish


async def picture(pool: Pool, source: PixelSource, number: int, wish: PictureWish) -> bytes:
    """Frame `number`, from 1 on, as a picture.

    Raises `NotFound` for a frame that there is not, `NotAcceptable` for pixels that nothing decodes or that are beyond
    the limits, `InvalidRequest` for an instance that cannot be true, `OverCapacity`.
    """
    layout = source.layout
    if max(layout.frame_bytes, layout.rows * layout.columns) > pool.limits.frame_bytes_max:
        raise NotAcceptable("a frame of the instance is larger than is decoded")
    (frame,) = await source.frames((number,))
    if frame.data_bytes > pool.limits.frame_bytes_max:
        raise NotAcceptable("a frame of the instance is larger than is decoded")
    head: Head = {"task": "render", "transfer_syntax": source.transfer_syntax, "head_bytes": len(source.head)}
    answer = await pool.run(head | wish.head() | {"number": number}, partial(source.task_bytes, frame))
    return answer.body
