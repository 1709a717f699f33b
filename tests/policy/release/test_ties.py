"""What stands of a report whose versions claim the same instant, or one long past."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from policy.release.lifecycle import fold
from policy.release.reports import Lifecycle, Said, Standing, Version
from tests.policy.release.examples import BEGIN, TOLERANCE, version


def folded(*versions: Version) -> Lifecycle:
    """The same in whatever order they come."""
    first, *others = (fold(some, TOLERANCE) for some in permutations(versions))
    assert all(each == first for each in others)
    return first


@pytest.mark.parametrize("said", [Said.PRELIMINARY, Said.TAKEN_BACK, Said.CANCELLED, Said.WITHDRAWN])
@pytest.mark.parametrize("vouched", [Said.VERIFIED, Said.CORRECTED])
def test_of_the_same_instant_what_stops_a_text_counts(vouched: Said, said: Said) -> None:
    assert folded(version("one", vouched), version("other", said)).standing is not Standing.VERIFIED


def test_of_the_same_instant_a_source_that_never_vouched_stops_nothing() -> None:
    beside = version("beside", Said.PRELIMINARY, precedence=1)
    assert folded(version("one"), beside).standing is Standing.VERIFIED


def test_a_status_vouches_for_the_preliminary_text_of_the_same_instant() -> None:
    life = folded(version("draft", Said.PRELIMINARY), version("status", at=BEGIN, text="", promotes=True))
    assert (life.standing, life.content_of, life.problems) == (Standing.VERIFIED, "draft", frozenset())


def test_a_correction_with_the_first_verification_time_counts_from_when_it_was_first_heard_of() -> None:
    heard = BEGIN + timedelta(days=39)
    old = version("corrected", Said.CORRECTED, received_at=heard)
    again = replace(old, received_at=heard + timedelta(days=2))
    another = replace(again, version_id="another", stated_at=BEGIN + timedelta(days=40))
    for told in ([old], [old, again], [old, another]):
        life = folded(version("final"), *told)
        assert life.standing is Standing.VERIFIED
        assert life.clock_started_at == heard
