"""Checkpoints, the anchor file, and what happens when the database holds less than they bear witness to."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.model.audit import AuditEvent
from gateway.model.errors import AuditUnavailable, ConfigurationError, InvalidRequest
from policy.optout import CaseEvent
from storage import audit_log
from storage.anchors import AnchorFile, LineKind
from storage.checkpoints import Checkpointer, accept_restore, check_rollback, checkpoint
from storage.engines import DatabaseSettings
from storage.keys import SigningKey, create_signing_key, load_signing_key, load_verifying_key
from storage.registers.state import Author
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.storage.people import case, entry, move, patient

OPERATOR = Author("operator", "request-9", "restored after the disk failed")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return create_signing_key(tmp_path / "keys" / "audit.pem")


@pytest.fixture
def anchors(tmp_path: Path) -> AnchorFile:
    return AnchorFile(tmp_path / "second-place" / "anchors.jsonl")


def copy_of(url: str, target: Path) -> Path:
    """An SQLite database as it is now."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
    return target


def roll_back(url: str, copy: Path) -> None:
    """Put an earlier copy in the place of the database; nobody has it open."""
    path = Path(url.removeprefix("sqlite:///"))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(copy, path)


def opened(url: str, clock: FakeClock) -> SqlStore:
    """A store over the database."""
    return SqlStore(DatabaseSettings(url), node="north", clock=clock)


async def test_a_checkpoint_bears_witness_to_every_chain_it_sees(
    store: SqlStore, url: str, clock: FakeClock, key: SigningKey, anchors: AnchorFile
) -> None:
    await store.append_audit(entry())
    async with SqlStore(DatabaseSettings(url), node="south", clock=clock) as other:
        last = await other.append_audit(entry())
    made = await checkpoint(store.database, anchors, key)
    assert [(head.node, head.sequence) for head in made.heads] == [("north", 1), ("south", 1)]
    assert made.heads[1].hash == last.hash
    witness = anchors.read(key.verifying)
    assert witness.lines == (made,) and witness.problems == ()
    assert await check_rollback(store.database, anchors, key.verifying) is None


async def test_nothing_was_rolled_back_in_a_new_place(store: SqlStore, key: SigningKey, anchors: AnchorFile) -> None:
    assert await check_rollback(store.database, anchors, key.verifying) is None
    with pytest.raises(InvalidRequest, match="no restore to accept"):
        await accept_restore(store.database, anchors, key, OPERATOR)


async def test_checkpoints_come_by_number_of_records_by_time_and_at_the_end(
    store: SqlStore, clock: FakeClock, key: SigningKey, anchors: AnchorFile
) -> None:
    checkpointer = Checkpointer(store.database, anchors, key, every_records=3, every_s=60)
    assert await checkpointer.tick() is None
    for _ in range(2):
        await store.append_audit(entry())
    assert await checkpointer.tick() is None
    await store.append_audit(entry())
    by_number = await checkpointer.tick()
    assert by_number is not None and by_number.heads[0].sequence == 3
    await clock.advance(60)
    assert await checkpointer.tick() is None  # nothing has grown
    await store.append_audit(entry())
    by_time = await checkpointer.tick()
    assert by_time is not None and by_time.heads[0].sequence == 4
    await store.append_audit(entry())
    assert (await checkpointer.finish()).heads[0].sequence == 5


async def test_a_database_rolled_back_is_noticed_and_served_only_after_somebody_accepts_it(
    sqlite_url: str, clock: FakeClock, key: SigningKey, anchors: AnchorFile, tmp_path: Path
) -> None:
    async with opened(sqlite_url, clock) as store:
        row = await patient(store)
        await checkpoint(store.database, anchors, key)
        yesterday = copy_of(sqlite_url, tmp_path / "yesterday.db")
        opt_out = await case(store, row)
        await move(store, opt_out.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)
        last = await checkpoint(store.database, anchors, key)
    roll_back(sqlite_url, yesterday)
    async with opened(sqlite_url, clock) as store:
        found = await check_rollback(store.database, anchors, key.verifying)
        assert found is not None
        assert [(broken.node, broken.sequence) for broken in found.breaks] == [("north", last.heads[0].sequence)]
        # Opt-outs made since are not forgotten silently: receipt, verification, implementation.
        assert (found.opt_out_events_lost, found.register_versions_lost) == (3, 3)
        assert found.last_witness_at == last.at
        with pytest.raises(InvalidRequest, match="needs a reason"):
            await accept_restore(store.database, anchors, key, Author("operator", "r"))
        await accept_restore(store.database, anchors, key, OPERATOR)
        assert await check_rollback(store.database, anchors, key.verifying) is None
        [accepted] = [
            said
            for record in await store.read(lambda read: audit_log.page(read, "north", 0))
            if (said := audit_log.contents(record))["event"] == AuditEvent.RESTORE_ACCEPTED.value
        ]
        body = accepted["body"]
        assert isinstance(body, dict)
        assert (body["by"], body["reason"], body["opt_out_events_lost"]) == ("operator", OPERATOR.reason, 3)
        for _ in range(10):
            await store.append_audit(entry())
        await checkpoint(store.database, anchors, key)
        witness = anchors.read(key.verifying)
        assert [line.kind for line in witness.lines].count(LineKind.RESTORE_ACCEPTED) == 1
        assert (await audit_log.verify(store.database, witness.anchors())).is_whole


