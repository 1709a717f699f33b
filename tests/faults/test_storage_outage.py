"""The database stopped, cut off in mid-commit, locked, read-only or out of space: nothing fails open, nothing is lost.

Goals G4 and G5: the store is right again by itself as soon as the database is.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from gateway.model.errors import AuditUnavailable, ServiceFault, StoreUnavailable
from policy.facts import Register
from storage import audit_log, migrate
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.registers import patients
from storage.registers.state import bump_register_version
from storage.store import SqlStore, StoreSettings
from storage.tables.columns import micros
from tests.clock import NOON, FakeClock
from tests.peers.postgres import Postgres, running_postgres
from tests.peers.relay import Cut, Relay
from tests.storage.people import ANNE, NORTH, entry, patient, relationship


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that may be stopped."""
    with running_postgres(of_our_own=True) as running:
        yield running


@pytest.fixture
def server_url(server: Postgres) -> Iterator[str]:
    url = server.create_database()
    migrate.upgrade(DatabaseSettings(url))
    yield url
    server.drop_database(url)


@pytest.fixture
def relay(server: Postgres) -> Iterator[Relay]:
    with Relay("127.0.0.1", server.port) as running:
        yield running


def through(relay: Relay, server: Postgres, url: str) -> DatabaseSettings:
    """The database, reached by way of the relay."""
    return DatabaseSettings(url.replace(f":{server.port}/", f":{relay.port}/"))


def north(settings: DatabaseSettings, **limits: float) -> SqlStore:
    """A store over the database."""
    return SqlStore(settings, node="north", clock=FakeClock(), settings=StoreSettings(**limits))  # type: ignore[arg-type]  # named by the caller


@pytest.mark.peer
async def test_a_database_stopped_and_started_loses_no_acknowledged_record(server: Postgres, server_url: str) -> None:
    acknowledged: list[int] = []
    is_over, enough = asyncio.Event(), asyncio.Semaphore(0)

    async def append_on(store: SqlStore) -> None:
        while not is_over.is_set():
            try:
                acknowledged.append((await store.append_audit(entry())).sequence)
                enough.release()
            except AuditUnavailable:
                await asyncio.sleep(0)

    async def acknowledge_more() -> None:
        for _ in range(len(acknowledged) + 50):
            await enough.acquire()

    async with north(DatabaseSettings(server_url)) as store:
        await relationship(store, await patient(store))
        writing = [asyncio.create_task(append_on(store)) for _ in range(8)]
        await acknowledge_more()
        await asyncio.to_thread(server.stop, crash=True)
        with pytest.raises(ServiceFault):
            await store.append_audit(entry())
        with pytest.raises(StoreUnavailable):
            await store.facts(NORTH, [ANNE], at=NOON)
        assert await store.probe() == frozenset(Register)
        await asyncio.to_thread(server.start)
        await acknowledge_more()
        is_over.set()
        await asyncio.gather(*writing)
        assert await store.probe() == frozenset()
        assert len((await store.facts(NORTH, [ANNE], at=NOON)).by_patient[ANNE].relationships) == 1
        kept = await store.read(lambda read: audit_log.page(read, "north", 0, 1_000_000))
        assert set(acknowledged) <= {record.sequence for record in kept}
        assert len(set(acknowledged)) == len(acknowledged)
        assert (await audit_log.verify(store.database)).is_whole


@pytest.mark.peer
async def test_connections_cut_while_idle_are_not_noticed_by_any_caller(
    server: Postgres, server_url: str, relay: Relay
) -> None:
    async with north(through(relay, server, server_url)) as store:
        await patient(store)
        relay.cut_all()
        assert await store.register_version() == 1
        relay.cut_all()
        await store.append_audit(entry())
        assert (await audit_log.verify(store.database)).records == 2


@pytest.mark.peer
@pytest.mark.parametrize("where", Cut)
async def test_a_connection_lost_during_commit_is_settled_by_reading_back(
    server: Postgres, server_url: str, relay: Relay, where: Cut
) -> None:
    async with north(through(relay, server, server_url)) as store:
        await store.append_audit(entry("first"))
        relay.cut_at(b"COMMIT", where)
        record = await store.append_audit(entry("in doubt"))
        relay.cut_at(b"COMMIT", where)
        row = await patient(store)
        assert relay.cuts == 2
        assert await store.read(lambda read: patients.find(read, patients.nhs(ANNE))) == row
        assert await store.register_version() == 1
        verified = await audit_log.verify(store.database)
        assert verified.is_whole and (record.sequence, verified.records) == (2, 3)


@pytest.mark.peer
async def test_a_deadlock_between_two_writers_is_settled_by_running_the_body_again(server_url: str) -> None:
    async with north(DatabaseSettings(server_url)) as store:
        await store.append_audit(entry())
        await store.write(bump_register_version)
        has_head = asyncio.Event()
        loop = asyncio.get_running_loop()

        def head_then_registers(tx: Tx) -> None:
            tx.chain.append(entry("head first"))
            loop.call_soon_threadsafe(has_head.set)
            bump_register_version(tx)

        def registers_then_head() -> None:
            with psycopg.connect(server_url) as other:
                other.execute("UPDATE register_state SET version = version + 1")
                asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
                try:
                    other.execute("SELECT 1 FROM audit_head FOR UPDATE")
                except psycopg.errors.DeadlockDetected:
                    other.rollback()

        writing: list[asyncio.Task[None]] = []

        async def begin() -> None:
            writing.append(asyncio.create_task(store.write(head_then_registers)))
            await has_head.wait()

        await asyncio.to_thread(registers_then_head)
        await writing[0]
        verified = await audit_log.verify(store.database)
        assert verified.is_whole and verified.records == 2
        assert await store.register_version() in (2, 3)  # 2: the server chose the other one to give way


