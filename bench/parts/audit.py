"""Durable audit appends a second, at 1, 8 and 64 callers, on SQLite and on PostgreSQL.

The peer is what one would write first: insert and commit for each record, at the same durability, without a chain. So
the ratio is what group commit gains, less what the chain, its savepoints and the hand-over between threads cost.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench.figures import Figure, middle, spread
from bench.plan import Effort, Say
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.imaging import JsonValue
from gateway.node import SystemClock
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.store import SqlStore
from tests.peers.postgres import running_postgres

CALLERS = (1, 8, 64)
_CONNECTIONS_MAX = 32
"""PostgreSQL connections of the plain peer; more callers share them."""
_PLAIN_TABLE = "CREATE TABLE record (id {id}, at TEXT, event TEXT, request_id TEXT, encoded {bytes})"
_PLAIN_INSERT = "INSERT INTO record (at, event, request_id, encoded) VALUES ({0}, {0}, {0}, {0})"

Append = Callable[[], object]
"""Store one record durably, from a thread."""
Appending = AbstractContextManager[Append]
Connect = Callable[[], Appending]
"""What each calling thread opens for itself."""


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    say("SQLite")
    database = DatabaseSettings(f"sqlite:///{folder / 'ours.db'}")
    yield from _compare("SQLite", database, _plain_sqlite(folder / "plain.db"), effort)
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        say("PostgreSQL is not installed (Debian package postgresql): figures without it")
        return
    with running_postgres() as server:
        say("PostgreSQL")
        plain = _plain_postgresql(server.create_database())
        yield from _compare("PostgreSQL", DatabaseSettings(server.create_database()), plain, effort)


def _compare(name: str, database: DatabaseSettings, connect: Connect, effort: Effort) -> Iterator[Figure]:
    upgrade(database)
    for callers in CALLERS:
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(effort.rounds + 1):
            our_rate = asyncio.run(_our_rate(database, callers, effort.slice_s / 2))
            their_rate = _their_rate(connect, callers, effort.slice_s / 2)
            if number:
                ours.append(our_rate)
                theirs.append(their_rate)
        about: dict[str, JsonValue] = {
            "peer": f"{name}, insert and commit for each record",
            "ours": spread(ours),
            "theirs": spread(theirs),
        }
        yield Figure(
            f"audit, {name}, {callers} callers: appends a second", middle(ours), middle(theirs), "1/s", None, about
        )


async def _our_rate(database: DatabaseSettings, callers: int, duration_s: float) -> float:
    async with SqlStore(database, node="bench-1", clock=SystemClock()) as store:
        await store.append_audit(_entry())  # opens the connection
        began = time.perf_counter()

        async def call() -> int:
            count = 0
            while time.perf_counter() - began < duration_s:
                await store.append_audit(_entry())
                count += 1
            return count

        total = sum(await asyncio.gather(*(call() for _ in range(callers))))
        return total / (time.perf_counter() - began)


def _their_rate(connect: Connect, callers: int, duration_s: float) -> float:
    counts: list[int] = []
    start = threading.Barrier(callers + 1)

    def call() -> None:
        with connect() as append:
            append()
            start.wait()
            count, began = 0, time.perf_counter()
            while time.perf_counter() - began < duration_s:
                append()
                count += 1
            counts.append(count)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def _plain_sqlite(path: Path) -> Connect:
    """One connection for all threads: faster than one each, which would wait for the lock in steps of milliseconds."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(_PLAIN_TABLE.format(id="INTEGER PRIMARY KEY", bytes="BLOB"))
    lock = threading.Lock()
    insert = _PLAIN_INSERT.format("?")

    def append() -> None:
        values = _values(_entry())
        with lock:
            connection.execute(insert, values)

    @contextmanager
    def connect() -> Iterator[Append]:
        yield append

    return connect


def _plain_postgresql(url: str) -> Connect:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_PLAIN_TABLE.format(id="bigserial primary key", bytes="bytea").encode())
    connections = threading.BoundedSemaphore(_CONNECTIONS_MAX)
    pool: list[psycopg.Connection[tuple[object, ...]]] = []
    insert = _PLAIN_INSERT.format("%s").encode()

    def append() -> None:
        values = _values(_entry())
        with connections:
            connection = pool.pop() if pool else psycopg.connect(url, autocommit=True)
            connection.execute(insert, values)
            pool.append(connection)

    @contextmanager
    def connect() -> Iterator[Append]:
        yield append

    return connect


def _values(entry: AuditEntry) -> tuple[str, str, str, bytes]:
    return entry.at.isoformat(), entry.event.value, entry.request_id, entry.encoded()


def _entry() -> AuditEntry:
    return AuditEntry(AuditEvent.QUERY_ATTEMPT, datetime.now(UTC), "5c1f6b3e9d6f4e2ab7a1c0d9e8f76543", _BODY)


def _body() -> dict[str, JsonValue]:
    """As large as the attempt of an ordinary question: some two kilobytes."""
    agreements: list[JsonValue] = [
        {"agreement": f"RZ2/1/{n}", "custodian": "RZ2", "modalities": ["CT"], "purposes": ["TREAT"], "version": 1}
        for n in range(12)
    ]
    return {
        "question": {"keys": [["00100020", "9990000018"]], "level": "STUDY", "limit": None, "offset": 0, "trust": ""},
        "access": {"subject": "northmoor-pacs", "recipient": "RZ1", "purpose": "TREAT", "kind": "system"},
        "facts": {"agreements": agreements, "patient": "9990000018", "version": 7},
        "settings": "0123456789ab",
    }


_BODY = _body()
