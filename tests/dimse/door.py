"""The DIMSE door on loopback with a finder that answers as a test says, and a client to ask it.

The directory, the service and the association are the real ones; identifiers are written and read by pydicom.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from dimse.flow.asked import Asked
from dimse.identifier import EXTENDED
from dimse.scp.find_scp import FIND_CLASSES, FindService, FindsMatches
from dimse.scp.profiles import CallerProfile
from dimse.server import DimseDoor, Identifies, Service
from dimse.status import MissingSources
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association, AssociationLimits, accepting
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.messages import SinkFor
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.requestor import associate
from gateway.model.errors import GatewayError, NotIdentified
from gateway.model.imaging import Match, Matches, Query, Source
from gateway.model.settings import Limits
from gateway.sharing.directory import Directory
from policy.identity import CallerBinding, Evidence
from policy.parties import Caller, TrustId
from tests.clock import FakeClock

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT, PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.1.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
OURS, THEIRS = "GATEWAY", "RZ1_PACS"
WORKSTATION = "2.25.271828182845904523536"
"""Implementation Class UID of the client here, which is no gateway."""
PACS = CallerBinding("rz1-pacs", TrustId("RZ1"), loopback_only=True, ae_titles=(THEIRS,))
ALIASES = {"RZ2_ONLY": TrustId("RZ2")}
COMMENT = CallerProfile(MissingSources.COMMENT)
START_VALUES = Limits()
HANG_S = 30.0


class Shelf:
    """A finder that gives what lies on it."""

    def __init__(self, *rows: Match, sources: tuple[Source, ...] = (), truncated_at: int | None = None) -> None:
        self.answer = Matches(rows, sources, truncated_at=truncated_at)
        self.error: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_asked = asyncio.Event()
        self.is_stopped = asyncio.Event()
        """Whether a question was given up."""
        self.asked: list[tuple[Caller, Query]] = []

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """See `FindsMatches`."""
        self.asked.append((caller, query))
        self.is_asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.is_stopped.set()
            raise
        if self.error is not None:
            raise self.error
        return self.answer


class Doorkeeper:
    """Identifies by the real directory, and keeps what was shown by those who are nobody."""

    def __init__(self, *callers: CallerBinding) -> None:
        self.directory = Directory([], callers)
        self.strangers: list[Evidence] = []
        self.error: GatewayError | None = None
        """What happens instead, such as an audit that cannot be written."""

    async def identified(self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0) -> Caller:
        """See `Identifies`."""
        if self.error is not None:
            raise self.error
        try:
            return self.directory.identify(evidence, purpose, request_id, hops)
        except NotIdentified:
            self.strangers.append(evidence)
            raise


@dataclass
class Tally:
    """Figures, kept."""

    open: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    answered: list[tuple[str, int]] = field(default_factory=list)

    def association_opened(self) -> None:
        """See `CountsAssociations`."""
        self.open += 1

    def association_closed(self) -> None:
        """See `CountsAssociations`."""
        self.open -= 1

    def association_refused(self, reason: str) -> None:
        """See `CountsAssociations`."""
        self.refused[reason] += 1

    def request_answered(self, command: str, status: int, duration_s: float) -> None:
        """See `CountsAssociations`."""
        self.answered.append((command, status))


@dataclass
class House:
    """An open door."""

    door: DimseDoor
    port: int
    figures: Tally


@contextlib.asynccontextmanager
async def opened(
    finder: FindsMatches,
    directory: Identifies,
    profile: CallerProfile = COMMENT,
    *,
    limits: Limits = START_VALUES,
    services: Mapping[str, Service] | None = None,
    aliases: Mapping[str, TrustId] = ALIASES,
    sink_for: SinkFor | None = None,
    secure: ssl.SSLContext | None = None,
    extended: Mapping[str, bytes] = EXTENDED,
    scp_roles: Collection[str] = (),
    takes_inflows: bool = False,
    reports: Mapping[str, Service] | None = None,
    asked: Asked | None = None,
) -> AsyncIterator[House]:
    """A door that is open while the context is."""
    find = FindService(finder, lambda _: profile, limits, ae_title=OURS, addressed=aliases.get)
    numbers = itertools.count(1)
    figures = Tally()
    door = DimseDoor(
        directory,
        {**dict.fromkeys(FIND_CLASSES, find), **(services or {})},
        limits,
        figures,
        FakeClock(),
        ae_title=OURS,
        extended=extended,
        new_id=lambda: f"request-{next(numbers)}",
        calling_titles=lambda: PACS.ae_titles,
        aliases=lambda: aliases,
        sink_for=sink_for,
        scp_roles=scp_roles,
        takes_inflows=takes_inflows,
        reports=reports or {},
        asked=asked,
    )
    new_protocol = accepting(door, AssociationLimits())
    server = await asyncio.get_running_loop().create_server(new_protocol, "127.0.0.1", 0, ssl=secure)
    try:
        yield House(door, int(server.sockets[0].getsockname()[1]), figures)
    finally:
        server.close()
        door.close()
        async with asyncio.timeout(HANG_S):
            await door.stop()


def proposal(
    *abstract_syntaxes: str,
    calling: str = THEIRS,
    called: str = OURS,
    syntaxes: tuple[str, ...] = (EXPLICIT, IMPLICIT),
    pdu_bytes_max: int = 131_072,
    identity: pdu.UserIdentity | None = None,
    implementation_class_uid: str = WORKSTATION,
) -> pdu.AssociateRequest:
    """A request for an association; for C-ECHO and every query model unless it says other."""
    contexts = [(uid, syntaxes) for uid in abstract_syntaxes or (VERIFICATION, *FIND_CLASSES)]
    return propose(
        calling,
        called,
        contexts,
        pdu_bytes_max=pdu_bytes_max,
        identity=identity,
        implementation_class_uid=implementation_class_uid,
    )


@contextlib.asynccontextmanager
async def client(
    port: int, request: pdu.AssociateRequest | None = None, secure: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    """An association with the door on this port; raises what `associate` does."""
    limits = AssociationLimits()
    association = await associate(
        "127.0.0.1", port, request or proposal(), limits, tls=secure, connect_timeout_s=HANG_S
    )
    try:
        yield Client(association)
    finally:
        association.abort()


@dataclass
class Answer:
    """All responses to one request."""

    rows: list[Dataset]
    pending: list[int]
    """The status that came with each row."""
    last: Command

    @property
    def end(self) -> tuple[int | None, str]:
        """The final status and its comment."""
        return self.last.status, self.last.error_comment


class Client:
    """One who asks."""

    def __init__(self, association: Association) -> None:
        self.association = association

    def context(self, abstract_syntax: str) -> int:
        """The accepted context of it."""
        contexts = self.association.terms.contexts
        return next(number for number, each in contexts.items() if each.abstract_syntax == abstract_syntax)

    async def echo(self) -> int | None:
        """The status of a C-ECHO."""
        command = Command(CommandField.C_ECHO_RQ, self.association.next_message_id(), sop_class_uid=VERIFICATION)
        await self.association.send(self.context(VERIFICATION), command)
        return (await self.hear()).last.status

    async def ask(self, identifier: Dataset | bytes, model: str = STUDY_ROOT, message_id: int | None = None) -> int:
        """Ask and do not wait; the message id."""
        number = self.context(model)
        syntax = self.association.terms.contexts[number].transfer_syntax
        body = identifier if isinstance(identifier, bytes) else encode(identifier, syntax == IMPLICIT, True)
        assert body is not None
        message_id = message_id or self.association.next_message_id()
        command = Command(CommandField.C_FIND_RQ, message_id, sop_class_uid=model, has_data=True, priority=0)
        await self.association.send(number, command, body)
        return message_id

    async def cancel(self, message_id: int, model: str = STUDY_ROOT) -> None:
        """Send C-CANCEL."""
        await self.association.send(self.context(model), Command(CommandField.C_CANCEL_RQ, message_id))

    async def hear(self, on_row: Callable[[int], Awaitable[None]] | None = None) -> Answer:
        """Every response until the last; `on_row` is told the number of each row."""
        rows: list[Dataset] = []
        pending: list[int] = []
        async with asyncio.timeout(HANG_S):
            while True:
                message = await self.association.receive()
                command = message.command
                if not command.is_pending:
                    assert command.status is not None and not command.has_data
                    return Answer(rows, pending, command)
                is_implicit = message.context.transfer_syntax == IMPLICIT
                rows.append(decode(BytesIO(message.data_set), is_implicit, True))
                pending.append(command.status or 0)
                if on_row is not None:
                    await on_row(len(rows))

    async def find(self, identifier: Dataset | bytes, model: str = STUDY_ROOT) -> Answer:
        """Ask and wait for the whole answer."""
        message_id = await self.ask(identifier, model)
        answer = await self.hear()
        assert answer.last.message_id == message_id and answer.last.field is CommandField.C_FIND_RSP
        return answer


def identifier(level: str, **keys: object) -> Dataset:
    """An identifier; keys by their keywords, None for a key without a value."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value if value is not None else "")
    return dataset
