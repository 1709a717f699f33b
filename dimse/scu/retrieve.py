"""One C-GET or C-MOVE as service class user, on one association: a request, its sub-operations, and how it ended.

By C-GET the images come on the same association and go into an `Intake`, each durable before it is answered; by C-MOVE
they come at our door, which is told by `dimse.awaited`. Believes nothing but responses to its own request. A request
that is given up is cancelled and heard out for a moment, and then aborted. PS3.4 C.4.2 and C.4.3, PS3.7 9.1.3, 9.1.4.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from dimse.awaited import Errand
from dimse.flow.storing import let_go, take_in
from dimse.scu.exchange import Request
from dimse.status import peer_failure
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Context
from gateway.model.errors import (
    Conflicting,
    Denied,
    GatewayError,
    PeerError,
    PeerProtocolError,
    PeerRefused,
    PeerTimeout,
    PeerUnavailable,
    ServiceFault,
    Unwanted,
)
from gateway.model.work.transfers import Intake
from policy.parties import TrustId

_SUCCESS, _SOME_FAILED, _NOT_PERFORMED, _UNABLE = 0x0000, 0xB000, 0xA702, 0xC000
_CANCELLED, _UNKNOWN_DESTINATION = 0xFE00, 0xA801
_DUPLICATE, _SOP_CLASS_NOT_SUPPORTED, _NOT_AUTHORISED = 0x0111, 0x0122, 0x0124
_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0xA700, 0xC000
_MEDIUM = 0x0000
_LOOKS = 8
"""How often in the idle time it is looked whether anything came."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A C-GET or C-MOVE as it is sent."""

    trust: TrustId
    context: Context
    message_id: int
    identifier: bytes
    move_destination: str = ""
    """Our AE title; empty: C-GET."""

    @property
    def command(self) -> Command:
        """The request."""
        return Command(
            CommandField.C_MOVE_RQ if self.move_destination else CommandField.C_GET_RQ,
            self.message_id,
            sop_class_uid=self.context.abstract_syntax,
            has_data=True,
            priority=_MEDIUM,
            move_destination=self.move_destination,
        )

    @property
    def answered_by(self) -> CommandField:
        """Its response."""
        return CommandField.C_MOVE_RSP if self.move_destination else CommandField.C_GET_RSP


class Retrieval:
    """One request under way."""

    def __init__(self, association: Association, asked: Asked, intake: Intake | None) -> None:
        self._association = association
        self._asked = asked
        self._request = Request(asked.trust, association, asked.context, asked.message_id, asked.answered_by)
        self._intake = intake
        """None: what comes on this association is not taken: by C-MOVE, and once it is given up."""
        self._storing: Message | None = None
        self.refused = 0
        """Sub-operations of a C-GET that we did not keep."""
        self.kept: set[str] = set()
        """SOP Instance UIDs that came by C-GET and were kept."""

    async def run(self, idle_timeout_s: float, elsewhere: Errand | None = None) -> Command:
        """Ask, take in what comes, and return the final response.

        `elsewhere`: what comes by C-MOVE, a sign of life as well. Raises `PeerError` or `AssociationFailure`.
        """
        association, asked = self._association, self._asked
        with _Watch(association, idle_timeout_s, elsewhere) as watch:
            try:
                await association.send(asked.context.context_id, asked.command, asked.identifier)
                return await self._until_final()
            except AssociationFailure as error:
                if watch.is_expired:
                    raise PeerTimeout(asked.trust, "the archive sent nothing for too long") from error
                raise

    async def given_up(self, timeout_s: float | None) -> None:
        """Have the archive stop; returns when it has, or when its association is aborted. None: aborted at once."""
        self._intake = None
        association = self._association
        try:
            async with asyncio.timeout(timeout_s or 0):
                await association.send(
                    self._asked.context.context_id, Command(CommandField.C_CANCEL_RQ, self._asked.message_id)
                )
                if self._storing is not None:
                    await self._take(self._storing)
                await self._until_final()
        except (TimeoutError, PeerProtocolError, AssociationFailure):
            association.abort("given up")

    async def _until_final(self) -> Command:
        while True:
            message = await self._association.receive()
            if message.command.field is CommandField.C_STORE_RQ:
                await self._take(message)
                continue
            self._request.check(message)
            if not message.command.is_pending:
                return message.command

    async def _take(self, message: Message) -> None:
        """Answer a sub-operation once it is kept, or why not."""
        self._storing = message
        association, command, context = self._association, message.command, message.context
        if not context.is_scp or command.sop_class_uid != context.abstract_syntax:
            status = _SOP_CLASS_NOT_SUPPORTED
            await let_go(association, message)
        elif self._intake is None:
            status = _OUT_OF_RESOURCES
            await let_go(association, message)
        else:
            refusal = await take_in(association, message, self._intake)
            status = _SUCCESS if refusal is None else _refusal_status(refusal)
        if status:
            self.refused += 1
        else:
            self.kept.add(command.sop_instance_uid)
        association.answered(command.message_id)
        await association.send(context.context_id, response(command, status))
        self._storing = None


def failure(trust: TrustId, final: Command, refused: int) -> PeerError | None:
    """What a final response means; None: the archive sent all that we did not refuse ourselves."""
    status, failed = final.status or 0, final.failed or 0
    # Orthanc says C000 where others say B000 or A702.
    if status in (_SUCCESS, _SOME_FAILED, _NOT_PERFORMED, _UNABLE) and 0 < failed <= refused:
        return None
    if status == _SUCCESS and not failed:
        return None
    if status == _SOME_FAILED and not failed and (final.warning or refused):
        return None
    if status in (_SUCCESS, _SOME_FAILED):
        return PeerRefused(trust, f"the archive could not send {failed or 'all'} of the instances")
    if status == _CANCELLED:
        return PeerUnavailable(trust, "the archive broke off")
    if status == _UNKNOWN_DESTINATION:
        return PeerRefused(trust, "the archive does not know our AE title as a destination of C-MOVE")
    family = status >> 8
    if family in (0x01, 0x02, 0xA7, 0xA8, 0xA9) or 0xC0 <= family <= 0xCF:
        return peer_failure(trust, status)
    return PeerProtocolError(trust, f"the archive answered with status {status:04X}, which retrieval does not have")


def _refusal_status(error: GatewayError) -> int:
    """PS3.4 B.2.3, PS3.7 C."""
    match error:
        case Conflicting():
            return _DUPLICATE
        case Unwanted() | Denied():
            return _NOT_AUTHORISED
        case ServiceFault():
            return _OUT_OF_RESOURCES
        case _:
            return _CANNOT_UNDERSTAND


class _Watch:
    """Aborts an association on which nothing came for too long, and nothing elsewhere."""

    def __init__(self, association: Association, idle_timeout_s: float, elsewhere: Errand | None) -> None:
        self._association = association
        self._interval_s = idle_timeout_s / _LOOKS
        self._elsewhere = elsewhere
        self._seen = -1
        self._still = 0
        self._timer: asyncio.TimerHandle | None = None
        self.is_expired = False

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        seen, elsewhere = self._association.wire.received_bytes, self._elsewhere
        # An instance on its way to our door has an association, and a watch, of its own.
        is_receiving = elsewhere is not None and elsewhere.is_receiving
        if elsewhere is not None:
            seen += elsewhere.arrivals
        self._still = self._still + 1 if seen == self._seen and not is_receiving else 0
        self._seen = seen
        if self._still > _LOOKS:
            self.is_expired = True
            self._association.abort("nothing came for too long")
        else:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._look)
