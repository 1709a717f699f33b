"""Tampering with the audit, in every way that a person with the database file has: found, and the first place named."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.model.audit import AuditEvent, AuditRecord, ChainHead
from storage import audit_log
from storage.anchors import AnchorFile
from storage.checkpoints import checkpoint
from storage.engines import DatabaseSettings
from storage.keys import create_signing_key
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.storage.people import DAY, entry

RECORDS = 40
CHECKPOINT_AT = 30
MUTATIONS = 1_000
"""Goal G13."""


@dataclass
class Kept:
    """A database of two chains, with checkpoints beside it."""

    path: Path
    earlier: Path
    """The same database, ten records earlier."""
    anchors: tuple[ChainHead, ...]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Kept:
    return asyncio.run(_keep(tmp_path_factory.mktemp("audit"), migrated_file))


async def _keep(folder: Path, migrated_file: Path) -> Kept:
    path, earlier = folder / "gateway.db", folder / "earlier.db"
    shutil.copyfile(migrated_file, path)
    key, anchors = create_signing_key(folder / "key.pem"), AnchorFile(folder / "anchors")
    for node in ("north", "south"):
        async with SqlStore(DatabaseSettings(f"sqlite:///{path}"), node=node, clock=FakeClock()) as store:
            for number in range(1, RECORDS + 1):
                await store.append_audit(entry(f"entry {number}", f"request-{number % 7}"))
                if number == CHECKPOINT_AT:
                    await checkpoint(store.database, anchors, key)
                if number == CHECKPOINT_AT - 10 and node == "south":
                    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(earlier)) as copy:
                        live.backup(copy)
            await checkpoint(store.database, anchors, key)
    with closing(sqlite3.connect(path)) as whole:
        whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the tests copy the file alone
    return Kept(path, earlier, anchors.read(key.verifying).anchors())


async def verify(path: Path, anchors: tuple[ChainHead, ...]) -> audit_log.Verification:
    async with SqlStore(DatabaseSettings(f"sqlite:///{path}"), node="auditor", clock=FakeClock()) as store:
        return await audit_log.verify(store.database, anchors)


async def test_an_audit_that_nobody_touched_is_whole(kept: Kept) -> None:
    found = await verify(kept.path, kept.anchors)
    assert found.is_whole and found.records == 2 * RECORDS
    assert [(head.node, head.sequence) for head in found.heads] == [("north", RECORDS), ("south", RECORDS)]
    assert [(head.node, head.sequence) for head in kept.anchors] == [
        ("north", CHECKPOINT_AT),
        ("north", RECORDS),
        ("south", CHECKPOINT_AT),
        ("south", RECORDS),
    ]


async def test_a_database_rolled_back_as_a_whole_fits_together_and_is_found_all_the_same(kept: Kept) -> None:
    assert (await verify(kept.earlier, ())).is_whole
    found = await verify(kept.earlier, kept.anchors)
    assert [(broken.node, broken.sequence) for broken in found.breaks] == [("south", CHECKPOINT_AT - 9)]


async def test_verifying_tells_how_far_it_is_and_lets_others_append(store: SqlStore) -> None:
    appended = [await store.append_audit(entry()) for _ in range(5)]
    told: list[int] = []
    verified, late = await asyncio.gather(
        audit_log.verify(store.database, progress=told.append), store.append_audit(entry())
    )
    assert verified.is_whole and told[-1] == verified.records >= len(appended)
    assert late.sequence == 6


async def test_records_are_found_by_request_by_time_and_by_cursor(store: SqlStore, clock: FakeClock) -> None:
    for number in range(6):
        await store.append_audit(entry(str(number), f"request-{number % 2}"))
    odd = await store.read(lambda read: audit_log.of_request(read, "request-1"))
    assert [record.sequence for record in odd] == [2, 4, 6]
    rest = await store.read(lambda read: audit_log.page(read, "north", 4))
    assert [record.sequence for record in rest] == [5, 6]
    assert len(await store.read(lambda read: audit_log.between(read, NOON, NOON + DAY, 4))) == 4
    assert await store.read(lambda read: audit_log.between(read, NOON - DAY, NOON, 4)) == []
    assert audit_log.contents(odd[0])["body"] == {"text": "1"}


async def test_records_of_one_kind_are_found_among_many_others(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "PAGE_RECORDS", 3)
    for number in range(10):
        kind = AuditEvent.SECURITY_ALERT if number % 3 == 2 else AuditEvent.AUDIT_READ
        await store.append_audit(replace(entry(str(number)), event=kind))
    kind = AuditEvent.SECURITY_ALERT
    alerts = await store.read(lambda read: audit_log.between(read, NOON, NOON + DAY, 10, kind))
    assert [record.sequence for record in alerts] == [3, 6, 9]
    assert await store.read(lambda read: audit_log.between(read, NOON, NOON + DAY, 2, kind)) == alerts[:2]


Mutation = Callable[[sqlite3.Connection, random.Random], tuple[str, int]]
"""Changes the database; the chain and the number of the first record that then cannot hold."""


def _pick(chance: random.Random, last: int = RECORDS) -> tuple[str, int]:
    return chance.choice(("north", "south")), chance.randint(1, last)


def flip(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Change one bit of one record."""
    node, sequence = _pick(chance)
    query = "SELECT encoded FROM audit_record WHERE node = ? AND sequence = ?"
    [encoded] = database.execute(query, (node, sequence)).fetchone()
    changed = bytearray(encoded)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    update = "UPDATE audit_record SET encoded = ? WHERE node = ? AND sequence = ?"
    database.execute(update, (bytes(changed), node, sequence))
    return node, sequence


