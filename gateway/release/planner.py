"""Plan a report anew: read all that is known of it, ask the rules, write down what follows, and have it done.

The one place where rules and rows meet. Whatever changes a report calls it in the same transaction; the looking job
calls it when time has changed something. It may be called at any time and as often as one likes: the same facts give
the same plan, only what differs is audited, and nothing here gives a patient anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import JsonValue
from gateway.model.reporting.reading import Choices
from gateway.model.work.jobs import Lane, NewJob
from gateway.release.giving.documents import (
    ACCOUNT_AGAIN,
    RETRY_MAX,
    Step,
    Wanted,
    next_look,
    step,
    to_drop,
    to_withdraw,
)
from gateway.release.naming import word_of_unknown
from gateway.release.owners import as_known
from policy.parties import TrustId
from policy.release import withholding
from policy.release.circumstances import (
    Circumstances,
    Death,
    Flag,
    Hold,
    HoldKind,
    IdentityAgreement,
    Plan,
    ReleaseState,
    Traced,
)
from policy.release.clock import day_of, midnight, window
from policy.release.lifecycle import fold
from policy.release.planning import plan as planned
from policy.release.reports import Lifecycle, Version
from policy.release.terms import Calendar, ReleaseTerms
from storage.database import Read, Tx
from storage.registers import patients as registered
from storage.registers.state import Author
from storage.release import deliveries, holds, patients, releases, reports, standing
from storage.release.deliveries import Delivery, DeliveryState
from storage.release.reports import KeptReport
from storage.work import jobs

TEND = "release-tend"
"""The kind of job that gives and takes back what the plan of one report says."""
LETTER_CHANNEL = "letter"
"""The [[channel]] that leads to whoever prints and posts, for adults who chose so where their trust offers it."""
NO_LOOK_BEFORE = timedelta(seconds=30)
"""A look that changes nothing is not repeated before."""
REASONS_MAX = 20
_TEND_ATTEMPTS_MAX = 8

Referred = Callable[[Read, str], tuple[bool, bool]]
"""Whether it is proven that the referrer was sent the report, and whether it is acknowledged."""
Noted = Callable[[Tx, "Situation"], bool]
"""Follows a plan for the referrer's sake; says whether `Referred` has another answer now."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What applies now; a reload may change it."""

    terms_of: Callable[[TrustId], ReleaseTerms]
    calendar: Calendar
    now: Callable[[], datetime]
    """Time that no jump of the clock takes ahead (SAF-31)."""
    referred: Referred = lambda _read, _report_id: (False, False)
    noted: Noted = lambda _tx, _found: False


