"""What keeps a report back although its time may have come: holds, exclusions, children, and the patient on the day.

Only a hold of timing ends by itself (SAF-64). A hold for the patient's or somebody's protection takes back what can be
seen already; one about when does not. Reasons are words for staff: none of them ever reaches a patient (REL-53).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from policy.release import clock
from policy.release.circumstances import (
    Circumstances,
    Death,
    Flag,
    Hold,
    HoldKind,
    IdentityAgreement,
    Reason,
    TakenBackFor,
    Traced,
)
from policy.release.reports import Lifecycle, Problem
from policy.release.terms import Calendar, ReleaseTerms, ThirteenToFifteen, UnderThirteen, WithoutDispatch

CALDICOTT_WORKING_DAYS = 5
PROTECTING = frozenset(
    {
        HoldKind.SERIOUS_HARM,
        HoldKind.SAFEGUARDING,
        HoldKind.THIRD_PARTY,
        HoldKind.LEGAL,
        HoldKind.IDENTITY,
        HoldKind.WRONG_PATIENT,
    }
)
"""They take back what the patient can see."""
ADULT_AGE = 16
OWN_ACCOUNT_AGE = 13
VERSIONS_USUAL_MAX = 200
"""A feed that sends more versions of one report has gone wrong: a professional reads what stands before its patient."""
VERSIONS_MAX = 1_000
"""A report of so many takes nothing more but what stops it: what is newer may be missing, and nobody is shown it."""
STOPPED = "stopped"
TOO_MANY_VERSIONS = "too-many-versions"
DECEASED = "deceased"
CHILD = "child"
ON_THE_DAY = frozenset({HoldKind.IDENTITY.value, DECEASED, Flag.DISPATCH_NOT_PROVEN.value})
"""What is found out only once its time has come."""
_REVIEWS = frozenset({CHILD, HoldKind.SAFEGUARDING.value})
Steps = tuple[tuple[Flag, datetime, datetime | None], ...]
"""What is to be told, from when on, and until when; None: until what it is about has ended."""

_PROBLEMS = {
    Problem.VERIFICATION_TIME_INVALID: Reason("A3", "nobody can tell when it was verified"),
    Problem.NO_CONTENT: Reason("REL-45", "there is nothing in it to read"),
    Problem.PATIENT_CHANGED: Reason("SAF-33", "its versions name more than one patient"),
    Problem.PART_DELETED: Reason("A4", "a part of it was deleted"),
}


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that keeps a report back."""

    name: str
    """As in `Plan.held_for`."""
    reason: Reason
    ends_at: datetime | None = None
    """When it ends by itself; None: only a person ends it."""
    takes_back: TakenBackFor | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """What is to be told of holds, and when that changes next."""

    flags: frozenset[Flag] = frozenset()
    looks: tuple[datetime, ...] = ()


def not_for_release(lifecycle: Lifecycle, circumstances: Circumstances, terms: ReleaseTerms) -> Reason | None:
    """Why a report is none that goes to its patient by itself; None: it is one."""
    excluded = circumstances.exam_codes & terms.excluded_codes
    if not terms.is_on or terms.go_live_at is None:
        return Reason("SAF-69", "the trust does not release reports")
    if excluded:
        return Reason("REL-56", f"reports of exam {min(excluded)} do not go to patients")
    started = lifecycle.clock_started_at
    if started is None or started >= terms.go_live_at or circumstances.is_retrospective_approved:
        return None
    if lifecycle.current and any(each.version_id == lifecycle.current.version_id for each in circumstances.early):
        return None
    return Reason("A3", "it was verified before the trust began to release")


