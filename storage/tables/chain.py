"""The growing end of a node's audit chain inside one write transaction. What a chain is: `gateway.model.audit`.

Entries get their place at once, so that their author learns it, and reach the table together just before the commit:
a group of sixty-four appends costs one read of the head and two statements. The head's row is locked first, so two
processes that share a node id wait for each other and never fork the chain (DEC-14). Reading is `storage.audit_log`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    LargeBinary,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    update,
)

from gateway.model.audit import GENESIS, AuditEntry, AuditRecord, ChainHead
from gateway.model.faults import faultpoint
from storage.tables.columns import Instant, metadata
from storage.tables.prepared import Prepared

audit_record = Table(
    "audit_record",
    metadata,
    Column("node", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("previous", Text, nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    Column("hash", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("event", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Index(None, "request_id"),
    Index(None, "at"),
)
"""The records. `at`, `event` and `request_id` repeat what `encoded` says, for looking up; verification compares."""

audit_head = Table(
    "audit_head",
    metadata,
    Column("node", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
)
"""The last record of each chain: the row to lock before a chain grows."""

_LOCK_HEAD = Prepared(
    select(audit_head.c.sequence, audit_head.c.hash).where(audit_head.c.node == bindparam("of_node")).with_for_update()
)
_FIRST_HEAD = text("INSERT INTO audit_head (node, sequence, hash) VALUES (:node, 0, :genesis) ON CONFLICT DO NOTHING")
_MOVE_HEAD = Prepared(
    update(audit_head)
    .where(audit_head.c.node == bindparam("of_node"))
    .values(sequence=bindparam("to_sequence"), hash=bindparam("to_hash"))
)
_ADD_RECORDS = Prepared(insert(audit_record))


class ChainEnd:
    """Where the next entry of this node goes, in one transaction."""

    def __init__(self, connection: Connection, node: str) -> None:
        self._connection = connection
        self._node = node
        self._head: ChainHead | None = None
        self._rows: list[dict[str, object]] = []

    def append(self, entry: AuditEntry) -> AuditRecord:
        """Give the entry its place; it is stored by `flush` and durable after the commit."""
        head = self._head or self._lock()
        record = AuditRecord.following(self._node, head.sequence + 1, head.hash, entry.encoded())
        self._head = ChainHead(self._node, record.sequence, record.hash)
        self._rows.append(
            {
                "node": record.node,
                "sequence": record.sequence,
                "previous": record.previous,
                "encoded": record.encoded,
                "hash": record.hash,
                "at": entry.at,
                "event": entry.event.value,
                "request_id": entry.request_id,
            }
        )
        return record

    def mark(self) -> tuple[ChainHead | None, int]:
        """The present end, to come back to by `reset` when a part of the transaction is rolled back."""
        return self._head, len(self._rows)

    def reset(self, mark: tuple[ChainHead | None, int]) -> None:
        """Forget what was appended after `mark`."""
        self._head, count = mark
        del self._rows[count:]

    def flush(self) -> int:
        """Store what was appended; how many records that was."""
        if not self._rows or self._head is None:
            return 0
        faultpoint("chain.insert.before")
        _ADD_RECORDS.run(self._connection, self._rows)
        faultpoint("chain.insert.after")
        moved = {"of_node": self._node, "to_sequence": self._head.sequence, "to_hash": self._head.hash}
        _MOVE_HEAD.run(self._connection, [moved])
        faultpoint("chain.head.after")
        return len(self._rows)

    def _lock(self) -> ChainHead:
        of_node = {"of_node": self._node}
        rows = _LOCK_HEAD.rows(self._connection, of_node)
        if not rows:
            self._connection.execute(_FIRST_HEAD, {"node": self._node, "genesis": GENESIS})
            rows = _LOCK_HEAD.rows(self._connection, of_node)
        return ChainHead(self._node, rows[0].sequence, rows[0].hash)
