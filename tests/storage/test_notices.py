"""What trusts tell of new studies is durable, bounded, and leaves them unsettled; and whom to sample next."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.model.errors import OverCapacity, StoreUnavailable
from gateway.model.locations import SeenBy, Sighting, Told
from policy.parties import NhsNumber, TrustId
from storage.observations import samples
from storage.observations.notebook import Notebook
from storage.observations.notices import UNREAD
from storage.observations.pseudonyms import KEY_BYTES, Pseudonyms
from storage.registers import patients
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.storage.people import ANNE, BEN, CARA, CLERK, EAST, NORTH, SOUTH

MINUTE = timedelta(minutes=1)
SOON = NOON + MINUTE


@pytest.fixture
def notebook(store: SqlStore, clock: FakeClock) -> Notebook:
    """A notebook over each engine in turn."""
    return Notebook(store, clock, Pseudonyms(b"k" * KEY_BYTES), max_age_days=100)


async def due(notebook: Notebook, count_max: int = 10) -> list[str]:
    """The studies that are due, each with the tries before."""
    return [f"{each.trust.code} {each.study_uid} {each.tries}" for each in await notebook.claim(count_max, SOON)]


# --- notices ---


async def test_what_a_trust_told_waits_and_is_given_to_one_alone(notebook: Notebook) -> None:
    await notebook.told(NORTH, "1.2", NOON, 10)
    await notebook.told(SOUTH, "1.2", NOON, 10)
    assert await notebook.waiting() == {NORTH: 1, SOUTH: 1}
    assert await due(notebook) == [f"{each.code} 1.2 0" for each in sorted((NORTH, SOUTH))]
    assert await due(notebook) == []


async def test_whoever_took_one_and_is_gone_keeps_it_no_longer_than_it_said(
    notebook: Notebook, clock: FakeClock
) -> None:
    await notebook.told(NORTH, "1.2", NOON, 10)
    await due(notebook)
    await clock.advance(60)
    assert await due(notebook) == [f"{NORTH.code} 1.2 0"]


async def test_the_longest_due_come_first_and_no_more_than_asked_for(notebook: Notebook) -> None:
    for number in range(3):
        await notebook.told(NORTH, f"1.{number}", NOON - number * MINUTE, 10)
    assert await due(notebook, 2) == [f"{NORTH.code} 1.2 0", f"{NORTH.code} 1.1 0"]


async def test_a_study_that_is_not_shown_yet_is_due_again_later(notebook: Notebook, clock: FakeClock) -> None:
    await notebook.told(NORTH, "1.2", NOON, 10)
    claimed = await notebook.claim(10, SOON)
    await notebook.defer(claimed, NOON + 2 * MINUTE, is_try=True)
    await clock.advance(119)
    assert await due(notebook) == []
    await clock.advance(1)
    assert await due(notebook) == [f"{NORTH.code} 1.2 1"]


async def test_a_trust_is_unsettled_while_anything_that_it_told_waits(notebook: Notebook) -> None:
    await notebook.heard(NORTH, NOON)
    await notebook.heard(SOUTH, NOON)
    await notebook.told(NORTH, "1.2", NOON, 10)
    assert (await notebook.known(ANNE)).unsettled == {NORTH}
    [told] = await notebook.claim(10, SOON)
    await notebook.settle(told, [Sighting(ANNE, NORTH, NOON, SeenBy.NOTIFICATION, True, False)])
    knowledge = await notebook.known(ANNE)
    assert knowledge.unsettled == frozenset()
    assert set(knowledge.feeds) == {NORTH, SOUTH} == set(await notebook.feeds())
    assert knowledge.locations[NORTH].present_by is SeenBy.NOTIFICATION
    assert await notebook.waiting() == {}


async def test_what_is_told_again_while_it_is_looked_into_goes_on_waiting(notebook: Notebook, clock: FakeClock) -> None:
    await notebook.told(NORTH, "1.2", NOON, 10)
    [told] = await notebook.claim(10, SOON)
    await clock.advance(1)
    await notebook.told(NORTH, "1.2", clock.now(), 10)
    await notebook.settle(told, [])
    assert await due(notebook) == [f"{NORTH.code} 1.2 0"]


async def test_one_more_than_may_wait_is_refused_and_leaves_the_trust_unsettled(notebook: Notebook) -> None:
    for uid in ("1.1", "1.2"):
        await notebook.told(NORTH, uid, NOON, 2)
    with pytest.raises(OverCapacity):
        await notebook.told(NORTH, "1.3", NOON, 2)
    await notebook.told(NORTH, "1.2", NOON, 2)
    await notebook.told(SOUTH, "1.3", NOON, 2)
    for told in await notebook.claim(10, SOON):
        await notebook.settle(told, [])
    # That there was one more is remembered, although nobody knows which.
    assert await notebook.waiting() == {NORTH: 1}
    assert (await notebook.known(ANNE)).unsettled == {NORTH}


async def test_what_could_not_be_read_is_never_asked_after_and_lapses(notebook: Notebook) -> None:
    await notebook.told(NORTH, UNREAD, NOON, 1)
    await notebook.told(NORTH, UNREAD, NOON + MINUTE, 1)
    assert await due(notebook) == []
    assert await notebook.lapse(NOON + MINUTE) == 0
    assert await notebook.lapse(NOON + 1.01 * MINUTE) == 1
    assert (await notebook.known(ANNE)).unsettled == frozenset()


async def test_a_trust_is_not_told_that_it_was_heard_while_nothing_can_be_written(
    notebook: Notebook, store: SqlStore
) -> None:
    await store.write(lambda tx: tx.connection.exec_driver_sql("DROP TABLE location_notice"))
    with pytest.raises(StoreUnavailable):
        await notebook.told(NORTH, "1.2", NOON, 10)
    with pytest.raises(StoreUnavailable):
        await notebook.known(ANNE)


async def test_a_notice_survives_the_process_that_took_it(notebook: Notebook, store: SqlStore) -> None:
    await notebook.told(NORTH, "1.2", NOON, 10)
    other = Notebook(store, store.clock, Pseudonyms(b"k" * KEY_BYTES), max_age_days=100)
    assert await other.claim(10, SOON) == [Told(NORTH, "1.2", NOON)]


# --- whom to sample ---


async def known_of(notebook: Notebook, number: NhsNumber, trust: TrustId, minutes_ago: int) -> None:
    """Let a patient have been asked for at a trust."""
    notebook.note([Sighting(number, trust, NOON - minutes_ago * MINUTE, SeenBy.ANSWER, None, True)])
    await notebook.write()


async def registered(store: SqlStore, *numbers: NhsNumber) -> None:
    for number in numbers:
        await store.write(
            lambda tx, number=number: patients.ensure(tx, patients.nhs(number), CLERK, source="test")  # type: ignore[misc]  # the loop's own
        )


async def test_who_was_longest_not_asked_for_comes_first(notebook: Notebook, store: SqlStore) -> None:
    await registered(store, ANNE, BEN, CARA)
    await known_of(notebook, ANNE, NORTH, 5)
    await known_of(notebook, BEN, NORTH, 50)
    await known_of(notebook, CARA, EAST, 1)
    # Of Cara the north was never asked.
    assert await notebook.least_checked([NORTH], "", 10) == ([CARA, BEN, ANNE], "")
    assert await notebook.least_checked([NORTH], "", 2) == ([CARA, BEN], "")


async def test_who_is_in_no_register_or_known_nowhere_is_not_sampled(notebook: Notebook, store: SqlStore) -> None:
    await registered(store, ANNE, BEN)
    await known_of(notebook, BEN, NORTH, 5)
    await known_of(notebook, CARA, NORTH, 5)
    assert await notebook.least_checked([NORTH], "", 10) == ([BEN], "")


async def test_the_register_is_gone_through_piece_by_piece(
    notebook: Notebook, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LOOKED_AT_MAX", 2)
    await registered(store, ANNE, BEN, CARA)
    for number in (ANNE, BEN, CARA):
        await known_of(notebook, number, NORTH, 5)
    first, after = await notebook.least_checked([NORTH], "", 10)
    second, end = await notebook.least_checked([NORTH], after, 10)
    assert (first, second, end) == ([ANNE, BEN], [CARA], "")
