"""The DIMSE door with images behind it, and one who asks it for them: C-MOVE, C-GET, C-STORE on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from dimse.awaited import Awaiting
from dimse.identifier import EXTENDED as FIND_EXTENDED
from dimse.scp.get_scp import getting
from dimse.scp.move_scp import moving
from dimse.scp.profiles import CallerProfile, MoveDestination
from dimse.scp.retrieve_scp import RetrieveService
from dimse.scp.store_scp import StoreService
from dimse.scp.wishes import EXTENDED, GET_CLASSES, MOVE_CLASSES
from dimse.scu.send import Receiver
from dimse.server import Service
from dimse.sop_classes import STORAGE, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dimse.status import MissingSources
from dimse.upper_layer.association import Association, AssociationLimits
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.pdu import AssociateRequest, ExtendedNegotiation, Roles
from dimse.upper_layer.requestor import associate
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Destination, Retrievals
from gateway.model.work.transfers import Intake
from policy.identity import CallerBinding
from policy.parties import Caller, TrustId
from tests.dimse.door import (
    ALIASES,
    HANG_S,
    IMPLICIT,
    OURS,
    PACS,
    THEIRS,
    WORKSTATION,
    Doorkeeper,
    House,
    Shelf,
    opened,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
RZ1 = TrustId("RZ1")
EVERY_LIMIT = Limits()
KNOWN = frozenset({THEIRS, "OTHERS_PACS"})
"""Destinations that somebody may name."""


def profile_for(*destinations: MoveDestination, missing: MissingSources = MissingSources.COMMENT) -> CallerProfile:
    """A caller that may name these destinations."""
    return CallerProfile(missing, destinations={each.receiver.ae_title: each for each in destinations})


def destination(port: int, ae_title: str = THEIRS, trust: TrustId = RZ1, associations_max: int = 1) -> MoveDestination:
    """A destination on this machine."""
    return MoveDestination(Destination(ae_title, trust), Receiver(ae_title, "127.0.0.1", port, OURS), associations_max)


@dataclass
class Lending:
    """An open door."""

    house: House
    move: RetrieveService
    awaiting: Awaiting
    senders: list[Caller]
    """Who pushed, for each instance."""


@contextlib.asynccontextmanager
async def lending(
    retrievals: Retrievals,
    profile: CallerProfile,
    *,
    intake: Intake | None = None,
    limits: Limits = EVERY_LIMIT,
    callers: Sequence[CallerBinding] = (PACS,),
    keeper: Doorkeeper | None = None,
) -> AsyncIterator[Lending]:
    """A door that gives and takes images while the context is open."""

    def of(_caller: object) -> CallerProfile:
        return profile

    awaiting = Awaiting()
    move, get = (
        RetrieveService(command, retrievals, carrier_for, of, limits, addressed=ALIASES.get)
        for command, carrier_for in (
            (CommandField.C_MOVE_RQ, moving(limits, lambda: KNOWN)),
            (CommandField.C_GET_RQ, getting(limits)),
        )
    )
    services: dict[str, Service] = {**dict.fromkeys(MOVE_CLASSES, move), **dict.fromkeys(GET_CLASSES, get)}
    senders: list[Caller] = []

    def reception(caller: Caller) -> Intake:
        assert intake is not None, "nothing is pushed in this test"
        senders.append(caller)
        return intake

    services |= dict.fromkeys(STORAGE, StoreService(awaiting, reception))
    async with opened(
        Shelf(),
        keeper or Doorkeeper(*callers),
        profile,
        limits=limits,
        services=services,
        extended={**FIND_EXTENDED, **EXTENDED},
        scp_roles=STORAGE,
        takes_inflows=True,
    ) as house:
        try:
            yield Lending(house, move, awaiting, senders)
        finally:
            move.close()


def asking(*contexts: tuple[str, tuple[str, ...]], relational: bool = False, calling: str = THEIRS) -> AssociateRequest:
    """A request for C-MOVE and C-GET, with these storage contexts in the role of SCP."""
    models = (STUDY_ROOT_MOVE, STUDY_ROOT_GET, *MOVE_CLASSES[1:2], *GET_CLASSES[1:2])
    return propose(
        calling,
        OURS,
        [*((uid, (IMPLICIT,)) for uid in models), *contexts],
        pdu_bytes_max=131_072,
        roles=[Roles(uid, False, True) for uid, _ in contexts],
        extended=[ExtendedNegotiation(uid, b"\1\0") for uid in models] if relational else (),
        implementation_class_uid=WORKSTATION,
    )


@dataclass
class Told:
    """All that the caller was told."""

    pending: list[Command]
    last: Command
    failed_uids: list[str]

    @property
    def counts(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Remaining, completed, failed and warning of the last response."""
        last = self.last
        return last.remaining, last.completed, last.failed, last.warning

    @property
    def end(self) -> tuple[int | None, str]:
        """The final status and its comment."""
        return self.last.status, self.last.error_comment


