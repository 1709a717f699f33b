"""Reports and their versions: rows that say when, whose and in what state; what is read stands sealed beside them.

A version's name follows from what it says, so the same statement is one row however often it comes (REL-30), and what
a report's row repeats of its newest version hangs on what the versions say, not on the order in which they came
(REL-31). Whatever changes a report holds its row first. What is to become of a report is not judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Integer, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from policy.parties import TrustId
from policy.release.circumstances import Plan, ReleaseState
from policy.release.reports import Said, Standing, Verification, Version, ZoneKnown
from policy.release.withholding import VERSIONS_MAX
from storage.database import Read, Tx
from storage.release import links
from storage.release.tables import IS_LOOKED_AT, LinkKind, report, report_version
from storage.release.upkeep import whose
from storage.tables.columns import Instant, Json, TableRow, strings
from storage.tables.prepared import Prepared

LIST_MAX = 1_000
STOPPING_MAX = 5_000
"""Versions of one report in all: what may stop it is taken past `VERSIONS_MAX` too."""
_STOPPING = frozenset({Said.CORRECTED, Said.TAKEN_BACK, Said.CANCELLED, Said.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class NewVersion:
    """One version to be kept, sealed already."""

    report_id: str
    trust: TrustId
    report_number: str
    patient_id: str | None
    version: Version
    birth_date: date | None
    exam_codes: tuple[str, ...]
    study_uids: tuple[str, ...]
    accessions: tuple[str, ...]
    feed: str
    source: str
    message_id: str
    key_id: bytes
    sealed: bytes
    called: tuple[tuple[LinkKind, str], ...] = ()
    """What else it is known by."""


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a version."""

    report_id: str
    version_id: str
    is_new: bool
    """It is, or was sent earlier than anybody knew; False: it was there already, and nothing changed."""
    count: int
    """Of the report's versions, with this one."""


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report as its row tells of it."""

    report_id: str
    trust: TrustId
    report_number: str
    patient_id: str | None
    patient_key: str
    birth_date: date | None
    exam_codes: frozenset[str]
    state: ReleaseState
    standing: Standing
    current_version: str | None
    due_at: datetime | None
    look_at: datetime | None
    held_for: frozenset[str]
    flags: frozenset[str]
    study_uid: str | None
    accession: str | None
    is_linked: bool
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class KeptContent:
    """Where a version's content lies sealed."""

    version_id: str
    report_id: str
    patient_id: str | None
    key_id: bytes
    sealed: bytes


_HOLD = Prepared(select(report).where(report.c.report_id == bindparam("of_report")).with_for_update())
_REPORT = Prepared(select(report).where(report.c.report_id == bindparam("of_report")))
_NUMBERED = Prepared(
    select(report).where(report.c.trust == bindparam("of_trust"), report.c.report_number == bindparam("of_number"))
)
_ADD_REPORT = {
    "sqlite": Prepared(sqlite.insert(report).on_conflict_do_nothing()),
    "postgresql": Prepared(postgresql.insert(report).on_conflict_do_nothing()),
}
"""May meet another process that has just done the same."""
_SETTLE = Prepared(
    update(report)
    .where(report.c.report_id == bindparam("of_report"))
    .values(
        state=bindparam("to_state"),
        standing=bindparam("to_standing"),
        current_version=bindparam("to_current"),
        due_at=bindparam("to_due", type_=Instant),
        look_at=bindparam("to_look", type_=Instant),
        held_for=bindparam("to_held", type_=Json),
        flags=bindparam("to_flags", type_=Json),
        changed_at=bindparam("at", type_=Instant),
    )
)
_COLUMNS = [each for each in report_version.c if each.name != "sealed"]
_VERSIONS = Prepared(
    select(*_COLUMNS)
    .where(report_version.c.report_id == bindparam("of_report"))
    .order_by(report_version.c.stated_at, report_version.c.version_id)
    .limit(STOPPING_MAX)
)
_CONTENT = Prepared(
    select(
        report_version.c.version_id,
        report_version.c.report_id,
        report_version.c.patient_id,
        report_version.c.key_id,
        report_version.c.sealed,
    ).where(report_version.c.version_id == bindparam("of_version"))
)
_EXAM_CODES = Prepared(select(report_version.c.exam_codes).where(report_version.c.report_id == bindparam("of_report")))
_HOME = Prepared(select(report_version.c.report_id).where(report_version.c.version_id == bindparam("of_version")))
_ADD_VERSION = Prepared(insert(report_version))
_SENT = Prepared(
    update(report_version)
    .where(report_version.c.version_id == bindparam("of_version"))
    .values(sent_at=bindparam("sent", type_=Instant))
)
_DUE = Prepared(
    select(report.c.report_id)
    .where(IS_LOOKED_AT, report.c.look_at <= bindparam("before", type_=Instant))
    .order_by(report.c.look_at, report.c.report_id)
    .limit(bindparam("count_max", type_=Integer))
)
_OF_PATIENT = Prepared(
    select(report)
    .where(report.c.patient_id == bindparam("of_patient"))
    .order_by(report.c.created_at, report.c.report_id)
    .limit(LIST_MAX)
)


