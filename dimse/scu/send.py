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
from dimse.upper_layer.wire import LINGER_S, WireLimits
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
        self._news = asyncio.Event()
        """An association is idle or over, or there will be none."""
        self._opening: asyncio.Task[None] | None = None
        self._gone: NotSent | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        idle, self._idle = self._idle, []
        if error is not None:
            for association in idle:
                association.abort("given up")
            return
        async with asyncio.TaskGroup() as releases:
            for association in idle:
                releases.create_task(_released(association))

    async def send(self, item: Item) -> Outcome:
        """Send one instance; returns what became of it, and raises nothing for what the receiver does."""
        for _ in range(ATTEMPTS_MAX):
            association = await self._lease()
            if association is None:
                assert self._gone is not None
                return self._gone
            try:
                return await store(
                    association,
                    item,
                    originator=self._originator,
                    transcoder=self._transcoder,
                    response_timeout_s=self._limits.store_response_timeout_s,
                )
            except AssociationFailure as failure:
                log.info("sending broke off", destination=self._receiver.ae_title, reason=str(failure))
            except BaseException:
                association.abort("given up")
                raise
            finally:
                self._take_back(association)
        return NotSent("the destination ends the association at this instance")

    async def _lease(self) -> Association | None:
        """An association that nobody else uses, as soon as there is one; None: there will be none any more."""
        while self._gone is None:
            while self._idle:
                association = self._idle.pop()
                if association.is_open:
                    return association
                self._open -= 1
            if self._opening is None and self._open < self._associations_max:
                self._opening = asyncio.get_running_loop().create_task(self._open_one())
            self._news.clear()
            await self._news.wait()
        return None

    async def _open_one(self) -> None:
        """Open one more association, or learn that there will be no more: then those that are open have to do."""
        try:
            found = await self._association()
        except Exception as error:  # outermost frame of the task: a bug must not leave those who wait for it waiting
            log.exception("sending failed", error=type(error).__name__)
            found = NotSent("the destination cannot be reached", is_final=True)
        self._opening = None
        match found:
            case Association():
                self._open += 1
                self._idle.append(found)
            case NotSent():
                self._gone = found
            case None:
                self._associations_max = max(1, self._open)
        self._news.set()

    async def _association(self) -> Association | NotSent | None:
        """An association; None: it lets us have no more than are open. Tried for a while where there is none at all."""
        loop, pause_s = asyncio.get_running_loop(), PAUSE_FIRST_S
        patient_until = loop.time() + self._limits.store_patience_s
        while True:
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
            except AssociationFailure as failure:
                if self._open:
                    return None
                if isinstance(failure, AssociationRejected) and failure.reject.result != _TRANSIENT:
                    return NotSent("the destination refuses our associations", is_final=True)
            if loop.time() + pause_s > patient_until:
                return NotSent("the destination cannot be reached", is_final=True)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _take_back(self, association: Association) -> None:
        if association.is_open:
            self._idle.append(association)
        else:
            self._open -= 1
        self._news.set()


async def _released(association: Association) -> None:
    try:
        async with asyncio.timeout(LINGER_S):
            await association.release()
    except TimeoutError:
        association.abort("not released in time")


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
