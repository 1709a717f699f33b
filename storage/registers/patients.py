"""Patients: an internal row for each, the identifiers that lead to it, and the merges between rows.

Everything else hangs on the internal row and never on the NHS number itself, which may be superseded, wrong or
shared (DEC-13). A number, once believed, leads to its row even after it was superseded. Merging joins what
restricts two rows, opt-outs and labels, at once; relationships, grants and opt-ins join when the merge is confirmed, by
PDS supersession or by two named people (SAF-33). No demographics are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from policy.parties import NHS_NUMBER_ISSUER, NhsNumber, PatientId
from storage.database import Read, Tx
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import STILL_BELIEVED, Instant, TableRow, belief, believed, metadata, period
from storage.tables.prepared import Prepared

REGISTER = "patients"

patient = Table(
    "patient",
    metadata,
    Column("patient_id", Text, primary_key=True),
    Column("created_at", Instant, nullable=False),
)

patient_identifier = Table(
    "patient_identifier",
    metadata,
    Column("identifier_id", Text, primary_key=True),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("source", Text, nullable=False),
    *period(),
    *belief(),
    Index(None, "patient_id"),
    Index("ix_patient_identifier_issuer_value", "issuer", "value"),
)
"""NHS numbers (issuer `NHS`) and hospitals' own numbers, each with its issuer."""

Index(
    "uq_patient_identifier_current",
    patient_identifier.c.issuer,
    patient_identifier.c.value,
    unique=True,
    sqlite_where=patient_identifier.c.superseded_at.is_(None),
    postgresql_where=patient_identifier.c.superseded_at.is_(None),
)

