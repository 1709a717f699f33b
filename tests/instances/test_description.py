"""Descriptions: the DICOM JSON model of an instance as pydicom says it, and bulk values found where it says."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.instances.description import Describer, Description, describe, with_base
from gateway.instances.encoding.json_values import swapped
from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
)
from gateway.model.errors import InvalidRequest
from tests.instances.real import Real, real_file, real_files
from tests.instances.test_coercion import SYNTAXES, datasets, encoded

Json = dict[str, dict[str, object]]

DIFFERENT = {
    "badVR.dcm": "pydicom gives up at a number that is none",
    "DICOMDIR-nooffset": "its records overrun their sequence",
    "rtplan_truncated.dcm": "it ends in the middle",
    "nested_priv_SQ.dcm": "all that it holds stands in a group that no instance has",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom skips its whole header",
    "mlut_18.dcm": "its table is long enough for bulk data",
    "OBXXXX1A_expb.dcm": "pydicom leaves words in big endian",
    "OBXXXX1A_expb_2frame.dcm": "pydicom leaves words in big endian",
}


def description(body: bytes, transfer_syntax: str) -> Description:
    """The description of a whole instance."""
    found = describe(body, transfer_syntax, is_whole=True)
    assert found is not None
    return found


def said(body: bytes, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> Json:
    """What the description says."""
    return cast("Json", json.loads(description(body, transfer_syntax).json))


def comparable(dataset: Json, unknown: frozenset[str] = frozenset()) -> object:
    """Without what is left out on purpose: counts of bytes, private elements' meaning, spaces that mean nothing."""
    found: dict[str, tuple[str, object]] = {}
    for tag, element in dataset.items():
        if tag.endswith("0000") or tag in ("00080001", "00080005") or tag > "7FE00000" or tag in unknown:
            continue
        vr, values = str(element["vr"]), element.get("Value")
        if vr == "SQ":
            found[tag] = (vr, [comparable(cast("Json", item)) for item in cast("list[object]", values)])
        elif "BulkDataURI" in element:
            found[tag] = (vr, "bulk")
        else:
            found[tag] = (vr, element.get("InlineBinary") or _trimmed(values))
    return found


def _trimmed(value: object) -> object:
    match value:
        case str():
            return value.strip(" \0") or None
        case list():
            return [_trimmed(item) for item in value] if any(_trimmed(item) is not None for item in value) else None
        case dict():
            return {key: _trimmed(item) for key, item in value.items() if _trimmed(item)} or None
        case _:
            return value


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("real", real_files(), ids=lambda real: str(real.name))
def test_real_instances_are_described_as_pydicom_describes_them(real: Real) -> None:
    if real.name in DIFFERENT:
        return
    theirs = real.read.to_json_dict(bulk_data_threshold=1_368, bulk_data_element_handler=lambda _: "bulk")
    ours = said(real.body, real.transfer_syntax)
    unknown = frozenset(tag for tag, element in ours.items() if element["vr"] == "UN")
    assert comparable(ours, unknown) == comparable(json.loads(json.dumps(theirs)), unknown)
    assert ("7FE00010" in ours) == ("PixelData" in real.read)
    assert ours["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("real", real_files(), ids=lambda real: str(real.name))
def test_every_bulk_value_is_where_the_description_says(real: Real) -> None:
    if real.name in DIFFERENT or real.transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return
    for path, bulk in description(real.body, real.transfer_syntax).bulk.items():
        at: Dataset = real.read
        *items, tag = path.split("/")
        for sequence, number in zip(items[::2], items[1::2], strict=True):
            at = at[int(sequence, 16)].value[int(number) - 1]
        value = at[int(tag, 16)].value
        if bulk.data_bytes is not None and isinstance(value, bytes):
            assert real.body[bulk.first : bulk.first + bulk.data_bytes] == value
        elif bulk.data_bytes is None:
            assert real.body[bulk.first :].startswith(value[:1_000])


def test_a_beginning_is_enough_that_goes_as_far_as_the_pixels() -> None:
    real = real_file("CT_small.dcm")
    whole = description(real.body, real.transfer_syntax)
    first = whole.bulk["7FE00010"].first
    assert describe(real.body[:first], real.transfer_syntax) == whole
    assert describe(real.body[: first - 1], real.transfer_syntax) is None
    assert describe(b"", real.transfer_syntax) is None


@pytest.mark.parametrize("transfer_syntax", sorted({real.transfer_syntax for real in real_files()}))
def test_what_was_described_before_changes_nothing(transfer_syntax: str) -> None:
    describer = Describer(transfer_syntax)
    for _ in range(2):
        for real in real_files():
            if real.transfer_syntax == transfer_syntax and real.name not in DIFFERENT:
                assert describer.describe(real.body, is_whole=True) == description(real.body, transfer_syntax)


@given(before=datasets(), after=datasets(), transfer_syntax=st.sampled_from(SYNTAXES), unicode=st.booleans())
def test_what_is_remembered_is_remembered_for_its_character_set_alone(
    before: Dataset, after: Dataset, transfer_syntax: str, unicode: bool
) -> None:
    if unicode:
        after.SpecificCharacterSet = "ISO_IR 192"
    after.PixelRepresentation = 1
    describer = Describer(transfer_syntax)
    for dataset in (before, after, before):
        body = encoded(dataset, transfer_syntax)
        assert describer.describe(body, is_whole=True) == description(body, transfer_syntax)


def test_a_deflated_instance_is_described_by_what_it_was() -> None:
    real = real_file("image_dfl.dcm")
    found = description(real.body, real.transfer_syntax)
    assert found.bulk["7FE00010"].data_bytes == len(real.read.PixelData)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None, order: str = "<") -> bytes:
    """An element with an explicit VR."""
    size = len(value) if length is None else length
    head = struct.pack(order + "HH2s", tag >> 16, tag & 0xFFFF, vr)
    long = vr in (b"SQ", b"OB", b"OW", b"UN", b"UT", b"SV")
    return head + (struct.pack(order + "2xI", size) if long else struct.pack(order + "H", size)) + value


