"""What staff see of reports on their way: lines, explanations and the board, without a word of what a report says.

Command line and API show the same values. Nobody is named here but staff: a report goes by its id and by the number
that its trust gave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from policy.release.circumstances import HoldKind, ReleaseState
from policy.release.reports import Said, Standing


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One report."""

    report_id: str
    trust: str
    report_number: str
    version_id: str | None
    """The text that was verified last: what is said of it names it. None: none was."""
    state: ReleaseState
    standing: Standing
    due_at: datetime | None
    look_at: datetime | None
    held_for: tuple[str, ...]
    flags: tuple[str, ...]
    is_linked: bool
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class ReasonLine:
    """One line of an explanation, with the rule that it comes from."""

    rule: str
    words: str


@dataclass(frozen=True, slots=True)
class VersionLine:
    """One version of a report."""

    version_id: str
    said: Said
    stated_at: datetime
    received_at: datetime
    verified_at: datetime | None
    alerts: tuple[str, ...]
    is_current: bool
    stands: bool
    """It is the current one, or an addendum to it."""
    released_at: datetime | None


@dataclass(frozen=True, slots=True)
class HoldLine:
    """One hold in force."""

    hold_id: str
    report_id: str
    kind: HoldKind
    by: str
    role: str
    reason: str
    placed_at: datetime
    review_on: date


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """What became of a report at one channel."""

    channel: str
    document_key: str
    state: str
    due_at: datetime | None
    released_at: datetime | None
    withdrawn_at: datetime | None
    attempts: int
    words: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What will happen to a report, when, and why."""

    report: ReportLine
    will_be_released_at: datetime | None
    """If nothing else happens; None where nothing will by itself."""
    looked_at_again: datetime | None
    reasons: tuple[ReasonLine, ...]
    study_uids: tuple[str, ...]
    """The studies that it is linked to."""
    versions: tuple[VersionLine, ...]
    holds: tuple[HoldLine, ...]
    deliveries: tuple[DeliveryLine, ...]
    is_acknowledged: bool
    is_dispatch_proven: bool


@dataclass(frozen=True, slots=True)
class Medians:
    """Middle values of the last thirty days, in seconds; None where there was nothing to measure."""

    due_to_released_s: float | None
    verified_to_acknowledged_s: float | None


@dataclass(frozen=True, slots=True)
class Board:
    """How release stands: what the governance of a trust, or of the region, looks at each day."""

    at: datetime
    trust: str
    """Empty: of all trusts."""
    waiting: int
    due: int
    held: int
    overdue_review: int
    held_by_rule: int
    """Kept back by a rule for a working day, and nobody on the staff has taken it up."""
    unacknowledged: int
    undeliverable: int
    retried: int
    """Documents that a channel has not shown or taken away yet though it was asked."""
    unmatched: int
    identity_changed: int
    dead_letters: int
    released_today: int
    is_stopped: bool
    medians: Medians


@dataclass(frozen=True, slots=True)
class DeadLetterLine:
    """A message that could not be read or filed."""

    row_id: str
    trust: str
    feed: str
    kind: str
    problem: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """What an act has led to."""

    report_id: str
    state: ReleaseState
    due_at: datetime | None
    changed: bool
    """False: it was so already."""