patient_merge = Table(
    "patient_merge",
    metadata,
    Column("merge_id", Text, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("survivor_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("basis", Text, nullable=False),
    Column("is_confirmed", Boolean(create_constraint=False), nullable=False),
    Column("by", Text, nullable=False),
    *belief(),
    Index(None, "patient_id"),
    Index(None, "survivor_id"),
)
"""One row for each state of each merge: proposed, then confirmed; closing the last row undoes it."""

Index(
    "uq_patient_merge_current",
    patient_merge.c.patient_id,
    unique=True,
    sqlite_where=patient_merge.c.superseded_at.is_(None),
    postgresql_where=patient_merge.c.superseded_at.is_(None),
)


class NumberStatus(StrEnum):
    """Verification of an NHS number; the codes are those of UK Core (domain.md C1)."""

    VERIFIED = "01"
    NOT_TRACED = "02"
    TRACE_REQUIRED = "03"
    NO_OR_MANY_MATCHES = "04"
    CONFLICT = "05"
    IN_PROGRESS = "06"
    NOT_REQUIRED = "07"
    POSTPONED = "08"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One identifier of a patient row."""

    patient_id: str
    identifier: PatientId
    status: str
    source: str
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Person:
    """The rows that stand for one person at some state of knowledge."""

    patient_id: str
    survivor_id: str
    """The row that confirmed merges lead to."""
    joined: frozenset[str]
    """Rows joined by confirmed merges, the row itself among them: everything counts."""
    related: frozenset[str]
    """Rows joined by any merge, confirmed or not: opt-outs and labels count (SAF-33)."""


_LEADS_TO = Prepared(
    select(patient_identifier.c.patient_id).where(
        patient_identifier.c.issuer == bindparam("issuer"),
        patient_identifier.c.value == bindparam("value"),
        believed(patient_identifier),
    )
)
_MERGES_OF = Prepared(
    select(patient_merge).where(
        or_(patient_merge.c.patient_id == bindparam("patient"), patient_merge.c.survivor_id == bindparam("patient")),
        believed(patient_merge),
    )
)
_NUMBERS_OF = Prepared(
    select(patient_identifier)
    .where(patient_identifier.c.patient_id == bindparam("patient"), believed(patient_identifier))
    .order_by(patient_identifier.c.valid_from, patient_identifier.c.identifier_id)
)
_KNOWN_NUMBERS = (
    select(patient_identifier.c.value)
    .where(
        patient_identifier.c.issuer == bindparam("issuer"),
        patient_identifier.c.value > bindparam("after"),
        patient_identifier.c.superseded_at.is_(None),
    )
    .order_by(patient_identifier.c.value)
    .limit(bindparam("count_max"))
)
_CLOSE_IDENTIFIER = (
    update(patient_identifier)
    .where(patient_identifier.c.identifier_id == bindparam("of_identifier"))
    .values(superseded_at=bindparam("at", type_=Instant))
)


def nhs(number: NhsNumber) -> PatientId:
    """The NHS number as an identifier with its issuer."""
    return PatientId(NHS_NUMBER_ISSUER, number.digits)


def find(read: Read, identifier: PatientId, known_at: datetime = STILL_BELIEVED) -> str | None:
    """The internal row that an identifier leads to."""
    parameters = {"issuer": identifier.issuer, "value": identifier.value, "known": known_at}
    found = _LEADS_TO.value(read.connection, parameters)
    return None if found is None else str(found)


def ensure(tx: Tx, identifier: PatientId, author: Author, *, source: str, status: str = "") -> str:
    """The internal row of an identifier, made if there is none; safe with two processes at once."""
    found = find(tx, identifier)
    if found is not None:
        return found
    bump_register_version(tx)
    found = find(tx, identifier)
    if found is not None:
        return found
    patient_id = tx.new_id()
    tx.connection.execute(insert(patient), {"patient_id": patient_id, "created_at": tx.now})
    faultpoint("patients.create.between")
    _add_identifier(tx, patient_id, identifier, source, status)
    record_change(tx, author, REGISTER, "create", patient_id, {"source": source})
    return patient_id


def add_identifier(
    tx: Tx, patient_id: str, identifier: PatientId, author: Author, *, source: str, status: str = ""
) -> None:
    """Give a row one more identifier; raises `InvalidRequest` if it leads to another row already."""
    bump_register_version(tx)
    found = find(tx, identifier)
    if found == patient_id:
        return
    if found is not None:
        raise InvalidRequest("the identifier belongs to another patient: merge the two instead")
    _add_identifier(tx, patient_id, identifier, source, status)
    record_change(tx, author, REGISTER, "add-identifier", patient_id, {"source": source})


def vouch(tx: Tx, patient_id: str, identifier: PatientId, author: Author, *, source: str) -> bool:
    """Record that `source` itself says whose an identifier is, whoever said so before; whether that is news.

    A trust's own word counts for more than anybody's about its numbers (SAF-34). Raises as `add_identifier` does.
    """
    bump_register_version(tx)
    known = next((each for each in identifiers(tx, patient_id) if each.identifier == identifier), None)
    if known is None:
        add_identifier(tx, patient_id, identifier, author, source=source)
    elif known.source != source:
        _restate(tx, replace(known, source=source), author)
    return known is None or known.source != source


def record_status(tx: Tx, identifier: PatientId, status: str, author: Author, *, source: str) -> None:
    """Record how far an identifier is verified now, and who says so; raises `InvalidRequest` if it leads to nobody."""
    bump_register_version(tx)
    row = find(tx, identifier)
    if row is None:
        raise InvalidRequest("the identifier leads to no patient")
    known = next(each for each in identifiers(tx, row) if each.identifier == identifier)
    if known.status != status:
        _restate(tx, replace(known, status=status, source=source), author)


def _restate(tx: Tx, known: Identifier, author: Author) -> None:
    """Believe the identifier's new statement from now on; it is as old as it was."""
    row = _current(tx, known.identifier)
    tx.connection.execute(_CLOSE_IDENTIFIER, {"of_identifier": row.identifier_id, "at": max(tx.now, row.recorded_at)})
    _add_identifier(tx, known.patient_id, known.identifier, known.source, known.status, known.valid_from)
    record_change(tx, author, REGISTER, "restate-identifier", known.patient_id, {"source": known.source})


def remove_identifier(tx: Tx, identifier: PatientId, author: Author) -> None:
    """Stop believing that an identifier leads to its row; raises `InvalidRequest` if it leads nowhere."""
    bump_register_version(tx)
    row = _current(tx, identifier)
    tx.connection.execute(_CLOSE_IDENTIFIER, {"of_identifier": row.identifier_id, "at": max(tx.now, row.recorded_at)})
    record_change(tx, author, REGISTER, "remove-identifier", row.patient_id)


def _current(tx: Tx, identifier: PatientId) -> TableRow:
    statement = select(patient_identifier).where(
        patient_identifier.c.issuer == identifier.issuer,
        patient_identifier.c.value == identifier.value,
        patient_identifier.c.superseded_at.is_(None),
    )
    row = tx.connection.execute(statement).one_or_none()
    if row is None:
        raise InvalidRequest("the identifier leads to no patient")
    return row


def _add_identifier(
    tx: Tx, patient_id: str, identifier: PatientId, source: str, status: str, valid_from: datetime | None = None
) -> None:
    values = {
        "identifier_id": tx.new_id(),
        "patient_id": patient_id,
        "issuer": identifier.issuer,
        "value": identifier.value,
        "status": status,
        "source": source,
        "valid_from": valid_from or tx.now,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(patient_identifier), values)


def identifiers(read: Read, patient_id: str, known_at: datetime = STILL_BELIEVED) -> list[Identifier]:
    """A row's identifiers, oldest first."""
    rows = _NUMBERS_OF.rows(read.connection, {"patient": patient_id, "known": known_at})
    return [
        Identifier(
            row.patient_id, PatientId(row.issuer, row.value), row.status, row.source, row.valid_from, row.valid_until
        )
        for row in rows
    ]


def nhs_number(read: Read, patient_id: str, known_at: datetime = STILL_BELIEVED) -> NhsNumber | None:
    """A row's NHS number, the newest if it has had several; None while it has none."""
    numbers = [
        entry.identifier.value
        for entry in identifiers(read, patient_id, known_at)
        if entry.identifier.issuer == NHS_NUMBER_ISSUER
    ]
    return NhsNumber(numbers[-1]) if numbers else None


def known_numbers(read: Read, after: str, count_max: int) -> list[NhsNumber]:
    """The NHS numbers that lead to a patient, in order, from the one behind `after`: for walks over all patients."""
    parameters = {"issuer": NHS_NUMBER_ISSUER, "after": after, "count_max": count_max}
    return [NhsNumber(digits) for digits in read.connection.execute(_KNOWN_NUMBERS, parameters).scalars()]


def person(read: Read, patient_id: str, known_at: datetime = STILL_BELIEVED) -> Person:
    """All rows of the person behind a row, over merges in either direction."""
    merges: dict[str, TableRow] = {}
    related, to_visit = {patient_id}, [patient_id]
    while to_visit:
        for row in _MERGES_OF.rows(read.connection, {"patient": to_visit.pop(), "known": known_at}):
            merges[row.merge_id] = row
            for neighbour in (row.patient_id, row.survivor_id):
                if neighbour not in related:
                    related.add(neighbour)
                    to_visit.append(neighbour)
    leads = {row.patient_id: row.survivor_id for row in merges.values() if row.is_confirmed}
    survivor = _follow(leads, patient_id)
    joined = frozenset(member for member in related if _follow(leads, member) == survivor)
    return Person(patient_id, survivor, joined, frozenset(related))


def rows_of(read: Read, identifiers: Iterable[PatientId]) -> frozenset[str]:
    """The rows of whom these identifiers lead to, over confirmed merges; what leads to nobody adds none."""
    rows: set[str] = set()
    for identifier in identifiers:
        row = find(read, identifier)
        if row is not None and row not in rows:
            rows |= person(read, row).joined
    return frozenset(rows)


def _follow(leads: dict[str, str], patient_id: str) -> str:
    for _ in range(len(leads)):
        if patient_id not in leads:
            break
        patient_id = leads[patient_id]
    return patient_id
