"""When each text of a report goes to its patient, and when one is taken back: tables of domain.md A5 and A10."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.release.circumstances import (
    Flag,
    ReleaseState,
    TakenBackFor,
)
from policy.release.reports import Said
from policy.release.terms import (
    AddendumBeforeRelease,
    EmbargoStep,
)
from tests.policy.release.examples import BEGIN, TERMS, london, version
from tests.policy.release.situations import (
    ADDENDUM,
    DAY,
    END,
    FINAL,
    JOINT_END,
    SECOND,
    SENT,
    out,
    planned,
)


def test_a_report_goes_out_at_the_end_of_its_embargo_and_not_a_second_before() -> None:
    before, at = planned((FINAL,), END - SECOND), planned((FINAL,), END)
    assert (before.state, before.due_at, before.look_at, before.gives) == (ReleaseState.EMBARGOED, END, END, ())
    assert (at.state, at.gives) == (ReleaseState.DUE, ("final",))


def test_nothing_but_verification_moves_the_end() -> None:
    late = replace(FINAL, stated_at=BEGIN + 3 * DAY, received_at=BEGIN + 5 * DAY)
    assert planned((late,), BEGIN + 6 * DAY).due_at == END


def test_an_unacknowledged_report_is_released_all_the_same_and_flagged() -> None:
    unread = replace(SENT, is_acknowledged=False)
    made = planned((FINAL,), END, unread)
    assert made.gives == ("final",)
    assert Flag.UNACKNOWLEDGED in made.flags
    assert Flag.UNACKNOWLEDGED not in planned((FINAL,), END).flags
    assert Flag.UNACKNOWLEDGED not in planned((FINAL,), BEGIN + 7 * DAY - SECOND, unread).flags
    assert Flag.UNACKNOWLEDGED in planned((FINAL,), BEGIN + 7 * DAY, unread).flags


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (Said.PRELIMINARY, ReleaseState.RECEIVED),
        (Said.TAKEN_BACK, ReleaseState.RECEIVED),
        (Said.CANCELLED, ReleaseState.CANCELLED),
        (Said.WITHDRAWN, ReleaseState.WITHDRAWN),
        (Said.APPENDED, ReleaseState.RECEIVED),
    ],
)
def test_what_nobody_verified_never_goes_out(said: Said, state: ReleaseState) -> None:
    made = planned((version("one", said),), END + 400 * DAY)
    assert (made.state, made.gives, made.due_at, made.look_at) == (state, (), None, None)


@pytest.mark.parametrize(
    ("said", "state", "why"),
    [
        (Said.PRELIMINARY, ReleaseState.BEING_CORRECTED, TakenBackFor.CORRECTION),
        (Said.TAKEN_BACK, ReleaseState.BEING_CORRECTED, TakenBackFor.CORRECTION),
        (Said.CANCELLED, ReleaseState.CANCELLED, TakenBackFor.RETRACTION),
        (Said.WITHDRAWN, ReleaseState.WITHDRAWN, TakenBackFor.WRONG),
    ],
)
def test_what_stops_a_released_report_takes_it_back_at_once(said: Said, state: ReleaseState, why: TakenBackFor) -> None:
    sunday = london("2026-07-05 03:00")
    made = planned((FINAL, version("then", said, END + DAY)), sunday, out("final"))
    assert (made.state, made.takes_back, made.taken_back_for, made.gives) == (state, ("final",), why, ())


def test_working_hours_count_also_when_the_gateway_was_away() -> None:
    saturday = planned((FINAL,), london("2026-07-04 11:00"))
    assert (saturday.state, saturday.gives, saturday.due_at) == (ReleaseState.DUE, (), END)
    assert saturday.look_at == london("2026-07-06 08:00")
    assert not saturday.needs_trace
    assert planned((FINAL,), london("2026-07-06 08:00")).gives == ("final",)


def test_a_released_report_stays_out_of_hours_and_when_the_clock_runs_backwards() -> None:
    for now in (london("2026-07-04 23:00"), BEGIN - 300 * DAY):
        made = planned((FINAL,), now, out("final"), traces=False)
        assert (made.state, made.gives, made.takes_back) == (ReleaseState.RELEASED, ("final",), ())


def test_a_report_that_was_taken_back_by_a_hold_is_under_no_second_embargo() -> None:
    once = replace(SENT, ever_released={"final": END})
    longer = replace(TERMS, embargo=(EmbargoStep(42, reason="agreed later"),))
    for terms in (TERMS, longer):
        made = planned((FINAL,), END + DAY, once, terms)
        assert (made.state, made.gives) == (ReleaseState.DUE, ("final",))


def test_report_and_addendum_go_together_at_the_later_end() -> None:
    assert planned((FINAL, ADDENDUM), END).due_at == JOINT_END
    assert planned((FINAL, ADDENDUM), JOINT_END - SECOND).gives == ()
    assert planned((FINAL, ADDENDUM), JOINT_END).gives == ("final", "more")


def test_an_administrative_addendum_goes_with_its_report_and_delays_nothing() -> None:
    clerical = replace(ADDENDUM, is_administrative=True)
    assert planned((FINAL, clerical), END).gives == ("final", "more")


def test_an_administrative_addendum_after_release_has_an_embargo_of_its_own() -> None:
    clerical = version("more", Said.APPENDED, END + DAY, is_administrative=True)
    assert planned((FINAL, clerical), END + 2 * DAY, out("final")).gives == ("final",)


def test_addenda_delay_a_report_by_eight_weeks_at_most() -> None:
    cap = london("2026-07-27 09:15")
    second = version("second", Said.APPENDED, BEGIN + 27 * DAY)
    third = version("third", Said.APPENDED, BEGIN + 40 * DAY)
    told = (FINAL, second, third)
    assert planned(told, cap - SECOND).gives == ()
    made = planned(told, cap)
    assert made.gives == ("final", "second")
    assert made.look_at == london("2026-08-10 08:00")
    late = planned(told, london("2026-08-10 08:00"), out("final", "second", at=cap))
    assert late.gives == ("final", "second", "third")


def test_a_long_delay_is_told_from_the_sixth_week_on() -> None:
    second = version("second", Said.APPENDED, BEGIN + 27 * DAY)
    alarm = london("2026-07-13 09:15")
    assert Flag.DELAY_ALARM not in planned((FINAL, second), alarm - SECOND).flags
    assert planned((FINAL, second), alarm - SECOND).look_at == alarm
    assert Flag.DELAY_ALARM in planned((FINAL, second), alarm).flags


def test_the_longest_delay_does_not_shorten_the_embargo_of_a_correction() -> None:
    corrected = version("corrected", Said.CORRECTED, BEGIN + 40 * DAY)
    more = version("more", Said.APPENDED, BEGIN + 45 * DAY)
    assert planned((FINAL, corrected, more), BEGIN + 50 * DAY).due_at == london("2026-08-10 08:00")


def test_an_addendum_after_release_waits_for_its_own_embargo_beside_the_report() -> None:
    after = version("more", Said.APPENDED, END + DAY)
    due = london("2026-07-28 09:15")
    before, at = planned((FINAL, after), due - SECOND, out("final")), planned((FINAL, after), due, out("final"))
    assert (before.state, before.gives, before.due_at) == (ReleaseState.RELEASED, ("final",), due)
    assert Flag.ADDENDUM_AFTER_RELEASE in before.flags
    assert at.gives == ("final", "more")
    assert planned((FINAL, after), due, out("final", "more")).flags == frozenset()


def test_with_a_clock_of_its_own_only_an_alert_makes_the_report_wait() -> None:
    terms = replace(TERMS, addendum_before_release=AddendumBeforeRelease.OWN_CLOCK)
    assert planned((FINAL, ADDENDUM), END, terms=terms).gives == ("final",)
    alert = replace(ADDENDUM, alerts=frozenset({"urgent"}))
    assert planned((FINAL, alert), END, terms=terms).gives == ()
    assert planned((FINAL, alert), JOINT_END, terms=terms).gives == ("final", "more")


@pytest.mark.parametrize("said", [Said.PRELIMINARY, Said.TAKEN_BACK])
def test_a_report_that_nobody_verifies_again_is_told_of_after_two_working_days(said: Said) -> None:
    stopped = version("doubt", said, BEGIN + DAY, text="")
    late = london("2026-06-05 00:00")
    before = planned((FINAL, stopped), late - SECOND)
    assert (before.flags & {Flag.NOT_VERIFIED_AGAIN}, before.look_at) == (frozenset(), late)
    assert Flag.NOT_VERIFIED_AGAIN in planned((FINAL, stopped), late).flags
    again = version("again", at=BEGIN + 2 * DAY)
    assert Flag.NOT_VERIFIED_AGAIN not in planned((FINAL, stopped, again), late).flags
    assert Flag.NOT_VERIFIED_AGAIN not in planned((stopped,), late).flags


def test_a_corrected_report_is_never_released_in_its_wrong_version() -> None:
    corrected = version("corrected", Said.CORRECTED, BEGIN + 20 * DAY)
    assert planned((FINAL, corrected), END).gives == ()
    assert planned((FINAL, corrected), london("2026-07-20 07:59:59")).gives == ()
    assert planned((FINAL, corrected), london("2026-07-20 08:00")).gives == ("corrected",)


def test_a_correction_after_release_takes_the_old_version_back_at_once_and_waits() -> None:
    corrected = version("corrected", Said.CORRECTED, END + DAY)
    made = planned((FINAL, corrected), END + DAY, out("final"))
    assert (made.takes_back, made.taken_back_for) == (("final",), TakenBackFor.CORRECTION)
    assert (made.state, made.due_at) == (ReleaseState.EMBARGOED, london("2026-07-28 09:15"))
    assert Flag.CORRECTION_CONTACT_DUE in made.flags
    gone = replace(SENT, ever_released={"final": END})
    assert planned((FINAL, corrected), london("2026-07-28 09:15"), gone).gives == ("corrected",)


@pytest.mark.parametrize(("days", "due"), [(42, "2026-08-11 09:15"), (14, "2026-07-28 09:15")])
def test_a_correction_may_wait_longer_and_never_shorter_than_an_embargo(days: int, due: str) -> None:
    corrected = version("corrected", Said.CORRECTED, END + DAY)
    terms = replace(TERMS, correction_after_release_days=days)
    assert planned((FINAL, corrected), END + DAY, out("final"), terms).due_at == london(due)


def test_a_correction_that_changes_nothing_leaves_a_released_report_alone() -> None:
    same = version("same", Said.CORRECTED, END + DAY, text="text of final")
    made = planned((FINAL, same), END + DAY, out("final"))
    assert (made.state, made.gives, made.takes_back) == (ReleaseState.RELEASED, ("final",), ())


def test_a_copy_that_the_patient_sees_stays_when_the_preferred_source_comes_later() -> None:
    copy = version("sr", text="laid out otherwise", precedence=2)
    made = planned((copy, replace(FINAL, received_at=END + DAY)), END + 2 * DAY, out("sr"))
    assert (made.state, made.gives, made.takes_back) == (ReleaseState.RELEASED, ("sr",), ())


def test_a_running_embargo_keeps_its_length_when_the_setting_changes() -> None:
    shorter = EmbargoStep(14, BEGIN + DAY)
    terms = replace(TERMS, embargo=(EmbargoStep(), shorter))
    assert planned((FINAL,), BEGIN + 2 * DAY, terms=terms).due_at == END
    later = version("later", at=BEGIN + DAY)
    assert planned((later,), BEGIN + 2 * DAY, terms=terms).due_at == london("2026-06-16 09:15")


def test_every_plan_says_why() -> None:
    for now in (BEGIN, END, london("2026-07-04 11:00")):
        assert planned((FINAL, ADDENDUM), now).reasons
    rules = {each.rule for each in planned((FINAL, ADDENDUM), BEGIN + 8 * DAY).reasons}
    assert {"REL-07", "SAF-60"} <= rules
