"""A peer's DICOM JSON: what is believed, what is taken out, what condemns the whole answer (PS3.18 Annex F)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from dicomweb.dicomjson import (
    NUMBER_DIGITS_MAX,
    PARSED_BYTES_MAX,
    Reading,
    is_known_charset,
    read_rows,
    read_rows_in_turns,
)
from gateway.model.errors import PeerProtocolError
from gateway.model.imaging import Attributes, JsonValue
from policy.parties import TrustId

READING = Reading(TrustId("RJ1"), depth_max=32)


def read(content: object, reading: Reading = READING) -> list[Attributes]:
    return read_rows(json.dumps(content).encode(), reading)


def row(**attributes: object) -> list[dict[str, object]]:
    """An answer of one row; `t00100020=...`."""
    return [{tag[1:]: element for tag, element in attributes.items()}]


def read_one(element: object, tag: str = "00100020", reading: Reading = READING) -> object:
    return read([{tag: element}], reading)[0].get(tag)


def refused(content: object, reading: Reading = READING) -> str:
    with pytest.raises(PeerProtocolError) as refusal:
        read(content, reading)
    assert refusal.value.trust == TrustId("RJ1")
    return str(refusal.value)


def refused_bytes(body: bytes, reading: Reading = READING) -> str:
    with pytest.raises(PeerProtocolError) as refusal:
        read_rows(body, reading)
    return str(refusal.value)


def test_an_honest_row_passes_unchanged() -> None:
    honest = row(
        t00080005={"vr": "CS", "Value": ["ISO_IR 192"]},
        t00080020={"vr": "DA"},
        t00080061={"vr": "CS", "Value": ["CT", "SR"]},
        t00100010={
            "vr": "PN",
            "Value": [{"Alphabetic": "YAMADA^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ"}],
        },
        t00100020={"vr": "LO", "Value": ["9990000018"]},
        t0020000D={"vr": "UI", "Value": ["1.2.3"]},
        t00201206={"vr": "IS", "Value": [3]},
        t00280030={"vr": "DS", "Value": [0.5, "0.50"]},
        t00280009={"vr": "AT", "Value": ["00181063"]},
        t00101002={"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": ["H1"]}}, {}]},
    )
    assert read(honest) == honest


def test_no_rows_are_no_rows() -> None:
    assert read_rows(b"[]", READING) == [] and read_rows(b" [ ] \n", READING) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"0",
        b'"text"',
        b"true",
        b"[",
        b"[}",
        b"[]]",
        b"[] []",
        b"<html>",
        b"[{]}",
        b"\x00",
        b"[1,]",
        b"[NaN]",
    ],
)
def test_what_is_no_json_array_is_refused(body: bytes) -> None:
    refused_bytes(body)


@pytest.mark.parametrize("bad", [1, None, "row", [], [[]], True, 1.5])
def test_a_row_that_is_no_object_is_refused(bad: object) -> None:
    refused([bad])
    refused([{}, bad])


@pytest.mark.parametrize(
    "tag", ["", "0010002", "001000200", "0010002g", "0010000a", "PatientID", "(0010,0020)", "００１０００２０"]
)
def test_a_tag_is_eight_upper_case_hexadecimal_digits(tag: str) -> None:
    assert "tag" in refused([{tag: {"vr": "LO", "Value": ["x"]}}])


@pytest.mark.parametrize(
    "element", [None, 1, "x", [], ["vr"], {}, {"Value": ["x"]}, {"vr": 7, "Value": ["x"]}, {"vr": ["LO"]}]
)
def test_an_attribute_without_a_vr_is_refused(element: object) -> None:
    refused([{"00100020": element}])


@pytest.mark.parametrize("vr", ["XX", "lo", "", "LO ", "PNN"])
def test_an_unknown_vr_is_refused(vr: str) -> None:
    refused([{"00100020": {"vr": vr, "Value": ["x"]}}])


@pytest.mark.parametrize("member", ["Name", "value", "keyword"])
def test_members_that_dicom_json_does_not_know_are_refused(member: str) -> None:
    refused([{"00100020": {"vr": "LO", "Value": ["x"], member: "y"}}])
    refused([{"00100020": {"vr": "LO", member: "y"}}])


@pytest.mark.parametrize("values", ["x", 1, None, {}, {"0": "x"}, True])
def test_values_stand_in_an_array(values: object) -> None:
    refused([{"00100020": {"vr": "LO", "Value": values}}])


@pytest.mark.parametrize("vr", ["PN", "SQ", "US", "AT", "UI"])
def test_an_attribute_under_the_vr_of_another_shape_is_refused(vr: str) -> None:
    refused([{"00100020": {"vr": vr}}])


def test_a_vr_of_the_same_shape_is_forgiven() -> None:
    assert read_one({"vr": "SH", "Value": ["x"]}) == {"vr": "SH", "Value": ["x"]}
    assert read_one({"vr": "SS", "Value": [1]}, "00280106") == {"vr": "SS", "Value": [1]}


@pytest.mark.parametrize("value", [1, 1.5, True, {}, [], ["x"], {"Alphabetic": "x"}])
def test_text_is_text(value: object) -> None:
    refused([{"00100020": {"vr": "LO", "Value": [value]}}])
    refused([{"00100020": {"vr": "LO", "Value": ["x", value]}}])


def test_empty_values_become_null_and_nothing_but_empty_values_no_value_at_all() -> None:
    assert read_one({"vr": "LO", "Value": []}) == {"vr": "LO"}
    assert read_one({"vr": "LO", "Value": [""]}) == {"vr": "LO"}
    assert read_one({"vr": "LO", "Value": [None, ""]}) == {"vr": "LO"}
    assert read_one({"vr": "CS", "Value": ["", "A", None]}, "00080008") == {"vr": "CS", "Value": [None, "A", None]}
    assert read_one({"vr": "PN", "Value": [{}]}, "00100010") == {"vr": "PN"}
    assert read_one({"vr": "PN", "Value": [None]}, "00100010") == {"vr": "PN"}
    assert read_one({"vr": "PN", "Value": [{"Alphabetic": ""}]}, "00100010") == {"vr": "PN"}
    assert read_one({"vr": "SQ", "Value": []}, "00101002") == {"vr": "SQ"}
    assert read_one({"vr": "SQ", "Value": [None]}, "00101002") == {"vr": "SQ", "Value": [{}]}
    assert read_one({"vr": "IS", "Value": [""]}, "00201206") == {"vr": "IS"}


@pytest.mark.parametrize("uid", ["1.2.x", "1.2\n", "../../etc/passwd", "1" * 65, " 1.2", "1.2\\1.3", 7, True, {}, []])
def test_a_uid_is_made_of_digits_and_full_stops(uid: object) -> None:
    refused([{"0020000D": {"vr": "UI", "Value": [uid]}}])


@pytest.mark.parametrize(
    "name", ["DOE^JANE", 1, [], {"alphabetic": "x"}, {"Alphabetic": 1}, {"Alphabetic": {"x": "y"}}]
)
def test_a_person_name_is_an_object_of_name_groups(name: object) -> None:
    refused([{"00100010": {"vr": "PN", "Value": [name]}}])


@pytest.mark.parametrize("number", [0, -3, 1.5, "12", " 12 ", "+1", "-0.50", "1e3", ".5", "5."])
def test_a_number_may_be_a_number_or_its_text(number: object) -> None:
    assert read_one({"vr": "DS", "Value": [number]}, "00280030") is not None


def test_the_text_of_a_decimal_keeps_its_form_and_that_of_a_plain_integer_becomes_a_number() -> None:
    assert read_one({"vr": "DS", "Value": ["1.50"]}, "00280030") == {"vr": "DS", "Value": ["1.50"]}
    assert read_one({"vr": "IS", "Value": ["12"]}, "00201206") == {"vr": "IS", "Value": [12]}
    assert read_one({"vr": "IS", "Value": ["012"]}, "00201206") == {"vr": "IS", "Value": ["012"]}
    assert read_one({"vr": "FD", "Value": ["NaN"]}, "00189073") == {"vr": "FD", "Value": ["NaN"]}


@pytest.mark.parametrize("number", ["twelve", "1,5", "0x10", "1 2", True, {}, [], "１２", "1e99999"])
def test_what_is_no_number_is_refused(number: object) -> None:
    refused([{"00201206": {"vr": "IS", "Value": [number]}}])


@pytest.mark.parametrize("tag", ["0018106", "0018106x", 1, {}])
def test_a_tag_as_value_is_eight_digits(tag: object) -> None:
    refused([{"00280009": {"vr": "AT", "Value": [tag]}}])
    assert read_one({"vr": "AT", "Value": ["0018106a", None]}, "00280009") == {"vr": "AT", "Value": ["0018106A", None]}


@pytest.mark.parametrize("item", [1, "x", [], True, {"x": 1}, {"00100020": 1}])
def test_an_item_of_a_sequence_is_checked_like_a_row(item: object) -> None:
    refused([{"00101002": {"vr": "SQ", "Value": [item]}}])


# What never passes the gateway.


@pytest.mark.parametrize(
    ("tag", "element"),
    [
        ("00420011", {"vr": "OB", "InlineBinary": "AAAA"}),
        ("7FE00010", {"vr": "OW", "BulkDataURI": "http://pacs.internal/bulk/1"}),
        ("00081010", {"vr": "SH", "BulkDataURI": "http://pacs.internal/bulk/1"}),
        ("00100020", {"vr": "UN", "InlineBinary": "AAAA"}),
        ("00081190", {"vr": "UR", "Value": ["http://pacs.internal/studies/1"]}),
        ("0040E010", {"vr": "UR", "Value": ["http://pacs.internal/x"]}),
        ("00080054", {"vr": "AE", "Value": ["PACS1"]}),
        ("00080000", {"vr": "UL", "Value": [12]}),
        ("00020010", {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]}),
        ("00091001", {"vr": "LO", "Value": ["private without creator"]}),
        ("00090002", {"vr": "LO", "Value": ["no private block"]}),
        ("99990010", {"vr": "UR", "Value": ["http://pacs.internal/x"]}),
    ],
)
def test_bulk_data_source_addresses_and_meta_elements_are_taken_out_at_any_depth(tag: str, element: object) -> None:
    kept = {"vr": "LO", "Value": ["H1"]}
    assert read([{"00100020": kept} | {tag: element}])[0] == ({"00100020": kept} if tag != "00100020" else {})
    nested = read([{"00101002": {"vr": "SQ", "Value": [{"00100021": kept, tag: element}]}}])
    assert nested == [{"00101002": {"vr": "SQ", "Value": [{"00100021": kept}]}}]


def test_private_attributes_stay_with_their_creator() -> None:
    private = row(t00090010={"vr": "LO", "Value": ["ACME"]}, t00091001={"vr": "LO", "Value": ["x"]})
    assert read(private) == private
    other_block = row(t00090011={"vr": "LO", "Value": ["ACME"]}, t00091001={"vr": "LO", "Value": ["x"]})
    assert read(other_block) == row(t00090011={"vr": "LO", "Value": ["ACME"]})


@pytest.mark.parametrize(
    "element",
    [
        {"vr": "OB", "Value": ["AAAA"]},
        {"vr": "OB", "InlineBinary": 1},
        {"vr": "OB", "BulkDataURI": {"x": "y"}},
        {"vr": "OB", "BulkDataURI": "http://x/", "InlineBinary": "AAAA"},
    ],
)
def test_bulk_data_of_the_wrong_shape_is_refused(element: object) -> None:
    refused([{"00420011": element}])


# What condemns an answer before it is parsed.


def _nested(depth: int) -> bytes:
    """An answer whose brackets nest exactly `depth` deep, made of sequences in sequences."""
    items, rest = divmod(depth - 2, 3)
    inner = {0: b"", 1: b'"00100020":{"vr":"LO"}', 2: b'"00100020":{"vr":"LO","Value":["x"]}'}[rest]
    return b"[{" + b'"00101002":{"vr":"SQ","Value":[{' * items + inner + b"}]}" * items + b"}]"


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 30, 31, 32])
def test_nesting_up_to_the_limit_is_read(depth: int) -> None:
    assert len(read_rows(_nested(depth), READING)) == 1


@pytest.mark.parametrize("depth", [33, 34, 64, 100, 2_000, 100_000])
def test_nesting_beyond_the_limit_is_refused_before_it_is_parsed(depth: int) -> None:
    assert "deeper than 32" in refused_bytes(_nested(depth))


def test_brackets_and_quotes_inside_text_do_not_count_as_nesting() -> None:
    for text in ("[" * 100, "{[" * 50, '"[', '\\"[', "\\", '\\\\"{', '""[[', "]" * 40, ':"{', '":"'):
        assert read_one({"vr": "LO", "Value": [text]}) == {"vr": "LO", "Value": [text]}


@pytest.mark.parametrize("body", [b"[" * 100_000, b"]" * 10, b"[" * 40 + b"]" * 39, b'{"a":' * 50_000])
def test_brackets_that_do_not_match_are_refused(body: bytes) -> None:
    refused_bytes(body)


def test_a_number_has_at_most_400_digits() -> None:
    digits = b"0." + b"1" * (NUMBER_DIGITS_MAX - 1)
    assert read_rows(b'[{"00280030":{"vr":"DS","Value":[' + digits + b"]}}]", READING)
    for number in (b"0." + b"1" * (NUMBER_DIGITS_MAX + 1), b"1" * 1_000_000, b"-" + b"9" * 5_000, b"1e" + b"9" * 500):
        refused_bytes(b'[{"00280030":{"vr":"DS","Value":[' + number + b"]}}]")


@pytest.mark.parametrize(
    "body",
    [
        b'[{"00100020":{"vr":"LO","Value":["A"]},"00100020":{"vr":"LO","Value":["B"]}}]',
        b'[{"00100020":{"vr":"LO","Value":["A"],"Value":["B"]}}]',
        b'[{"00100020":{"vr":"LO","vr":"LO"}}]',
        b'[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A","Alphabetic":"B"}]}}]',
        b'[{"00101002":{"vr":"SQ","Value":[{"00100020":{"vr":"LO"},"00100020":{"vr":"LO"}}]}}]',
        b'[{"00420011":{"vr":"OB","InlineBinary":"A","InlineBinary":"B"}}]',
        b'[{"0010\\u0030020":{"vr":"LO"},"00100020":{"vr":"LO"}}]',
    ],
)
def test_a_member_that_is_given_twice_is_refused(body: bytes) -> None:
    assert "twice" in refused_bytes(body)


@pytest.mark.parametrize("text", ["\\u0000", "a\\u0000b", "\\u001b[2J", "\\b", "\\u007F", "\\u0085", "\\u009b", "\x01"])
def test_control_characters_in_text_are_refused(text: str) -> None:
    refused_bytes(f'[{{"00100020":{{"vr":"LO","Value":["{text}"]}}}}]'.encode("latin-1"))


def test_line_ends_and_backslashes_in_text_are_read() -> None:
    for text in ("one\r\ntwo\tthree\fend", "\\u0000", "a\\\\b", 'say "x"'):
        assert read_one({"vr": "LT", "Value": [text]}, "00104000") == {"vr": "LT", "Value": [text]}


# Character sets.

_LATIN_1 = '[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"MÜLLER^JÖRG"}]}}]'.encode("latin-1")


def test_text_that_is_not_utf_8_is_refused_unless_a_charset_is_known() -> None:
    assert "UTF-8" in refused_bytes(_LATIN_1)
    assert "UTF-8" in refused_bytes(_LATIN_1, replace(READING, fallback_charset="klingon"))


@pytest.mark.parametrize("charset", ["ISO_IR 100", "iso-8859-1", "windows-1252"])
def test_undeclared_latin_1_is_read_by_the_peers_fallback(charset: str) -> None:
    [found] = read_rows(_LATIN_1, replace(READING, fallback_charset=charset))
    assert found["00100010"]["Value"] == [{"Alphabetic": "MÜLLER^JÖRG"}]
    assert is_known_charset(charset) and not is_known_charset("klingon")


def test_a_declared_charset_is_read_without_a_fallback() -> None:
    [found] = read_rows(_LATIN_1, READING, "ISO-8859-1")
    assert found["00100010"]["Value"] == [{"Alphabetic": "MÜLLER^JÖRG"}]


def test_utf_8_is_utf_8_whatever_the_fallback() -> None:
    body = json.dumps(row(t00100020={"vr": "LO", "Value": ["é"]}), ensure_ascii=False).encode()
    assert read_rows(body, replace(READING, fallback_charset="ISO_IR 100"))[0]["00100020"]["Value"] == ["é"]
    assert read_rows(b"\xef\xbb\xbf" + body, READING)[0]["00100020"]["Value"] == ["é"]


@pytest.mark.parametrize("body", [b'["\\ud800"]', b'[{"00100020":{"vr":"LO","Value":["\xed\xa0\x80"]}}]'])
def test_half_a_surrogate_pair_is_refused(body: bytes) -> None:
    refused_bytes(body)


# Habits that a peer's profile forgives.


def test_plain_person_names_are_forgiven_where_the_profile_says_so() -> None:
    forgiving = replace(READING, forgives_plain_names=True)
    found = read_one({"vr": "PN", "Value": ["DOE^JANE", "A=B=C", ""]}, "00100010", forgiving)
    groups = {"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C"}
    assert found == {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}, groups, None]}


def test_padded_uids_are_forgiven_where_the_profile_says_so() -> None:
    forgiving = replace(READING, forgives_nul_padding=True)
    assert read_one({"vr": "UI", "Value": ["1.2.3\x00"]}, "0020000D", forgiving) == {"vr": "UI", "Value": ["1.2.3"]}
    assert read_one({"vr": "LO", "Value": ["\\u0000"]}, reading=forgiving) == {"vr": "LO", "Value": ["\\u0000"]}
    for text in ("12\x0034", "1234\x00\x00", "\x01"):
        refused([{"00100020": {"vr": "LO", "Value": [text]}}], forgiving)


# The whole.


_PRINTABLE = st.characters(
    min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\\\x7f", exclude_categories=["C"]
)
_ELEMENTS: dict[str, st.SearchStrategy[object]] = {
    "PatientName": st.sampled_from(["DOE^JANE", "Yamada^Tarou=山田^太郎=やまだ^たろう", "", "ÅSTRÖM^Ö"]),
    "PatientID": st.text(alphabet="ABC 0123456789-", max_size=16).map(str.strip),
    "StudyDate": st.dates().map(lambda day: f"{day.year:04}{day.month:02}{day.day:02}") | st.just(""),
    "StudyTime": st.sampled_from(["", "101500", "101500.123"]),
    "ModalitiesInStudy": st.lists(st.sampled_from(["CT", "MR", "SR"]), max_size=3),
    "StudyInstanceUID": st.lists(st.integers(0, 10**9), min_size=2, max_size=6).map(lambda n: ".".join(map(str, n))),
    "NumberOfStudyRelatedInstances": st.integers(-(2**31), 2**31 - 1),
    "PixelSpacing": st.lists(st.floats(0.001, 10).map(lambda x: round(x, 4)), min_size=2, max_size=2),
    "Rows": st.integers(0, 65535),
    "StudyDescription": st.text(_PRINTABLE, max_size=30).map(str.strip),
    "ImageComments": st.sampled_from(["line\r\nline", "back\\slash", '{"quote": "["}']),
    "FrameIncrementPointer": st.just(0x00181063),
    "PatientAge": st.just("045Y"),
    "SelectorFDValue": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
}  # fmt: skip


@st.composite
def _datasets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    dataset = Dataset()
    for keyword in draw(st.lists(st.sampled_from(sorted(_ELEMENTS)), unique=True, max_size=8)):
        setattr(dataset, keyword, draw(_ELEMENTS[keyword]))
    if depth < 2 and draw(st.booleans()):
        items = draw(st.lists(_datasets(depth=depth + 1), max_size=2))
        dataset.OtherPatientIDsSequence = items
    return dataset


@given(st.lists(_datasets(), max_size=4))
@settings(max_examples=60)
def test_what_pydicom_writes_is_read_back_the_same(datasets: list[Dataset]) -> None:
    written = [dataset.to_json_dict() for dataset in datasets]
    rows = read(written)
    assert [Dataset.from_json(cast("dict[str, dict[str, object]]", found)) for found in rows] == [
        Dataset.from_json(wrote) for wrote in written
    ]
    # Reading what was read changes nothing more.
    assert read(rows) == rows


def test_every_attribute_used_above_is_in_the_dictionary() -> None:
    assert all(tag_for_keyword(keyword) for keyword in _ELEMENTS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["vr", "Value", "00100020", "0020000D", "00100010", "00101002", "InlineBinary", "Alphabetic"]
            )
            | st.text(max_size=8),
            children | st.sampled_from(["LO", "PN", "SQ", "UI", "IS", "OB", "AT", "UR"]),
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(_JSON)
@settings(max_examples=300)
def test_hostile_json_is_read_or_refused_and_nothing_else(content: JsonValue) -> None:
    for body in (json.dumps(content), json.dumps([content]), json.dumps([{"00100020": content}])):
        try:
            rows = read_rows(body.encode(), READING)
        except PeerProtocolError:
            continue
        assert all(isinstance(found, dict) and isinstance(each, dict) for found in rows for each in found.values())
        assert b"BulkDataURI" not in orjson.dumps(rows) and b"InlineBinary" not in orjson.dumps(rows)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}":,\\u0', max_size=120).map(str.encode), st.booleans())
@settings(max_examples=300)
def test_hostile_bytes_are_read_or_refused_and_nothing_else(body: bytes, forgiving: bool) -> None:
    reading = replace(READING, fallback_charset="ISO_IR 100" if forgiving else "", forgives_nul_padding=forgiving)
    try:
        read_rows(body, reading)
    except PeerProtocolError:
        return
    assert isinstance(orjson.loads(body.removeprefix(b"\xef\xbb\xbf")), list)


_HONEST = json.dumps(
    row(
        t00100010={"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]},
        t00100020={"vr": "LO", "Value": ["9990000018"]},
        t00101002={"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": ["H[1]"]}}]},
        t0020000D={"vr": "UI", "Value": ["1.2.3"]},
    )
).encode()


@given(st.integers(0, len(_HONEST) - 1), st.binary(min_size=0, max_size=3))
@settings(max_examples=300)
def test_a_garbled_answer_is_read_or_refused_and_nothing_else(at: int, garbage: bytes) -> None:
    try:
        read_rows(_HONEST[:at] + garbage + _HONEST[at + len(garbage) :], READING)
        read_rows(_HONEST[:at], READING)
    except PeerProtocolError:
        return


@pytest.mark.parametrize(
    "piece",
    [
        b"{},",
        b"[],",
        b'{"a":1},',
        b"1.5,",
        b'"ab",',
        b"[[[[[[]]]]]],",
        b'{"00100020":{"vr":"LO"}},',
        b'{"00100020":{"vr":"LO","Value":["a"]}},',
    ],
    ids=["objects", "arrays", "members", "numbers", "strings", "nests", "empty attributes", "attributes"],
)
def test_small_json_does_not_grow_into_much_memory(piece: bytes) -> None:
    body = b"[" + piece * (16 * 1024 * 1024 // len(piece)) + b"0]"
    tracemalloc.start()
    refused_bytes(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < PARSED_BYTES_MAX + 3 * len(body)


def test_the_largest_answer_that_is_parsed_stays_below_the_goal() -> None:
    """In a process of its own, by the memory it touches: the parser asks for more than it uses."""
    program = """
import resource
from dicomweb.dicomjson import PARSED_BYTES_MAX, Reading, read_rows
from policy.parties import TrustId
piece = b'{"00100020":{"vr":"LO","Value":["abc"]}},'
count = PARSED_BYTES_MAX // 720
body = b"[" + piece * (count - 1) + piece[:-1] + b"]"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(read_rows(body, Reading(TrustId("RJ1"), 32))) == count
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    grown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 64 * 1024 * 1024


async def test_a_long_answer_is_read_in_turns_with_other_work() -> None:
    body = json.dumps(row(t00100020={"vr": "LO", "Value": ["x"]}) * 4_000).encode()
    reading = asyncio.create_task(read_rows_in_turns(body, READING))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(reading.result()) == 4_000 and turns > 40


async def test_a_short_answer_is_read_in_one_turn() -> None:
    body = json.dumps(row(t00100020={"vr": "LO", "Value": ["x"]}) * 100).encode()
    reading = asyncio.create_task(read_rows_in_turns(body, READING))
    await asyncio.sleep(0)
    assert len(reading.result()) == 100
