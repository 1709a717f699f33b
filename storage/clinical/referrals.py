"""Verified reports in their referrers' hands: proof of dispatch, acknowledgement, follow-up, and what was told to whom.

One row for each text that was verified and is chased; the newest of a report is the current one. Names are those of
staff. When something is to be told is a column, so that whoever looks finds it by an index; what is to be told is
`policy.release.chasing`'s affair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Boolean, Column, Index, Table, Text, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from policy.parties import TrustId
from policy.release.chasing import Referral
from policy.release.circumstances import Flag
from storage.database import Read, Tx
from storage.tables.columns import Instant, Json, TableRow, metadata, strings
from storage.tables.prepared import Prepared

DUE_AT_ONCE_MAX = 200
DELAYS_MAX = 20_000

report_referral = Table(
    "report_referral",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("version_id", Text, primary_key=True),
    Column("trust", Text, nullable=False),
    Column("verified_at", Instant, nullable=False),
    Column("known_at", Instant, nullable=False),
    Column("alerts", Json, nullable=False),
    Column("flags", Json, nullable=False),
    Column("is_referrer_known", Boolean, nullable=False),
    Column("dispatched_at", Instant),
    Column("dispatch_reference", Text, nullable=False),
    Column("acknowledged_at", Instant),
    Column("acknowledged_by", Text, nullable=False),
    Column("followed_up_at", Instant),
    Column("followed_up_by", Text, nullable=False),
    Column("release_at", Instant),
    Column("contact_from", Instant),
    Column("is_standing", Boolean, nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("look_at", Instant),
)
_IS_CURRENT = report_referral.c.is_current
_IS_LOOKED_AT = report_referral.c.look_at.is_not(None)
Index(
    "uq_report_referral_current",
    report_referral.c.report_id,
    unique=True,
    sqlite_where=_IS_CURRENT,
    postgresql_where=_IS_CURRENT,
)
Index("ix_report_referral_look", report_referral.c.look_at, sqlite_where=_IS_LOOKED_AT, postgresql_where=_IS_LOOKED_AT)
Index("ix_report_referral_acknowledged", report_referral.c.acknowledged_at)

report_told = Table(
    "report_told",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("version_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("recipients", Json, nullable=False),
    Column("told_at", Instant, nullable=False),
)
"""What was told of a referral; never changed."""


@dataclass(frozen=True, slots=True)
class KeptReferral:
    """The current referral of a report."""

    report_id: str
    version_id: str
    trust: TrustId
    known_at: datetime
    """When the gateway heard of it."""
    referral: Referral
    dispatch_reference: str = ""
    acknowledged_by: str = ""
    followed_up_by: str = ""


def _put(inserted: postgresql.Insert | sqlite.Insert) -> Prepared:
    """Add a referral, or write it anew."""
    named = ["report_id", "version_id"]
    changed = {column.name: column for column in inserted.excluded if column.name not in named}
    return Prepared(inserted.on_conflict_do_update(index_elements=named, set_=changed))


_CURRENT = Prepared(select(report_referral).where(report_referral.c.report_id == bindparam("of_report"), _IS_CURRENT))
_PUT = {"sqlite": _put(sqlite.insert(report_referral)), "postgresql": _put(postgresql.insert(report_referral))}
_TOLD = Prepared(
    select(report_told.c.step).where(
        report_told.c.report_id == bindparam("of_report"), report_told.c.version_id == bindparam("of_version")
    )
)


def current(read: Read, report_id: str) -> KeptReferral | None:
    """The referral of the text that was verified last; None: there is none."""
    rows = _CURRENT.rows(read.connection, {"of_report": report_id})
    return _kept(rows[0]) if rows else None


def of_reports(read: Read, report_ids: Collection[str]) -> dict[str, KeptReferral]:
    """The current referral of each of these reports that has one."""
    chased = select(report_referral).where(_IS_CURRENT, report_referral.c.report_id.in_(report_ids))
    return {row.report_id: _kept(row) for row in read.connection.execute(chased)}


def keep(tx: Tx, kept: KeptReferral, look_at: datetime | None, instead_of: KeptReferral | None = None) -> None:
    """Write a referral down as its report's current one; that of an earlier text is chased no more."""
    if instead_of is not None and instead_of.version_id != kept.version_id:
        table = report_referral
        earlier = update(table).where(table.c.report_id == kept.report_id, table.c.version_id == instead_of.version_id)
        tx.connection.execute(earlier.values(is_current=False, look_at=None))
    _PUT[tx.connection.dialect.name].run(tx.connection, [_values(kept, look_at)])