def put(tx: Tx, kept: NewVersion) -> Put:
    """Keep a version and whatever it names; one that is there already changes no more than when it was sent first.

    Holds the report's row until the transaction ends. Raises `InvalidRequest` past `VERSIONS_MAX`, of what
    stops the report past `STOPPING_MAX`.
    """
    version = kept.version
    _hold_or_add(tx, kept)
    known = versions(tx, kept.report_id)
    same = next((each for each in known if each.version_id == version.version_id), None)
    if same is not None:
        is_earlier = bool(version.sent_at and same.sent_at and version.sent_at < same.sent_at)
        if is_earlier:
            _SENT.run(tx.connection, [{"of_version": version.version_id, "sent": version.sent_at}])
        return Put(kept.report_id, version.version_id, is_earlier, len(known))
    if len(known) >= (STOPPING_MAX if version.said in _STOPPING else VERSIONS_MAX):
        raise InvalidRequest("the report has too many versions")
    faultpoint("reports.version.before")
    _ADD_VERSION.run(tx.connection, [_row(kept)])
    if known:
        whose.renew(tx, kept.report_id, [*known, version])
    links.name(tx, kept.report_id, kept.study_uids, kept.accessions, kept.called)
    faultpoint("reports.version.after")
    return Put(kept.report_id, version.version_id, True, len(known) + 1)


def hold(tx: Tx, report_id: str) -> KeptReport:
    """The report, with its row held until the transaction ends; raises `InvalidRequest` for one that is unknown."""
    rows = _HOLD.rows(tx.connection, {"of_report": report_id})
    if not rows:
        raise InvalidRequest("no such report")
    return kept_of(rows[0])


def get(read: Read, report_id: str) -> KeptReport | None:
    """The report of this id."""
    rows = _REPORT.rows(read.connection, {"of_report": report_id})
    return kept_of(rows[0]) if rows else None


def find(read: Read, trust: TrustId, report_number: str) -> KeptReport | None:
    """The report that a trust calls so."""
    rows = _NUMBERED.rows(read.connection, {"of_trust": trust.code, "of_number": report_number})
    return kept_of(rows[0]) if rows else None


def versions(read: Read, report_id: str) -> tuple[Version, ...]:
    """Every version of a report, in the order in which they were stated; who verified one stands in its content."""
    return tuple(_version(row) for row in _VERSIONS.rows(read.connection, {"of_report": report_id}))


def exam_codes(read: Read, report_id: str) -> frozenset[str]:
    """The codes that any version names: one that names none takes none away."""
    rows = _EXAM_CODES.rows(read.connection, {"of_report": report_id})
    return frozenset(code for row in rows for code in row.exam_codes)


def home(read: Read, version_id: str) -> str | None:
    """The report of which this is a version."""
    rows = _HOME.rows(read.connection, {"of_version": version_id})
    return rows[0].report_id if rows else None


def content(read: Read, version_id: str) -> KeptContent | None:
    """Where the content of a version lies."""
    rows = _CONTENT.rows(read.connection, {"of_version": version_id})
    if not rows:
        return None
    row = rows[0]
    return KeptContent(row.version_id, row.report_id, row.patient_id, row.key_id, row.sealed)


def settle(tx: Tx, report_id: str, plan: Plan, standing: Standing, current_version: str | None) -> None:
    """Write down what was planned of a report."""
    faultpoint("reports.settle.before")
    values = {
        "of_report": report_id,
        "to_state": plan.state.value,
        "to_standing": standing.value,
        "to_current": current_version,
        "to_due": plan.due_at,
        "to_look": plan.look_at,
        "to_held": sorted(plan.held_for),
        "to_flags": sorted(flag.value for flag in plan.flags),
        "at": tx.now,
    }
    _SETTLE.run(tx.connection, [values])


