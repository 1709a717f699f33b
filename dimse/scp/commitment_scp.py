"""Storage Commitment Push Model at the door: requests of senders, and reports of archives that we asked (PS3.4 J).

A request is answered as soon as it is durable; what becomes of it is told later by N-EVENT-REPORT, on its association
as long as that is open, else on one of ours. A report is believed of the archive that was asked alone, and answered
once it is durable. Which instances are committed is decided behind `Commits`, never here (SAF-21).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import structlog

from dimse.commitment import (
    ALL_COMMITTED,
    REQUEST_ACTION,
    SOME_FAILED,
    CommitmentStatus,
    UnreadableCommitment,
    encode_report,
    event_type_of,
    parse_report,
    parse_request,
)
from dimse.flow.asked import Asked
from dimse.scp.availability_scp import NoticeBuffer, TooLong
from dimse.server import Identify
from dimse.sop_classes import QUERY_TRANSFER_SYNTAXES, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dimse.status import Ending
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Context
from gateway.model.errors import Denied, GatewayError, InvalidRequest, NotIdentified, OverCapacity
from gateway.model.settings import Limits
from gateway.model.wording import fitted
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest
from policy.parties import Caller

log = structlog.get_logger(__name__)

READ_AT_ONCE_BYTES_MAX = 32 * 1024
"""A longer one would hold up everybody else for more than some milliseconds: it is read elsewhere."""

T = TypeVar("T", CommitmentRequest, CommitmentReport)
Elsewhere = Callable[[Callable[[], T]], Awaitable[T]]
Line = Callable[[CommitmentReport], Awaitable[bool]]
"""Reports on the association that a request came by; whether that was taken. Raises nothing."""


class Commits(Protocol):
    """Who answers for instances, and hears of those that others answer for. Both return once that is durable.

    Raise `InvalidRequest` for what cannot be meant so, `OverCapacity`, a `ServiceFault`.
    """

    async def take(self, caller: Caller, ae_title: str, request: CommitmentRequest, line: Line) -> None:
        """A trust's system asks us to answer for what it sent here."""

    async def hear(self, caller: Caller, report: CommitmentReport) -> None:
        """An archive tells what became of a request of ours."""


def commitment_sink(context: Context, command: Command, bytes_max: int) -> NoticeBuffer | None:
    """What keeps requests and reports of at most this length; None: it is something else."""
    is_ours = context.abstract_syntax == STORAGE_COMMITMENT
    return NoticeBuffer(bytes_max) if is_ours and command.has_data else None


