"""Sessions of patients' browsers, a row each, for all processes: over after idleness, after their time, on signing out.

A row is named by a digest of the browser's value and sealed under a key that follows from it: neither leads back to the
value. A browser is seen at most every few seconds, so looking costs no write each time. Times are the wall clock's, for
processes share no other: a session that began later than now is over, since nobody knows for how long it has lasted.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta

from sqlalchemy import Column, LargeBinary, Table, func, or_, select, update

from gateway.model.reporting.sessions import SessionTerms
from storage.cache.sealed import KEY_ID_BYTES
from storage.database import Read, Tx
from storage.release import content
from storage.store import SqlStore
from storage.tables.columns import Instant, metadata

SEEN_AGAIN = timedelta(seconds=10)
"""A session that is used is written down again so often: idleness is counted that exactly."""
SKEW_MAX = timedelta(seconds=30)
"""How far apart the clocks of two processes may be."""

patient_session = Table(
    "patient_session",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("begun_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False, index=True),
)

_NAME = "patient-session"
_NO_KEY_ID = bytes(KEY_ID_BYTES)


class SqlSessions:
    """A `SessionBook`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def begin(self, value: str, plain: bytes, terms: SessionTerms) -> bool:
        """See `SessionBook`."""
        sealed = content.seal(_NAME, plain, _NO_KEY_ID, _derived(value, "key"), secrets.token_bytes)
        return await self._store.write(lambda tx: _begin(tx, _derived(value, "name"), sealed, terms))

    async def find(self, value: str, terms: SessionTerms) -> bytes | None:
        """See `SessionBook`."""
        digest = _derived(value, "name")
        found = await self._store.read(lambda read: _find(read, digest, terms))
        if found is None:
            return None
        sealed, is_to_be_seen = found
        if is_to_be_seen:
            await self._store.write(lambda tx: _see(tx, digest))
        return content.unseal(_NAME, sealed, _derived(value, "key"))

    async def end(self, value: str) -> None:
        """See `SessionBook`."""
        digest = _derived(value, "name")
        ended = patient_session.delete().where(patient_session.c.digest == digest)
        await self._store.write(lambda tx: tx.connection.execute(ended))


def _derived(value: str, use: str) -> bytes:
    return hmac.digest(value.encode("utf-8", "surrogatepass"), use.encode(), "sha256")


def _begin(tx: Tx, digest: bytes, sealed: bytes, terms: SessionTerms) -> bool:
    seen_at, begun_at = patient_session.c.seen_at, patient_session.c.begun_at
    is_over = or_(seen_at <= tx.now - terms.idle, begun_at <= tx.now - terms.whole, begun_at > tx.now + SKEW_MAX)
    tx.connection.execute(patient_session.delete().where(is_over))
    if tx.connection.execute(select(func.count()).select_from(patient_session)).scalar_one() >= terms.sessions_max:
        return False
    begun = {"digest": digest, "sealed": sealed, "begun_at": tx.now, "seen_at": tx.now}
    tx.connection.execute(patient_session.insert().values(begun))
    return True


def _find(read: Read, digest: bytes, terms: SessionTerms) -> tuple[bytes, bool] | None:
    """What is sealed, and whether it is time to say that the session was seen."""
    row = read.connection.execute(select(patient_session).where(patient_session.c.digest == digest)).one_or_none()
    if row is None or row.begun_at > read.now + SKEW_MAX:
        return None
    if read.now - row.seen_at >= terms.idle or read.now - row.begun_at >= terms.whole:
        return None
    return bytes(row.sealed), read.now - row.seen_at >= SEEN_AGAIN


def _see(tx: Tx, digest: bytes) -> None:
    of = patient_session.c.digest == digest
    tx.connection.execute(update(patient_session).where(of).values(seen_at=tx.now))
