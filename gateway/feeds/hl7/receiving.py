"""Messages of an HL7 feed from their bytes to their answer: read, handed to the intake, acknowledged once it is kept.

What can never be read is kept for a person and rejected (AR); what cannot be kept now is asked for again (AE). Nothing
is answered before the intake has returned, so what is acknowledged is on disk. Whose report it is says the feed, never
the message; a message that names another sender than its feed has is refused (threat G2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog

from gateway.feeds.hl7 import oru, reading
from gateway.feeds.hl7.acknowledging import Answer, Verdict, acknowledge
from gateway.feeds.hl7.reading import Fault, Segment, Unreadable
from gateway.feeds.profile import Feed
from gateway.model.errors import GatewayError, ServiceFault
from gateway.model.reporting.seams import FeedMessage, MessageState, ReportIntake
from gateway.model.seams import Clock

log = structlog.get_logger(__name__)

READ_HERE_BYTES_MAX = 32_768
"""Longer messages are read in the pool, for they take longer than the loop may wait; so does RTF of any length."""
_SLOW = b"rtf1"
CONTROL_ID_CHARS_MAX = 199
SENDER_CHARS_MAX = 100
_KIND = re.compile(r"[A-Z0-9]{3}\^[A-Z0-9]{0,3}")


class CountsMessages(Protocol):
    """Who keeps the figures."""

    def message_taken(self, feed: str, outcome: str, duration_s: float) -> None:
        """A message was answered: with a `MessageState`, or `failed`."""


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A message as far as it could be read, and what its sender is told if it can be kept."""

    message: FeedMessage
    answer: Answer


def read_message(raw: bytes, feed: Feed, received_at: datetime) -> ReadMessage:
    """Read a message of a feed. Raises nothing that a message can cause; also what replays a dead message."""
    header = reading.header_of(raw)
    message_id, kind = _named(header)
    message = partial(FeedMessage, feed.trust, feed.name, message_id, kind, received_at, raw=raw)
    try:
        whole = reading.read(raw, character_set=feed.profile.character_set)
        _check(whole.header, feed, message_id)
        found = oru.reports(oru.Received(whole, message_id, feed, received_at, raw))
    except Unreadable as error:
        return ReadMessage(message(problem=str(error)), Answer(Verdict.REJECTED, error.fault, str(error)))
    return ReadMessage(message(reports=found), Answer(Verdict.ACCEPTED))


class Reports:
    """Answers one feed (`mllp.Speaker`)."""

    def __init__(
        self,
        feed: Feed,
        intake: ReportIntake,
        clock: Clock,
        figures: CountsMessages,
        *,
        new_id: Callable[[], str],
        pool: Executor | None = None,
    ) -> None:
        self._feed = feed
        self._intake = intake
        self._clock = clock
        self._figures = figures
        self._new_id = new_id
        self._pool = pool
        """Where long messages are read; None: where the loop's other work is done."""

    async def answer(self, raw: bytes) -> Sequence[bytes]:
        """Take a message; its acknowledgements, once it is kept."""
        received_at = self._clock.now()
        if len(raw) <= READ_HERE_BYTES_MAX and _SLOW not in raw:
            read = read_message(raw, self._feed, received_at)
        else:
            loop = asyncio.get_running_loop()
            read = await loop.run_in_executor(self._pool, read_message, raw, self._feed, received_at)
        return await self._keep(raw, read)

    async def refuse(self, raw: bytes, why: str) -> Sequence[bytes]:
        """Keep what came of a message that could not be taken whole, and reject it."""
        message_id, kind = _named(reading.header_of(raw))
        message = FeedMessage(
            self._feed.trust, self._feed.name, message_id, kind, self._clock.now(), problem=why, raw=raw
        )
        return await self._keep(raw, ReadMessage(message, Answer(Verdict.REJECTED, Fault.FORM, why)))

    async def _keep(self, raw: bytes, read: ReadMessage) -> Sequence[bytes]:
        began = self._clock.monotonic()
        answer = read.answer
        try:
            taken = await self._intake.take(read.message)
            outcome = taken.state.value
            if read.message.problem:
                # Whoever sends what nobody can read is not silent.
                await self._intake.heard_from(read.message.trust, read.message.feed, read.message.received_at)
            if taken.state is MessageState.DEAD and answer.verdict is Verdict.ACCEPTED:
                answer = Answer(Verdict.REJECTED, Fault.INTERNAL, "the message was kept and cannot be filed")
        except ServiceFault as error:
            outcome = "failed"
            answer = Answer(Verdict.FAILED, Fault.INTERNAL, "the message cannot be kept now")
            log.error("message not kept", alarm=True, feed=self._feed.name, reason=str(error))
        except GatewayError as error:
            outcome = "failed"
            answer = Answer(Verdict.REJECTED, Fault.INTERNAL, "the message cannot be taken")
            log.error("message not taken", alarm=True, feed=self._feed.name, error=type(error).__name__)
        self._figures.message_taken(self._feed.name, outcome, self._clock.monotonic() - began)
        if read.message.problem:
            log.warning("message not read", feed=self._feed.name, kind=read.message.kind, reason=read.message.problem)
        return acknowledge(raw, answer, now=self._clock.now(), control_id=self._new_id())


def _named(header: Segment | None) -> tuple[str, str]:
    """What a message is called by its sender, and its kind; both empty where the header does not say."""
    if header is None:
        return "", ""
    try:
        application, facility, control_id = (header.field(number).value for number in (3, 4, 10))
        kind = header.field(9)
        event = f"{kind.component(1)}^{kind.component(2)}"
        event = event if _KIND.fullmatch(event) else ""
    except Unreadable:
        return "", ""
    if not control_id or len(control_id) > CONTROL_ID_CHARS_MAX:
        return "", event
    return f"{application[:SENDER_CHARS_MAX]}|{facility[:SENDER_CHARS_MAX]}|{control_id}", event


def _check(header: Segment, feed: Feed, message_id: str) -> None:
    """Raise `Unreadable` for what is no report of this feed."""
    profile = feed.profile
    kind = header.field(9)
    if kind.component(1) != "ORU":
        raise Unreadable(Fault.MESSAGE_TYPE, "the message is none that is taken here: ORU^R01 is")
    if kind.component(2) != "R01":
        raise Unreadable(Fault.EVENT, "the message's event is none that is taken here: ORU^R01 is")
    if not message_id:
        raise Unreadable(Fault.FIELD_MISSING, "the message has no control ID (MSH-10), or one that is too long")
    if header.field(11).value not in profile.processing_ids:
        raise Unreadable(Fault.PROCESSING_ID, "the message's processing ID (MSH-11) is not taken from this feed")
    if not header.field(12).value.startswith("2."):
        raise Unreadable(Fault.VERSION, "the message's version (MSH-12) is not one of HL7 v2")
    for number, expected in ((3, profile.sending_application), (4, profile.sending_facility)):
        if expected and header.field(number).value != expected:
            raise Unreadable(Fault.UNKNOWN_KEY, f"the message names another sender (MSH-{number}) than its feed has")
