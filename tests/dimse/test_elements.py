"""Encoded data sets become rows and rows data sets, with pydicom as oracle, and nothing malformed is believed."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dimse.elements import (
    DatasetError,
    NotRepresentable,
    Reading,
    RowDecoder,
    RowEncoder,
    Slot,
    decode_dataset,
    encode_dataset,
)
from dimse.sop_classes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    QUERY_TRANSFER_SYNTAXES,
)
from gateway.instances.encoding.structure import NESTING_MAX, deflated
from gateway.model.attributes import KIND_OF_VR, VRS_OF_TAG, Kind
from gateway.model.imaging import Attributes, Element, JsonValue

READING = Reading()
LATIN = ("ISO_IR 100",)


def written(dataset: Dataset, transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """A data set as pydicom writes it."""
    file = DicomBytesIO()
    file.is_implicit_VR = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    file.is_little_endian = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(file, dataset)
    body: bytes = file.getvalue()
    return deflated(body) if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN else body


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def row(body: bytes, transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> Attributes:
    return decode_dataset(body, transfer_syntax, READING)


def a_study() -> Dataset:
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 100"
    found.StudyDate, found.StudyTime = "20250101", "101500.25"
    found.ModalitiesInStudy = ["CT", "SR"]
    found.StudyDescription = "Schädel"
    found.PatientName = "Müller^Jörg"
    found.PatientID, found.PatientBirthDate = "9990000018", ""
    found.StudyInstanceUID = "1.2.826.0.1"
    found.NumberOfStudyRelatedInstances = 12
    found.PatientWeight = "71.50"
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "2.16.840", "ISO"
    found.IssuerOfPatientIDQualifiersSequence = [issuer, Dataset()]
    found.Rows, found.SelectorAttribute = 512, 0x00100020
    return found


@pytest.mark.parametrize("transfer_syntax", QUERY_TRANSFER_SYNTAXES)
def test_a_study_is_read_alike_in_every_transfer_syntax(transfer_syntax: str) -> None:
    assert row(written(a_study(), transfer_syntax), transfer_syntax) == {
        "00080020": {"vr": "DA", "Value": ["20250101"]},
        "00080030": {"vr": "TM", "Value": ["101500.25"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00081030": {"vr": "LO", "Value": ["Schädel"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]},
        "00100020": {"vr": "LO", "Value": ["9990000018"]},
        "00100024": {
            "vr": "SQ",
            "Value": [
                {"00400032": {"vr": "UT", "Value": ["2.16.840"]}, "00400033": {"vr": "CS", "Value": ["ISO"]}},
                {},
            ],
        },
        "00100030": {"vr": "DA"},
        "00101030": {"vr": "DS", "Value": ["71.50"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.826.0.1"]},
        "00201208": {"vr": "IS", "Value": [12]},
        "00280010": {"vr": "US", "Value": [512]},
        "00720026": {"vr": "AT", "Value": ["00100020"]},
    }


@pytest.mark.parametrize("transfer_syntax", QUERY_TRANSFER_SYNTAXES)
def test_a_row_written_here_reads_as_the_same_row(transfer_syntax: str) -> None:
    found = row(written(a_study(), transfer_syntax), transfer_syntax)
    declared: dict[str, Element] = {"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}, **found}
    assert row(encode_dataset(declared, transfer_syntax, LATIN), transfer_syntax) == found


# What pydicom and we write differently though it means the same: numbers, padding, names.
_SHAPES = {
    "AE": st.text("ABC 1_", min_size=1, max_size=16),
    "CS": st.text("ABC1_", min_size=1, max_size=16),
    "DA": st.dates().map(lambda day: f"{day:%Y%m%d}".rjust(8, "0")),
    "TM": st.times().map(lambda time: f"{time:%H%M%S}"),
    "LO": st.text("abcéÜ XYZ-", min_size=1, max_size=64),
    "SH": st.text("abcéÜ XYZ-", min_size=1, max_size=16),
    "LT": st.text("abcéÜ\\ \r\n", min_size=1, max_size=80),
    "UI": st.lists(st.integers(0, 999), min_size=2, max_size=12).map(lambda parts: ".".join(map(str, parts))),
    "PN": st.lists(st.text("ABcdé", min_size=1, max_size=8), min_size=1, max_size=5).map("^".join),
    "IS": st.integers(-(2**31), 2**31 - 1),
    "US": st.integers(0, 2**16 - 1),
    "UL": st.integers(0, 2**32 - 1),
    "SS": st.integers(-(2**15), 2**15 - 1),
    "FD": st.floats(allow_nan=False, allow_infinity=False),
}
_TAGS: dict[str, list[str]] = {
    vr: [
        tag
        for tag, vrs in VRS_OF_TAG.items()
        if vrs == (vr,) and tag > "0008FFFF" and tag[-4:] != "0000" and tag[:4] not in ("FFFE", "FFFC")
    ]
    for vr in _SHAPES
}
_ELEMENTS = st.sampled_from(list(_SHAPES)).flatmap(
    lambda vr: st.tuples(st.sampled_from(_TAGS[vr]), st.just(vr), st.lists(_SHAPES[vr], min_size=1, max_size=3))
)


def _dataset(elements: list[tuple[str, str, list[object]]], inner: Dataset | None = None) -> Dataset:
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 100"
    for tag, vr, values in elements:
        found.add_new(int(tag, 16), vr, values[0] if vr == "LT" or len(values) == 1 else values)
    if inner is not None:
        found.RequestAttributesSequence = [inner, Dataset()]
    return found


def _plain(value: object) -> object:
    """A DICOM JSON value without what reading may differ in: padding, and numbers as text."""
    if isinstance(value, dict):
        return {key: plain for key, inner in value.items() if (plain := _plain(inner)) is not None} or None
    if isinstance(value, list):
        values = [_plain(inner) for inner in value]
        return values if any(plain is not None for plain in values) else None
    text = str(value).strip(" ").rstrip("\0") if isinstance(value, str) else value
    return text if text != "" else None


def _json(dataset: Dataset) -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, dict[str, object]] = dataset.to_json_dict()
    return {tag: _plain(element) for tag, element in found.items() if tag != "00080005"}


@given(
    st.lists(_ELEMENTS, max_size=6, unique_by=lambda element: element[0]),
    st.lists(_ELEMENTS, max_size=3, unique_by=lambda element: element[0]) | st.none(),
    st.sampled_from(QUERY_TRANSFER_SYNTAXES),
)
def test_rows_are_what_pydicom_makes_of_the_same_bytes(
    elements: list[tuple[str, str, list[object]]],
    inner: list[tuple[str, str, list[object]]] | None,
    transfer_syntax: str,
) -> None:
    item = _dataset(inner) if inner is not None else None
    if item is not None:
        del item.SpecificCharacterSet
    dataset = _dataset(elements, item)
    body = written(dataset, transfer_syntax)
    assert {tag: _plain(dict(element)) for tag, element in row(body, transfer_syntax).items()} == _json(dataset)


@given(
    st.lists(_ELEMENTS, max_size=6, unique_by=lambda element: element[0]),
    st.sampled_from([IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]),
)
def test_pydicom_reads_what_is_written_here(
    elements: list[tuple[str, str, list[object]]], transfer_syntax: str
) -> None:
    found = row(written(_dataset(elements)))
    declared: dict[str, Element] = {"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}, **found}
    body = encode_dataset(declared, transfer_syntax, LATIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.filereader.read_dataset(
            BytesIO(body), transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN, transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
        )
        assert _json(read) == {tag: _plain(dict(element)) for tag, element in found.items()}


_SEEDS = [written(a_study(), syntax) for syntax in QUERY_TRANSFER_SYNTAXES]


@given(
    st.integers(0, len(_SEEDS) - 1),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=5), st.integers(0, 4)), max_size=4),
)
def test_mutated_data_sets_are_rows_or_refused_and_nothing_else(
    seed: int, mutations: list[tuple[int, bytes, int]]
) -> None:
    body = bytearray(_SEEDS[seed])
    for place, inserted, removed in mutations:
        at = place % (len(body) + 1)
        body[at : at + removed] = inserted
    try:
        found = decode_dataset(body, QUERY_TRANSFER_SYNTAXES[seed], READING)
    except DatasetError:
        return
    for tag, element in found.items():
        assert len(tag) == 8 and element["vr"] in KIND_OF_VR
        assert KIND_OF_VR[str(element["vr"])] not in (Kind.BINARY, Kind.ADDRESS)


@given(st.binary(max_size=200), st.sampled_from(QUERY_TRANSFER_SYNTAXES))
def test_any_bytes_are_a_row_or_refused_and_nothing_else(body: bytes, transfer_syntax: str) -> None:
    try:
        row(body, transfer_syntax)
    except DatasetError:
        return
    assert isinstance(row(body, transfer_syntax), dict)


def test_headers_of_pydicoms_files_are_read_as_pydicom_reads_them() -> None:
    compared = 0
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            header = Dataset()
            for element in file:
                if element.VR in ("UI", "DA", "TM", "LO", "PN", "CS", "SH") and not element.tag.is_private:
                    header.add(element)
            body, expected = written(header, EXPLICIT_VR_LITTLE_ENDIAN), _json(header)
        found = row(body, EXPLICIT_VR_LITTLE_ENDIAN)
        for name in ("00080020", "00080030", "00080060", "00100020", "0020000D", "0020000E", "00081030"):
            assert (name in found) == (name in expected)
            if name in found:
                assert _plain(dict(found[name])) == expected[name]
                compared += 1
    assert compared > 300


@pytest.mark.parametrize(
    ("body", "transfer_syntax"),
    [
        (implicit(0x00100020, b"12")[:-1], IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100020, b"12")[:7], IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100020, b"12", 4), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100020, b"12", 0xFFFFFFFF), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100020, b"1 ") * 2, IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100020, b"1\x002 "), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100020, b"1\x7f"), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x0020000D, b"1.2x"), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x0020000D, b"1" * 66), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00201208, b"ten "), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00280010, b"\x00"), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100010, b"A=B=C=D "), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00720026, b"\x00\x00"), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00400275, b"xx"), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00400275, implicit(0xFFFEE000, b"")[:-1]), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00400275, implicit(0xFFFEE000, b"", 8)), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00400275, implicit(0xFFFEE000, b""), 0xFFFFFFFF), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00400275, b"", 0xFFFFFFFF) + implicit(0xFFFEE000, b"", 0xFFFFFFFF), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0xFFFEE000, b""), IMPLICIT_VR_LITTLE_ENDIAN),
        (implicit(0x00100010, b"X ") + implicit(0x00080005, b"ISO_IR 100"), IMPLICIT_VR_LITTLE_ENDIAN),
        (explicit(0x00100020, b"??", b"12"), EXPLICIT_VR_LITTLE_ENDIAN),
        (explicit(0x00100020, b"US", b"12"), EXPLICIT_VR_LITTLE_ENDIAN),
        (explicit(0x00100020, b"UT", b""), EXPLICIT_VR_LITTLE_ENDIAN),
        (b"not deflated", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        (deflated(explicit(0x00100020, b"LO", b"12"))[:-3], DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        (deflated(b"") + b"rest", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
        (b"", "1.2.840.10008.1.2.4.50"),
    ],
)
def test_what_does_not_add_up_is_refused_in_words_that_repeat_nothing(body: bytes, transfer_syntax: str) -> None:
    with pytest.raises(DatasetError) as refused:
        row(body, transfer_syntax)
    assert "12" not in str(refused.value) and str(refused.value)[0].islower()


def nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = implicit(0x00400275, implicit(0xFFFEE000, body))
    return body


def test_nesting_is_read_to_its_limit_and_no_further() -> None:
    assert row(nested(NESTING_MAX))
    with pytest.raises(DatasetError, match="deeper"):
        row(nested(NESTING_MAX + 1))
    opening = implicit(0x00400275, b"", 0xFFFFFFFF) + implicit(0xFFFEE000, b"", 0xFFFFFFFF)
    with pytest.raises(DatasetError, match="deeper"):
        row(opening * 5000)


def test_rows_and_answers_have_as_many_elements_as_the_limits_say() -> None:
    many = b"".join(implicit(0x00090000 + n, b"") for n in range(0x10, 0x10 + 8))
    assert decode_dataset(many, IMPLICIT_VR_LITTLE_ENDIAN, Reading(row_elements_max=8)) is not None
    with pytest.raises(DatasetError):
        decode_dataset(many, IMPLICIT_VR_LITTLE_ENDIAN, Reading(row_elements_max=7))
    assert decode_dataset(nested(3), IMPLICIT_VR_LITTLE_ENDIAN, Reading(row_elements_max=5)) is not None
    with pytest.raises(DatasetError):
        decode_dataset(nested(3), IMPLICIT_VR_LITTLE_ENDIAN, Reading(row_elements_max=4))
    plain = implicit(0x00100020, b"12") + implicit(0x00100030, b"20250101")
    assert decode_dataset(plain, IMPLICIT_VR_LITTLE_ENDIAN, Reading(row_elements_max=2)) is not None
    with pytest.raises(DatasetError):
        decode_dataset(plain, IMPLICIT_VR_LITTLE_ENDIAN, Reading(row_elements_max=1))
    for body, elements in ((many, 8), (nested(3), 6)):
        answer = RowDecoder(IMPLICIT_VR_LITTLE_ENDIAN, Reading(answer_elements_max=2 * elements))
        for _ in range(3):
            answer.row(body)
        with pytest.raises(DatasetError):
            answer.row(body)


def test_a_deflated_data_set_grows_to_its_limit_and_no_further() -> None:
    body = implicit(0x00100020, b"A" * 1000)
    bomb = zlib.compressobj(wbits=-15)
    packed = bomb.compress(explicit(0x00104000, b"LT", b"A" * 1000)) + bomb.flush()
    at_limit = Reading(inflated_bytes_max=len(body))
    assert decode_dataset(packed, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, at_limit)
    with pytest.raises(DatasetError):
        decode_dataset(packed, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Reading(inflated_bytes_max=len(body) - 1))


def test_nothing_binary_no_address_no_group_length_and_no_homeless_private_attribute_passes() -> None:
    body = b"".join(
        (
            explicit(0x00080000, b"UL", b"\x00\x00\x00\x00"),
            explicit(0x00080054, b"AE", b"PACS"),
            struct.pack("<HH2s2xI", 0x0008, 0x1190, b"UR", 4) + b"http",
            explicit(0x00091001, b"LO", b"lost"),
            explicit(0x000B0010, b"LO", b"ACME"),
            explicit(0x000B1001, b"LO", b"kept"),
            struct.pack("<HH2s2xI", 0x000B, 0x1002, b"OB", 2) + b"\x01\x02",
            explicit(0x00100020, b"LO", b"12"),
            struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", 2) + b"\x01\x02",
        )
    )
    assert sorted(row(body, EXPLICIT_VR_LITTLE_ENDIAN)) == ["000B0010", "000B1001", "00100020"]


def test_private_attributes_mean_what_their_own_row_says_although_bytes_are_remembered() -> None:
    decoder = RowDecoder(EXPLICIT_VR_LITTLE_ENDIAN, READING)
    private = explicit(0x000B1001, b"LO", b"kept")
    assert "000B1001" in decoder.row(explicit(0x000B0010, b"LO", b"ACME") + private)
    assert "000B1001" not in decoder.row(private)


def test_text_may_have_line_ends_and_padding_goes() -> None:
    body = implicit(0x00104000, b"one\r\ntwo \t") + implicit(0x00100020, b" 12 \0")
    assert row(implicit(0x00100020, b" 12\0") + implicit(0x00104000, b"one\r\ntwo\\x ")) == {
        "00100020": {"vr": "LO", "Value": ["12"]},
        "00104000": {"vr": "LT", "Value": ["one\r\ntwo\\x"]},
    }
    assert row(implicit(0x0020000D, b"1.2\0")) == {"0020000D": {"vr": "UI", "Value": ["1.2"]}}
    assert "00100020" in row(body)


def test_a_missing_value_among_others_is_told_from_no_value() -> None:
    assert row(implicit(0x00080061, b"CT\\\\MR"))["00080061"] == {"vr": "CS", "Value": ["CT", None, "MR"]}
    assert row(implicit(0x00080061, b"\\ "))["00080061"] == {"vr": "CS"}
    assert row(implicit(0x00100010, b"A\\=\\C=D "))["00100010"]["Value"] == [
        {"Alphabetic": "A"},
        None,
        {"Alphabetic": "C", "Ideographic": "D"},
    ]


def test_sequences_of_defined_and_undefined_length_are_alike() -> None:
    inner = implicit(0x00400009, b"S1")
    closed = implicit(0x00400275, implicit(0xFFFEE000, inner) + implicit(0xFFFEE000, b""))
    item = implicit(0xFFFEE000, b"", 0xFFFFFFFF) + inner + implicit(0xFFFEE00D, b"")
    opened = implicit(0x00400275, b"", 0xFFFFFFFF) + item + implicit(0xFFFEE000, b"") + implicit(0xFFFEE0DD, b"")
    assert (
        row(closed)
        == row(opened)
        == {"00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}}, {}]}}
    )


def test_each_row_is_read_in_the_set_that_it_declares_itself() -> None:
    decoder = RowDecoder(IMPLICIT_VR_LITTLE_ENDIAN, Reading(fallback_charset="ISO_IR 144"))
    name = implicit(0x00100010, b"\xb8\xda")
    for _ in range(2):
        assert decoder.row(name)["00100010"]["Value"] == [{"Alphabetic": "Ик"}]
        assert decoder.row(implicit(0x00080005, b"ISO_IR 100") + name)["00100010"]["Value"] == [{"Alphabetic": "¸Ú"}]


def test_an_item_is_read_in_the_set_that_it_declares_itself() -> None:
    item = implicit(0xFFFEE000, implicit(0x00080005, b"ISO_IR 144") + implicit(0x00400009, b"\xb8\xda"))
    found = row(implicit(0x00080005, b"ISO_IR 100") + implicit(0x00400275, item))
    assert found == {"00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["Ик"]}}]}}


def test_numbers_that_are_not_finite_and_numbers_as_text_stay_what_they_are() -> None:
    doubles = struct.pack("<3d", float("nan"), float("inf"), -1.5)
    assert row(implicit(0x00189074, b"2025") + implicit(0x00186016 + 0, struct.pack("<I", 7)))["00186016"]["Value"] == [
        7
    ]
    assert row(implicit(0x00189073, doubles))["00189073"]["Value"] == ["NaN", "Infinity", -1.5]
    assert row(implicit(0x00201208, b"007 "))["00201208"]["Value"] == ["007"]


# Writing


def piece(tag: str, element: dict[str, object], transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    return encode_dataset({tag: element}, transfer_syntax, LATIN)  # type: ignore[dict-item]  # elements as a test writes them


def test_no_value_ends_where_another_would_begin() -> None:
    assert piece("00100020", {"vr": "LO", "Value": ["12\\34", "5\n6"]}) == implicit(0x00100020, b"12?34\\5?6 ")
    name = {"Alphabetic": "A=B", "Phonetic": "C\\D"}
    assert piece("00100010", {"vr": "PN", "Value": [name]}) == implicit(0x00100010, b"A?B==C?D")
    assert piece("00104000", {"vr": "LT", "Value": ["a\\b\r\n\0"]}) == implicit(0x00104000, b"a\\b\r\n?")


def test_what_a_value_representation_cannot_hold_is_left_empty() -> None:
    assert piece("00280010", {"vr": "US", "Value": [70_000]}) == implicit(0x00280010, b"")
    assert piece("00280010", {"vr": "US", "Value": ["many"]}) == implicit(0x00280010, b"")
    assert piece("7FE00010", {"vr": "OW", "InlineBinary": "AA=="}) == implicit(0x7FE00010, b"")
    assert piece("00100020", {"vr": "LO", "Value": [None]}) == implicit(0x00100020, b"")


def test_a_value_too_long_for_its_representation_is_written_as_unknown() -> None:
    text = "x" * 0x10000
    body = piece("00100020", {"vr": "LO", "Value": [text]}, EXPLICIT_VR_LITTLE_ENDIAN)
    assert body[4:6] == b"UN" and len(body) == 12 + len(text)
    assert piece("00100020", {"vr": "LO", "Value": [text[:0xFFFE]]}, EXPLICIT_VR_LITTLE_ENDIAN)[4:6] == b"LO"


def test_a_character_that_the_set_lacks_is_told() -> None:
    with pytest.raises(NotRepresentable):
        piece("00100020", {"vr": "LO", "Value": ["山"]})


def test_rows_have_the_slots_in_order_and_empty_where_nothing_is_known() -> None:
    inside = (Slot("00400009", "SH"), Slot("00401001", "SH"))
    slots = (Slot("00400275", "SQ", inside), Slot("00100020", "LO"), Slot("00400254", "LO"), Slot("00080018", "UI"))
    encoder = RowEncoder(slots, IMPLICIT_VR_LITTLE_ENDIAN, LATIN)
    item: JsonValue = {"00400009": {"vr": "SH", "Value": ["S1"]}, "00400007": {"vr": "LO", "Value": ["not asked"]}}
    expected = (
        implicit(0x00080018, b"")
        + implicit(0x00100020, b"12")
        + implicit(0x00400254, b"")
        + implicit(0x00400275, implicit(0xFFFEE000, implicit(0x00400009, b"S1") + implicit(0x00401001, b"")))
    )
    for _ in range(2):
        known: Attributes = {
            "00100020": {"vr": "LO", "Value": ["12"]},
            "00100030": {"vr": "DA", "Value": ["20250101"]},
            "00400275": {"vr": "SQ", "Value": [item]},
        }
        assert encoder.row(known) == expected


@given(
    st.lists(_ELEMENTS, min_size=1, max_size=5, unique_by=lambda element: element[0]),
    st.sampled_from(QUERY_TRANSFER_SYNTAXES),
)
def test_the_quick_way_and_the_thorough_way_write_the_same(
    elements: list[tuple[str, str, list[object]]], transfer_syntax: str
) -> None:
    found = row(written(_dataset(elements)))
    slots = [Slot(tag, str(element["vr"])) for tag, element in found.items()]
    encoder = RowEncoder(slots, transfer_syntax, LATIN)
    assert encoder.row(found) == encoder.row(found) == encode_dataset(found, transfer_syntax, LATIN)