def item(value: bytes, number: int = 0xE000, length: int | None = None) -> bytes:
    """An item, or what marks the end of one."""
    return struct.pack("<HHI", 0xFFFE, number, len(value) if length is None else length) + value


SEQUENCE_END = item(b"", 0xE0DD)


def test_an_icon_in_fragments_is_bulk_data_of_its_item() -> None:
    fragments = item(b"") + item(b"\xff\xd8..\xff\xd9") + SEQUENCE_END
    icon = element(0x00280010, b"US", b"\x02\0") + element(0x7FE00010, b"OB", fragments, 2**32 - 1)
    body = element(0x00880200, b"SQ", item(icon)) + element(0x00880904, b"LO", b"late")
    found = description(body, JPEG_BASELINE)
    bulk = found.bulk["00880200/1/7FE00010"]
    assert body[bulk.first : bulk.first + (bulk.data_bytes or 0)] == fragments
    assert json.loads(found.json)["00880904"] == {"vr": "LO", "Value": ["late"]}


def test_what_somebody_did_not_know_is_read_as_what_it_is() -> None:
    inner = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
    unknown = element(0x00081111, b"UN", item(inner)) + element(0x00100020, b"UN", b"9990000018")
    assert said(unknown)["00081111"] == {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["CODE"]}}]}
    assert said(unknown)["00100020"] == {"vr": "LO", "Value": ["9990000018"]}
    no_items = element(0x00081111, b"UN", b"nonsense")
    assert said(no_items)["00081111"] == {"vr": "UN", "InlineBinary": b64encode(b"nonsense").decode()}


