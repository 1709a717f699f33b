"""Coercion: pydicom reads the source with the changes made in it, and every other byte is the source's."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.instances.coercion import UNCHANGED, Changes, Coercion, plan
from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_LOSSLESS_SV1,
)
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import Element
from tests.instances.real import Real, real_file, real_files

SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
OTHERS: Element = {
    "vr": "SQ",
    "Value": [
        {"00100020": {"vr": "LO", "Value": ["9990000018"]}, "00100021": {"vr": "LO", "Value": ["NHS"]}},
        {"00100020": {"vr": "LO", "Value": ["RJ1-77"]}},
    ],
}
IDENTIFIERS: Mapping[str, Element | None] = {
    "00100020": {"vr": "LO", "Value": ["M123456"]},
    "00100021": {"vr": "LO", "Value": ["RYJ"]},
    "00101002": OTHERS,
    "00100024": None,
}


def text(value: str) -> Element:
    """One value of text."""
    return {"vr": "LO", "Value": [value]}


def coerced(body: bytes, transfer_syntax: str, changes: Changes) -> bytes:
    """The whole coerced data set."""
    found = plan(body, transfer_syntax, changes, is_whole=True)
    assert found is not None
    whole = found.prefix + body[found.replaces :]
    assert len(whole) == found.data_bytes(len(body))
    return whole


def parsed(body: bytes, transfer_syntax: str) -> Dataset:
    """The data set as pydicom reads it, everything in it read."""
    uid = transfer_syntax.encode() + b"\0" * (len(transfer_syntax) % 2)
    syntax = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", len(uid)) + uid
    meta = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(syntax)) + syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = dcmread(BytesIO(bytes(128) + b"DICM" + meta + body))
        for _ in read.iterall():
            pass
    return read


def changed(source: Dataset, changes: Changes) -> Dataset:
    """The source with the changes made, by pydicom."""
    for tag, element in changes.items():
        source.pop(int(tag, 16), None)
        source.pop(int(tag[:4] + "0000", 16), None)
        if element is not None:
            source.add(DataElement.from_json(Dataset, tag, str(element["vr"]), element.get("Value"), "Value"))
    source.pop(0x00080001, None)
    return source


def values(dataset: Dataset) -> dict[int, tuple[str, object]]:
    """What a data set holds, by tag."""
    return {
        int(element.tag): (
            element.VR,
            [values(item) for item in element.value] if element.VR == "SQ" else repr(element.value),
        )
        for element in dataset
        if element.tag != 0x00080005
    }


def encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    """A data set as pydicom writes it."""
    stream = DicomBytesIO()
    stream.is_implicit_VR = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    stream.is_little_endian = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    write_dataset(stream, dataset)
    return bytes(stream.getvalue())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("real", real_files(), ids=lambda real: str(real.name))
def test_real_instances_say_the_new_identifiers_and_otherwise_what_they_said(real: Real) -> None:
    if real.name == "emri_small_jpeg_2k_lossless_too_short.dcm":
        return  # pydicom skips its whole header
    body = coerced(real.body, real.transfer_syntax, IDENTIFIERS)
    before = changed(parsed(real.body, real.transfer_syntax), IDENTIFIERS)
    assert values(parsed(body, real.transfer_syntax)) == values(before)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm"])
def test_what_is_said_already_leaves_every_byte(name: str) -> None:
    real = real_file(name)
    assert plan(real.body, real.transfer_syntax, {}) == UNCHANGED
    assert coerced(real.body, real.transfer_syntax, {"00100020": text(str(real.read.PatientID))}) == real.body


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "JPEG2000.dcm"])
def test_pixels_are_never_needed_and_never_in_the_prefix(name: str) -> None:
    real = real_file(name)
    head = real.body[:4_096] if name != "rtplan.dcm" else real.body
    found = plan(head, real.transfer_syntax, IDENTIFIERS, is_whole=name == "rtplan.dcm")
    assert found is not None
    assert found.replaces < 2_500
    assert found == plan(real.body, real.transfer_syntax, IDENTIFIERS, is_whole=True)


def test_more_is_asked_for_until_the_beginning_is_long_enough() -> None:
    real = real_file("CT_small.dcm")
    found: Coercion | None = None
    for size in range(0, 6_000, 50):
        before, found = found, plan(real.body[:size], real.transfer_syntax, IDENTIFIERS)
        assert before is None or before == found
    assert found is not None


ELEMENTS = {
    0x00080016: ("UI", st.just("1.2.840.10008.5.1.4.1.1.2")),
    0x00080060: ("CS", st.sampled_from(["CT", "MR"])),
    0x00081030: ("LO", st.text("Aäé", max_size=9)),
    0x00090010: ("LO", st.just("HOUSE")),
    0x00091001: ("OB", st.binary(max_size=600).map(lambda found: found + b"\0" * (len(found) % 2))),
    0x00100010: ("PN", st.sampled_from(["Müller^Jörg", "SMITH^ANNE", ""])),
    0x00100020: ("LO", st.text("0123456789", max_size=10)),
    0x00100021: ("LO", st.sampled_from(["NHS", "RJ1"])),
    0x00100030: ("DA", st.just("19700101")),
    0x00104000: ("LT", st.text("x y", max_size=300)),
    0x0020000D: ("UI", st.just("1.2.3")),
    0x00280010: ("US", st.integers(0, 0xFFFF)),
    0x00324000: ("LT", st.just("late")),
}
CHANGED = ["00100010", "00100020", "00100021", "00101002", "00104000", "00080050", "00321032"]


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """Small data sets, with sequences of open and of closed length that hold identifiers of their own."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 100"
    for tag in draw(st.sets(st.sampled_from(sorted(ELEMENTS)))):
        vr, value = ELEMENTS[tag]
        found.add_new(tag, vr, draw(value))
    for tag in draw(st.sets(st.sampled_from([0x00081115, 0x00101002, 0x00400275]))):
        item = Dataset()
        item.PatientID = "inner"
        item.is_undefined_length_sequence_item = draw(st.booleans())
        deeper = Dataset()
        deeper.PatientName = "Ärger"
        item.ReferencedStudySequence = [deeper]
        item["ReferencedStudySequence"].is_undefined_length = draw(st.booleans())
        found.add_new(tag, "SQ", [item] * draw(st.integers(0, 2)))
        found[tag].is_undefined_length = draw(st.booleans())
    return found