async def test_a_roll_back_that_grew_again_before_the_start_is_found_too(
    sqlite_url: str, clock: FakeClock, key: SigningKey, anchors: AnchorFile, tmp_path: Path
) -> None:
    async with opened(sqlite_url, clock) as store:
        await store.append_audit(entry("kept"))
        yesterday = copy_of(sqlite_url, tmp_path / "yesterday.db")
        for number in range(5):
            await store.append_audit(entry(str(number)))
            await checkpoint(store.database, anchors, key)
    roll_back(sqlite_url, yesterday)
    async with opened(sqlite_url, clock) as store:
        for _ in range(20):
            await store.append_audit(entry("another history"))
        found = await check_rollback(store.database, anchors, key.verifying)
        assert found is not None and [broken.sequence for broken in found.breaks] == [2]
        await accept_restore(store.database, anchors, key, OPERATOR)
        assert await check_rollback(store.database, anchors, key.verifying) is None
        assert (await audit_log.verify(store.database, anchors.read(key.verifying).anchors())).is_whole


async def test_an_anchor_file_cut_short_or_lost_is_noticed(
    store: SqlStore, key: SigningKey, anchors: AnchorFile
) -> None:
    for _ in range(3):
        await store.append_audit(entry())
        await checkpoint(store.database, anchors, key)
    lines = anchors.path.read_bytes().splitlines(keepends=True)
    anchors.path.write_bytes(b"".join(lines[:2]))
    found = await check_rollback(store.database, anchors, key.verifying)
    assert found is not None and found.problems == ("the anchor file is older than the database, or missing",)
    anchors.path.unlink()
    assert await check_rollback(store.database, anchors, key.verifying) is not None
    await accept_restore(store.database, anchors, key, OPERATOR)
    assert await check_rollback(store.database, anchors, key.verifying) is None
    await store.append_audit(entry())
    await checkpoint(store.database, anchors, key)
    assert anchors.read(key.verifying).problems == ()


async def test_every_change_of_the_anchor_file_is_noticed(
    store: SqlStore, key: SigningKey, anchors: AnchorFile, tmp_path: Path
) -> None:
    for _ in range(4):
        await store.append_audit(entry())
        await checkpoint(store.database, anchors, key)
    content = anchors.path.read_bytes()
    first, second, third, fourth = content.splitlines(keepends=True)
    foreign = AnchorFile(tmp_path / "foreign")
    foreign_key = create_signing_key(tmp_path / "foreign.pem")
    await checkpoint(store.database, foreign, foreign_key)
    changed = {
        "a line out": first + third + fourth,
        "the first line out": second + third + fourth,
        "exchanged": first + third + second + fourth,
        "doubled": first + second + second + third + fourth,
        "forged": content + foreign.path.read_bytes(),
        "a number changed": content.replace(b'"register_version":0', b'"register_version":7', 1),
        "nonsense": first + b"nonsense\n" + second + third + fourth,
    }
    for what, text in changed.items():
        anchors.path.write_bytes(text)
        assert anchors.read(key.verifying).problems, what
    anchors.path.write_bytes(content)
    assert anchors.read(key.verifying).problems == ()


async def test_a_line_that_a_crash_left_half_written_is_passed_over_and_cut_off(
    store: SqlStore, key: SigningKey, anchors: AnchorFile
) -> None:
    await store.append_audit(entry())
    await checkpoint(store.database, anchors, key)
    whole = anchors.path.read_bytes()
    anchors.path.write_bytes(whole + whole[:100])
    assert anchors.read(key.verifying).problems == ()
    await checkpoint(store.database, anchors, key)
    witness = anchors.read(key.verifying)
    assert len(witness.lines) == 2 and witness.problems == ()


async def test_a_second_place_that_cannot_be_written_fails_the_checkpoint_visibly(
    store: SqlStore, key: SigningKey, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AuditUnavailable):
        await checkpoint(store.database, AnchorFile(tmp_path / "file" / "anchors"), key)


def test_a_signing_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "audit.pem"
    made = create_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path).verifying.key_id == load_verifying_key(path).key_id == made.verifying.key_id
    with pytest.raises(ConfigurationError, match="cannot be made"):
        create_signing_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="600"):
        load_signing_key(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    for load in (load_signing_key, load_verifying_key):
        with pytest.raises(ConfigurationError):
            load(path)


def test_a_signature_holds_for_its_own_message_alone(key: SigningKey) -> None:
    signature = key.sign(b"message")
    assert key.verifying.is_signed(b"message", signature)
    assert not key.verifying.is_signed(b"massage", signature)
    assert not key.verifying.is_signed(b"message", "nonsense")
