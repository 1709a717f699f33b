"""What each channel was given of a report, what it said, and when.

A delivery is one document at one channel, named by its key. It is written down before the channel is asked and again
with its answer, so a fall between the two is seen as what it is: something of which nobody knows (SAF-67). Knows no
channel and no rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
    bindparam,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from storage.database import Read, Tx
from storage.tables.columns import Instant, Json, TableRow, among, metadata
from storage.tables.prepared import Prepared

LIST_MAX = 1_000


class DeliveryState(StrEnum):
    """Where a document is at a channel."""

    WAITING = "waiting"
    """To be put: not tried yet, or its last try did not succeed."""
    PUTTING = "putting"
    """Given to the channel, which has not answered: the patient may see it."""
    CONFIRMED = "confirmed"
    """The patient can see it."""
    UNKNOWN = "unknown"
    """Nobody knows, and the channel takes nothing twice: a person's work. The patient may see it."""
    REFUSED = "refused"
    """The channel will not take it as it is: a person's work."""
    NO_ACCOUNT = "no-account"
    """The patient has none there, or none that proves who they are: kept due (REL-20)."""
    NOT_FOR = "not-for"
    """A rule keeps it from this channel; `words` says which."""
    WITHDRAWING = "withdrawing"
    """To be shown no more; the patient may see it still."""
    STUCK = "stuck"
    """The channel will not take it away: a person's work, and urgent."""
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    """Another document stands in its place."""

    @property
    def may_be_seen(self) -> bool:
        """Whether the patient may see it, as far as anybody knows."""
        return self in _MAY_BE_SEEN

    @property
    def is_tried_again(self) -> bool:
        """Whether something is still to be done by itself."""
        return self in _TRIED_AGAIN


_MAY_BE_SEEN = frozenset(
    {
        DeliveryState.PUTTING,
        DeliveryState.CONFIRMED,
        DeliveryState.UNKNOWN,
        DeliveryState.WITHDRAWING,
        DeliveryState.STUCK,
    }
)
_TRIED_AGAIN = frozenset(
    {
        DeliveryState.WAITING,
        DeliveryState.PUTTING,
        DeliveryState.WITHDRAWING,
        DeliveryState.NO_ACCOUNT,
        DeliveryState.NOT_FOR,
    }
)
UNDELIVERABLE = frozenset({DeliveryState.UNKNOWN, DeliveryState.REFUSED, DeliveryState.STUCK})
"""What a person has to look at."""


