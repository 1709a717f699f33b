"""How C-MOVE, C-GET and C-STORE end: every outcome and every error has its status, and none shows more than it may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.status import GENERAL_STATUS, QR_MOVE_SERVICE_CLASS_STATUS, STORAGE_SERVICE_CLASS_STATUS

from dimse.scp.endings import (
    NOT_ALL_SENT,
    STORE_FORMS,
    Outcome,
    RetrieveStatus,
    StoreStatus,
    final,
    retrieve_ending,
    store_ending,
)
from dimse.status import ABSENT, Ending, MissingSources, Refusal
from gateway.model import errors
from gateway.model.imaging import Source, SourceState
from gateway.model.work.retrievals import Counts, Halt
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import TrustId
from tests.clock import NOON

RJ1 = TrustId("RJ1")
HEARD = Source(RJ1, "Westbridge", SourceState.ANSWERED, "020 7946 0001")
SLOW = Source(TrustId("RJ2"), "Eastbridge", SourceState.TIMED_OUT, "020 7946 0002")
COMMENT, FAILURE, ROW = MissingSources.COMMENT, MissingSources.FAILURE, MissingSources.ROW
NUMBERS = st.integers(0, 70_000)
COUNTS = st.builds(Counts, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
OUTCOMES = st.builds(
    Outcome,
    COUNTS,
    st.sampled_from([None, *Halt]),
    st.sampled_from([(), (HEARD,), (HEARD, SLOW)]),
    st.sampled_from([None, errors.AuditUnavailable("disk full"), errors.RegisterUnavailable("stale")]),
    st.booleans(),
)


def family(error: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


EVERY_ERROR = sorted(
    (each for each in set(family(errors.GatewayError)) if each.__module__ == errors.__name__), key=repr
)
"""Of the one family that reaches edges; a job's failure is its runner's alone."""


def denied(telling: Telling = Telling.CALLER) -> errors.Denied:
    reason = Reason("a-rule", Effect.FORBID, "no-care-relationship", "none is recorded", telling)
    return errors.Denied(Decision("d1", Effect.FORBID, (reason,), "rules"), "", "020 7946 0001")


def an(error: type[errors.GatewayError]) -> errors.GatewayError:
    if issubclass(error, errors.PeerError):
        return error(RJ1, "what went wrong")
    if issubclass(error, errors.Denied):
        return denied()
    if issubclass(error, errors.ConfigurationError):
        return error(["what went wrong"])
    return error("what went wrong")


@dataclass
class Course:
    """How a retrieval went; what is not said did not happen."""

    completed: int = 0
    failed: int = 0
    warning: int = 0
    remaining: int = 0
    halted: Halt | None = None
    fault: errors.ServiceFault | None = None
    is_cancelled: bool = False
    sources: tuple[Source, ...] = ()

    @property
    def outcome(self) -> Outcome:
        counts = Counts(self.remaining, self.completed, self.failed, self.warning)
        return Outcome(counts, self.halted, self.sources, self.fault, self.is_cancelled)


def ended(course: Course, how: MissingSources = COMMENT) -> tuple[int, str]:
    end = final(course.outcome, how).ending
    return end.status, end.comment


# --- retrieval ---


@given(outcome=OUTCOMES, how=st.sampled_from(MissingSources))
def test_the_last_counters_add_up_to_the_set_and_success_hides_no_gap(outcome: Outcome, how: MissingSources) -> None:
    end = final(outcome, how)
    assert end.counts.total == outcome.counts.total
    assert end.counts.remaining == 0 or end.shows_remaining
    assert len(end.ending.comment) <= 64 and end.ending.comment.isascii()
    if end.ending.status == RetrieveStatus.SUCCESS:
        assert end.counts.completed == end.counts.total
        assert not (how is FAILURE and SLOW in outcome.sources)
    if end.ending.status == RetrieveStatus.CANCELLED:
        assert outcome.is_cancelled


def test_all_some_and_none() -> None:
    assert ended(Course(3)) == (0x0000, "")
    assert ended(Course(2, warning=1)) == (0xB000, "")
    assert ended(Course(2, failed=1)) == (0xB000, NOT_ALL_SENT)
    assert ended(Course(failed=3)) == (0xA702, NOT_ALL_SENT)
    assert ended(Course(2, remaining=1)) == (0xB000, NOT_ALL_SENT)
    assert ended(Course()) == (0x0000, "")


@pytest.mark.parametrize("completed", [0, 2])
def test_what_policy_stops_looks_like_what_any_network_stops(completed: int) -> None:
    stopped = ended(Course(completed, remaining=3, halted=Halt.POLICY))
    assert stopped == ended(Course(completed, failed=3))


def test_a_cancel_says_what_remains_unless_it_came_too_late() -> None:
    stopped = Course(2, remaining=1, is_cancelled=True, halted=Halt.CANCELLED)
    assert ended(stopped) == (0xFE00, "")
    assert final(stopped.outcome, COMMENT).shows_remaining
    assert ended(Course(3, is_cancelled=True)) == (0x0000, "")


def test_a_fault_of_ours_is_told_alone_where_nothing_was_sent_and_with_the_rest_where_some_was() -> None:
    fault = errors.AuditUnavailable("disk full")
    assert ended(Course(remaining=3, fault=fault, halted=Halt.SERVICE)) == (0xA702, "not recorded")
    assert ended(Course(1, remaining=2, fault=fault, halted=Halt.SERVICE)) == (0xB000, "not all sent; not recorded")
    assert ended(Course(1, remaining=2, halted=Halt.SERVICE)) == (0xB000, NOT_ALL_SENT)
    # All is there, and it is not on record.
    assert ended(Course(3, fault=fault)) == (0xB000, "not recorded")


def test_a_missing_trust_is_told_as_the_caller_chose() -> None:
    words = "missing: RJ2 020 7946 0002"
    some, none = Course(2, sources=(HEARD, SLOW)), Course(sources=(HEARD, SLOW))
    assert [ended(some, how) for how in (COMMENT, ROW, FAILURE)] == [(0x0000, words), (0x0000, words), (0xB000, words)]
    assert [ended(none, how) for how in (COMMENT, ROW, FAILURE)] == [(0x0000, words), (0x0000, words), (0xC000, words)]
    assert ended(Course(2, failed=1, sources=(HEARD, SLOW))) == (0xB000, f"not all sent; {words}")


def test_what_was_sent_in_a_silent_archives_stead_is_told_with_its_last_check() -> None:
    given = Course(2, sources=(HEARD, replace(SLOW, checked_at=NOON)))
    assert ended(given) == (0x0000, "missing: RJ2 020 7946 0002; checked: RJ2 2026-11-21 12:00 UTC")


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_every_error_ends_a_retrieval_with_a_status_of_c_move(error: type[errors.GatewayError]) -> None:
    end = retrieve_ending(an(error))
    assert end.status in set(RetrieveStatus)
    assert end.status in QR_MOVE_SERVICE_CLASS_STATUS or end.status in GENERAL_STATUS
    assert len(end.comment) <= 64 and end.comment.isascii()


def test_service_faults_are_told_by_the_numbers_of_c_move() -> None:
    assert retrieve_ending(errors.RegisterUnavailable("stale")) == Ending(0xA702, "sharing not checked")
    assert retrieve_ending(errors.AuditUnavailable("full")) == Ending(0xA702, "not recorded")
    assert retrieve_ending(denied()) == Ending(0x0124, "no care relationship recorded; ring 020 7946 0001")
    assert retrieve_ending(denied(), Refusal.SILENT) == ABSENT
    assert retrieve_ending(denied(Telling.NOBODY)) == ABSENT


def test_our_statuses_of_c_move_are_those_of_the_standard() -> None:
    known = set(QR_MOVE_SERVICE_CLASS_STATUS) | set(GENERAL_STATUS)
    assert {int(status) for status in RetrieveStatus} <= known


# --- storage ---


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_no_error_of_storage_is_ever_success(error: type[errors.GatewayError]) -> None:
    assert error in STORE_FORMS
    end = store_ending(an(error))
    assert end.status in set(StoreStatus) - {StoreStatus.SUCCESS}
    assert end.status in STORAGE_SERVICE_CLASS_STATUS or end.status in GENERAL_STATUS
    assert len(end.comment) <= 64 and end.comment.isascii()


def test_a_denial_that_may_not_be_told_is_still_no_success_of_storage() -> None:
    assert store_ending(denied(Telling.NOBODY)) == Ending(0x0124, "not permitted")
    assert store_ending(denied()).status == 0x0124
    assert store_ending(KeyError("SMITH^ANNE")) == Ending(0xC001, "")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Conflicting, 0x0111),
        (errors.Unwanted, 0x0124),
        (errors.StoreFull, 0xA700),
        (errors.AuditUnavailable, 0xA700),
        (errors.OverCapacity, 0xA700),
        (errors.RequestTooLarge, 0xA700),
        (errors.InvalidRequest, 0xA900),
    ],
)
def test_storage_says_what_helps(error: type[errors.GatewayError], status: int) -> None:
    assert store_ending(an(error)).status == status
