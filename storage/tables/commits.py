"""Whether a commit whose answer was lost took place: each transaction on PostgreSQL leaves its token in a row.

A connection that breaks while COMMIT is under way leaves the outcome unknown, and neither repeating nor giving up is
right. The writer reads its own row back; the lock on it waits for a transaction that the server is still finishing.
SQLite answers for itself: a COMMIT that raised there was not acknowledged, and nothing was lost on a wire.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Column, Connection, Table, Text, bindparam, delete, select, text

from storage.tables.columns import Instant, metadata, micros

commit_mark = Table(
    "commit_mark",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("token", Text, nullable=False),
    Column("at", Instant, nullable=False),
)
"""One row for each writing process; of no use once the process is gone."""

_LEAVE = text(
    "INSERT INTO commit_mark (writer, token, at) VALUES (:writer, :token, :at)"
    " ON CONFLICT (writer) DO UPDATE SET token = excluded.token, at = excluded.at"
)
_READ_BACK = select(commit_mark.c.token).where(commit_mark.c.writer == bindparam("of_writer")).with_for_update()
_SWEEP = delete(commit_mark).where(commit_mark.c.at < bindparam("before", type_=Instant))
_KEPT = timedelta(days=1)


class CommitMarks:
    """This process's row."""

    def __init__(self) -> None:
        self._writer = uuid4().hex

    def leave(self, connection: Connection, now: datetime) -> str:
        """Put a new token into the row, as the transaction's last statement; the token."""
        token = uuid4().hex
        connection.execute(_LEAVE, {"writer": self._writer, "token": token, "at": micros(now)})
        return token

    def is_committed(self, connection: Connection, token: str) -> bool:
        """Whether the transaction that left `token` took place; waits until the server has made up its mind."""
        connection.exec_driver_sql("BEGIN")
        found = connection.execute(_READ_BACK, {"of_writer": self._writer}).scalar_one_or_none()
        connection.exec_driver_sql("COMMIT")
        return found == token

    def sweep(self, connection: Connection, now: datetime) -> None:
        """Delete the rows of processes long gone, inside a transaction."""
        connection.execute(_SWEEP, {"before": now - _KEPT})
