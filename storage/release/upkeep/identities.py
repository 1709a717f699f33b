"""Reports whose patient became somebody else after they were verified: a merge joined their row to another, or was
undone (SAF-33, REL-36).

Read from the merges themselves, so that it does not matter who made or undid them, in which process, or when it was
looked. The hold that answers a change has a name that follows from it: it is placed once, and once a person has ended
it the change is settled. A merge that only one person claims changes nothing yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import CTE, ColumnElement, Select, String, cast, exists, literal, select, union

from policy.parties import TrustId
from policy.release.circumstances import ReleaseState
from storage.database import Read
from storage.registers.patients import patient_merge
from storage.release.holds import report_hold
from storage.release.tables import report, report_version

CHANGED_AT_ONCE_MAX = 500
_ENDED = (ReleaseState.CANCELLED.value, ReleaseState.WITHDRAWN.value)


@dataclass(frozen=True, slots=True)
class Changed:
    """A report whose patient changed, and the hold that this calls for."""

    report_id: str
    trust: TrustId
    hold_id: str
    is_undone: bool
    """A merge was undone: whatever was given was given to the wrong patient."""
    at: datetime


def changed(read: Read) -> Sequence[Changed]:
    """Reports whose patient changed since the version that stands was verified, and for which nobody was asked yet."""
    change = _changes()
    hold_id = literal("merge:") + change.c.named + literal(":") + report.c.report_id
    is_asked = exists().where(report_hold.c.hold_id == hold_id)
    statement = (
        select(report.c.report_id, report.c.trust, hold_id.label("hold_id"), change.c.is_undone, change.c.at)
        .join(change, change.c.row == report.c.patient_id)
        .join(report_version, report_version.c.version_id == report.c.current_version)
        .where(report_version.c.verified_at < change.c.at, report.c.state.not_in(_ENDED), ~is_asked)
        .order_by(change.c.at, report.c.report_id)
        .limit(CHANGED_AT_ONCE_MAX)
    )
    return [
        Changed(row.report_id, TrustId(row.trust), row.hold_id, bool(row.is_undone), row.at)
        for row in read.connection.execute(statement)
    ]


def is_asked(read: Read, hold_id: str) -> bool:
    """Whether this hold was ever placed."""
    return (
        read.connection.execute(select(report_hold.c.hold_id).where(report_hold.c.hold_id == hold_id)).first()
        is not None
    )


def _changes() -> CTE:
    """Rows that came to be, or ceased to be, another row's person: what was merged, and what was merged into that."""
    began = union(_change(is_undone=False), _change(is_undone=True)).subquery()
    changes = select(began).cte("changes", recursive=True)
    into = patient_merge.alias("into")
    further = (
        select(into.c.patient_id, changes.c.named, changes.c.at, changes.c.is_undone)
        .join(changes, into.c.survivor_id == changes.c.row)
        .where(into.c.is_confirmed, into.c.superseded_at.is_(None))
    )
    return changes.union(further)


def _change(*, is_undone: bool) -> Select[tuple[str, str, datetime, int]]:
    at: ColumnElement[datetime] = patient_merge.c.superseded_at if is_undone else patient_merge.c.recorded_at
    what = "undone" if is_undone else "joined"
    named = patient_merge.c.merge_id + literal(":") + cast(patient_merge.c.revision, String) + literal(f":{what}")
    return select(
        patient_merge.c.patient_id.label("row"),
        named.label("named"),
        at.label("at"),
        literal(int(is_undone)).label("is_undone"),
    ).where(patient_merge.c.is_confirmed, at.is_not(None))