def blocks(
    lifecycle: Lifecycle, circumstances: Circumstances, terms: ReleaseTerms, calendar: Calendar, now: datetime
) -> Iterator[Block]:
    """What keeps the report back, whatever the hour: holds in force, problems, exclusions."""
    for hold in circumstances.holds:
        ends_at = clock.midnight(hold.review_on, calendar) if hold.kind.ends_by_itself else None
        if ends_at is None or now < ends_at:
            yield _of_hold(hold, ends_at)
    for problem in sorted(lifecycle.problems):
        is_foreign = problem is Problem.PATIENT_CHANGED
        yield Block(problem.value, _PROBLEMS[problem], takes_back=TakenBackFor.HOLD if is_foreign else None)
    if not circumstances.has_nhs_number:
        yield Block("no-nhs-number", Reason("K13", "it names no NHS number"))
    stands = {each.version_id for each in lifecycle.texts}
    if circumstances.version_count >= VERSIONS_MAX:
        words = f"it has {VERSIONS_MAX} versions and takes no more: a newer one may be missing"
        yield Block(TOO_MANY_VERSIONS, Reason("REL-31", words), takes_back=TakenBackFor.HOLD)
    elif circumstances.version_count > VERSIONS_USUAL_MAX and not stands <= circumstances.reviewed_versions:
        words = f"it has more than {VERSIONS_USUAL_MAX} versions: a professional reviews it first"
        yield Block(TOO_MANY_VERSIONS, Reason("REL-31", words))


def safeguarding(waiting: Collection[str], circumstances: Circumstances, terms: ReleaseTerms) -> Reason | None:
    """Why texts of such an exam wait for a review, each addendum for its own (SAF-64); None: they do not."""
    safeguarded = circumstances.exam_codes & terms.safeguarding_codes
    if not safeguarded or circumstances.reviewed_versions.issuperset(waiting):
        return None
    return Reason("SAF-64", f"reports of exam {min(safeguarded)} wait until a professional has reviewed them")


def child(
    waiting: Collection[str],
    born: date | None,
    due_at: datetime,
    circumstances: Circumstances,
    terms: ReleaseTerms,
    calendar: Calendar,
) -> Reason | None:
    """Why a child's texts wait for a review, by the age on the day on which they are due (SAF-65); None: they do not.

    A birthday while they wait for the review does not take its place.
    """
    if born is None or circumstances.reviewed_versions.issuperset(waiting):
        return None
    age = clock.age_on(born, due_at, calendar)
    if age < OWN_ACCOUNT_AGE and terms.under_13 is UnderThirteen.HOLD_FOR_REVIEW:
        return Reason("SAF-65", "the patient is below 13: a professional reviews it first")
    if OWN_ACCOUNT_AGE <= age < ADULT_AGE and terms.from_13_to_15 is ThirteenToFifteen.HOLD_FOR_REVIEW:
        return Reason("SAF-65", "the patient is between 13 and 15: a professional reviews it first")
    return None


def on_the_day(traced: Traced, circumstances: Circumstances, terms: ReleaseTerms) -> Block | None:
    """What the trace of the day says against it (SAF-66); None: nothing."""
    if traced.death is not Death.NO:
        return Block(DECEASED, Reason("REL-44", f"the patient has died ({traced.death.value} notice)"))
    if traced.agreement is IdentityAgreement.DISAGREES:
        words = "NHS number, name or date of birth disagree with the national register"
        return Block(HoldKind.IDENTITY.value, Reason("SAF-66", words))
    if traced.nhs_number_status not in terms.nhs_number_statuses:
        return Block(HoldKind.IDENTITY.value, Reason("SAF-66", "the status of the NHS number is not accepted"))
    if traced.birth_date is None and circumstances.birth_date is None:
        return Block(CHILD, Reason("SAF-65", "nobody knows the patient's age: a professional reviews it first"))
    return None


def without_dispatch(circumstances: Circumstances, terms: ReleaseTerms) -> Block | None:
    """What a missing proof of dispatch does at the end of the embargo (domain.md A2); None: nothing."""
    if circumstances.is_dispatch_proven or terms.without_dispatch is WithoutDispatch.RELEASE_AND_ESCALATE:
        return None
    return Block(Flag.DISPATCH_NOT_PROVEN.value, Reason("A2", "nothing proves that the referrer was sent it"))


