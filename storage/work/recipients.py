"""Who got which images: whom to tell when they are withdrawn at their source (SAF-37, SAF-62), and what officers ask.

Reads the ledger alone. What was delivered is in its recipients' hands and stays there: all that can be done is to say
so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Index, func, literal_column, or_, select

from gateway.model.work.retrievals import Halt, InstanceState
from policy.parties import TrustId
from storage.database import Read
from storage.tables.columns import TableRow
from storage.work.ledger import NOT_DELIVERED, retrieval, retrieval_instance

RECEIVED_MAX = 100_000
"""Deliveries of one study's instances that are looked through."""
DELIVERIES_MAX = 1_000
"""Deliveries listed at once, the newest first."""

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

_IS_IN_DOUBT = or_(retrieval.c.ended_at.is_(None), retrieval.c.halted == literal_column(f"'{Halt.SERVICE.value}'"))
"""Under way, or ended by a fall: of some of its instances nobody wrote down whether they left."""

Index("ix_retrieval_in_doubt", retrieval.c.frozen_at, sqlite_where=_IS_IN_DOUBT, postgresql_where=_IS_IN_DOUBT)


@dataclass(frozen=True, slots=True)
class Received:
    """One instance in the hands of one organisation."""

    sop_uid: str
    recipient: TrustId
    retrieval_id: str
    asked_at: datetime
    """When it was about to be handed out."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one retrieval delivered of one study of a patient."""

    retrieval_id: str
    request_id: str
    """Under which the audit has it."""
    subject: str
    recipient: TrustId
    destination: str
    study_uid: str
    instances: int
    first_at: datetime
    last_at: datetime


def received(read: Read, study_uid: str, source: TrustId) -> list[Received]:
    """Every instance of a study that came from a trust's archive and was delivered to somebody."""
    of = retrieval_instance.c
    found = (
        select(of.sop_uid, retrieval.c.recipient, of.retrieval_id, retrieval.c.frozen_at)
        .join_from(retrieval_instance, retrieval, of.retrieval_id == retrieval.c.retrieval_id)
        .where(of.study_uid == study_uid, _WAS_DELIVERED, of.source == source.code)
        .order_by(retrieval.c.frozen_at.desc(), of.sop_uid)
        .limit(RECEIVED_MAX)
    )
    return [_received(row) for row in read.connection.execute(found)]


def in_doubt(read: Read, study_uid: str, source: TrustId) -> list[Received]:
    """Every instance of a study by a trust that somebody is about to have, or may have of a retrieval that fell."""
    of = retrieval_instance.c
    is_unknown = of.state.in_([state.value for state in InstanceState if not state.is_ended])
    is_cut_off = (of.state == InstanceState.FAILED.value) & (of.words == NOT_DELIVERED)
    in_doubt = select(retrieval.c.retrieval_id).where(_IS_IN_DOUBT)  # few: joined, SQLite reads every instance first
    found = (
        select(of.sop_uid, retrieval.c.recipient, of.retrieval_id, retrieval.c.frozen_at)
        .join_from(retrieval, retrieval_instance, of.retrieval_id == retrieval.c.retrieval_id)
        .where(of.retrieval_id.in_(in_doubt), of.study_uid == study_uid)
        .where(func.coalesce(of.source, of.holder) == source.code)
        .where(is_unknown | is_cut_off)
        .order_by(retrieval.c.frozen_at.desc(), of.sop_uid)
        .limit(RECEIVED_MAX)
    )
    return [_received(row) for row in read.connection.execute(found)]


def given_to(read: Read, study_uid: str, recipient: TrustId) -> frozenset[str]:
    """The instances of a study that a trust was given of other trusts' archives, by SOP instance UID."""
    of = retrieval_instance.c
    found = (
        select(of.sop_uid)
        .join_from(retrieval_instance, retrieval, of.retrieval_id == retrieval.c.retrieval_id)
        .where(of.study_uid == study_uid, _WAS_DELIVERED, of.source != recipient.code)
        .where(retrieval.c.recipient == recipient.code)
        .limit(RECEIVED_MAX)
    )
    return frozenset(read.connection.execute(found).scalars())


def by_recipient(some: Collection[Received], withdrawn: Collection[str]) -> dict[TrustId, list[Received]]:
    """Of these the ones that were withdrawn, by who has them."""
    found: dict[TrustId, list[Received]] = {}
    for each in some:
        if each.sop_uid in withdrawn:
            found.setdefault(each.recipient, []).append(each)
    return found


def delivered_of(read: Read, patient_rows: Sequence[str], since: datetime) -> list[Delivered]:
    """What was delivered of a patient, of all rows that are the patient's, the newest first."""
    of = retrieval_instance.c
    found = (
        select(
            retrieval,
            of.study_uid,
            func.count().label("delivered"),
            func.min(of.noted_at).label("first_at"),
            func.max(of.noted_at).label("last_at"),
        )
        .join_from(retrieval_instance, retrieval, of.retrieval_id == retrieval.c.retrieval_id)
        .where(of.patient_row.in_(sorted(patient_rows)), _WAS_DELIVERED, of.noted_at >= since)
        .group_by(*retrieval.c, of.study_uid)
        .order_by(func.max(of.noted_at).desc(), retrieval.c.retrieval_id, of.study_uid)
        .limit(DELIVERIES_MAX)
    )
    return [
        Delivered(
            row.retrieval_id,
            row.request_id,
            row.subject,
            TrustId(row.recipient),
            row.destination,
            row.study_uid,
            row.delivered,
            row.first_at,
            row.last_at,
        )
        for row in read.connection.execute(found)
    ]


def _received(row: TableRow) -> Received:
    return Received(row.sop_uid, TrustId(row.recipient), row.retrieval_id, row.frozen_at)
