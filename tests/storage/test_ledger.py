"""The ledger of retrievals on both engines: what was frozen adds up, what ended stays, a fall leaves nothing open."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.work.retrievals import (
    Counts,
    FrozenInstance,
    Halt,
    InstanceNote,
    InstanceState,
    NewRetrieval,
)
from gateway.model.work.transfers import InstanceRef
from policy.parties import TrustId
from storage.engines import DatabaseSettings
from storage.store import SqlStore
from storage.work import recipients
from storage.work.ledger import NOT_DELIVERED, WORDS_MAX, SqlLedger
from storage.work.recipients import Delivered
from tests.clock import NOON, FakeClock

NORTH, SOUTH, EAST = TrustId("RJ1"), TrustId("RYJ"), TrustId("RT3")
CT = "1.2.840.10008.5.1.4.1.1.2"


def frozen(number: int, study: str = "1.2", patient_row: str = "anne") -> FrozenInstance:
    """An instance of a study, to come from the south."""
    return FrozenInstance(InstanceRef(study, f"{study}.1", f"{study}.1.{number}", CT), SOUTH, patient_row, "decision-1")


def retrieval(name: str, instances: Sequence[FrozenInstance], at_s: float = 0) -> NewRetrieval:
    """A retrieval by a PACS of the north for itself."""
    at = NOON + timedelta(seconds=at_s)
    return NewRetrieval(name, f"request-{name}", "north-pacs", NORTH, "", at, tuple(instances))


def noted(instance: FrozenInstance, state: InstanceState, at_s: float = 1, **other: object) -> InstanceNote:
    """What became of an instance."""
    at = NOON + timedelta(seconds=at_s)
    return InstanceNote(instance.ref.sop_uid, state, at, SOUTH, **other)  # type: ignore[arg-type]  # by name


@pytest.fixture
def ledger(store: SqlStore) -> SqlLedger:
    """The ledger as the node "north" writes it."""
    return SqlLedger(store, "north")


async def test_what_was_frozen_is_shown_in_its_order_and_pending(ledger: SqlLedger) -> None:
    instances = [frozen(number) for number in (3, 1, 2)]
    new = NewRetrieval("one", "request-one", "north-pacs", NORTH, "NORTH_WS", NOON, tuple(instances), "job-1")
    await ledger.freeze(new)
    shown = await ledger.show("one")
    assert (shown.node, shown.subject, shown.recipient, shown.destination) == ("north", "north-pacs", NORTH, "NORTH_WS")
    assert (shown.request_id, shown.job_id, shown.frozen_at, shown.ended_at) == ("request-one", "job-1", NOON, None)
    assert [each.frozen for each in shown.instances] == instances
    assert {each.state for each in shown.instances} == {InstanceState.PENDING}
    assert shown.counts == Counts(3, 0, 0, 0)


async def test_a_set_that_grows_keeps_its_order_and_takes_nothing_twice(ledger: SqlLedger) -> None:
    first, second, third = frozen(3), frozen(1), frozen(2)
    await ledger.freeze(retrieval("r", [first]))
    await ledger.add("r", 1, (second, third))
    await ledger.add("r", 1, (second, third))
    shown = await ledger.show("r")
    assert [each.frozen for each in shown.instances] == [first, second, third]
    assert shown.counts == Counts(3, 0, 0, 0)


async def test_what_became_of_an_instance_stays_once_it_has_ended(ledger: SqlLedger) -> None:
    one, two = frozen(1), frozen(2)
    await ledger.freeze(retrieval("r", [one, two]))
    await ledger.note("r", [noted(one, InstanceState.CACHED, digest=b"d" * 32, data_bytes=7)])
    assert (await ledger.show("r")).counts == Counts(2, 0, 0, 0), "what is here is not handed out yet"
    sent = InstanceNote(one.ref.sop_uid, InstanceState.SENT, NOON, EAST, b"d" * 32, 7)
    await ledger.note("r", [sent, noted(two, InstanceState.WARNING, words="coerced")])
    await ledger.note("r", [noted(one, InstanceState.FAILED), noted(two, InstanceState.PENDING)])
    first, second = (await ledger.show("r")).instances
    assert (first.state, first.source, first.digest, first.data_bytes) == (InstanceState.SENT, EAST, b"d" * 32, 7)
    assert (second.state, second.words) == (InstanceState.WARNING, "coerced")
    assert (await ledger.show("r")).counts == Counts(0, 1, 0, 1)


async def test_what_is_left_at_the_end_has_failed_and_says_so(ledger: SqlLedger) -> None:
    one, two, three = frozen(1), frozen(2), frozen(3)
    await ledger.freeze(retrieval("r", [one, two, three]))
    await ledger.note("r", [noted(one, InstanceState.SENT), noted(two, InstanceState.CACHED)])
    await ledger.end("r", NOON + timedelta(seconds=9), Halt.POLICY)
    await ledger.end("r", NOON + timedelta(seconds=99), None)
    await ledger.note("r", [noted(three, InstanceState.SENT)])
    shown = await ledger.show("r")
    assert (shown.ended_at, shown.halted) == (NOON + timedelta(seconds=9), Halt.POLICY)
    assert shown.counts == Counts(0, 1, 2, 0)
    assert [each.words for each in shown.instances] == ["", NOT_DELIVERED, NOT_DELIVERED]


async def test_a_set_that_names_an_instance_twice_is_refused_whole(ledger: SqlLedger) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        await ledger.freeze(retrieval("r", [frozen(1), frozen(2), frozen(1)]))
    with pytest.raises(NotFound):
        await ledger.show("r")


async def test_a_retrieval_of_nothing_is_written_down_and_ends(ledger: SqlLedger) -> None:
    await ledger.freeze(retrieval("r", []))
    await ledger.end("r", NOON, None)
    assert ((await ledger.show("r")).counts.total, (await ledger.show("r")).halted) == (0, None)


async def test_words_are_kept_up_to_their_limit(ledger: SqlLedger) -> None:
    one = frozen(1)
    await ledger.freeze(retrieval("r", [one]))
    await ledger.note("r", [noted(one, InstanceState.FAILED, words="x" * (WORDS_MAX + 1))])
    assert (await ledger.show("r")).instances[0].words == "x" * WORDS_MAX


async def test_a_node_ends_at_its_start_what_it_fell_with_and_nobody_elses(store: SqlStore, ledger: SqlLedger) -> None:
    south = SqlLedger(store, "south")
    await ledger.freeze(retrieval("mine", [frozen(1), frozen(2)]))
    await ledger.freeze(retrieval("ended", [frozen(1)]))
    await ledger.end("ended", NOON, None)
    await south.freeze(retrieval("theirs", [frozen(1)]))
    await ledger.note("mine", [noted(frozen(1), InstanceState.SENT)])
    restarted = SqlLedger(store, "north")
    assert await restarted.unfinished() == ["mine"]
    assert await restarted.end_unfinished(NOON + timedelta(seconds=60)) == 1
    shown = await restarted.show("mine")
    assert (shown.halted, shown.counts) == (Halt.SERVICE, Counts(0, 1, 1, 0))
    assert (await restarted.unfinished(), await south.unfinished()) == ([], ["theirs"])


async def test_the_officer_sees_what_was_delivered_of_a_patient_and_of_nobody_else(
    store: SqlStore, ledger: SqlLedger
) -> None:
    of_anne, other_study, of_ben = frozen(1), frozen(1, study="1.3"), frozen(1, study="1.4", patient_row="ben")
    never, joined = frozen(2), frozen(1, study="1.5", patient_row="anne-as-joined")
    await ledger.freeze(retrieval("r", [of_anne, never, other_study, of_ben, joined]))
    everything = [of_anne, other_study, of_ben, joined]
    await ledger.note("r", [noted(each, InstanceState.SENT, at_s=place) for place, each in enumerate(everything)])
    await ledger.note("r", [noted(never, InstanceState.CACHED)])

    async def delivered_of(patient_rows: list[str], since: datetime = NOON) -> list[Delivered]:
        return await store.read(partial(recipients.delivered_of, patient_rows=patient_rows, since=since))

    found = await delivered_of(["anne", "anne-as-joined"])
    assert [(each.study_uid, each.instances) for each in found] == [("1.5", 1), ("1.3", 1), ("1.2", 1)]
    assert {(each.subject, each.recipient, each.request_id) for each in found} == {("north-pacs", NORTH, "request-r")}
    assert [each.study_uid for each in await delivered_of(["anne"], NOON + timedelta(seconds=1))] == ["1.3"]
    assert await delivered_of(["nobody"]) == []


async def test_old_retrievals_are_forgotten_and_those_under_way_are_not(ledger: SqlLedger) -> None:
    for number in range(25):
        await ledger.freeze(retrieval(f"old-{number}", [frozen(1)], at_s=-100 + number))
        await ledger.end(f"old-{number}", NOON, None)
    await ledger.freeze(retrieval("under-way", [frozen(1)], at_s=-100))
    await ledger.freeze(retrieval("new", [frozen(1)]))
    await ledger.end("new", NOON, None)
    counts = [await ledger.forget(NOON), await ledger.forget(NOON), await ledger.forget(NOON)]
    assert (sum(counts), counts[-1]) == (25, 0)
    assert (await ledger.show("new")).counts.total == (await ledger.show("under-way")).counts.total == 1
    with pytest.raises(NotFound):
        await ledger.show("old-0")


async def test_ten_thousand_instances_are_frozen_at_once_and_end_at_once(ledger: SqlLedger) -> None:
    instances = [frozen(number) for number in range(10_000)]
    await ledger.freeze(retrieval("r", instances))
    await ledger.note("r", [noted(each, InstanceState.SENT) for each in instances[:9_999]])
    await ledger.end("r", NOON, Halt.CANCELLED)
    assert (await ledger.show("r")).counts == Counts(0, 9_999, 1, 0)


async def test_a_frozen_set_is_durable_for_another_process(url: str, clock: FakeClock) -> None:
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock) as store:
        await SqlLedger(store, "north").freeze(retrieval("r", [frozen(1)]))
    async with SqlStore(DatabaseSettings(url), node="south", clock=clock) as store:
        assert (await SqlLedger(store, "south").show("r")).counts == Counts(1, 0, 0, 0)


_NOTES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(InstanceState))), max_size=20)


@settings(max_examples=10, deadline=None)
@given(notes=_NOTES, is_ended=st.booleans())
async def test_counts_add_up_whatever_is_noted_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_file: Path,
    notes: list[tuple[int, InstanceState]],
    is_ended: bool,
) -> None:
    path = shutil.copyfile(migrated_file, tmp_path_factory.mktemp("ledger") / "gateway.db")
    instances = [frozen(number) for number in range(4)]
    expected = [InstanceState.PENDING] * 4
    async with SqlStore(DatabaseSettings(f"sqlite:///{path}"), node="north", clock=FakeClock()) as store:
        ledger = SqlLedger(store, "north")
        await ledger.freeze(retrieval("r", instances))
        for number, state in notes:
            await ledger.note("r", [noted(frozen(number), state)])
            if number < 4 and not expected[number].is_ended:
                expected[number] = state
        if is_ended:
            await ledger.end("r", NOON, None)
            expected = [state if state.is_ended else InstanceState.FAILED for state in expected]
        shown = await ledger.show("r")
    assert [each.state for each in shown.instances] == expected
    assert shown.counts.total == 4
    handed_out = (InstanceState.SENT, InstanceState.WARNING, InstanceState.FAILED)
    assert shown.counts.remaining == sum(state not in handed_out for state in expected)
