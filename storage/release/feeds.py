"""What senders of reports say they sent: a count for each day, told by a person or a file, the last word counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Column, Integer, Table, Text, insert, select, update

from policy.parties import TrustId
from storage.database import Read, Tx
from storage.tables.columns import Instant, metadata

feed_count = Table(
    "feed_count",
    metadata,
    Column("trust", Text, primary_key=True),
    Column("feed", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("told", Integer, nullable=False),
    Column("told_at", Instant, nullable=False),
    Column("told_by", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class ToldCount:
    """What one sender said of one London day."""

    trust: TrustId
    feed: str
    day: date
    count: int
    told_at: datetime
    told_by: str


def tell(tx: Tx, trust: TrustId, feed: str, counts: Mapping[date, int], by: str) -> None:
    """Keep what a sender says it sent on these days."""
    place = (feed_count.c.trust == trust.code) & (feed_count.c.feed == feed)
    for day, count in counts.items():
        values = {"told": count, "told_at": tx.now, "told_by": by}
        of_day = update(feed_count).where(place, feed_count.c.day == day.isoformat())
        if tx.connection.execute(of_day.values(**values)).rowcount == 0:
            row = {"trust": trust.code, "feed": feed, "day": day.isoformat(), **values}
            tx.connection.execute(insert(feed_count).values(**row))


def told(read: Read, since: date) -> tuple[ToldCount, ...]:
    """What was told of the days from then on, the oldest first."""
    found = select(feed_count).where(feed_count.c.day >= since.isoformat()).order_by(feed_count.c.day)
    return tuple(
        ToldCount(TrustId(row.trust), row.feed, date.fromisoformat(row.day), row.told, row.told_at, row.told_by)
        for row in read.connection.execute(found)
    )
