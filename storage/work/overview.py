"""The retrievals of late at a glance: who asked, how far each is, what of it failed. Reads the ledger alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select

from gateway.model.work.retrievals import Counts, InstanceState
from policy.parties import TrustId
from storage.database import Read
from storage.work.ledger import retrieval, retrieval_instance

RETRIEVALS_MAX = 1_000
_NOT_HANDED_OUT = [state for state in InstanceState if not state.is_ended] + [InstanceState.UNREAD]


@dataclass(frozen=True, slots=True)
class Glance:
    """One retrieval in one line."""

    retrieval_id: str
    subject: str
    recipient: TrustId
    destination: str
    frozen_at: datetime
    ended_at: datetime | None
    halted: str
    counts: Counts
    data_bytes: int


def count_open(read: Read) -> int:
    """How many retrievals of all nodes are under way."""
    counted = select(func.count()).select_from(retrieval).where(retrieval.c.ended_at.is_(None))
    return int(read.connection.execute(counted).scalar_one())


def recent(read: Read, *, only_open: bool, only_failed: bool, limit: int) -> list[Glance]:
    """The newest first; `only_open` those under way, `only_failed` those of which something failed."""
    newest = select(retrieval).order_by(retrieval.c.frozen_at.desc(), retrieval.c.retrieval_id)
    if only_open:
        newest = newest.where(retrieval.c.ended_at.is_(None))
    if only_failed:
        failed = retrieval_instance.c.state == InstanceState.FAILED.value
        newest = newest.where(retrieval.c.retrieval_id.in_(select(retrieval_instance.c.retrieval_id).where(failed)))
    heads = list(read.connection.execute(newest.limit(min(limit, RETRIEVALS_MAX))))
    of, ids = retrieval_instance.c, [head.retrieval_id for head in heads]
    states = {state: func.sum(case((of.state == state.value, 1), else_=0)) for state in InstanceState}
    counted = (
        select(
            of.retrieval_id,
            func.sum(of.data_bytes).label("data_bytes"),
            *(count.label(state.value) for state, count in states.items()),
        )
        .where(of.retrieval_id.in_(ids))
        .group_by(of.retrieval_id)
    )
    by_id = {row.retrieval_id: row for row in read.connection.execute(counted)}
    return [
        Glance(
            head.retrieval_id,
            head.subject,
            TrustId(head.recipient),
            head.destination,
            head.frozen_at,
            head.ended_at,
            head.halted or "",
            Counts(
                sum(int(getattr(row, state.value)) for state in _NOT_HANDED_OUT),
                int(row.sent),
                int(row.failed),
                int(row.warning),
            ),
            int(row.data_bytes),
        )
        for head in heads
        if (row := by_id.get(head.retrieval_id)) is not None
    ]
