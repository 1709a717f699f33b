"""Patients as this gateway's own page knows them: who has signed in, what they chose, and the documents they can see.

Names and documents stand sealed under the patient's key (SAF-41). Whoever has a row here has signed in at least once
with an identity proved to P9; what is below that never comes here (domain.md A9).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Boolean, Column, LargeBinary, Table, Text, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.reporting.reading import Choices
from storage.database import Read, Tx
from storage.tables.columns import Instant, TableRow, metadata
from storage.tables.prepared import Prepared

DOCUMENTS_MAX = 1_000
"""Shown to one patient; the oldest are left out."""

patient_account = Table(
    "patient_account",
    metadata,
    Column("patient_row", Text, primary_key=True),
    Column("birth_date", Text, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("is_paused", Boolean, nullable=False),
)

patient_choice = Table(
    "patient_choice",
    metadata,
    Column("patient_row", Text, primary_key=True),
    Column("is_not_now", Boolean, nullable=False),
    Column("wants_letter", Boolean, nullable=False),
    Column("wants_large_print", Boolean, nullable=False),
    Column("by", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

_CHOICES = Prepared(select(patient_choice).where(patient_choice.c.patient_row == bindparam("of_row")))

patient_document = Table(
    "patient_document",
    metadata,
    Column("document_key", Text, primary_key=True),
    Column("patient_row", Text, nullable=False, index=True),
    Column("report_id", Text, nullable=False),
    Column("is_shown", Boolean, nullable=False),
    Column("words", Text, nullable=False),
    Column("put_at", Instant, nullable=False),
    Column("withdrawn_at", Instant),
    Column("key_id", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
"""What the page shows; once taken back `words` stand in its place."""


@dataclass(frozen=True, slots=True)
class KeptAccount:
    """A patient who has signed in."""

    patient_row: str
    birth_date: str
    key_id: bytes
    sealed: bytes
    is_paused: bool = False
    seen_at: datetime | None = None
    """When they signed in last; None: they do now."""


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """A document of the page."""

    document_key: str
    patient_row: str
    report_id: str
    is_shown: bool
    words: str
    put_at: datetime
    withdrawn_at: datetime | None
    key_id: bytes
    sealed: bytes


def signed_in(tx: Tx, account: KeptAccount) -> None:
    """Note that a patient signed in."""
    values = {
        "birth_date": account.birth_date,
        "key_id": account.key_id,
        "sealed": account.sealed,
        "last_seen_at": tx.now,
    }
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(patient_account).values(
        patient_row=account.patient_row, first_seen_at=tx.now, is_paused=account.is_paused, **values
    )
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["patient_row"], set_=values))


def account_of(read: Read, patient_row: str) -> KeptAccount | None:
    """The account of a patient's row."""
    statement = select(patient_account).where(patient_account.c.patient_row == patient_row)
    row = read.connection.execute(statement).one_or_none()
    if row is None:
        return None
    sealed = bytes(row.sealed)
    return KeptAccount(
        row.patient_row, row.birth_date, bytes(row.key_id), sealed, bool(row.is_paused), row.last_seen_at
    )


def pause(tx: Tx, patient_row: str, *, is_paused: bool) -> bool:
    """Pause a patient's access, or let it go on (REL-22, REL-55); False where there is no account."""
    changed = update(patient_account).where(patient_account.c.patient_row == patient_row)
    return tx.connection.execute(changed.values(is_paused=is_paused)).rowcount == 1


def choices(read: Read, patient_row: str) -> Choices:
    """What a patient asked for."""
    rows = _CHOICES.rows(read.connection, {"of_row": patient_row})
    if not rows:
        return Choices()
    row = rows[0]
    return Choices(bool(row.is_not_now), bool(row.wants_letter), bool(row.wants_large_print))


def chosen(read: Read, patient_rows: Iterable[str]) -> Choices:
    """What a patient asked for under any of these rows."""
    found = [choices(read, row) for row in patient_rows]
    return Choices(
        any(each.not_now for each in found), any(each.letter for each in found), any(each.large_print for each in found)
    )


def choose(tx: Tx, patient_row: str, chosen: Choices, by: str) -> bool:
    """Write down what a patient asked for; False where nothing changes."""
    if choices(tx, patient_row) == chosen:
        return False
    values = {
        "is_not_now": chosen.not_now,
        "wants_letter": chosen.letter,
        "wants_large_print": chosen.large_print,
        "by": by,
        "changed_at": tx.now,
    }
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(patient_choice).values(patient_row=patient_row, **values)
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["patient_row"], set_=values))
    return True


def put(tx: Tx, document: KeptDocument, replaces: str) -> None:
    """Show a document, in place of another; the same again is the same."""
    values = {
        "patient_row": document.patient_row,
        "report_id": document.report_id,
        "is_shown": True,
        "words": "",
        "put_at": document.put_at,
        "withdrawn_at": None,
        "key_id": document.key_id,
        "sealed": document.sealed,
    }
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(patient_document).values(document_key=document.document_key, **values)
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["document_key"], set_=values))
    if replaces:
        old = patient_document.c.document_key == replaces
        tx.connection.execute(patient_document.delete().where(old))


def withdraw(tx: Tx, document_key: str, words: str) -> None:
    """Show a document no more, and these words in its place; its content is forgotten."""
    row = document(tx, document_key)
    if row is None or not row.is_shown:
        return
    changed = update(patient_document).where(patient_document.c.document_key == document_key)
    values = {"is_shown": False, "words": words, "withdrawn_at": tx.now, "key_id": b"", "sealed": b""}
    tx.connection.execute(changed.values(values))


def document(read: Read, document_key: str) -> KeptDocument | None:
    """One document."""
    statement = select(patient_document).where(patient_document.c.document_key == document_key)
    row = read.connection.execute(statement).one_or_none()
    return None if row is None else _document(row)


def documents(read: Read, patient_rows: Sequence[str]) -> Sequence[KeptDocument]:
    """A person's documents, over the rows that are theirs, the newest first."""
    theirs = patient_document.c.patient_row.in_(sorted(patient_rows))
    ordered = select(patient_document).where(theirs).order_by(patient_document.c.put_at.desc()).limit(DOCUMENTS_MAX)
    return [_document(row) for row in read.connection.execute(ordered)]


def _document(row: TableRow) -> KeptDocument:
    return KeptDocument(
        document_key=row.document_key,
        patient_row=row.patient_row,
        report_id=row.report_id,
        is_shown=bool(row.is_shown),
        words=row.words,
        put_at=row.put_at,
        withdrawn_at=row.withdrawn_at,
        key_id=bytes(row.key_id),
        sealed=bytes(row.sealed),
    )
