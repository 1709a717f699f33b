"""The inbox: every message that feeds brought, what became of it, and the letters that nobody could read.

A row is found by the name that its sender gave the message. What stood in it lies sealed beside the row until its
retention is over; then the row alone stays, so that the same message is still the same (REL-30). A dead letter waits
for a person, who has it read anew or dismisses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Integer, bindparam, func, insert, select, text, update

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from gateway.model.reporting.seams import MessageState
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.release.tables import HAS_PAYLOAD, IS_DEAD, feed_heard, feed_message
from storage.tables.columns import Instant, Json, TableRow, micros, unindexed
from storage.tables.prepared import Prepared

LIST_MAX = 1_000
FORGOTTEN_AT_ONCE_MAX = 500
HEARD_AHEAD_MAX = timedelta(minutes=5)
"""So far two nodes' clocks may differ."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message as it is kept."""

    row_id: str
    trust: TrustId
    feed: str
    message_id: str
    digest: str
    """Of its versions, or of its bytes where it could not be read when it came: tells a message that comes again from
    another one under its name."""
    kind: str
    state: MessageState
    received_at: datetime
    problem: str = ""
    report_ids: tuple[str, ...] = ()
    key_id: bytes | None = None
    sealed: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message as its row tells of it."""

    row_id: str
    trust: TrustId
    feed: str
    message_id: str
    digest: str
    kind: str
    state: MessageState
    problem: str
    report_ids: tuple[str, ...]
    received_at: datetime
    settled_at: datetime | None
    settled_by: str
    reason: str
    has_payload: bool


@dataclass(frozen=True, slots=True)
class Payload:
    """Where a message's bytes lie."""

    row_id: str
    key_id: bytes
    sealed: bytes


_COLUMNS = [each for each in feed_message.c if each.name not in ("sealed", "key_id")]
_SHOWN = select(*_COLUMNS, HAS_PAYLOAD.label("has_payload"))
_NAMED = Prepared(
    _SHOWN.where(
        feed_message.c.trust == bindparam("of_trust"),
        feed_message.c.feed == bindparam("of_feed"),
        feed_message.c.message_id == bindparam("of_message"),
    )
)
_BY_ROW = Prepared(_SHOWN.where(feed_message.c.row_id == bindparam("of_row")))
_HOLD = Prepared(_SHOWN.where(feed_message.c.row_id == bindparam("of_row")).with_for_update())
_ADD = Prepared(insert(feed_message))
_FILE_DEAD = Prepared(
    update(feed_message)
    .where(feed_message.c.row_id == bindparam("of_row"))
    .values(
        state=bindparam("to_state"),
        report_ids=bindparam("to_report_ids", type_=Json),
        settled_at=bindparam("at", type_=Instant),
        settled_by=bindparam("by"),
        reason=bindparam("why"),
    )
)
_DEAD = Prepared(
    _SHOWN.where(IS_DEAD)
    .order_by(feed_message.c.received_at, feed_message.c.row_id)
    .limit(bindparam("count_max", type_=Integer))
)
_DEAD_OF_TRUST = Prepared(
    _SHOWN.where(IS_DEAD, unindexed(feed_message.c.trust) == bindparam("of_trust"))
    .order_by(feed_message.c.received_at, feed_message.c.row_id)
    .limit(bindparam("count_max", type_=Integer))
)
_DEAD_COUNT = Prepared(
    select(func.count().label("dead")).where(IS_DEAD, unindexed(feed_message.c.trust) == bindparam("of_trust"))
)
_PAYLOAD = Prepared(
    select(feed_message.c.row_id, feed_message.c.key_id, feed_message.c.sealed).where(
        feed_message.c.row_id == bindparam("of_row")
    )
)
_HEAR = text(
    "INSERT INTO feed_heard AS known (trust, feed, heard_at) VALUES (:trust, :feed, :heard_at)"
    " ON CONFLICT (trust, feed) DO UPDATE SET heard_at = excluded.heard_at"
    " WHERE excluded.heard_at > known.heard_at OR known.heard_at > :believed_until"
)
_HEARD = Prepared(select(feed_heard.c.trust, feed_heard.c.feed, feed_heard.c.heard_at))


def find(read: Read, trust: TrustId, feed: str, message_id: str) -> KeptMessage | None:
    """The message that its sender calls so."""
    of = {"of_trust": trust.code, "of_feed": feed, "of_message": message_id}
    rows = _NAMED.rows(read.connection, of)
    return _message(rows[0]) if rows else None


def get(read: Read, row_id: str) -> KeptMessage:
    """The message of this row; raises `InvalidRequest` for one that is unknown."""
    rows = _BY_ROW.rows(read.connection, {"of_row": row_id})
    if not rows:
        raise InvalidRequest("no such message")
    return _message(rows[0])


