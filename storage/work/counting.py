"""How far time was counted, for all processes and for good: whoever counts on writes it down (SAF-31)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Read, Tx
from storage.tables.columns import Instant, metadata

counted_time = Table(
    "counted_time",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Instant, nullable=False),
)
"""One row: how far it was counted."""
_NAME = "counted"


def counted_at(read: Read) -> datetime | None:
    """How far it was counted; None: never."""
    return read.connection.execute(select(counted_time.c.at).where(counted_time.c.name == _NAME)).scalar_one_or_none()


def keep(tx: Tx, at: datetime) -> None:
    """It was counted as far as this."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(counted_time).values(name=_NAME, at=at)
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"at": at}))
