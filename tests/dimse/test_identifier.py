"""Identifiers become queries and matches response identifiers: how PACSs ask, and what they get back."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse.elements import Reading, Slot, decode_dataset, encode_dataset
from dimse.identifier import EXTENDED, Answerer, Asked, parse_identifier
from dimse.sop_classes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    PATIENT_STUDY_ONLY_FIND,
    QUERY_TRANSFER_SYNTAXES,
    STUDY_ROOT_FIND,
)
from gateway.instances.encoding.structure import Walk, deflated, syntax_of
from gateway.model.attributes import vr_of
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.imaging import Attributes, Element, JsonValue, Key, Level, Match
from gateway.model.settings import Limits
from policy.parties import NhsNumber, TrustId

LIMITS = Limits()
LEVEL, CHARSET, TITLE = "00080052", "00080005", "00080054"
RELATIONAL = b"\1"


def identifier(
    keys: dict[str, JsonValue], transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN, charset: str = "ISO_IR 100"
) -> bytes:
    """An identifier of these keys; None stands for zero length."""
    elements: dict[str, Element] = {}
    for tag, value in keys.items():
        vr = vr_of(tag)
        values: list[JsonValue] = [] if value is None else value if isinstance(value, list) else [value]
        values = [{"Alphabetic": text} if vr == "PN" and isinstance(text, str) else text for text in values]
        elements[tag] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return encode_dataset(elements, transfer_syntax, (charset,))


def ask(
    keys: dict[str, JsonValue] | bytes,
    level: str = "STUDY",
    *,
    model: str = STUDY_ROOT_FIND,
    negotiated: bytes = b"",
    is_lenient: bool = False,
    transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
    limits: Limits = LIMITS,
    fallback: str = "ISO_IR 100",
) -> Asked:
    body = keys if isinstance(keys, bytes) else identifier({LEVEL: level, **keys}, transfer_syntax)
    return parse_identifier(
        body,
        transfer_syntax,
        model,
        negotiated,
        limits=limits,
        is_lenient=is_lenient,
        fallback_charset=fallback,
    )


def keys_of(asked: Asked) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {key.path: key.values for key in asked.query.keys}


def refusal(keys: dict[str, JsonValue] | bytes, level: str = "STUDY", **options: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        ask(keys, level, **options)  # type: ignore[arg-type]  # passed through
    return refused.value


A_STUDY: Attributes = {
    "00080020": {"vr": "DA", "Value": ["20250101"]},
    "00080050": {"vr": "SH", "Value": ["A1"]},
    "00080056": {"vr": "CS", "Value": ["NEARLINE"]},
    "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
    "00081030": {"vr": "LO", "Value": ["Head"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]},
    "00100020": {"vr": "LO", "Value": ["9990000018"]},
    "0020000D": {"vr": "UI", "Value": ["1.2"]},
    "00201208": {"vr": "IS", "Value": [12]},
}


def match(row: Attributes = A_STUDY) -> Match:
    return Match(Level.STUDY, NhsNumber.parse("9990000018"), "1.2", "", "", (TrustId("RJ1"),), row)


def answered(asked: Asked, row: Attributes = A_STUDY, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> Attributes:
    """A response identifier as its receiver sees it, the level, the title and the character set included."""
    body, _ = Answerer(asked, transfer_syntax, "GATEWAY").row(match(row))
    elements = list(Walk(syntax_of(transfer_syntax), body, elements_max=500).elements())
    assert [raw.tag for raw in elements] == sorted(raw.tag for raw in elements)
    declared = next(raw.value for raw in elements if raw.name == CHARSET)
    title = next(raw.value for raw in elements if raw.name == TITLE)
    found = dict(decode_dataset(body, transfer_syntax, Reading()))
    found[CHARSET] = {"vr": "CS", "Value": [declared.decode().strip()]}
    found[TITLE] = {"vr": "AE", "Value": [title.decode().strip()]}
    return found


def is_lacking(asked: Asked, row: Attributes = A_STUDY) -> bool:
    return Answerer(asked, EXPLICIT_VR_LITTLE_ENDIAN, "GATEWAY").row(match(row))[1]


# The level and the hierarchy


@pytest.mark.parametrize("transfer_syntax", QUERY_TRANSFER_SYNTAXES)
def test_a_study_question_is_read_in_each_transfer_syntax(transfer_syntax: str) -> None:
    asked = ask({"00100020": "9990000018", "0020000D": None}, transfer_syntax=transfer_syntax)
    assert asked.query.level is Level.STUDY
    assert asked.query.keys == (Key(("00100020",), "LO", ("9990000018",)),)
    assert asked.query.include == {"00100020", "0020000D"}


def test_a_deflated_identifier_that_grows_beyond_measure_is_refused() -> None:
    bomb = deflated(struct.pack("<HH2s2xI", 0x0008, 0x0119, b"UC", 10_000_000) + b"x" * 10_000_000)
    assert "longer" in str(refusal(bomb, transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))


@pytest.mark.parametrize(
    ("model", "levels"),
    [
        (PATIENT_ROOT_FIND, ["PATIENT", "STUDY", "SERIES", "IMAGE"]),
        (STUDY_ROOT_FIND, ["STUDY", "SERIES", "IMAGE"]),
        (PATIENT_STUDY_ONLY_FIND, ["PATIENT", "STUDY"]),
    ],
)
def test_each_model_has_its_levels_and_no_others(model: str, levels: list[str]) -> None:
    for level in ("PATIENT", "STUDY", "SERIES", "IMAGE"):
        if level in levels:
            assert ask({"00100020": "9"}, level, model=model, is_lenient=True).query.level == level
        else:
            assert refusal({"00100020": "9"}, level, model=model).offending == (LEVEL,)


@pytest.mark.parametrize("level", ["study", "Study", "STUDYROOT", "", "STUDY\\SERIES"])
def test_a_level_that_is_no_level_is_refused_with_its_tag(level: str) -> None:
    body = struct.pack("<HH2sH", 0x0008, 0x0052, b"CS", len(level)) + level.encode()
    assert refusal(body).offending == (LEVEL,)


def test_an_identifier_without_a_level_is_refused_with_its_tag() -> None:
    error = refusal(identifier({"00100020": "9990000018"}))
    assert error.offending == (LEVEL,) and "level" in str(error)


@pytest.mark.parametrize(
    ("model", "level", "above"),
    [
        (STUDY_ROOT_FIND, "SERIES", ["0020000D"]),
        (STUDY_ROOT_FIND, "IMAGE", ["0020000D", "0020000E"]),
        (PATIENT_ROOT_FIND, "STUDY", ["00100020"]),
        (PATIENT_ROOT_FIND, "SERIES", ["00100020", "0020000D"]),
        (PATIENT_ROOT_FIND, "IMAGE", ["00100020", "0020000D", "0020000E"]),
    ],
)
def test_each_level_above_is_named_by_one_unique_key_unless_the_question_may_be_relational(
    model: str, level: str, above: list[str]
) -> None:
    whole: dict[str, JsonValue] = dict.fromkeys(above, "1.2")
    assert keys_of(ask(whole, level, model=model)).keys() == {(tag,) for tag in above}
    for tag in above:
        without = {key: value for key, value in whole.items() if key != tag}
        for wrong in (without, {**whole, tag: None}):
            assert refusal(wrong, level, model=model).offending == (tag,)
            assert refusal(wrong, level, model=model, negotiated=b"\0\1").offending == (tag,)
            assert ask(wrong, level, model=model, negotiated=RELATIONAL).query.level == level
            assert ask(wrong, level, model=model, is_lenient=True).query.level == level
    if above[-1] != "00100020":
        assert refusal({**whole, above[-1]: ["1.2", "1.3"]}, level, model=model).offending == (above[-1],)


def test_unique_keys_of_the_level_and_above_stand_in_every_row_asked_or_not() -> None:
    def tags(asked: Asked) -> list[str]:
        return [slot.tag for slot in asked.echoed]

    assert tags(ask({"00100020": "9"})) == ["00100020", "0020000D"]
    assert tags(ask({"0020000D": "1.2", "0020000E": "1.3"}, "IMAGE")) == ["00080018", "0020000D", "0020000E"]
    assert tags(ask({"00100010": "DOE"}, "PATIENT", model=PATIENT_ROOT_FIND)) == ["00100010", "00100020"]


# Keys and their values


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        ("00080061", ["CT", "MR"], ("CT", "MR")),
        ("0020000D", ["1.2", "1.3"], ("1.2", "1.3")),
        ("00080020", "20180811-", ("20180811-",)),
        ("00080020", "-20180811", ("-20180811",)),
        ("00080030", "1000-120000.123", ("1000-120000.123",)),
        ("00100010", "SMI*", ("SMI*",)),
        ("00100010", "SMITH^", ("SMITH^",)),
        ("00100010", "smith^john", ("smith^john",)),
        ("00100010", "Müller^J?rg", ("Müller^J?rg",)),
        ("00100020", "*9990000018*", ("*9990000018*",)),
        ("00080050", "A1", ("A1",)),
        ("00100020", "*", None),
        ("00100010", "*", None),
        ("0020000D", "*", None),
        ("00080020", None, None),
    ],
)
def test_values_are_alternatives_ranges_wild_cards_or_anything(
    tag: str, value: JsonValue, expected: tuple[str, ...] | None
) -> None:
    asked = ask({tag: value})
    assert keys_of(asked).get((tag,)) == expected
    assert tag in asked.query.include and asked.unsupported == ()


def test_three_groups_of_a_name_are_one_key() -> None:
    name: JsonValue = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}
    body = encode_dataset(
        {LEVEL: {"vr": "CS", "Value": ["STUDY"]}, "00100010": {"vr": "PN", "Value": [name]}},
        EXPLICIT_VR_LITTLE_ENDIAN,
        ("", "ISO 2022 IR 87"),
    )
    declared = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", 16) + b"\\ISO 2022 IR 87 "
    assert keys_of(ask(declared + body)) == {("00100010",): ("Yamada^Tarou=山田^太郎",)}


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("0020000D", "1.2*"),
        ("0020000D", "1.2.x"),
        ("00080020", "2018"),
        ("00080020", "20181301"),
        ("00080030", "2500"),
        ("00100020", "12\x0134"),
        ("00100020", "9990000018\\9990000026"),
        ("00100010", "DOE\nJANE"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_tag_in_words_that_do_not_repeat_it(
    tag: str, value: str
) -> None:
    text = value.encode() + b" " * (len(value) % 2)
    group, number = int(tag[:4], 16), int(tag[4:], 16)
    body = identifier({LEVEL: "STUDY"}) + struct.pack("<HH2sH", group, number, vr_of(tag).encode(), len(text)) + text
    error = refusal(body)
    assert error.offending == (tag,)
    assert value not in str(error) and str(error)[0].islower()


def test_limits_hold_at_the_limit_and_one_past_it() -> None:
    limits = replace(LIMITS, query_keys_max=2, include_fields_max=3, uid_list_max=2, key_value_chars_max=4)
    assert len(keys_of(ask({"00100020": "9", "00080050": "A"}, limits=limits))) == 2
    assert isinstance(refusal({"00100020": "9", "00080050": "A", "00100040": "F"}, limits=limits), RequestTooLarge)
    assert isinstance(refusal({"0020000D": ["1", "2", "3"]}, limits=limits), RequestTooLarge)
    assert refusal({"00100010": "ABCDE"}, limits=limits).offending == ("00100010",)
    returned: dict[str, JsonValue] = dict.fromkeys(("00080020", "00080030", "00080050", "00080061"))
    assert ask(returned, limits=limits).query.include == returned.keys()
    assert isinstance(refusal({**returned, "00081030": None}, limits=limits), RequestTooLarge)


def test_a_key_that_cannot_be_matched_at_this_level_is_echoed_and_told() -> None:
    asked = ask({"00100020": "9", "00080018": "1.2", "00080080": "ROYAL", "00081030": "Head"})
    assert asked.unsupported == ("00080018", "00080080")
    assert {"00080018", "00080080"} <= {slot.tag for slot in asked.echoed}
    assert keys_of(asked) == {("00081030",): ("Head",), ("00100020",): ("9",)}
    assert is_lacking(asked, {**A_STUDY, "00080018": {"vr": "UI"}, "00080080": {"vr": "LO"}})


def test_private_keys_and_keys_that_nobody_knows_are_echoed_empty_and_told() -> None:
    private = struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 4) + b"ACME"
    private += struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 2) + b"X "
    unknown = struct.pack("<HH2sH", 0x0012, 0x9999, b"LO", 0)
    asked = ask(identifier({LEVEL: "STUDY"}) + private + unknown + identifier({"00100020": "9"}))
    theirs: Attributes = {
        **A_STUDY,
        "00090010": {"vr": "LO", "Value": ["OTHER"]},
        "00091001": {"vr": "LO", "Value": ["Y"]},
    }
    body, lacks = Answerer(asked, EXPLICIT_VR_LITTLE_ENDIAN, "GATEWAY").row(match(theirs))
    answer = Walk(syntax_of(EXPLICIT_VR_LITTLE_ENDIAN), body, elements_max=99).elements()
    assert [raw.name for raw in answer if not raw.value] == ["00090010", "00091001", "00129999"] and lacks
    assert asked.query.include == {"00100020"}


def test_modality_at_study_level_means_modalities_in_study_for_lenient_callers_only() -> None:
    assert ask({"00080060": "CT"}).unsupported == ("00080060",)
    asked = ask({"00080060": "CT"}, is_lenient=True)
    assert keys_of(asked) == {("00080061",): ("CT",)} and asked.unsupported == ()
    assert "00080061" in asked.query.include
    assert answered(asked)["00080060"]["Value"] == ["CT", "SR"] and not is_lacking(asked)
    both = ask({"00080060": "CT", "00080061": "MR"}, is_lenient=True)
    assert keys_of(both) == {("00080061",): ("MR",)} and both.unsupported == ("00080060",)


def test_a_sequence_is_matched_by_the_keys_of_its_one_item() -> None:
    item: JsonValue = {
        "00400009": {"vr": "SH", "Value": ["S1"]},
        "00401001": {"vr": "SH"},
        "00400007": {"vr": "LO", "Value": ["x"]},
    }
    asked = ask({"0020000D": "1.2", "00400275": [item]}, "SERIES")
    assert keys_of(asked)[("00400275", "00400009")] == ("S1",)
    assert asked.unsupported == ("00400275",)
    inside = next(slot.inside for slot in asked.echoed if slot.tag == "00400275")
    assert [slot.tag for slot in inside] == ["00400007", "00400009", "00401001"]


@pytest.mark.parametrize("items", [None, [{}]])
def test_a_sequence_without_keys_is_wanted_whole(items: JsonValue) -> None:
    asked = ask({"0020000D": "1.2", "00400275": items}, "SERIES")
    assert Slot("00400275", "SQ") in asked.echoed and asked.unsupported == ()
    whole: JsonValue = {"00400009": {"vr": "SH", "Value": ["S1"]}}
    row: Attributes = {**A_STUDY, "00400275": {"vr": "SQ", "Value": [whole]}}
    assert answered(asked, row)["00400275"] == {"vr": "SQ", "Value": [whole]}


def test_a_sequence_with_two_items_and_items_where_none_can_be_are_refused() -> None:
    assert refusal({"0020000D": "1.2", "00400275": [{}, {}]}, "SERIES").offending == ("00400275",)
    items = struct.pack("<HH2s2xI", 0x0010, 0x0020, b"SQ", 8) + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    assert refusal(identifier({LEVEL: "STUDY"}) + items).offending == ("00100020",)


def test_what_says_how_to_read_the_question_is_no_key() -> None:
    lengths = struct.pack("<HH2sHI", 0x0008, 0x0000, b"UL", 4, 99)
    padding = struct.pack("<HH2s2xI", 0xFFFC, 0xFFFC, b"OB", 4) + bytes(4)
    keys = identifier({LEVEL: "STUDY", "00080201": "+0100", "00080056": "ONLINE", "00100020": "9"})
    asked = ask(lengths + keys + padding)
    assert [slot.tag for slot in asked.echoed] == ["00080056", "00080201", "00100020", "0020000D"]
    assert keys_of(asked) == {("00100020",): ("9",)} and asked.unsupported == ()
    assert asked.query.include == {"00080201", "00100020"}


def test_combined_date_time_matching_is_what_was_negotiated() -> None:
    assert not ask({"00100020": "9"}, is_lenient=True).query.combined_datetime
    assert not ask({"00100020": "9"}, negotiated=b"\1").query.combined_datetime
    assert ask({"00100020": "9"}, negotiated=b"\0\1").query.combined_datetime


def test_extended_negotiation_is_answered_for_all_three_models() -> None:
    assert set(EXTENDED) == {PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_STUDY_ONLY_FIND}
    assert set(EXTENDED.values()) == {b"\1\1\0\0\0\0\0"}


def test_an_identifier_that_is_no_data_set_or_says_a_thing_twice_is_refused() -> None:
    assert "data set" in str(refusal(b"\x08\x00\x52\x00"))
    assert "twice" in str(refusal(identifier({LEVEL: "STUDY", "00100020": "9"}) * 2))


# Character sets


def test_the_declared_set_reads_the_keys_and_writes_the_answer() -> None:
    declared = identifier({CHARSET: "ISO_IR 144", LEVEL: "STUDY"}) + encode_dataset(
        {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Икан"}]}}, EXPLICIT_VR_LITTLE_ENDIAN, ("ISO_IR 144",)
    )
    asked = ask(declared)
    assert keys_of(asked) == {("00100010",): ("Икан",)} and asked.charset == ("ISO_IR 144",)
    row: Attributes = {**A_STUDY, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Люк"}]}}
    assert answered(asked, row)["00100010"] == row["00100010"]
    assert answered(asked, row)[CHARSET]["Value"] == ["ISO_IR 144"]


@pytest.mark.parametrize("declared", [None, "", "ISO_IR 6", "SOMETHING"])
def test_an_undeclared_question_is_read_and_answered_in_the_callers_own_set(declared: str | None) -> None:
    start = identifier({CHARSET: declared or None} if declared is not None else {}) + identifier({LEVEL: "STUDY"})
    asked = ask(start + identifier({"00100010": "José"}))
    assert keys_of(asked) == {("00100010",): ("José",)} and asked.charset == ("ISO_IR 100",)


def test_a_row_that_the_requesters_set_cannot_say_is_sent_as_utf_8_and_the_others_are_not() -> None:
    asked = ask({"00100010": None})
    polish: Attributes = {**A_STUDY, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Wałęsa^Lech"}]}}
    accented: Attributes = {**A_STUDY, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}}
    for row, charset in ((polish, "ISO_IR 192"), (accented, "ISO_IR 100"), (A_STUDY, "ISO_IR 100")):
        assert answered(asked, row)["00100010"] == row["00100010"]
        assert answered(asked, row)[CHARSET]["Value"] == [charset]


# Answers


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN])
def test_every_requested_key_is_answered_and_what_only_the_gateway_may_say_is_said_by_it(transfer_syntax: str) -> None:
    asked = ask({"00100020": "9990000018", "00080020": None, "00081030": None, TITLE: "PACS", "00080056": None})
    row: Attributes = {**A_STUDY, TITLE: {"vr": "AE", "Value": ["SOURCE"]}, CHARSET: {"vr": "CS", "Value": ["GBK"]}}
    assert answered(asked, row, transfer_syntax) == {
        CHARSET: {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080020": {"vr": "DA", "Value": ["20250101"]},
        LEVEL: {"vr": "CS", "Value": ["STUDY"]},
        TITLE: {"vr": "AE", "Value": ["GATEWAY"]},
        "00080056": {"vr": "CS", "Value": ["NEARLINE"]},
        "00081030": {"vr": "LO", "Value": ["Head"]},
        "00100020": {"vr": "LO", "Value": ["9990000018"]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
    }
    assert not is_lacking(asked, row)


def test_a_key_that_a_row_does_not_carry_is_empty_and_told() -> None:
    asked = ask({"00080090": None, "00201208": None, "00201206": None})
    found = answered(asked)
    assert found["00080090"] == {"vr": "PN"} and found["00201206"] == {"vr": "IS"}
    assert found["00201208"]["Value"] == [12] and is_lacking(asked)
    assert not is_lacking(ask({"00201208": None}))


def test_a_count_that_is_not_known_is_empty_never_nought() -> None:
    asked = ask({"00201200": None})
    assert answered(asked)["00201200"] == {"vr": "IS"} and is_lacking(asked)


def test_an_availability_that_is_none_is_not_passed_on() -> None:
    asked = ask({"00080056": None})
    for value in ("PERHAPS", "ONLINE\\OFFLINE", ""):
        assert answered(asked, {**A_STUDY, "00080056": {"vr": "CS", "Value": [value]}})["00080056"] == {"vr": "CS"}
    assert not is_lacking(asked, {tag: element for tag, element in A_STUDY.items() if tag != "00080056"})


_TAGS = st.sampled_from([*A_STUDY, "00080005", "00080052", "00080060", "00400275"])


@given(
    st.lists(st.tuples(_TAGS, st.text("AZé*?\\19-. \x00", max_size=10)), max_size=6),
    st.sampled_from(["STUDY", "SERIES", "IMAGE", "PATIENT"]),
    st.sampled_from([b"", b"\1", b"\1\1"]),
    st.booleans(),
)
def test_whatever_is_asked_is_a_query_within_the_tables_or_an_invalid_request(
    pairs: list[tuple[str, str]], level: str, negotiated: bytes, is_lenient: bool
) -> None:
    body = identifier({LEVEL: level})
    for tag, text in pairs:
        value = text.encode("latin_1")
        body += struct.pack("<HH2sH", int(tag[:4], 16), int(tag[4:], 16), b"LO", len(value)) + value
    try:
        asked = ask(body, negotiated=negotiated, is_lenient=is_lenient)
    except InvalidRequest as error:
        assert all(len(tag) == 8 for tag in error.offending)
        return
    assert all(key.values and all(key.values) for key in asked.query.keys)
    assert {key.path[0] for key in asked.query.keys} <= asked.query.include
    assert {slot.tag for slot in asked.echoed} <= answered(asked).keys()


@given(st.binary(max_size=120), st.sampled_from(QUERY_TRANSFER_SYNTAXES))
def test_any_bytes_are_a_query_or_an_invalid_request(body: bytes, transfer_syntax: str) -> None:
    try:
        ask(body, transfer_syntax=transfer_syntax)
    except InvalidRequest:
        return