def change_column(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Change a column that records are looked up by."""
    node, sequence = _pick(chance)
    column, value = chance.choice([("at", 1), ("event", "explain"), ("request_id", "nobody's"), ("hash", "0" * 64)])
    database.execute(f"UPDATE audit_record SET {column} = ? WHERE node = ? AND sequence = ?", (value, node, sequence))
    return node, sequence


def drop(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Delete a record from the middle."""
    node, sequence = _pick(chance, RECORDS - 1)
    database.execute("DELETE FROM audit_record WHERE node = ? AND sequence = ?", (node, sequence))
    return node, sequence


def swap(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Exchange the places of two records."""
    node, first = _pick(chance, RECORDS - 1)
    second = chance.randint(first + 1, RECORDS)
    for old, new in ((first, -1), (second, first), (-1, second)):
        database.execute("UPDATE audit_record SET sequence = ? WHERE node = ? AND sequence = ?", (new, node, old))
    return node, first


def cut_tail(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Delete the last records and let the chain end before them, as the gateway itself would write it."""
    node, last = _pick(chance, RECORDS - 1)
    database.execute("DELETE FROM audit_record WHERE node = ? AND sequence > ?", (node, last))
    _set_end(database, node, last)
    return node, last + 1


def drop_tail(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Delete the last records alone."""
    node, last = _pick(chance, RECORDS - 1)
    database.execute("DELETE FROM audit_record WHERE node = ? AND sequence > ?", (node, last))
    return node, last + 1


def drop_chain(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Delete a whole chain, its end too."""
    node, _ = _pick(chance)
    database.execute("DELETE FROM audit_record WHERE node = ?", (node,))
    database.execute("DELETE FROM audit_head WHERE node = ?", (node,))
    return node, 1


def splice(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Put the other chain's record in a record's place."""
    node, sequence = _pick(chance)
    other = "south" if node == "north" else "north"
    database.execute(
        "UPDATE audit_record SET (previous, encoded, hash) ="
        " (SELECT previous, encoded, hash FROM audit_record WHERE node = ? AND sequence = ?)"
        " WHERE node = ? AND sequence = ?",
        (other, sequence, node, sequence),
    )
    return node, sequence


def rewrite(database: sqlite3.Connection, chance: random.Random) -> tuple[str, int]:
    """Change a record and compute everything behind it anew: only the next checkpoint knows better."""
    node, sequence = _pick(chance)
    query = "SELECT sequence, encoded, previous FROM audit_record WHERE node = ? AND sequence >= ? ORDER BY sequence"
    rows = database.execute(query, (node, sequence)).fetchall()
    previous = rows[0][2]
    for number, encoded, _ in rows:
        changed = encoded.replace(b"entry", b"ENTRY") if number == sequence else encoded
        record = AuditRecord.following(node, number, previous, changed)
        database.execute(
            "UPDATE audit_record SET previous = ?, encoded = ?, hash = ? WHERE node = ? AND sequence = ?",
            (record.previous, record.encoded, record.hash, node, number),
        )
        previous = record.hash
    _set_end(database, node, RECORDS)
    return node, next(anchor for anchor in (CHECKPOINT_AT, RECORDS) if anchor >= sequence)


def _set_end(database: sqlite3.Connection, node: str, last: int) -> None:
    [digest] = database.execute(
        "SELECT hash FROM audit_record WHERE node = ? AND sequence = ?", (node, last)
    ).fetchone()
    database.execute("UPDATE audit_head SET sequence = ?, hash = ? WHERE node = ?", (last, digest, node))


ALL: tuple[Mutation, ...] = (
    flip,
    change_column,
    drop,
    swap,
    cut_tail,
    drop_tail,
    drop_chain,
    splice,
    rewrite,
)


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.__name__)
async def test_every_tampering_is_found_and_its_first_place_named(
    kept: Kept, tmp_path: Path, mutation: Mutation
) -> None:
    for seed in range(-(-MUTATIONS // len(ALL))):
        path = tmp_path / "gateway.db"
        shutil.copyfile(kept.path, path)
        with closing(sqlite3.connect(path)) as database:
            node, sequence = mutation(database, random.Random(seed))
            database.commit()
        found = await verify(path, kept.anchors)
        assert [(broken.node, broken.sequence) for broken in found.breaks] == [(node, sequence)], f"seed {seed}"
        assert {head.node for head in found.heads} == {"north", "south"} - {node}
