"""The plan of one report: what its patient is to see now, what not any more, when to look again, and why.

Puts together what stands (`lifecycle`), when each text may go (`timing`) and what keeps it back (`withholding`).
`plan` is a function of facts and of an instant: asked again it says the same, and what is given already stays given
unless a rule takes it back, so a clock that runs backwards takes nothing from a patient (domain.md A3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from policy.release import clock, timing, withholding
from policy.release.circumstances import (
    Circumstances,
    Death,
    HoldKind,
    IdentityAgreement,
    Plan,
    Reason,
    ReleaseState,
    TakenBackFor,
)
from policy.release.explaining import embargo_reasons, told_at
from policy.release.noticing import noticed
from policy.release.reports import Lifecycle, Standing
from policy.release.terms import Calendar, ReleaseTerms
from policy.release.timing import Schedule, Text
from policy.release.withholding import CHILD, STOPPED, Block, Steps

TRACE_AGAIN = timedelta(minutes=15)
"""Who could not be traced is traced again after so long."""
DECEASED_AGAIN = timedelta(days=7)
"""So often somebody asks whether a death was reversed (SAF-66)."""

_NOTHING_STANDS = {
    Standing.RECEIVED: (ReleaseState.RECEIVED, TakenBackFor.CORRECTION, "A4", "nothing of it is verified"),
    Standing.VERIFIED: (ReleaseState.RECEIVED, TakenBackFor.CORRECTION, "A4", "nothing of it is verified"),
    Standing.BEING_CORRECTED: (
        ReleaseState.BEING_CORRECTED,
        TakenBackFor.CORRECTION,
        "REL-35",
        "its verification was taken back: a new embargo begins when it is verified again",
    ),
    Standing.CANCELLED: (ReleaseState.CANCELLED, TakenBackFor.RETRACTION, "A4", "its source cancelled it"),
    Standing.WITHDRAWN: (ReleaseState.WITHDRAWN, TakenBackFor.WRONG, "REL-36", "its source withdrew it as wrong"),
}


def plan(
    lifecycle: Lifecycle, circumstances: Circumstances, terms: ReleaseTerms, calendar: Calendar, now: datetime
) -> Plan:
    """What is to be done now, and when to look again although nothing has happened."""
    named = _carried(_named(circumstances, lifecycle.repeats), lifecycle)
    schedule = timing.schedule(lifecycle, named, terms, calendar)
    steps = withholding.watch(named.holds if lifecycle.current else (), terms, calendar)
    if lifecycle.current is None:
        state, reason, rule, words = _NOTHING_STANDS[lifecycle.standing]
        made = _taken_back(state, named, reason, Reason(rule, words))
    elif lifecycle.current.version_id in named.retracted:
        retracted = Reason("REL-25", "a professional took it, or the same text before it, back after its release")
        made = _taken_back(ReleaseState.RETRACTED, named, TakenBackFor.RETRACTION, retracted)
    else:
        verified = _Verified(lifecycle, schedule, named, terms, calendar, now)
        made = verified.plan()
        steps += verified.watch_rules(made.held_for)
    flags, looks = noticed(lifecycle, schedule, named, terms, calendar, now)
    held = withholding.watched(steps, calendar, now)
    looks = [at for at in (made.look_at, *looks, *held.looks) if at is not None and at > now]
    made = replace(made, flags=flags | held.flags, look_at=min(looks, default=None))
    return _as_shown(made, frozenset(circumstances.seen), lifecycle.repeats)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A report that stands verified, and everything that bears on it."""

    lifecycle: Lifecycle
    schedule: Schedule | None
    circumstances: Circumstances
    terms: ReleaseTerms
    calendar: Calendar
    now: datetime

    def plan(self) -> Plan:
        blocks = list(withholding.blocks(self.lifecycle, self.circumstances, self.terms, self.calendar, self.now))
        reasons = tuple(each.reason for each in blocks)
        protecting = [each.takes_back for each in blocks if each.takes_back is not None]
        if protecting:
            why = TakenBackFor.WRONG if TakenBackFor.WRONG in protecting else TakenBackFor.HOLD
            made = _taken_back(ReleaseState.HELD, self.circumstances, why, *reasons)
            return replace(made, held_for=_names(blocks))
        made = self._of_what_waits(blocks)
        gone = frozenset(self.circumstances.seen).difference(self._stands)
        if gone:
            is_retracted = gone <= self.circumstances.retracted
            why = TakenBackFor.RETRACTION if is_retracted else TakenBackFor.CORRECTION
            made = replace(made, takes_back=tuple(sorted(gone)), taken_back_for=why)
        is_released = self._seen[:1] == self._stands[:1]
        return replace(made, state=ReleaseState.RELEASED) if is_released else made

    def watch_rules(self, held_for: Collection[str]) -> Steps:
        """What is to be told of what a rule keeps back, and no person."""
        kept_for = withholding.rules(held_for, self.circumstances)
        if not kept_for:
            return ()
        waiting = [each.due_at for each in self.schedule.texts if each.name not in self._seen] if self.schedule else []
        due_at = min(waiting, default=None)
        since = max(each.received_at for each in self.lifecycle.texts)
        if due_at is not None and not withholding.ON_THE_DAY.isdisjoint(kept_for):
            since = max(since, due_at)
        return withholding.watch_rules(kept_for, since, due_at, self.calendar)

    @property
    def _stands(self) -> tuple[str, ...]:
        """The texts that may be shown together, the report first."""
        return tuple(
            each.version_id for each in self.lifecycle.texts if each.version_id not in self.circumstances.retracted
        )

    @property
    def _seen(self) -> tuple[str, ...]:
        return tuple(each for each in self._stands if each in self.circumstances.seen)

    def _of_what_waits(self, blocks: list[Block]) -> Plan:
        """The plan of the texts that the patient does not see yet, beside those that they do."""
        seen, schedule = self._seen, self.schedule
        waiting = (
            [each for each in schedule.texts if each.name in self._stands and each.name not in seen] if schedule else []
        )
        excluded = withholding.not_for_release(self.lifecycle, self.circumstances, self.terms)
        if excluded is not None:
            return Plan(ReleaseState.NOT_FOR_RELEASE, gives=seen, reasons=(excluded,))
        if schedule is None or not waiting:
            unseen = [each for each in self._stands if each not in seen]
            blocks = [*blocks, *self._unreviewed(unseen)]
            reasons = tuple(each.reason for each in blocks) or (Reason("REL-01", "its patient can see it"),)
            return Plan(ReleaseState.HELD, gives=seen, held_for=_names(blocks), reasons=reasons)
        next_due = min(each.due_at for each in waiting)
        names = [each.name for each in waiting if each.due_at <= max(next_due, self.now)]
        blocks = [*blocks, *self._unreviewed(names, next_due)]
        why = (*embargo_reasons(schedule, waiting, self.calendar), *(each.reason for each in blocks))
        if any(each.ends_at is None for each in blocks):
            return Plan(ReleaseState.HELD, gives=seen, held_for=_names(blocks), reasons=why)
        held_until = max((each.ends_at for each in blocks if each.ends_at is not None), default=next_due)
        if held_until > next_due:
            due_at = self._next_window(held_until)
            return Plan(ReleaseState.HELD, due_at, held_until, seen, held_for=_names(blocks), reasons=why)
        if self.now < next_due:
            return Plan(ReleaseState.EMBARGOED, next_due, next_due, seen, reasons=why)
        return self._due([each for each in waiting if each.due_at <= self.now], why)

    def _unreviewed(self, waiting: list[str], due_at: datetime | None = None) -> Iterable[Block]:
        """What keeps these texts back until a professional has read each of them."""
        words = withholding.safeguarding(waiting, self.circumstances, self.terms)
        if words is not None:
            yield Block(HoldKind.SAFEGUARDING.value, words)
        if due_at is None:
            return
        words = withholding.child(waiting, self._birth_date, due_at, self.circumstances, self.terms, self.calendar)
        if words is not None:
            yield Block(CHILD, words)

    def _due(self, ripe: list[Text], why: tuple[Reason, ...]) -> Plan:
        """Its time has come: does anything of this day speak against it?"""
        due_at, opens = min(each.due_at for each in ripe), self._next_window(self.now)
        held = Plan(ReleaseState.HELD, gives=self._seen)
        if self.circumstances.is_stopped:
            tomorrow = clock.midnight(clock.day_of(self.now, self.calendar) + timedelta(days=1), self.calendar)
            stopped = Reason("SAF-69", "the trust has stopped all release")
            return replace(held, look_at=tomorrow, held_for=(STOPPED,), reasons=(*why, stopped))
        dispatch = withholding.without_dispatch(self.circumstances, self.terms)
        if dispatch is not None:
            return replace(held, held_for=(dispatch.name,), reasons=(*why, dispatch.reason))
        found = self._found_on_the_day(why)
        if found is not None:
            return found
        open_now = [each for each in ripe if opens <= self.now or self._is_let_go_today(each)]
        if not open_now:
            shut = Reason("REL-26", f"due, and waits for working hours from {told_at(opens, self.calendar)}")
            return Plan(ReleaseState.DUE, due_at, opens, self._seen, reasons=(*why, shut))
        return self._identified(Plan(ReleaseState.DUE, due_at, gives=self._seen, reasons=why), open_now)

    def _found_on_the_day(self, why: tuple[Reason, ...]) -> Plan | None:
        """What the trace says against it, at whatever hour (SAF-66); None: nothing."""
        traced = self.circumstances.traced
        if traced is None or (traced.agreement is IdentityAgreement.NOT_TRACED and traced.death is Death.NO):
            return None
        against = withholding.on_the_day(traced, self.circumstances, self.terms)
        if against is None:
            return None
        state = ReleaseState.CANCELLED if traced.death is Death.FORMAL else ReleaseState.HELD
        again = None if traced.death is Death.NO else self.now + DECEASED_AGAIN
        return Plan(state, look_at=again, gives=self._seen, held_for=(against.name,), reasons=(*why, against.reason))

    def _identified(self, due: Plan, ripe: list[Text]) -> Plan:
        """The patient is traced first, and what goes goes; `_found_on_the_day` has looked at what a trace found."""
        traced = self.circumstances.traced
        if traced is None:
            reason = Reason("SAF-66", "due: its patient is traced first")
            return replace(due, needs_trace=True, look_at=self.now + TRACE_AGAIN, reasons=(*due.reasons, reason))
        if traced.agreement is IdentityAgreement.NOT_TRACED and traced.death is Death.NO:
            retry = traced.at + TRACE_AGAIN
            reason = Reason("SAF-66", "due: its patient could not be traced, and is traced again")
            look_at = retry if retry > self.now else self.now + TRACE_AGAIN
            return replace(due, needs_trace=retry <= self.now, look_at=look_at, reasons=(*due.reasons, reason))
        goes = {*self._seen, *(each.name for each in ripe)}
        later = [each.due_at for each in self.schedule.texts if each.due_at > self.now] if self.schedule else []
        return replace(
            due,
            gives=tuple(each for each in self._stands if each in goes),
            look_at=min(later, default=None),
            reasons=(*due.reasons, Reason("REL-01", "its time has come")),
        )

    def _is_let_go_today(self, text: Text) -> bool:
        """Whether a professional let it go on this very day: then no hour is the wrong one."""
        return text.is_early and clock.day_of(text.due_at, self.calendar) == clock.day_of(self.now, self.calendar)

    @property
    def _birth_date(self) -> date | None:
        """The later one, where the report and the trace differ: then somebody looks who might be a child."""
        traced = self.circumstances.traced
        told = (self.circumstances.birth_date, traced.birth_date if traced else None)
        return max((each for each in told if each is not None), default=None)

    def _next_window(self, at: datetime) -> datetime:
        is_for_alerts = self.schedule is not None and self.schedule.is_for_alert_window
        return timing.next_window(at, self.terms, self.calendar, is_for_alerts)