@dataclass(frozen=True, slots=True)
class Situation:
    """A report as it stands in one snapshot, and what is to be done."""

    report: KeptReport
    lifecycle: Lifecycle
    plan: Plan
    wish: Wanted
    deliveries: tuple[Delivery, ...]
    terms: ReleaseTerms
    trace: standing.Trace | None
    """Of this day, for the version that stands."""
    now: datetime
    opens_at: datetime
    """When the next hour for releases begins; `now` within one (REL-26)."""
    held: tuple[Hold, ...]
    """Holds in force, the patient's own wish among them."""
    is_stopped: bool
    """By the trust's switch, or by a hold in force: what stands, stands, and nothing new is given."""
    is_barred: bool
    """By what speaks against any release now: the trace of the day, terms that changed since (REL-44, SAF-66)."""
    word_of_unknown: Version | None = None
    """The newest word of a report that nobody has sent: that it is stopped, or has an addendum."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is due and only waits for an hour, or for its patient to be traced."""
        return self.plan.needs_trace or (self.plan.state is ReleaseState.DUE and not self.wish.versions)

    @property
    def may_give(self) -> bool:
        """Whether something may be given now, as far as rules go; whom to, the trace says.

        A text that stands nowhere yet goes by the plan; one that another channel has already, in an hour for releases
        and while nothing holds it or bars it.
        """
        if not self.wish.versions:
            return False
        seen = {
            version for each in self.deliveries if each.state is DeliveryState.CONFIRMED for version in each.versions
        }
        if not seen.issuperset(self.wish.versions):
            return True
        return not self.is_stopped and not self.is_barred and self.opens_at <= self.now

    @property
    def wants_trace(self) -> bool:
        """Whether the patient is to be traced before anything else."""
        return self.plan.needs_trace or (self.has_gives and self.trace is None)

    @property
    def has_gives(self) -> bool:
        """Whether a channel is to be given something now."""
        return self.may_give and self.lags

    @property
    def lags(self) -> bool:
        """Whether a channel lacks what another one has, be it an hour for it or not."""
        channels = self.terms.channels
        return any(step(self.wish, each, self.deliveries, self.now) is Step.PUT for each in channels)

    @property
    def has_work(self) -> bool:
        """Whether something is to be done at a channel now, or the patient is to be traced."""
        return self.wants_trace or self.has_gives or bool(self.withdrawals) or bool(self.drops)

    @property
    def withdrawals(self) -> tuple[Delivery, ...]:
        """What the patient may see and is not to see; what a channel would not take away is tried again in time."""
        return tuple(
            each
            for each in to_withdraw(self.wish, self.deliveries, is_waiting=self.is_waiting)
            if each.state is not DeliveryState.WITHDRAWING or each.next_at is None or each.next_at <= self.now
        )

    @property
    def drops(self) -> tuple[Delivery, ...]:
        """What was never put and is wanted no more."""
        return to_drop(self.wish, self.deliveries, is_waiting=self.is_waiting)


