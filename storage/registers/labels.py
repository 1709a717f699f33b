"""Sensitive labels, which a custodian puts on imaging, and grants, which stand in for a missing relationship.

Both are bitemporal. A label hangs on the patient row and names a study, or all that the custodian holds of the patient
(SAF-40). A grant always ends (domain.md B3); who may be given one is decided before it is recorded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, bindparam, insert, select, update

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from policy.facts import Grant, SensitiveLabel
from policy.parties import PurposeOfUse, TrustId
from storage.database import Read, Tx
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import (
    STILL_BELIEVED,
    Instant,
    Json,
    TableRow,
    belief,
    believed,
    in_force,
    metadata,
    period,
    strings,
)

LABELS = "labels"
GRANTS = "grants"

sensitive_label = Table(
    "sensitive_label",
    metadata,
    Column("label_id", Text, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("custodian", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("visible_to", Json, nullable=False),
    Column("teams", Json, nullable=False),
    *period(),
    *belief(),
    Index(None, "patient_id"),
)

access_grant = Table(
    "access_grant",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("trust", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("valid_from", Instant, nullable=False),
    Column("valid_until", Instant, nullable=False),
    *belief(),
    Index("ix_access_grant_patient_id_trust", "patient_id", "trust"),
)

LABELS_IN_FORCE = (
    select(sensitive_label)
    .where(sensitive_label.c.patient_id == bindparam("patient"), believed(sensitive_label), in_force(sensitive_label))
    .order_by(sensitive_label.c.label_id)
)
"""Every label on a patient row, whoever the custodian, true at `:at` as believed at `:known`."""

GRANTS_IN_FORCE = (
    select(access_grant)
    .where(
        access_grant.c.patient_id == bindparam("patient"),
        access_grant.c.trust == bindparam("trust"),
        believed(access_grant),
        in_force(access_grant),
    )
    .order_by(access_grant.c.grant_id)
)
"""A trust's grants for a patient row, true at `:at` as believed at `:known`."""

_CLOSE_LABEL = (
    update(sensitive_label)
    .where(sensitive_label.c.label_id == bindparam("of_label"), sensitive_label.c.superseded_at.is_(None))
    .values(superseded_at=bindparam("at", type_=Instant))
)
_CLOSE_GRANT = (
    update(access_grant)
    .where(access_grant.c.grant_id == bindparam("of_grant"), access_grant.c.superseded_at.is_(None))
    .values(superseded_at=bindparam("at", type_=Instant))
)


@dataclass(frozen=True, slots=True)
class NewLabel:
    """A custodian's mark; `study_uid` empty: on everything of the patient there."""

    patient_id: str
    custodian: TrustId
    kind: str
    study_uid: str
    visible_to: frozenset[PurposeOfUse]
    teams: frozenset[str]
    valid_from: datetime
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A time-boxed stand-in for a relationship; `subject` empty: for the trust's systems (SAF-53)."""

    patient_id: str
    trust: TrustId
    subject: str
    reason: str
    valid_from: datetime
    valid_until: datetime


def add_label(tx: Tx, new: NewLabel, author: Author) -> str:
    """Put a label on; its id."""
    _check_period(new.valid_from, new.valid_until)
    bump_register_version(tx)
    label_id = tx.new_id()
    _insert_label(tx, label_id, 1, new)
    faultpoint("labels.add.between")
    record_change(tx, author, LABELS, "add", label_id, {"custodian": new.custodian.code, "kind": new.kind})
    return label_id


