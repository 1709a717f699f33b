"""Instance Availability Notification as SCP: N-CREATE becomes a notice for the index (PS3.4 R, PS3.7 10.1.5).

Answered as soon as the notice is durable, and never before; what it means is found out behind `TakesNotices`, later. No
instance is kept, so the same notice sent again is taken again. C-ECHO on an association that negotiated the class is
the notifier's heartbeat: without news, a feed that is not heard is not relied on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from dimse.availability import NoticeStatus, UnreadableNotice, parse_notice
from dimse.server import Echo, Identify
from dimse.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, QUERY_TRANSFER_SYNTAXES, VERIFICATION
from dimse.status import Ending
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message, SinkFor
from dimse.upper_layer.negotiation import Context
from gateway.model.errors import Denied, GatewayError, InvalidRequest, NotIdentified, OverCapacity
from gateway.model.locations import Notice
from gateway.model.wording import fitted
from policy.parties import Caller

log = structlog.get_logger(__name__)

READ_AT_ONCE_BYTES_MAX = 32 * 1024
"""A longer notice would hold up everybody else for more than some milliseconds: it is read elsewhere."""

Reading = Callable[[], Notice]
Elsewhere = Callable[[Reading], Awaitable[Notice]]
"""Reads a long notice without holding up the loop."""


class TakesNotices(Protocol):
    """Who is told. Raises `InvalidRequest` for who may not tell, and a `ServiceFault`: then nothing was heard."""

    async def take(self, caller: Caller, notice: Notice) -> None:
        """A trust's system tells of a study; returns when it is durable."""

    async def not_read(self, caller: Caller) -> None:
        """It told of something that cannot be read."""

    async def heartbeat(self, caller: Caller) -> None:
        """It has nothing new to tell."""


class NoticeBuffer:
    """Keeps a notice while it arrives, up to a limit, and lets go of what is longer (a `Sink`)."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._body: bytearray | None = bytearray()

    def write(self, piece: memoryview) -> None:
        """See `Sink`."""
        if self._body is None:
            return
        if len(self._body) + len(piece) > self._bytes_max:
            self._body = None
        else:
            self._body += piece

    def finish(self) -> object:
        """The whole notice, or that it is too long."""
        return TooLong(self._bytes_max) if self._body is None else bytes(self._body)

    def abandon(self) -> None:
        """See `Sink`."""
        self._body = None


@dataclass(frozen=True, slots=True)
class TooLong:
    """In place of a notice that was longer than so many bytes."""

    bytes_max: int


def buffers(bytes_max: int) -> SinkFor:
    """What keeps notices of at most this length, and leaves all other data sets to the association."""

    def sink_for(context: Context, command: Command) -> NoticeBuffer | None:
        is_notice = context.abstract_syntax == INSTANCE_AVAILABILITY_NOTIFICATION
        return NoticeBuffer(bytes_max) if is_notice and command.field is CommandField.N_CREATE_RQ else None

    return sink_for


class AvailabilityService:
    """The N-CREATE service of the Instance Availability Notification SOP class."""

    command = CommandField.N_CREATE_RQ
    transfer_syntaxes = QUERY_TRANSFER_SYNTAXES

    def __init__(self, desk: TakesNotices, *, bytes_max: int, new_uid: Callable[[], str], elsewhere: Elsewhere) -> None:
        self._desk = desk
        self._bytes_max = bytes_max
        self._new_uid = new_uid
        self._elsewhere = elsewhere

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Answer one N-CREATE-RQ; returns its status. Raises `AssociationFailure` when nobody listens any more."""
        request = message.command
        if not request.sop_instance_uid:
            # PS3.7 10.1.5.1.4: whoever creates an instance may leave it to us to name it.
            request = replace(request, sop_instance_uid=self._new_uid())
        end = await self._taken(message, identify)
        last = replace(response(request, end.status), error_comment=end.comment)
        await association.send(message.context.context_id, last)
        return end.status

    async def _taken(self, message: Message, identify: Identify) -> Ending:
        """Take the notice, or say why not."""
        try:
            caller = await identify()
            try:
                notice = await self._read(message)
            except UnreadableNotice as error:
                await self._desk.not_read(caller)
                return Ending(error.status, fitted(str(error)))
            await self._desk.take(caller, notice)
        except OverCapacity as error:
            return Ending(NoticeStatus.RESOURCE_LIMITATION, fitted(str(error)))
        except InvalidRequest as error:
            return Ending(NoticeStatus.NOT_AUTHORISED, fitted(str(error)))
        except (NotIdentified, Denied):
            return Ending(NoticeStatus.NOT_AUTHORISED, "the caller is not identified")
        except GatewayError:
            return Ending(NoticeStatus.PROCESSING_FAILURE, "the gateway cannot work at this moment")
        except AssociationFailure:
            raise
        except Exception as error:  # outermost frame of a request: a bug is its failure alone
            log.exception("availability notice failed", error=type(error).__name__)
            return Ending(NoticeStatus.PROCESSING_FAILURE)
        return Ending(NoticeStatus.SUCCESS)

    async def _read(self, message: Message) -> Notice:
        """The notice; raises `UnreadableNotice`."""
        if isinstance(message.data, TooLong):
            text = f"the notice is longer than {message.data.bytes_max} bytes"
            raise UnreadableNotice(NoticeStatus.RESOURCE_LIMITATION, text)
        body, transfer_syntax = message.data_set, message.context.transfer_syntax

        def reading() -> Notice:
            return parse_notice(body, transfer_syntax, self._bytes_max)

        return reading() if len(body) <= READ_AT_ONCE_BYTES_MAX else await self._elsewhere(reading)


class HeartbeatEcho(Echo):
    """C-ECHO: 0000, always; of a notifier it is a sign of life too."""

    def __init__(self, desk: TakesNotices) -> None:
        self._desk = desk

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Say that we are here, then note that they are."""
        status = await super().answer(association, message, identify)
        accepted = association.terms.contexts.values()
        if any(context.abstract_syntax == INSTANCE_AVAILABILITY_NOTIFICATION for context in accepted):
            try:
                await self._desk.heartbeat(await identify())
            except GatewayError as error:
                # Its feed will fall silent: then everybody is asked.
                log.info("heartbeat not taken", reason=str(error))
        return status


def availability_services(
    desk: TakesNotices, *, bytes_max: int, new_uid: Callable[[], str], elsewhere: Elsewhere
) -> dict[str, AvailabilityService | HeartbeatEcho]:
    """What answers notifiers, by SOP class."""
    service = AvailabilityService(desk, bytes_max=bytes_max, new_uid=new_uid, elsewhere=elsewhere)
    return {INSTANCE_AVAILABILITY_NOTIFICATION: service, VERIFICATION: HeartbeatEcho(desk)}
