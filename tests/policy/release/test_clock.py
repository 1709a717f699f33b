"""The embargo's end and the working window, by the vectors of domain.md A3 and for any instant of two decades."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.release.clock import (
    age_on,
    alert_window,
    birthday,
    embargo_end,
    embargo_step,
    end_of_working_day,
    step_problems,
    window,
    working_days_after,
)
from policy.release.terms import LONDON, AlertWindow, Calendar, EmbargoStep, ReleaseTerms, ShorterEvidence
from tests.policy.release.examples import CALENDAR, TERMS, london, utc

FOUR_WEEKS = EmbargoStep()
EVIDENCE = ShorterEvidence(date(2026, 1, 1), "NHSE 2027/14", "established, by audit of June 2027", "Dr A Lead")
TWO_WEEKS = EmbargoStep(14, utc("2027-01-01 00:00"), EVIDENCE)
TWO_DECADES_S = 21 * 365 * 24 * 3600
INSTANTS = st.integers(0, TWO_DECADES_S).map(lambda seconds: utc("2020-01-01 00:00") + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("verified", "end"),
    [
        ("2026-06-01 08:15", "2026-06-29 08:15"),
        ("2026-10-09 09:00", "2026-11-06 10:00"),
        ("2026-09-27 00:30", "2026-10-25 01:30"),
        ("2027-03-09 10:00", "2027-04-06 10:00"),
        ("2027-02-28 01:30", "2027-03-28 01:30"),
        ("2026-11-27 16:00", "2026-12-25 16:00"),
    ],
)
def test_an_embargo_ends_at_the_later_of_four_weeks_and_the_same_wall_time(verified: str, end: str) -> None:
    assert embargo_end(utc(verified), FOUR_WEEKS, CALENDAR) == utc(end)


def test_a_wall_time_that_comes_twice_counts_the_second_time() -> None:
    end = embargo_end(utc("2026-09-27 00:30"), FOUR_WEEKS, CALENDAR).astimezone(LONDON)
    assert (end.hour, end.minute, end.tzname()) == (1, 30, "GMT")


def test_a_wall_time_that_is_left_out_counts_an_hour_later() -> None:
    end = embargo_end(utc("2027-02-28 01:30"), FOUR_WEEKS, CALENDAR).astimezone(LONDON)
    assert (end.hour, end.minute, end.tzname()) == (2, 30, "BST")


def test_christmas_moves_an_end_behind_the_substitute_day() -> None:
    end = embargo_end(london("2026-11-27 16:00"), FOUR_WEEKS, CALENDAR)
    assert window(end, TERMS, CALENDAR) == london("2026-12-29 08:00")


@given(INSTANTS)
def test_no_embargo_is_shorter_by_either_measure(verified: datetime) -> None:
    end = embargo_end(verified, FOUR_WEEKS, CALENDAR)
    wall = verified.astimezone(LONDON).replace(tzinfo=None) + timedelta(days=28)
    assert end - verified >= timedelta(hours=672)
    assert end.astimezone(LONDON).replace(tzinfo=None) >= wall
    assert end - verified <= timedelta(hours=673)


@given(INSTANTS)
def test_the_working_window_never_comes_earlier_and_is_always_open(at: datetime) -> None:
    opened = window(at, TERMS, CALENDAR)
    local = opened.astimezone(LONDON)
    assert opened >= at
    assert local.weekday() < 5
    assert local.date() not in CALENDAR.holidays
    assert time(8) <= local.time() < time(18)
    assert window(opened, TERMS, CALENDAR) == opened


@given(INSTANTS)
def test_without_working_days_the_end_itself_counts(at: datetime) -> None:
    assert window(at, replace(TERMS, working_days_only=False), CALENDAR) == at


@pytest.mark.parametrize(
    ("at", "opened"),
    [
        ("2026-06-27 11:00", "2026-06-29 08:00"),
        ("2026-06-26 23:30", "2026-06-29 08:00"),
        ("2026-06-26 17:59:59", "2026-06-26 17:59:59"),
        ("2026-06-26 18:00", "2026-06-29 08:00"),
        ("2026-06-26 07:59:59", "2026-06-26 08:00"),
        ("2026-06-26 08:00", "2026-06-26 08:00"),
        ("2026-08-31 09:00", "2026-09-01 08:00"),
        ("2027-03-26 09:00", "2027-03-30 08:00"),
    ],
    ids=["saturday", "friday night", "last second", "closing", "too early", "opening", "bank holiday", "easter"],
)
def test_an_end_out_of_hours_waits_for_the_next_working_window(at: str, opened: str) -> None:
    assert window(london(at), TERMS, CALENDAR) == london(opened)


@pytest.mark.parametrize(
    ("at", "opened"),
    [
        ("2026-06-25 11:59:59", "2026-06-25 11:59:59"),
        ("2026-06-25 12:00", "2026-06-29 08:00"),
        ("2026-06-26 09:00", "2026-06-29 08:00"),
        ("2026-08-30 09:00", "2026-09-01 08:00"),
    ],
    ids=["thursday", "thursday noon", "friday", "bank holiday monday"],
)
def test_a_cancer_report_waits_for_a_morning_from_monday_to_thursday(at: str, opened: str) -> None:
    assert alert_window(london(at), AlertWindow(), CALENDAR) == london(opened)


def test_a_calendar_without_a_working_day_is_told_rather_than_searched_for_ever() -> None:
    every_day = frozenset(date(2026, 1, 1) + timedelta(days=count) for count in range(800))
    with pytest.raises(ValueError, match="no open day"):
        window(london("2026-06-26 09:00"), TERMS, Calendar(every_day))


def test_a_new_embargo_counts_for_what_is_verified_from_then_on() -> None:
    terms = ReleaseTerms(embargo=(FOUR_WEEKS, TWO_WEEKS))
    assert embargo_step(terms, utc("2026-12-31 23:59:59")).days == 28
    assert embargo_step(terms, utc("2027-01-01 00:00")).days == 14


def test_what_was_verified_before_every_step_keeps_the_national_four_weeks() -> None:
    assert embargo_step(ReleaseTerms(embargo=(TWO_WEEKS,)), utc("2026-12-31 23:59:59")).days == 28


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (EmbargoStep(14, utc("2027-12-31 00:00")), "evidence"),
        (replace(TWO_WEEKS, from_at=utc("2026-12-31 23:59:59")), "12 months"),
        (replace(TWO_WEEKS, evidence=replace(EVIDENCE, national_agreement=" ")), "national agreement"),
        (replace(TWO_WEEKS, evidence=replace(EVIDENCE, practice_statement="")), "practice"),
        (replace(TWO_WEEKS, evidence=replace(EVIDENCE, approved_by="")), "approver"),
        (EmbargoStep(29), "reason"),
        (EmbargoStep(0, reason="at once"), "at least one day"),
    ],
)
def test_a_shorter_embargo_needs_all_its_evidence_and_a_longer_one_a_reason(step: EmbargoStep, expected: str) -> None:
    assert any(expected in problem for problem in step_problems(step))


def test_an_embargo_with_all_that_it_needs_may_be_set() -> None:
    assert step_problems(TWO_WEEKS) == ()
    assert step_problems(FOUR_WEEKS) == ()
    assert step_problems(EmbargoStep(42, reason="agreed with the cancer alliance")) == ()


@pytest.mark.parametrize(
    ("birth", "at", "age"),
    [
        ("2010-06-15", "2026-06-14 23:59:59", 15),
        ("2010-06-15", "2026-06-15 00:00", 16),
        ("2008-02-29", "2021-02-28 23:59:59", 12),
        ("2008-02-29", "2021-03-01 00:00", 13),
        ("2008-02-29", "2024-02-28 23:59:59", 15),
        ("2008-02-29", "2024-02-29 00:00", 16),
    ],
)
def test_a_birthday_counts_from_midnight_in_london(birth: str, at: str, age: int) -> None:
    assert age_on(date.fromisoformat(birth), london(at), CALENDAR) == age


@given(st.dates(date(1950, 1, 1), date(2020, 1, 1)), st.integers(1, 18))
def test_the_instant_of_a_birthday_is_the_first_of_that_age(birth: date, age: int) -> None:
    at = birthday(birth, age, CALENDAR)
    assert age_on(birth, at, CALENDAR) == age
    assert age_on(birth, at - timedelta(seconds=1), CALENDAR) == age - 1


def test_working_days_leave_out_weekends_and_bank_holidays() -> None:
    assert working_days_after(date(2026, 12, 24), 1, CALENDAR) == date(2026, 12, 29)
    assert working_days_after(date(2026, 12, 24), 5, CALENDAR) == date(2027, 1, 5)
    assert end_of_working_day(london("2026-12-24 09:00"), 1, CALENDAR) == london("2026-12-30 00:00")