def due(read: Read, now: datetime, limit: int) -> list[str]:
    """The reports that are to be looked at by now, the longest due first."""
    parameters = {"before": now, "count_max": min(limit, LIST_MAX)}
    return [row.report_id for row in _DUE.rows(read.connection, parameters)]


def of_patient(read: Read, patient_id: str) -> tuple[KeptReport, ...]:
    """The reports of a patient's row, the oldest first; rows that are merged with it have their own."""
    return tuple(kept_of(row) for row in _OF_PATIENT.rows(read.connection, {"of_patient": patient_id}))


def _hold_or_add(tx: Tx, kept: NewVersion) -> None:
    """Hold the report's row, made if there is none; another process may make it at the same moment."""
    of_report = {"of_report": kept.report_id}
    if _HOLD.rows(tx.connection, of_report):
        return
    values: dict[str, object] = {
        "report_id": kept.report_id,
        "trust": kept.trust.code,
        "report_number": kept.report_number,
        "patient_id": kept.patient_id,
        "patient_key": kept.version.patient,
        "birth_date": _day(kept.birth_date),
        "exam_codes": sorted(set(kept.exam_codes)),
        "state": ReleaseState.RECEIVED.value,
        "standing": Standing.RECEIVED.value,
        "current_version": None,
        "due_at": None,
        "look_at": None,
        "held_for": [],
        "flags": [],
        "study_uid": kept.study_uids[0] if kept.study_uids else None,
        "accession": kept.accessions[0] if kept.accessions else None,
        "is_linked": bool(kept.study_uids),
        "created_at": tx.now,
        "changed_at": tx.now,
    }
    _ADD_REPORT[tx.connection.dialect.name].run(tx.connection, [values])
    _HOLD.rows(tx.connection, of_report)


def _row(kept: NewVersion) -> dict[str, object]:
    version = kept.version
    verification = version.verification
    return {
        "version_id": version.version_id,
        "report_id": kept.report_id,
        "said": version.said.value,
        "stated_at": version.stated_at,
        "sent_at": version.sent_at,
        "received_at": version.received_at,
        "verified_at": verification.at if verification else None,
        "zone": verification.zone.value if verification else None,
        "patient_id": kept.patient_id,
        "patient_key": version.patient,
        "birth_date": _day(kept.birth_date),
        "exam_codes": sorted(set(kept.exam_codes)),
        "text_digest": version.text_digest,
        "has_content": version.has_content,
        "promotes": version.promotes,
        "is_administrative": version.is_administrative,
        "alerts": sorted(version.alerts),
        "precedence": version.precedence,
        "feed": kept.feed,
        "source": kept.source,
        "message_id": kept.message_id,
        "follows": sorted(version.follows),
        "key_id": kept.key_id,
        "sealed": kept.sealed,
    }


def _version(row: TableRow) -> Version:
    verification = None if row.zone is None else Verification(row.verified_at, zone=ZoneKnown(row.zone))
    return Version(
        version_id=row.version_id,
        said=Said(row.said),
        stated_at=row.stated_at,
        received_at=row.received_at,
        verification=verification,
        patient=row.patient_key,
        text_digest=row.text_digest,
        has_content=bool(row.has_content),
        promotes=bool(row.promotes),
        is_administrative=bool(row.is_administrative),
        alerts=strings(row.alerts),
        precedence=row.precedence,
        document=row.message_id,
        follows=strings(row.follows),
        sent_at=row.sent_at,
    )


def kept_of(row: TableRow) -> KeptReport:
    """A row of the table as what it says."""
    return KeptReport(
        report_id=row.report_id,
        trust=TrustId(row.trust),
        report_number=row.report_number,
        patient_id=row.patient_id,
        patient_key=row.patient_key,
        birth_date=None if row.birth_date is None else date.fromisoformat(row.birth_date),
        exam_codes=strings(row.exam_codes),
        state=ReleaseState(row.state),
        standing=Standing(row.standing),
        current_version=row.current_version,
        due_at=row.due_at,
        look_at=row.look_at,
        held_for=strings(row.held_for),
        flags=strings(row.flags),
        study_uid=row.study_uid,
        accession=row.accession,
        is_linked=bool(row.is_linked),
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
