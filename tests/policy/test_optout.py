"""The life of an opt-out: states, roles, deadlines, letters, and what acts meanwhile (SAF-23, SHR-09, SHR-30)."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from policy.facts import ImplementedChoice, SharingChoice
from policy.optout import (
    Case,
    CaseEvent,
    CaseState,
    CaseTerms,
    Letter,
    Refusal,
    Role,
    acting,
    end_of_working_day,
    move,
    receive,
)

LONDON = ZoneInfo("Europe/London")
MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def received(choice: SharingChoice = SharingChoice.OPT_OUT, terms: CaseTerms = CaseTerms()) -> Case:  # noqa: B008  # frozen
    return receive("c-1", 4, choice, MONDAY, terms=terms, holidays=(), zone=LONDON)


def after(case: Case, *events: CaseEvent) -> Case:
    """Let the events happen an hour apart, each by a role that may."""
    for number, event in enumerate(events, start=1):
        moved = move(case, event, Role.OFFICER, MONDAY + number * HOUR)
        assert isinstance(moved, Case), f"{event}: {moved}"
        case = moved
    return case


WHOLE_LIFE = (
    CaseEvent.ACKNOWLEDGE,
    CaseEvent.VERIFY,
    CaseEvent.CONSIDER,
    CaseEvent.IMPLEMENT,
    CaseEvent.CONFIRM,
)


def test_a_case_goes_from_received_to_confirmed_with_exactly_two_letters() -> None:
    case, letters = received(), []
    for event in WHOLE_LIFE:
        letters.append(case.letters_due)
        case = after(case, event)
    assert case.state is CaseState.CONFIRMED and case.letters_due == ()
    assert letters == [(Letter.ACKNOWLEDGEMENT,), (), (), (), (Letter.CONFIRMATION,)]


IN_STATE = {
    CaseState.RECEIVED: received(),
    CaseState.ACKNOWLEDGED: after(received(), *WHOLE_LIFE[:1]),
    CaseState.VERIFIED: after(received(), *WHOLE_LIFE[:2]),
    CaseState.CONSIDERED: after(received(), *WHOLE_LIFE[:3]),
    CaseState.IMPLEMENTED: after(received(), *WHOLE_LIFE[:4]),
    CaseState.CONFIRMED: after(received(), *WHOLE_LIFE),
    CaseState.REJECTED: after(received(), CaseEvent.ACKNOWLEDGE, CaseEvent.REJECT),
    CaseState.WITHDRAWN: after(received(), CaseEvent.ACKNOWLEDGE, CaseEvent.VERIFY, CaseEvent.WITHDRAW),
}
MOVES = {
    CaseState.RECEIVED: {"acknowledge", "verify", "reject", "withdraw"},
    CaseState.ACKNOWLEDGED: {"verify", "reject", "withdraw"},
    CaseState.VERIFIED: {"consider", "implement", "reject", "withdraw"},
    CaseState.CONSIDERED: {"implement", "reject", "withdraw"},
    CaseState.IMPLEMENTED: {"confirm"},
    CaseState.CONFIRMED: set(),
    CaseState.REJECTED: {"close"},
    CaseState.WITHDRAWN: {"close"},
}


@pytest.mark.parametrize("state", list(CaseState))
@pytest.mark.parametrize("event", list(CaseEvent))
def test_the_state_table_says_what_may_happen(state: CaseState, event: CaseEvent) -> None:
    assert IN_STATE[state].state is state
    moved = move(IN_STATE[state], event, Role.OFFICER, MONDAY + 9 * HOUR)
    assert isinstance(moved, Case if event.value in MOVES[state] else Refusal)


@pytest.mark.parametrize(
    ("event", "roles"),
    [
        (CaseEvent.ACKNOWLEDGE, {Role.OFFICER, Role.SYSTEM}),
        (CaseEvent.VERIFY, {Role.OFFICER}),
        (CaseEvent.CONSIDER, {Role.OFFICER}),
        (CaseEvent.IMPLEMENT, {Role.OFFICER, Role.SYSTEM}),
        (CaseEvent.CONFIRM, {Role.OFFICER, Role.SYSTEM}),
        (CaseEvent.REJECT, {Role.OFFICER}),
        (CaseEvent.WITHDRAW, {Role.OFFICER, Role.PATIENT}),
        (CaseEvent.CLOSE, {Role.OFFICER, Role.SYSTEM}),
    ],
)
def test_each_event_is_for_certain_roles(event: CaseEvent, roles: set[Role]) -> None:
    ready = next(case for state, case in IN_STATE.items() if event.value in MOVES[state])
    for role in Role:
        moved = move(ready, event, role, MONDAY + 9 * HOUR)
        assert isinstance(moved, Case) if role in roles else moved is Refusal.NOT_BY_THIS_ROLE


def test_a_case_is_implemented_without_consideration_when_time_presses() -> None:
    assert after(received(), CaseEvent.VERIFY, CaseEvent.IMPLEMENT).state is CaseState.IMPLEMENTED


def test_the_acknowledgement_is_sent_even_when_everything_else_was_faster() -> None:
    case = after(received(), CaseEvent.VERIFY, CaseEvent.IMPLEMENT)
    assert case.letters_due == (Letter.ACKNOWLEDGEMENT, Letter.CONFIRMATION)
    assert move(case, CaseEvent.CONFIRM, Role.SYSTEM, MONDAY + 9 * HOUR) is Refusal.ACKNOWLEDGEMENT_DUE_FIRST
    case = after(case, CaseEvent.ACKNOWLEDGE, CaseEvent.CONFIRM)
    assert case.state is CaseState.CONFIRMED and case.letters_due == ()


@pytest.mark.parametrize("end", [CaseEvent.REJECT, CaseEvent.WITHDRAW])
def test_a_case_that_is_not_implemented_gets_the_acknowledgement_and_one_closing_message(end: CaseEvent) -> None:
    case = after(received(), end)
    assert case.letters_due == (Letter.ACKNOWLEDGEMENT, Letter.CLOSING)
    assert move(case, CaseEvent.CLOSE, Role.SYSTEM, MONDAY + 9 * HOUR) is Refusal.ACKNOWLEDGEMENT_DUE_FIRST
    case = after(case, CaseEvent.ACKNOWLEDGE, CaseEvent.CLOSE)
    assert case.letters_due == () and case.confirmed_at is None
    assert move(case, CaseEvent.CLOSE, Role.SYSTEM, MONDAY + 9 * HOUR) is Refusal.LETTER_ALREADY_SENT


def test_no_letter_is_sent_twice() -> None:
    acknowledged = IN_STATE[CaseState.CONSIDERED]
    assert move(acknowledged, CaseEvent.ACKNOWLEDGE, Role.SYSTEM, MONDAY + 9 * HOUR) is Refusal.LETTER_ALREADY_SENT


def test_a_clock_that_ran_back_does_not_hold_up_an_opt_out() -> None:
    case = after(received(), CaseEvent.VERIFY)
    moved = move(case, CaseEvent.IMPLEMENT, Role.OFFICER, MONDAY - 9 * HOUR)
    assert isinstance(moved, Case) and moved.implemented_at == case.verified_at


# What acts


@pytest.mark.parametrize(
    ("state", "is_acting"),
    [
        (CaseState.RECEIVED, False),
        (CaseState.ACKNOWLEDGED, False),
        (CaseState.VERIFIED, True),
        (CaseState.CONSIDERED, True),
        (CaseState.IMPLEMENTED, True),
        (CaseState.CONFIRMED, True),
    ],
)
def test_an_opt_out_acts_from_verified_receipt_and_for_good_once_implemented(state: CaseState, is_acting: bool) -> None:
    choice = acting(IN_STATE[state])
    assert (choice is not None) == is_acting
    if choice:
        assert choice.is_provisional == (state in (CaseState.VERIFIED, CaseState.CONSIDERED))
        assert choice.choice is SharingChoice.OPT_OUT and choice.valid_until is None


def test_an_implemented_choice_takes_effect_when_implemented() -> None:
    case = IN_STATE[CaseState.CONFIRMED]
    assert case.implemented_at is not None
    assert acting(case) == ImplementedChoice("c-1", SharingChoice.OPT_OUT, False, case.implemented_at, 4, None)


def test_a_restriction_ends_with_the_case_and_its_past_can_still_be_explained() -> None:
    case = IN_STATE[CaseState.WITHDRAWN]
    choice = acting(case)
    assert choice is not None and (choice.effective_at, choice.valid_until) == (case.verified_at, case.ended_at)


def test_an_opt_in_changes_nothing_before_it_is_implemented() -> None:
    case = after(received(SharingChoice.OPT_IN), CaseEvent.VERIFY)
    assert acting(case) is None
    implemented = acting(after(case, CaseEvent.IMPLEMENT))
    assert implemented is not None and implemented.choice is SharingChoice.OPT_IN


def test_a_region_may_do_without_the_provisional_restriction() -> None:
    case = after(received(terms=CaseTerms(provisional_restriction=False)), CaseEvent.VERIFY)
    assert acting(case) is None


def test_an_unverified_request_that_is_rejected_never_acted() -> None:
    assert acting(IN_STATE[CaseState.REJECTED]) is None


# Deadlines


@pytest.mark.parametrize(
    ("received_at", "nth", "ends"),
    [
        ("2026-11-23T09:00", 2, "2026-11-26T00:00"),  # Monday: to the end of Wednesday
        ("2026-11-23T23:59", 2, "2026-11-26T00:00"),
        ("2026-11-27T17:00", 2, "2026-12-02T00:00"),  # Friday: Monday, Tuesday
        ("2026-11-28T10:00", 2, "2026-12-02T00:00"),  # Saturday likewise
        ("2026-11-29T10:00", 5, "2026-12-05T00:00"),
        ("2026-12-23T10:00", 2, "2026-12-30T00:00"),  # 25 and 28 December are holidays: 24 and 29
        ("2026-06-01T22:30", 2, "2026-06-03T23:00"),  # summer time: still Monday in London
        ("2026-06-01T23:30", 2, "2026-06-04T23:00"),  # already Tuesday there
        ("2026-10-22T10:00", 2, "2026-10-27T00:00"),  # over the end of summer time
        ("2026-11-23T09:00", 0, "2026-11-24T00:00"),
    ],
)
def test_a_deadline_is_the_end_of_the_nth_working_day_in_london(received_at: str, nth: int, ends: str) -> None:
    at = datetime.fromisoformat(received_at).replace(tzinfo=UTC)
    holidays = {date(2026, 12, 25), date(2026, 12, 28)}
    assert end_of_working_day(at, nth, holidays, LONDON) == datetime.fromisoformat(ends).replace(tzinfo=UTC)


def test_deadlines_run_from_receipt_and_are_missed_at_their_instant() -> None:
    case = received()
    wednesday_ends, next_monday_ends = datetime(2026, 11, 26, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert (case.acknowledge_by, case.implement_by) == (wednesday_ends, next_monday_ends)
    instant = timedelta(microseconds=1)
    assert case.overdue(wednesday_ends - instant) == ()
    assert case.overdue(wednesday_ends) == (Letter.ACKNOWLEDGEMENT,)
    assert case.overdue(next_monday_ends) == (Letter.ACKNOWLEDGEMENT, CaseEvent.IMPLEMENT)
    assert IN_STATE[CaseState.IMPLEMENTED].overdue(next_monday_ends) == ()
    assert IN_STATE[CaseState.WITHDRAWN].overdue(next_monday_ends) == ()
