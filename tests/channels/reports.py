"""A report and its rendering as channels are given them."""

from __future__ import annotations

from datetime import UTC, date, datetime

from gateway.model.reporting.channels import Addressee, PatientReport, Rendering, Section
from gateway.model.reporting.incoming import Practitioner
from policy.parties import NhsNumber, TrustId

AT = datetime(2026, 6, 29, 8, 15, tzinfo=UTC)
SARAH = Addressee(NhsNumber.parse("9990000018"), "O'Shea", "Sarah", date(1980, 2, 29))
REPORT = PatientReport(
    report_id="r-1",
    document_key="document-1",
    trust=TrustId("RZ1"),
    trust_name="North Trust",
    addressee=SARAH,
    exam_name="X-ray of the chest",
    exam_on=date(2026, 5, 30),
    ordering_team="Respiratory",
    contact="01632 960001",
    referrer=Practitioner("C1234567", "Dr B Referrer", "Respiratory"),
    sections=(Section("v-1", False, AT, "Dr A Roentgen", "The lungs are clear."),),
    released_at=AT,
)
RENDERING = Rendering("<!DOCTYPE html><title>t</title>", "The lungs are clear.\n", b"%PDF-1.7 made")


class Numbers:
    """Identifiers that can be told in a test."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> str:
        self._last += 1
        return f"id-{self._last}"


def now() -> datetime:
    """The instant of the test."""
    return AT
