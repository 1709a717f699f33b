"""What staff are told of a report: that there is something to do, never what the report says (SAF-41).

A notice names the report by the number that its trust gave it. It has no name, number or date of birth of a patient, no
finding and no category of alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from policy.parties import TrustId
from policy.release.chasing import Matter, Recipient


@dataclass(frozen=True, slots=True)
class Told:
    """One who is told, and where: an address, or a professional as the feed names them."""

    recipient: Recipient
    address: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told."""

    key: str
    """The same notice has the same key, however often it is told."""
    trust: TrustId
    report_id: str
    version_id: str
    """The text that it is about: whoever acts on it names it."""
    report_number: str
    matter: Matter
    to: tuple[Told, ...]
    due_at: datetime


class Notifier(Protocol):
    """A way to staff."""

    async def tell(self, notice: Notice) -> str:
        """Give it on, and return by what its receiver said that it has it; empty where nobody said so (A2).

        What was given already changes nothing. Raises a `ServiceFault` where it cannot be given now.
        """
