"""The location index: when imaging of a patient was last seen at a trust, or last known not to be there (C7, SAF-05).

One row for each number and trust, under the number's pseudonym. Instants only move on, so rows may be written in any
order and by several processes. It is no register: no decision about access reads it, writing it raises no register
version and enters no audit, and it may be emptied at any time. What follows from it is `gateway.sharing.locate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import (
    Column,
    ColumnElement,
    LargeBinary,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
)

from gateway.model.locations import Knowledge, Location, SeenBy, Sighting
from policy.parties import NHS_NUMBER_ISSUER, NhsNumber, TrustId
from storage.database import Read, Tx
from storage.observations import notices
from storage.observations.pseudonyms import Pseudonyms
from storage.registers import patients
from storage.registers.patients import patient_identifier, patient_merge
from storage.tables.columns import Instant, TableRow, metadata, micros
from storage.tables.prepared import Prepared

patient_location = Table(
    "patient_location",
    metadata,
    Column("pseudonym", LargeBinary, primary_key=True),
    Column("trust", Text, primary_key=True),
    Column("present_at", Instant),
    Column("present_by", Text),
    Column("absent_at", Instant),
    Column("absent_by", Text),
    Column("checked_at", Instant),
    sqlite_with_rowid=False,
)
"""Found by its key alone, which is the table itself on SQLite: half the size, and one look less."""

location_feed = Table(
    "location_feed",
    metadata,
    Column("trust", Text, primary_key=True),
    Column("heard_at", Instant, nullable=False),
)
"""When each trust last told of news, or that there is none."""

_OF_NUMBER = Prepared(select(patient_location).where(patient_location.c.pseudonym == bindparam("of_pseudonym")))
_FEEDS = Prepared(select(location_feed.c.trust, location_feed.c.heard_at))
_RECORD = text(
    "INSERT INTO patient_location AS known"
    " (pseudonym, trust, present_at, present_by, absent_at, absent_by, checked_at)"
    " VALUES (:pseudonym, :trust, :present_at, :present_by, :absent_at, :absent_by, :checked_at)"
    " ON CONFLICT (pseudonym, trust) DO UPDATE SET"
    " present_by = CASE WHEN excluded.present_at >= coalesce(known.present_at, excluded.present_at)"
    " THEN excluded.present_by ELSE known.present_by END,"
    " present_at = CASE WHEN excluded.present_at >= coalesce(known.present_at, excluded.present_at)"
    " THEN excluded.present_at ELSE known.present_at END,"
    " absent_by = CASE WHEN excluded.absent_at >= coalesce(known.absent_at, excluded.absent_at)"
    " THEN excluded.absent_by ELSE known.absent_by END,"
    " absent_at = CASE WHEN excluded.absent_at >= coalesce(known.absent_at, excluded.absent_at)"
    " THEN excluded.absent_at ELSE known.absent_at END,"
    " checked_at = CASE WHEN excluded.checked_at >= coalesce(known.checked_at, excluded.checked_at)"
    " THEN excluded.checked_at ELSE known.checked_at END"
)
_HEAR = text(
    "INSERT INTO location_feed AS known (trust, heard_at) VALUES (:trust, :heard_at)"
    " ON CONFLICT (trust) DO UPDATE SET heard_at = excluded.heard_at WHERE excluded.heard_at > known.heard_at"
)
_NEXT_PSEUDONYMS = (
    select(patient_location.c.pseudonym)
    .where(patient_location.c.pseudonym > bindparam("after"))
    .order_by(patient_location.c.pseudonym)
    .limit(bindparam("count_max"))
)


def _is_older(column: Column[datetime]) -> ColumnElement[bool]:
    return or_(column.is_(None), column < bindparam("before", type_=Instant))


_SWEEP = delete(patient_location).where(
    patient_location.c.pseudonym > bindparam("after"),
    patient_location.c.pseudonym <= bindparam("last"),
    _is_older(patient_location.c.present_at),
    _is_older(patient_location.c.absent_at),
    _is_older(patient_location.c.checked_at),
)
_COUNTS = select(
    patient_location.c.trust,
    func.count().label("rows"),
    func.count(patient_location.c.present_at).label("present"),
    func.max(patient_location.c.present_at).label("present_at"),
    func.max(patient_location.c.absent_at).label("absent_at"),
).group_by(patient_location.c.trust)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded of one number at one trust."""

    pseudonym: bytes
    trust: TrustId
    location: Location


@dataclass(frozen=True, slots=True)
class TrustCount:
    """How much is known of one trust."""

    trust: TrustId
    patients: int
    """Of whom anything is known."""
    present: int
    """Of whom imaging was ever seen there."""
    present_at: datetime | None
    absent_at: datetime | None


def entry_of(sighting: Sighting, stand_ins: Pseudonyms) -> Entry:
    """A sighting as a row."""
    at, by = sighting.at, sighting.by
    location = Location(checked_at=at if sighting.is_check else None)
    match sighting.has_imaging:
        case True:
            location = replace(location, present_at=at, present_by=by)
        case False:
            location = replace(location, absent_at=at, absent_by=by)
        case None:
            pass
    return Entry(stand_ins.of(sighting.patient), sighting.trust, location)


