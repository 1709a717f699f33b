"""Peers that follow a script on a bare socket: either end of an association, to its last byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits
from dimse.upper_layer.negotiation import negotiate
from dimse.upper_layer.pdu import PduType
from dimse.upper_layer.requestor import associate
from tests.dimse.pair import Listening, RawPeer, answer, proposal

HANG_S = 30.0


class ScriptedPeer(RawPeer):
    """A bare socket that can also say that it has said everything."""

    async def hear_kind(self) -> int:
        """The type of the next PDU; 0: the other end hung up."""
        return (await self.hear())[0]

    async def rest(self) -> bytes:
        """Send no more, and hear what is still said until the other end hangs up as well."""
        with contextlib.suppress(OSError):
            if self._writer.can_write_eof():  # TLS cannot say so
                self._writer.write_eof()
        return await self.until_end()

    async def until_end(self) -> bytes:
        """All that is said until the other end hangs up."""
        try:
            async with asyncio.timeout(HANG_S):
                return await self._reader.read()
        except ConnectionResetError:
            return b""


@contextlib.asynccontextmanager
async def caller(port: int, *, receive_bytes: int = 0) -> AsyncIterator[ScriptedPeer]:
    """A bare connection to an acceptor; with little room for what comes, if that is said."""
    connection = socket.socket()
    connection.setblocking(False)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        yield ScriptedPeer(reader, writer)
    finally:
        writer.transport.abort()


class Called:
    """An association of ours, and the bare socket that it was requested from."""

    def __init__(self, requesting: asyncio.Task[Association], peer: ScriptedPeer, asked: pdu.AssociateRequest) -> None:
        self.requesting = requesting
        self.peer = peer
        self.accept = negotiate(asked, Listening(answer, None, None).offer)
        """What an acceptor would answer."""

    async def established(self) -> Association:
        """Accept."""
        await self.peer.send(self.accept)
        return await self.requesting


@contextlib.asynccontextmanager
async def called(limits: AssociationLimits) -> AsyncIterator[Called]:
    """A bare acceptor that has heard our request and said nothing yet."""
    connected: asyncio.Future[ScriptedPeer] = asyncio.get_running_loop().create_future()

    def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set_result(ScriptedPeer(reader, writer))

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    requesting = asyncio.create_task(
        associate("127.0.0.1", port, proposal(), limits, tls=None, connect_timeout_s=HANG_S)
    )
    peer = await connected
    try:
        kind, body = await peer.hear()
        assert kind == PduType.ASSOCIATE_RQ
        asked = pdu.decode(kind, body)
        assert isinstance(asked, pdu.AssociateRequest)
        yield Called(requesting, peer, asked)
    finally:
        peer.hang_up(with_reset=True)
        server.close()
        await asyncio.gather(requesting, return_exceptions=True)


@contextlib.asynccontextmanager
async def without_a_fault() -> AsyncIterator[None]:
    """Fails if anything reaches the loop's exception handler, or if a task is left over."""
    loop = asyncio.get_running_loop()
    faults: list[str] = []
    before = asyncio.all_tasks()
    loop.set_exception_handler(lambda _loop, context: faults.append(str(context.get("exception", context["message"]))))
    try:
        yield
        async with asyncio.timeout(HANG_S):
            while left := asyncio.all_tasks() - before:
                await asyncio.wait(left)
    finally:
        loop.set_exception_handler(None)
    assert faults == []