CHANGES = st.dictionaries(
    st.sampled_from(CHANGED),
    st.one_of(st.none(), st.sampled_from(["", "A", "9990000018", "Zoë"])),
).map(
    lambda found: {
        tag: None
        if value is None
        else OTHERS
        if tag == "00101002"
        else {"vr": "PN", "Value": [{"Alphabetic": value}]}
        if tag == "00100010"
        else {"vr": {"00104000": "LT", "00080050": "SH"}.get(tag, "LO"), "Value": [value]}
        if tag != "00321032"
        else {"vr": "PN", "Value": [{"Alphabetic": value}]}
        for tag, value in found.items()
    }
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(dataset=datasets(), changes=CHANGES, transfer_syntax=st.sampled_from(SYNTAXES))
def test_any_change_reads_as_the_source_with_the_change_made(
    dataset: Dataset, changes: Changes, transfer_syntax: str
) -> None:
    source = encoded(dataset, transfer_syntax)
    body = coerced(source, transfer_syntax, changes)
    assert values(parsed(body, transfer_syntax)) == values(changed(parsed(source, transfer_syntax), changes))
    tags = [int(element.tag) for element in parsed(body, transfer_syntax)]
    assert tags == sorted(tags)


@given(dataset=datasets(), changes=CHANGES)
def test_a_deflated_instance_is_deflated_again(dataset: Dataset, changes: Changes) -> None:
    plain = encoded(dataset, EXPLICIT_VR_LITTLE_ENDIAN)
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = coerced(stream.compress(plain) + stream.flush(), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, changes)
    assert len(body) % 2 == 0 or not changes
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(body) == coerced(plain, EXPLICIT_VR_LITTLE_ENDIAN, changes)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element of short length in Explicit VR Little Endian."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


BIRTH = element(0x00100030, b"DA", b"19700101")
ROWS = element(0x00280010, b"US", b"\x02\0")


def test_an_element_that_stands_too_late_is_not_left_beside_the_new_one() -> None:
    source = BIRTH + element(0x00200010, b"SH", b"S1") + element(0x00100020, b"LO", b"OLD ") + ROWS
    body = coerced(source, EXPLICIT_VR_LITTLE_ENDIAN, {"00100020": text("NEW1")})
    new = element(0x00100020, b"LO", b"NEW1")
    assert body == new + BIRTH + element(0x00200010, b"SH", b"S1") + ROWS


def test_lengths_of_changed_groups_go_and_those_of_others_stay() -> None:
    of_study, of_patient = element(0x00080000, b"UL", b"\x0a\0\0\0"), element(0x00100000, b"UL", b"\x10\0\0\0")
    to_end, modality = element(0x00080001, b"UL", b"\xff\0\0\0"), element(0x00080060, b"CS", b"CT")
    source = of_study + to_end + modality + of_patient + BIRTH + ROWS
    body = coerced(source, EXPLICIT_VR_LITTLE_ENDIAN, {"00100020": text("NEW1")})
    assert body == of_study + modality + element(0x00100020, b"LO", b"NEW1") + BIRTH + ROWS


@pytest.mark.parametrize(
    ("declared", "written"),
    [(b"ISO_IR 100", b"Zo\xeb "), (b"ISO_IR 192", b"Zo\xc3\xab"), (b"ISO_IR 144", None), (b"", None)],
)
def test_text_is_written_in_the_instance_s_own_character_set_or_not_at_all(
    declared: bytes, written: bytes | None
) -> None:
    source = element(0x00080005, b"CS", declared) + ROWS
    if written is None:
        with pytest.raises(InvalidRequest, match="character set lacks"):
            coerced(source, EXPLICIT_VR_LITTLE_ENDIAN, {"00100020": text("Zoë")})
    else:
        assert written in coerced(source, EXPLICIT_VR_LITTLE_ENDIAN, {"00100020": text("Zoë")})


@pytest.mark.parametrize("value", ["A\\B", "A\nB", "A\0B"])
def test_a_value_that_would_end_where_another_begins_is_refused(value: str) -> None:
    nested: Element = {"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": [value]}}]}
    for changes in ({"00100020": text(value)}, {"00101002": nested}):
        with pytest.raises(InvalidRequest, match="where another begins"):
            coerced(BIRTH, EXPLICIT_VR_LITTLE_ENDIAN, changes)


