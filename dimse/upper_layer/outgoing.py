"""Messages on their way out: cut into P-DATA, and put together into as few writes as possible. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dimse.upper_layer.commands import Command, encode_command
from dimse.upper_layer.pdata import in_one_piece, in_p_data

WRITE_BYTES = 1024 * 1024
"""About what is handed to the network at once; a longer message waits for the peer in between."""
SHORT_BYTES_MAX = 8 * 1024
"""A data set of no more is copied behind its command: cheaper than two more buffers."""
BUFFERS_A_WRITE = 512
"""Half of what Linux takes in one `writev`."""

Data = bytes | bytearray | memoryview
Outgoing = tuple[Command, Data | Sequence[Data] | None]
"""A command, and its data set in one piece or in several."""


def writes(context_id: int, messages: Iterable[Outgoing], fragment_bytes: int) -> Iterator[list[bytes | memoryview]]:
    """The messages' P-DATA in portions for one write each."""
    portion: list[bytes | memoryview] = []
    size = 0
    short_max = min(SHORT_BYTES_MAX, fragment_bytes)
    last: Command | None = None
    encoded = b""
    for command, data in messages:
        if command is not last:
            # The rows of an answer share one command.
            last, encoded = command, encode_command(command)
        if len(encoded) <= fragment_bytes and (data is None or (isinstance(data, bytes) and len(data) <= short_max)):
            buffers: Iterable[bytes | memoryview] = (in_one_piece(context_id, encoded, data),)
        else:
            buffers = in_p_data(context_id, encoded, _views(data), fragment_bytes)
        for buffer in buffers:
            portion.append(buffer)
            size += len(buffer)
            if size >= WRITE_BYTES or len(portion) >= BUFFERS_A_WRITE:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion


def _views(data: Data | Sequence[Data] | None) -> list[memoryview]:
    if data is None:
        return []
    if isinstance(data, bytes | bytearray | memoryview):
        return [memoryview(data)]
    return [memoryview(piece) for piece in data]