def record(tx: Tx, entries: Sequence[Entry]) -> None:
    """Record what was seen; what is known already of a later instant stays."""
    if not entries:
        return
    # In one order, so that two processes that write the same rows wait for each other and never block each other.
    ordered = sorted(entries, key=lambda entry: (entry.pseudonym, entry.trust))
    tx.connection.execute(_RECORD, [_values(entry) for entry in ordered])


def hear(tx: Tx, feeds: Sequence[tuple[TrustId, datetime]]) -> None:
    """Note that these trusts' feeds were heard, by a notification or a heartbeat."""
    if feeds:
        tx.connection.execute(_HEAR, [{"trust": trust.code, "heard_at": micros(at)} for trust, at in sorted(feeds)])


def known(read: Read, number: NhsNumber, stand_ins: Pseudonyms) -> Knowledge:
    """All that is known of a number, and of the feeds."""
    rows = _OF_NUMBER.rows(read.connection, {"of_pseudonym": stand_ins.of(number)})
    return Knowledge(
        {TrustId(row.trust): _location(row) for row in rows},
        feeds(read),
        notices.unsettled(read),
        identity_changed_at(read, number) if rows else None,
    )


def feeds(read: Read) -> dict[TrustId, datetime]:
    """When each trust's feed was last heard."""
    return {TrustId(row.trust): row.heard_at for row in _FEEDS.rows(read.connection, {})}


def identity_changed_at(read: Read, number: NhsNumber) -> datetime | None:
    """When the person behind a number was last merged or parted, or got or lost a hospital's number; None if never.

    Nothing has to be deleted for it, in whichever process it happens: what is older than this counts for nothing.
    """
    row_id = patients.find(read, patients.nhs(number))
    if row_id is None:
        return None
    related = sorted(patients.person(read, row_id).related)
    changes = (
        _last_change(patient_merge).where(
            or_(patient_merge.c.patient_id.in_(related), patient_merge.c.survivor_id.in_(related))
        ),
        _last_change(patient_identifier).where(
            patient_identifier.c.patient_id.in_(related), patient_identifier.c.issuer != NHS_NUMBER_ISSUER
        ),
    )
    found = (at for change in changes for at in read.connection.execute(change).one())
    return max((at for at in found if at is not None), default=None)


def _last_change(table: Table) -> Select[datetime | None, datetime | None]:
    return select(func.max(table.c.recorded_at), func.max(table.c.superseded_at))


def counts(read: Read) -> list[TrustCount]:
    """How much is known of each trust; reads the whole table."""
    return [
        TrustCount(TrustId(row.trust), row.rows, row.present, row.present_at, row.absent_at)
        for row in read.connection.execute(_COUNTS.order_by(patient_location.c.trust))
    ]


def sweep(tx: Tx, after: bytes, count_max: int, before: datetime) -> tuple[bytes, int]:
    """Delete, among the next rows behind `after`, those that say nothing newer than `before`.

    How far it came, to go on from there (empty at the end), and how many it deleted.
    """
    chunk = tx.connection.execute(_NEXT_PSEUDONYMS, {"after": after, "count_max": count_max}).scalars().all()
    if not chunk:
        return b"", 0
    last = bytes(chunk[-1])
    deleted = tx.connection.execute(_SWEEP, {"after": after, "last": last, "before": before}).rowcount
    return (last if len(chunk) == count_max else b""), deleted


def merged(older: Location, newer: Location) -> Location:
    """Two things known of one patient at one trust as one, as recording both would make it."""
    present = newer if _is_later(newer.present_at, older.present_at) else older
    absent = newer if _is_later(newer.absent_at, older.absent_at) else older
    checked = newer if _is_later(newer.checked_at, older.checked_at) else older
    return Location(present.present_at, present.present_by, absent.absent_at, absent.absent_by, checked.checked_at)


def _is_later(at: datetime | None, other: datetime | None) -> bool:
    return at is not None and (other is None or at >= other)


def _values(entry: Entry) -> dict[str, object]:
    known_of = entry.location
    return {
        "pseudonym": entry.pseudonym,
        "trust": entry.trust.code,
        "present_at": _stored(known_of.present_at),
        "present_by": known_of.present_by.value if known_of.present_by is not None else None,
        "absent_at": _stored(known_of.absent_at),
        "absent_by": known_of.absent_by.value if known_of.absent_by is not None else None,
        "checked_at": _stored(known_of.checked_at),
    }


def _stored(at: datetime | None) -> int | None:
    return micros(at) if at is not None else None


def _location(row: TableRow) -> Location:
    return Location(row.present_at, _seen_by(row.present_by), row.absent_at, _seen_by(row.absent_by), row.checked_at)


def _seen_by(text_: str | None) -> SeenBy | None:
    return SeenBy(text_) if text_ is not None else None