def _taken_back(state: ReleaseState, circumstances: Circumstances, why: TakenBackFor, *reasons: Reason) -> Plan:
    seen = tuple(sorted(circumstances.seen))
    return Plan(state, takes_back=seen, taken_back_for=why if seen else None, reasons=reasons)


def _names(blocks: Iterable[Block]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.name for each in blocks))


def _named(circumstances: Circumstances, repeats: Mapping[str, str]) -> Circumstances:
    """The same, with every version under the name of the one that it repeats."""
    if not repeats:
        return circumstances
    return replace(
        circumstances,
        early=tuple(replace(each, version_id=_name(each.version_id, repeats)) for each in circumstances.early),
        reviewed_versions=frozenset(_name(each, repeats) for each in circumstances.reviewed_versions),
        seen=_earliest(circumstances.seen, repeats),
        ever_released=_earliest(circumstances.ever_released, repeats),
        retracted=frozenset(_name(each, repeats) for each in circumstances.retracted),
    )


def _carried(named: Circumstances, lifecycle: Lifecycle) -> Circumstances:
    """The same, where a text that was retracted stays so when it is verified again, until somebody lets it go."""
    let_go = {each.version_id for each in named.early}
    again = {text for text, others in lifecycle.same_text.items() if text not in let_go and others & named.retracted}
    return replace(named, retracted=named.retracted | again) if again else named


def _earliest(instants: Mapping[str, datetime], repeats: Mapping[str, str]) -> dict[str, datetime]:
    earliest: dict[str, datetime] = {}
    for version_id, at in instants.items():
        name = _name(version_id, repeats)
        earliest[name] = min(at, earliest.get(name, at))
    return earliest


def _name(version_id: str, repeats: Mapping[str, str]) -> str:
    return repeats.get(version_id, version_id)


def _as_shown(made: Plan, seen: frozenset[str], repeats: Mapping[str, str]) -> Plan:
    """The plan, with a text that the patient sees already under the name under which they see it."""
    shown = {_name(each, repeats): each for each in sorted(seen) if each in repeats}
    gives = tuple(each if each in seen else shown.get(each, each) for each in made.gives)
    gone = frozenset(made.takes_back)
    return replace(made, gives=gives, takes_back=tuple(sorted(each for each in seen if _name(each, repeats) in gone)))
