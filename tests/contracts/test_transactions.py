"""What every store promises of its transactions: whole or not at all, handed out when durable, bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import AuditUnavailable, InvalidRequest, OverCapacity, StoreUnavailable
from policy.facts import Register
from storage import audit_log
from storage.database import Read, Tx
from storage.engines import DatabaseSettings
from storage.registers import patients
from storage.registers.state import bump_register_version, version
from storage.store import SqlStore, StoreSettings
from tests.clock import NOON, FakeClock
from tests.storage.people import ANNE, BEN, CLERK, NORTH, entry, patient


class Gate:
    """Holds a thread of the store until a test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()

    def pass_through(self, _: Read) -> None:
        """The body to run in the thread."""
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._open.wait(30)

    def open(self) -> None:
        """Let it go on."""
        self._open.set()


def refuse(tx: Tx) -> None:
    """A body that changes something and then thinks better of it."""
    patients.ensure(tx, patients.nhs(BEN), CLERK, source="test")
    raise InvalidRequest("thought better of it")


async def test_bodies_that_waited_together_share_a_commit_and_fail_alone(store: SqlStore) -> None:
    gate = Gate()
    first = asyncio.create_task(store.write(gate.pass_through))
    await gate.reached.wait()
    good = asyncio.create_task(patient(store, ANNE))
    bad = asyncio.create_task(store.write(refuse))
    appended = asyncio.create_task(store.append_audit(entry()))
    await asyncio.sleep(0)
    gate.open()
    await first
    with pytest.raises(InvalidRequest, match="thought better"):
        await bad
    assert await store.read(lambda read: patients.find(read, patients.nhs(ANNE))) == await good
    assert await store.read(lambda read: patients.find(read, patients.nhs(BEN))) is None
    assert await store.register_version() == 1
    verified = await audit_log.verify(store.database)
    assert verified.is_whole and verified.records == (await appended).sequence == 2


async def test_a_body_that_fails_alone_leaves_nothing(store: SqlStore) -> None:
    with pytest.raises(InvalidRequest):
        await store.write(refuse)
    assert await store.register_version() == 0
    assert (await audit_log.verify(store.database)).records == 0


async def test_an_entry_that_cannot_be_encoded_spoils_nobody_elses(store: SqlStore) -> None:
    gate = Gate()
    first = asyncio.create_task(store.write(gate.pass_through))
    await gate.reached.wait()
    unspeakable = AuditEntry(AuditEvent.QUERY_ATTEMPT, NOON, "r", {"x": object()})  # type: ignore[dict-item]  # on purpose
    tasks = [asyncio.create_task(store.append_audit(each)) for each in (entry("a"), unspeakable, entry("b"))]
    await asyncio.sleep(0)
    gate.open()
    await first
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], TypeError)
    assert [record.sequence for record in outcomes if not isinstance(record, BaseException)] == [1, 2]
    assert (await audit_log.verify(store.database)).is_whole


async def test_a_cancelled_caller_leaves_the_transaction_whole(store: SqlStore) -> None:
    gate = Gate()

    def slow(tx: Tx) -> None:
        bump_register_version(tx)
        gate.pass_through(tx)
        patients.ensure(tx, patients.nhs(ANNE), CLERK, source="test")

    task = asyncio.create_task(store.write(slow))
    await gate.reached.wait()
    task.cancel()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(lambda tx: None)  # behind it in the queue
    assert await store.register_version() == 2
    assert await store.read(lambda read: patients.find(read, patients.nhs(ANNE))) is not None


async def test_what_nobody_waits_for_any_more_is_not_begun(store: SqlStore) -> None:
    gate = Gate()
    first = asyncio.create_task(store.write(gate.pass_through))
    await gate.reached.wait()
    abandoned = asyncio.create_task(store.write(bump_register_version))
    await asyncio.sleep(0)
    abandoned.cancel()
    await asyncio.sleep(0)
    gate.open()
    await first
    await store.write(lambda tx: None)
    assert await store.register_version() == 0


async def test_a_snapshot_does_not_see_what_is_committed_after_it_began(store: SqlStore) -> None:
    gate = Gate()

    def twice(read: Read) -> tuple[int, int]:
        before = version(read)
        gate.pass_through(read)
        return before, version(read)

    reading = asyncio.create_task(store.read(twice))
    await gate.reached.wait()
    await patient(store)
    gate.open()
    assert await reading == (0, 0)
    assert await store.register_version() == 1


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_waiting_has_a_limit(url: str, clock: FakeClock, kind: str) -> None:
    settings = DatabaseSettings(url, readers=1, waiting_max=2)
    async with SqlStore(settings, node="north", clock=clock) as store:
        run: Callable[[Callable[[Tx], None]], asyncio.Task[None]] = lambda body: asyncio.create_task(  # noqa: E731
            store.write(body) if kind == "write" else store.read(body)  # type: ignore[arg-type]  # a Tx is a Read
        )
        gate = Gate()
        running = run(gate.pass_through)
        await gate.reached.wait()
        waiting = [run(lambda tx: None) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverCapacity):
            await run(lambda tx: None)
        gate.open()
        await asyncio.gather(running, *waiting)


async def test_an_audit_that_cannot_keep_up_is_an_audit_that_is_down(url: str, clock: FakeClock) -> None:
    settings = StoreSettings(audit_append_timeout_s=0.05)
    async with SqlStore(DatabaseSettings(url, waiting_max=1), node="n", clock=clock, settings=settings) as store:
        gate = Gate()
        running = asyncio.create_task(store.write(gate.pass_through))
        await gate.reached.wait()
        late = asyncio.create_task(store.append_audit(entry()))
        await asyncio.sleep(0)
        with pytest.raises(AuditUnavailable, match="wait"):  # no room to wait
            await store.append_audit(entry())
        with pytest.raises(AuditUnavailable, match="in time"):
            await late
        gate.open()
        await running
        assert (await store.append_audit(entry())).sequence == 1


async def test_registers_that_do_not_answer_in_time_are_faults_every_one(url: str, clock: FakeClock) -> None:
    settings = StoreSettings(register_read_timeout_s=0.05)
    async with SqlStore(DatabaseSettings(url, readers=1), node="n", clock=clock, settings=settings) as store:
        gate = Gate()
        reading = asyncio.create_task(store.read(gate.pass_through))
        await gate.reached.wait()
        snapshot = await store.facts(NORTH, [ANNE], at=NOON)
        assert snapshot.unpinned.faults == snapshot.by_patient[ANNE].faults == frozenset(Register)
        gate.open()
        await reading


async def test_a_broken_statement_is_the_databases_fault_and_shows_no_patient(store: SqlStore) -> None:
    def broken(tx: Tx) -> None:
        tx.connection.exec_driver_sql("SELECT 1 FROM no_such_table")

    with pytest.raises(StoreUnavailable) as caught:
        await store.write(broken)
    assert "no_such_table" not in str(caught.value)
    await patient(store)
    assert await store.register_version() == 1


async def test_a_closed_store_says_so(url: str, clock: FakeClock) -> None:
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock) as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.register_version()


async def test_closing_waits_for_what_is_under_way(url: str, clock: FakeClock) -> None:
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock) as store:
        tasks = [asyncio.create_task(store.append_audit(entry())) for _ in range(20)]
        await asyncio.sleep(0)
    assert sorted([(await task).sequence for task in tasks]) == list(range(1, 21))
