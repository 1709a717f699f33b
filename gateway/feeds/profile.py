"""What has to be known of one feed: whose it is, by what its sender is told, and where its RIS puts things.

No two systems that send reports agree on where the verification time stands, what an alert is called, or which field is
the accession number: each feed has a profile, and nothing of it is guessed from a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from policy.parties import TrustId
from policy.release.reports import AlertCategory

_PLACE = re.compile(r"(?P<segment>[A-Z][A-Z0-9]{2})-(?P<field>[1-9][0-9]?)(?:\.(?P<component>[1-9][0-9]?))?")

NEVER_VERIFICATION = frozenset({"MSH-7", "EVN-2", "ORC-9", "OBR-6", "OBR-7", "OBR-8", "OBR-14", "OBR-36"})
"""Times of messages, orders, exams and specimens: no embargo begins with them (REL-07, domain.md A4)."""


DICOM_FEED = "dicom"
"""How the store doors, by which a trust's callers send reports too, are called among its feeds."""


class FeedKind(StrEnum):
    """How a feed's reports come."""

    HL7 = "hl7"
    FHIR = "fhir"
    DICOM = "dicom"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a message: `OBR-22`, `ZDS-1.1`."""

    segment: str
    field: int
    component: int = 1

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises `ValueError`."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError("a place is named as OBR-22 or ZDS-1.1")
        return cls(found["segment"], int(found["field"]), int(found["component"] or 1))

    def __str__(self) -> str:
        return f"{self.segment}-{self.field}"


@dataclass(frozen=True, slots=True)
class Profile:
    """The habits of one sender."""

    sending_application: str = ""
    """MSH-3.1; empty: any."""
    sending_facility: str = ""
    """MSH-4.1; empty: any."""
    character_set: str = "UNICODE UTF-8"
    """Where MSH-18 is empty."""
    processing_ids: frozenset[str] = frozenset({"P"})
    """MSH-11: training and debugging make no reports of patients."""
    verification_from: Place = Place("OBR", 22)
    accession_from: Place = Place("OBR", 3)
    alert_from: tuple[Place, ...] = (Place("OBX", 8),)
    alert_codes: Mapping[str, AlertCategory] = field(
        default_factory=lambda: MappingProxyType({each.value.upper(): each for each in AlertCategory})
    )
    no_alert_codes: frozenset[str] = frozenset({"N"})
    """Codes at those places that alert nobody; every other one that is not mapped does."""
    alert_words: Mapping[str, AlertCategory] = field(default_factory=lambda: MappingProxyType({}))
    """Words in a text that mark an alert, as they stand there."""
    administrative_from: Place | None = None
    administrative_codes: frozenset[str] = frozenset()
    """Codes at that place that mark an addendum as administrative (SAF-60)."""
    image_link_codes: frozenset[str] = frozenset()
    """OBX-3 of references that lead to images; any other one leads to a part of the report, which did not come."""
    patient_authorities: frozenset[str] = frozenset()
    """Assigning authorities of PID-3, or systems of identifiers, that are the trust's own; an empty one always is."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One sender of reports."""

    name: str
    trust: TrustId
    kind: FeedKind
    patient_issuer: str
    """Issuer of the trust's own patient numbers."""
    profile: Profile = Profile()

    def alert(self, code: str) -> str:
        """What a code at an alert's place means: a category, the code itself where nobody mapped it, or nothing."""
        plain = code.strip().upper()
        if not plain or plain in self.profile.no_alert_codes:
            return ""
        if (category := self.profile.alert_codes.get(plain)) is not None:
            return category.value
        # What is no code may be anything, a name among others: it is an alert, and not repeated.
        return plain if re.fullmatch(r"[A-Z0-9._+-]{1,32}", plain) else AlertCategory.UNKNOWN.value

    def alerts_in(self, text: str) -> frozenset[str]:
        """The categories whose words stand in a text."""
        return frozenset(category.value for words, category in self.profile.alert_words.items() if words in text)
