"""What the API asks of whoever releases reports, and the bodies of the acts that it takes: for staff of one trust.

Each act is asked in the name of the caller whom a certificate proves (DEC-03), and concerns reports of that caller's
trust alone; whoever answers judges whether a person of this kind may act so. Nothing here reads what a report says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Protocol

from gateway.model.reporting.views import Board, DeadLetterLine, Done, Explained, ReportLine
from gateway.web.api.shapes import WORDS, Chars, Items, Whole
from policy.parties import Caller
from policy.release.circumstances import HoldKind, ReleaseState

Why = Annotated[str, Chars(most=500, least=1, pattern=WORDS)]
Name = Annotated[str, Chars(most=200, least=1, pattern=WORDS)]
Id = Annotated[str, Chars(most=128, least=1, pattern=r"^[A-Za-z0-9._:-]+$")]
Uid = Annotated[str, Chars(most=64, least=1, pattern=r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$")]
LINES_MAX = 1_000
ACKNOWLEDGED_MAX = 500
"""Reports that are acknowledged together."""
DAYS_MAX = 366


@dataclass(frozen=True, slots=True)
class Asked:
    """Which reports are listed."""

    state: ReleaseState | None = None
    days: Annotated[int, Whole(0, DAYS_MAX)] | None = None
    """Only those that are due within so many days."""
    limit: Annotated[int, Whole(1, LINES_MAX)] = 100


@dataclass(frozen=True, slots=True)
class Reasoned:
    """An act that needs nothing but its reason."""

    reason: Why


@dataclass(frozen=True, slots=True)
class NewHold:
    """Keep a report back until somebody has looked again (REL-43, SAF-64)."""

    kind: HoldKind
    reason: Why
    review_on: date
    is_responsible: bool = False
    """The clinician says that they are, or last were, responsible for the patient's care (REL-50)."""


@dataclass(frozen=True, slots=True)
class OfVersion:
    """An act on the version that whoever acts has read."""

    version_id: Id
    reason: Why


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a document of which nobody knew (SAF-67); channel and key are those of the explanation."""

    channel: Name
    document_key: Name
    is_there: bool
    """Whether the patient can see it there; what is not there is given again."""
    reason: Why


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A professional has read this version of a report and will act on it (SAF-51)."""

    version_id: Id
    name: Name
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReadVersion:
    """The version of a report that was read."""

    report_id: Id
    version_id: Id


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """A professional has read these versions of reports and will act on them; none of them is coded as an alert."""

    reports: Annotated[tuple[ReadVersion, ...], Items(most=ACKNOWLEDGED_MAX, least=1)]
    name: Name
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The patient was spoken to about this version of a report, or will be (SAF-68)."""

    version_id: Id
    name: Name
    reason: Why
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Proof that the referrer was sent this version: a message's control ID and positive answer, or the RIS's word."""

    version_id: Id
    reference: Name
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewLink:
    """The study that a report is of, by a person's word."""

    study_uid: Uid
    reason: Why
    is_of_another_trust: bool = False
    """The images are another trust's, and the report is of them all the same."""


@dataclass(frozen=True, slots=True)
class WrongLink:
    """A study that a report is not of, by a person's word."""

    study_uid: Uid
    reason: Why


@dataclass(frozen=True, slots=True)
class NewStop:
    """Let nothing of the trust go out until somebody lets it go on (SAF-69)."""

    reason: Why
    review_at: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """Reports verified in `[verified_from, verified_until)`."""

    verified_from: datetime
    verified_until: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """Let reports from before go-live go; `reports` is the count that the preview gave (SAF-69)."""

    verified_from: datetime
    verified_until: datetime
    reports: Annotated[int, Whole(0, 10_000_000)]
    reason: Why


@dataclass(frozen=True, slots=True)
class Counted:
    """How many reports."""

    reports: int


@dataclass(frozen=True, slots=True)
class Switched:
    """Whether the trust's release stands still."""

    is_stopped: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class Reports:
    """A list of reports."""

    reports: tuple[ReportLine, ...]
    is_whole: bool
    """False: there are more than were asked for."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Which report is meant, by the number that the trust gave it."""

    report_number: Name


@dataclass(frozen=True, slots=True)
class Named:
    """A report, and the version of it that was verified last: whoever says something of it names both."""

    report_id: str
    version_id: str | None
    """None: nothing of it is verified."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A report that was not acknowledged together with others."""

    report_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of acknowledgements together; of those that stand in neither list it was noted already."""

    acknowledged: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Messages that could not be read or filed."""

    messages: tuple[DeadLetterLine, ...]
    is_whole: bool
    """False: there are more, which come once some of these are settled."""


class Desk(Protocol):
    """Views and acts. Raises `NotFound` for what is not the caller's trust's, `InvalidRequest` for what may not be."""

    async def refused(self, staff: Caller, operation: str, report_id: str, why: str) -> None:
        """Record what a proven caller asked for and was refused; raises a `ServiceFault` where it cannot be."""

    async def board(self, staff: Caller) -> Board:
        """How release stands in the caller's trust."""

    async def reports(self, staff: Caller, asked: Asked) -> Reports:
        """Reports of the trust."""

    async def named(self, staff: Caller, numbered: Numbered) -> Named:
        """How a report of the trust is named here."""

    async def explained(self, staff: Caller, report_id: str) -> Explained:
        """What will happen to a report, when, and why."""

    async def dead_letters(self, staff: Caller) -> DeadLetters:
        """Messages of the trust's feeds that wait for a person."""

    async def hold(self, staff: Caller, report_id: str, body: NewHold) -> Done:
        """Keep a report back."""

    async def end_hold(self, staff: Caller, report_id: str, hold_id: str, body: Reasoned) -> Done:
        """End a hold."""

    async def release_early(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Let a version go before its time (REL-42)."""

    async def retract(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Take a released version back (REL-25)."""

    async def review(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Let a child's report go (SAF-65)."""

    async def settle_patient(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Say that a report is of the patient whom its standing version names (SAF-33)."""

    async def settle_delivery(self, staff: Caller, report_id: str, body: Settlement) -> Done:
        """Say what became of a document of which nobody knew."""

    async def acknowledge(self, staff: Caller, report_id: str, body: Acknowledgement) -> Done:
        """Note who has read a report, and when."""

    async def acknowledge_many(self, staff: Caller, body: Acknowledgements) -> Acknowledged:
        """Note who has read several reports, and when; raises `NotFound` where one of them is not the trust's."""

    async def follow_up(self, staff: Caller, report_id: str, body: FollowUp) -> Done:
        """Note what was done for the patient."""

    async def prove_dispatch(self, staff: Caller, report_id: str, body: Dispatch) -> Done:
        """Note that the referrer was sent the report."""

    async def link(self, staff: Caller, report_id: str, body: NewLink) -> Done:
        """Say of which study a report is."""

    async def unlink(self, staff: Caller, report_id: str, body: WrongLink) -> Done:
        """Say of which study a report is not."""

    async def stop(self, staff: Caller, body: NewStop) -> Switched:
        """Stop the trust's release."""

    async def restart(self, staff: Caller, body: Reasoned) -> Switched:
        """Let the trust's release go on."""

    async def retrospective(self, staff: Caller, span: Span) -> Counted:
        """How many reports an approval of this span would let go."""

    async def approve_retrospective(self, staff: Caller, body: Approval) -> Counted:
        """Let them go; raises `InvalidRequest` if they are not as many as the preview gave."""
