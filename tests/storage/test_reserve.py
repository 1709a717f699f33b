"""The audit's reserve: durable without the database, bounded, torn by no crash, drained in order and never doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import AuditUnavailable, ConfigurationError
from storage import audit_log
from storage.database import Tx
from storage.reserve import BYTES_MIN, Reserve
from storage.store import SqlStore
from tests.clock import NOON
from tests.storage.people import entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "reserve.bin"


@pytest.fixture
def reserve(path: Path) -> Iterator[Reserve]:
    made = Reserve(path, BYTES_MIN)
    made.open()
    yield made
    made.close()


def reopened(reserve: Reserve) -> Reserve:
    """The same file after a new start."""
    reserve.close()
    again = Reserve(reserve.path, reserve.bytes_max)
    again.open()
    return again


def texts(reserve: Reserve) -> list[object]:
    """What waits, by the texts of the entries."""
    return [record.entry.body["text"] for record in reserve.records()]


async def chain(store: SqlStore) -> list[tuple[object, object]]:
    """Event and text of every record in the chain."""
    found: list[tuple[object, object]] = []
    for record in await store.read(lambda read: audit_log.page(read, "north", 0)):
        said = audit_log.contents(record)
        body = said["body"]
        assert isinstance(body, dict)
        found.append((said["event"], body.get("text")))
    return found


QUESTION = AuditEvent.QUERY_ATTEMPT.value
DRAINED = (AuditEvent.RESERVE_DRAINED.value, None)


def test_the_space_is_taken_in_advance_and_private(reserve: Reserve, path: Path) -> None:
    status = path.stat()
    assert status.st_size == BYTES_MIN and status.st_blocks * 512 >= BYTES_MIN
    assert status.st_mode & 0o777 == 0o600
    assert reserve.is_empty and reserve.bytes_free < BYTES_MIN


async def test_what_was_recorded_is_there_after_a_new_start(reserve: Reserve) -> None:
    for number in range(3):
        await reserve.append(entry(str(number)))
    again = reopened(reserve)
    assert texts(again) == ["0", "1", "2"]
    await again.append(entry("3"))
    assert texts(again) == ["0", "1", "2", "3"]
    again.close()


async def test_recovery_drains_in_order_and_leaves_room(store: SqlStore, reserve: Reserve) -> None:
    await store.append_audit(entry("before"))
    late = AuditEntry(AuditEvent.SECURITY_ALERT, NOON, "request-7", {"text": "break-glass"})
    await reserve.append(entry("during"))
    await reserve.append(late)
    assert await reserve.drain(store.database) == 2
    assert reserve.is_empty and await reserve.drain(store.database) == 0
    assert await chain(store) == [
        (QUESTION, "before"),
        (QUESTION, "during"),
        (AuditEvent.SECURITY_ALERT.value, "break-glass"),
        DRAINED,
    ]
    [_, _, drained, _] = await store.read(lambda read: audit_log.page(read, "north", 0))
    assert drained.encoded == late.encoded()
    assert (await audit_log.verify(store.database)).is_whole


async def test_a_crash_between_draining_and_emptying_doubles_nothing(store: SqlStore, reserve: Reserve) -> None:
    await reserve.append(entry("once"))
    filled = reserve.path.read_bytes()
    await reserve.drain(store.database)
    reserve.close()
    reserve.path.write_bytes(filled)  # as if the process had died before it emptied the file
    again = Reserve(reserve.path, reserve.bytes_max)
    again.open()
    await again.append(entry("after the crash"))
    assert await again.drain(store.database) == 1
    assert [text for event, text in await chain(store) if event == QUESTION] == ["once", "after the crash"]
    again.close()


async def test_what_comes_in_while_draining_waits_for_the_next_time(store: SqlStore, reserve: Reserve) -> None:
    await reserve.append(entry("first"))

    def slip_in(tx: Tx) -> None:
        reserve._append(entry("slipped in"))  # another thread's append, in the middle of the transaction before

    await store.write(slip_in)
    waiting = reserve.records()[:1]
    reserve.records = lambda: waiting  # type: ignore[method-assign]  # the drain began before the second record
    assert await reserve.drain(store.database) == 1
    del reserve.records
    assert texts(reserve) == ["first", "slipped in"]
    assert await reserve.drain(store.database) == 1
    assert [text for event, text in await chain(store) if event == QUESTION] == ["first", "slipped in"]
    assert reserve.is_empty


async def test_a_full_reserve_refuses_visibly_and_keeps_what_it_has(reserve: Reserve) -> None:
    big = entry("x" * 10_000)
    fitting = (BYTES_MIN - 24) // 10_200
    for _ in range(fitting):
        await reserve.append(big)
    with pytest.raises(AuditUnavailable, match="full"):
        await reserve.append(big)
    await reserve.append(entry("a short one still fits"))
    again = reopened(reserve)
    assert len(again.records()) == fitting + 1
    again.close()


async def test_a_record_fills_the_file_to_its_last_byte(reserve: Reserve) -> None:
    overhead = reserve.bytes_free
    await reserve.append(entry(""))
    overhead -= reserve.bytes_free
    room = reserve.bytes_free
    with pytest.raises(AuditUnavailable, match="full"):
        await reserve.append(entry("x" * (room - overhead + 1)))
    await reserve.append(entry("x" * (room - overhead)))
    assert reserve.bytes_free == 0 and len(reserve.records()) == 2


@pytest.mark.parametrize("torn", [1, 4, 20, 36, 37, 60])
async def test_a_torn_last_record_is_no_record(reserve: Reserve, torn: int) -> None:
    await reserve.append(entry("whole"))
    begin = BYTES_MIN - reserve.bytes_free
    await reserve.append(entry("torn"))
    reserve.close()
    with reserve.path.open("r+b") as file:
        file.seek(begin + torn)
        file.write(bytes(BYTES_MIN - begin - torn))
    again = Reserve(reserve.path, reserve.bytes_max)
    again.open()
    assert texts(again) == ["whole"]
    await again.append(entry("next"))
    assert texts(again) == ["whole", "next"]
    again.close()


async def test_records_of_an_earlier_filling_never_come_back(store: SqlStore, reserve: Reserve) -> None:
    for number in range(3):
        await reserve.append(entry(f"old {number}"))
    await reserve.drain(store.database)
    await reserve.append(entry("new 0"))  # as long as the old ones: what follows it in the file is an old record
    again = reopened(reserve)
    assert texts(again) == ["new 0"]
    again.close()


async def test_a_database_still_down_loses_nothing_from_the_reserve(reserve: Reserve, store: SqlStore) -> None:
    await reserve.append(entry("kept"))
    await store.write(lambda tx: tx.connection.exec_driver_sql("ALTER TABLE audit_record RENAME TO gone"))
    with pytest.raises(Exception, match="refused a transaction"):
        await reserve.drain(store.database)
    assert texts(reserve) == ["kept"]
    await store.write(lambda tx: tx.connection.exec_driver_sql("ALTER TABLE gone RENAME TO audit_record"))
    assert await reserve.drain(store.database) == 1


async def test_after_a_failed_sync_the_reserve_records_no_more(
    reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reserve.append(entry("good"))
    monkeypatch.setenv("GATEWAY_FAULTS", "reserve.append.written=raise")
    with pytest.raises(AuditUnavailable):
        await reserve.append(entry("bad"))
    monkeypatch.delenv("GATEWAY_FAULTS")
    with pytest.raises(AuditUnavailable, match="disk failed"):
        await reserve.append(entry("too late"))
    again = reopened(reserve)
    assert texts(again)[0] == "good"
    await again.append(entry("recovered"))
    assert texts(again)[-1] == "recovered"
    again.close()


async def test_a_reserve_configured_smaller_loses_none_of_its_records(path: Path) -> None:
    larger = Reserve(path, 2 * BYTES_MIN)
    larger.open()
    for number in range(8):
        await larger.append(entry(f"{number}{'x' * 15_000}"))
    larger.close()
    smaller = Reserve(path, BYTES_MIN)
    smaller.open()
    assert len(smaller.records()) == 8
    smaller.close()


async def test_only_one_process_holds_the_reserve(reserve: Reserve) -> None:
    with pytest.raises(ConfigurationError, match="another process"):
        Reserve(reserve.path, reserve.bytes_max).open()


def test_another_file_in_its_place_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"somebody's photograph" * 10)
    with pytest.raises(ConfigurationError, match="not an audit reserve"):
        Reserve(path, BYTES_MIN).open()
    assert path.read_bytes() == b"somebody's photograph" * 10


def test_a_reserve_too_small_to_help_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least"):
        Reserve(path, BYTES_MIN - 1).open()