@pytest.mark.parametrize("pixels_are_signed", [False, True])
def test_numbers_written_without_a_vr_are_signed_where_the_pixels_are(pixels_are_signed: bool) -> None:
    def implicit(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

    body = implicit(0x00280103, struct.pack("<H", pixels_are_signed)) + implicit(0x00280106, b"\xff\xff")
    vr, number = ("SS", -1) if pixels_are_signed else ("US", 65_535)
    assert said(body, IMPLICIT_VR_LITTLE_ENDIAN)["00280106"] == {"vr": vr, "Value": [number]}


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (0x00280030, b"DS", b"1.50\\+2\\.5e1\\x ", [1.5, 2, 5.0, "x"]),
        (0x00200013, b"IS", b"007 ", [7]),
        (0x00189087, b"FD", struct.pack("<dd", float("nan"), float("-inf")), ["NaN", "-Infinity"]),
        (0x00720082, b"SV", struct.pack("<qq", -5, 2**62), [-5, str(2**62)]),
        (0x00280009, b"AT", struct.pack("<HH", 0x0018, 0x1063), ["00181063"]),
        (0x00100010, b"PN", b"A^B=\xc4=\\C ", [{"Alphabetic": "A^B", "Ideographic": "Ä"}, {"Alphabetic": "C"}]),
        (0x00104000, b"LT", b"a\\b ", ["a\\b"]),
        (0x00080008, b"CS", b"A\\\\B ", ["A", None, "B"]),
    ],
)
def test_values_are_what_the_model_has_for_them(tag: int, vr: bytes, value: bytes, expected: list[object]) -> None:
    assert said(element(tag, vr, value))[f"{tag:08X}"] == {"vr": vr.decode(), "Value": expected}


def test_a_value_of_impossible_length_is_shown_as_bytes() -> None:
    assert said(element(0x00280010, b"US", b"\1\2\3"))["00280010"] == {"vr": "UN", "InlineBinary": "AQID"}


def test_words_in_big_endian_are_turned_round() -> None:
    body = element(0x00281201, b"OW", b"\1\2\3\4", order=">")
    assert said(body, EXPLICIT_VR_BIG_ENDIAN)["00281201"] == {"vr": "OW", "InlineBinary": "AgEEAw=="}
    assert swapped("FD", struct.pack(">d", 1.5)) == struct.pack("<d", 1.5)
    assert swapped("OB", b"\1\2\3") == b"\1\2\3" and swapped("OW", b"\1\2\3") == b"\2\1\3"


def test_addresses_of_bulk_data_can_be_made_absolute_and_nothing_else_changes() -> None:
    text = b'"BulkDataURI":"bulkdata/'
    body = element(0x00104000, b"LT", text) + element(0x7FE00010, b"OW", bytes(8))
    found = json.loads(with_base(description(body, EXPLICIT_VR_LITTLE_ENDIAN).json, "https://gateway/x/bulkdata/"))
    assert found["7FE00010"]["BulkDataURI"] == "https://gateway/x/bulkdata/7FE00010"
    assert found["00104000"]["Value"] == [text.decode()]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (element(0x00081115, b"SQ", item(b"", 0xE000, 2**32 - 1) * 1, 2**32 - 1) * 66, "nested deeper"),
        (element(0x00081115, b"SQ", element(0x00080005, b"CS", b""), 2**32 - 1), "no item"),
        (element(0x00080005, b"CS", b"") + item(b""), "outside a sequence"),
        (element(0x00080060, b"CS", b"CT", 40), "ends inside"),
        (element(0x00081115, b"SQ", item(element(0x00080060, b"CS", b"CT", 40))), "longer than what holds it"),
        (element(0x00080060, b"CS", b"CT") + b"\x08\0\x61\0\0\1\0\0", "no known"),
        (element(0x00080008, b"CS", b"") * 150_100, "too many elements"),
        (element(0x00080008, b"CS", b"\\" * 60_000) * 9, "too many values"),
    ],
)
def test_what_is_no_data_set_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        description(body, EXPLICIT_VR_LITTLE_ENDIAN)


@given(
    st.binary(max_size=1_000),
    st.sampled_from(
        [
            IMPLICIT_VR_LITTLE_ENDIAN,
            EXPLICIT_VR_LITTLE_ENDIAN,
            EXPLICIT_VR_BIG_ENDIAN,
            DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        ]
    ),
)
def test_any_bytes_are_described_or_refused(body: bytes, transfer_syntax: str) -> None:
    try:
        found = describe(body, transfer_syntax, is_whole=True)
    except InvalidRequest:
        return
    assert found is not None and json.loads(found.json)


@given(data=st.data())
def test_a_real_instance_with_a_flipped_byte_is_described_or_refused(data: st.DataObject) -> None:
    real = data.draw(st.sampled_from([real for real in real_files() if len(real.body) < 20_000]))
    body = bytearray(real.body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        describe(bytes(body), real.transfer_syntax, is_whole=True)
    except InvalidRequest:
        return
