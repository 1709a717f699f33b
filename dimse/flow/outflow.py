"""A message whose data set comes in pieces, cut into P-DATA as the peer takes it, without a copy (PS3.8 9.3.5).

A fragment need not end where a piece ends: what is left over waits for the next piece, so that every PDU but the last
is as long as the peer allows. Knows no socket.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator

from dimse.upper_layer.commands import Command, encode_command
from dimse.upper_layer.outgoing import BUFFERS_A_WRITE
from dimse.upper_layer.pdata import IS_LAST, PDV_HEADER_BYTES, in_p_data
from dimse.upper_layer.pdu import PduType
from gateway.model.errors import Damaged

Buffer = bytes | memoryview
Pieces = AsyncIterator[bytes]

_P_DATA_HEADER = struct.Struct(">BBIIBB")


class Outflow:
    """One message on its way out, with a data set of known length."""

    def __init__(self, context_id: int, command: Command, data_bytes: int, fragment_bytes: int) -> None:
        self._context_id = context_id
        self._fragment_bytes = fragment_bytes
        self._head = [*in_p_data(context_id, encode_command(command), [], fragment_bytes)]
        self._to_come = data_bytes
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self.is_begun = False
        """Whether anything was given out to be sent."""
        self.is_whole = False
        """Whether the last fragment was given out."""

    async def writes(self, pieces: Pieces) -> AsyncIterator[list[Buffer]]:
        """Portions for one write each; none before the first piece is there.

        Raises `Damaged` for a data set that is shorter or longer than announced, and what `pieces` raises.
        """
        async for piece in pieces:
            buffers = [*self._head, *self.cut(piece)]
            self._head.clear()
            for first in range(0, len(buffers), BUFFERS_A_WRITE):
                self.is_begun = True
                yield buffers[first : first + BUFFERS_A_WRITE]
        if not self.is_whole:
            raise Damaged("an instance is shorter than it should be")

    def cut(self, piece: Buffer) -> Iterator[Buffer]:
        """The buffers of all PDUs that this piece fills; with the last piece, of all that is left."""
        self._to_come -= len(piece)
        if self._to_come < 0:
            raise Damaged("an instance is longer than it should be")
        if piece:
            self._waiting.append(memoryview(piece))
            self._waiting_bytes += len(piece)
        while self._waiting_bytes >= self._fragment_bytes:
            yield from self._fragment(self._fragment_bytes)
        if not self._to_come and not self.is_whole:
            yield from self._fragment(self._waiting_bytes)

    def _fragment(self, size: int) -> Iterator[Buffer]:
        self._waiting_bytes -= size
        self.is_whole = not self._to_come and not self._waiting_bytes
        control = IS_LAST if self.is_whole else 0
        yield _P_DATA_HEADER.pack(PduType.P_DATA, 0, size + PDV_HEADER_BYTES, size + 2, self._context_id, control)
        while size:
            source = self._waiting.popleft()
            if len(source) > size:
                self._waiting.appendleft(source[size:])
                source = source[:size]
            size -= len(source)
            yield source
