"""Reports as feeds would bring them, for tests: one patient, one trust, and what a test says otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from gateway.model.reporting.incoming import Content, IncomingReport, Practitioner, ReportSource, Subject
from gateway.model.reporting.seams import FeedMessage
from policy.parties import NhsNumber, PatientId, TrustId
from policy.release.reports import Said, Verification

NORTH = TrustId("RZ1")
FEED = "north-ris"
VERIFIED_AT = datetime(2026, 11, 20, 9, 15, tzinfo=UTC)
RECEIVED_AT = datetime(2026, 11, 20, 9, 16, tzinfo=UTC)
TEXT = "No fracture.\nThe lungs are clear."
SARAH = Subject(
    nhs_number=NhsNumber("9990000018"),
    nhs_number_status="01",
    local=(PatientId("RZ1", "0001234"),),
    family_name="O'Shea",
    given_name="Sarah",
    birth_date=date(1980, 2, 29),
)
OMAR = Subject(nhs_number=NhsNumber("9990000026"), family_name="Haddad", birth_date=date(1975, 7, 1))


def incoming(**otherwise: object) -> IncomingReport:
    """A final report of Sarah's, verified, but for what is said otherwise."""
    plain = IncomingReport(
        trust=NORTH,
        feed=FEED,
        source=ReportSource.HL7_V2,
        message_id="RIS|NORTH|1",
        report_number="R-1",
        said=Said.VERIFIED,
        stated_at=VERIFIED_AT,
        verification=Verification(VERIFIED_AT, "Dr A Roentgen"),
        subject=SARAH,
        content=Content(TEXT),
        received_at=RECEIVED_AT,
        accessions=("A-1",),
        referrer=Practitioner("C1234567", "Dr B Referrer", "Orthopaedics"),
    )
    return replace(plain, **otherwise)  # type: ignore[arg-type]  # by name


def message(*reports: IncomingReport, name: str = "RIS|NORTH|1", raw: bytes = b"", **otherwise: object) -> FeedMessage:
    """A message that holds these reports."""
    plain = FeedMessage(
        trust=NORTH,
        feed=FEED,
        message_id=name,
        kind="ORU^R01",
        received_at=RECEIVED_AT,
        reports=tuple(replace(report, message_id=name) for report in reports),
        raw=raw or f"MSH of {name}".encode(),
    )
    return replace(plain, **otherwise)  # type: ignore[arg-type]  # by name
