"""What a worker can do: decode a frame, compress it anew, show it. From a task's head and body to an answer's.

The body of a task is the beginning of the instance as far as its pixels, then the frame. Runs in a worker only.
"""

from __future__ import annotations

import importlib
from io import BytesIO
from types import MappingProxyType

from PIL import Image

from gateway.instances.frames import PixelLayout, pixel_layout
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest
from gateway.pixels import rendering
from gateway.pixels.codecs import Decoded, decoded, encoded, native
from gateway.pixels.wire import Message
from gateway.pixels.wishes import Media, read_wish

_CODECS = ("gdcm", "jpeg_ls", "openjpeg", "rle")


class Tasks:
    """Does tasks, one at a time."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max

    def warm(self) -> None:
        """Load whatever a task may load."""
        for codec in _CODECS:
            importlib.import_module(codec)
        Image.init()
        for media in Media:
            Image.new("L", (1, 1)).save(BytesIO(), media.name)

    def run(self, task: Message) -> Message:
        """The answer to one task; raises what codecs raise."""
        size = task.head.get("head_bytes")
        transfer_syntax = str(task.head.get("transfer_syntax"))
        if not isinstance(size, int):
            raise InvalidRequest("the task does not say where the frame begins")
        head, frame = task.body[:size], task.body[size:]
        layout = pixel_layout(head, transfer_syntax)
        if layout is None:
            raise InvalidRequest("the task does not go as far as the pixels")
        return _TASKS[str(task.head.get("task"))](self, task, layout, head, frame)

    def decode(self, task: Message, layout: PixelLayout, head: bytes, frame: bytes) -> Message:
        """The frame as it is without compression, or in another one."""
        found = self._decoded(frame, layout, as_rgb=False)
        target = str(task.head.get("target"))
        body = (
            native(found, layout.bits_allocated)
            if target == EXPLICIT_VR_LITTLE_ENDIAN
            else encoded(found, layout, target)
        )
        return Message({"photometric_interpretation": found.photometric_interpretation}, body)

    def render(self, task: Message, layout: PixelLayout, head: bytes, frame: bytes) -> Message:
        """The frame as a picture."""
        wish = read_wish(task.head)
        header = rendering.header(head, layout.transfer_syntax, int(str(task.head["number"])))
        found = self._decoded(frame, layout, as_rgb=True)
        return Message({}, rendering.picture(found, wish, header, layout))

    def _decoded(self, frame: bytes, layout: PixelLayout, *, as_rgb: bool) -> Decoded:
        return decoded(frame, layout, frame_bytes_max=self._frame_bytes_max, as_rgb=as_rgb)


_TASKS = MappingProxyType({"decode": Tasks.decode, "render": Tasks.render})
