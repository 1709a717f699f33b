"""Who has what of a report: what was given out by FHIR, and who was told that it is no more what it was (SAF-62).

What was given out as a DICOM object stands in the ledger of retrievals; here stands only that its recipient was told.
A row is written before what it tells of leaves, and each recipient is told of one thing once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Column, Table, Text, select, update
from sqlalchemy.dialects import postgresql, sqlite

from policy.parties import TrustId
from storage.database import Read, Tx
from storage.tables.columns import Instant, metadata

RECIPIENTS_MAX = 10_000
"""Of one report."""

report_recipient = Table(
    "report_recipient",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("named", Text, primary_key=True),
    Column("recipient", Text, primary_key=True),
    Column("given_at", Instant, nullable=False),
    Column("told_at", Instant),
)
"""`named` is the standing of the report as FHIR names its version, or a SOP instance UID."""


def give(tx: Tx, report_id: str, named: str, recipient: TrustId) -> None:
    """Write down that somebody is given a report as it stands; who was told of it before is told again."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    values = {"report_id": report_id, "named": named, "recipient": recipient.code, "given_at": tx.now, "told_at": None}
    given = engine.insert(report_recipient).values(values)
    keys = ["report_id", "named", "recipient"]
    anew = {"given_at": tx.now, "told_at": None}
    tx.connection.execute(given.on_conflict_do_update(index_elements=keys, set_=anew))


def outdated(read: Read, report_id: str, present: str) -> Sequence[TrustId]:
    """Those who were given the report by FHIR as it stands no more, and were not told yet."""
    of = report_recipient.c
    statement = (
        select(of.recipient)
        .where(of.report_id == report_id, of.named != present, of.told_at.is_(None))
        .distinct()
        .order_by(of.recipient)
        .limit(RECIPIENTS_MAX)
    )
    return [TrustId(row.recipient) for row in read.connection.execute(statement)]


def tell(tx: Tx, report_id: str, present: str, recipients: Collection[TrustId]) -> None:
    """Write down that these are told of everything that they were given by FHIR and that stands no more."""
    of = report_recipient.c
    codes = sorted(each.code for each in recipients)
    mine = (of.report_id == report_id) & (of.named != present) & of.recipient.in_(codes) & of.told_at.is_(None)
    tx.connection.execute(update(report_recipient).where(mine).values(told_at=tx.now))


def tell_of(tx: Tx, report_id: str, sop_uid: str, recipient: TrustId, asked_at: datetime) -> bool:
    """Write down that a recipient is told of an instance that is no more; False where that was told since `asked_at`.

    What is taken back and then stands again may be received once more, and be no more for a second time.
    """
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    of = report_recipient.c
    values = {"report_id": report_id, "named": sop_uid, "recipient": recipient.code, "given_at": asked_at}
    told = engine.insert(report_recipient).values(**values, told_at=tx.now)
    again = told.on_conflict_do_update(
        index_elements=[of.report_id, of.named, of.recipient],
        set_={"given_at": told.excluded.given_at, "told_at": told.excluded.told_at},
        where=of.given_at < told.excluded.given_at,
    )
    return tx.connection.execute(again.returning(of.named)).one_or_none() is not None