@pytest.mark.peer
async def test_marks_of_processes_long_gone_are_swept(server_url: str) -> None:
    async with north(DatabaseSettings(server_url)) as store:
        await store.append_audit(entry())
    clock = FakeClock(NOON + timedelta(days=2))
    async with SqlStore(DatabaseSettings(server_url), node="north", clock=clock) as store:
        await store.append_audit(entry())
        marks = await store.read(lambda read: read.connection.exec_driver_sql("SELECT at FROM commit_mark").all())
        assert [row.at for row in marks] == [micros(clock.now())]


@pytest.mark.peer
async def test_a_read_only_database_still_answers_and_records_nothing(server: Postgres, server_url: str) -> None:
    async with north(DatabaseSettings(server_url)) as store:
        await patient(store)
    name = server_url.rsplit("/", 1)[1]
    with psycopg.connect(server.url, autocommit=True) as administrator:
        administrator.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    async with north(DatabaseSettings(server_url)) as store:
        assert (await store.facts(NORTH, [ANNE], at=NOON)).by_patient[ANNE].patient == ANNE
        with pytest.raises(AuditUnavailable):
            await store.append_audit(entry())
        with pytest.raises(StoreUnavailable):
            await store.write(bump_register_version)


@pytest.mark.peer
async def test_a_register_locked_away_is_a_fault_and_comes_back(server_url: str) -> None:
    settings = DatabaseSettings(server_url, read_lock_timeout_s=0.1)
    async with north(settings) as store:
        await relationship(store, await patient(store))
        with psycopg.connect(server_url) as administrator:
            administrator.execute("LOCK TABLE relationship IN ACCESS EXCLUSIVE MODE")
            snapshot = await store.facts(NORTH, [ANNE], at=NOON)
            assert snapshot.unpinned.faults == {Register.RELATIONSHIPS}
            administrator.rollback()
        assert (await store.facts(NORTH, [ANNE], at=NOON)).unpinned.faults == frozenset()


class SmallDisk:
    """A folder with little room, and a way to make more."""

    def __init__(self, folder: Path, make_room: Callable[[], None]) -> None:
        self.folder = folder
        self.make_room = make_room


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A memory disk of 2 MB where we may mount one; else files that may not grow past 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode == 0:
        try:
            yield SmallDisk(folder, lambda: _run("mount", "-o", "remount,size=64m", str(folder)))
        finally:
            _run("umount", str(folder))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        yield SmallDisk(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


async def test_a_full_disk_refuses_visibly_keeps_what_it_has_and_recovers(
    small_disk: SmallDisk, migrated_file: Path
) -> None:
    path = small_disk.folder / "gateway.db"
    shutil.copyfile(migrated_file, path)
    big = entry("x" * 20_000)
    async with north(DatabaseSettings(f"sqlite:///{path}")) as store:
        await relationship(store, await patient(store))
        appended = 2
        with pytest.raises(AuditUnavailable):
            for _ in range(1_000):
                appended = (await store.append_audit(big)).sequence
        for _ in range(3):
            with pytest.raises(ServiceFault):
                await store.append_audit(big)
        # Reading goes on: what was known is known.
        facts = (await store.facts(NORTH, [ANNE], at=NOON)).by_patient[ANNE]
        assert len(facts.relationships) == 1 and facts.faults == frozenset()
        assert (await audit_log.verify(store.database)).records == appended
        small_disk.make_room()
        assert (await store.append_audit(big)).sequence == appended + 1
        assert (await audit_log.verify(store.database)).is_whole


async def test_a_failing_disk_in_mid_commit_fails_that_commit_alone(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with north(DatabaseSettings(sqlite_url)) as store:
        await store.append_audit(entry())
        monkeypatch.setenv("GATEWAY_FAULTS", "store.commit.before=raise")
        with pytest.raises(AuditUnavailable):
            await store.append_audit(entry())
        with pytest.raises(StoreUnavailable):
            await patient(store)
        monkeypatch.delenv("GATEWAY_FAULTS")
        assert (await store.append_audit(entry())).sequence == 2
        assert await store.register_version() == 0


async def test_a_slow_disk_is_an_audit_that_is_down_and_then_up_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with north(DatabaseSettings(sqlite_url), audit_append_timeout_s=0.05) as store:
        monkeypatch.setenv("GATEWAY_FAULTS", "store.commit.before=sleep:300")
        with pytest.raises(AuditUnavailable, match="in time"):
            await store.append_audit(entry("late"))
        monkeypatch.delenv("GATEWAY_FAULTS")
        await store.write(lambda tx: None)
        # The late record is there: it tells of a question that was refused, which is true.
        assert (await store.append_audit(entry("after"))).sequence == 2
