"""Fetching images from an archive through the connector, and the door at which they arrive by C-MOVE."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace

from dimse.awaited import Awaiting, Originator
from dimse.connector import DimsePeer, DimsePeerProfile, FetchBy, Quirk
from dimse.flow.storing import let_go, take_in
from dimse.sop_classes import STORAGE, TRANSFER_SYNTAXES
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits, accepting
from dimse.upper_layer.commands import Command, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Offer, negotiate
from gateway.model.imaging import Level
from gateway.model.settings import Limits
from gateway.model.work.transfers import FetchRequest, InstanceRef, Intake, Target
from policy.parties import TrustId
from tests.dimse.items import MemoryItem

EASTVALE = TrustId("RZ2")
GATEWAY = "GATEWAY"
LIMITS = replace(Limits(), retrieve_idle_timeout_s=20.0, retrieve_total_timeout_s=60.0)
HANG_S = 60.0


@dataclass(frozen=True)
class Archive:
    """Where an archive is, and what it holds."""

    port: int
    called: str
    items: Sequence[MemoryItem] = ()
    secure: ssl.SSLContext | None = None

    def of_study(self, study_uid: str) -> list[MemoryItem]:
        """What it holds of a study."""
        return [item for item in self.items if item.ref.study_uid == study_uid]


def wanting(*refs: InstanceRef) -> FetchRequest:
    """An errand for these instances of one study."""
    return FetchRequest(EASTVALE, Target(Level.STUDY, refs[0].study_uid), "request-1", 1, refs)


def all_of(study_uid: str, *series_uids: str) -> FetchRequest:
    """An errand for everything of a study, or of some of its series."""
    level = Level.SERIES if series_uids else Level.STUDY
    return FetchRequest(EASTVALE, Target(level, study_uid, series_uids), "request-1", 1)


@contextlib.asynccontextmanager
async def peer(
    archive: Archive, by: FetchBy, *quirks: Quirk, limits: Limits = LIMITS, awaiting: Awaiting | None = None
) -> AsyncIterator[DimsePeer]:
    """The connector to an archive."""
    profile = DimsePeerProfile(
        EASTVALE, "127.0.0.1", archive.port, archive.called, GATEWAY, quirks=frozenset(quirks), fetch=by
    )
    connector = DimsePeer(profile, limits, archive.secure, awaiting=awaiting)
    try:
        yield connector
    finally:
        await connector.close()


async def fetched(connector: DimsePeer, request: FetchRequest, intake: Intake) -> None:
    """Fetch, within reason."""
    async with asyncio.timeout(HANG_S):
        await connector.fetch(request, intake)


class ImageDoor:
    """An acceptor that takes C-STORE for whoever waits; its own `Acceptor`."""

    def __init__(self, awaiting: Awaiting) -> None:
        self.awaiting = awaiting
        self.pushed: list[str] = []
        """What nobody waited for."""
        self.port = 0
        self._offer = Offer(frozenset({GATEWAY}), dict.fromkeys(STORAGE, TRANSFER_SYNTAXES), scp_roles=STORAGE)
        self.associations: list[Association] = []

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        """See `Acceptor`."""
        association.takes_inflows = True
        self.associations.append(association)
        return negotiate(request, self._offer)

    async def serve(self, association: Association) -> None:
        """See `Acceptor`."""
        while True:
            message = await association.receive()
            status = await self._taken(association, message)
            await association.send(message.context.context_id, response(message.command, status))
            association.answered(message.command.message_id)

    async def _taken(self, association: Association, message: Message) -> int:
        command = message.command
        intake = self.awaiting.intake_for(EASTVALE, command.sop_instance_uid, _originator(command))
        if intake is None:
            self.pushed.append(command.sop_instance_uid)
            await let_go(association, message)
            return 0x0124
        return 0 if await take_in(association, message, intake) is None else 0xA700


@contextlib.asynccontextmanager
async def image_door(port: int) -> AsyncIterator[ImageDoor]:
    """The door at this port while the context is open."""
    door = ImageDoor(Awaiting())
    server = await asyncio.get_running_loop().create_server(accepting(door, AssociationLimits()), "127.0.0.1", port)
    door.port = int(server.sockets[0].getsockname()[1])
    try:
        yield door
    finally:
        server.close()
        for association in door.associations:
            association.abort("the test is over")


def uids(items: Collection[MemoryItem]) -> set[str]:
    """Their SOP Instance UIDs."""
    return {item.ref.sop_uid for item in items}


def _originator(command: Command) -> Originator | None:
    if command.move_originator_message_id is None:
        return None
    return Originator(command.move_originator_ae_title, command.move_originator_message_id)