def test_what_is_announced_as_explicit_and_written_implicitly_stays_implicit() -> None:
    source = struct.pack("<HHI", 0x0008, 0x0060, 2) + b"CT" + struct.pack("<HHI", 0x0028, 0x0010, 2) + b"\x02\0"
    body = coerced(source, EXPLICIT_VR_LITTLE_ENDIAN, {"00100020": text("NEW1")})
    assert body == source[:10] + struct.pack("<HHI", 0x0010, 0x0020, 4) + b"NEW1" + source[10:]


def test_an_unknown_sequence_before_the_change_is_stepped_through() -> None:
    implicit = struct.pack("<HHI", 0x0010, 0x0020, 4) + b"CODE"
    item, item_end, end = (
        struct.pack("<HHI", 0xFFFE, number, size) for number, size in ((0xE000, 2**32 - 1), (0xE00D, 0), (0xE0DD, 0))
    )
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 2**32 - 1) + item + implicit + item_end + end
    body = coerced(unknown + ROWS, EXPLICIT_VR_LITTLE_ENDIAN, {"00100020": text("NEW1")})
    assert body == unknown + element(0x00100020, b"LO", b"NEW1") + ROWS


def test_a_truncated_instance_and_a_header_without_end_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="ends inside"):
        plan(BIRTH[:-2], EXPLICIT_VR_LITTLE_ENDIAN, IDENTIFIERS, is_whole=True)
    long = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 8 << 20)
    with pytest.raises(InvalidRequest, match="more bytes than a header"):
        plan(long + bytes(5 << 20), EXPLICIT_VR_LITTLE_ENDIAN, IDENTIFIERS)


def test_a_deflated_bomb_is_refused() -> None:
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = stream.compress(BIRTH + bytes(6 << 20)) + stream.flush()
    with pytest.raises(InvalidRequest, match="longer than"):
        plan(bomb, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, IDENTIFIERS, is_whole=True)


@given(st.binary(max_size=500), st.sampled_from([*SYNTAXES, JPEG_LOSSLESS_SV1, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]))
def test_any_bytes_are_coerced_or_refused(body: bytes, transfer_syntax: str) -> None:
    try:
        found = plan(body, transfer_syntax, IDENTIFIERS, is_whole=True)
    except InvalidRequest:
        return
    assert found is not None and found.replaces <= len(body)
