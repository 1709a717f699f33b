"""What professionals decide about a report: holds, early releases, reviews of children's reports, retractions.

Rows are facts with who, when and why; nothing is deleted, a hold is ended. What follows from them is
`policy.release.planning`'s affair. Reasons are staff's own words about a decision and never text of a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy import Column, Index, Table, Text, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from policy.release.circumstances import EarlyRelease, Hold, HoldKind
from policy.release.reports import Version
from policy.release.whose import are_one, joined
from storage.database import Read, Tx
from storage.tables.columns import Instant, TableRow, metadata
from storage.tables.prepared import Prepared

report_hold = Table(
    "report_hold",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("report_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("placed_at", Instant, nullable=False),
    Column("review_on", Text, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", Text, nullable=False),
    Column("ended_reason", Text, nullable=False),
)
_IN_FORCE = report_hold.c.ended_at.is_(None)
Index("ix_report_hold_in_force", report_hold.c.report_id, sqlite_where=_IN_FORCE, postgresql_where=_IN_FORCE)


def _decision(name: str, *more: Column[str]) -> Table:
    """A table of decisions about one version each."""
    return Table(
        name,
        metadata,
        Column("report_id", Text, primary_key=True),
        Column("version_id", Text, primary_key=True),
        Column("by", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("at", Instant, nullable=False),
        *more,
    )


report_early = _decision("report_early")
report_review = _decision("report_review")
report_retraction = _decision("report_retraction")
report_settled = _decision(
    "report_settled",
    Column("patient_version", Text, nullable=False, server_default=""),
)
"""Versions that a person has looked at for whose they are: each is of the patient whom another of them names."""

_HOLDS = Prepared(
    select(report_hold)
    .where(report_hold.c.report_id == bindparam("of_report"), _IN_FORCE)
    .order_by(report_hold.c.placed_at, report_hold.c.hold_id)
)
_EARLY, _REVIEWS, _RETRACTIONS, _SETTLED = (
    Prepared(select(table).where(table.c.report_id == bindparam("of_report")).order_by(table.c.at, table.c.version_id))
    for table in (report_early, report_review, report_retraction, report_settled)
)


@dataclass(frozen=True, slots=True)
class Decisions:
    """All that professionals decided about one report and that is in force."""

    holds: tuple[Hold, ...]
    early: tuple[EarlyRelease, ...]
    reviewed: frozenset[str]
    """Versions."""
    retracted: frozenset[str]


def place(tx: Tx, report_id: str, hold: Hold) -> None:
    """Keep a report back."""
    values = {
        "hold_id": hold.hold_id,
        "report_id": report_id,
        "kind": hold.kind.value,
        "by": hold.by,
        "role": hold.role,
        "reason": hold.reason,
        "placed_at": hold.placed_at,
        "review_on": hold.review_on.isoformat(),
        "ended_by": "",
        "ended_reason": "",
    }
    tx.connection.execute(report_hold.insert().values(values))


def end(tx: Tx, hold_id: str, by: str, reason: str) -> str | None:
    """End a hold that is in force; its report, or None where there is no such hold."""
    ended = update(report_hold).where(report_hold.c.hold_id == hold_id, _IN_FORCE)
    values = {"ended_at": tx.now, "ended_by": by, "ended_reason": reason}
    found = tx.connection.execute(ended.values(values).returning(report_hold.c.report_id)).scalar_one_or_none()
    return None if found is None else str(found)


def prolong(tx: Tx, hold_id: str, review_on: date) -> None:
    """Look at a hold again later: somebody has looked now."""
    changed = update(report_hold).where(report_hold.c.hold_id == hold_id, _IN_FORCE)
    tx.connection.execute(changed.values(review_on=review_on.isoformat()))


def hold_of(read: Read, hold_id: str) -> tuple[str, Hold] | None:
    """A hold in force, and its report's id."""
    row = read.connection.execute(select(report_hold).where(report_hold.c.hold_id == hold_id, _IN_FORCE)).one_or_none()
    return None if row is None else (str(row.report_id), _hold(row))


def let_go(tx: Tx, report_id: str, early: EarlyRelease) -> bool:
    """Let a version go before its time; False where that was decided already."""
    return _decide(tx, report_early, report_id, early.version_id, early.by, early.reason, early.at)


def review(tx: Tx, report_id: str, version_id: str, by: str, reason: str) -> bool:
    """A professional has looked at a child's report and lets it go; False where that was decided already."""
    return _decide(tx, report_review, report_id, version_id, by, reason, tx.now)


def retract(tx: Tx, report_id: str, version_id: str, by: str, reason: str) -> bool:
    """Take a released version back; False where that was decided already."""
    return _decide(tx, report_retraction, report_id, version_id, by, reason, tx.now)


def settle_patient(
    tx: Tx, report_id: str, version_ids: Sequence[str], patient_version: str, by: str, reason: str
) -> None:
    """A person has found that these versions are of the patient whom `patient_version`, one of them, names."""
    of_these = report_settled.c.version_id.in_(version_ids)
    tx.connection.execute(report_settled.delete().where(report_settled.c.report_id == report_id, of_these))
    found = {"report_id": report_id, "patient_version": patient_version, "by": by, "reason": reason, "at": tx.now}
    tx.connection.execute(report_settled.insert(), [{**found, "version_id": each} for each in version_ids])


def as_settled(read: Read, report_id: str, told: Sequence[Version]) -> Sequence[Version]:
    """Versions as being of the patient whom a person found to be theirs, where one has looked (SAF-33).

    Of that patient is all that is said which can be one person with what the named version says.
    """
    rows = _SETTLED.rows(read.connection, {"of_report": report_id})
    if not rows:
        return told
    settled_by = {row.version_id: row.patient_version for row in rows}
    said = {each.version_id: each.patient for each in told}
    looked_at = [said[each] for each in settled_by if each in said]

    def found(version: Version) -> Version:
        named = said.get(settled_by.get(version.version_id, ""))
        if named is None:
            return version
        same = [each for each in looked_at if are_one([each, named])]
        return replace(version, patient=joined(same) if are_one(same) else named)

    return [found(each) for each in told]


def decisions(read: Read, report_id: str) -> Decisions:
    """What is in force about a report."""
    connection, of_report = read.connection, {"of_report": report_id}
    early = _EARLY.rows(connection, of_report)
    return Decisions(
        tuple(holds(read, report_id)),
        tuple(EarlyRelease(row.version_id, row.at, row.by, row.reason) for row in early),
        frozenset(row.version_id for row in _REVIEWS.rows(connection, of_report)),
        frozenset(row.version_id for row in _RETRACTIONS.rows(connection, of_report)),
    )


def holds(read: Read, report_id: str) -> Sequence[Hold]:
    """A report's holds in force, the oldest first."""
    return [_hold(row) for row in _HOLDS.rows(read.connection, {"of_report": report_id})]


def _decide(tx: Tx, table: Table, report_id: str, version_id: str, by: str, reason: str, at: datetime) -> bool:
    values = {"report_id": report_id, "version_id": version_id, "by": by, "reason": reason, "at": at}
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(table).values(values).on_conflict_do_nothing()
    return tx.connection.execute(statement.returning(table.c.report_id)).one_or_none() is not None


def _hold(row: TableRow) -> Hold:
    return Hold(
        row.hold_id, HoldKind(row.kind), row.by, row.role, row.reason, row.placed_at, date.fromisoformat(row.review_on)
    )
