"""Our own upper layer as a receiver that drops what comes: C-STORE and C-ECHO, as far as a measurement needs them.

`python -m bench.rig.dimse.receiver PDU [CERTIFICATE KEY CA]` listens on a plain port and, given certificates, on a TLS
port as well. The transport, the association and the commands are the product's; only the service is this module's.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from bench.rig.dimse import wire
from dimse.upper_layer.association import Association, AssociationEnded, AssociationLimits, accepting
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Sink
from dimse.upper_layer.negotiation import Context, Offer, negotiate
from dimse.upper_layer.pdu import AssociateAccept, AssociateReject, AssociateRequest

READY = "receiver ready"
_SYNTAXES = (wire.EXPLICIT_LE, wire.IMPLICIT_LE)


class _Discarded:
    """A sink that counts what it drops."""

    def __init__(self) -> None:
        self._bytes = 0

    def write(self, piece: memoryview) -> None:
        self._bytes += len(piece)

    def finish(self) -> int:
        return self._bytes

    def abandon(self) -> None:
        """Nothing was kept."""


class _Receiver:
    """The acceptor of every association."""

    def __init__(self, pdu_bytes_max: int) -> None:
        syntaxes = dict.fromkeys((wire.CT_IMAGE_STORAGE, wire.VERIFICATION), _SYNTAXES)
        self._offer = Offer(frozenset({wire.CALLED}), syntaxes, pdu_bytes_max=pdu_bytes_max)

    async def admit(self, association: Association, request: AssociateRequest) -> AssociateAccept | AssociateReject:
        association.sink_for = _sink_for
        return negotiate(request, self._offer)

    async def serve(self, association: Association) -> None:
        try:
            while True:
                message = await association.receive()
                answer = response(message.command, wire.SUCCESS)
                await association.send(message.context.context_id, answer)
                association.answered(message.command.message_id)
        except AssociationEnded:
            return


def _sink_for(context: Context, command: Command) -> Sink | None:
    return _Discarded() if command.field is CommandField.C_STORE_RQ else None


async def serve(pdu_bytes_max: int, tls: ssl.SSLContext | None) -> None:
    """Receive until the process is ended."""
    factory = accepting(_Receiver(pdu_bytes_max), AssociationLimits())
    loop = asyncio.get_running_loop()
    contexts = [None, tls] if tls else [None]
    servers = [await loop.create_server(factory, "127.0.0.1", 0, ssl=one, backlog=1024) for one in contexts]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print(f"{READY} plain={ports[0]} tls={ports[-1]}", flush=True)
    await loop.create_future()


def _context(certificate: str, private_key: str, ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, private_key)
    return context


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), _context(*sys.argv[2:5]) if len(sys.argv) > 2 else None))
