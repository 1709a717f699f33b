"""Who got which images of a study: whom to tell when they are withdrawn at their source (SAF-37, SAF-62).

Reads the ledger alone. What was delivered is in its recipients' hands and stays there: all that can be done is to say
so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Index, literal_column, select

from gateway.model.work.retrievals import InstanceState
from policy.parties import TrustId
from storage.database import Read
from storage.work.ledger import retrieval, retrieval_instance

RECEIVED_MAX = 100_000
"""Deliveries of one study's instances that are looked through."""

_WAS_DELIVERED = retrieval_instance.c.state.in_(
    [literal_column(f"'{state.value}'") for state in (InstanceState.SENT, InstanceState.WARNING)]
)
"""In letters, so that an engine sees that the index below answers it."""

Index(
    "ix_retrieval_instance_study",
    retrieval_instance.c.study_uid,
    sqlite_where=_WAS_DELIVERED,
    postgresql_where=_WAS_DELIVERED,
)
"""Of what was delivered alone: freezing a set costs nothing by it."""


@dataclass(frozen=True, slots=True)
class Received:
    """One instance in the hands of one organisation."""

    sop_uid: str
    recipient: TrustId
    retrieval_id: str


def received(read: Read, study_uid: str, source: TrustId) -> list[Received]:
    """Every instance of a study that came from a trust's archive and was delivered to somebody."""
    of = retrieval_instance.c
    found = (
        select(of.sop_uid, retrieval.c.recipient, of.retrieval_id)
        .join_from(retrieval_instance, retrieval, of.retrieval_id == retrieval.c.retrieval_id)
        .where(of.study_uid == study_uid, _WAS_DELIVERED, of.source == source.code)
        .order_by(retrieval.c.frozen_at.desc(), of.sop_uid)
        .limit(RECEIVED_MAX)
    )
    return [Received(row.sop_uid, TrustId(row.recipient), row.retrieval_id) for row in read.connection.execute(found)]


def by_recipient(some: Collection[Received], withdrawn: Collection[str]) -> dict[TrustId, list[Received]]:
    """Of these the ones that were withdrawn, by who has them."""
    found: dict[TrustId, list[Received]] = {}
    for each in some:
        if each.sop_uid in withdrawn:
            found.setdefault(each.recipient, []).append(each)
    return found
