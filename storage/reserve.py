"""The audit's reserve store (SAF-30): a file allocated in advance, on a path of its own, for when the database is down.

It serves what may not wait (emergency push, break-glass, transfers under way) and is drained into the chain on
recovery, in order and never doubled: the chain's database remembers up to where which filling of the file was drained.
A record is its length, a digest over filling, place and bytes, and the bytes; a torn last one, or one left over from an
earlier filling, has no right digest and ends the reading. A full file is a visible refusal, never a lost record.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson
from sqlalchemy import BigInteger, Column, Table, Text, bindparam, select, text

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import AuditUnavailable, ConfigurationError
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from storage.anchors import write_whole
from storage.database import Database, Tx
from storage.keys import sync_folder
from storage.tables.columns import metadata

audit_reserve = Table(
    "audit_reserve",
    metadata,
    Column("node", Text, primary_key=True),
    Column("filling", Text, nullable=False),
    Column("drained_to", BigInteger, nullable=False),
)
"""Up to which place of which filling of its file a node's reserve stands in the chain."""

_DRAINED = select(audit_reserve.c.filling, audit_reserve.c.drained_to).where(
    audit_reserve.c.node == bindparam("of_node")
)
_NOTE = text(
    "INSERT INTO audit_reserve (node, filling, drained_to) VALUES (:node, :filling, :drained_to)"
    " ON CONFLICT (node) DO UPDATE SET filling = excluded.filling, drained_to = excluded.drained_to"
)

_MAGIC = b"GWRESRV1"
_FILLING_BYTES = 16
_FIRST = len(_MAGIC) + _FILLING_BYTES
_LENGTH_BYTES = 4
_DIGEST_BYTES = 32
_FRAME_BYTES = _LENGTH_BYTES + _DIGEST_BYTES
BYTES_MIN = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reserved:
    """A record in the reserve: where it stands, and where the next one would."""

    place: int
    end: int
    entry: AuditEntry


