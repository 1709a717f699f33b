"""When an embargo ends, and which moment of a working day comes next (domain.md A3, REL-26, REL-46, SAF-68, SAF-69).

An embargo ends at the later of so many times 24 hours and the same wall time so many days on, so that neither change
of the clocks shortens it. Every instant that goes out is UTC; days and wall times are those of the calendar's zone.
Knows no report and reads no clock: instants, holidays and the zone come in.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

from policy import optout
from policy.release.terms import AlertWindow, Calendar, EmbargoStep, ReleaseTerms

NATIONAL_EMBARGO_DAYS = 28
"""REL-07. Fewer need the evidence of REL-46, more a reason (SAF-69)."""
EVIDENCE_MONTHS = 12
"""So long after go-live at the earliest may an embargo be shorter (REL-10, REL-46)."""
PLAIN_CALENDAR = Calendar()
"""Where no holiday counts."""
WORKING_WEEKDAYS = frozenset(range(5))
SEARCH_DAYS_MAX = 400
"""A calendar without a single open day in more than a year is a mistake."""


def embargo_step(terms: ReleaseTerms, verified_at: datetime) -> EmbargoStep:
    """The embargo for what was verified then: a later change leaves it alone (domain.md A3).

    What was verified before every step falls under the national four weeks.
    """
    begun = [step for step in terms.embargo if step.from_at <= verified_at]
    return max(begun, key=lambda step: step.from_at, default=EmbargoStep())


def embargo_end(verified_at: datetime, step: EmbargoStep, calendar: Calendar) -> datetime:
    """The first instant at which the embargo is over, before any working window."""
    return later_of(verified_at, step.days, calendar)


def later_of(start: datetime, days: int, calendar: Calendar) -> datetime:
    """The later of `days` times 24 hours and the same wall time `days` calendar days on.

    A wall time that comes twice counts the second time, one that is left out as much later as the clocks jump.
    """
    wall = start.astimezone(calendar.zone).replace(tzinfo=None) + timedelta(days=days)
    return max(start.astimezone(UTC) + timedelta(days=days), _instant(wall, calendar))


def window(at: datetime, terms: ReleaseTerms, calendar: Calendar) -> datetime:
    """The first instant from `at` on that lies in the release window of a working day; never earlier (REL-26)."""
    if not terms.working_days_only:
        return at.astimezone(UTC)
    return _next_open(at, WORKING_WEEKDAYS, (terms.window_opens, terms.window_closes), calendar)


def alert_window(at: datetime, hours: AlertWindow, calendar: Calendar) -> datetime:
    """The first instant from `at` on at which an unacknowledged report with a CANCER code may go (SAF-68).

    A bank holiday is no such day, whatever its weekday: somebody has to be there whom the patient can ring.
    """
    return _next_open(at, hours.weekdays & WORKING_WEEKDAYS, (hours.opens, hours.closes), calendar)


def is_working_day(day: date, calendar: Calendar) -> bool:
    """Whether `day` is a weekday and no bank holiday."""
    return day.weekday() in WORKING_WEEKDAYS and day not in calendar.holidays


def working_days_after(day: date, count: int, calendar: Calendar) -> date:
    """The `count`th working day after `day`; `day` itself for none."""
    passed = 0
    while passed < count:
        day += timedelta(days=1)
        passed += is_working_day(day, calendar)
    return day


def end_of_working_day(at: datetime, count: int, calendar: Calendar) -> datetime:
    """The end of the `count`th working day after `at`: until then something counts as done within so many."""
    return optout.end_of_working_day(at, count, calendar.holidays, calendar.zone)


def day_of(at: datetime, calendar: Calendar) -> date:
    """The calendar day of an instant, where the wall clock hangs."""
    return at.astimezone(calendar.zone).date()


def midnight(day: date, calendar: Calendar) -> datetime:
    """The instant at which a day begins."""
    return _instant(datetime.combine(day, time()), calendar)


def age_on(birth_date: date, at: datetime, calendar: Calendar) -> int:
    """Age in whole years; a birthday counts from 00:00 on its day, one of 29 February else from 1 March (A7)."""
    day = day_of(at, calendar)
    return day.year - birth_date.year - ((day.month, day.day) < (birth_date.month, birth_date.day))


def birthday(birth_date: date, age: int, calendar: Calendar) -> datetime:
    """The instant at which somebody reaches an age."""
    try:
        day = birth_date.replace(year=birth_date.year + age)
    except ValueError:  # 29 February of a year that has none
        day = date(birth_date.year + age, 3, 1)
    return midnight(day, calendar)


def step_problems(step: EmbargoStep, calendar: Calendar = PLAIN_CALENDAR) -> tuple[str, ...]:
    """Why an embargo may not be set so: what REL-46 and SAF-69 ask for and is not there; empty where it may."""
    if step.days < 1:
        return ("an embargo lasts at least one day",)
    if step.days > NATIONAL_EMBARGO_DAYS and not step.reason.strip():
        return ("an embargo of more than 28 days needs its reason (SAF-69)",)
    if step.days >= NATIONAL_EMBARGO_DAYS:
        return ()
    evidence = step.evidence
    if evidence is None:
        return ("an embargo of fewer than 28 days needs the evidence of REL-46",)
    problems = [
        f"an embargo of fewer than 28 days needs {what} (REL-46)"
        for what, words in (
            ("the reference of the national agreement", evidence.national_agreement),
            ("a statement that the practice is established among clinicians", evidence.practice_statement),
            ("a named approver", evidence.approved_by),
        )
        if not words.strip()
    ]
    if step.from_at < birthday(evidence.go_live_on, EVIDENCE_MONTHS // 12, calendar):
        problems.append("an embargo of fewer than 28 days begins 12 months after go-live at the earliest (REL-46)")
    return tuple(problems)


def _instant(wall: datetime, calendar: Calendar) -> datetime:
    """The instant of a wall time: the later reading of one that comes twice, or that does not exist."""
    return max(wall.replace(tzinfo=calendar.zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def _next_open(at: datetime, weekdays: frozenset[int], hours: tuple[time, time], calendar: Calendar) -> datetime:
    for day in _days_from(day_of(at, calendar)):
        if day.weekday() not in weekdays or day in calendar.holidays:
            continue
        opens, closes = (_instant(datetime.combine(day, hour), calendar) for hour in hours)
        if at < closes and opens < closes:
            return max(at.astimezone(UTC), opens)
    raise ValueError(f"no open day within {SEARCH_DAYS_MAX} days")


def _days_from(first: date) -> Iterator[date]:
    return (first + timedelta(days=count) for count in range(SEARCH_DAYS_MAX))
