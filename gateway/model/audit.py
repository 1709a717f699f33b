"""What is recorded, and the chain that shows when a record was touched. Pure: keeping it is `storage.audit_log`.

One chain per node (DEC-14). A record's hash covers the hash before it, its node, its number and the exact bytes of its
entry, so a flip, a drop, a swap or a splice breaks the chain at the first record touched; a cut tail and a roll-back
show only against checkpoints kept elsewhere. Event kinds follow PS3.15 A.5 (`dicom_event` gives the code).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from gateway.model.imaging import JsonValue

GENESIS = "0" * 64
"""The hash before a chain's first record."""


class AuditEvent(StrEnum):
    """Kinds of entry."""

    QUERY_ATTEMPT = "query-attempt"
    QUERY_OUTCOME = "query-outcome"
    QUERY_REFUSED = "query-refused"
    RETRIEVE_ATTEMPT = "retrieve-attempt"
    RETRIEVE_OUTCOME = "retrieve-outcome"
    RETRIEVE_REFUSED = "retrieve-refused"
    """To a destination that is unknown, or not this caller's (SAF-13)."""
    STORE_ATTEMPT = "store-attempt"
    STORE_OUTCOME = "store-outcome"
    LOCATION_SAMPLE = "location-sample"
    REGISTER_CHANGE = "register-change"
    REPORT_FILED = "report-filed"
    RELEASE_CHANGE = "release-change"
    """A report went on, or back, on its way to its patient."""
    REPORT_READ = "report-read"
    """By its patient, a proxy, or a clinician of another trust."""
    REPORT_REFUSED = "report-refused"
    AUDIT_READ = "audit-read"
    EXPLAIN = "explain"
    SECURITY_ALERT = "security-alert"
    SERVICE_START = "service-start"
    SERVICE_STOP = "service-stop"
    RESERVE_DRAINED = "reserve-drained"
    RESTORE_ACCEPTED = "restore-accepted"

    @property
    def dicom_event(self) -> str:
        """The DCM event code of PS3.15 A.5 (domain.md D7)."""
        match self:
            case (
                AuditEvent.QUERY_ATTEMPT
                | AuditEvent.QUERY_OUTCOME
                | AuditEvent.QUERY_REFUSED
                | AuditEvent.LOCATION_SAMPLE
            ):
                return "110112"
            case AuditEvent.RETRIEVE_ATTEMPT | AuditEvent.RETRIEVE_REFUSED | AuditEvent.STORE_ATTEMPT:
                return "110102"
            case AuditEvent.RETRIEVE_OUTCOME | AuditEvent.STORE_OUTCOME:
                return "110104"
            case AuditEvent.REGISTER_CHANGE:
                return "110110"
            case AuditEvent.REPORT_FILED:
                return "110107"
            case AuditEvent.RELEASE_CHANGE:
                return "110106"
            case AuditEvent.REPORT_READ:
                return "110103"
            case AuditEvent.AUDIT_READ | AuditEvent.EXPLAIN:
                return "110101"
            case AuditEvent.SECURITY_ALERT | AuditEvent.REPORT_REFUSED:
                return "110113"
            case (
                AuditEvent.SERVICE_START
                | AuditEvent.SERVICE_STOP
                | AuditEvent.RESERVE_DRAINED
                | AuditEvent.RESTORE_ACCEPTED
            ):
                return "110100"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What happened, before it has a place in a chain. `body` holds JSON values only."""

    event: AuditEvent
    at: datetime
    request_id: str
    body: Mapping[str, JsonValue]

    def encoded(self) -> bytes:
        """The canonical bytes that are stored and hashed: JSON, keys sorted, UTC instants."""
        return orjson.dumps(
            {
                "at": self.at.astimezone(UTC).isoformat(),
                "body": self.body,
                "event": self.event.value,
                "request": self.request_id,
            },
            option=orjson.OPT_SORT_KEYS,
        )


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry in its place. `encoded` is kept as stored, so that verification never re-encodes."""

    node: str
    sequence: int
    previous: str
    encoded: bytes
    hash: str

    @classmethod
    def following(cls, node: str, sequence: int, previous: str, encoded: bytes) -> AuditRecord:
        """The record that stands at `sequence` (1 for the first) behind the hash `previous`."""
        return cls(node, sequence, previous, encoded, record_hash(node, sequence, previous, encoded))


def record_hash(node: str, sequence: int, previous: str, encoded: bytes) -> str:
    """SHA-256, hex, over the previous hash, the node, the number and the entry's bytes, each length-prefixed."""
    digest = hashlib.sha256()
    for part in (previous.encode(), node.encode(), str(sequence).encode(), encoded):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last record of a chain that is known to be good."""

    node: str
    sequence: int
    hash: str

    @classmethod
    def empty(cls, node: str) -> ChainHead:
        """The head of a chain without records."""
        return cls(node, 0, GENESIS)


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """The first record that does not fit, and why."""

    node: str
    sequence: int
    problem: str


def follow(head: ChainHead, records: Iterable[AuditRecord]) -> ChainHead | BrokenChain:
    """Walk records of one node in order from `head`; the new head, or the first break."""
    sequence, previous = head.sequence, head.hash
    for record in records:
        expected = sequence + 1
        if record.sequence != expected:
            return BrokenChain(head.node, expected, f"record missing or out of order: found {record.sequence}")
        if record.previous != previous:
            return BrokenChain(head.node, expected, "the record does not follow the one before it")
        if record.hash != record_hash(head.node, record.sequence, record.previous, record.encoded):
            return BrokenChain(head.node, expected, "the record was changed after it was written")
        sequence, previous = record.sequence, record.hash
    return ChainHead(head.node, sequence, previous)
