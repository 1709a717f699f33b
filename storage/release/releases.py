"""Which versions were released, when, and of which a patient was told: each once, whoever comes second.

A version is released once, whichever channel confirms it first, and its patient is told of it once, over all channels:
the row that says so is there before the telling, so that a fall between the two is a person's work (SAF-67).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column, Index, Table, Text, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.faults import faultpoint
from storage.database import Read, Tx
from storage.release.deliveries import Delivery
from storage.tables.columns import Instant, TableRow, among, metadata
from storage.tables.prepared import Prepared

LIST_MAX = 1_000


class NoticeState(StrEnum):
    """Whether the patient was told that something is there."""

    NOTIFYING = "notifying"
    NOTIFIED = "notified"
    UNKNOWN = "unknown"
    """A person's work: told again it might be twice."""
    FAILED = "failed"
    SETTLED = "settled"
    """A person has looked."""


report_release = Table(
    "report_release",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("version_id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("due_at", Instant),
    Column("released_at", Instant, nullable=False),
    Index(None, "released_at"),
)
"""A row once a version has been released, by the channel that confirmed it first; never changed."""
_RELEASED = Prepared(select(report_release).where(report_release.c.report_id == bindparam("of_report")))

report_notice = Table(
    "report_notice",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("version_id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("document_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("begun_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("words", Text, nullable=False),
)
"""A row before the patient is told of a version, never a second one."""
IS_OPEN = among(report_notice.c.state, (NoticeState.NOTIFYING, NoticeState.UNKNOWN, NoticeState.FAILED))
Index("ix_report_notice_open", report_notice.c.begun_at, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)


@dataclass(frozen=True, slots=True)
class Notice:
    """That a patient was told of a version, or should have been."""

    report_id: str
    version_id: str
    channel: str
    document_key: str
    state: NoticeState
    begun_at: datetime
    words: str


def release(tx: Tx, delivery: Delivery, released_at: datetime) -> tuple[str, ...]:
    """The versions that are released now for the first time: written down once, whoever comes second."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    first: list[str] = []
    for version_id in delivery.versions:
        values = {
            "report_id": delivery.report_id,
            "version_id": version_id,
            "channel": delivery.channel,
            "due_at": delivery.due_at,
            "released_at": released_at,
        }
        statement = engine.insert(report_release).values(values).on_conflict_do_nothing()
        if tx.connection.execute(statement.returning(report_release.c.version_id)).one_or_none() is not None:
            first.append(version_id)
    return tuple(first)


def released(read: Read, report_id: str) -> Mapping[str, datetime]:
    """The versions that were ever released, and since when."""
    return {row.version_id: row.released_at for row in _RELEASED.rows(read.connection, {"of_report": report_id})}


def begin_notice(tx: Tx, delivery: Delivery, versions: Collection[str]) -> tuple[str, ...]:
    """Those of these versions of which the patient was never told: from now on they count as told."""
    faultpoint("release.notice.begin")
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    first: list[str] = []
    for version_id in versions:
        values = {
            "report_id": delivery.report_id,
            "version_id": version_id,
            "channel": delivery.channel,
            "document_key": delivery.document_key,
            "state": NoticeState.NOTIFYING.value,
            "begun_at": tx.now,
            "words": "",
        }
        statement = engine.insert(report_notice).values(values).on_conflict_do_nothing()
        if tx.connection.execute(statement.returning(report_notice.c.version_id)).one_or_none() is not None:
            first.append(version_id)
    return tuple(first)


def end_notice(tx: Tx, report_id: str, versions: Collection[str], state: NoticeState, words: str = "") -> None:
    """What became of the telling."""
    ended = update(report_notice).where(
        report_notice.c.report_id == report_id, report_notice.c.version_id.in_(sorted(versions))
    )
    tx.connection.execute(ended.values(state=state.value, ended_at=tx.now, words=words))


def notices(read: Read, report_id: str) -> tuple[Notice, ...]:
    """Of which versions of a report its patient was told."""
    statement = select(report_notice).where(report_notice.c.report_id == report_id)
    return tuple(_notice(row) for row in read.connection.execute(statement.order_by(report_notice.c.begun_at)))


def open_notices(read: Read) -> Sequence[Notice]:
    """Notices of which nobody knows what became, the oldest first."""
    statement = select(report_notice).where(IS_OPEN).order_by(report_notice.c.begun_at).limit(LIST_MAX)
    return [_notice(row) for row in read.connection.execute(statement)]


def _notice(row: TableRow) -> Notice:
    return Notice(
        row.report_id,
        row.version_id,
        row.channel,
        row.document_key,
        NoticeState(row.state),
        row.begun_at,
        row.words,
    )
