"""Two processes over one database: the command line beside `serve`, or two nodes (DEC-12). On both engines."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model.errors import AuditUnavailable, InvalidRequest
from policy.parties import PatientId
from storage import audit_log
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.registers import patients
from storage.store import SqlStore, StoreSettings
from tests.clock import FakeClock
from tests.contracts.second_process import second_process
from tests.storage.people import ANNE, BEN, CARA, CLERK, entry, patient

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


async def test_two_processes_that_give_one_number_to_two_patients_give_it_to_one(store: SqlStore, url: str) -> None:
    """Whoever comes second is refused: a number of a hospital is one patient's (D8)."""
    numbers = [f"{number:04}" for number in range(20)]

    def link(tx: Tx, number: str) -> bool:
        row = patients.ensure(tx, patients.nhs(BEN), CLERK, source="test")
        try:
            patients.add_identifier(tx, row, PatientId("RYJ", number), CLERK, source="test")
        except InvalidRequest:
            return False
        return True

    async with second_process(url, "south") as other:
        await other.tell("link", ANNE.digits, *numbers)
        mine = [await store.write(lambda tx, number=number: link(tx, number)) for number in numbers]  # type: ignore[misc]  # the loop's own number
        theirs = await other.answer()
    assert isinstance(theirs, list)
    assert [one != another for one, another in zip(mine, theirs, strict=True)] == [True] * len(numbers)
    locals_ = [PatientId("RYJ", number) for number in numbers]
    found = await store.cross_references(locals_)
    assert [found[local].number for local in locals_] == [BEN if one else ANNE for one in mine]


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
