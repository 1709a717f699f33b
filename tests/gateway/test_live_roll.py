"""What a running node knows of trusts and of studies in quarantine, beside the facts that a question is judged by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gateway.health import Health, WatchedStore
from gateway.metrics import Figures
from gateway.model.seams import STUDY_OF_TWO_PATIENTS, QualityItem
from gateway.region import LiveRoll
from policy.parties import TrustId
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.sharing.conftest import store

__all__ = ["store"]

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
STUDY = "2.25.7"
NORTHMOOR, EASTVALE = TrustId("RZ1"), TrustId("RZ2")


@pytest.fixture
async def roll(store: SqlStore, clock: FakeClock) -> AsyncIterator[LiveRoll]:
    """As it is read at a start."""
    found = LiveRoll(store, clock)
    await found.refresh()
    yield found


async def test_a_study_that_one_question_found_to_be_of_two_patients_is_withheld_from_the_next(
    store: SqlStore, clock: FakeClock, roll: LiveRoll
) -> None:
    watched = WatchedStore(store, Health(store, Figures(), clock, lambda: "1"), roll.follow)
    await watched.facts(NORTHMOOR, (), at=AT)
    assert not roll().quarantined
    await watched.report_quality([QualityItem(STUDY_OF_TWO_PATIENTS, EASTVALE, STUDY, None, {})], AT)
    await watched.facts(NORTHMOOR, (), at=AT)  # no time has passed for anything that looks by the clock
    assert roll().quarantined == {STUDY}
