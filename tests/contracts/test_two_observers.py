"""Two processes that observe the same patients at the same trusts at once (DEC-12). On both engines."""

from __future__ import annotations

import asyncio

from gateway.model.imaging import SourceState
from gateway.model.locations import PeerStanding
from policy.parties import NhsNumber
from storage.observations.notebook import Notebook
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.contracts.second_process import BY_THE_OTHER, STAND_INS, observations, second_process
from tests.storage.people import NORTH, SOUTH

MINUTES = 60
BY_THIS = 5


async def test_two_observers_wait_for_each_other_and_the_latest_word_stays(
    store: SqlStore, url: str, clock: FakeClock
) -> None:
    notebook = Notebook(store, clock, STAND_INS, max_age_days=100)
    before = await store.register_version()
    async with second_process(url, "south") as other:
        await other.tell("observe", MINUTES)
        for minute in range(MINUTES):
            notebook.note(observations(minute, BY_THIS))
            await notebook.write()
            await asyncio.sleep(0)
        assert await other.answer() == "observed"
    latest = max(minute for minute in range(MINUTES) if minute % BY_THIS == 0 or minute % BY_THE_OTHER == 0)
    for number in range(5):
        knowledge = await notebook.known(NhsNumber(f"99900000{number:02}"))
        for trust in (NORTH, SOUTH):
            known = knowledge.locations[trust]
            assert known.present_at is not None and known.checked_at is not None
            assert (known.present_at - NOON).total_seconds() == latest * 60
            assert (known.checked_at - NOON).total_seconds() == (MINUTES - 1) * 60
    assert await store.register_version() == before


async def test_what_one_process_saw_the_other_knows(store: SqlStore, url: str, clock: FakeClock) -> None:
    notebook = Notebook(store, clock, STAND_INS, max_age_days=100)
    async with second_process(url, "south") as other:
        await other.ask("observe", 1)
    assert set((await notebook.known(NhsNumber("9990000000"))).locations) == {NORTH, SOUTH}


async def test_each_node_keeps_its_own_standings_of_the_same_peers(store: SqlStore, url: str, clock: FakeClock) -> None:
    notebook = Notebook(store, clock, STAND_INS, max_age_days=100)
    notebook.write_down(PeerStanding(SOUTH, 3, NOON, SourceState.TIMED_OUT, SourceState.ANSWERED))
    await notebook.write()
    async with second_process(url, "south") as other:
        assert await other.ask("standings") == []
    async with second_process(url, "north") as other:
        assert await other.ask("standings") == ["RYJ timed-out 3"]
