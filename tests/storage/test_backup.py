"""Backups taken while serving, restored into an empty place: the chain survives, keys stay apart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model.errors import InvalidRequest, StoreUnavailable
from storage import audit_log, migrate
from storage.anchors import AnchorFile
from storage.backup import MANIFEST, Manifest, backup, read_manifest, restore
from storage.checkpoints import check_rollback, checkpoint
from storage.engines import DatabaseSettings
from storage.keys import SigningKey, create_signing_key
from storage.registers import patients
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.peers.postgres import Postgres
from tests.storage.people import ANNE, NORTH, entry, patient, relationship


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return create_signing_key(tmp_path / "keys" / "audit.pem")


@pytest.fixture
def empty_url(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty place of the same engine as `url`."""
    if url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'restored' / 'gateway.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    made = server.create_database()
    yield made
    server.drop_database(made)


async def test_a_restored_backup_has_the_registers_and_the_whole_chain(
    store: SqlStore, empty_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path
) -> None:
    await relationship(store, await patient(store))
    await store.append_audit(entry())
    told: list[tuple[int, int]] = []
    made = await backup(store.database, tmp_path / "backup", key, lambda done, of: told.append((done, of)))
    assert told and told[-1][0] == told[-1][1]
    assert (made.node, made.at, made.schema) == ("north", NOON, migrate.newest())
    told.clear()
    restored = await restore(
        tmp_path / "backup", DatabaseSettings(empty_url), key.verifying, lambda done, of: told.append((done, of))
    )
    assert restored == made and told[-1][0] == told[-1][1]
    async with SqlStore(DatabaseSettings(empty_url), node="north", clock=clock) as again:
        verified = await audit_log.verify(again.database)
        assert verified.is_whole and verified.heads == made.heads
        facts = (await again.facts(NORTH, [ANNE], at=NOON)).by_patient[ANNE]
        assert len(facts.relationships) == 1 and facts.faults == frozenset()
        assert (await again.append_audit(entry())).sequence == made.heads[0].sequence + 1


async def test_a_restored_database_is_noticed_at_the_next_start(
    store: SqlStore, empty_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path
) -> None:
    anchors = AnchorFile(tmp_path / "anchors")
    await store.append_audit(entry())
    await backup(store.database, tmp_path / "backup", key)
    await store.append_audit(entry())
    await checkpoint(store.database, anchors, key)
    await restore(tmp_path / "backup", DatabaseSettings(empty_url), key.verifying)
    async with SqlStore(DatabaseSettings(empty_url), node="north", clock=clock) as again:
        assert await check_rollback(again.database, anchors, key.verifying) is not None


async def test_a_backup_is_taken_while_others_write(
    store: SqlStore, empty_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path
) -> None:
    for _ in range(300):
        await store.append_audit(entry("x" * 2_000))
    is_done = asyncio.Event()

    async def write_on() -> None:
        while not is_done.is_set():
            await store.append_audit(entry("x" * 2_000))

    writing = [asyncio.create_task(write_on()) for _ in range(4)]
    made = await backup(store.database, tmp_path / "backup", key)
    is_done.set()
    await asyncio.gather(*writing)
    await restore(tmp_path / "backup", DatabaseSettings(empty_url), key.verifying)
    async with SqlStore(DatabaseSettings(empty_url), node="north", clock=clock) as again:
        verified = await audit_log.verify(again.database)
        assert verified.is_whole and verified.heads == made.heads


async def test_the_signing_key_is_in_no_backup(store: SqlStore, key: SigningKey, tmp_path: Path) -> None:
    await patient(store)
    await backup(store.database, tmp_path / "backup", key)
    secret = key.private.private_bytes_raw()
    pem = (tmp_path / "keys" / "audit.pem").read_bytes().splitlines()[1]
    written = [path.read_bytes() for path in sorted((tmp_path / "backup").iterdir())]
    assert len(written) == 2
    assert not [
        content for content in written if secret in content or pem in content or secret.hex().encode() in content
    ]


async def test_a_backup_is_readable_by_its_owner_alone(store: SqlStore, key: SigningKey, tmp_path: Path) -> None:
    await backup(store.database, tmp_path / "backup", key)
    modes = [os.stat(path).st_mode & 0o077 for path in (tmp_path / "backup", *(tmp_path / "backup").iterdir())]
    assert modes == [0, 0, 0]


