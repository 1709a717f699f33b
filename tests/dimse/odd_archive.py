"""An archive on loopback that answers C-GET and C-MOVE as a test's script says, instance by instance."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from dimse.awaited import Originator
from dimse.elements import Reading, decode_dataset
from dimse.scu.send import Receiver, Sender
from dimse.scu.store import Outcome, store
from dimse.sop_classes import EXPLICIT_VR_LITTLE_ENDIAN, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits, accepting
from dimse.upper_layer.commands import response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Offer, negotiate
from gateway.model.imaging import Attributes
from gateway.model.settings import Limits
from gateway.model.work.transfers import InstanceRef
from tests.dimse.fetching import GATEWAY, Archive
from tests.dimse.items import MemoryItem

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
TITLE = "ARCHIVE"


def image(number: int, size: int = 20_000, sop_class: str = CT) -> MemoryItem:
    """An image of the one series, as far as anybody on the wire can see."""
    content = number.to_bytes(2, "big") * (size // 2)
    return MemoryItem(InstanceRef("1.2", "1.2.3", f"1.2.3.{number}", sop_class), EXPLICIT_VR_LITTLE_ENDIAN, content)


@dataclass
class Asking:
    """One C-GET or C-MOVE that the archive has to answer."""

    association: Association
    message: Message

    async def send(self, item: MemoryItem) -> Outcome:
        """Send an image on the association that asked."""
        return await store(self.association, item, we_are_requestor=False)

    async def say(self, status: int, **counts: int) -> None:
        """A response."""
        command = replace(response(self.message.command, status), **counts)  # type: ignore[arg-type]  # numbers
        await self.association.send(self.message.context.context_id, command)

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when it is cancelled."""
        return self.association.cancelled(self.message.command.message_id)


Script = Callable[[Asking], Awaitable[None]]


@dataclass
class OddArchive:
    """Its own `Acceptor`."""

    script: Script
    offered: Sequence[str] = (STUDY_ROOT_GET, STUDY_ROOT_MOVE)
    takes_roles: bool = True
    associations_max: int = 16
    port: int = 0
    asked: list[Attributes] = field(default_factory=list)
    """Identifiers, oldest first."""
    requests: list[pdu.AssociateRequest] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)

    @property
    def place(self) -> Archive:
        """Where it is."""
        return Archive(self.port, TITLE)

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        """See `Acceptor`."""
        self.requests.append(request)
        self.associations.append(association)
        if sum(each.is_open for each in self.associations[:-1]) >= self.associations_max:
            return pdu.LOCAL_LIMIT_EXCEEDED
        syntaxes = dict.fromkeys((*self.offered, CT, MR), (EXPLICIT_VR_LITTLE_ENDIAN,))
        roles = frozenset({CT, MR}) if self.takes_roles else frozenset()
        return negotiate(request, Offer(frozenset({TITLE}), syntaxes, scp_roles=roles))

    async def serve(self, association: Association) -> None:
        """See `Acceptor`."""
        while True:
            message = await association.receive()
            self.asked.append(decode_dataset(message.data_set, message.context.transfer_syntax, Reading()))
            await self.script(Asking(association, message))
            association.answered(message.command.message_id)


@contextlib.asynccontextmanager
async def odd_archive(script: Script, *, offered: Sequence[str] = (STUDY_ROOT_GET,)) -> AsyncIterator[OddArchive]:
    """The archive while the context is open."""
    archive = OddArchive(script, offered)
    server = await asyncio.get_running_loop().create_server(accepting(archive, AssociationLimits()), "127.0.0.1", 0)
    archive.port = int(server.sockets[0].getsockname()[1])
    try:
        yield archive
    finally:
        server.close()
        for association in archive.associations:
            association.abort("the test is over")


async def moved(port: int, *items: MemoryItem, originator: Originator | None = None) -> list[Outcome]:
    """Send images to our door, as an archive does that was asked by C-MOVE."""
    receiver = Receiver(GATEWAY, "127.0.0.1", port, TITLE)
    async with Sender(receiver, {item.ref.sop_class_uid for item in items}, Limits(), originator=originator) as sender:
        return [await sender.send(item) for item in items]
