"""A patient's report in every form: the disclaimer once and unaltered, the clinical text untouched, markup as text."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from datetime import UTC, date, datetime

import pypdf
import pytest

from gateway.channels.rendering.forms import render
from gateway.model.reporting.channels import Addressee, PatientReport, Section
from gateway.model.reporting.incoming import Practitioner
from policy.parties import NhsNumber, TrustId

AT = datetime(2026, 6, 29, 8, 15, tzinfo=UTC)
DISCLAIMER = (
    "This report has been sent to the referring clinician (doctor or other healthcare professional) who referred you "
    "for this investigation. If you have any questions, please discuss with your referring clinician."
)
MARKUP = '<script>alert("1")</script> #set page(width: 1cm) {{ 7 * 7 }} & \\emph{x} $x^2$ *bold* @ref'
REPORT = PatientReport(
    report_id="r-1",
    document_key="0123456789",
    trust=TrustId("RZ1"),
    trust_name="North Trust",
    addressee=Addressee(NhsNumber("9990000018"), "O'Shea", "Sarah", date(1980, 2, 29)),
    exam_name="X-ray of the chest",
    exam_on=date(2026, 5, 30),
    ordering_team="Orthopaedics",
    contact="0113 496 0000",
    referrer=Practitioner("C1234567", "Dr B Referrer", "Orthopaedics"),
    sections=(Section("v-1", False, AT, "Dr A Roentgen", "No fracture.\n  The lungs are clear."),),
    released_at=AT,
)


def saying(text: str) -> PatientReport:
    """The report with another text."""
    return replace(REPORT, sections=(replace(REPORT.sections[0], text=text),))


def pages(pdf: bytes) -> str:
    """What a reader copies out of a PDF, with its line breaks as spaces."""
    return " ".join("\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages).split())


def test_the_disclaimer_is_the_one_of_the_guidance() -> None:
    expected = "c53b5da41fb6c41ab81bdff8fef9b81188e56ef8d59aedc0cd4455e2ed0897e7"
    assert hashlib.sha256(DISCLAIMER.encode()).hexdigest() == expected


@pytest.mark.parametrize("large_print", [False, True])
@pytest.mark.parametrize("text", ["No fracture.", MARKUP, "Long. " * 2_000])
def test_every_form_holds_the_disclaimer_exactly_once(text: str, large_print: bool) -> None:
    made = render(saying(text), large_print=large_print)
    assert made.html.count(DISCLAIMER) == 1
    assert made.text.count(DISCLAIMER) == 1
    assert pages(made.pdf).count(DISCLAIMER) == 1


def test_markup_in_a_report_stays_text() -> None:
    made = render(saying(MARKUP))
    assert "<script>" not in made.html
    assert "&lt;script&gt;" in made.html
    assert "49" not in made.html.split("</style>")[1].split("How to reach")[0]
    assert MARKUP in made.text
    for piece in ('<script>alert("1")</script>', "#set page(width: 1cm)", "{{ 7 * 7 }}", "$x^2$", "*bold*", "@ref"):
        assert piece in pages(made.pdf)


def test_an_addendum_stands_beside_its_report_and_says_so() -> None:
    added = Section("v-2", True, AT, "Dr A Roentgen", "Seen again.")
    made = render(replace(REPORT, sections=(*REPORT.sections, added)))
    for form in (made.html, made.text, pages(made.pdf)):
        assert form.index("No fracture.") < form.index("Addition to the report") < form.index("Seen again.")


def test_the_pdf_of_the_source_goes_with_the_cover_that_holds_the_disclaimer() -> None:
    inner = render(saying("As printed.")).pdf
    with_file = replace(REPORT, sections=(replace(REPORT.sections[0], pdf=inner),))
    held = pages(render(with_file).pdf)
    assert held.count("No fracture.") == 1
    assert held.index(DISCLAIMER) < held.index("No fracture.")


def test_the_pdf_is_tagged_and_says_its_language() -> None:
    reader = pypdf.PdfReader(io.BytesIO(render(REPORT).pdf))
    assert {"/StructTreeRoot", "/MarkInfo", "/Lang"} <= set(reader.root_object)
