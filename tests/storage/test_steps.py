"""What is done again and again costs the same among many rows that it has nothing to do with as among few.

Counted in the steps of SQLite's machine, whose planner knows no figures of the tables and is easily led into walking
through one. Not in time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Boolean, LargeBinary, Table, create_engine, insert

from gateway.model.work.jobs import Lane, NewJob
from policy.parties import TrustId
from storage.cache import census
from storage.cache.index import cache_instance
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.release import links, listing, messages
from storage.release.deliveries import report_delivery
from storage.release.governance import outcomes
from storage.release.releases import report_notice, report_release
from storage.release.tables import feed_message, report, report_study, report_version
from storage.store import SqlStore
from storage.tables.columns import Instant, Json
from storage.work import commitments, jobs, recipients, standing, transactions
from storage.work.commitments import commitment, commitment_asked
from storage.work.jobs import job
from storage.work.ledger import retrieval, retrieval_instance
from tests.clock import FakeClock

FEW, MANY = 100, 2_000
ALLOWED: Final = 1.6
"""Times the steps: a tree is deeper by a page. A walk would take twenty times as many."""
UNSEEN: Final = 40
"""Steps that are nobody's walk, whatever their ratio."""
THEN = datetime(2026, 1, 1, tzinfo=UTC)
NORTH, SOUTH = TrustId("RZ1"), TrustId("RZ2")
PLACE = "north"

_COMMON: Final = {
    "trust": NORTH.code,
    "source": NORTH.code,
    "custodian": NORTH.code,
    "place": PLACE,
    "patient_key": "",
    "feed": "north-ris",
}
_OF: Final[dict[str, dict[str, object]]] = {
    "job": {"state": "done", "kind": "freshness", "lane": 3},
    "retrieval": {"ended_at": THEN, "halted": None, "recipient": SOUTH.code},
    "retrieval_instance": {"state": "sent", "study_uid": "1.2.3"},
    "cache_instance": {"domain": "cache", "standing": "current", "is_sole_copy": False},
    "commitment_asked": {"archive": NORTH.code, "study_uid": "1.2.3", "answered_at": THEN},
    "report": {"state": "released", "standing": "current", "is_linked": True, "patient_id": None},
    "report_study": {"kind": "accession", "study_uid": "1.2.3"},
    "report_delivery": {"state": "released"},
    "report_notice": {"state": "notified"},
    "feed_message": {"state": "filed"},
}
"""What stands in rows that are nothing to anybody: ended, told, linked, released."""
_TABLES: Final = (
    *(job, retrieval, retrieval_instance, cache_instance, commitment, commitment_asked, report, report_version),
    *(report_study, report_release, report_delivery, report_notice, feed_message),
)
Ask = Callable[[Tx], object]
ASKED: Final[dict[str, Ask]] = {
    "a job is queued": lambda tx: jobs.enqueue(tx, NewJob("tend", Lane.BACKGROUND, {}, dedupe_key=f"k-{tx.new_id()}")),
    "a patient's jobs are cancelled": lambda tx: jobs.cancel_of_patient(tx, "row-of-nobody", "opted out"),
    "jobs are counted by lane": standing.by_lane,
    "who is about to receive a study": lambda tx: recipients.in_doubt(tx, "1.9", NORTH),
    "who received a study": lambda tx: recipients.received(tx, "1.9", NORTH),
    "what archives were asked": lambda tx: commitments.askings(tx, PLACE),
    "what archives confirmed": lambda tx: commitments.confirmed(tx, PLACE),
    "sole copies": lambda tx: commitments.sole_copies(tx, PLACE),
    "studies with sole copies": lambda tx: census.sole_studies(tx, PLACE),
    "what is known of an instance": lambda tx: transactions._known(tx, NORTH, ["1.9"]),
    "the next instances of a place": lambda tx: census.following(tx, PLACE, b"\xff", 10),
    "a report's namesakes": lambda tx: links.namesakes(tx, NORTH, ["A-9"]),
    "numbers whose study nobody has seen": lambda tx: links.unlinked(tx, ("", ""), 10),
    "what was released today": lambda tx: outcomes.released_between(tx, tx.now, tx.now + timedelta(days=1), NORTH),
    "how late it was released": lambda tx: outcomes.delays_s(tx, tx.now, NORTH),
    "what cannot be delivered": lambda tx: outcomes.undeliverable(tx, NORTH),
    "what is tried again": lambda tx: outcomes.retried(tx, NORTH),
    "what a feed brought in a day": lambda tx: listing.brought(tx, NORTH, "north-ris", tx.now, tx.now),
    "dead letters of a trust": lambda tx: messages.dead_count(tx, NORTH),
}


class Steps:
    """Counts what SQLite's machine works off for the store's writer."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, tx: Tx) -> None:
        """Have the driver call at each step."""
        driver = tx.connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(self._worked, 1)

    def taken(self, ask: Ask) -> Callable[[Tx], int]:
        """A transaction that asks, and tells of its steps."""

        def body(tx: Tx) -> int:
            before = self.count
            ask(tx)
            return self.count - before

        return body

    def _worked(self) -> int:
        self.count += 1
        return 0


@pytest.fixture
async def store(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqlStore]:
    settings = DatabaseSettings(f"sqlite:///{tmp_path / 'gateway.db'}")
    upgrade(settings)
    async with SqlStore(settings, node=PLACE, clock=clock) as store:
        yield store


async def test_what_is_asked_again_and_again_walks_through_no_table(store: SqlStore, tmp_path: Path) -> None:
    steps = Steps()
    await store.write(steps.watch)
    await asyncio.to_thread(fill, tmp_path / "gateway.db", 0, FEW)
    few = {name: await store.write(steps.taken(ask)) for name, ask in ASKED.items()}
    await asyncio.to_thread(fill, tmp_path / "gateway.db", FEW, MANY)
    many = {name: await store.write(steps.taken(ask)) for name, ask in ASKED.items()}
    walks = {name: (few[name], many[name]) for name in ASKED if many[name] > max(ALLOWED * few[name], UNSEEN)}
    assert walks == {}
    assert min(few.values()) > 0, "nothing was counted"


def fill(path: Path, first: int, end: int) -> None:
    """Rows of these numbers in every table that grows; they refer to nothing, which a plain connection lets pass."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for table in _TABLES:
            connection.execute(insert(table), [row(table, number) for number in range(first, end)])
    engine.dispose()


def row(table: Table, number: int) -> dict[str, object]:
    """One row; its own number stands in every text of which nothing is said."""
    said = {**_COMMON, **_OF.get(table.name, {})}
    return {column.name: said.get(column.name, plain(column.type, number)) for column in table.columns}


def plain(kind: object, number: int) -> object:
    """A value of a column."""
    match kind:
        case Instant():
            return THEN + timedelta(seconds=number)
        case Json():
            return []
        case Boolean():
            return False
        case LargeBinary():
            return f"{number:08}".encode()
        case _:
            pass
    return number if getattr(kind, "python_type", str) is int else f"n-{number:08}"
