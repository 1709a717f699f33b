"""Bear witness to the audit, and compare the database with what was witnessed (SAF-30, G13).

A checkpoint is durable in the anchor file before it enters the database. A database that holds less than its newest
witness was rolled back or cut; `serve` then opens no door until an operator accepts that as a wanted restore, with a
reason that stands in the chain. What was lost of the opt-out register is counted, so that nobody forgets it silently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import BigInteger, Column, Table, Text, bindparam, func, insert, select

from gateway.model.audit import AuditEntry, AuditEvent, BrokenChain, ChainHead
from gateway.model.errors import InvalidRequest
from storage.anchors import AnchorFile, Checkpoint, LineKind
from storage.audit_log import heads
from storage.database import Database, Read, Tx
from storage.keys import SigningKey, VerifyingKey
from storage.registers.optouts import optout_event
from storage.registers.state import Author, version
from storage.tables.chain import audit_record
from storage.tables.columns import Instant, Json, metadata

audit_checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("node", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("line", Json, nullable=False),
)
"""The lines of the anchor file once more, for whoever has only the database."""

QUICK_LINES = 64
"""Newest lines that are looked at before serving; all of them are when one does not agree."""

_EVENTS = select(func.count()).select_from(optout_event)
_NUMBER = select(func.coalesce(func.max(audit_checkpoint.c.number), 0))
_HASH = select(audit_record.c.hash).where(
    audit_record.c.node == bindparam("of_node"), audit_record.c.sequence == bindparam("of_sequence")
)


@dataclass(frozen=True, slots=True)
class RollBack:
    """The database does not hold what was witnessed, or the witness itself was tampered with."""

    breaks: tuple[BrokenChain, ...]
    """For each chain the first witnessed record that is not there."""
    problems: tuple[str, ...]
    """What is wrong with the anchor file."""
    register_versions_lost: int
    opt_out_events_lost: int
    """Events of opt-out cases that are missing at least: they must be entered again."""
    last_witness_at: datetime | None


@dataclass(frozen=True, slots=True)
class _State:
    """How far the database has come."""

    heads: tuple[ChainHead, ...]
    register_version: int
    opt_out_events: int
    checkpoints: int


def _state(read: Read) -> _State:
    connection = read.connection
    return _State(
        heads(read), version(read), connection.execute(_EVENTS).scalar_one(), connection.execute(_NUMBER).scalar_one()
    )


async def checkpoint(database: Database, anchors: AnchorFile, key: SigningKey) -> Checkpoint:
    """Bear witness to the present ends of all chains; raises `AuditUnavailable` or `StoreUnavailable`."""
    state = await database.read(_state)
    return await _witness(database, anchors, key, LineKind.CHECKPOINT, state)


async def check_rollback(database: Database, anchors: AnchorFile, key: VerifyingKey) -> RollBack | None:
    """Whether the database holds less than was witnessed: asked before `serve` opens a door.

    Looks at the newest witnessed records alone; `storage.audit_log.verify` walks every record.
    """
    state = await database.read(_state)
    witness = await asyncio.to_thread(anchors.read, key, lines_max=QUICK_LINES)
    breaks = await database.read(lambda read: _unmet(read, witness.anchors()))
    if breaks:
        witness = await asyncio.to_thread(anchors.read, key)
        breaks = await database.read(lambda read: _unmet(read, witness.anchors()))
    last = witness.last
    problems = list(witness.problems)
    if (last.number if last else 0) < state.checkpoints:
        problems.append("the anchor file is older than the database, or missing")
    if not breaks and not problems:
        return None
    return RollBack(
        breaks=breaks,
        problems=tuple(problems),
        register_versions_lost=max(0, last.register_version - state.register_version) if last else 0,
        opt_out_events_lost=max(0, last.opt_out_events - state.opt_out_events) if last else 0,
        last_witness_at=last.at if last else None,
    )


async def accept_restore(database: Database, anchors: AnchorFile, key: SigningKey, author: Author) -> RollBack:
    """An operator's word that a roll-back is a wanted restore: recorded in the chain, then in the second place.

    Raises `InvalidRequest` without a reason, or when nothing was rolled back.
    """
    if not author.reason.strip():
        raise InvalidRequest("accepting a restored database needs a reason")
    found = await check_rollback(database, anchors, key.verifying)
    if found is None:
        raise InvalidRequest("the database holds all that was witnessed to: there is no restore to accept")
    await database.write(lambda tx: _record_acceptance(tx, found, author))
    state = await database.read(_state)
    standing = tuple(ChainHead(broken.node, broken.sequence - 1, "") for broken in found.breaks)
    accepted = _State(standing, state.register_version, state.opt_out_events, state.checkpoints)
    await _witness(database, anchors, key, LineKind.RESTORE_ACCEPTED, accepted)
    await checkpoint(database, anchors, key)
    return found


@dataclass
class Checkpointer:
    """Bears witness after so many records or so many seconds, whichever comes first, and at the end."""

    database: Database
    anchors: AnchorFile
    key: SigningKey
    every_records: int = 1_000
    every_s: float = 300.0
    _records_seen: int = field(default=0, init=False)
    _seen_at: datetime | None = field(default=None, init=False)

    async def tick(self) -> Checkpoint | None:
        """Make a checkpoint if one is due; called about once a second. Raises as `checkpoint` does."""
        now = self.database.now()
        self._seen_at = self._seen_at or now
        grown = sum(head.sequence for head in await self.database.read(heads)) - self._records_seen
        waited_s = (now - self._seen_at).total_seconds()
        if grown and (grown >= self.every_records or waited_s >= self.every_s):
            return await self.finish()
        return None

    async def finish(self) -> Checkpoint:
        """Make a checkpoint now: also the last act of a gateway that stops."""
        made = await checkpoint(self.database, self.anchors, self.key)
        self._records_seen = sum(head.sequence for head in made.heads)
        self._seen_at = self.database.now()
        return made


async def _witness(
    database: Database, anchors: AnchorFile, key: SigningKey, kind: LineKind, state: _State
) -> Checkpoint:
    unsigned = Checkpoint(
        kind=kind,
        number=0,
        previous="",
        node=database.node,
        at=database.now(),
        heads=state.heads,
        register_version=state.register_version,
        opt_out_events=state.opt_out_events,
        key_id="",
    )
    line = await asyncio.to_thread(anchors.append, key, unsigned, state.checkpoints + 1)
    await database.write(lambda tx: _keep(tx, line))
    return line


def _keep(tx: Tx, line: Checkpoint) -> None:
    values = {
        "digest": line.digest,
        "number": line.number,
        "node": line.node,
        "at": line.at,
        "line": line.to_json(),
    }
    tx.connection.execute(insert(audit_checkpoint), values)


def _unmet(read: Read, anchors: Sequence[ChainHead]) -> tuple[BrokenChain, ...]:
    """For each chain the first witnessed end that the database does not hold.

    An end that is there stands for all before it, so the search halves.
    """
    of_node: dict[str, list[ChainHead]] = {}
    for anchor in anchors:
        of_node.setdefault(anchor.node, []).append(anchor)
    breaks = []
    for node, ends in sorted(of_node.items()):
        ends.sort(key=lambda end: end.sequence)
        low, high = 0, len(ends)
        if _is_held(read, ends[-1]):
            continue
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if _is_held(read, ends[middle]) else (low, middle)
        problem = f"the record is not the one witnessed to; the newest witness is to number {ends[-1].sequence}"
        breaks.append(BrokenChain(node, ends[low].sequence, problem))
    return tuple(breaks)


def _is_held(read: Read, end: ChainHead) -> bool:
    parameters = {"of_node": end.node, "of_sequence": end.sequence}
    return read.connection.execute(_HASH, parameters).scalar_one_or_none() == end.hash


def _record_acceptance(tx: Tx, found: RollBack, author: Author) -> None:
    tx.chain.append(
        AuditEntry(
            AuditEvent.RESTORE_ACCEPTED,
            tx.now,
            author.request_id,
            {
                "by": author.subject,
                "reason": author.reason,
                "breaks": [[broken.node, broken.sequence] for broken in found.breaks],
                "problems": list(found.problems),
                "register_versions_lost": found.register_versions_lost,
                "opt_out_events_lost": found.opt_out_events_lost,
            },
        )
    )