async def test_a_backup_that_was_changed_is_refused(
    sqlite_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        made = await backup(store.database, folder, key)
    manifest, database = (folder / MANIFEST).read_bytes(), (folder / made.file).read_bytes()
    elsewhere = DatabaseSettings(f"sqlite:///{tmp_path / 'restored.db'}")
    changes = {
        "the manifest describes": (manifest, database[:-1] + b"x"),
        "not signed": (manifest.replace(b'"node": "north"', b'"node": "south"'), database),
        "no backup manifest": (b"{}", database),
    }
    for words, (changed_manifest, changed_database) in changes.items():
        (folder / MANIFEST).write_bytes(changed_manifest)
        (folder / made.file).write_bytes(changed_database)
        with pytest.raises(InvalidRequest, match=words):
            await restore(folder, elsewhere, key.verifying)
    (folder / MANIFEST).write_bytes(manifest)
    (folder / made.file).write_bytes(database)
    with pytest.raises(InvalidRequest, match="not signed"):
        await restore(folder, elsewhere, create_signing_key(tmp_path / "other.pem").verifying)
    assert not (tmp_path / "restored.db").exists()
    assert read_manifest(folder, key.verifying) == made


async def test_a_manifest_that_names_a_file_elsewhere_is_refused(key: SigningKey, tmp_path: Path) -> None:
    unsigned = Manifest("sqlite", "../secret", "0" * 64, "0001", "north", NOON, (), key.verifying.key_id)
    signed = Manifest.parse(
        unsigned.encoded().replace(b'"signature": ""', f'"signature": "{key.sign(unsigned.encoded())}"'.encode())
    )
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / MANIFEST).write_bytes(signed.encoded())
    with pytest.raises(InvalidRequest):
        read_manifest(folder, key.verifying)


async def test_nothing_is_restored_over_a_database(store: SqlStore, url: str, key: SigningKey, tmp_path: Path) -> None:
    await backup(store.database, tmp_path / "backup", key)
    await patient(store)
    with pytest.raises(InvalidRequest, match="empty"):
        await restore(tmp_path / "backup", DatabaseSettings(url), key.verifying)
    assert await store.read(lambda read: patients.find(read, patients.nhs(ANNE))) is not None


async def test_a_backup_of_the_other_engine_is_refused(
    sqlite_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path
) -> None:
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        await backup(store.database, tmp_path / "backup", key)
    with pytest.raises(InvalidRequest, match="the place is postgresql"):
        await restore(tmp_path / "backup", DatabaseSettings("postgresql://nobody@127.0.0.1:1/none"), key.verifying)


async def test_a_folder_in_use_is_no_place_for_a_backup(store: SqlStore, key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidRequest, match="not empty"):
        await backup(store.database, tmp_path / "backup", key)
    assert (tmp_path / "backup" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("point", ["backup.database.after", "backup.manifest.after"])
async def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(
    sqlite_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        monkeypatch.setenv("GATEWAY_FAULTS", f"{point}=raise")
        with pytest.raises(StoreUnavailable):
            await backup(store.database, tmp_path / "backup", key)
        monkeypatch.delenv("GATEWAY_FAULTS")
        assert os.listdir(tmp_path / "backup") == []
        await backup(store.database, tmp_path / "backup", key)


async def test_a_restore_that_fails_leaves_no_database_behind(
    sqlite_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        await backup(store.database, tmp_path / "backup", key)
    elsewhere = DatabaseSettings(f"sqlite:///{tmp_path / 'restored.db'}")
    monkeypatch.setenv("GATEWAY_FAULTS", "restore.rename.before=raise")
    with pytest.raises(StoreUnavailable):
        await restore(tmp_path / "backup", elsewhere, key.verifying)
    assert "restored.db" not in os.listdir(tmp_path)
    monkeypatch.delenv("GATEWAY_FAULTS")
    await restore(tmp_path / "backup", elsewhere, key.verifying)


async def test_postgresqls_missing_programs_are_named(
    postgres_url: str, clock: FakeClock, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with SqlStore(DatabaseSettings(postgres_url), node="north", clock=clock) as store:
        with pytest.raises(InvalidRequest, match="pg_dump is not installed"):
            await backup(store.database, tmp_path / "backup", key)
