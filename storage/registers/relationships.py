"""Care relationships: that a trust, or one team of it, delivers part of a patient's care, and by what evidence.

Half-open periods, bitemporal: ending, moving or undoing a relationship closes the row that was believed and adds what
is believed now, so that yesterday's decision still finds yesterday's row (domain.md B2, DEC-13).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, bindparam, insert, select, update

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from policy.facts import CareRelationship, RelationshipKind
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import STILL_BELIEVED, Instant, TableRow, belief, believed, in_force, metadata, period

REGISTER = "relationships"

relationship = Table(
    "relationship",
    metadata,
    Column("relationship_id", Text, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("trust", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("source", Text, nullable=False),
    *period(),
    *belief(),
    Index("ix_relationship_patient_id_trust", "patient_id", "trust"),
)

IN_FORCE = (
    select(
        relationship.c.relationship_id,
        relationship.c.trust,
        relationship.c.kind,
        relationship.c.team,
        relationship.c.evidence,
        relationship.c.valid_from,
        relationship.c.valid_until,
    )
    .where(
        relationship.c.patient_id == bindparam("patient"),
        relationship.c.trust == bindparam("trust"),
        believed(relationship),
        in_force(relationship),
    )
    .order_by(relationship.c.relationship_id)
)
"""A trust's relationships with a patient row, true at `:at` as believed at `:known`."""

_CURRENT = select(relationship).where(relationship.c.superseded_at.is_(None))
_OF_PATIENT = (
    select(relationship)
    .where(relationship.c.patient_id == bindparam("patient"), believed(relationship))
    .order_by(relationship.c.valid_from, relationship.c.relationship_id)
)
_CLOSE = (
    update(relationship)
    .where(relationship.c.relationship_id == bindparam("of_relationship"), relationship.c.superseded_at.is_(None))
    .values(superseded_at=bindparam("at", type_=Instant))
)


@dataclass(frozen=True, slots=True)
class NewRelationship:
    """What is claimed of a patient row and a trust."""

    patient_id: str
    trust: TrustId
    kind: RelationshipKind
    evidence: str
    source: str
    valid_from: datetime
    valid_until: datetime | None = None
    team: str = ""


def add(tx: Tx, claim: NewRelationship, author: Author) -> str:
    """Record a relationship; its id. Raises `InvalidRequest` for an empty period."""
    if claim.valid_until is not None and claim.valid_until <= claim.valid_from:
        raise InvalidRequest("a relationship ends after it begins")
    bump_register_version(tx)
    relationship_id = tx.new_id()
    _insert(tx, relationship_id, 1, claim)
    faultpoint("relationships.add.between")
    detail = {"trust": claim.trust.code, "kind": claim.kind.value, "patient": claim.patient_id}
    record_change(tx, author, REGISTER, "add", relationship_id, dict(detail))
    return relationship_id


def end(tx: Tx, relationship_id: str, valid_until: datetime, author: Author) -> None:
    """Let a relationship end, or end earlier or later than was believed.

    Raises `InvalidRequest` for an unknown relationship, or an end that is not after its beginning: undo that one.
    """
    bump_register_version(tx)
    row = _current(tx, relationship_id)
    if valid_until <= row.valid_from:
        raise InvalidRequest("a relationship ends after it begins: undo one that never was")
    _close(tx, row)
    faultpoint("relationships.end.between")
    claim = _claim(row, valid_until)
    _insert(tx, relationship_id, row.revision + 1, claim)
    record_change(tx, author, REGISTER, "end", relationship_id)


def undo(tx: Tx, relationship_id: str, author: Author) -> None:
    """Stop believing that a relationship ever was: what its evidence said was cancelled or mistaken (B2)."""
    bump_register_version(tx)
    _close(tx, _current(tx, relationship_id))
    record_change(tx, author, REGISTER, "undo", relationship_id)


def of_patient(read: Read, patient_id: str) -> list[CareRelationship]:
    """Every relationship of a patient row, past and to come."""
    rows = read.connection.execute(_OF_PATIENT, {"patient": patient_id, "known": STILL_BELIEVED})
    return [care_relationship(row) for row in rows]


def care_relationship(row: TableRow) -> CareRelationship:
    """The fact that a row states."""
    return CareRelationship(
        row.relationship_id,
        TrustId(row.trust),
        RelationshipKind(row.kind),
        row.team,
        row.evidence,
        row.valid_from,
        row.valid_until,
    )


def _current(read: Read, relationship_id: str) -> TableRow:
    statement = _CURRENT.where(relationship.c.relationship_id == relationship_id)
    row = read.connection.execute(statement).one_or_none()
    if row is None:
        raise InvalidRequest("no such relationship, or it was undone")
    return row


def _close(tx: Tx, row: TableRow) -> None:
    at = max(tx.now, row.recorded_at)
    tx.connection.execute(_CLOSE, {"of_relationship": row.relationship_id, "at": at})


def _claim(row: TableRow, valid_until: datetime | None) -> NewRelationship:
    return NewRelationship(
        row.patient_id,
        TrustId(row.trust),
        RelationshipKind(row.kind),
        row.evidence,
        row.source,
        row.valid_from,
        valid_until,
        row.team,
    )


def _insert(tx: Tx, relationship_id: str, revision: int, claim: NewRelationship) -> None:
    values = {
        "relationship_id": relationship_id,
        "revision": revision,
        "patient_id": claim.patient_id,
        "trust": claim.trust.code,
        "team": claim.team,
        "kind": claim.kind.value,
        "evidence": claim.evidence,
        "source": claim.source,
        "valid_from": claim.valid_from,
        "valid_until": claim.valid_until,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(relationship), values)
