"""A report as its feed tells of it: versions, what each says of itself, and what stands once all are known.

A report is a set of versions; what stands follows from the set, not from the order in which they came (REL-31). Every
feed's words become `Said` (domain.md A4). Nothing here is about radiology: a report is any verified result (REL-12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType


class Said(StrEnum):
    """What one version says of its own standing."""

    PRELIMINARY = "preliminary"
    """There is a text and nobody vouches for it: never for the patient, for clinicians only so labelled."""
    VERIFIED = "verified"
    """Formally verified: the clock may start."""
    CORRECTED = "corrected"
    """A verified text that takes the place of an earlier one."""
    APPENDED = "appended"
    """A verified addendum: the text before it stands."""
    TAKEN_BACK = "taken-back"
    """A correction that is not verified yet, or a part that was deleted: what stood before may not be shown.

    A verified message that deletes a part brings its `verification`, a correction that is not verified none.
    """
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    """Wrong, for instance of another patient."""


class ZoneKnown(StrEnum):
    """Where the zone of a time came from."""

    STATED = "stated"
    ASSUMED = "assumed"
    """There was none: Europe/London (domain.md A3)."""
    DATE_ONLY = "date-only"
    """No time either: the end of that London day."""


@dataclass(frozen=True, slots=True)
class Verification:
    """When and by whom a version was formally verified. `at` is None where that cannot be read or is not told."""

    at: datetime | None
    by: str = ""
    zone: ZoneKnown = ZoneKnown.STATED


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a report, without its text."""

    version_id: str
    """The same for the same statement, however often and by whatever way it comes (REL-30)."""
    said: Said
    stated_at: datetime
    """Since when it is so, as the feed says: orders versions (REL-31)."""
    received_at: datetime
    """When it was first heard of."""
    verification: Verification | None
    patient: str
    """Whose it is, as the feed says: what `policy.release.whose` compares."""
    text_digest: str
    """Of the text with its spaces evened out; empty: it brings none."""
    has_content: bool
    """Whether it brings something that a person can read: text, or a document. A part of a report is none."""
    promotes: bool = False
    """It brings no content and makes the preliminary one before it final (OBX-11 `U`)."""
    is_administrative: bool = False
    """An addendum that changes nothing for the patient, by the feed's profile (SAF-60)."""
    alerts: frozenset[str] = frozenset()
    """Categories of `AlertCategory`, and codes that nobody mapped, as they came (domain.md A8)."""
    precedence: int = 0
    """Of two sources that say the same at the same instant, the lower one's text is shown."""
    document: str = ""
    """The message that brought it; a structured report is its own, by SOP instance UID."""
    follows: frozenset[str] = frozenset()
    """The structured reports that it says it amends or is added to."""
    sent_at: datetime | None = None
    """When it was sent first; None: its feed tells no such time."""


class AlertCategory(StrEnum):
    """Why a referrer is told at once (domain.md A8)."""

    CRITICAL = "critical"
    URGENT = "urgent"
    CANCER = "cancer"
    UNEXPECTED = "unexpected"
    UNKNOWN = "unknown"
    """A code that nobody mapped: an alert, and reported."""


class Standing(StrEnum):
    """What stands of a report once every version is known."""

    RECEIVED = "received"
    """Nothing of it is verified."""
    VERIFIED = "verified"
    BEING_CORRECTED = "being-corrected"
    """It was verified, and that was taken back (REL-35, `M`)."""
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


class Problem(StrEnum):
    """What keeps a verified report from being released until a person looks (domain.md A3, A5)."""

    VERIFICATION_TIME_INVALID = "verification-time-invalid"
    NO_CONTENT = "no-content"
    PATIENT_CHANGED = "patient-changed"
    """Its versions name more than one patient."""
    PART_DELETED = "part-deleted"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What stands, derived from all versions alone: `policy.release.lifecycle.fold`."""

    standing: Standing
    current: Version | None = None
    """The verified version that stands, original or corrected."""
    content_of: str = ""
    """The version whose content `current` shows: itself, or the preliminary one that it promoted."""
    addenda: tuple[Version, ...] = ()
    """Verified addenda to it, the oldest first."""
    preliminary: Version | None = None
    """The newest text that nobody vouches for, if it is newer than what stands."""
    superseded: tuple[str, ...] = ()
    """Versions that were verified, and neither stand nor repeat what stands; the oldest first."""
    withdrawn: frozenset[str] = frozenset()
    """Versions that a withdrawal or a cancellation has taken away for good, whatever came after it."""
    first_verified_at: datetime | None = None
    """Of any version: from here the longest delay counts (SAF-60a)."""
    clock_started_at: datetime | None = None
    """The verification instant from which `current`'s embargo counts."""
    patient: str = ""
    """Whose it is: all that its versions say of one patient, of two whatever the newest says."""
    stopped_at: datetime | None = None
    """Since when nothing of it stands although it was verified; None: it is not being corrected."""
    problems: frozenset[Problem] = frozenset()
    repeats: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Versions that say again what one that stands says, another source's copy among them, and which one."""
    same_text: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Of each text that stands the versions that said the same before, though something came between."""

    @property
    def texts(self) -> tuple[Version, ...]:
        """What stands verified: the report and its addenda, the oldest first."""
        return () if self.current is None else (self.current, *self.addenda)

    @property
    def newest(self) -> Version | None:
        """The text that a referrer has to read last; an addendum that changes nothing for the patient is none."""
        telling = [each for each in self.addenda if not each.is_administrative]
        return self.current if self.current is None or not telling else telling[-1]