class Planner:
    """Plans reports by the rules as they are now."""

    def __init__(self, rules: Callable[[], Rules]) -> None:
        self._rules = rules

    def filed(self, tx: Tx, report_id: str) -> None:
        """Something came from a feed: plan anew, in the transaction that filed it."""
        self.replan(tx, report_id, Author("feed", "", "a feed told of it"))

    def replan(self, tx: Tx, report_id: str, author: Author, *, queues: bool = True) -> Situation:
        """Plan anew and write that down; `queues`: have done what is to be done. Raises `InvalidRequest`."""
        reports.hold(tx, report_id)
        found = self.situation(tx, report_id)
        if self._rules().noted(tx, found):
            found = self.situation(tx, report_id)
        self._settle(tx, found, author)
        if queues and found.has_work:
            lane = Lane.EMERGENCY if found.withdrawals else Lane.BACKGROUND
            jobs.enqueue(tx, tending(report_id, lane))
        return found

    def situation(self, read: Read, report_id: str) -> Situation:
        """How a report stands and what the rules make of it; changes nothing. Raises `InvalidRequest`."""
        report = reports.get(read, report_id)
        if report is None:
            raise InvalidRequest("no such report")
        rules = self._rules()
        terms, now = rules.terms_of(report.trust), rules.now()
        tolerance = timedelta(minutes=terms.verification_future_tolerance_minutes)
        told = as_known(read, report_id, reports.versions(read, report_id))
        lifecycle = fold(told, tolerance)
        given = deliveries.deliveries(read, report_id)
        circumstances = _circumstances(
            read, report, _known_at(report, told, lifecycle), given, rules.referred(read, report_id)
        )
        circumstances = replace(circumstances, version_count=len(told))
        chosen = _chosen(read, report)
        if chosen.not_now:
            asked_for = _asked_for(terms, now, rules.calendar)
            circumstances = replace(circumstances, holds=(*circumstances.holds, asked_for))
        if chosen.letter and terms.letter_for_adults:
            terms = replace(terms, channels=(*terms.channels, LETTER_CHANNEL))
        trace = standing.trace(read, report_id)
        if trace is not None and (lifecycle.current is None or trace.version_id != lifecycle.current.version_id):
            trace = None
        fresh = trace if trace is not None and day_of(trace.at, rules.calendar) == day_of(now, rules.calendar) else None

        def judged(traced: standing.Trace | None) -> Plan:
            with_trace = replace(circumstances, traced=None if traced is None else _traced(traced))
            return planned(lifecycle, with_trace, terms, rules.calendar, now)

        plan = judged(fresh)
        if trace is not None and fresh is None:
            # What the last trace found stands until the next one is here: nobody is alive again for a night.
            stands = judged(trace)
            look_at = min((at for at in (plan.look_at, stands.look_at) if at is not None), default=None)
            plan = replace(stands, gives=plan.gives, needs_trace=plan.needs_trace, look_at=look_at)
        stop = word_of_unknown(told)
        if stop is not None:
            plan = replace(plan, flags=plan.flags | {Flag.WORD_OF_UNKNOWN})
        held = tuple(each for each in circumstances.holds if _is_in_force(each, now, rules))
        return Situation(
            report=report,
            lifecycle=lifecycle,
            plan=plan,
            wish=Wanted(report_id, plan.gives),
            deliveries=given,
            terms=terms,
            trace=fresh,
            now=now,
            opens_at=window(now, terms, rules.calendar),
            held=held,
            is_stopped=circumstances.is_stopped or bool(held),
            is_barred=_is_barred(lifecycle, circumstances, terms, fresh),
            word_of_unknown=stop,
        )

    def referred(self, read: Read, report_id: str) -> tuple[bool, bool]:
        """Whether it is proven that the referrer was sent the report, and whether it is acknowledged."""
        return self._rules().referred(read, report_id)

    def now(self) -> datetime:
        """The instant by which is planned."""
        return self._rules().now()

    @property
    def calendar(self) -> Calendar:
        """The days that are worked."""
        return self._rules().calendar

    def terms_of(self, trust: TrustId) -> ReleaseTerms:
        """How a trust releases."""
        return self._rules().terms_of(trust)

    def _settle(self, tx: Tx, found: Situation, author: Author) -> None:
        was, plan, now = found.report, found.plan, found.now
        current = found.lifecycle.current.version_id if found.lifecycle.current else None
        looks = [plan.look_at, next_look(found.wish, found.terms.channels, found.deliveries)]
        if found.has_work:
            looks.append(now + RETRY_MAX)  # should the job that does it fail for good
        elif found.plan.state is ReleaseState.RELEASED and found.lags:
            looks.append(max(found.opens_at, now + (ACCOUNT_AGAIN if found.is_barred else RETRY_MAX)))
        look_at = min((each for each in looks if each is not None), default=None)
        if look_at is not None and look_at <= now:
            look_at = now + NO_LOOK_BEFORE
        flags = frozenset(flag.value for flag in plan.flags)
        after = (plan.state, plan.due_at, frozenset(plan.held_for), flags, current, found.lifecycle.standing)
        before = (was.state, was.due_at, was.held_for, was.flags, was.current_version, was.standing)
        if after == before:
            if look_at != was.look_at:
                standing.look_at_report(tx, was.report_id, look_at)
            return
        reports.settle(tx, was.report_id, replace(plan, look_at=look_at), found.lifecycle.standing, current)
        body: dict[str, JsonValue] = {
            "act": "plan",
            "report": was.report_id,
            "trust": was.trust.code,
            "by": author.subject,
            "reason": author.reason,
            "from": was.state.value,
            "to": plan.state.value,
            "version": current,
            "due_at": plan.due_at.isoformat() if plan.due_at is not None else None,
            "held_for": [*sorted(plan.held_for)],
            "flags": [*sorted(flags)],
            "why": [f"{each.rule}: {each.words}" for each in plan.reasons[:REASONS_MAX]],
        }
        tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, author.request_id, body))


