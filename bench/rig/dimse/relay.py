"""A relay that only carries bytes: the floor of what a second hop costs, with nothing looked at on the way.

`python -m bench.rig.dimse.relay PORT` listens on a port of its own and connects to that one. Asyncio like the gateway,
so that the difference between the two is the gateway's work and not the loop's.
"""

from __future__ import annotations

import asyncio
import sys

READY = "relay ready"


class _End(asyncio.Protocol):
    """One end of a carried connection; what comes in here goes out at the other."""

    def __init__(self) -> None:
        self.other: asyncio.Transport | None = None
        self.early = b""

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        else:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class _Front(_End):
    """The caller's end: opens the other one."""

    def __init__(self, port: int, opening: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._port = port
        self._opening = opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        task = asyncio.get_running_loop().create_task(self._open(transport))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, caller: asyncio.Transport) -> None:
        back = _End()
        back.other = caller
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: back, "127.0.0.1", self._port)
        self.other = transport
        if caller.is_closing():
            transport.close()
        transport.write(self.early)


async def serve(port: int) -> None:
    """Carry until the process is ended."""
    opening: set[asyncio.Task[None]] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Front(port, opening), "127.0.0.1", 0)
    print(f"{READY} port={server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
