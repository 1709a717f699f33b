"""When the time of an answer could tell who is hidden: at the start, and when a trust turns slow or quick (SAF-06).

That it does not in the long run is held by the suites of sharing and of the stories, with statistics. Here are the
moments in which what was remembered is no longer what is.
"""

from __future__ import annotations

import statistics

import pytest

from gateway.model.imaging import Query
from gateway.model.settings import SharingSettings
from policy.parties import NhsNumber
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, asking_for

QUICK_S, SLOW_S = 0.03, 2.0


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock) -> Region:
    """Two quick trusts; neither has anything of Anne's, and Ben opted out."""
    region = Region(store, clock, sharing=SharingSettings())
    region.trust("RZ1")
    for code in ("RZ2", "RZ3"):
        region.trust(code).pacs.slow(QUICK_S)
    await region.refer(ANNE, to="RZ1")
    await region.refer(BEN, to="RZ1")
    await region.opt_out(BEN)
    await region.prepare()
    return region


async def taken_s(region: Region, query: Query) -> float:
    began = region.clock.monotonic()
    await region.find(query)
    return region.clock.monotonic() - began


async def typical_s(region: Region, patient: NhsNumber, questions: int = 9) -> float:
    return statistics.median([await taken_s(region, asking_for(patient)) for _ in range(questions)])


async def test_after_the_first_probe_the_first_hidden_answer_takes_its_time(region: Region) -> None:
    await region.clock.run(region.peers.probe(lambda: "2.25.1"), is_busy=region.store.is_busy)
    assert await taken_s(region, asking_for(BEN)) == pytest.approx(await taken_s(region, asking_for(ANNE)), abs=0.001)


@pytest.mark.parametrize(("before_s", "after_s"), [(QUICK_S, SLOW_S), (SLOW_S, QUICK_S)], ids=["slow", "quick"])
async def test_a_trust_that_turns_slow_or_quick_is_so_for_the_hidden_at_once(
    region: Region, before_s: float, after_s: float
) -> None:
    """One honest question shows the change to everybody; a hundred remembered ones must not hide it."""
    archive = region.trust("RZ3").pacs.slow(before_s)
    await typical_s(region, ANNE, 100)
    archive.slow(after_s)
    turned = await taken_s(region, asking_for(ANNE))
    assert turned == pytest.approx(await typical_s(region, BEN), rel=0.1)


async def test_a_trust_that_turned_slow_unseen_is_met_by_the_next_probe(region: Region) -> None:
    await typical_s(region, ANNE, 100)
    region.trust("RZ3").pacs.slow(SLOW_S)
    await region.clock.run(region.peers.probe(lambda: "2.25.1"), is_busy=region.store.is_busy)
    assert await typical_s(region, BEN) == pytest.approx(await typical_s(region, ANNE, 1), rel=0.1)


async def test_one_hiccup_is_not_taken_for_a_change_for_long(region: Region) -> None:
    """A single slow answer among quick ones: soon the hidden answers are quick again, as the others are."""
    await typical_s(region, ANNE, 100)
    region.trust("RZ3").pacs.slow(SLOW_S, QUICK_S)
    await typical_s(region, ANNE, 2)
    assert await typical_s(region, BEN) == pytest.approx(await typical_s(region, ANNE), rel=0.1)


async def test_the_first_question_after_an_opt_out_takes_as_long_as_one_for_nothing(region: Region) -> None:
    await typical_s(region, ANNE, 20)
    region.trust("RZ2").with_study("1.2.3", of=ANNE)
    shown = await region.find(asking_for(ANNE))
    assert len(shown.rows) == 1
    await region.opt_out(ANNE)
    assert await taken_s(region, asking_for(ANNE)) == pytest.approx(await typical_s(region, BEN), abs=0.001)


async def test_after_a_reload_what_was_known_of_the_trusts_is_still_known(region: Region) -> None:
    region.trust("RZ3").pacs.down()
    absent = await region.find(asking_for(ANNE))
    former = region.peers
    region.rebuilt().peers.take_over(former)
    hidden = await region.find(asking_for(BEN))
    assert hidden == absent
    assert [source.state.value for source in hidden.sources] == ["answered", "unreachable"]
