"""How the jobs stand at this moment: what is due, lost or to be stopped, and how many wait how long in each lane.

For a runner that looks often and for whoever watches a gateway. Reads the jobs table alone, changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, tuple_

from gateway.model.work.jobs import Claim, JobState, Lane
from storage.database import Read
from storage.work.jobs import IS_OPEN, IS_READY, IS_RUNNING, job


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """One lane."""

    ready: int = 0
    """Queued, whether or not they are due."""
    running: int = 0
    oldest_due_at: datetime | None = None
    """Since when the longest due job waits; None: nothing is due."""


def to_cancel(read: Read, claims: Sequence[Claim]) -> set[Claim]:
    """Those of these claims that stand and are to be cancelled."""
    held = tuple_(job.c.job_id, job.c.owner, job.c.attempts)
    named = [(each.job_id, each.owner, each.attempt) for each in claims]
    found = select(job.c.job_id, job.c.owner, job.c.attempts).where(
        held.in_(named), IS_RUNNING, job.c.is_cancel_requested
    )
    return {Claim(row.job_id, row.owner, row.attempts) for row in read.connection.execute(found)}


def has_expired(read: Read, *, lease_now: datetime) -> bool:
    """Whether the runner of some job is gone."""
    expired = select(job.c.job_id).where(IS_RUNNING, job.c.lease_until < lease_now).limit(1)
    return read.connection.execute(expired).first() is not None


def ready_lanes(read: Read, kinds: Collection[str]) -> frozenset[Lane]:
    """The lanes in which a job is due."""
    due = select(job.c.job_id).where(IS_READY, job.c.run_at <= read.now, job.c.kind.in_(sorted(kinds))).limit(1)
    return frozenset(
        lane for lane in Lane if read.connection.execute(due.where(job.c.lane == lane.value)).first() is not None
    )


def by_lane(read: Read) -> Mapping[Lane, LaneStanding]:
    """Every lane, also those in which nothing is open."""
    counted = select(job.c.lane, job.c.state, func.count().label("jobs")).where(IS_OPEN)
    jobs = {
        (row.lane, row.state): int(row.jobs)
        for row in read.connection.execute(counted.group_by(job.c.lane, job.c.state))
    }
    due = select(job.c.lane, func.min(job.c.run_at).label("since")).where(IS_READY, job.c.run_at <= read.now)
    since = {row.lane: row.since for row in read.connection.execute(due.group_by(job.c.lane))}
    return {
        lane: LaneStanding(
            jobs.get((lane.value, JobState.READY.value), 0),
            jobs.get((lane.value, JobState.RUNNING.value), 0),
            since.get(lane.value),
        )
        for lane in Lane
    }
