"""What beside its own versions bears on a report at one instant, and the plan that follows from all of it.

`policy.release.planning.plan` goes from the one to the other; it knows no database and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType


class HoldKind(StrEnum):
    """Why a person, or a rule, keeps a report back (REL-43, REL-50 to 53, SAF-64)."""

    TIMING = "timing"
    """A clinician wants to speak first: ends by itself at its date, after warning."""
    SERIOUS_HARM = "serious-harm"
    SAFEGUARDING = "safeguarding"
    THIRD_PARTY = "third-party"
    LEGAL = "legal"
    IDENTITY = "identity"
    WRONG_PATIENT = "wrong-patient"
    PATIENT_REQUEST = "patient-request"
    """Not now, says the patient."""
    PORTAL_PAUSE = "portal-pause"
    """REL-22, REL-55."""

    @property
    def ends_by_itself(self) -> bool:
        """Only holds of timing do (SAF-64)."""
        return self is HoldKind.TIMING


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold in force."""

    hold_id: str
    kind: HoldKind
    by: str
    role: str
    reason: str
    placed_at: datetime
    review_on: date
    """When somebody has to look again, or, of a hold of timing, from when on it is over (00:00 London)."""


class IdentityAgreement(StrEnum):
    """NHS number, name and date of birth of the report against a fresh trace (SAF-66)."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    NOT_TRACED = "not-traced"
    """Nobody could be asked, or nobody knows the number: looked at again, and not released meanwhile."""


class Death(StrEnum):
    """What the trace says of death (SAF-66, REL-44)."""

    NO = "no"
    INFORMAL = "informal"
    FORMAL = "formal"


@dataclass(frozen=True, slots=True)
class Traced:
    """The patient on the day."""

    at: datetime
    agreement: IdentityAgreement
    birth_date: date | None = None
    nhs_number_status: str = ""
    death: Death = Death.NO


@dataclass(frozen=True, slots=True)
class EarlyRelease:
    """A professional of the owning trust lets a version go before its time (REL-24, REL-42)."""

    version_id: str
    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything else that counts."""

    has_nhs_number: bool = True
    version_count: int = 1
    """How many its feeds have sent of it in all."""
    exam_codes: frozenset[str] = frozenset()
    birth_date: date | None = None
    """By the report."""
    holds: tuple[Hold, ...] = ()
    early: tuple[EarlyRelease, ...] = ()
    reviewed_versions: frozenset[str] = frozenset()
    """Versions of a child, or of a safeguarding exam, that a professional has reviewed and let go (SAF-64, SAF-65)."""
    seen: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    """Versions that stand before the patient at some channel, and since when."""
    ever_released: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    """Versions that once did, and from when on."""
    retracted: frozenset[str] = frozenset()
    """Versions that a professional took back after their release (REL-25)."""
    traced: Traced | None = None
    """None: not asked yet; asked once the time has come."""
    is_dispatch_proven: bool = False
    is_acknowledged: bool = False
    is_stopped: bool = False
    """The trust's stop switch (SAF-69)."""
    is_retrospective_approved: bool = False
    """Its verification lies before go-live, and a named approver lets those go (SAF-69)."""


class ReleaseState(StrEnum):
    """Where a report is on its way to its patient (domain.md A5)."""

    RECEIVED = "received"
    EMBARGOED = "embargoed"
    DUE = "due"
    """Its time has come, and no channel has confirmed it yet."""
    RELEASED = "released"
    HELD = "held"
    BEING_CORRECTED = "being-corrected"
    RETRACTED = "retracted"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"
    NOT_FOR_RELEASE = "not-for-release"
    """Verified before go-live, or an exam whose reports are not for release (REL-56)."""


class TakenBackFor(StrEnum):
    """Why a version that the patient can see is shown no more; each has its own neutral text."""

    CORRECTION = "correction"
    WRONG = "wrong"
    RETRACTION = "retraction"
    HOLD = "hold"


class Flag(StrEnum):
    """What a person should know of it, whatever its state."""

    UNACKNOWLEDGED = "unacknowledged"
    DISPATCH_NOT_PROVEN = "dispatch-not-proven"
    DELAY_ALARM = "delay-alarm"
    """Addenda have kept it for longer than `total_delay_alarm_days`."""
    HELD_BY_RULE = "held-by-rule"
    """A rule keeps it back, nobody on the staff has taken it up by a hold, and a working day has begun since."""
    HOLD_OVERDUE = "hold-overdue"
    """Somebody should have looked at a hold, or at what a rule keeps back."""
    HOLD_TO_CALDICOTT = "hold-to-caldicott"
    """Overdue for five working days (SAF-64)."""
    HOLD_ENDING = "hold-ending"
    """A hold of timing ends by itself in a few days."""
    CORRECTION_CONTACT_DUE = "correction-contact-due"
    NOT_VERIFIED_AGAIN = "not-verified-again"
    """It was taken back to be corrected, and `correction_contact_working_days` later nothing of it is verified."""
    ADDENDUM_AFTER_RELEASE = "addendum-after-release"
    WRONG_PATIENT = "wrong-patient"
    """It was withdrawn as wrong, is held as somebody else's, or names more than one patient: an incident (REL-36)."""
    WORD_OF_UNKNOWN = "word-of-unknown"
    """It was withdrawn, cancelled, taken back or added to, and nobody has sent the report itself: it was lost on its
    way, or another one is meant.
    """
    ZONE_ASSUMED = "zone-assumed"


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of an explanation."""

    rule: str
    """`REL-26`, `SAF-60a`."""
    words: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, when to look again, and why."""

    state: ReleaseState
    due_at: datetime | None = None
    """When the next text goes to the patient if nothing else happens; None where nothing will by itself."""
    look_at: datetime | None = None
    """When to plan anew although nothing has happened; None: only an event changes anything."""
    gives: tuple[str, ...] = ()
    """Versions that the patient is to see from now on: the report first, then its addenda; empty: none."""
    takes_back: tuple[str, ...] = ()
    """Versions that the patient can see and may not any more."""
    taken_back_for: TakenBackFor | None = None
    held_for: tuple[str, ...] = ()
    """Kinds of holds and names of `Problem`, and `deceased`, `child`, `no-nhs-number`, `too-many-versions`, `stopped`.

    Also `dispatch-not-proven`, where the trust holds for it.
    """
    needs_trace: bool = False
    """Its time has come: the patient is to be traced before anything is given."""
    flags: frozenset[Flag] = frozenset()
    reasons: tuple[Reason, ...] = ()