def tending(report_id: str, lane: Lane) -> NewJob:
    """The job that does what the plan of a report says."""
    return NewJob(
        TEND,
        lane,
        {"report": report_id},
        dedupe_key=f"{TEND}/{report_id}",
        follows_running=True,
        attempts_max=_TEND_ATTEMPTS_MAX,
    )


def record(tx: Tx, report: KeptReport, act: str, author: Author, detail: dict[str, JsonValue]) -> None:
    """Append what was done about a report to the audit, in the transaction that does it."""
    body: dict[str, JsonValue] = {
        "act": act,
        "report": report.report_id,
        "trust": report.trust.code,
        "by": author.subject,
        "reason": author.reason,
        **detail,
    }
    tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, author.request_id, body))


def _circumstances(
    read: Read,
    report: KeptReport,
    verified: tuple[datetime, datetime] | None,
    given: Sequence[Delivery],
    referred: tuple[bool, bool],
) -> Circumstances:
    decided = holds.decisions(read, report.report_id)
    number = registered.nhs_number(read, report.patient_id) if report.patient_id is not None else None
    return Circumstances(
        has_nhs_number=number is not None,
        exam_codes=reports.exam_codes(read, report.report_id),
        birth_date=report.birth_date,
        holds=decided.holds,
        early=decided.early,
        reviewed_versions=decided.reviewed,
        seen={
            version: each.released_at
            for each in given
            if each.state in _STANDS and each.released_at is not None
            for version in each.versions
        },
        ever_released=releases.released(read, report.report_id),
        retracted=decided.retracted,
        is_dispatch_proven=referred[0],
        is_acknowledged=referred[1],
        is_stopped=standing.is_stopped(read, report.trust),
        is_retrospective_approved=verified is not None and standing.is_approved(read, report.trust, *verified),
    )


def _known_at(report: KeptReport, told: Sequence[Version], lifecycle: Lifecycle) -> tuple[datetime, datetime] | None:
    """When it was first verified, and since when the gateway knew: an approval lets go what it could count."""
    verified_at = lifecycle.first_verified_at
    if verified_at is None:
        return None
    heard = [each.received_at for each in told if each.verification and each.verification.at == verified_at]
    return verified_at, max(report.created_at, min(heard, default=report.created_at))


def _is_barred(
    lifecycle: Lifecycle, circumstances: Circumstances, terms: ReleaseTerms, trace: standing.Trace | None
) -> bool:
    repeats = lifecycle.repeats
    early = tuple(
        replace(each, version_id=repeats.get(each.version_id, each.version_id)) for each in circumstances.early
    )
    if withholding.not_for_release(lifecycle, replace(circumstances, early=early), terms) is not None:
        return True
    if trace is None:
        return False
    traced = _traced(trace)
    is_found = traced.agreement is not IdentityAgreement.NOT_TRACED
    return not is_found or withholding.on_the_day(traced, circumstances, terms) is not None


_STANDS = (DeliveryState.CONFIRMED, DeliveryState.WITHDRAWING, DeliveryState.STUCK)


def _chosen(read: Read, report: KeptReport) -> Choices:
    """What the patient asked for, under any number that may be theirs (SAF-33)."""
    if report.patient_id is None:
        return Choices()
    return patients.chosen(read, registered.person(read, report.patient_id).related)


def _asked_for(terms: ReleaseTerms, now: datetime, calendar: Calendar) -> Hold:
    again = day_of(now, calendar) + timedelta(days=terms.hold_review_days_max)
    return Hold("", HoldKind.PATIENT_REQUEST, "patient", "patient", "not now", now, again)


def _traced(trace: standing.Trace) -> Traced:
    born = datetime.fromisoformat(trace.birth_date).date() if trace.birth_date else None
    return Traced(trace.at, IdentityAgreement(trace.agreement), born, trace.number_status, Death(trace.death))


def _is_in_force(hold: Hold, now: datetime, rules: Rules) -> bool:
    return not hold.kind.ends_by_itself or now < midnight(hold.review_on, rules.calendar)