def due(read: Read, now: datetime, without: Collection[TrustId] = ()) -> Sequence[KeptReferral]:
    """Referrals of which something is to be told by now, the longest due first; none of the trusts `without`."""
    statement = select(report_referral).where(_IS_LOOKED_AT, report_referral.c.look_at <= now)
    if without:
        statement = statement.where(report_referral.c.trust.not_in(sorted(trust.code for trust in without)))
    ordered = statement.order_by(report_referral.c.look_at, report_referral.c.report_id).limit(DUE_AT_ONCE_MAX)
    return [_kept(row) for row in read.connection.execute(ordered)]


def told(read: Read, kept: KeptReferral) -> frozenset[str]:
    """The steps of a referral that were told."""
    named = {"of_report": kept.report_id, "of_version": kept.version_id}
    return frozenset(str(row.step) for row in _TOLD.rows(read.connection, named))


def tell(tx: Tx, kept: KeptReferral, step: str, recipients: Sequence[str], at: datetime) -> bool:
    """Write down that a step was told; False where another process did."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    values = {
        "report_id": kept.report_id,
        "version_id": kept.version_id,
        "step": step,
        "recipients": list(recipients),
        "told_at": at,
    }
    statement = engine.insert(report_told).values(values).on_conflict_do_nothing()
    return tx.connection.execute(statement.returning(report_told.c.step)).one_or_none() is not None


def put_off(tx: Tx, kept: KeptReferral, look_at: datetime) -> None:
    """Look at a referral again later: it cannot be told now."""
    table = report_referral
    mine = update(table).where(table.c.report_id == kept.report_id, table.c.version_id == kept.version_id)
    tx.connection.execute(mine.values(look_at=look_at))


def acknowledged(kept: KeptReferral, at: datetime, by: str) -> KeptReferral:
    """The referral, read by somebody."""
    return replace(kept, referral=replace(kept.referral, acknowledged_at=at), acknowledged_by=by)


def followed_up(kept: KeptReferral, at: datetime, by: str) -> KeptReferral:
    """The referral, its patient seen to."""
    return replace(kept, referral=replace(kept.referral, followed_up_at=at), followed_up_by=by)


def dispatched(kept: KeptReferral, at: datetime, reference: str) -> KeptReferral:
    """The referral, with proof that the report was sent."""
    return replace(kept, referral=replace(kept.referral, dispatched_at=at), dispatch_reference=reference)


def delays_s(read: Read, since: datetime, trust: TrustId | None) -> list[float]:
    """Seconds from verification to acknowledgement, of what was acknowledged since."""
    table = report_referral
    statement = select(table.c.verified_at, table.c.acknowledged_at).where(table.c.acknowledged_at >= since)
    if trust is not None:
        statement = statement.where(table.c.trust == trust.code)
    rows = read.connection.execute(statement.order_by(table.c.acknowledged_at.desc()).limit(DELAYS_MAX))
    return [(row.acknowledged_at - row.verified_at).total_seconds() for row in rows]


def _kept(row: TableRow) -> KeptReferral:
    referral = Referral(
        verified_at=row.verified_at,
        alerts=frozenset(strings(row.alerts)),
        is_referrer_known=row.is_referrer_known,
        dispatched_at=row.dispatched_at,
        acknowledged_at=row.acknowledged_at,
        followed_up_at=row.followed_up_at,
        release_at=row.release_at,
        contact_from=row.contact_from,
        is_standing=row.is_standing,
        flags=frozenset(map(Flag, strings(row.flags))),
    )
    return KeptReferral(
        report_id=row.report_id,
        version_id=row.version_id,
        trust=TrustId(row.trust),
        known_at=row.known_at,
        referral=referral,
        dispatch_reference=row.dispatch_reference,
        acknowledged_by=row.acknowledged_by,
        followed_up_by=row.followed_up_by,
    )


def _values(kept: KeptReferral, look_at: datetime | None) -> dict[str, object]:
    referral = kept.referral
    return {
        "report_id": kept.report_id,
        "version_id": kept.version_id,
        "trust": kept.trust.code,
        "verified_at": referral.verified_at,
        "known_at": kept.known_at,
        "alerts": sorted(referral.alerts),
        "flags": sorted(flag.value for flag in referral.flags),
        "is_referrer_known": referral.is_referrer_known,
        "dispatched_at": referral.dispatched_at,
        "dispatch_reference": kept.dispatch_reference,
        "acknowledged_at": referral.acknowledged_at,
        "acknowledged_by": kept.acknowledged_by,
        "followed_up_at": referral.followed_up_at,
        "followed_up_by": kept.followed_up_by,
        "release_at": referral.release_at,
        "contact_from": referral.contact_from,
        "is_standing": referral.is_standing,
        "is_current": True,
        "look_at": look_at,
    }
