"""Versions that came while the clock was in doubt: when that was is judged again once it is not (domain.md A3, SAF-31).

Until then each counts as received at an instant of which is sure that it had come: a verification behind that is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Column, ForeignKey, Index, Table, Text, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Read, Tx
from storage.release.tables import report_version
from storage.tables.columns import Instant, metadata

LIST_MAX = 100
AHEAD_MAX = timedelta(minutes=5)
"""So far two nodes' clocks may differ."""

doubted_receipt = Table(
    "doubted_receipt",
    metadata,
    Column("version_id", Text, ForeignKey("report_version.version_id"), primary_key=True),
    Column("report_id", Text, ForeignKey("report.report_id"), nullable=False),
    Column("heard_at", Instant, nullable=False),
    Index(None, "report_id"),
)
"""When a version came by the clock that was doubted."""


def doubt(tx: Tx, report_id: str, version_id: str, heard_at: datetime) -> None:
    """Have it judged again when this version of a report came."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    values = {"version_id": version_id, "report_id": report_id, "heard_at": heard_at}
    tx.connection.execute(engine.insert(doubted_receipt).values(values).on_conflict_do_nothing())


def doubted(read: Read) -> Sequence[str]:
    """Some of the reports of which that is to be judged."""
    some = select(doubted_receipt.c.report_id).distinct().order_by(doubted_receipt.c.report_id).limit(LIST_MAX)
    return list(read.connection.execute(some).scalars())


def judge(tx: Tx, report_id: str, now: datetime) -> None:
    """Believe when each version came, where that has come by a clock that is sure; else what was sure of it stands.

    Whoever plans the report next goes by it. The report's row is held by the caller.
    """
    of_report = doubted_receipt.c.report_id == report_id
    for row in tx.connection.execute(select(doubted_receipt).where(of_report)).all():
        if row.heard_at <= now + AHEAD_MAX:
            version = update(report_version).where(report_version.c.version_id == row.version_id)
            tx.connection.execute(version.values(received_at=row.heard_at))
    tx.connection.execute(delete(doubted_receipt).where(of_report))