def rules(held_for: Collection[str], circumstances: Circumstances) -> frozenset[str]:
    """What a rule keeps it back for, of which no person knows; none while somebody on the staff holds it.

    Whoever holds it has a day on which to look again, and a stop of the whole trust is loud by itself. Of a formal
    death there is nothing left to find out.
    """
    holds = {hold.kind.value for hold in circumstances.holds}
    if holds.intersection(held_for) - {HoldKind.PATIENT_REQUEST.value}:
        return frozenset()
    is_dead = circumstances.traced is not None and circumstances.traced.death is Death.FORMAL
    return frozenset(held_for) - holds - {STOPPED} - ({DECEASED} if is_dead else set())


def watch_rules(kept_for: Collection[str], since: datetime, due_at: datetime | None, calendar: Calendar) -> Steps:
    """What is to be told of a report that rules keep back `since`: by the next working day, then as an overdue hold.

    Nobody chose a day to look at it, so that working day is the one; of a review that is asked for, the day on which
    the report would be due, if that is later (domain.md A3, REL-45, SAF-64 to 66).
    """
    review_on = told_on = clock.working_days_after(clock.day_of(since, calendar), 1, calendar)
    if due_at is not None and _REVIEWS.issuperset(kept_for):
        review_on = max(told_on, clock.day_of(due_at, calendar))
    return ((Flag.HELD_BY_RULE, clock.midnight(told_on, calendar), None), *_overdue(review_on, calendar))


def watch(holds: Collection[Hold], terms: ReleaseTerms, calendar: Calendar) -> Steps:
    """Holds that end soon or that somebody should have looked at (SAF-64)."""
    return tuple(step for hold in holds for step in _steps(hold, terms, calendar))


def watched(steps: Steps, calendar: Calendar, now: datetime) -> Watch:
    """What is to be told now; of what is overdue daily, of what a rule keeps back weekly."""
    flags = {flag for flag, begins, ends in steps if begins <= now and (ends is None or now < ends)}
    looks = [at for _, begins, ends in steps for at in (begins, ends) if at is not None]
    today = clock.day_of(now, calendar)
    if Flag.HOLD_OVERDUE in flags:
        looks.append(clock.midnight(today + timedelta(days=1), calendar))
    if Flag.HELD_BY_RULE in flags:
        looks.append(clock.midnight(today + timedelta(days=7 - today.weekday()), calendar))
    return Watch(frozenset(flags), tuple(at for at in looks if at > now))


def _steps(hold: Hold, terms: ReleaseTerms, calendar: Calendar) -> Steps:
    review = clock.midnight(hold.review_on, calendar)
    if hold.kind.ends_by_itself:
        warned = clock.midnight(hold.review_on - timedelta(days=terms.hold_warning_days), calendar)
        return ((Flag.HOLD_ENDING, warned, review),)
    if hold.kind is HoldKind.PATIENT_REQUEST:
        return ()  # the patient's own wish is nobody's omission
    return _overdue(hold.review_on, calendar)


def _overdue(review_on: date, calendar: Calendar) -> Steps:
    overdue = clock.midnight(review_on + timedelta(days=1), calendar)
    to_caldicott = clock.working_days_after(review_on, CALDICOTT_WORKING_DAYS, calendar)
    return (
        (Flag.HOLD_OVERDUE, overdue, None),
        (Flag.HOLD_TO_CALDICOTT, clock.midnight(to_caldicott, calendar), None),
    )


def _of_hold(hold: Hold, ends_at: datetime | None) -> Block:
    rule = {HoldKind.PORTAL_PAUSE: "REL-55", HoldKind.SERIOUS_HARM: "REL-50", HoldKind.THIRD_PARTY: "REL-51"}
    until = "it ends by itself on" if ends_at else "to be reviewed by"
    words = f"held ({hold.kind.value}) by {hold.role}, {until} {hold.review_on:%d %B %Y}"
    takes_back = None
    if hold.kind in PROTECTING:
        takes_back = TakenBackFor.WRONG if hold.kind is HoldKind.WRONG_PATIENT else TakenBackFor.HOLD
    return Block(hold.kind.value, Reason(rule.get(hold.kind, "SAF-64"), words), ends_at, takes_back)
