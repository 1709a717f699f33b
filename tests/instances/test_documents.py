"""Documents: reports can be read without a viewer, drafts say what they are, and no word of them becomes markup."""

from __future__ import annotations

import json
import struct
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.instances.description import describe
from gateway.instances.documents import DEPTH_MAX, Report, read_report, wrapped_document
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.imaging import Attributes
from tests.instances.real import real_file
from tests.instances.test_coercion import encoded


def report(body: bytes, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> Report:
    """The report that an encoded instance is."""
    found = describe(body, transfer_syntax, is_whole=True)
    assert found is not None
    return read_report(cast("Attributes", json.loads(found.json)))


def code(meaning: str, value: str = "X") -> Dataset:
    """A coded concept."""
    found = Dataset()
    found.CodeValue, found.CodeMeaning = value, meaning
    return found


def item(kind: str, concept: str, **values: object) -> Dataset:
    """An item of content."""
    found = Dataset()
    found.ValueType = kind
    found.ConceptNameCodeSequence = [code(concept)]
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def written(*items: Dataset, **values: object) -> bytes:
    """A report of these items."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientName = "TEST^ANNE"
    found.PatientID = "9990000018"
    found.ConceptNameCodeSequence = [code("Chest X-ray")]
    found.ContentSequence = list(items)
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return encoded(found, EXPLICIT_VR_LITTLE_ENDIAN)


def measured(value: str, unit: str) -> Dataset:
    """A number with its unit."""
    found = Dataset()
    found.NumericValue = value
    found.MeasurementUnitsCodeSequence = [code("unit", unit)]
    return found


def test_a_report_is_lines_of_what_was_found() -> None:
    image = Dataset()
    image.ReferencedSOPInstanceUID = "1.2.3"
    body = written(
        item(
            "CONTAINER",
            "Findings",
            ContentSequence=[
                item("TEXT", "Finding", TextValue="No lesion\r\nin the lung"),
                item("NUM", "Diameter", MeasuredValueSequence=[measured("12.5", "mm")]),
                item("NUM", "Count", MeasuredValueSequence=[measured("2", "{no units}")]),
                item("CODE", "Side", ConceptCodeSequence=[code("Left")]),
                item("PNAME", "Observer", PersonName="DOE^JANE"),
                item("IMAGE", "Source", ReferencedSOPSequence=[image]),
                item("SCOORD", "Place"),
            ],
        ),
        CompletionFlag="COMPLETE",
        VerificationFlag="VERIFIED",
    )
    assert report(body).text().splitlines() == [
        "Chest X-ray",
        "Complete, verified",
        "Patient: TEST^ANNE",
        "Number: 9990000018",
        "",
        "Findings",
        "  Finding: No lesion",
        "    in the lung",
        "  Diameter: 12.5 mm",
        "  Count: 2",
        "  Side: Left",
        "  Observer: DOE^JANE",
        "  Source: image 1.2.3",
        "  Place: (marked in an image)",
    ]


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({}, "NOT COMPLETE, NOT VERIFIED"),
        ({"CompletionFlag": "PARTIAL", "VerificationFlag": "VERIFIED"}, "NOT COMPLETE, verified"),
        ({"CompletionFlag": "COMPLETE", "VerificationFlag": "UNVERIFIED"}, "Complete, NOT VERIFIED"),
    ],
)
def test_a_draft_says_that_it_is_one(flags: dict[str, str], status: str) -> None:
    assert report(written(item("TEXT", "A", TextValue="b"), **flags)).status == status


def test_a_real_report_is_read() -> None:
    real = real_file("test-SR.dcm")
    found = report(real.body, real.transfer_syntax)
    assert len(found.lines) > 5 and found.text().startswith(found.title)


@given(st.text("<>&\"'/ab=", max_size=20))
def test_no_word_of_a_report_is_markup(words: str) -> None:
    body = written(
        item("TEXT", f"<i>{words}"[:60], TextValue=f"<script>{words}"), item("CONTAINER", f"<h1>{words}"[:60])
    )
    page = report(body).html()
    own = {"<h1>", "</h1>", "<h2>", "</h2>", "<p>", "</p>", "<b>", "</b>"}
    assert "<script" not in page and "<i>" not in page and page.count("<h1>") == 1
    assert all(tag in page for tag in own)


def test_nesting_and_length_are_bounded() -> None:
    nested = item("TEXT", "A")
    for _ in range(DEPTH_MAX + 2):
        nested = item("CONTAINER", "A", ContentSequence=[nested])
    with pytest.raises(InvalidRequest, match="nested deeper"):
        report(written(nested))
    line = {"0040A040": {"vr": "CS", "Value": ["TEXT"]}, "0040A160": {"vr": "UT", "Value": ["a"]}}
    many = {"0040A730": {"vr": "SQ", "Value": [line] * 20_001}}
    with pytest.raises(InvalidRequest, match="lines"):
        read_report(cast("Attributes", many))


def test_what_is_no_report_is_not_found() -> None:
    real = real_file("CT_small.dcm")
    with pytest.raises(NotFound, match="no structured report"):
        report(real.body, real.transfer_syntax)


def element(tag: int, value: bytes) -> bytes:
    """An element without a VR."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def test_a_wrapped_document_is_found_without_being_read() -> None:
    pdf = b"%PDF-1.7 " + bytes(1_000_001)
    body = element(0x00100020, b"9990000018") + element(0x00420011, pdf) + element(0x00420012, b"application/pdf ")
    found = wrapped_document(body[:40], IMPLICIT_VR_LITTLE_ENDIAN)
    assert found is not None and body[found.first : found.first + found.data_bytes] == pdf
    assert wrapped_document(body[:20], IMPLICIT_VR_LITTLE_ENDIAN) is None


@pytest.mark.parametrize("behind", [b"", element(0x7FE00010, b"\0\0")])
def test_an_instance_without_one_says_so(behind: bytes) -> None:
    body = element(0x00100020, b"9990000018") + behind
    with pytest.raises(NotFound, match="wraps no document"):
        wrapped_document(body, IMPLICIT_VR_LITTLE_ENDIAN, is_whole=True)
    with pytest.raises(InvalidRequest):
        wrapped_document(body[:-1] if not behind else body[:12], IMPLICIT_VR_LITTLE_ENDIAN, is_whole=True)
