"""Read and verify the audit: what the chain holds, in order, and whether anybody touched it since it was written.

Growing a chain is `storage.chain`, the arithmetic `gateway.model.audit`. A cut tail and a database rolled back as a
whole leave a chain that fits together; they show only against checkpoints kept elsewhere, see `storage.checkpoints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import bindparam, select

from gateway.model.audit import AuditRecord, BrokenChain, ChainHead
from gateway.model.imaging import JsonValue
from storage.chain import audit_head, audit_record
from storage.columns import Instant, TableRow
from storage.database import Read

_COLUMNS = (
    audit_record.c.node,
    audit_record.c.sequence,
    audit_record.c.previous,
    audit_record.c.encoded,
    audit_record.c.hash,
    audit_record.c.at,
    audit_record.c.event,
    audit_record.c.request_id,
)
_HEADS = select(audit_head.c.node, audit_head.c.sequence, audit_head.c.hash).order_by(audit_head.c.node)
_NODES = select(audit_record.c.node).distinct().order_by(audit_record.c.node)
_AFTER = (
    select(*_COLUMNS)
    .where(audit_record.c.node == bindparam("of_node"), audit_record.c.sequence > bindparam("after"))
    .order_by(audit_record.c.sequence)
    .limit(bindparam("count_max"))
)
_OF_REQUEST = (
    select(*_COLUMNS)
    .where(audit_record.c.request_id == bindparam("of_request"))
    .order_by(audit_record.c.node, audit_record.c.sequence)
)
_BETWEEN = (
    select(*_COLUMNS)
    .where(
        audit_record.c.at >= bindparam("since", type_=Instant),
        audit_record.c.at < bindparam("until", type_=Instant),
    )
    .order_by(audit_record.c.at, audit_record.c.node, audit_record.c.sequence)
    .limit(bindparam("count_max"))
)
PAGE_RECORDS = 2_000
"""Records read at once while walking a chain."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over the chains found."""

    heads: tuple[ChainHead, ...]
    """The end of every chain that is whole."""
    breaks: tuple[BrokenChain, ...]
    """The first record that does not fit, of every chain that is not."""
    records: int
    """How many records were looked at."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return not self.breaks


def heads(read: Read) -> tuple[ChainHead, ...]:
    """The end of every node's chain, as the database says."""
    return tuple(ChainHead(row.node, row.sequence, row.hash) for row in read.connection.execute(_HEADS))


def nodes(read: Read) -> tuple[str, ...]:
    """Every node that has records or an end."""
    found = {row.node for row in read.connection.execute(_NODES)}
    return tuple(sorted(found | {head.node for head in heads(read)}))


def page(read: Read, node: str, after: int, count_max: int = PAGE_RECORDS) -> list[AuditRecord]:
    """The records of a node after a number, in order: also the cursor of an export."""
    parameters = {"of_node": node, "after": after, "count_max": count_max}
    return [record(row) for row in read.connection.execute(_AFTER, parameters)]


def of_request(read: Read, request_id: str) -> list[AuditRecord]:
    """All records of one request."""
    return [record(row) for row in read.connection.execute(_OF_REQUEST, {"of_request": request_id})]


def between(read: Read, since: datetime, until: datetime, count_max: int) -> list[AuditRecord]:
    """Records of a half-open period, at most `count_max`."""
    parameters = {"since": since, "until": until, "count_max": count_max}
    return [record(row) for row in read.connection.execute(_BETWEEN, parameters)]


def record(row: TableRow) -> AuditRecord:
    """The record in a row."""
    return AuditRecord(row.node, row.sequence, row.previous, bytes(row.encoded), row.hash)


def contents(entry: AuditRecord) -> Mapping[str, JsonValue]:
    """What a record says: `at`, `event`, `request`, `body`."""
    value: JsonValue = orjson.loads(entry.encoded)
    if not isinstance(value, dict):
        raise ValueError("an audit record holds a JSON object")
    return value