class CommitmentService:
    """N-ACTION of the Push Model."""

    command = CommandField.N_ACTION_RQ
    transfer_syntaxes = QUERY_TRANSFER_SYNTAXES

    def __init__(self, desk: Commits, asked: Asked, limits: Limits, elsewhere: Elsewhere[CommitmentRequest]) -> None:
        self._desk = desk
        self._asked = asked
        self._limits = limits
        self._elsewhere = elsewhere

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Answer one N-ACTION-RQ; returns its status. Raises `AssociationFailure` when nobody listens any more."""
        command, is_answered = message.command, asyncio.Event()
        if command.action_type != REQUEST_ACTION:
            end = Ending(CommitmentStatus.NO_SUCH_ACTION)
        elif command.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
            end = Ending(CommitmentStatus.NO_SUCH_INSTANCE)
        else:
            line = partial(self._report, association, message.context, is_answered)
            end = await _ended(self._take(association, message, identify, line))
        try:
            await _respond(association, message, end)
        finally:
            is_answered.set()
        return end.status

    async def _take(self, association: Association, message: Message, identify: Identify, line: Line) -> None:
        caller = await identify()
        read = partial(
            parse_request,
            transfer_syntax=message.context.transfer_syntax,
            bytes_max=self._limits.commitment_bytes_max,
        )
        request = await _read(message, read, self._elsewhere)
        if len(request.instances) > self._limits.commitment_instances_max:
            raise OverCapacity(f"more than {self._limits.commitment_instances_max} instances in one request")
        await self._desk.take(caller, association.terms.calling_ae_title, request, line)

    async def _report(
        self, association: Association, context: Context, is_answered: asyncio.Event, report: CommitmentReport
    ) -> bool:
        await is_answered.wait()  # never before the request itself has its answer
        if not association.is_open:
            return False
        try:
            answer = await self._asked.ask(
                association,
                context.context_id,
                report_command(report),
                encode_report(report, context.transfer_syntax),
                timeout_s=self._limits.commitment_response_timeout_s,
            )
        except (AssociationFailure, TimeoutError):
            return False
        return answer.command.field is CommandField.N_EVENT_REPORT_RSP and answer.command.status == 0


class ReportService:
    """N-EVENT-REPORT of the Push Model, on associations that archives open to tell of requests of ours."""

    command = CommandField.N_EVENT_REPORT_RQ
    transfer_syntaxes = QUERY_TRANSFER_SYNTAXES

    def __init__(self, desk: Commits, limits: Limits, elsewhere: Elsewhere[CommitmentReport]) -> None:
        self._desk = desk
        self._limits = limits
        self._elsewhere = elsewhere

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Answer one N-EVENT-REPORT-RQ; returns its status. Raises `AssociationFailure`."""
        if message.command.event_type not in (ALL_COMMITTED, SOME_FAILED):
            end = Ending(CommitmentStatus.NO_SUCH_EVENT_TYPE)
        else:
            end = await _ended(self._hear(message, identify))
        await _respond(association, message, end)
        return end.status

    async def _hear(self, message: Message, identify: Identify) -> None:
        caller = await identify()
        read = partial(
            parse_report,
            transfer_syntax=message.context.transfer_syntax,
            bytes_max=self._limits.commitment_bytes_max,
        )
        await self._desk.hear(caller, await _read(message, read, self._elsewhere))


def report_command(report: CommitmentReport, message_id: int = 0) -> Command:
    """The N-EVENT-REPORT-RQ of a report."""
    return Command(
        CommandField.N_EVENT_REPORT_RQ,
        message_id,
        sop_class_uid=STORAGE_COMMITMENT,
        has_data=True,
        sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
        event_type=event_type_of(report),
    )


async def _read(message: Message, read: Callable[[bytes], T], elsewhere: Elsewhere[T]) -> T:
    """The argument; raises `InvalidRequest`, `OverCapacity`."""
    if isinstance(message.data, TooLong):
        raise OverCapacity(f"it is longer than {message.data.bytes_max} bytes")
    body = message.data_set
    try:
        return read(body) if len(body) <= READ_AT_ONCE_BYTES_MAX else await elsewhere(partial(read, body))
    except UnreadableCommitment as error:
        raise InvalidRequest(str(error)) from None


async def _ended(doing: Awaitable[None]) -> Ending:
    """How a request ends; its errors as statuses."""
    try:
        await doing
    except OverCapacity as error:
        return Ending(CommitmentStatus.RESOURCE_LIMITATION, fitted(str(error)))
    except InvalidRequest as error:
        return Ending(CommitmentStatus.INVALID_ARGUMENT, fitted(str(error)))
    except (NotIdentified, Denied):
        return Ending(CommitmentStatus.NOT_AUTHORISED, "the caller is not identified")
    except GatewayError:
        return Ending(CommitmentStatus.PROCESSING_FAILURE, "the gateway cannot work at this moment")
    except AssociationFailure:
        raise
    except Exception as error:  # outermost frame of a request: a bug is its failure alone
        log.exception("commitment failed", error=type(error).__name__)
        return Ending(CommitmentStatus.PROCESSING_FAILURE)
    return Ending(CommitmentStatus.SUCCESS)


async def _respond(association: Association, message: Message, end: Ending) -> None:
    request = message.command
    last = replace(
        response(request, end.status),
        event_type=request.event_type,
        action_type=request.action_type,
        error_comment=end.comment,
    )
    await association.send(message.context.context_id, last)
