"""An end of an association without a socket: bytes go in as a test cuts them, bytes come out, and the end is seen."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Iterable

from dimse.upper_layer import pdu
from dimse.upper_layer.pdu import PduType

TURNS = 12
"""Enough for a request to be admitted, asked and answered where nobody has to be waited for."""
TURNS_MAX = 200


class Stream(asyncio.Transport):
    """The transport, and the peer at its other end."""

    def __init__(self, protocol: asyncio.BufferedProtocol, port: int = 0) -> None:
        super().__init__({"peername": ("127.0.0.1", port)})
        self._protocol = protocol
        self._waiting: list[bytes] = []
        self._is_paused = self._is_closing = self._is_lost = self._is_ended = False
        self.said = bytearray()
        """Everything that came out."""
        protocol.connection_made(self)

    # For the peer.

    def feed(self, *pieces: bytes) -> None:
        """Bytes arrive, in these pieces."""
        self._waiting += pieces
        self._deliver()

    def end(self) -> None:
        """The peer has hung up, once what it sent is read."""
        self._is_ended = True
        self._deliver()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._is_lost

    def pdus(self) -> list[tuple[int, bytes]]:
        """What came out, by PDU; fails if that is not whole PDUs that an honest peer can read."""
        found, at = [], 0
        while at < len(self.said):
            kind, length = struct.unpack_from(">BxI", self.said, at)
            body = bytes(self.said[at + 6 : at + 6 + length])
            assert len(body) == length
            if kind != PduType.P_DATA:
                pdu.decode(kind, body)
            found.append((kind, body))
            at += 6 + length
        return found

    # For the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self.said += data

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            asyncio.get_running_loop().call_soon(self._deliver)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def _deliver(self) -> None:
        while self._waiting and not self._is_paused and not self._is_closing:
            piece = self._waiting.pop(0)
            buffer = self._protocol.get_buffer(len(piece))
            buffer[: len(piece)] = piece  # type: ignore[index]  # a memoryview, as Wire has it
            self._protocol.buffer_updated(len(piece))
        if self._is_ended and not self._is_paused and not self._is_closing:
            self._protocol.eof_received()
            self.close()

    def _lose(self) -> None:
        self._is_lost = True
        self._protocol.connection_lost(None)


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream in pieces, cut at these places."""
    edges = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges) if start < end]


async def turns() -> None:
    """Let whoever has something to do do it."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def settled(before: set[asyncio.Task[object]]) -> None:
    """Give every task its turns until all that were begun since are done; fails if one never is."""
    for _ in range(TURNS_MAX):
        await asyncio.sleep(0)
        if not asyncio.all_tasks() - before:
            return
    raise AssertionError(f"still at work: {asyncio.all_tasks() - before}")
