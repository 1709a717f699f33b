"""Sharing agreements: what each custodian trust lets whom see, in numbered versions that the custodian owns (DEC-04).

A version is a whole: importing one ends every clause of the versions before it at the instant it takes effect, and
cancels what was still to come. Clauses are bitemporal, so the version in force at any past instant is found again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import orjson
from sqlalchemy import (
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from policy.facts import Agreement
from policy.parties import PurposeOfUse, TrustId
from storage.database import Read, Tx
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import STILL_BELIEVED, Instant, TableRow, belief, believed, in_force, metadata, period

REGISTER = "agreements"
ANYBODY = ""
"""Stands for every recipient in `agreement_recipient`."""

agreement_version = Table(
    "agreement_version",
    metadata,
    Column("custodian", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("valid_from", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("imported_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

agreement_clause = Table(
    "agreement_clause",
    metadata,
    Column("row_id", Text, primary_key=True),
    Column("agreement_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("custodian", Text, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("modalities", Text, nullable=False),
    Column("purposes", Text, nullable=False),
    Column("age_min_years", Integer),
    Column("age_max_years", Integer),
    *period(),
    *belief(),
    Index(None, "custodian"),
)
"""Lists are JSON text, sorted."""

agreement_recipient = Table(
    "agreement_recipient",
    metadata,
    Column("recipient", Text, primary_key=True),
    Column("row_id", Text, primary_key=True),
)
"""Which clauses concern a recipient: a clause's row for each of its recipients, or one for anybody."""

_CLAUSE = (
    agreement_clause.c.agreement_id,
    agreement_clause.c.version,
    agreement_clause.c.custodian,
    agreement_clause.c.recipients,
    agreement_clause.c.modalities,
    agreement_clause.c.purposes,
    agreement_clause.c.age_min_years,
    agreement_clause.c.age_max_years,
    agreement_clause.c.valid_from,
    agreement_clause.c.valid_until,
)

IN_FORCE = (
    select(*_CLAUSE)
    .select_from(agreement_recipient)
    .join(agreement_clause, agreement_clause.c.row_id == agreement_recipient.c.row_id)
    .where(
        or_(
            agreement_recipient.c.recipient == bindparam("recipient"),
            agreement_recipient.c.recipient == ANYBODY,
        ),
        believed(agreement_clause),
        in_force(agreement_clause),
    )
    .order_by(agreement_clause.c.custodian, agreement_clause.c.agreement_id)
)
"""All clauses, of every custodian, that concern `:recipient` at `:at` as believed at `:known`."""

