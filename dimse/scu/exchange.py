"""One C-FIND or C-ECHO as service class user, on one association: a request, its responses, and how it ended.

Believes nothing but responses to its own request, in its own context, at the level that was asked, each with a data set
that can be read; whatever else comes is a `PeerProtocolError`, and the association is not used again. Every answer is
bounded in rows and bytes. PS3.4 C.4.1, PS3.7 9.1.2, 9.1.5 and 9.3.2.3.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from dimse.elements import RowDecoder
from dimse.scu.pool import Lease
from dimse.scu.questions import first_text
from dimse.status import peer_failure
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Context
from gateway.instances.encoding.structure import DatasetError
from gateway.model.asking import DistinctRows
from gateway.model.errors import PeerProtocolError
from gateway.model.imaging import Attributes, Level
from policy.parties import TrustId

QUERY_RETRIEVE_LEVEL = "00080052"
_SUCCESS, _CANCELLED = 0x0000, 0xFE00
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})
_MEDIUM = 0x0000
_RESPONSE_BYTES = 128
"""What a response counts beside its data set: an archive that sends empty ones for ever sends too much as well."""
_ROWS_AT_ONCE = 100
"""Rows read without leaving the loop to others: some two milliseconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request under way on an association."""

    trust: TrustId
    association: Association
    context: Context
    message_id: int
    answered_by: CommandField

    def check(self, message: Message) -> int:
        """The status of a response to this; raises `PeerProtocolError` for anything else."""
        command = message.command
        if (
            command.field is not self.answered_by
            or command.message_id != self.message_id
            or message.context.context_id != self.context.context_id
            or command.status is None
        ):
            raise PeerProtocolError(self.trust, "the archive answered something that was not asked")
        return command.status


@dataclass(frozen=True, slots=True)
class Asking:
    """One C-FIND as it is sent, and how its answer is read."""

    trust: TrustId
    context: Context
    level: Level
    identifier: bytes
    decoder: RowDecoder
    rows_max: int
    cancel_timeout_s: float | None
    """Time for the archive to end a query that we cancel; None: it is aborted instead."""


@dataclass(slots=True)
class Budget:
    """What the answers to all queries of one question may still take."""

    bytes_left: int


class Answer:
    """An answer as it comes in."""

    def __init__(self, trust: TrustId, level: Level, budget: Budget) -> None:
        self._trust = trust
        self._level = level
        self._budget = budget
        self._found = DistinctRows(trust, level)
        self.is_cut = False
        """Whether there may be more, by what the archive says or because we heard enough."""
        self.responses = 0

    @property
    def rows(self) -> list[Attributes]:
        """The rows that came, each once."""
        return self._found.rows

    def add(self, message: Message, decoder: RowDecoder) -> None:
        """Take a pending response; raises `PeerProtocolError`."""
        self._budget.bytes_left -= len(message.data_set) + _RESPONSE_BYTES
        if self._budget.bytes_left < 0:
            raise PeerProtocolError(self._trust, "the answer is longer than its limit")
        if not message.command.has_data:
            raise PeerProtocolError(self._trust, "a row of the answer has no data set")
        try:
            row = decoder.row(message.data_set)
        except DatasetError as error:
            raise PeerProtocolError(self._trust, f"the answer cannot be believed: {error}") from None
        if first_text(row, QUERY_RETRIEVE_LEVEL) not in ("", self._level.value):
            raise PeerProtocolError(self._trust, "a row of the answer is of another level")
        self._found.add([{tag: element for tag, element in row.items() if tag != QUERY_RETRIEVE_LEVEL}])


async def find(lease: Lease, asking: Asking, answer: Answer) -> None:
    """Ask, and fill `answer`; raises `PeerError`, or `AssociationFailure` when the association ends before.

    More rows than asked for, or being cancelled, leave the query to the lease, which ends it behind our back.
    """
    association = lease.association
    request = Request(asking.trust, association, asking.context, association.next_message_id(), CommandField.C_FIND_RSP)
    if asking.cancel_timeout_s is not None:
        lease.settle = partial(_cancelled, request, asking.cancel_timeout_s)
    command = Command(
        CommandField.C_FIND_RQ,
        request.message_id,
        sop_class_uid=asking.context.abstract_syntax,
        has_data=True,
        priority=_MEDIUM,
    )
    try:
        await association.send(asking.context.context_id, command, asking.identifier)
        status = await _until_final(request, asking, answer)
    except PeerProtocolError:
        lease.settle = None
        raise
    if status is None:
        answer.is_cut = True
        return
    lease.settle, lease.is_clean = None, True
    if status == _CANCELLED or status in _WARNINGS or status >> 12 == 0xB:
        # It broke off, or reached a limit of its own: what it sent is true, and is not all.
        answer.is_cut = True
    elif status != _SUCCESS:
        raise peer_failure(asking.trust, status)


async def echo(lease: Lease, trust: TrustId, context: Context) -> None:
    """Ask for a sign of life (C-ECHO); raises as `find`."""
    association = lease.association
    request = Request(trust, association, context, association.next_message_id(), CommandField.C_ECHO_RSP)
    command = Command(CommandField.C_ECHO_RQ, request.message_id, sop_class_uid=context.abstract_syntax)
    await association.send(context.context_id, command)
    status = request.check(await association.receive())
    lease.is_clean = True
    if status != _SUCCESS:
        raise peer_failure(trust, status)


async def _until_final(request: Request, asking: Asking, answer: Answer) -> int | None:
    """Read rows up to the final status; None: there are more than wanted."""
    while True:
        message = await request.association.receive()
        status = request.check(message)
        answer.responses += 1
        if not message.command.is_pending:
            return status
        answer.add(message, asking.decoder)
        if len(answer.rows) > asking.rows_max:
            return None
        if answer.responses % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)


async def _cancelled(request: Request, timeout_s: float) -> bool:
    """Cancel a query and hear it out; whether its end came in time."""
    command = Command(CommandField.C_CANCEL_RQ, request.message_id)
    try:
        async with asyncio.timeout(timeout_s):
            await request.association.send(request.context.context_id, command)
            while True:
                message = await request.association.receive()
                request.check(message)
                if not message.command.is_pending:
                    return True
    except (TimeoutError, PeerProtocolError, AssociationFailure):
        return False
