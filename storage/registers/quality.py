"""Data-quality items: what a custodian must put right, open or resolved.

An item that is open already is counted, not doubled. A study that is filed under two patients is in quarantine while an
item says so: opening and resolving such an item raises the register version, and no other does, for nothing reads them
(SAF-08). The number in an item is what a peer's row *claimed*, which is often the very thing that is wrong: it makes no
patient row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Index, Integer, Table, Text, bindparam, func, insert, select, update

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from gateway.model.seams import STUDY_OF_TWO_PATIENTS, QualityItem
from policy.parties import NhsNumber, TrustId
from storage.database import Read, Tx
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import Instant, Json, TableRow, metadata

REGISTER = "quality"
QUARANTINED_MAX = 100_000
"""Studies in quarantine that are kept from callers; of more, those of longest standing, so that a flood shows none."""

quality_item = Table(
    "quality_item",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("custodian", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("claimed_nhs_number", Text),
    Column("detail", Json, nullable=False),
    Column("times_seen", Integer, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("resolved_at", Instant),
    Column("resolved_by", Text),
    Column("resolution", Text),
    Index(None, "custodian"),
)

Index(
    "uq_quality_item_open",
    quality_item.c.fingerprint,
    unique=True,
    sqlite_where=quality_item.c.resolved_at.is_(None),
    postgresql_where=quality_item.c.resolved_at.is_(None),
)

_SEEN_AGAIN = (
    update(quality_item)
    .where(quality_item.c.fingerprint == bindparam("of_fingerprint"), quality_item.c.resolved_at.is_(None))
    .values(times_seen=quality_item.c.times_seen + 1, last_seen_at=bindparam("at", type_=Instant))
)
_OPEN = (
    select(quality_item)
    .where(quality_item.c.resolved_at.is_(None))
    .order_by(quality_item.c.custodian, quality_item.c.opened_at, quality_item.c.item_id)
)
_IS_OPEN = select(quality_item.c.item_id).where(
    quality_item.c.fingerprint == bindparam("of_fingerprint"), quality_item.c.resolved_at.is_(None)
)
_OPEN_ITEM = select(quality_item).where(
    quality_item.c.item_id == bindparam("of_item"), quality_item.c.resolved_at.is_(None)
)
_QUARANTINED = (
    select(quality_item.c.study_uid)
    .where(quality_item.c.resolved_at.is_(None), quality_item.c.kind == STUDY_OF_TWO_PATIENTS)
    .group_by(quality_item.c.study_uid)
    .order_by(func.min(quality_item.c.opened_at), quality_item.c.study_uid)
    .limit(bindparam("studies_max"))
)
_COUNT_OPEN = select(func.count()).select_from(quality_item).where(quality_item.c.resolved_at.is_(None))
_RESOLVE = (
    update(quality_item)
    .where(quality_item.c.item_id == bindparam("of_item"), quality_item.c.resolved_at.is_(None))
    .values(
        resolved_at=bindparam("at", type_=Instant),
        resolved_by=bindparam("by"),
        resolution=bindparam("how"),
    )
)


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An item that waits for its custodian."""

    item_id: str
    item: QualityItem
    times_seen: int
    opened_at: datetime
    last_seen_at: datetime


def report(tx: Tx, items: Iterable[QualityItem], at: datetime) -> int:
    """Record items; how many were new."""
    opened, printed = 0, [(_fingerprint(item), item) for item in items]
    if any(_begins_quarantine(tx, fingerprint, item) for fingerprint, item in printed):
        bump_register_version(tx)
    for fingerprint, item in printed:
        if tx.connection.execute(_SEEN_AGAIN, {"of_fingerprint": fingerprint, "at": at}).rowcount:
            continue
        item_id = tx.new_id()
        values = {
            "item_id": item_id,
            "fingerprint": fingerprint,
            "kind": item.kind,
            "custodian": item.custodian.code,
            "study_uid": item.study_uid,
            "claimed_nhs_number": item.patient.digits if item.patient else None,
            "detail": dict(item.detail),
            "times_seen": 1,
            "opened_at": at,
            "last_seen_at": at,
        }
        tx.connection.execute(insert(quality_item), values)
        faultpoint("quality.open.between")
        body = {"act": "open", "by": "gateway", "custodian": item.custodian.code, "kind": item.kind, "row": item_id}
        tx.chain.append(AuditEntry(AuditEvent.REGISTER_CHANGE, at, "", {**body, "register": REGISTER}))
        opened += 1
    return opened


def open_items(read: Read, custodian: TrustId | None = None) -> list[OpenItem]:
    """What waits, for one custodian or all."""
    statement = _OPEN if custodian is None else _OPEN.where(quality_item.c.custodian == custodian.code)
    return [_open_item(row) for row in read.connection.execute(statement)]


def count_open(read: Read) -> int:
    """How many items wait."""
    return read.connection.execute(_COUNT_OPEN).scalar_one()


def quarantined(read: Read, studies_max: int = QUARANTINED_MAX) -> frozenset[str]:
    """The UIDs of the studies in quarantine, so many at most."""
    return frozenset(read.connection.execute(_QUARANTINED, {"studies_max": studies_max}).scalars())


def resolve(tx: Tx, item_id: str, author: Author) -> QualityItem:
    """Close an item; the author's reason says how. Raises `InvalidRequest` for one that is not open.

    A study leaves its quarantine with the last of its items, and comes back to it if the conflict is met again.
    """
    found = tx.connection.execute(_OPEN_ITEM, {"of_item": item_id}).one_or_none()
    if found is None:
        raise InvalidRequest("no such open item")
    item = _open_item(found).item
    if item.kind == STUDY_OF_TWO_PATIENTS:
        bump_register_version(tx)
    parameters = {"of_item": item_id, "at": tx.now, "by": author.subject, "how": author.reason}
    if tx.connection.execute(_RESOLVE, parameters).rowcount == 0:
        raise InvalidRequest("no such open item")  # another process was first
    record_change(tx, author, REGISTER, "resolve", item_id)
    return item


def _begins_quarantine(read: Read, fingerprint: str, item: QualityItem) -> bool:
    return (
        item.kind == STUDY_OF_TWO_PATIENTS
        and read.connection.execute(_IS_OPEN, {"of_fingerprint": fingerprint}).first() is None
    )


def _fingerprint(item: QualityItem) -> str:
    digits = item.patient.digits if item.patient else ""
    said = [item.kind, item.custodian.code, item.study_uid, digits, *([item.occasion] if item.occasion else [])]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


def _open_item(row: TableRow) -> OpenItem:
    patient = NhsNumber(row.claimed_nhs_number) if row.claimed_nhs_number else None
    item = QualityItem(row.kind, TrustId(row.custodian), row.study_uid, patient, row.detail)
    return OpenItem(row.item_id, item, row.times_seen, row.opened_at, row.last_seen_at)