def add(tx: Tx, new: NewMessage) -> None:
    """Keep a message that is not there yet."""
    faultpoint("messages.add.before")
    values = {
        "row_id": new.row_id,
        "trust": new.trust.code,
        "feed": new.feed,
        "message_id": new.message_id,
        "digest": new.digest,
        "kind": new.kind,
        "state": new.state.value,
        "problem": new.problem,
        "report_ids": list(new.report_ids),
        "received_at": new.received_at,
        "settled_at": None,
        "settled_by": "",
        "reason": "",
        "key_id": new.key_id,
        "sealed": new.sealed,
    }
    _ADD.run(tx.connection, [values])
    faultpoint("messages.add.after")


def hold_dead(tx: Tx, row_id: str) -> KeptMessage:
    """The dead letter, its row held; raises `InvalidRequest` for one that is unknown, or is none any more."""
    rows = _HOLD.rows(tx.connection, {"of_row": row_id})
    if not rows:
        raise InvalidRequest("no such message")
    found = _message(rows[0])
    if found.state is not MessageState.DEAD:
        raise InvalidRequest(f"the message is {found.state.value}: only a dead letter is replayed or dismissed")
    return found


def settle(tx: Tx, dead: KeptMessage, state: MessageState, *, by: str, reason: str, report_ids: Sequence[str]) -> None:
    """A dead letter is none any more: its replay was filed, or a person dismissed it."""
    values = {
        "of_row": dead.row_id,
        "to_state": state.value,
        "to_report_ids": list(report_ids),
        "at": tx.now,
        "by": by,
        "why": reason,
    }
    faultpoint("messages.settle.before")
    _FILE_DEAD.run(tx.connection, [values])


def dead_letters(read: Read, trust: TrustId | None = None) -> tuple[KeptMessage, ...]:
    """Messages of a trust (None: of all) that wait for a person, the oldest first; at most `LIST_MAX`."""
    of = {"count_max": LIST_MAX}
    if trust is None:
        return tuple(_message(row) for row in _DEAD.rows(read.connection, of))
    return tuple(_message(row) for row in _DEAD_OF_TRUST.rows(read.connection, {**of, "of_trust": trust.code}))


def dead_count(read: Read, trust: TrustId) -> int:
    """How many of a trust's wait."""
    found = _DEAD_COUNT.value(read.connection, {"of_trust": trust.code})
    return found if isinstance(found, int) else 0


def payload(read: Read, row_id: str) -> Payload | None:
    """Where a message's bytes lie; None once they are forgotten."""
    rows = _PAYLOAD.rows(read.connection, {"of_row": row_id})
    if not rows or rows[0].sealed is None:
        return None
    return Payload(rows[0].row_id, rows[0].key_id, rows[0].sealed)


def forget_payloads(tx: Tx, filed_before: datetime, dead_before: datetime) -> int:
    """Delete the bytes of some messages that came before these instants, dead letters by their own; how many."""
    is_over = (~IS_DEAD & (feed_message.c.received_at < filed_before)) | (
        IS_DEAD & (feed_message.c.received_at < dead_before)
    )
    some = select(feed_message.c.row_id).where(HAS_PAYLOAD, is_over).limit(FORGOTTEN_AT_ONCE_MAX)
    row_ids = list(tx.connection.execute(some).scalars())
    if row_ids:
        faultpoint("messages.forget.before")
        forgotten = update(feed_message).where(feed_message.c.row_id.in_(row_ids)).values(sealed=None, key_id=None)
        tx.connection.execute(forgotten)
    return len(row_ids)


def hear(tx: Tx, trust: TrustId, feed: str, at: datetime) -> None:
    """Note that a feed gave a sign of life; an earlier one changes nothing.

    One that is noted far after this one was noted by a clock that ran ahead, and gives way.
    """
    until = micros(at + HEARD_AHEAD_MAX)
    tx.connection.execute(_HEAR, {"trust": trust.code, "feed": feed, "heard_at": micros(at), "believed_until": until})


def heard(read: Read) -> dict[tuple[TrustId, str], datetime]:
    """When each feed last gave a sign of life."""
    return {(TrustId(row.trust), row.feed): row.heard_at for row in _HEARD.rows(read.connection, {})}


def _message(row: TableRow) -> KeptMessage:
    return KeptMessage(
        row_id=row.row_id,
        trust=TrustId(row.trust),
        feed=row.feed,
        message_id=row.message_id,
        digest=row.digest,
        kind=row.kind,
        state=MessageState(row.state),
        problem=row.problem,
        report_ids=tuple(row.report_ids),
        received_at=row.received_at,
        settled_at=row.settled_at,
        settled_by=row.settled_by,
        reason=row.reason,
        has_payload=bool(row.has_payload),
    )
