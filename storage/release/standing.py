"""What holds for many reports at once: a trust's stop switch, approved retrospective releases, traces, a mark of time.

Rows say who, when and why; a stop is ended, never deleted. What follows for one report is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from policy.parties import TrustId
from policy.release.circumstances import ReleaseState
from storage.database import Read, Tx
from storage.release.tables import report, report_version
from storage.tables.columns import Instant, TableRow, metadata
from storage.tables.prepared import Prepared

release_stop = Table(
    "release_stop",
    metadata,
    Column("stop_id", Text, primary_key=True),
    Column("trust", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("placed_at", Instant, nullable=False),
    Column("review_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", Text, nullable=False),
    Column("ended_reason", Text, nullable=False),
)
_IN_FORCE = release_stop.c.ended_at.is_(None)
Index(
    "uq_release_stop_in_force",
    release_stop.c.trust,
    unique=True,
    sqlite_where=_IN_FORCE,
    postgresql_where=_IN_FORCE,
)

release_approval = Table(
    "release_approval",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("trust", Text, nullable=False),
    Column("verified_from", Instant, nullable=False),
    Column("verified_until", Instant, nullable=False),
    Column("reports", Integer, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Index(None, "trust"),
)
"""Reports verified in `[verified_from, verified_until)`, before go-live, that an approver lets go (SAF-69)."""

report_trace = Table(
    "report_trace",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("version_id", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("agreement", Text, nullable=False),
    Column("birth_date", Text),
    Column("number_status", Text, nullable=False),
    Column("death", Text, nullable=False),
    Column("patient_row", Text, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
"""The newest trace of a report's patient, for the version that it was compared with; `sealed`: the addressee."""

release_mark = Table(
    "release_mark",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Instant, nullable=False),
)
"""When reports were last looked at: a clock that is far from it after a start is doubted (SAF-31)."""
_LOOKED = "looked"
_STOPPED = Prepared(
    select(release_stop.c.stop_id).where(release_stop.c.trust == bindparam("of_trust"), _IN_FORCE).limit(1)
)
_APPROVED = Prepared(
    select(release_approval.c.approval_id)
    .where(
        release_approval.c.trust == bindparam("of_trust"),
        release_approval.c.verified_from <= bindparam("verified", type_=Instant),
        release_approval.c.verified_until > bindparam("verified", type_=Instant),
        release_approval.c.at >= bindparam("known", type_=Instant),
    )
    .limit(1)
)
_TRACE = Prepared(select(report_trace).where(report_trace.c.report_id == bindparam("of_report")))


@dataclass(frozen=True, slots=True)
class Stop:
    """A trust's release stands still."""

    stop_id: str
    trust: TrustId
    by: str
    reason: str
    placed_at: datetime
    review_at: datetime


@dataclass(frozen=True, slots=True)
class Trace:
    """What was last found of a report's patient."""

    version_id: str
    at: datetime
    agreement: str
    birth_date: str | None
    number_status: str
    death: str
    patient_row: str
    key_id: bytes
    sealed: bytes


def stop(tx: Tx, placed: Stop) -> bool:
    """Let nothing of a trust go out; False where it is stopped already."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    values = {
        "stop_id": placed.stop_id,
        "trust": placed.trust.code,
        "by": placed.by,
        "reason": placed.reason,
        "placed_at": placed.placed_at,
        "review_at": placed.review_at,
        "ended_by": "",
        "ended_reason": "",
    }
    statement = engine.insert(release_stop).values(values).on_conflict_do_nothing()
    return tx.connection.execute(statement.returning(release_stop.c.stop_id)).one_or_none() is not None


def restart(tx: Tx, trust: TrustId, by: str, reason: str) -> bool:
    """Let a trust's release go on; False where it was not stopped."""
    ended = update(release_stop).where(release_stop.c.trust == trust.code, _IN_FORCE)
    values = {"ended_at": tx.now, "ended_by": by, "ended_reason": reason}
    return tx.connection.execute(ended.values(values)).rowcount == 1


def is_stopped(read: Read, trust: TrustId) -> bool:
    """Whether a trust's release stands still."""
    return bool(_STOPPED.rows(read.connection, {"of_trust": trust.code}))


def stops(read: Read) -> Sequence[Stop]:
    """The trusts whose release stands still."""
    statement = select(release_stop).where(_IN_FORCE).order_by(release_stop.c.placed_at)
    return [
        Stop(row.stop_id, TrustId(row.trust), row.by, row.reason, row.placed_at, row.review_at)
        for row in read.connection.execute(statement)
    ]