_OF_CUSTODIAN = (
    select(*_CLAUSE)
    .where(
        agreement_clause.c.custodian == bindparam("custodian"), believed(agreement_clause), in_force(agreement_clause)
    )
    .order_by(agreement_clause.c.agreement_id)
)
_NOT_OVER = select(agreement_clause).where(
    agreement_clause.c.custodian == bindparam("custodian"),
    agreement_clause.c.superseded_at.is_(None),
    or_(agreement_clause.c.valid_until.is_(None), agreement_clause.c.valid_until > bindparam("until", type_=Instant)),
)
_CLOSE = (
    update(agreement_clause)
    .where(agreement_clause.c.row_id == bindparam("of_row"))
    .values(superseded_at=bindparam("at", type_=Instant))
)
_LAST_VERSION = select(func.max(agreement_version.c.version)).where(
    agreement_version.c.custodian == bindparam("custodian")
)
_VERSIONS = (
    select(agreement_version)
    .where(agreement_version.c.custodian == bindparam("custodian"))
    .order_by(agreement_version.c.version)
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause as it is written down: empty sets mean "any"; ages are whole years, the upper one inclusive."""

    recipients: frozenset[TrustId] = frozenset()
    modalities: frozenset[str] = frozenset()
    purposes: frozenset[PurposeOfUse] = frozenset()
    age_min_years: int | None = None
    age_max_years: int | None = None


@dataclass(frozen=True, slots=True)
class ImportedVersion:
    """One version: when it takes effect, and who brought it in when."""

    custodian: TrustId
    version: int
    valid_from: datetime
    recorded_at: datetime
    imported_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new version would change against the one in force."""

    added: tuple[Clause, ...]
    removed: tuple[Clause, ...]
    kept: tuple[Clause, ...]


def import_version(tx: Tx, custodian: TrustId, clauses: Sequence[Clause], valid_from: datetime, author: Author) -> int:
    """Bring in the custodian's next version; its number. No clauses: from then on it shares nothing.

    Raises `InvalidRequest` for two equal clauses, or an upper age below the lower.
    """
    _check(clauses)
    bump_register_version(tx)
    number = (tx.connection.execute(_LAST_VERSION, {"custodian": custodian.code}).scalar_one() or 0) + 1
    _end_clauses(tx, custodian, valid_from)
    faultpoint("agreements.import.between")
    version = {
        "custodian": custodian.code,
        "version": number,
        "valid_from": valid_from,
        "recorded_at": tx.now,
        "imported_by": author.subject,
        "reason": author.reason,
    }
    tx.connection.execute(insert(agreement_version), version)
    for position, clause in enumerate(clauses, start=1):
        _insert(tx, as_agreement(clause, custodian, number, position, valid_from))
    record_change(tx, author, REGISTER, "import", f"{custodian}/{number}", {"clauses": len(clauses)})
    return number


def as_agreement(clause: Clause, custodian: TrustId, version: int, position: int, valid_from: datetime) -> Agreement:
    """The fact that a clause states, as `decide` would see it: for dry runs as well."""
    return Agreement(
        agreement_id=f"{custodian}/{version}/{position}",
        version=version,
        custodian=custodian,
        recipients=clause.recipients,
        modalities=clause.modalities,
        purposes=clause.purposes,
        age_min_years=clause.age_min_years,
        age_max_years=clause.age_max_years,
        valid_from=valid_from,
        valid_until=None,
    )


def in_force_at(read: Read, custodian: TrustId, at: datetime) -> list[Agreement]:
    """The clauses of the custodian's version in force at `at`."""
    parameters = {"custodian": custodian.code, "at": at, "known": STILL_BELIEVED}
    return [agreement(row) for row in read.connection.execute(_OF_CUSTODIAN, parameters)]


def versions(read: Read, custodian: TrustId) -> list[ImportedVersion]:
    """Every version the custodian ever imported, oldest first."""
    return [
        ImportedVersion(
            TrustId(row.custodian), row.version, row.valid_from, row.recorded_at, row.imported_by, row.reason
        )
        for row in read.connection.execute(_VERSIONS, {"custodian": custodian.code})
    ]


def difference(before: Sequence[Agreement], after: Sequence[Clause]) -> Difference:
    """Compare the clauses in force with those of a version not yet imported."""
    old, new = [_clause(entry) for entry in before], list(after)
    return Difference(
        added=tuple(clause for clause in new if clause not in old),
        removed=tuple(clause for clause in old if clause not in new),
        kept=tuple(clause for clause in old if clause in new),
    )


def agreement(row: TableRow) -> Agreement:
    """The fact that a row states."""
    return _decoded(tuple(row))


@lru_cache(maxsize=4_096)
def _decoded(row: tuple[object, ...]) -> Agreement:
    # Clauses are few, the same for every patient and read for every question: the decoding is remembered, not the row.
    agreement_id, version, custodian, recipients, modalities, purposes, age_min, age_max, valid_from, valid_until = row
    return Agreement(
        str(agreement_id),
        version,  # type: ignore[arg-type]  # the column's type
        TrustId(str(custodian)),
        frozenset(TrustId(code) for code in orjson.loads(str(recipients))),
        frozenset(orjson.loads(str(modalities))),
        frozenset(PurposeOfUse(code) for code in orjson.loads(str(purposes))),
        age_min,  # type: ignore[arg-type]  # the column's type
        age_max,  # type: ignore[arg-type]  # the column's type
        valid_from,  # type: ignore[arg-type]  # the column's type
        valid_until,  # type: ignore[arg-type]  # the column's type
    )


def _clause(entry: Agreement) -> Clause:
    return Clause(entry.recipients, entry.modalities, entry.purposes, entry.age_min_years, entry.age_max_years)


def _check(clauses: Sequence[Clause]) -> None:
    if len(set(clauses)) != len(clauses):
        raise InvalidRequest("two clauses of the agreement are equal")
    for clause in clauses:
        low, high = clause.age_min_years, clause.age_max_years
        if low is not None and high is not None and high < low:
            raise InvalidRequest("a clause's upper age is below its lower age")


def _end_clauses(tx: Tx, custodian: TrustId, until: datetime) -> None:
    """End at `until` what is in force then, and cancel what would begin later."""
    for row in tx.connection.execute(_NOT_OVER, {"custodian": custodian.code, "until": until}).all():
        tx.connection.execute(_CLOSE, {"of_row": row.row_id, "at": max(tx.now, row.recorded_at)})
        if row.valid_from < until:
            entry = agreement(
                tx.connection.execute(select(*_CLAUSE).where(agreement_clause.c.row_id == row.row_id)).one()
            )
            _insert(tx, replace(entry, valid_until=until))


def _insert(tx: Tx, entry: Agreement) -> None:
    row_id = tx.new_id()
    values = {
        "row_id": row_id,
        "agreement_id": entry.agreement_id,
        "version": entry.version,
        "custodian": entry.custodian.code,
        "recipients": _list(code.code for code in entry.recipients),
        "modalities": _list(entry.modalities),
        "purposes": _list(entry.purposes),
        "age_min_years": entry.age_min_years,
        "age_max_years": entry.age_max_years,
        "valid_from": entry.valid_from,
        "valid_until": entry.valid_until,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(agreement_clause), values)
    recipients = sorted(code.code for code in entry.recipients) or [ANYBODY]
    tx.connection.execute(insert(agreement_recipient), [{"recipient": code, "row_id": row_id} for code in recipients])


def _list(values: Iterable[str]) -> str:
    return orjson.dumps(sorted(str(value) for value in values)).decode()