class Reserve:
    """The open file. One process holds it; `append` may be called from any thread or loop."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path = path
        self.bytes_max = bytes_max
        self._lock = threading.Lock()
        self._descriptor = -1
        self._filling = b""
        self._end = _FIRST
        self._is_broken = False

    def open(self) -> None:
        """Take the file, making and allocating it at first; raises `ConfigurationError` where that cannot be."""
        if self.bytes_max < BYTES_MIN:
            raise ConfigurationError([f"audit.reserve_bytes: at least {BYTES_MIN}"])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._take_up()
        except BlockingIOError as error:
            self.close()
            raise ConfigurationError(["audit.reserve_path: another process holds the file"]) from error
        except OSError as error:
            self.close()
            raise ConfigurationError([f"audit.reserve_path: cannot be used: {error.strerror}"]) from error

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._lock:
            self._let_go()

    @property
    def bytes_free(self) -> int:
        """What is left of the file."""
        return self.bytes_max - self._end

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be drained."""
        return self._end == _FIRST

    async def append(self, entry: AuditEntry) -> None:
        """Record an entry; it is durable when this returns. Raises `AuditUnavailable`: full, or the disk failed."""
        await asyncio.to_thread(self._append, entry)

    def records(self) -> list[Reserved]:
        """What waits, in order."""
        with self._lock:
            return self._read()

    async def drain(self, database: Database) -> int:
        """Move what waits into the chain; how many records. Raises `StoreUnavailable` and loses nothing.

        Appending goes on meanwhile: what comes in during the move stays for the next time. Raises `AuditUnavailable`
        if the file cannot be read or emptied; what is in the chain by then does not enter it again.
        """
        try:
            return await self._drain(database)
        except OSError as error:
            raise AuditUnavailable("the audit reserve cannot be drained") from error

    async def _drain(self, database: Database) -> int:
        waiting = await asyncio.to_thread(self.records)
        if not waiting:
            return 0
        filling = self._filling.hex()
        faultpoint("reserve.drain.before")
        moved = await database.write(lambda tx: _move(tx, filling, waiting))
        faultpoint("reserve.drain.committed")
        await asyncio.to_thread(self._empty, waiting[-1].end)
        return moved

    def _append(self, entry: AuditEntry) -> None:
        payload = entry.encoded()
        with self._lock:
            if self._descriptor < 0 or self._is_broken:
                raise AuditUnavailable("the audit reserve is closed or its disk failed")
            end = self._end + _FRAME_BYTES + len(payload)
            if end > self.bytes_max:
                raise AuditUnavailable("the audit reserve is full")
            frame = len(payload).to_bytes(_LENGTH_BYTES, "big") + self._digest(self._end, payload) + payload
            try:
                faultpoint("reserve.append.before")
                write_whole(self._descriptor, frame, self._end)
                faultpoint("reserve.append.written")
                os.fdatasync(self._descriptor)
                faultpoint("reserve.append.after")
            except OSError as error:
                # After a failed sync nobody knows what the disk holds, and a second sync would lie: stop here.
                self._is_broken = True
                raise AuditUnavailable("the audit reserve cannot be written") from error
            self._end = end

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _take_up(self) -> None:
        head = os.pread(self._descriptor, _FIRST, 0)
        is_new = not any(head)
        if not is_new and head[: len(_MAGIC)] != _MAGIC:
            self._let_go()
            raise ConfigurationError(["audit.reserve_path: the file is not an audit reserve"])
        # A file larger than now configured may hold records beyond that: it is read, and used, to its end.
        self.bytes_max = max(self.bytes_max, os.fstat(self._descriptor).st_size)
        os.posix_fallocate(self._descriptor, 0, self.bytes_max)
        if is_new:
            self._begin_filling()
            sync_folder(self.path.parent)
        self._filling = os.pread(self._descriptor, _FILLING_BYTES, len(_MAGIC))
        waiting = self._read()
        self._end = waiting[-1].end if waiting else _FIRST

    def _begin_filling(self) -> None:
        """Empty the file by naming a new filling: no digest of the old one fits it."""
        filling = secrets.token_bytes(_FILLING_BYTES)
        write_whole(self._descriptor, _MAGIC + filling, 0)
        faultpoint("reserve.empty.written")
        os.fdatasync(self._descriptor)
        faultpoint("reserve.empty.after")
        self._filling, self._end = filling, _FIRST

    def _empty(self, drained_to: int) -> None:
        with self._lock:
            if self._end == drained_to:
                self._begin_filling()

    def _read(self) -> list[Reserved]:
        found: list[Reserved] = []
        place = _FIRST
        while place + _FRAME_BYTES <= self.bytes_max:
            frame = os.pread(self._descriptor, _FRAME_BYTES, place)
            length = int.from_bytes(frame[:_LENGTH_BYTES], "big")
            end = place + _FRAME_BYTES + length
            if not length or end > self.bytes_max:
                break
            payload = os.pread(self._descriptor, length, place + _FRAME_BYTES)
            if frame[_LENGTH_BYTES:] != self._digest(place, payload):
                break
            found.append(Reserved(place, end, _decoded(payload)))
            place = end
        return found

    def _digest(self, place: int, payload: bytes) -> bytes:
        return hashlib.sha256(self._filling + place.to_bytes(8, "big") + payload).digest()


def _move(tx: Tx, filling: str, waiting: list[Reserved]) -> int:
    row = tx.connection.execute(_DRAINED, {"of_node": tx.node}).one_or_none()
    drained_to = row.drained_to if row is not None and row.filling == filling else 0
    due = [reserved for reserved in waiting if reserved.place >= drained_to]
    if not due:
        return 0
    for reserved in due:
        tx.chain.append(reserved.entry)
    counted: dict[str, JsonValue] = {"records": len(due)}
    tx.chain.append(AuditEntry(AuditEvent.RESERVE_DRAINED, tx.now, "", counted))
    tx.connection.execute(_NOTE, {"node": tx.node, "filling": filling, "drained_to": due[-1].end})
    faultpoint("reserve.note.after")
    return len(due)


def _decoded(payload: bytes) -> AuditEntry:
    said = orjson.loads(payload)
    return AuditEntry(AuditEvent(said["event"]), datetime.fromisoformat(said["at"]), said["request"], said["body"])
