"""Where reports come in, and what becomes of a message: the seam between feeds and whoever keeps reports.

A feed answers its sender only after `take` has returned: what is acknowledged is on disk. The same message twice is one
(REL-30). What cannot be read is kept sealed for a person, and is answered as the feed's standard says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.model.reporting.incoming import IncomingReport
from policy.parties import TrustId


class MessageState(StrEnum):
    """What became of a message."""

    FILED = "filed"
    """Every report that it holds is kept."""
    IGNORED = "ignored"
    """It says nothing that changes a report, and is no mistake."""
    DEAD = "dead"
    """It could not be read or filed: a person looks, mends and replays."""
    REPLAYED = "replayed"
    """It was dead, and its replay was filed."""
    DISMISSED = "dismissed"
    """It was dead, and a person said that nothing is to come of it."""


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """One message of a feed, read as far as it could be."""

    trust: TrustId
    feed: str
    message_id: str
    """Names it for its sender; empty where it could not be read."""
    kind: str
    """`ORU^R01`, `DiagnosticReport`, `DICOM SR`."""
    received_at: datetime
    reports: tuple[IncomingReport, ...] = ()
    problem: str = ""
    """Why it is dead; safe to show: it never repeats what stood in the message."""
    raw: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one message, durable."""

    state: MessageState
    is_new: bool
    """Whether it was heard of for the first time."""
    report_ids: tuple[str, ...] = ()


class ReportIntake(Protocol):
    """Takes messages in."""

    async def take(self, message: FeedMessage) -> Taken:
        """Keep the message and its reports; durable when it returns.

        Raises a `ServiceFault` where nothing can be kept now: the sender is to send it again.
        """

    async def heard_from(self, trust: TrustId, feed: str, at: datetime) -> None:
        """The feed gave a sign of life, message or not (SAF-32)."""