def approve(tx: Tx, trust: TrustId, verified_from: datetime, verified_until: datetime, by: str, reason: str) -> int:
    """Let what was verified in `[verified_from, verified_until)`, before go-live, go; how many reports that is."""
    count = verified_between(tx, trust, verified_from, verified_until)
    values = {
        "approval_id": tx.new_id(),
        "trust": trust.code,
        "verified_from": verified_from,
        "verified_until": verified_until,
        "reports": count,
        "by": by,
        "reason": reason,
        "at": tx.now,
    }
    tx.connection.execute(release_approval.insert().values(values))
    return count


def is_approved(read: Read, trust: TrustId, verified_at: datetime, known_at: datetime) -> bool:
    """Whether an approver let reports go that were verified then: of those only that were known and counted."""
    parameters = {"of_trust": trust.code, "verified": verified_at, "known": known_at}
    return bool(_APPROVED.rows(read.connection, parameters))


def verified_between(read: Read, trust: TrustId, verified_from: datetime, verified_until: datetime) -> int:
    """How many reports of a trust that are not for release were verified in `[verified_from, verified_until)`."""
    of_trust = select(func.count(report.c.report_id.distinct())).select_from(
        report.join(report_version, report_version.c.report_id == report.c.report_id)
    )
    counted = of_trust.where(
        report.c.trust == trust.code,
        report.c.state == ReleaseState.NOT_FOR_RELEASE.value,
        report_version.c.verified_at >= verified_from,
        report_version.c.verified_at < verified_until,
    )
    return int(read.connection.execute(counted).scalar_one())


def look_again(tx: Tx, trust: TrustId, states: Collection[ReleaseState], at: datetime) -> int:
    """Have every report of a trust in one of these states looked at; how many."""
    of_trust = (report.c.trust == trust.code) & report.c.state.in_(sorted(state.value for state in states))
    return tx.connection.execute(update(report).where(of_trust).values(look_at=at)).rowcount


def look_at_verified(tx: Tx, trust: TrustId, verified_from: datetime, at: datetime) -> int:
    """Have what is held or not for release, and was verified from an instant on, looked at: terms may have changed.

    So what was verified before, and was let go by an approver.
    """
    of = release_approval.c
    is_approved = (
        select(of.approval_id)
        .where(
            of.trust == trust.code,
            of.verified_from <= report_version.c.verified_at,
            report_version.c.verified_at < of.verified_until,
        )
        .exists()
    )
    is_meant = (report_version.c.verified_at >= verified_from) | is_approved
    verified = select(report_version.c.report_id).where(is_meant)
    kept_back = report.c.state.in_([ReleaseState.HELD.value, ReleaseState.NOT_FOR_RELEASE.value])
    of_trust = (report.c.trust == trust.code) & kept_back & report.c.report_id.in_(verified)
    return tx.connection.execute(update(report).where(of_trust).values(look_at=at)).rowcount


def look_at_report(tx: Tx, report_id: str, at: datetime | None) -> None:
    """Have one report looked at then, or by nobody: nothing of it changes."""
    tx.connection.execute(update(report).where(report.c.report_id == report_id).values(look_at=at))


def look_at_patient(tx: Tx, patient_id: str, at: datetime) -> int:
    """Have every report of a patient's row looked at; how many."""
    of_patient = update(report).where(report.c.patient_id == patient_id)
    return tx.connection.execute(of_patient.values(look_at=at)).rowcount


def keep_trace(tx: Tx, report_id: str, found: Trace) -> None:
    """Keep the newest trace of a report's patient."""
    values = {
        "version_id": found.version_id,
        "at": found.at,
        "agreement": found.agreement,
        "birth_date": found.birth_date,
        "number_status": found.number_status,
        "death": found.death,
        "patient_row": found.patient_row,
        "key_id": found.key_id,
        "sealed": found.sealed,
    }
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(report_trace).values(report_id=report_id, **values)
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["report_id"], set_=values))


def trace(read: Read, report_id: str) -> Trace | None:
    """The newest trace of a report's patient."""
    rows = _TRACE.rows(read.connection, {"of_report": report_id})
    return _trace(rows[0]) if rows else None


def looked_at(read: Read) -> datetime | None:
    """When reports were last looked at, by any process."""
    statement = select(release_mark.c.at).where(release_mark.c.name == _LOOKED)
    return read.connection.execute(statement).scalar_one_or_none()


def mark_looked(tx: Tx, at: datetime) -> None:
    """Reports are looked at now."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(release_mark).values(name=_LOOKED, at=at)
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"at": at}))


def _trace(row: TableRow) -> Trace:
    return Trace(
        version_id=row.version_id,
        at=row.at,
        agreement=row.agreement,
        birth_date=row.birth_date,
        number_status=row.number_status,
        death=row.death,
        patient_row=row.patient_row,
        key_id=bytes(row.key_id),
        sealed=bytes(row.sealed),
    )
