"""Documents as other systems read them: DCMTK takes them for reports, and no word of a report becomes anything else."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO

from gateway.instances.reporting.reading import Arrival, read
from gateway.instances.reporting.writing import (
    TRANSFER_SYNTAX,
    Document,
    Form,
    Marking,
    encoded,
    every_ref,
    ref_of,
)
from gateway.model.reporting.incoming import Content, Exam, Practitioner
from policy.release.reports import Said, Verification
from tests.clinicians.ward import SMITH, TEXT, VERIFIED_AT, reported
from tests.retrieval.travels import STUDY
from tests.sharing.rows import RZ2


def document(
    text: str = TEXT, *, marking: Marking = Marking.CURRENT, form: Form = Form.TEXT, pdf: bytes = b""
) -> Document:
    """A version of Anne's report."""
    content = replace(reported(), content=Content(text, pdf))
    return Document("r1", "v1", STUDY, form, marking, False, 1, content, "v1", content.verification, "ROENTGEN^ADA")


def dumped(tool: str, body: bytes, folder: Path) -> str:
    """What a tool of DCMTK makes of an encoded data set."""
    path = folder / "document.dcm"
    path.write_bytes(body)
    done = subprocess.run([*tool.split(), "-f", "-te", str(path)], capture_output=True, check=True, timeout=30)
    assert b"\nE: " not in b"\n" + done.stderr, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("marking", list(Marking))
def test_dcmtk_reads_every_standing_as_a_basic_text_report(marking: Marking, tmp_path: Path) -> None:
    before = (ref_of("r1", "v0", STUDY, Form.TEXT, Marking.SUPERSEDED),)
    body = encoded(replace(document(marking=marking), predecessors=before))
    told = dumped("dsrdump +Pl", body, tmp_path)
    assert "Basic Text SR Document" in told
    assert marking.notice in told
    assert ("No fracture." in told) == (marking is not Marking.WITHDRAWN)
    assert ("PARTIAL" in told) == ("UNVERIFIED" in told) == (marking is Marking.PRELIMINARY)
    html = dumped("dsr2html", body, tmp_path)
    assert ("The lungs are clear." in html) == (marking is not Marking.WITHDRAWN)


def test_a_pdf_is_wrapped_at_its_real_length(tmp_path: Path) -> None:
    pdf = b"%PDF-1.7\nodd\n%%EOF"
    body = encoded(document(form=Form.PDF, pdf=pdf))
    stream = DicomBytesIO(body)
    found = dcmread(stream, force=True)
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength] == pdf
    assert (found.Modality, found.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert "EncapsulatedDocument" in dumped("dcmdump", body, tmp_path)


def test_a_document_read_again_is_the_report_that_was_written() -> None:
    found = read(encoded(document()), TRANSFER_SYNTAX, Arrival(RZ2, "dicom", VERIFIED_AT, SMITH))
    assert found.content.text == "Finding: No fracture.\n  The lungs are clear."
    assert (found.said, found.report_number, found.accessions) == (Said.VERIFIED, "R1", ("ACC00001",))
    assert found.verification == Verification(VERIFIED_AT, "ROENTGEN^ADA")


def test_a_report_whose_verification_has_no_time_does_not_say_that_it_is_verified() -> None:
    undated = replace(document(), verification=Verification(None))
    assert dcmread(DicomBytesIO(encoded(undated)), force=True).VerificationFlag == "UNVERIFIED"


def test_each_standing_and_form_is_an_instance_of_its_own_and_always_the_same() -> None:
    refs = every_ref("r1", "v1", STUDY)
    assert len({ref.sop_uid for ref in refs}) == len({ref.series_uid for ref in refs}) == len(Marking) * len(Form)
    assert refs == every_ref("r1", "v1", STUDY)
    assert encoded(document()) == encoded(document())


@given(st.text(max_size=200))
def test_the_words_of_a_report_stay_its_words(text: str) -> None:
    found = dcmread(DicomBytesIO(encoded(document(f"begin {text} end"))), force=True)
    [item] = found.ContentSequence
    said = str(item.TextValue)
    assert said.startswith("begin ") and said.endswith(" end")
    assert found.PatientID == "9990000018"
    printable = "".join(letter for letter in text if letter.isalnum() and letter.isascii())
    assert "".join(letter for letter in said[6:-4] if letter.isalnum() and letter.isascii()) == printable


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=80))
def test_nothing_in_a_name_becomes_an_attribute_of_its_own(family: str, referrer: str, exam: str) -> None:
    plain = document()
    said = replace(
        plain.content,
        subject=replace(SMITH, family_name=family),
        referrer=Practitioner(name=referrer),
        exam=Exam(name=exam, at=VERIFIED_AT),
    )
    found = dcmread(DicomBytesIO(encoded(replace(plain, content=said, verified_by=referrer))), force=True)
    assert (found.PatientID, found.IssuerOfPatientID, found.VerificationFlag) == ("9990000018", "NHS", "VERIFIED")
    assert {element.keyword for element in found} <= {element.keyword for element in whole_of(plain)} | {""}
    assert found.ContentSequence[0].TextValue.startswith("No fracture.")


def whole_of(written: Document) -> Dataset:
    """What pydicom reads of it."""
    return dcmread(DicomBytesIO(encoded(written)), force=True)
