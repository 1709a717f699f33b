"""Sessions of patients' browsers as every process finds them, and nobody who has only the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.model.reporting.sessions import SessionTerms
from storage.engines import DatabaseSettings
from storage.release.page.sessions import SKEW_MAX, SqlSessions, patient_session
from storage.store import SqlStore
from tests.clock import FakeClock

VALUE, PLAIN = "a-value-that-a-browser-has", b"9990000018 Ashworth"
TERMS = SessionTerms(timedelta(minutes=15), timedelta(hours=1), sessions_max=2)


class SetClock(FakeClock):
    """A clock that somebody sets."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        """The time as it is set."""
        return super().now() + self.ahead


@dataclass
class Processes:
    """Two over one database."""

    clock: SetClock
    store: SqlStore
    one: SqlSessions
    other: SqlSessions


@pytest.fixture
async def both(url: str) -> AsyncIterator[Processes]:
    clock = SetClock()
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(SqlStore(DatabaseSettings(url), node=node, clock=clock))
            for node in ("north", "south")
        ]
        yield Processes(clock, stores[0], *map(SqlSessions, stores))


async def test_who_signed_in_at_one_process_is_known_at_another(both: Processes) -> None:
    assert await both.one.begin(VALUE, PLAIN, TERMS)
    assert await both.other.find(VALUE, TERMS) == PLAIN
    assert await both.other.find(VALUE + "x", TERMS) is None


async def test_who_signs_out_at_one_process_is_signed_out_at_all(both: Processes) -> None:
    await both.one.begin(VALUE, PLAIN, TERMS)
    await both.other.end(VALUE)
    assert await both.one.find(VALUE, TERMS) is None


async def test_a_session_that_is_used_anywhere_goes_on_until_its_time_is_up(both: Processes) -> None:
    await both.one.begin(VALUE, PLAIN, TERMS)
    for process in (both.one, both.other, both.one, both.other):
        await both.clock.advance(14 * 60)
        assert await process.find(VALUE, TERMS) == PLAIN
    await both.clock.advance(4 * 60)
    assert await both.one.find(VALUE, TERMS) is None


async def test_a_session_that_nobody_uses_is_over(both: Processes) -> None:
    await both.one.begin(VALUE, PLAIN, TERMS)
    await both.clock.advance(15 * 60 - 1)
    assert await both.one.find(VALUE, TERMS) == PLAIN
    await both.clock.advance(15 * 60)
    assert await both.one.find(VALUE, TERMS) is None


async def test_there_are_so_many_at_all_processes_together_and_not_one_more(both: Processes) -> None:
    assert await both.one.begin("first", PLAIN, TERMS)
    assert await both.other.begin("second", PLAIN, TERMS)
    assert not await both.one.begin("third", PLAIN, TERMS)
    await both.clock.advance(15 * 60)
    assert await both.one.begin("third", PLAIN, TERMS)
    count = await both.store.read(lambda read: len(read.connection.execute(patient_session.select()).all()))
    assert count == 1


async def test_a_clock_that_was_set_back_lengthens_no_session(both: Processes) -> None:
    await both.one.begin(VALUE, PLAIN, TERMS)
    both.clock.ahead = -SKEW_MAX
    assert await both.one.find(VALUE, TERMS) == PLAIN
    both.clock.ahead -= timedelta(seconds=1)
    assert await both.one.find(VALUE, TERMS) is None


async def test_the_database_alone_signs_nobody_in_and_names_nobody(sqlite_url: str, clock: FakeClock) -> None:
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        sessions = SqlSessions(store)
        await sessions.begin(VALUE, PLAIN, TERMS)
        [row] = await store.read(lambda read: read.connection.execute(patient_session.select()).all())
        assert await sessions.find(row.digest.hex(), TERMS) is None
    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent
    held = b"".join(file.read_bytes() for file in folder.iterdir())
    assert row.digest in held
    assert VALUE.encode() not in held and b"Ashworth" not in held and b"9990000018" not in held
