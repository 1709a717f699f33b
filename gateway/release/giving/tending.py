"""Do what a report's plan says: trace its patient, take back what may not be seen, give what may, tell of it once.

A job for each report, one at a time over all processes. Before a channel is asked it is written down that it is, and
its answer after: whoever comes after a fall sees what is known, and what is not known is a person's work (SAF-67). In
the transaction before each giving the rules are asked once more, so a hold placed a moment ago holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import structlog

from gateway.jobs.runner import Work
from gateway.model.errors import NotFound
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from gateway.model.reporting.channels import Addressee, Channel, Outcome, PatientReport, Receipt, Rendering
from gateway.release.giving.addressees import Vault, decoded, delivery_name, encoded, trace_name
from gateway.release.giving.audience import Barred, barred
from gateway.release.giving.composing import Composing
from gateway.release.giving.documents import (
    ACCOUNT_AGAIN,
    Step,
    neutral_words,
    pause,
    replaced,
    state_after,
    step,
)
from gateway.release.giving.tracing import DayTracing
from gateway.release.planner import Planner, Situation, record
from policy.parties import TrustId
from policy.release.circumstances import Hold, HoldKind
from policy.release.clock import day_of, working_days_after
from storage.database import Tx
from storage.registers import patients as registered
from storage.registers.state import Author
from storage.release import deliveries, holds, patients, releases, reports, standing
from storage.release.deliveries import Delivery, DeliveryState, Document
from storage.release.releases import NoticeState
from storage.store import SqlStore

log = structlog.get_logger(__name__)

ALARM_ATTEMPTS, ALARM_AGAIN_ATTEMPTS = 4, 32
"""Attempts after which a channel's trouble with one report is alarmed, and again every so many: some eight hours."""
IDENTITY_REVIEW_WORKING_DAYS = 2
ADDRESSEE_FORGOTTEN = "SAF-41: whom it went to is kept no more: have it taken away by hand"
_AUTHOR = Author("release", "", "the time has come")


class Render(Protocol):
    """Makes the forms that channels take."""

    async def __call__(self, report: PatientReport, *, large_print: bool) -> Rendering:
        """Render a document; every form holds the disclaimer exactly once (REL-06)."""


@dataclass(frozen=True, slots=True)
class Means:
    """What tending works with."""

    store: SqlStore
    planner: Planner
    tracing: DayTracing
    composing: Composing
    vault: Vault
    render: Render
    channels: Callable[[], Mapping[str, Channel]]
    phone_of: Callable[[TrustId], str]
    is_clock_sure: Callable[[], bool]
    """While it is not, nothing new is given; what is to be taken back, is (SAF-31)."""


@dataclass(frozen=True, slots=True)
class _Giving:
    """One document on its way to one channel."""

    channel: Channel
    document: Document
    report: PatientReport
    rendering: Rendering


