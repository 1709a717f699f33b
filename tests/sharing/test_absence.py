"""The memory of how long absence takes: drawn from what was seen, bounded, on a grid (SAF-06)."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.model.imaging import SourceState
from gateway.sharing.absence import PROFILES_MAX, SAMPLES_MAX, SAMPLES_WANTED, AbsenceDelays, Profile, next_on_grid
from policy.parties import TrustId
from tests.sharing.rows import RZ2, RZ3

ANSWERED, TIMED_OUT = SourceState.ANSWERED, SourceState.TIMED_OUT
BOTH: Profile = frozenset({(RZ2, ANSWERED), (RZ3, ANSWERED)})


@pytest.fixture
def delays() -> AbsenceDelays:
    """A memory that has seen nothing."""
    return AbsenceDelays(random.Random(1).choice)


def test_without_any_memory_nothing_is_waited_for(delays: AbsenceDelays) -> None:
    assert delays.draw(BOTH) == 0
    assert delays.draw(frozenset()) == 0


def test_what_is_drawn_was_seen_in_questions_with_the_same_profile(delays: AbsenceDelays) -> None:
    seen = {0.1 * n for n in range(1, SAMPLES_WANTED + 1)}
    for duration_s in seen:
        delays.question_was_empty(BOTH, duration_s)
    delays.question_was_empty(frozenset({(RZ2, ANSWERED), (RZ3, TIMED_OUT)}), 5.0)
    delays.peer_was_empty(RZ2, ANSWERED, 9.0)
    assert {delays.draw(BOTH) for _ in range(200)} == seen


def test_before_enough_is_known_of_the_question_the_slowest_trust_counts(delays: AbsenceDelays) -> None:
    for _ in range(SAMPLES_WANTED - 1):
        delays.question_was_empty(BOTH, 7.0)
    delays.peer_was_empty(RZ2, ANSWERED, 0.2)
    delays.peer_was_empty(RZ3, ANSWERED, 0.5)
    assert delays.draw(BOTH) == 0.5


def test_a_trust_of_which_nothing_is_known_adds_nothing(delays: AbsenceDelays) -> None:
    delays.peer_was_empty(RZ2, ANSWERED, 0.2)
    assert delays.draw(BOTH) == 0.2


def test_old_samples_give_way_to_new_ones(delays: AbsenceDelays) -> None:
    delays.question_was_empty(BOTH, 9.0)
    for _ in range(SAMPLES_MAX):
        delays.question_was_empty(BOTH, 1.0)
    assert {delays.draw(BOTH) for _ in range(1_000)} == {1.0}


def test_profiles_longest_unseen_are_forgotten_first(delays: AbsenceDelays) -> None:
    profiles = [frozenset({(TrustId(f"R{n:04}"), ANSWERED)}) for n in range(PROFILES_MAX + 1)]
    for profile in profiles[:-1]:
        for _ in range(SAMPLES_WANTED):
            delays.question_was_empty(profile, 1.0)
    assert delays.draw(profiles[0]) == 1.0
    delays.question_was_empty(profiles[0], 1.0)  # seen again
    delays.question_was_empty(profiles[-1], 1.0)
    assert delays.draw(profiles[0]) == 1.0
    assert delays.draw(profiles[1]) == 0


@given(st.floats(0, 100), st.integers(1, 1_000))
@example(elapsed_s=99.0, grid_ms=9)  # the product falls short of it by a rounding
def test_answers_leave_on_the_grid_and_never_early(elapsed_s: float, grid_ms: int) -> None:
    wait_s = next_on_grid(elapsed_s, grid_ms)
    assert 0 <= wait_s < grid_ms / 1000 + 1e-9
    steps = (elapsed_s + wait_s) * 1000 / grid_ms
    assert abs(steps - round(steps)) < 1e-6


def test_no_grid_is_no_wait() -> None:
    assert next_on_grid(1.234, 0) == 0
