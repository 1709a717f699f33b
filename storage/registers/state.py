"""The registers' common state: the version that every register write raises, and when a register was last confirmed.

Raising the version is the *first* act of a register write: its row is the lock that puts register writes of several
processes in line, so what a write reads after it cannot change before its commit (DEC-12). `confirmed_at` is for
registers fed from elsewhere: one not confirmed for too long is a fault, never a fact (SAF-01, SHR-34).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, Table, Text, bindparam, select, text, update

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from policy.facts import Register
from storage.database import Read, Tx
from storage.tables.columns import Instant, metadata
from storage.tables.prepared import Prepared

register_state = Table(
    "register_state",
    metadata,
    Column("register", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("confirmed_at", Instant),
)
"""A row for each register, and the row `all` that carries the version."""

ALL = "all"

STATE = select(register_state.c.register, register_state.c.version, register_state.c.confirmed_at)
"""The whole state, for a decision's snapshot."""

_VERSION = Prepared(select(register_state.c.version).where(register_state.c.register == ALL))
_BUMP = update(register_state).where(register_state.c.register == ALL).values(version=register_state.c.version + 1)
_ENSURE = text("INSERT INTO register_state (register, version) VALUES (:register, 0) ON CONFLICT DO NOTHING")
_CONFIRM = (
    update(register_state)
    .where(register_state.c.register == bindparam("of_register"))
    .values(confirmed_at=bindparam("at", type_=Instant))
)


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a register, and in which request: both stand in the audit."""

    subject: str
    request_id: str
    reason: str = ""


def version(read: Read) -> int:
    """The number that every register write raises; 0 before the first."""
    found = _VERSION.value(read.connection, {})
    return found if isinstance(found, int) else 0


def bump_register_version(tx: Tx) -> None:
    """Begin a register write: raise the version, and wait for other processes' register writes to end."""
    if tx.connection.execute(_BUMP).rowcount == 0:
        tx.connection.execute(_ENSURE, {"register": ALL})
        tx.connection.execute(_BUMP)
    faultpoint("registers.bump.after")


def confirm(tx: Tx, register: Register, author: Author) -> None:
    """Note that a register fed from elsewhere was complete and true at this moment."""
    bump_register_version(tx)
    tx.connection.execute(_ENSURE, {"register": register.value})
    tx.connection.execute(_CONFIRM, {"of_register": register.value, "at": tx.now})
    record_change(tx, author, register.value, "confirm", register.value)


def confirmed_at(read: Read) -> dict[Register, datetime]:
    """When each register fed from elsewhere was last confirmed."""
    rows = read.connection.execute(STATE)
    return {Register(row.register): row.confirmed_at for row in rows if row.register != ALL and row.confirmed_at}


def record_change(
    tx: Tx, author: Author, register: str, act: str, row_id: str, detail: dict[str, JsonValue] | None = None
) -> None:
    """Append the change to the audit, in the same transaction as the change itself."""
    body: dict[str, JsonValue] = {
        "act": act,
        "by": author.subject,
        "reason": author.reason,
        "register": register,
        "row": row_id,
        **(detail or {}),
    }
    tx.chain.append(AuditEntry(AuditEvent.REGISTER_CHANGE, tx.now, author.request_id, body))
