"""Read and verify the audit: what the chain holds, in order, and whether anybody touched it since it was written.

Growing a chain is `storage.tables.chain`, the arithmetic `gateway.model.audit`. A cut tail and a database rolled back
as a whole leave a chain that fits together; they show only against checkpoints kept elsewhere: `storage.checkpoints`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import bindparam, select

from gateway.model.audit import AuditEvent, AuditRecord, BrokenChain, ChainHead, follow
from gateway.model.imaging import JsonValue
from storage.database import Database, Read
from storage.tables.chain import audit_head, audit_record
from storage.tables.columns import Instant, TableRow

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
    .offset(bindparam("passed_over"))
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


def between(
    read: Read, since: datetime, until: datetime, count_max: int, event: AuditEvent | None = None
) -> list[AuditRecord]:
    """Records of a half-open period, of all kinds of entry or of one, at most `count_max`."""
    found: list[AuditRecord] = []
    page_size = count_max if event is None else PAGE_RECORDS
    for passed_over in itertools.count(0, page_size):
        parameters = {"since": since, "until": until, "count_max": page_size, "passed_over": passed_over}
        page = [record(row) for row in read.connection.execute(_BETWEEN, parameters)]
        found += [each for each in page if event is None or _may_be(each, event)]
        if len(page) < page_size or len(found) >= count_max:
            break
    return found[:count_max]


def _may_be(entry: AuditRecord, event: AuditEvent) -> bool:
    """Whether a record is of a kind; one that cannot be read is shown, never passed over."""
    try:
        return contents(entry).get("event") == event.value
    except ValueError:
        return True


def record(row: TableRow) -> AuditRecord:
    """The record in a row."""
    # SQLite lets a tamperer put text where bytes belong; that must break the chain, not the one who verifies it.
    encoded = row.encoded.encode() if isinstance(row.encoded, str) else bytes(row.encoded or b"")
    return AuditRecord(row.node, row.sequence, row.previous, encoded, row.hash)


def contents(entry: AuditRecord) -> Mapping[str, JsonValue]:
    """What a record says: `at`, `event`, `request`, `body`."""
    value: JsonValue = orjson.loads(entry.encoded)
    if not isinstance(value, dict):
        raise ValueError("an audit record holds a JSON object")
    return value


async def verify(
    database: Database,
    anchors: Sequence[ChainHead] = (),
    progress: Callable[[int], None] = lambda records: None,
) -> Verification:
    """Walk every chain from its first record; name the first broken record of each that does not hold.

    `anchors` are ends that signed checkpoints bear witness to: they show a cut tail, a rewritten chain and a database
    rolled back. `progress` is told how many records were looked at. Reads page by page, so appending goes on meanwhile.
    """
    of_node: dict[str, dict[int, str]] = {}
    for anchor in anchors:
        of_node.setdefault(anchor.node, {})[anchor.sequence] = anchor.hash
    whole: list[ChainHead] = []
    breaks: list[BrokenChain] = []
    records = 0
    for node in sorted(set(await database.read(nodes)) | set(of_node)):
        walk = _Walk(ChainHead.empty(node), of_node.get(node, {}))
        while not walk.is_over:
            await database.read(walk.step)
            progress(records + walk.records)
        records += walk.records
        if walk.broken is not None:
            breaks.append(walk.broken)
        else:
            whole.append(walk.head)
    return Verification(tuple(whole), tuple(breaks), records)


class _Walk:
    """One chain, followed page by page."""

    def __init__(self, head: ChainHead, anchors: Mapping[int, str]) -> None:
        self.head = head
        self.anchors = anchors
        self.records = 0
        self.broken: BrokenChain | None = None
        self.is_over = False

    def step(self, read: Read) -> None:
        """Follow one page; the page past the last record decides whether the end is the true one."""
        parameters = {"of_node": self.head.node, "after": self.head.sequence, "count_max": PAGE_RECORDS}
        rows = read.connection.execute(_AFTER, parameters).all()
        self.records += len(rows)
        records = [record(row) for row in rows]
        followed = follow(self.head, records)
        self.broken = self._first(_disagreeing(rows, records), followed)
        if isinstance(followed, ChainHead):
            self.broken = self._first(self.broken, self._against_anchors(rows))
            self.head = followed
        if self.broken is None and not rows:
            self.broken = self._against_end(read)
        self.is_over = self.broken is not None or not rows

    @staticmethod
    def _first(one: BrokenChain | None, other: BrokenChain | ChainHead | None) -> BrokenChain | None:
        if not isinstance(other, BrokenChain):
            return one
        return other if one is None or other.sequence <= one.sequence else one

    def _against_anchors(self, rows: Sequence[TableRow]) -> BrokenChain | None:
        for row in rows:
            witnessed = self.anchors.get(row.sequence)
            if witnessed is not None and witnessed != row.hash:
                problem = "the chain up to here is not the one that a checkpoint bears witness to"
                return BrokenChain(self.head.node, row.sequence, problem)
        return None

    def _against_end(self, read: Read) -> BrokenChain | None:
        node, sequence = self.head.node, self.head.sequence
        end = next((head for head in heads(read) if head.node == node), ChainHead.empty(node))
        if end != self.head:
            return BrokenChain(node, sequence + 1, "the chain does not end where its last commit ended it")
        last = max(self.anchors, default=0)
        if last > sequence:
            return BrokenChain(node, sequence + 1, f"records are missing: a checkpoint bears witness to number {last}")
        return None


def _disagreeing(rows: Sequence[TableRow], records: Sequence[AuditRecord]) -> BrokenChain | None:
    """The first row whose columns for looking up say something else than its record."""
    for row, stored in zip(rows, records, strict=True):
        try:
            said = contents(stored)
            agrees = (
                said.get("at") == row.at.astimezone(UTC).isoformat()
                and said.get("event") == row.event
                and said.get("request") == row.request_id
            )
        except ValueError:
            agrees = False
        if not agrees:
            return BrokenChain(row.node, row.sequence, "the row's columns differ from its record")
    return None