def end_label(tx: Tx, label_id: str, valid_until: datetime, author: Author) -> None:
    """Let a label end; raises `InvalidRequest` for an unknown one or an end not after its beginning."""
    bump_register_version(tx)
    statement = select(sensitive_label).where(
        sensitive_label.c.label_id == label_id, sensitive_label.c.superseded_at.is_(None)
    )
    row = tx.connection.execute(statement).one_or_none()
    if row is None:
        raise InvalidRequest("no such label")
    _check_period(row.valid_from, valid_until)
    tx.connection.execute(_CLOSE_LABEL, {"of_label": label_id, "at": max(tx.now, row.recorded_at)})
    seen, new = label(row), row.patient_id
    _insert_label(
        tx,
        label_id,
        row.revision + 1,
        NewLabel(
            new, seen.custodian, seen.kind, seen.study_uid, seen.visible_to, seen.teams, seen.valid_from, valid_until
        ),
    )
    record_change(tx, author, LABELS, "end", label_id)


def add_grant(tx: Tx, new: NewGrant, author: Author) -> str:
    """Record a grant; its id. Raises `InvalidRequest` without a reason or for an empty period."""
    if not new.reason.strip():
        raise InvalidRequest("a grant needs a reason")
    _check_period(new.valid_from, new.valid_until)
    bump_register_version(tx)
    grant_id = tx.new_id()
    _insert_grant(tx, grant_id, 1, new)
    faultpoint("grants.add.between")
    record_change(tx, author, GRANTS, "add", grant_id, {"trust": new.trust.code})
    return grant_id


def end_grant(tx: Tx, grant_id: str, author: Author) -> None:
    """End a grant now; raises `InvalidRequest` for an unknown one or one that is over."""
    bump_register_version(tx)
    statement = select(access_grant).where(access_grant.c.grant_id == grant_id, access_grant.c.superseded_at.is_(None))
    row = tx.connection.execute(statement).one_or_none()
    if row is None or row.valid_until <= tx.now:
        raise InvalidRequest("no such grant, or it is over")
    tx.connection.execute(_CLOSE_GRANT, {"of_grant": grant_id, "at": max(tx.now, row.recorded_at)})
    if row.valid_from < tx.now:
        new = NewGrant(row.patient_id, TrustId(row.trust), row.subject, row.reason, row.valid_from, tx.now)
        _insert_grant(tx, grant_id, row.revision + 1, new)
    record_change(tx, author, GRANTS, "end", grant_id)


def labels_of(read: Read, patient_id: str, at: datetime) -> list[SensitiveLabel]:
    """The labels on a patient row in force at `at`."""
    parameters = {"patient": patient_id, "at": at, "known": STILL_BELIEVED}
    return [label(row) for row in read.connection.execute(LABELS_IN_FORCE, parameters)]


def label(row: TableRow) -> SensitiveLabel:
    """The fact that a row states."""
    return SensitiveLabel(
        row.label_id,
        TrustId(row.custodian),
        row.kind,
        row.study_uid,
        frozenset(PurposeOfUse(code) for code in strings(row.visible_to)),
        strings(row.teams),
        row.valid_from,
        row.valid_until,
    )


def grant(row: TableRow) -> Grant:
    """The fact that a row states."""
    return Grant(row.grant_id, TrustId(row.trust), row.subject, row.reason, row.valid_from, row.valid_until)


def _check_period(valid_from: datetime, valid_until: datetime | None) -> None:
    if valid_until is not None and valid_until <= valid_from:
        raise InvalidRequest("the end is not after the beginning")


def _insert_label(tx: Tx, label_id: str, revision: int, new: NewLabel) -> None:
    values = {
        "label_id": label_id,
        "revision": revision,
        "patient_id": new.patient_id,
        "custodian": new.custodian.code,
        "kind": new.kind,
        "study_uid": new.study_uid,
        "visible_to": sorted(purpose.value for purpose in new.visible_to),
        "teams": sorted(new.teams),
        "valid_from": new.valid_from,
        "valid_until": new.valid_until,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(sensitive_label), values)


def _insert_grant(tx: Tx, grant_id: str, revision: int, new: NewGrant) -> None:
    values = {
        "grant_id": grant_id,
        "revision": revision,
        "patient_id": new.patient_id,
        "trust": new.trust.code,
        "subject": new.subject,
        "reason": new.reason,
        "valid_from": new.valid_from,
        "valid_until": new.valid_until,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(access_grant), values)