class Borrower:
    """One who asks for images."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.received: dict[str, bytes] = {}
        """What came by C-GET."""
        self.answers: Mapping[str, int] = {}
        """Statuses with which C-STORE is answered, by SOP Instance UID; 0000 unless said."""
        self.pending: list[Command] = []
        self.heard = asyncio.Condition()

    async def ask(self, identifier: Dataset, model: str = STUDY_ROOT_MOVE, to: str = THEIRS, priority: int = 0) -> int:
        """Ask and do not wait; the message id."""
        field = CommandField.C_MOVE_RQ if model in MOVE_CLASSES else CommandField.C_GET_RQ
        message_id = self.association.next_message_id()
        command = Command(field, message_id, sop_class_uid=model, has_data=True, priority=priority)
        if field is CommandField.C_MOVE_RQ:
            command = replace(command, move_destination=to)
        body = encode(identifier, True, True)
        assert body is not None
        await self.association.send(self._context(model), command, body)
        return message_id

    async def cancel(self, message_id: int, model: str = STUDY_ROOT_MOVE) -> None:
        """Send C-CANCEL."""
        await self.association.send(self._context(model), Command(CommandField.C_CANCEL_RQ, message_id))

    async def hear(self) -> Told:
        """Every response until the last; C-STORE is answered in between."""
        self.pending = []
        async with asyncio.timeout(HANG_S):
            while True:
                message = await self.association.receive()
                command = message.command
                if command.field is CommandField.C_STORE_RQ:
                    self.received[command.sop_instance_uid] = message.data_set
                    status = self.answers.get(command.sop_instance_uid, 0)
                    await self.association.send(message.context.context_id, response(command, status))
                    self.association.answered(command.message_id)
                elif command.is_pending:
                    self.pending.append(command)
                    async with self.heard:
                        self.heard.notify_all()
                else:
                    return Told(self.pending, command, _failed(message.data_set) if command.has_data else [])

    async def until_pending(self) -> None:
        """Wait until a further pending response was heard."""
        async with asyncio.timeout(HANG_S), self.heard:
            await self.heard.wait()

    async def retrieve(self, identifier: Dataset, model: str = STUDY_ROOT_MOVE, to: str = THEIRS) -> Told:
        """Ask and wait for the end."""
        message_id = await self.ask(identifier, model, to)
        told = await self.hear()
        assert told.last.message_id == message_id
        return told

    def _context(self, abstract_syntax: str) -> int:
        contexts = self.association.terms.contexts
        return next(number for number, each in contexts.items() if each.abstract_syntax == abstract_syntax)


@contextlib.asynccontextmanager
async def borrower(port: int, request: AssociateRequest | None = None) -> AsyncIterator[Borrower]:
    """An association with the door on this port."""
    association = await associate(
        "127.0.0.1", port, request or asking(), AssociationLimits(), tls=None, connect_timeout_s=HANG_S
    )
    try:
        yield Borrower(association)
    finally:
        association.abort()


def _failed(body: bytes) -> list[str]:
    value = decode(BytesIO(body), True, True).FailedSOPInstanceUIDList
    return [str(value)] if isinstance(value, str) else [str(uid) for uid in value]
