"""How a report reaches its patient: what is given to a channel, and what became of it. Knows no wire format.

Nothing reaches a channel before its time, not even that there is a report (domain.md A2, A9). A document is put by its
key until that is confirmed, a notification is given at most once, and what cannot be known is a person's work (SAF-67).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from gateway.model.reporting.incoming import Practitioner
from policy.parties import NhsNumber, TrustId


@dataclass(frozen=True, slots=True)
class Addressee:
    """The patient, as traced on the day (SAF-66)."""

    nhs_number: NhsNumber
    family_name: str
    given_name: str
    birth_date: date


@dataclass(frozen=True, slots=True)
class Section:
    """One text of a report: the report itself, or an addendum; untouched."""

    version_id: str
    is_addendum: bool
    verified_at: datetime
    verified_by: str
    text: str
    pdf: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class PatientReport:
    """What a patient is given, before it is rendered."""

    report_id: str
    document_key: str
    """Names this very content at every channel: putting it twice is putting it once."""
    trust: TrustId
    trust_name: str
    addressee: Addressee
    exam_name: str
    """In plain words."""
    exam_on: date | None
    ordering_team: str
    contact: str
    """How the ordering team is reached."""
    referrer: Practitioner
    sections: tuple[Section, ...]
    released_at: datetime
    replaces: str = ""
    """The document key that this one takes the place of."""
    footnote: str = ""
    note: str = ""
    """A neutral line of ours above the report: that something was added or corrected."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """A report in the forms that channels take. Each holds the disclaimer exactly once (REL-06)."""

    html: str
    text: str
    pdf: bytes = field(repr=False)
    is_large_print: bool = False


class Receipt(StrEnum):
    """What a channel says of what it was given."""

    CONFIRMED = "confirmed"
    """It has it: the report is released there."""
    REFUSED = "refused"
    """It will not take it, as it is: a person's work."""
    FAILED = "failed"
    """It did not take it: tried again."""
    UNKNOWN = "unknown"
    """Nobody can say. A put by key is repeated; anything else is a person's work (SAF-67)."""
    NO_ACCOUNT = "no-account"
    """The patient has none there, or none that proves who they are (P9): kept due (REL-20)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt."""

    receipt: Receipt
    words: str = ""
    """Safe to show to staff: never text of a report."""
    reference: str = ""
    """The channel's own name of it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The patient's account at a channel."""

    is_there: bool
    is_proven: bool = False
    """Proved to the level that clinical content needs (NHS login P9)."""
    nhs_number: NhsNumber | None = None
    family_name: str = ""
    birth_date: date | None = None
    is_paused: bool = False
    """A professional paused it (REL-55)."""


class Channel(Protocol):
    """One way to patients. Every method may be repeated and raises nothing that a peer can cause."""

    @property
    def name(self) -> str:
        """The name of its `[[channel]]`."""

    @property
    def is_idempotent(self) -> bool:
        """Whether a put by key may be repeated when its outcome is unknown."""

    @property
    def checks_proxies(self) -> bool:
        """Whether it judges at each view who looks: else it gets no report of a child (SAF-65)."""

    @property
    def notifies(self) -> bool:
        """Whether `notify` tells the patient: one that does not leaves the telling to another channel (REL-08)."""

    async def account(self, addressee: Addressee) -> Account:
        """The patient's account. A channel that cannot say answers as if there were one, and refuses later."""

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """Make the report visible to its patient, in place of what it replaces."""

    async def notify(self, report: PatientReport) -> Outcome:
        """Tell the patient that something is there, without clinical content: once a version, if it `notifies`."""

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """Show it no more; `words` are the neutral text that stands there instead."""

    async def close(self) -> None:
        """Give up connections; idempotent."""
