"""Who has what of a study in hand, so that they can be told when its source takes it back."""

from __future__ import annotations

from functools import partial

from sqlalchemy import text

from gateway.model.work.retrievals import FrozenInstance, InstanceNote, InstanceState, NewRetrieval
from gateway.model.work.transfers import InstanceRef
from storage.store import SqlStore
from storage.work import recipients
from storage.work.ledger import SqlLedger
from tests.clock import NOON
from tests.storage.people import EAST, NORTH, SOUTH


async def retrieved(ledger: SqlLedger, name: str, *sops: str, delivers: int, study: str = "1.2") -> None:
    """A retrieval of NORTH's from SOUTH of which the first instances were delivered and the others not."""
    frozen = [FrozenInstance(InstanceRef(study, "1.2.1", sop, "1.2.840"), SOUTH, "anne", "d-1") for sop in sops]
    await ledger.freeze(NewRetrieval(name, f"request-{name}", "north-pacs", NORTH, "", NOON, tuple(frozen)))
    await ledger.note(name, [InstanceNote(sop, InstanceState.SENT, NOON, SOUTH) for sop in sops[:delivers]])
    await ledger.end(name, NOON, None)


async def test_who_received_an_instance_is_known_by_study_and_source(store: SqlStore) -> None:
    ledger = SqlLedger(store, "north")
    await retrieved(ledger, "one", "1.2.1.1", "1.2.1.2", delivers=1)
    await retrieved(ledger, "two", "1.9.1", delivers=1, study="1.9")
    found = await store.read(partial(recipients.received, study_uid="1.2", source=SOUTH))
    assert found == [recipients.Received("1.2.1.1", NORTH, "one", NOON)]
    assert await store.read(partial(recipients.received, study_uid="1.2", source=EAST)) == []
    assert recipients.by_recipient(found, {"1.2.1.1"}) == {NORTH: found}
    assert recipients.by_recipient(found, {"1.2.1.2"}) == {}


async def test_what_a_retrieval_was_asked_for_is_kept(store: SqlStore) -> None:
    ledger = SqlLedger(store, "north")
    new = NewRetrieval("one", "request-one", "north-pacs", NORTH, "", NOON, (), "", "ETREAT")
    await ledger.freeze(new)
    assert (await ledger.show("one")).purpose == "ETREAT"


async def test_the_way_to_who_received_a_study_is_an_index(store: SqlStore) -> None:
    asked = "SELECT sop_uid FROM retrieval_instance WHERE study_uid = '1' AND state IN ('sent', 'warning')"
    if store.database.is_sqlite:
        rows = await store.read(lambda read: read.connection.execute(text(f"EXPLAIN QUERY PLAN {asked}")).all())
        assert any("ix_retrieval_instance_study" in str(row) for row in rows)


async def test_what_is_on_its_way_or_was_cut_off_may_have_been_received(store: SqlStore) -> None:
    ledger = SqlLedger(store, "north")
    await retrieved(ledger, "over", "1.2.1.1", "1.2.1.2", delivers=1)
    frozen = FrozenInstance(InstanceRef("1.2", "1.2.1", "1.2.1.3", "1.2.840"), SOUTH, "anne", "d-1")
    await ledger.freeze(NewRetrieval("fallen", "request", "north-pacs", NORTH, "", NOON, (frozen,)))
    expected = [recipients.Received("1.2.1.3", NORTH, "fallen", NOON)]
    ask = partial(recipients.in_doubt, study_uid="1.2", source=SOUTH)
    assert await store.read(ask) == expected
    assert await ledger.end_unfinished(NOON) == 1
    assert await store.read(ask) == expected
    assert await store.read(partial(recipients.in_doubt, study_uid="1.2", source=EAST)) == []
