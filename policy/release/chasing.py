"""What is due to whom about a verified report: notice, alert, proof of dispatch, reminders, warning (SAF-51, SAF-68).

Beside the release and never in its way: no embargo and no hold delays an alert (REL-11), and silence blocks nothing
(REL-03). Somebody is chased until the report is acknowledged and, where it is coded as an alert, until the follow-up
with the patient is recorded. What an absence made late is told once, not once for each day missed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from policy.release import clock
from policy.release.circumstances import Flag
from policy.release.reports import AlertCategory
from policy.release.terms import Calendar, ReleaseTerms

CHASED_WEEKS_MAX = 52
"""After its last reminder a report is told of weekly, for a year."""
WEEK = timedelta(days=7)


class Recipient(StrEnum):
    """Who is told."""

    REFERRER = "referrer"
    TEAM = "team"
    """The referrer's."""
    SERVICE_MAILBOX = "service-mailbox"
    DEPUTIES = "deputies"
    RESULTS_LEAD = "results-lead"
    GOVERNANCE = "governance"
    CALDICOTT_GUARDIAN = "caldicott-guardian"
    PRIVACY_OFFICER = "privacy-officer"


class Matter(StrEnum):
    """Of what."""

    REPORT = "report"
    """A report is there to be read."""
    ALERT = "alert"
    """It is coded as an alert."""
    UNANSWERED_ALERT = "unanswered-alert"
    DISPATCH_NOT_PROVEN = "dispatch-not-proven"
    """Nothing proves that the referrer was sent it: somebody sees to it."""
    NOT_ACKNOWLEDGED = "not-acknowledged"
    NO_FOLLOW_UP = "no-follow-up"
    RELEASE_NEAR = "release-near"
    """An alert that nobody acknowledged goes to its patient soon."""
    CORRECTION_CONTACT = "correction-contact"
    """A text that the patient has seen was taken away for a correction: they are to be spoken to (SAF-61)."""
    NOT_VERIFIED_AGAIN = "not-verified-again"
    """A report was taken back to be corrected, and nothing came since: it reaches nobody until somebody sees to it."""
    HELD_BY_RULE = "held-by-rule"
    """A rule keeps it from its patient until somebody has looked, and nobody has (domain.md A3, REL-45, SAF-66)."""
    HOLD_OVERDUE = "hold-overdue"
    """Somebody should have looked at a hold, or at what a rule keeps back (SAF-64)."""
    HOLD_ENDING = "hold-ending"
    WRONG_PATIENT = "wrong-patient"
    """An incident (REL-36)."""
    WORD_OF_UNKNOWN = "word-of-unknown"
    """A withdrawal, or the like, under a number that no report has: somebody finds out which report is meant."""
    DELAY = "delay"
    """Addenda keep a report from its patient for long (SAF-60)."""


