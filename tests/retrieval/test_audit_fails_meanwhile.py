"""The audit fails while images move: what moved is recorded all the same, and nothing new begins (SAF-30)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import AuditUnavailable, StoreUnavailable
from gateway.model.work.retrievals import Counts, InstanceNote
from storage.reserve import BYTES_MIN, Reserve
from tests.clock import NOON
from tests.retrieval.travels import Travels
from tests.sharing.rows import ANNE, asking_for

FROM_NOW_ON = 1_000


@pytest.fixture
def reserve(tmp_path: Path) -> Iterator[Reserve]:
    """The reserve's file."""
    opened = Reserve(tmp_path / "audit-reserve.bin", BYTES_MIN)
    opened.open()
    yield opened
    opened.close()


async def two_held(travels: Travels) -> None:
    """RZ2 holds two instances of Anne's, who is in RZ1's care."""
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")


def fail(travels: Travels) -> None:
    """Nothing more can be appended."""
    store = travels.region.store
    store.failing_appends = range(store.appends + 1, store.appends + FROM_NOW_ON)


def mend(travels: Travels) -> None:
    """The disk has room again."""
    travels.region.store.failing_appends = range(0)


async def brought_while_it_fails(travels: Travels) -> Counts:
    """A retrieval whose second image moves when the audit is down already."""
    async with travels.retrieval() as delivery:
        async for item in delivery:
            delivery.sent(item)
            fail(travels)
    return delivery.counts


async def test_a_transfer_under_way_ends_in_order_and_its_outcome_reaches_the_chain(
    travels: Travels, reserve: Reserve
) -> None:
    await two_held(travels)
    travels.region.reserve = reserve.append
    assert await brought_while_it_fails(travels) == Counts(0, 2, 0, 0)
    assert await travels.region.records("retrieve-outcome") == []
    assert await reserve.drain(travels.region.sql.database) == 1
    [outcome] = await travels.region.records("retrieve-outcome")
    body = orjson.loads(orjson.dumps(outcome["body"]))
    assert body["transfers"]["studies"][0]["sent"] == 2


async def test_without_a_reserve_it_is_told_that_nothing_is_recorded(travels: Travels) -> None:
    await two_held(travels)
    with pytest.raises(AuditUnavailable):
        await brought_while_it_fails(travels)


async def test_with_a_full_reserve_it_is_told_that_nothing_is_recorded(travels: Travels, reserve: Reserve) -> None:
    await two_held(travels)
    travels.region.reserve = reserve.append
    with pytest.raises(AuditUnavailable):
        while True:
            await reserve.append(AuditEntry(AuditEvent.SECURITY_ALERT, NOON, "r", {"filler": "x" * 4_000}))
    with pytest.raises(AuditUnavailable):
        while True:
            await reserve.append(AuditEntry(AuditEvent.SECURITY_ALERT, NOON, "r", {}))
    with pytest.raises(AuditUnavailable):
        await brought_while_it_fails(travels)


async def test_nothing_begins_and_nothing_is_asked_while_the_reserve_alone_could_record(
    travels: Travels, reserve: Reserve
) -> None:
    await two_held(travels)
    travels.region.reserve = reserve.append
    await travels.region.prepare()
    fail(travels)
    with pytest.raises(AuditUnavailable):
        await travels.brought()
    with pytest.raises(AuditUnavailable):
        await travels.region.find(asking_for(ANNE))
    assert reserve.is_empty and not travels.region.trust("RZ2").pacs.fetches
    mend(travels)
    assert len((await travels.brought())[0]) == 2


async def test_where_the_ledger_fails_too_the_outcome_names_every_instance(
    travels: Travels, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_held(travels)
    travels.region.reserve = reserve.append

    async def gone(retrieval_id: str, notes: list[InstanceNote]) -> None:
        raise StoreUnavailable("the database is gone")

    monkeypatch.setattr(travels.ledger, "note", gone)
    await brought_while_it_fails(travels)
    [kept] = reserve.records()
    transfers = orjson.loads(kept.entry.encoded())["body"]["transfers"]
    assert transfers["instances"] == {"1.2.3.1": "sent", "1.2.3.2": "sent"}
