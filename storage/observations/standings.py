"""How each peer fared, beyond the process: a restart does not forget whom it was better to leave alone (C1).

One row for each node and peer, written when something changes. Another node has other lines to the same peer, so each
keeps its own. No register: nothing about access hangs on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, Integer, Table, Text, bindparam, select, text

from gateway.model.imaging import SourceState
from gateway.model.locations import PeerStanding
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.tables.columns import Instant, metadata, micros

peer_standing = Table(
    "peer_standing",
    metadata,
    Column("node", Text, primary_key=True),
    Column("trust", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("paused_until", Instant),
    Column("last_state", Text, nullable=False),
    Column("empty_state", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

_OF_NODE = select(peer_standing).where(peer_standing.c.node == bindparam("of_node")).order_by(peer_standing.c.trust)
_WRITE = text(
    "INSERT INTO peer_standing (node, trust, failures, paused_until, last_state, empty_state, changed_at)"
    " VALUES (:node, :trust, :failures, :paused_until, :last_state, :empty_state, :changed_at)"
    " ON CONFLICT (node, trust) DO UPDATE SET failures = excluded.failures, paused_until = excluded.paused_until,"
    " last_state = excluded.last_state, empty_state = excluded.empty_state, changed_at = excluded.changed_at"
)


def write(tx: Tx, standings: Sequence[PeerStanding]) -> None:
    """Write down how peers fare, as this node sees it; one standing for each trust."""
    if standings:
        tx.connection.execute(_WRITE, [_values(tx, each) for each in sorted(standings, key=lambda each: each.trust)])


def standings(read: Read, node: str) -> list[PeerStanding]:
    """What a node wrote down last, by ODS code."""
    return [
        PeerStanding(
            TrustId(row.trust),
            row.failures,
            row.paused_until,
            SourceState(row.last_state),
            SourceState(row.empty_state),
        )
        for row in read.connection.execute(_OF_NODE, {"of_node": node})
    ]


def _values(tx: Tx, standing: PeerStanding) -> dict[str, object]:
    return {
        "node": tx.node,
        "trust": standing.trust.code,
        "failures": standing.failures,
        "paused_until": micros(standing.paused_until) if standing.paused_until is not None else None,
        "last_state": standing.last_state.value,
        "empty_state": standing.empty_state.value,
        "changed_at": micros(tx.now),
    }
