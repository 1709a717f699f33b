"""How release went, of one trust or of all: how many versions went out, how long after their time, what is stuck.

One statement each, over the indexes of releases and of what a person has to look at.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, select, true

from policy.parties import TrustId
from storage.database import Read
from storage.release.deliveries import IS_RETRIED, IS_STUCK, report_delivery
from storage.release.releases import IS_OPEN, report_notice, report_release
from storage.release.tables import report
from storage.tables.columns import unindexed

DELAYS_MAX = 10_000
"""Releases of which a median is taken, the newest."""


def released_between(read: Read, since: datetime, until: datetime, trust: TrustId | None = None) -> int:
    """How many versions were released in `[since, until)`."""
    joined = report_release.join(report, report.c.report_id == report_release.c.report_id)
    within = (report_release.c.released_at >= since) & (report_release.c.released_at < until)
    return _count(read, select(func.count()).select_from(joined).where(_of(trust), within))


def delays_s(read: Read, since: datetime, trust: TrustId | None = None) -> list[float]:
    """Seconds from due to released, of what was released since."""
    joined = report_release.join(report, report.c.report_id == report_release.c.report_id)
    statement = (
        select(report_release.c.due_at, report_release.c.released_at)
        .select_from(joined)
        .where(_of(trust), report_release.c.released_at >= since, report_release.c.due_at.is_not(None))
        .order_by(report_release.c.released_at.desc())
        .limit(DELAYS_MAX)
    )
    return [(row.released_at - row.due_at).total_seconds() for row in read.connection.execute(statement)]


def undeliverable(read: Read, trust: TrustId | None = None) -> int:
    """How many documents, and tellings of patients, wait for a person to see what became of them (SAF-67)."""
    documents = report_delivery.join(report, report.c.report_id == report_delivery.c.report_id)
    tellings = report_notice.join(report, report.c.report_id == report_notice.c.report_id)
    of_documents = select(func.count()).select_from(documents).where(_of(trust), IS_STUCK)
    of_tellings = select(func.count()).select_from(tellings).where(_of(trust), IS_OPEN)
    return _count(read, of_documents) + _count(read, of_tellings)


def retried(read: Read, trust: TrustId | None = None) -> int:
    """How many documents a channel has failed to show or to take away, and is asked about again by itself (REL-40)."""
    documents = report_delivery.join(report, report.c.report_id == report_delivery.c.report_id)
    return _count(read, select(func.count()).select_from(documents).where(_of(trust), IS_RETRIED))


def _of(trust: TrustId | None) -> ColumnElement[bool]:
    return true() if trust is None else unindexed(report.c.trust) == trust.code


def _count(read: Read, statement: Select[int]) -> int:
    return int(read.connection.execute(statement).scalar_one())