class Tending:
    """The handler of `TEND` jobs."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._store = means.store

    async def __call__(self, work: Work) -> None:
        """See `Handler`."""
        report_id = str(work.job.detail["report"])
        try:
            await self.tend(report_id)
        except NotFound as error:
            log.error("report cannot be made up", alarm=True, report=report_id, reason=str(error))
            raise

    async def tend(self, report_id: str) -> None:
        """Do all that can be done for a report now. Raises a `ServiceFault` where that cannot be told or kept."""
        situation = await self._planned(report_id)
        await self._find_lost_notices(report_id)
        await self._take_back(situation)
        if self._means.is_clock_sure():
            situation = await self._traced(situation)
            await self._take_back(situation)
            await self._give(situation)
        await self._planned(report_id)

    async def _planned(self, report_id: str) -> Situation:
        def body(tx: Tx) -> Situation:
            found = self._means.planner.replan(tx, report_id, _AUTHOR, queues=False)
            for each in found.drops:
                deliveries.move(tx, each, DeliveryState.WITHDRAWN, words="not given: wanted no more")
            return found

        return await self._store.write(body)

    async def _traced(self, situation: Situation) -> Situation:
        """The same report once its patient is traced, where that is to be done."""
        if not situation.wants_trace:
            return situation
        found = await self._means.tracing.trace(situation)
        if found is None:
            return situation
        report_id = situation.report.report_id
        await self._store.write(lambda tx: self._keep_trace(tx, situation, found))
        return await self._planned(report_id)

    def _keep_trace(self, tx: Tx, situation: Situation, found: standing.Trace) -> None:
        known = standing.trace(tx, situation.report.report_id)
        standing.keep_trace(tx, situation.report.report_id, found)
        said = (found.agreement, found.death, found.number_status)
        if known is None or said != (known.agreement, known.death, known.number_status):
            detail: dict[str, JsonValue] = dict(zip(("agreement", "death", "number_status"), said, strict=True))
            record(tx, situation.report, "trace", _AUTHOR, detail)

    async def _take_back(self, situation: Situation) -> None:
        """Withdraw from every channel what the patient may see there and is not to see."""
        await _each_for_itself(self._withdraw(situation, each) for each in situation.withdrawals)

    async def _withdraw(self, situation: Situation, delivery: Delivery) -> None:
        words = neutral_words(situation.plan.taken_back_for, self._means.phone_of(situation.report.trust))
        begun = await self._store.write(lambda tx: deliveries.move(tx, delivery, DeliveryState.WITHDRAWING))
        if not begun:
            return
        is_again = delivery.state is DeliveryState.WITHDRAWING
        delivery = replace(delivery, state=DeliveryState.WITHDRAWING, attempts=delivery.attempts + 1 if is_again else 1)
        channel = self._means.channels().get(delivery.channel)
        outcome = Outcome(Receipt.FAILED, "the channel is not configured")
        if channel is not None and not delivery.sealed:
            outcome = Outcome(Receipt.REFUSED, ADDRESSEE_FORGOTTEN)
        elif channel is not None:
            name = delivery_name(delivery.report_id, delivery.channel, delivery.document_key)
            addressee = decoded(await self._means.vault.open(name, delivery.sealed, delivery.key_id))
            if addressee is not None:
                outcome = await channel.withdraw(delivery.document_key, addressee, words)
        faultpoint("release.withdrawn")
        await self._store.write(partial(self._withdrawn, situation=situation, delivery=delivery, outcome=outcome))
        if outcome.receipt not in _GONE and (_is_alarming(delivery.attempts) or _is_refused(outcome)):
            log.error("report not taken back", alarm=True, **_told_of(delivery, outcome))

    def _withdrawn(self, tx: Tx, situation: Situation, delivery: Delivery, outcome: Outcome) -> None:
        if outcome.receipt in _GONE:
            state, next_at = DeliveryState.WITHDRAWN, None
        elif _is_refused(outcome):
            state, next_at = DeliveryState.STUCK, None
        else:
            state, next_at = DeliveryState.WITHDRAWING, situation.now + pause(delivery.attempts)
        if not deliveries.move(tx, delivery, state, words=outcome.words, next_at=next_at, at=situation.now):
            return
        if state is not DeliveryState.WITHDRAWING:
            reason = situation.plan.taken_back_for
            self._audit(tx, situation, state.value, delivery, {"for": reason.value if reason is not None else None})

    async def _give(self, situation: Situation) -> None:
        """Give the wanted document to each channel that lacks it."""
        if not situation.may_give or situation.trace is None:
            return
        trace = situation.trace
        sealed = await self._means.vault.open(trace_name(situation.report.report_id), trace.sealed, trace.key_id)
        addressee = decoded(sealed)
        if addressee is None:
            return
        await _each_for_itself(
            self._give_at(situation, name, addressee)
            for name in situation.terms.channels
            if step(situation.wish, name, situation.deliveries, situation.now) is Step.PUT
        )

    async def _give_at(self, situation: Situation, name: str, addressee: Addressee) -> None:
        channel = self._means.channels().get(name)
        if channel is None:
            trust = situation.report.trust.code
            log.error("channel not configured", alarm=True, trust=trust, channel=name)
            return
        known = situation.wish.at(name, situation.deliveries)
        if known is not None and known.state is DeliveryState.PUTTING and not channel.is_idempotent:
            # It was given, and whoever gave it fell before the answer was written down.
            await self._store.write(partial(self._unknown, situation=situation, delivery=known))
            return
        document = await self._document(situation, name, addressee)
        bar = barred(situation, channel, await channel.account(addressee), addressee)
        if bar is not None:
            await self._store.write(partial(self._keep_due, situation=situation, document=document, bar=bar))
            return
        old = replaced(situation.wish, name, situation.deliveries)
        replaces = old.document_key if old is not None else ""
        report = await self._means.composing.compose(situation, situation.wish, addressee, replaces)
        row = document.patient_row
        chosen = await self._store.read(lambda read: patients.chosen(read, registered.person(read, row).related))
        rendering = await self._means.render(report, large_print=chosen.large_print)
        await self._put(situation, _Giving(channel, document, report, rendering), known)

    async def _document(self, situation: Situation, name: str, addressee: Addressee) -> Document:
        report, wish = situation.report, situation.wish
        if report.patient_id is None:
            raise NotFound("the report is nobody's")
        place = delivery_name(report.report_id, name, wish.document_key)
        key_id, sealed = await self._means.vault.seal(place, encoded(addressee), report.patient_id)
        return Document(report.report_id, name, wish.document_key, wish.versions, report.patient_id, key_id, sealed)

    async def _put(self, situation: Situation, giving: _Giving, known: Delivery | None) -> None:
        delivery = await self._store.write(partial(self._begin, situation=situation, document=giving.document))
        if delivery is None:
            return  # something changed meanwhile: it is planned anew
        faultpoint("release.putting")
        outcome = await giving.channel.put(giving.report, giving.rendering)
        faultpoint("release.put")
        was_unknown = known is not None and known.state is DeliveryState.PUTTING
        state = state_after(outcome, is_idempotent=giving.channel.is_idempotent, was_unknown=was_unknown)
        told = await self._store.write(
            partial(
                self._put_ended,
                situation=situation,
                delivery=delivery,
                state=state,
                outcome=outcome,
                giving=giving,
            )
        )
        if state in deliveries.UNDELIVERABLE or (
            state is not DeliveryState.CONFIRMED and _is_alarming(delivery.attempts)
        ):
            log.error("report not delivered", alarm=True, **_told_of(delivery, outcome))
        if told:
            await self._notify(giving, delivery, told)

    def _begin(self, tx: Tx, situation: Situation, document: Document) -> Delivery | None:
        """Write down that it is given now, if the rules still say so in this very moment."""
        reports.hold(tx, document.report_id)
        now = self._means.planner.situation(tx, document.report_id)
        if now.wish != situation.wish or not now.may_give:
            return None
        return deliveries.begin(tx, document, DeliveryState.PUTTING, situation.plan.due_at)

    def _put_ended(
        self, tx: Tx, situation: Situation, delivery: Delivery, state: DeliveryState, outcome: Outcome, giving: _Giving
    ) -> tuple[str, ...]:
        """Write the answer down; the versions of which the patient is to be told now."""
        reports.hold(tx, delivery.report_id)
        now = self._means.planner.now()
        next_at = None
        if state is DeliveryState.NO_ACCOUNT:
            next_at = now + ACCOUNT_AGAIN
        elif state in (DeliveryState.WAITING, DeliveryState.PUTTING):
            next_at = now + pause(delivery.attempts)
        if not deliveries.move(
            tx, delivery, state, words=outcome.words, reference=outcome.reference, next_at=next_at, at=now
        ):
            log.warning("delivery was taken over", report=delivery.report_id, channel=delivery.channel)
            return ()
        if state is not DeliveryState.CONFIRMED:
            if state is not DeliveryState.WAITING or delivery.attempts == 1:
                self._audit(tx, situation, state.value, delivery, {"attempts": delivery.attempts})
            return ()
        for each in situation.deliveries:
            if each.document_key == giving.report.replaces and each.channel == delivery.channel:
                deliveries.move(tx, each, DeliveryState.REPLACED, at=now)
        first = releases.release(tx, delivery, now)
        detail: dict[str, JsonValue] = {
            "due_at": delivery.due_at.isoformat() if delivery.due_at is not None else None,
            "released_at": now.isoformat(),
            "first_released": list(first),
            "attempts": delivery.attempts,
        }
        self._audit(tx, situation, "released", delivery, detail)
        if not giving.channel.notifies:
            return ()
        return releases.begin_notice(tx, delivery, delivery.versions)

    async def _notify(self, giving: _Giving, delivery: Delivery, versions: tuple[str, ...]) -> None:
        """Tell the patient, once; whatever comes of it is written down and never repeated (SAF-67)."""
        faultpoint("release.notifying")
        outcome = await giving.channel.notify(giving.report)
        faultpoint("release.notified")
        match outcome.receipt:
            case Receipt.CONFIRMED:
                state = NoticeState.NOTIFIED
            case Receipt.UNKNOWN:
                state = NoticeState.UNKNOWN
            case _:
                state = NoticeState.FAILED
        report_id = delivery.report_id
        await self._store.write(lambda tx: releases.end_notice(tx, report_id, versions, state, outcome.words))
        if state is not NoticeState.NOTIFIED:
            log.error("patient not told of a report", alarm=True, **_told_of(delivery, outcome))

    async def _find_lost_notices(self, report_id: str) -> None:
        """Whoever told the patient fell before it was written down what came of it: nobody knows."""
        lost = [
            each
            for each in await self._store.read(lambda read: releases.notices(read, report_id))
            if each.state is NoticeState.NOTIFYING
        ]
        if not lost:
            return
        versions = [each.version_id for each in lost]
        words = "the gateway fell while it told the patient"
        await self._store.write(lambda tx: releases.end_notice(tx, report_id, versions, NoticeState.UNKNOWN, words))
        log.error("patient not told of a report", alarm=True, report=report_id, channel=lost[0].channel, reason=words)

    def _unknown(self, tx: Tx, situation: Situation, delivery: Delivery) -> None:
        words = "the gateway fell while it gave the report, and the channel takes nothing twice"
        if deliveries.move(tx, delivery, DeliveryState.UNKNOWN, words=words):
            self._audit(tx, situation, DeliveryState.UNKNOWN.value, delivery, {})
            log.error("report not delivered", alarm=True, **_told_of(delivery, Outcome(Receipt.UNKNOWN, words)))

    def _keep_due(self, tx: Tx, situation: Situation, document: Document, bar: Barred) -> None:
        known = situation.wish.at(document.channel, situation.deliveries)
        delivery = deliveries.begin(tx, document, bar.state, situation.plan.due_at)
        next_at = situation.now + ACCOUNT_AGAIN if bar.again_at is None else bar.again_at
        deliveries.move(tx, delivery, bar.state, words=bar.words, next_at=next_at)
        if bar.is_other_person:
            self._hold_identity(tx, situation, bar)
        if known is None or known.state is not bar.state:
            self._audit(tx, situation, bar.state.value, delivery, {"words": bar.words})

    def _hold_identity(self, tx: Tx, situation: Situation, bar: Barred) -> None:
        """Hold a report whose patient's account is somebody else's, until a person has looked (SAF-66)."""
        report_id, calendar = situation.report.report_id, self._means.planner.calendar
        if any(each.kind is HoldKind.IDENTITY for each in holds.holds(tx, report_id)):
            return
        review_on = working_days_after(day_of(situation.now, calendar), IDENTITY_REVIEW_WORKING_DAYS, calendar)
        hold = Hold(tx.new_id(), HoldKind.IDENTITY, "release", "gateway", bar.words, situation.now, review_on)
        holds.place(tx, report_id, hold)
        record(tx, situation.report, "hold", _AUTHOR, {"hold": hold.hold_id, "kind": hold.kind.value})
        log.error("account of somebody else", alarm=True, report=report_id)

    def _audit(self, tx: Tx, situation: Situation, act: str, delivery: Delivery, detail: dict[str, JsonValue]) -> None:
        common: dict[str, JsonValue] = {
            "channel": delivery.channel,
            "document": delivery.document_key,
            "versions": list(delivery.versions),
        }
        record(tx, situation.report, act, _AUTHOR, common | detail)


async def _each_for_itself(acts: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all of it at once: no channel that hangs or fails keeps another waiting (REL-40). Raises the first fault."""
    for outcome in await asyncio.gather(*acts, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _told_of(delivery: Delivery, outcome: Outcome) -> dict[str, object]:
    return {
        "report": delivery.report_id,
        "channel": delivery.channel,
        "receipt": outcome.receipt.value,
        "attempts": delivery.attempts,
        "reason": outcome.words,
    }


_GONE = (Receipt.CONFIRMED, Receipt.NO_ACCOUNT)
"""What a channel says of something that stands there no more."""


def _is_alarming(attempts: int) -> bool:
    return attempts == ALARM_ATTEMPTS or attempts % ALARM_AGAIN_ATTEMPTS == 0


def _is_refused(outcome: Outcome) -> bool:
    return outcome.receipt is Receipt.REFUSED
