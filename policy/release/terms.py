"""What a trust has decided about release: every `[default]` of domain.md A and safety.md 5 as a value with its name.

`gateway.toml` names each of them (`[release]` for the region, `[trust.release]` where a trust decides otherwise).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

from policy.release.reports import AlertCategory

LONDON = ZoneInfo("Europe/London")
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class AddendumBeforeRelease(StrEnum):
    """What an addendum does to a report that waits (SAF-60)."""

    JOIN = "join"
    OWN_CLOCK = "own-clock"


class UnderThirteen(StrEnum):
    """Reports of children below 13 (SAF-65)."""

    HOLD_FOR_REVIEW = "hold-for-review"
    RELEASE = "release"


class ThirteenToFifteen(StrEnum):
    """Reports of children from the 13th to the 16th birthday (SAF-65)."""

    OWN_ACCOUNT_ONLY = "own-account-only"
    HOLD_FOR_REVIEW = "hold-for-review"


class WithoutDispatch(StrEnum):
    """At the end of the embargo, without proof that the referrer was sent the report (domain.md A2)."""

    RELEASE_AND_ESCALATE = "release-and-escalate"
    HOLD_AND_ESCALATE = "hold-and-escalate"


@dataclass(frozen=True, slots=True)
class ShorterEvidence:
    """What has to be recorded before an embargo may be shorter than 28 days (REL-46)."""

    go_live_on: date
    national_agreement: str
    practice_statement: str
    approved_by: str


@dataclass(frozen=True, slots=True)
class EmbargoStep:
    """An embargo and the instant from which it counts: for reports verified then or later, and for no other."""

    days: int = 28
    from_at: datetime = LONG_AGO
    evidence: ShorterEvidence | None = None
    """For fewer than 28 days (REL-46, SAF-69)."""
    reason: str = ""
    """For more than 28 days (SAF-69)."""


@dataclass(frozen=True, slots=True)
class AlertWindow:
    """Days and hours in which unacknowledged reports with a CANCER code go out: `[opens, closes)`, London (SAF-68)."""

    weekdays: frozenset[int] = frozenset({0, 1, 2, 3})
    """0 is Monday."""
    opens: time = time(8)
    closes: time = time(12)


@dataclass(frozen=True, slots=True)
class ReleaseTerms:
    """How one trust releases."""

    is_on: bool = True
    go_live_at: datetime | None = None
    """Reports verified before are not released by themselves; None: nothing is released yet."""
    embargo: tuple[EmbargoStep, ...] = (EmbargoStep(),)
    working_days_only: bool = True
    """REL-26."""
    window_opens: time = time(8)
    window_closes: time = time(18)
    verification_future_tolerance_minutes: int = 5
    addendum_before_release: AddendumBeforeRelease = AddendumBeforeRelease.JOIN
    total_delay_max_days: int = 56
    total_delay_alarm_days: int = 42
    correction_after_release_days: int = 28
    correction_contact_working_days: int = 2
    under_13: UnderThirteen = UnderThirteen.HOLD_FOR_REVIEW
    from_13_to_15: ThirteenToFifteen = ThirteenToFifteen.OWN_ACCOUNT_ONLY
    without_dispatch: WithoutDispatch = WithoutDispatch.RELEASE_AND_ESCALATE
    nhs_number_statuses: frozenset[str] = frozenset({"01"})
    """Accepted on the release day: 01 is "number present and verified" (SAF-66)."""
    alert_release_window: AlertWindow = AlertWindow()
    alert_sla_minutes: int = 15
    alert_escalation_minutes: tuple[tuple[AlertCategory, int, int], ...] = (
        (AlertCategory.CRITICAL, 60, 240),
        (AlertCategory.URGENT, 1_440, 2_880),
        (AlertCategory.CANCER, 2_880, 5_760),
        (AlertCategory.UNEXPECTED, 2_880, 5_760),
        (AlertCategory.UNKNOWN, 1_440, 2_880),
    )
    """How long an alert may stay unacknowledged before the deputies are told, and before the results lead is (A8). A
    category that is not named counts as unknown."""
    dispatch_evidence_working_days: int = 1
    reminder_days: tuple[int, ...] = (7, 14, 21)
    alert_warning_days: int = 7
    """So many days before the end an alerted report that nobody acknowledged goes to the team and the lead (A8)."""
    hold_warning_days: int = 3
    """So long before its end a hold of timing is warned of (SAF-64)."""
    hold_review_days_max: int = 28
    """The furthest review date that a hold may name (REL-43)."""
    safeguarding_codes: frozenset[str] = frozenset()
    """Exam codes whose reports hold by themselves (SAF-64)."""
    excluded_codes: frozenset[str] = frozenset()
    """Exam codes that are no reports for patients (REL-56)."""
    letter_for_adults: bool = False
    footnote: str = ""
    back_population_days: int = 365
    """How old a release may be that a patient without an account finds on signing up (REL-41)."""
    channels: tuple[str, ...] = ()
    """Names of `[[channel]]`; at least one (REL-08)."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which days are worked, and where the wall clock hangs."""

    holidays: Collection[date] = frozenset()
    zone: tzinfo = LONDON
