"""Send instances to another application entity, over one association or a few, until each has had its answer.

A destination that refuses, aborts or cannot be reached is tried again on a new association for a while; an instance
that ends its association every time is given up alone. One that lets us have fewer associations than we would use is
content with those. Who may have what, and what is done with an outcome, is the caller's. PS3.4 B.2, PS3.8 7.1.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from dimse.awaited import Originator
from dimse.scu.contexts import storage_contexts
from dimse.scu.store import NotSent as NotSent
from dimse.scu.store import Outcome as Outcome
from dimse.scu.store import Sent as Sent
from dimse.scu.store import Transcoder as Transcoder
from dimse.scu.store import store
from dimse.upper_layer.association import (
    Association,
    AssociationFailure,
    AssociationLimits,
    AssociationRejected,
)
from dimse.upper_layer.messages import MessageLimits
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.requestor import associate, receive_buffer
from dimse.upper_layer.wire import WireLimits
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Item

log = structlog.get_logger(__name__)

ATTEMPTS_MAX = 3
"""Associations that one instance may end before it is given up alone."""
PAUSE_FIRST_S, PAUSE_MAX_S = 0.25, 5.0
"""Between two attempts to get an association; doubled each time."""
_TRANSIENT = 2


@dataclass(frozen=True, slots=True)
class Receiver:
    """An application entity that takes images, and how it is reached."""

    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    tls: ssl.SSLContext | None = None


class Sender:
    """The associations to one receiver for one set of images; `async with`. `send` may be called several at a time."""

    def __init__(
        self,
        receiver: Receiver,
        sop_classes: Collection[str],
        limits: Limits,
        *,
        originator: Originator | None = None,
        transcoder: Transcoder | None = None,
    ) -> None:
        self._receiver = receiver
        self._limits = limits
        self._originator = originator
        self._transcoder = transcoder
        self._request = propose(
            receiver.calling_ae_title,
            receiver.ae_title,
            storage_contexts(sop_classes),
            pdu_bytes_max=limits.pdu_bytes_max,
        )
        self._association_limits = _association_limits(limits)
        self._buffer = receive_buffer()
        self._associations_max = limits.store_associations_max
        self._open = 0
        self._idle: list[Association] = []
        self._turn = asyncio.Condition()
        self._failing_since: float | None = None
        self._gone: NotSent | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        idle, self._idle = self._idle, []
        if error is not None:
            for association in idle:
                association.abort("given up")
            return
        async with asyncio.TaskGroup() as releases:
            for association in idle:
                releases.create_task(association.release())

    async def send(self, item: Item) -> Outcome:
        """Send one instance; returns what became of it, and raises nothing for what the receiver does."""
        attempts = 0
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                association = await self._lease()
            except AssociationFailure as failure:
                if (gone := self._given_up(failure)) is not None:
                    return gone
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
                continue
            if association is None:
                assert self._gone is not None
                return self._gone
            try:
                outcome = await store(
                    association,
                    item,
                    originator=self._originator,
                    transcoder=self._transcoder,
                    response_timeout_s=self._limits.store_response_timeout_s,
                )
                self._failing_since = None
                return outcome
            except AssociationFailure as failure:
                attempts += 1
                log.info("sending broke off", destination=self._receiver.ae_title, reason=str(failure))
                if attempts >= ATTEMPTS_MAX:
                    return NotSent("the destination ends the association at this instance")
            except BaseException:
                association.abort("given up")
                raise
            finally:
                await self._take_back(association)

    async def _lease(self) -> Association | None:
        """An association that nobody else uses; None: there will be none any more. Raises `AssociationFailure`."""
        async with self._turn:
            await self._turn.wait_for(lambda: self._gone or self._idle or self._open < self._associations_max)
            if self._gone is not None:
                return None
            while self._idle:
                association = self._idle.pop()
                if association.is_open:
                    return association
                self._open -= 1
            self._open += 1
        try:
            return await associate(
                self._receiver.host,
                self._receiver.port,
                self._request,
                self._association_limits,
                tls=self._receiver.tls,
                connect_timeout_s=self._limits.connect_timeout_s,
                buffer=self._buffer,
            )
        except BaseException:
            await self._closed()
            raise

    def _given_up(self, failure: AssociationFailure) -> NotSent | None:
        """What is said of every further instance, once there is no hope of another association."""
        if self._open:
            # It takes no more at once than these: wait for one of them.
            self._associations_max = self._open
            return None
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(failure, AssociationRejected) and failure.reject.result != _TRANSIENT:
            self._gone = NotSent("the destination refuses our associations", is_final=True)
        elif now - self._failing_since >= self._limits.store_patience_s:
            self._gone = NotSent("the destination cannot be reached", is_final=True)
        return self._gone

    async def _take_back(self, association: Association) -> None:
        if association.is_open:
            async with self._turn:
                self._idle.append(association)
                self._turn.notify_all()
        else:
            await self._closed()

    async def _closed(self) -> None:
        async with self._turn:
            self._open -= 1
            self._turn.notify_all()


def _association_limits(limits: Limits) -> AssociationLimits:
    return AssociationLimits(
        wire=WireLimits(associate_bytes_max=limits.associate_bytes_max, artim_timeout_s=limits.artim_timeout_s),
        messages=MessageLimits(
            command_bytes_max=limits.command_bytes_max,
            fragments_max=limits.fragments_max,
            data_bytes_max=limits.identifier_bytes_max,
        ),
        send_timeout_s=limits.dimse_send_timeout_s,
    )