report_delivery = Table(
    "report_delivery",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("document_key", Text, primary_key=True),
    Column("versions", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("due_at", Instant),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant),
    Column("tried_at", Instant),
    Column("released_at", Instant),
    Column("withdrawn_at", Instant),
    Column("reference", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("patient_row", Text, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("changed_at", Instant, nullable=False),
)
"""`released_at` is when the channel confirmed it; `sealed` is the addressee as traced when it was put."""
IS_STUCK = among(report_delivery.c.state, sorted(UNDELIVERABLE))
Index("ix_report_delivery_stuck", report_delivery.c.changed_at, sqlite_where=IS_STUCK, postgresql_where=IS_STUCK)
IS_RETRIED = and_(
    among(report_delivery.c.state, (DeliveryState.PUTTING, DeliveryState.WAITING, DeliveryState.WITHDRAWING)),
    report_delivery.c.attempts > literal_column("0"),
)
"""A channel was asked, and has not done it; it is asked again by itself."""
Index("ix_report_delivery_retried", report_delivery.c.report_id, sqlite_where=IS_RETRIED, postgresql_where=IS_RETRIED)
_OF_REPORT = Prepared(
    select(report_delivery)
    .where(report_delivery.c.report_id == bindparam("of_report"))
    .order_by(report_delivery.c.tried_at, report_delivery.c.document_key, report_delivery.c.channel)
)
"""All of them: one left out is one that nobody takes back. There are no more than sets of its versions that stood."""


@dataclass(frozen=True, slots=True)
class Document:
    """One content of a report at one channel: what is written down before the channel is asked."""

    report_id: str
    channel: str
    document_key: str
    versions: tuple[str, ...]
    patient_row: str
    key_id: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a document stands at a channel."""

    report_id: str
    channel: str
    document_key: str
    versions: tuple[str, ...]
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    next_at: datetime | None
    tried_at: datetime | None
    released_at: datetime | None
    withdrawn_at: datetime | None
    reference: str
    words: str
    patient_row: str
    key_id: bytes
    sealed: bytes


def begin(tx: Tx, document: Document, state: DeliveryState, due_at: datetime | None) -> Delivery:
    """Write down that a document is to be, or is now, given to a channel; a `PUTTING` counts as an attempt."""
    faultpoint("release.delivery.begin")
    is_try = state is DeliveryState.PUTTING
    common = {
        "versions": list(document.versions),
        "state": state.value,
        "next_at": None,
        "patient_row": document.patient_row,
        "key_id": document.key_id,
        "sealed": document.sealed,
        "changed_at": tx.now,
    }
    new = {
        **common,
        "report_id": document.report_id,
        "channel": document.channel,
        "document_key": document.document_key,
        "attempts": int(is_try),
        "due_at": due_at,
        "tried_at": tx.now if is_try else None,
        "reference": "",
        "words": "",
    }
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    again: dict[str, object] = dict(common)
    if is_try:
        again |= {"attempts": report_delivery.c.attempts + 1, "tried_at": tx.now, "withdrawn_at": None}
    statement = engine.insert(report_delivery).values(new)
    keys = ["report_id", "channel", "document_key"]
    row = tx.connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=again).returning(report_delivery)
    ).one()
    return _delivery(row)


def move(
    tx: Tx,
    delivery: Delivery,
    state: DeliveryState,
    *,
    words: str = "",
    reference: str = "",
    next_at: datetime | None = None,
    at: datetime | None = None,
) -> bool:
    """Write down what became of it; False where it is no more as it was read, and nothing changed.

    `at` is when the channel confirmed that it is there, or gone. `WITHDRAWING` without `next_at` begins an attempt.
    """
    faultpoint("release.delivery.move")
    values: dict[str, object] = {
        "state": state.value,
        "words": words,
        "next_at": next_at,
        "changed_at": tx.now,
    }
    if reference:
        values["reference"] = reference
    match state:
        case DeliveryState.CONFIRMED:
            values |= {"released_at": at or tx.now}
        case DeliveryState.WITHDRAWN | DeliveryState.REPLACED:
            values |= {"withdrawn_at": at or tx.now}
        case DeliveryState.WITHDRAWING if delivery.state is not DeliveryState.WITHDRAWING:
            values |= {"attempts": 1}
        case DeliveryState.WITHDRAWING if next_at is None:
            values |= {"attempts": report_delivery.c.attempts + 1}
        case _:
            pass
    same = (
        (report_delivery.c.report_id == delivery.report_id)
        & (report_delivery.c.channel == delivery.channel)
        & (report_delivery.c.document_key == delivery.document_key)
        & (report_delivery.c.state == delivery.state.value)
        & (report_delivery.c.attempts == delivery.attempts)
    )
    return tx.connection.execute(update(report_delivery).where(same).values(values)).rowcount == 1


def deliveries(read: Read, report_id: str) -> tuple[Delivery, ...]:
    """Every document of a report at every channel, the oldest first."""
    return tuple(_delivery(row) for row in _OF_REPORT.rows(read.connection, {"of_report": report_id}))


def get(read: Read, report_id: str, channel: str, document_key: str) -> Delivery:
    """One delivery; raises `InvalidRequest` for one that is unknown."""
    statement = select(report_delivery).where(
        report_delivery.c.report_id == report_id,
        report_delivery.c.channel == channel,
        report_delivery.c.document_key == document_key,
    )
    row = read.connection.execute(statement).one_or_none()
    if row is None:
        raise InvalidRequest("no such delivery")
    return _delivery(row)


def undeliverable(read: Read) -> tuple[Delivery, ...]:
    """What a person has to look at, the oldest first."""
    statement = select(report_delivery).where(IS_STUCK).order_by(report_delivery.c.changed_at).limit(LIST_MAX)
    return tuple(_delivery(row) for row in read.connection.execute(statement))


def _delivery(row: TableRow) -> Delivery:
    return Delivery(
        report_id=row.report_id,
        channel=row.channel,
        document_key=row.document_key,
        versions=tuple(row.versions),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        due_at=row.due_at,
        next_at=row.next_at,
        tried_at=row.tried_at,
        released_at=row.released_at,
        withdrawn_at=row.withdrawn_at,
        reference=row.reference,
        words=row.words,
        patient_row=row.patient_row,
        key_id=bytes(row.key_id),
        sealed=bytes(row.sealed),
    )
