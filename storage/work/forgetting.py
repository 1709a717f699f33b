"""Delete jobs that ended long ago. What they did stands where it was done, who asked for it in the audit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from storage.database import Tx
from storage.work.jobs import job

FORGOTTEN_AT_ONCE_MAX = 500


def forget_ended(tx: Tx, before: datetime) -> int:
    """Delete jobs that ended before an instant, so many at a time; how many were."""
    old = select(job.c.job_id).where(job.c.ended_at.is_not(None), job.c.ended_at < before)
    ids = list(tx.connection.execute(old.order_by(job.c.ended_at).limit(FORGOTTEN_AT_ONCE_MAX)).scalars())
    tx.connection.execute(delete(job).where(job.c.job_id.in_(ids)))
    return len(ids)
