"""Storage commitment as service class user: an archive is asked, and heard out; and reports of ours to who asked us.

Each on an association of its own. An archive may report on the association it was asked by, or later on one that it
opens to our door (`dimse.scp.commitment_scp`): waiting here is a courtesy to those that do the first. PS3.4 J.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from dimse.commitment import (
    REQUEST_ACTION,
    CommitmentStatus,
    UnreadableCommitment,
    encode_report,
    encode_request,
    parse_report,
)
from dimse.scp.commitment_scp import report_command
from dimse.scu.send import Receiver
from dimse.sop_classes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
)
from dimse.upper_layer.association import (
    Association,
    AssociationFailure,
    AssociationLimits,
    AssociationRejected,
)
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import MessageLimits
from dimse.upper_layer.negotiation import Context, propose
from dimse.upper_layer.pdu import Roles
from dimse.upper_layer.requestor import associate
from dimse.upper_layer.wire import LINGER_S, WireLimits
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.settings import Limits
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest

_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

Hears = Callable[[CommitmentReport], Awaitable[None]]
"""Writes down what an archive reports; raises a `GatewayError` where it is not to be believed or cannot be kept."""


class NotAsked(Exception):
    """The archive was not asked, or does not take the request; why, in words that are safe to show."""


async def ask(receiver: Receiver, request: CommitmentRequest, limits: Limits, hears: Hears) -> None:
    """Ask an archive to commit itself; returns when it has taken the request, and a while later if it says no more.

    What it reports meanwhile goes to `hears`. Raises `NotAsked`.
    """
    try:
        association = await _associated(receiver, limits)
    except AssociationRejected:
        raise NotAsked("the archive refuses our associations") from None
    except AssociationFailure:
        raise NotAsked("the archive cannot be reached") from None
    hearing = _Hearing(association, limits, hears)
    try:
        await _ask(hearing, request)
        await _hear_out(hearing, request.transaction_uid)
    finally:
        await _released(association)


async def report(receiver: Receiver, told: CommitmentReport, limits: Limits) -> None:
    """Report to who asked us, on an association of ours; returns when it was taken. Raises `NotAsked`."""
    try:
        association = await _associated(receiver, limits, Roles(STORAGE_COMMITMENT, scu=False, scp=True))
    except AssociationRejected:
        raise NotAsked("whoever asked refuses our associations") from None
    except AssociationFailure:
        raise NotAsked("whoever asked cannot be reached") from None
    try:
        context = _context(association)
        if context is None:
            raise NotAsked("whoever asked takes no reports of storage commitment")
        command = report_command(told, association.next_message_id())
        body = encode_report(told, context.transfer_syntax)
        status = await _status(_Hearing(association, limits), context, command, body)
        if status != CommitmentStatus.SUCCESS:
            raise NotAsked(f"whoever asked answered the report with {status:04X}")
    finally:
        await _released(association)


class _Hearing:
    """What comes on an association of ours besides answers: reports, which some archives send before they answer."""

    def __init__(self, association: Association, limits: Limits, hears: Hears | None = None) -> None:
        self.association = association
        self.limits = limits
        self.told: set[str] = set()
        """The transactions that were reported."""
        self._hears = hears

    async def receive(self) -> Command | None:
        """The next message: None if it was a report, which is answered once it is written down."""
        message = await self.association.receive()
        command = message.command
        if command.field is not CommandField.N_EVENT_REPORT_RQ or self._hears is None:
            return command
        status = CommitmentStatus.SUCCESS
        try:
            bytes_max = self.limits.commitment_bytes_max
            told = parse_report(message.data_set, message.context.transfer_syntax, bytes_max)
            await self._hears(told)
            self.told.add(told.transaction_uid)
        except (UnreadableCommitment, InvalidRequest):
            status = CommitmentStatus.INVALID_ARGUMENT
        except GatewayError:
            status = CommitmentStatus.PROCESSING_FAILURE
        answer = replace(response(command, status), event_type=command.event_type)
        await self.association.send(message.context.context_id, answer)
        self.association.answered(command.message_id)
        return None


async def _ask(hearing: _Hearing, request: CommitmentRequest) -> None:
    context = _context(hearing.association)
    if context is None:
        raise NotAsked("the archive takes no storage commitment")
    command = Command(
        CommandField.N_ACTION_RQ,
        hearing.association.next_message_id(),
        sop_class_uid=STORAGE_COMMITMENT,
        has_data=True,
        sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
        action_type=REQUEST_ACTION,
    )
    status = await _status(hearing, context, command, encode_request(request, context.transfer_syntax))
    if status != CommitmentStatus.SUCCESS:
        raise NotAsked(f"the archive answered {status:04X} to the request to commit itself")


async def _status(hearing: _Hearing, context: Context, command: Command, data: bytes) -> int:
    """The status that a request of ours is answered with; raises `NotAsked`."""
    answer: Command | None = None
    try:
        async with asyncio.timeout(hearing.limits.commitment_response_timeout_s):
            await hearing.association.send(context.context_id, command, data)
            while answer is None:
                answer = await hearing.receive()
    except (TimeoutError, AssociationFailure):
        raise NotAsked("no answer to a request") from None
    if answer.is_request or answer.message_id != command.message_id or answer.status is None:
        raise NotAsked("an answer to something that was not asked")
    return answer.status


async def _hear_out(hearing: _Hearing, transaction_uid: str) -> None:
    """Hear the report on the request's own association, if it comes soon."""
    try:
        async with asyncio.timeout(hearing.limits.commitment_linger_s):
            while transaction_uid not in hearing.told and await hearing.receive() is None:
                pass
    except (TimeoutError, AssociationFailure):
        return  # then it comes by an association of its own, or is asked for again


def _context(association: Association) -> Context | None:
    contexts = association.terms.contexts.values()
    return next((each for each in contexts if each.abstract_syntax == STORAGE_COMMITMENT), None)


async def _associated(receiver: Receiver, limits: Limits, *roles: Roles) -> Association:
    request = propose(
        receiver.calling_ae_title,
        receiver.ae_title,
        [(STORAGE_COMMITMENT, _SYNTAXES)],
        pdu_bytes_max=limits.pdu_bytes_max,
        roles=roles,
    )
    of_association = AssociationLimits(
        wire=WireLimits(associate_bytes_max=limits.associate_bytes_max, artim_timeout_s=limits.artim_timeout_s),
        messages=MessageLimits(
            command_bytes_max=limits.command_bytes_max,
            fragments_max=limits.fragments_max,
            data_bytes_max=limits.commitment_bytes_max,
        ),
        send_timeout_s=limits.dimse_send_timeout_s,
    )
    return await associate(
        receiver.host,
        receiver.port,
        request,
        of_association,
        tls=receiver.tls,
        connect_timeout_s=limits.connect_timeout_s,
    )


async def _released(association: Association) -> None:
    try:
        async with asyncio.timeout(LINGER_S):
            await association.release()
    except TimeoutError:
        pass
    finally:
        association.abort("not released in time")
