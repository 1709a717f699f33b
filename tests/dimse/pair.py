"""Both ends of an association in one loop, over real sockets: an acceptor that does as a test says, and a requestor."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits, accepting
from dimse.upper_layer.commands import Command, CommandField, encode_command, response
from dimse.upper_layer.messages import Message, SinkFor
from dimse.upper_layer.negotiation import Offer, negotiate, propose
from dimse.upper_layer.pdata import in_p_data
from dimse.upper_layer.requestor import associate

VERIFICATION = "1.2.840.10008.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
SYNTAXES: Mapping[str, tuple[str, ...]] = dict.fromkeys((VERIFICATION, STUDY_FIND, CT), (EXPLICIT, IMPLICIT))
ECHO = Command(CommandField.C_ECHO_RQ, 1, sop_class_uid=VERIFICATION)

Service = Callable[[Association, Message], Awaitable[None]]


async def answer(association: Association, message: Message, status: int = 0) -> None:
    """The final response."""
    await association.send(message.context.context_id, response(message.command, status))
    association.answered(message.command.message_id)


class Listening:
    """An acceptor on loopback; its own `Acceptor`."""

    def __init__(self, service: Service, sink_for: SinkFor | None, reject: pdu.AssociateReject | None) -> None:
        self.service = service
        self.offer = Offer(frozenset({"GATEWAY"}), SYNTAXES)
        self.sink_for = sink_for
        self.takes_inflows = False
        self.reject = reject
        self.port = 0
        self.associations: list[Association] = []
        self.cancelled = asyncio.Event()
        """Set when a service at work was stopped."""

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        """See `Acceptor`."""
        association.sink_for = self.sink_for
        association.takes_inflows = self.takes_inflows
        self.associations.append(association)
        if self.reject is not None:
            return self.reject
        return negotiate(request, self.offer)

    async def serve(self, association: Association) -> None:
        """See `Acceptor`."""
        while True:
            message = await association.receive()
            try:
                await self.service(association, message)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise


@contextlib.asynccontextmanager
async def listening(
    service: Service = answer,
    limits: AssociationLimits | None = None,
    *,
    sink_for: SinkFor | None = None,
    reject: pdu.AssociateReject | None = None,
) -> AsyncIterator[Listening]:
    """An acceptor while the context is open."""
    acceptor = Listening(service, sink_for, reject)
    new_protocol = accepting(acceptor, limits or AssociationLimits())
    server = await asyncio.get_running_loop().create_server(new_protocol, "127.0.0.1", 0)
    acceptor.port = int(server.sockets[0].getsockname()[1])
    try:
        yield acceptor
    finally:
        server.close()
        for association in acceptor.associations:
            association.abort("the test is over")


def proposal(*, pdu_bytes_max: int = 131_072, called: str = "GATEWAY") -> pdu.AssociateRequest:
    """A request for all that the acceptor has."""
    contexts = [(syntax, (IMPLICIT,)) for syntax in SYNTAXES]
    return propose("TESTER", called, contexts, pdu_bytes_max=pdu_bytes_max)


async def associated(port: int, request: pdu.AssociateRequest | None = None) -> Association:
    """An association with the acceptor there."""
    limits = AssociationLimits()
    return await associate("127.0.0.1", port, request or proposal(), limits, tls=None, connect_timeout_s=5)


def context_of(association: Association, abstract_syntax: str) -> int:
    """The accepted context of this abstract syntax."""
    return next(
        number for number, each in association.terms.contexts.items() if each.abstract_syntax == abstract_syntax
    )


class RawPeer:
    """The bare socket of a peer that sends what it likes, for scripts."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *content: bytes | pdu.Pdu) -> None:
        """Send bytes, or PDUs."""
        for each in content:
            self._writer.write(each if isinstance(each, bytes) else pdu.encode(each))
        await self._writer.drain()

    async def hear(self) -> tuple[int, bytes]:
        """The next PDU: type and body; (0, b"") when the other end hung up."""
        try:
            header = await self._reader.readexactly(6)
            return header[0], await self._reader.readexactly(struct.unpack(">I", header[2:])[0])
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return 0, b""

    async def associate(self) -> None:
        """Have an association."""
        await self.send(proposal())
        assert (await self.hear())[0] == pdu.PduType.ASSOCIATE_AC

    def hang_up(self, *, with_reset: bool = False) -> None:
        """Close the connection, in order or not."""
        if with_reset:
            self._writer.transport.abort()
        else:
            self._writer.close()


@contextlib.asynccontextmanager
async def raw_peer(port: int) -> AsyncIterator[RawPeer]:
    """A bare connection to the acceptor."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.close()


def written(command: Command, data: bytes | None = None, context_id: int = 1) -> bytes:
    """A message as P-DATA PDUs."""
    views = [memoryview(data)] if data is not None else []
    return b"".join(in_p_data(context_id, encode_command(command), views, 16_378))
