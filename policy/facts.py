"""What is known for one access: the registers' rows as plain values.

Every fact has a half-open period `[valid_from, valid_until)` in UTC. A decision sees nothing but these and the
question, so a stored `Facts` replays to the same decision (DEC-14); `policy.record` is that stored form. Knows no
database: `storage.registers` reads them in one snapshot. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from policy.parties import NhsNumber, PurposeOfUse, TrustId


def in_force(valid_from: datetime, valid_until: datetime | None, at: datetime) -> bool:
    """Whether `at` lies in the half-open period; an absent end is open."""
    return valid_from <= at and (valid_until is None or at < valid_until)


class Register(StrEnum):
    """The registers a decision reads. One that cannot be read, or is too old, is a fault and never a fact (SAF-01)."""

    PATIENTS = "patients"
    RELATIONSHIPS = "relationships"
    OPT_OUTS = "opt-outs"
    AGREEMENTS = "agreements"
    LABELS = "labels"
    GRANTS = "grants"


class OrganisationKind(StrEnum):
    """Classes of organisation in the region's directory (SAF-10: only NHS hospital trusts may be enrolled)."""

    NHS_HOSPITAL_TRUST = "nhs-hospital-trust"
    INDEPENDENT_PROVIDER = "independent-provider"
    GENERAL_PRACTICE = "general-practice"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Organisation:
    """An entry of the region's directory: class, and whether it is enrolled at this moment."""

    trust: TrustId
    kind: OrganisationKind
    is_enrolled: bool
    retrieves: bool = field(default=True, metadata={"since": 2})
    """Whether it was signed off for retrieving, both ways: from it and by it. Records of rules before 2 lack it."""
    pushes: bool = field(default=True, metadata={"since": 2})
    """Whether it was signed off for sending images by itself."""


class RelationshipKind(StrEnum):
    """Kinds of care relationship, by their evidence (domain.md B2)."""

    REFERRAL = "referral"
    APPOINTMENT = "appointment"
    ENCOUNTER = "encounter"
    IMAGING_ORDER = "imaging-order"
    EPISODE = "episode"
    MDT = "mdt"
    EMERGENCY_REFERRAL = "emergency-referral"
    SELF_CLAIMED = "self-claimed"


@dataclass(frozen=True, slots=True)
class CareRelationship:
    """A trust's clinicians deliver part of a patient's care. `team` empty: the whole trust; else only that team."""

    relationship_id: str
    trust: TrustId
    kind: RelationshipKind
    team: str
    evidence: str
    valid_from: datetime
    valid_until: datetime | None


class SharingChoice(StrEnum):
    """What a patient has chosen for the regional sharing of images and reports (SHR-07, SHR-08)."""

    OPT_OUT = "opt-out"
    OPT_IN = "opt-in"


@dataclass(frozen=True, slots=True)
class ImplementedChoice:
    """A choice that acts: an implemented case, or a provisional restriction until its case is decided (SAF-23).

    Among choices in force the latest wins by (`effective_at`, `sequence`); see `acting_choice` (SHR-32).
    """

    case_id: str
    choice: SharingChoice
    is_provisional: bool
    effective_at: datetime
    sequence: int
    valid_until: datetime | None
    """End of a provisional restriction; implemented choices have none."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One clause of a custodian trust's sharing agreement, in the version in force.

    Empty `recipients`, `modalities` or `purposes` mean "any"; ages are whole years, `age_max` inclusive.
    """

    agreement_id: str
    version: int
    custodian: TrustId
    recipients: frozenset[TrustId]
    modalities: frozenset[str]
    purposes: frozenset[PurposeOfUse]
    age_min_years: int | None
    age_max_years: int | None
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class SensitiveLabel:
    """A custodian's mark on a study, or on everything of a patient there (`study_uid` empty) (SAF-40).

    Such imaging is seen only for the purposes in `visible_to`, or by the custodian's listed `teams`
    ("<ODS code>:<team>") whatever the purpose.
    """

    label_id: str
    custodian: TrustId
    kind: str
    study_uid: str
    visible_to: frozenset[PurposeOfUse]
    teams: frozenset[str]
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Grant:
    """A time-boxed, reasoned stand-in for a missing care relationship, to one trust or to one person of it (B3)."""

    grant_id: str
    trust: TrustId
    subject: str
    """The person it was given to; empty: the trust's systems (SAF-53)."""
    reason: str
    valid_from: datetime
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known for one patient and one recipient at one instant, from one snapshot.

    `patient` is the surviving NHS number of the internal patient row, or None when the row is unknown: then there are
    no patient facts at all. `faults` names registers that could not be believed; their tuples are then empty and mean
    nothing. `organisations` holds the recipient and every custodian that the directory knows.
    """

    register_version: int
    patient: NhsNumber | None
    organisations: tuple[Organisation, ...]
    relationships: tuple[CareRelationship, ...] = ()
    choices: tuple[ImplementedChoice, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    labels: tuple[SensitiveLabel, ...] = ()
    grants: tuple[Grant, ...] = ()
    faults: frozenset[Register] = frozenset()

    def organisation(self, trust: TrustId) -> Organisation | None:
        """The directory's entry, or None for an unknown code."""
        code = trust.code  # strings compare many times faster than values of a class, and this is asked per row
        for entry in self.organisations:
            if entry.trust.code == code:
                return entry
        return None

    def acting_choice(self, at: datetime) -> ImplementedChoice | None:
        """The choice that rules at `at`."""
        return acting_choice(self.choices, at)


def acting_choice(choices: Collection[ImplementedChoice], at: datetime) -> ImplementedChoice | None:
    """The choice that rules at `at`: of those in force the latest by effective time, then sequence (SHR-32).

    Two that tie in both come of a fault in the register; then the opt-out rules.
    """
    if not choices:
        return None
    acting = [choice for choice in choices if in_force(choice.effective_at, choice.valid_until, at)]
    return max(acting, key=_rank, default=None)


def standing_opt_outs(choices: Collection[ImplementedChoice], at: datetime) -> tuple[ImplementedChoice, ...]:
    """The opt-outs among `choices` that no opt-in of theirs has lifted at `at`, those still to come among them."""
    ruling = acting_choice(choices, at)
    lifted = ruling if ruling is not None and ruling.choice is SharingChoice.OPT_IN else None
    return tuple(
        choice
        for choice in choices
        if choice.choice is SharingChoice.OPT_OUT and (lifted is None or _rank(choice) > _rank(lifted))
    )


def _rank(choice: ImplementedChoice) -> tuple[datetime, int, bool]:
    return choice.effective_at, choice.sequence, choice.choice is SharingChoice.OPT_OUT