@dataclass(frozen=True, slots=True)
class Referral:
    """A verified report in its referrer's hands."""

    verified_at: datetime
    alerts: frozenset[str] = frozenset()
    is_referrer_known: bool = True
    """Named, and not known to have left."""
    dispatched_at: datetime | None = None
    acknowledged_at: datetime | None = None
    followed_up_at: datetime | None = None
    release_at: datetime | None = None
    """When it goes to the patient if nothing else happens."""
    contact_from: datetime | None = None
    """Since when a correction after release asks for a word with the patient."""
    is_standing: bool = True
    """False: it was taken back meanwhile, and nobody is to act on it."""
    flags: frozenset[Flag] = frozenset()
    """What the plan of now says that a person should know."""

    @property
    def is_alert(self) -> bool:
        """Whether it is coded as one; a code that nobody mapped is one too (A8)."""
        return bool(self.alerts)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to be told."""

    key: str
    """The same step has the same key: each is told once."""
    matter: Matter
    to: tuple[Recipient, ...]
    due_at: datetime


def due(
    referral: Referral, told: Collection[str], terms: ReleaseTerms, calendar: Calendar, now: datetime
) -> tuple[Step, ...]:
    """What is to be told now, the longest due first."""
    ripe = [each for each in _ladder(referral, terms, calendar, now) if each.due_at <= now]
    ripe += _flagged(referral, calendar, now)
    newest: dict[str, Step] = {}
    for each in ripe:
        newest[_rung(each)] = each
    return tuple(each for each in ripe if each.key not in told and newest[_rung(each)] is each)


def next_at(
    referral: Referral, told: Collection[str], terms: ReleaseTerms, calendar: Calendar, now: datetime
) -> datetime | None:
    """When there is something to tell next; `now` where there is already, None where there will be nothing more."""
    if due(referral, told, terms, calendar, now):
        return now
    return next((each.due_at for each in _ladder(referral, terms, calendar, now) if each.due_at > now), None)


def alert_is_late(
    referral: Referral, told: Collection[str], terms: ReleaseTerms, now: datetime, since: datetime
) -> bool:
    """Whether an alert has not left within its time, which counts from when the gateway knew of it."""
    if not referral.is_alert or _of_alert(Matter.ALERT, referral) in told:
        return False
    return now >= max(referral.verified_at, since) + timedelta(minutes=terms.alert_sla_minutes)


def _ladder(referral: Referral, terms: ReleaseTerms, calendar: Calendar, now: datetime) -> list[Step]:
    """Every step that still matters, in the order in which they fall due; of those to come at least the next."""
    steps = [*_contact(referral, terms, calendar)]
    if referral.is_standing:
        steps += [*_told_at_once(referral), *_dispatch(referral, terms, calendar), *_reminders(referral, terms, now)]
        if referral.is_alert and referral.acknowledged_at is None:
            steps += _unanswered(referral, terms)
    return sorted(steps, key=lambda step: (step.due_at, step.key))


def _told_at_once(referral: Referral) -> Iterator[Step]:
    to = _first_told(referral)
    yield Step(Matter.REPORT.value, Matter.REPORT, to, referral.verified_at)
    if referral.is_alert:
        yield Step(_of_alert(Matter.ALERT, referral), Matter.ALERT, to, referral.verified_at)


def _dispatch(referral: Referral, terms: ReleaseTerms, calendar: Calendar) -> Iterator[Step]:
    if referral.dispatched_at is not None:
        return
    late = clock.end_of_working_day(referral.verified_at, terms.dispatch_evidence_working_days, calendar)
    matter = Matter.DISPATCH_NOT_PROVEN
    yield Step(matter.value, matter, (Recipient.SERVICE_MAILBOX,), late)
    if referral.release_at is not None:
        to = (Recipient.SERVICE_MAILBOX, Recipient.RESULTS_LEAD)
        yield Step(f"{matter.value}/release", matter, to, max(late, referral.release_at))


def _reminders(referral: Referral, terms: ReleaseTerms, now: datetime) -> Iterator[Step]:
    """Referrer and deputies first, then the lead too, then the governance list, and so on weekly."""
    if referral.acknowledged_at is None:
        matter = Matter.NOT_ACKNOWLEDGED
    elif referral.is_alert and referral.followed_up_at is None:
        matter = Matter.NO_FOLLOW_UP
    else:
        return
    widening = (Recipient.DEPUTIES, Recipient.RESULTS_LEAD, Recipient.GOVERNANCE)
    days = sorted(terms.reminder_days)
    for nth, day in enumerate(days, 1):
        to = (*_first_told(referral), *widening[: nth if nth < len(days) else len(widening)])
        yield Step(f"day-{day}", matter, tuple(dict.fromkeys(to)), referral.verified_at + timedelta(days=day))
    last = referral.verified_at + timedelta(days=max(days, default=0))
    for week in range(1, CHASED_WEEKS_MAX + 1):
        yield Step(f"week-{week}", matter, widening[1:], last + week * WEEK)
        if last + week * WEEK > now:
            return


def _unanswered(referral: Referral, terms: ReleaseTerms) -> Iterator[Step]:
    times = [_escalation(each, terms) for each in referral.alerts]
    matter = Matter.UNANSWERED_ALERT
    to_deputies, to_lead = min(first for first, _ in times), min(second for _, second in times)
    first = (*_first_told(referral), Recipient.DEPUTIES)
    key = _of_alert(matter, referral)
    yield Step(f"{key}/1", matter, tuple(dict.fromkeys(first)), referral.verified_at + to_deputies)
    second = (Recipient.TEAM, Recipient.DEPUTIES, Recipient.RESULTS_LEAD)
    yield Step(f"{key}/2", matter, second, referral.verified_at + to_lead)
    if referral.release_at is not None:
        near = max(referral.verified_at, referral.release_at - timedelta(days=terms.alert_warning_days))
        to = (Recipient.TEAM, Recipient.RESULTS_LEAD)
        yield Step(_of_alert(Matter.RELEASE_NEAR, referral), Matter.RELEASE_NEAR, to, near)


def _of_alert(matter: Matter, referral: Referral) -> str:
    """The key of what is told of an alert: of another one it is told anew."""
    return f"{matter.value}/{' '.join(sorted(referral.alerts))}"


def _contact(referral: Referral, terms: ReleaseTerms, calendar: Calendar) -> Iterator[Step]:
    if referral.contact_from is None or referral.followed_up_at is not None:
        return
    matter = Matter.CORRECTION_CONTACT
    yield Step(matter.value, matter, _first_told(referral), referral.contact_from)
    for nth, to in enumerate((Recipient.RESULTS_LEAD, Recipient.GOVERNANCE), 1):
        days = nth * terms.correction_contact_working_days
        late = clock.end_of_working_day(referral.contact_from, days, calendar)
        yield Step(f"{matter.value}/{nth}", matter, (Recipient.DEPUTIES, to), late)


def _flagged(referral: Referral, calendar: Calendar, now: datetime) -> Iterator[Step]:
    """What the plan says of now: an overdue hold is told anew each day, what a rule keeps back each week."""
    today = clock.day_of(now, calendar)
    if Flag.HELD_BY_RULE in referral.flags:
        key = f"{Matter.HELD_BY_RULE.value}-{today:%G-W%V}"
        yield Step(key, Matter.HELD_BY_RULE, (Recipient.SERVICE_MAILBOX,), now)
    if Flag.HOLD_OVERDUE in referral.flags:
        to_caldicott = (Recipient.CALDICOTT_GUARDIAN,) if Flag.HOLD_TO_CALDICOTT in referral.flags else ()
        key = f"{Matter.HOLD_OVERDUE.value}-{today:%Y-%m-%d}"
        yield Step(key, Matter.HOLD_OVERDUE, (Recipient.RESULTS_LEAD, *to_caldicott), now)
    if Flag.WRONG_PATIENT in referral.flags:
        to = (Recipient.PRIVACY_OFFICER, Recipient.RESULTS_LEAD)
        yield Step(Matter.WRONG_PATIENT.value, Matter.WRONG_PATIENT, to, now)
    if Flag.WORD_OF_UNKNOWN in referral.flags:
        to = (Recipient.SERVICE_MAILBOX, Recipient.RESULTS_LEAD)
        yield Step(Matter.WORD_OF_UNKNOWN.value, Matter.WORD_OF_UNKNOWN, to, now)
    if Flag.HOLD_ENDING in referral.flags:
        yield Step(Matter.HOLD_ENDING.value, Matter.HOLD_ENDING, (*_first_told(referral), Recipient.RESULTS_LEAD), now)
    if Flag.NOT_VERIFIED_AGAIN in referral.flags:
        to = (Recipient.SERVICE_MAILBOX, Recipient.RESULTS_LEAD)
        yield Step(Matter.NOT_VERIFIED_AGAIN.value, Matter.NOT_VERIFIED_AGAIN, to, now)
    if Flag.DELAY_ALARM in referral.flags:
        yield Step(Matter.DELAY.value, Matter.DELAY, (Recipient.RESULTS_LEAD,), now)


def _first_told(referral: Referral) -> tuple[Recipient, ...]:
    """The referrer; where nobody knows them, the service from the first day on."""
    if referral.is_referrer_known:
        return (Recipient.REFERRER,)
    return (Recipient.SERVICE_MAILBOX, Recipient.DEPUTIES)


def _escalation(alert: str, terms: ReleaseTerms) -> tuple[timedelta, timedelta]:
    """When deputies and lead are told. A category without times of its own has those of an unknown one, else none."""
    known = {category.value: each for category, *each in terms.alert_escalation_minutes}
    first, second = known.get(alert) or known.get(AlertCategory.UNKNOWN.value) or (0, 0)
    return timedelta(minutes=first), timedelta(minutes=second)


def _rung(step: Step) -> str:
    """Steps of one rung follow each other: of those that are late only the newest is told."""
    is_reminder = step.matter in {Matter.NOT_ACKNOWLEDGED, Matter.NO_FOLLOW_UP}
    return "reminder" if is_reminder else step.key.rpartition("/")[0] or step.key
