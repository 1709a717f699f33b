"""A TCP relay on loopback that does to each connection what a plan says, and can be down or deaf altogether.

Runs in the loop of its test. A connection's number is the order of its coming since the latest `behave`; whatever a
plan does is bounded in bytes and time (`faults.py`), and a connection that lives longer than any question is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import assert_never

from tests.peers.faults import GARBAGE, Direction, Fault, Plan, Plans, honest

CONNECTIONS_MAX = 256
_CHUNK_BYTES = 65_536
_TRICKLE_PAUSE_S = 0.002
_CONNECT_TIMEOUT_S = 30.0


class FaultProxy:
    """Stands before one server. `async with`; `port` is where clients connect, and stays the same."""

    def __init__(self, target_port: int = 0) -> None:
        self.target_port = target_port
        """Where the server is; may be set once that is known."""
        self._plans: Plans = honest
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._connections = 0
        self.port = 0
        self.met: Counter[Fault] = Counter()
        """How often each fault really began."""
        self.is_past = asyncio.Event()
        """Set once a fault is over, and what it held back has gone on, since the latest `behave`."""
        self.bytes_passed: Counter[Direction] = Counter()

    async def __aenter__(self) -> FaultProxy:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        await self.hang_up()

    @property
    def connections(self) -> int:
        """How many came since the latest `behave`."""
        return self._connections

    async def behave(self, plans: Plans = honest) -> None:
        """Hang up, and treat connections so from now on; honestly if nothing is said."""
        self._plans = plans
        self._connections = 0
        self.is_past.clear()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Cut every connection."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Nobody listens meanwhile: connections are refused."""
        await self._close()
        await self.hang_up()
        try:
            yield
        finally:
            await self._listen()

    @contextlib.asynccontextmanager
    async def deaf(self) -> AsyncIterator[None]:
        """Meanwhile connections are neither taken nor refused, as behind a firewall that drops them."""
        async with self.down():
            with contextlib.ExitStack() as sockets:
                listener = sockets.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", self.port))
                listener.listen(0)
                for _ in range(2):  # as many as the system lets wait although none may
                    waiting = sockets.enter_context(socket.socket())
                    waiting.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        waiting.connect(("127.0.0.1", self.port))
                yield

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=_CHUNK_BYTES)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        task = asyncio.get_running_loop().create_task(self._served((reader, writer), number, self._plans))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _served(self, client: _Stream, number: int, plans: Plans) -> None:
        try:
            if len(self._open) <= CONNECTIONS_MAX:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    onward = await asyncio.open_connection("127.0.0.1", self.target_port, limit=_CHUNK_BYTES)
                await self._relayed(client, onward, number, plans)
        except (OSError, TimeoutError):
            pass  # nobody is there: whoever connected finds the connection ended
        finally:
            client[1].transport.abort()

    async def _relayed(self, client: _Stream, server: _Stream, number: int, plans: Plans) -> None:
        async def both_ways() -> None:
            async with asyncio.TaskGroup() as ways:
                for source, target, direction in (
                    (client[0], server[1], Direction.ASKING),
                    (server[0], client[1], Direction.ANSWERING),
                ):
                    ways.create_task(self._pumped(source, target, direction, plans(number, direction)))

        try:
            await both_ways()
        except* _Reset:
            _reset(client[1])
        except* (_Cut, OSError):
            pass
        finally:
            server[1].transport.abort()

    async def _pumped(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: Direction, plan: Plan
    ) -> None:
        async def give(content: bytes) -> None:
            self.bytes_passed[direction] += len(content)
            target.write(content)
            await target.drain()

        position = 0
        while content := await source.read(_CHUNK_BYTES):
            before, hit, after = _parted(content, plan, position)
            if hit and position <= plan.after_bytes:
                self.met[plan.fault] += 1
            position += len(content)
            if before:
                await give(before)
            if hit and plan.fault is Fault.HALF_CLOSE:
                break
            if hit:
                await _befall(plan, hit, give)
                self.is_past.set()
            if after:
                await give(after)
        if target.can_write_eof():
            target.write_eof()
        while await source.read(_CHUNK_BYTES):
            pass  # after a half-close the rest is heard and dropped, until that side hangs up as well


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Cut(Exception):
    """The connection is to end."""


class _Reset(Exception):
    """The connection is to end with a reset."""


def _parted(content: bytes, plan: Plan, position: int) -> tuple[bytes, bytes, bytes]:
    """What passes unharmed of bytes that begin at `position`, what the plan hits, and what follows that."""
    if plan.fault is Fault.NONE:
        return content, b"", b""
    begin = min(len(content), max(0, plan.after_bytes - position))
    end = min(len(content), max(begin, plan.after_bytes + max(1, plan.bytes_hit) - position))
    return content[:begin], content[begin:end], content[end:]


async def _befall(plan: Plan, content: bytes, give: Callable[[bytes], Awaitable[None]]) -> None:
    """Do to `content`, which the plan hits, what it says; raises `_Cut` and `_Reset`."""
    match plan.fault:
        case Fault.CUT | Fault.HALF_CLOSE:
            raise _Cut
        case Fault.RESET:
            raise _Reset
        case Fault.STALL:
            await asyncio.sleep(plan.lasts_s)
            raise _Cut
        case Fault.DELAY:
            await asyncio.sleep(plan.lasts_s)
            await give(content)
        case Fault.GARBLE:
            await give(bytes([GARBAGE]) * len(content))
        case Fault.TRICKLE:
            for byte in content:
                await give(bytes([byte]))
                await asyncio.sleep(_TRICKLE_PAUSE_S)
        case Fault.NONE:
            await give(content)
        case _:
            assert_never(plan.fault)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
