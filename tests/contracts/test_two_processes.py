"""Two processes over one database: the command line beside `serve`, or two nodes (DEC-12). On both engines."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model.errors import AuditUnavailable
from storage import audit_log
from storage.engines import DatabaseSettings
from storage.registers import patients
from storage.store import SqlStore, StoreSettings
from tests.clock import FakeClock
from tests.contracts.second_process import second_process
from tests.storage.people import ANNE, BEN, CARA, entry, patient

APPENDS = 150


async def test_a_register_write_of_one_process_is_seen_by_the_other(store: SqlStore, url: str) -> None:
    before = await store.register_version()
    async with second_process(url, "north-cli") as other:
        rows = await other.ask("ensure", ANNE.digits)
        assert await store.register_version() == before + 1
        assert [await store.read(lambda read: patients.find(read, patients.nhs(ANNE)))] == rows
        await patient(store, BEN)
        assert await other.ask("version") == before + 2


async def test_two_processes_that_meet_a_patient_at_once_make_one_row(store: SqlStore, url: str) -> None:
    numbers = [ANNE, BEN, CARA] * 5
    async with second_process(url, "south") as other:
        await other.tell("ensure", *[number.digits for number in numbers])
        mine = [await patient(store, number) for number in numbers]
        assert await other.answer() == mine
    assert len(set(mine)) == 3


async def test_two_processes_of_one_node_id_do_not_fork_its_chain(store: SqlStore, url: str) -> None:
    async with second_process(url, "north") as other:
        await other.tell("append", APPENDS)
        await asyncio.gather(*[store.append_audit(entry()) for _ in range(APPENDS)])
        assert await other.answer() == "appended"
    verified = await audit_log.verify(store.database)
    assert verified.is_whole
    assert [(head.node, head.sequence) for head in verified.heads] == [("north", 2 * APPENDS)]


async def test_each_node_grows_a_chain_of_its_own(store: SqlStore, url: str) -> None:
    async with second_process(url, "south") as other:
        await other.tell("append", APPENDS)
        await asyncio.gather(*[store.append_audit(entry()) for _ in range(APPENDS)])
        await other.answer()
    verified = await audit_log.verify(store.database)
    assert [(head.node, head.sequence) for head in verified.heads] == [("north", APPENDS), ("south", APPENDS)]


async def test_a_write_transaction_held_by_the_other_delays_the_audit_and_then_refuses(
    url: str, clock: FakeClock
) -> None:
    settings = StoreSettings(audit_append_timeout_s=0.2)
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock, settings=settings) as store:
        await store.append_audit(entry())
        async with second_process(url, "north") as other:
            await other.tell("hold-chain")
            assert await other.answer() == "held"
            with pytest.raises(AuditUnavailable):
                await store.append_audit(entry())
            # Reading goes on: a writer elsewhere blocks no decision.
            assert await store.register_version() == 0
            await other.tell()
            assert await other.answer() == "released"
        await store.append_audit(entry())
        assert (await audit_log.verify(store.database)).is_whole
