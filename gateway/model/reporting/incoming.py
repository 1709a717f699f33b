"""One version of one report as a feed gave it, whatever the feed: HL7 v2, FHIR, DICOM SR, encapsulated PDF.

Feeds translate into this and know nothing of clocks and embargoes; whoever takes it in knows nothing of segments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from urllib.parse import quote

from policy.parties import NhsNumber, PatientId, TrustId
from policy.release.reports import Said, Verification


class ReportSource(StrEnum):
    """In what form a report came; the order is that in which their texts are preferred."""

    HL7_V2 = "hl7-v2"
    FHIR = "fhir"
    DICOM_SR = "dicom-sr"
    DICOM_PDF = "dicom-pdf"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose report it is, as its feed says."""

    nhs_number: NhsNumber | None = None
    nhs_number_status: str = ""
    """Code of NHS Number Status Indicator, where the feed has it."""
    local: tuple[PatientId, ...] = ()
    family_name: str = ""
    given_name: str = ""
    birth_date: date | None = None

    @property
    def key(self) -> str:
        """Every number that names the patient: no spelling of a name makes another person (`policy.release.whose`)."""
        numbers = {f"{quote(each.issuer)}:{quote(each.value)}" for each in self.local}
        if self.nhs_number is not None:
            numbers.add(f"nhs:{self.nhs_number.digits}")
        return "|".join(sorted(numbers))


@dataclass(frozen=True, slots=True)
class Practitioner:
    """A professional, as a feed names one."""

    identifier: str = ""
    name: str = ""
    team: str = ""


@dataclass(frozen=True, slots=True)
class Exam:
    """What was examined, as far as the feed says."""

    codes: tuple[str, ...] = ()
    name: str = ""
    modality: str = ""
    body_region: str = ""
    at: datetime | None = None
    """When; never the start of an embargo."""


@dataclass(frozen=True, slots=True)
class Content:
    """What can be read. Text is plain, line ends are "\\n", whatever markup it held stands in it as characters."""

    text: str = ""
    pdf: bytes = b""
    elsewhere: tuple[str, ...] = ()
    """Parts that are named and did not come: whoever reads the rest does not have the report (REL-45)."""

    @property
    def digest(self) -> str:
        """SHA-256, hex, of the text with its spaces evened out, of the document and of what is named beside them.

        Empty where there is nothing of it.
        """
        if self.is_empty:
            return ""
        evened = " ".join(self.text.split())
        named = "".join(f"\0{each}" for each in self.elsewhere)
        return hashlib.sha256(evened.encode() + b"\0" + hashlib.sha256(self.pdf).digest() + named.encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a report came, not even where it is."""
        return not self.text.strip() and not self.pdf and not self.elsewhere

    @property
    def is_whole(self) -> bool:
        """Whether there is something to read, and no part of it lies elsewhere."""
        return not self.is_empty and not self.elsewhere


@dataclass(frozen=True, slots=True)
class IncomingReport:
    """One version of one report."""

    trust: TrustId
    """Whose report it is: that of the feed, never what a message claims."""
    feed: str
    source: ReportSource
    message_id: str
    """Names the message for its sender: MSH-3, MSH-4 and MSH-10; a resource's id and version; a SOP Instance UID."""
    report_number: str
    """The trust's own name of the report: filler order number, else accession number, else what the source has."""
    said: Said
    stated_at: datetime
    verification: Verification | None
    subject: Subject
    content: Content
    received_at: datetime
    promotes: bool = False
    is_administrative: bool = False
    alert_codes: tuple[str, ...] = ()
    accessions: tuple[str, ...] = ()
    """Accession numbers as the trust issues them; the trust is their issuer."""
    order_numbers: tuple[str, ...] = ()
    """Every filler order number that it names; empty where it is known by an accession number or otherwise."""
    resource_id: str = ""
    """How the server that sends it names it for good, whatever else one message tells of it: the id of a resource."""
    placer_numbers: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    """Of a structured report the ones that it says it amends or is added to, by SOP instance UID."""
    study_uids: tuple[str, ...] = ()
    exam: Exam = Exam()
    referrer: Practitioner = Practitioner()
    interpreter: Practitioner = Practitioner()
    raw: bytes = field(default=b"", repr=False)
    """The message as it came, kept sealed."""
    sent_at: datetime | None = None
    """When its sender says that it was sent, whatever it is of."""
