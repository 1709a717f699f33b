"""Query strings become queries: how viewers ask, what is refused, and where the limits are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.parameters import Question, parse_question, uid_from_path
from gateway.model.attributes import MATCHING
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.imaging import PATIENT_ID, PATIENT_NAME, STUDY_DATE, STUDY_UID, Key, Level
from gateway.model.settings import Limits

LIMITS = Limits()


def ask(query_string: str, level: Level = Level.STUDY, limits: Limits = LIMITS, **options: object) -> Question:
    return parse_question(query_string, level, limits, **options)  # type: ignore[arg-type]  # passed through


def values(query_string: str, tag: str, level: Level = Level.STUDY) -> tuple[str, ...] | None:
    key = ask(query_string, level).query.key(tag)
    return key.values if key else None


@pytest.mark.parametrize("name", ["PatientName", "patientname", "PATIENTNAME", "00100010"])
def test_a_key_is_named_by_keyword_in_any_case_or_by_tag(name: str) -> None:
    assert values(f"{name}=DOE^JANE", PATIENT_NAME) == ("DOE^JANE",)


@pytest.mark.parametrize("name", ["0020000D", "0020000d"])
def test_a_tag_may_be_written_in_lower_case(name: str) -> None:
    assert values(f"{name}=1.2.3", STUDY_UID) == ("1.2.3",)


@pytest.mark.parametrize(
    "name",
    ["RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009", "requestattributessequence.00400009"],
)
def test_a_dotted_path_reaches_into_a_sequence(name: str) -> None:
    [key] = ask(f"{name}=S1", Level.SERIES).query.keys
    assert key == Key(("00400275", "00400009"), "SH", ("S1",))


@pytest.mark.parametrize("level", MATCHING)
def test_every_required_attribute_of_the_tables_can_be_matched_at_its_level(level: Level) -> None:
    examples = {"DA": "20250101", "TM": "1015", "UI": "1.2.3", "IS": "7"}
    for path in MATCHING[level]:
        vr = {"00080020": "DA", "00400244": "DA", "00100030": "DA", "00080030": "TM", "00400245": "TM"}.get(path[-1])
        vr = vr or ("UI" if path[-1] in ("0020000D", "0020000E", "00080018", "00080016") else "")
        vr = vr or ("IS" if path[-1] in ("00200011", "00200013") else "")
        question = ask(f"{'.'.join(path)}={examples.get(vr, 'X')}", level)
        assert [key.path for key in question.query.keys] == [path] and question.unsupported == ()


def test_an_unknown_key_is_ignored_and_named() -> None:
    question = ask("PatientID=1&Nonsense=x&99990010=y&PatientMood=good")
    assert [key.path for key in question.query.keys] == [(PATIENT_ID,)]
    assert question.unsupported == ("Nonsense", "99990010", "PatientMood")


def test_a_known_attribute_that_cannot_be_matched_at_this_level_is_ignored_and_named_not_silently_unmatched() -> None:
    question = ask("Modality=CT&PatientID=1")
    assert question.unsupported == ("Modality",)
    assert question.query.key("00080060") is None


def test_a_name_that_is_key_and_included_field_is_still_a_key() -> None:
    for query_string in ("PatientName=DOE&includefield=PatientName", "includefield=00100010&PatientName=DOE"):
        question = ask(query_string)
        assert question.query.key(PATIENT_NAME) and PATIENT_NAME in question.query.include


def test_included_fields_come_in_all_four_forms_and_unknown_ones_are_passed_over() -> None:
    question = ask(
        "includefield=00081030,StudyID&includefield=00100030&includefield=,,Nonsense,99990001,00400275.00400009"
    )
    assert question.query.include == {"00081030", "00200010", "00100030", "00400275"}
    assert question.unsupported == () and not question.query.include_all
    assert ask("includefield=all").query.include_all and ask("includefield=ALL").query.include_all


@pytest.mark.parametrize("separator", [",", "\\", "\\\\", "%5C", "%5C%5C", "%2C", " , ", ",,"])
def test_a_list_of_uids_is_separated_by_commas_or_backslashes_single_or_double(separator: str) -> None:
    assert values(f"StudyInstanceUID=1.2{separator}1.3", STUDY_UID) == ("1.2", "1.3")


def test_empty_members_and_doubles_in_a_list_are_tolerated() -> None:
    assert values("StudyInstanceUID=,1.2,,1.3,1.2,", STUDY_UID) == ("1.2", "1.3")
    assert values("ModalitiesInStudy=CT,,MR%5CCT", "00080061") == ("CT", "MR")


@pytest.mark.parametrize("value", ["", "*", "**", "%20", "%2A"])
def test_an_empty_value_or_a_lone_star_asks_for_the_attribute_and_matches_anything(value: str) -> None:
    question = ask(f"PatientName={value}&StudyInstanceUID={value}&StudyDate={value}&PatientID={value}")
    assert question.query.keys == () and question.unsupported == ()
    assert question.query.include == {PATIENT_NAME, STUDY_UID, STUDY_DATE, PATIENT_ID}


def test_two_stars_round_an_equals_sign_are_no_universal_match() -> None:
    assert values("PatientName=*%3D*", PATIENT_NAME) == ("*=*",)


@pytest.mark.parametrize("value", ["20250101", "20250101-20250228", "20250101-", "-20250101", "%2020250101%20"])
def test_dates_and_ranges_of_dates_are_read_open_or_closed(value: str) -> None:
    assert values(f"StudyDate={value}", STUDY_DATE) == (value.replace("%20", ""),)


@pytest.mark.parametrize("value", ["10", "1015", "101559", "101559.123", "10-11", "-1015", "2300-0100", "235960"])
def test_times_and_ranges_of_times_are_read(value: str) -> None:
    assert values(f"StudyTime={value}", "00080030") == (value,)


@pytest.mark.parametrize(
    "query_string",
    [
        "StudyDate=2025",
        "StudyDate=2025-01-01",
        "StudyDate=-",
        "StudyDate=20250101-20250102-20250103",
        "StudyDate=2025010120250102",
        "StudyDate=20251301",
        "StudyDate=20250230",
        "StudyDate=00000000",
        "StudyDate=２０２５０１０１",
        "StudyTime=25",
        "StudyTime=1060",
        "StudyTime=-",
        "StudyInstanceUID=1.2.x",
        "StudyInstanceUID=1.2*",
        "StudyInstanceUID=" + "1" * 65,
        "StudyInstanceUID=../../etc/passwd",
        "StudyInstanceUID=1.2%0A1.3",
        "PatientID=123%00456",
        "PatientID=123%0D%0AX-Injected:1",
        "PatientName=DOE%7F",
        "PatientName=DOE%C2%85",
        "PatientName=%FF%FE",
        "Pat%00ient=1",
        "PatientID=1&PatientID=2",
        "PatientID=1&00100020=2",
        "PatientID=1&patientid=*",
        "PatientID=*&patientid=1",
        "PatientID=9990000018%5C9990000026",
        "limit=-1",
        "limit=ten",
        "limit=1.5",
        "limit=1&limit=2",
        "limit=٣",
        "limit=" + "9" * 401,
        "offset=-1",
        "offset=0&offset=1",
        "fuzzymatching=perhaps",
        "fuzzymatching=true&fuzzymatching=false",
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_in_words_that_do_not_repeat_it(query_string: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        ask(query_string)
    told = str(refusal.value)
    assert told == told.lower().replace("uid", "UID").replace("yyyymmdd", "YYYYMMDD").replace(
        "hhmmss", "HHMMSS"
    ).replace("utf", "UTF")
    assert not any(text in told for text in ("passwd", "9990000018", "DOE", "Injected"))


def test_series_and_instance_numbers_are_whole_numbers() -> None:
    assert values("SeriesNumber=3", "00200011", Level.SERIES) == ("3",)
    with pytest.raises(InvalidRequest):
        ask("SeriesNumber=3b", Level.SERIES)


def test_the_same_key_twice_with_one_value_is_one_key() -> None:
    assert values("PatientID=1&00100020=1&patientid=1", PATIENT_ID) == ("1",)


def test_limit_and_offset_are_read_and_the_limit_is_held_to_ours() -> None:
    query = ask("limit=101&offset=200").query
    assert (query.limit, query.offset) == (101, 200)
    assert ask("").query.limit is None and ask("").query.offset == 0
    assert ask("limit=&offset=").query.limit is None
    assert ask("limit=0").query.limit == 0
    assert ask(f"limit={LIMITS.matches_max}").query.limit == LIMITS.matches_max
    assert ask(f"limit={LIMITS.matches_max + 1}").query.limit == LIMITS.matches_max
    assert ask("limit=" + "9" * 400 + "&offset=" + "9" * 400).query.limit == LIMITS.matches_max


@pytest.mark.parametrize(("text", "is_fuzzy"), [("true", True), ("TRUE", True), ("false", False), ("", False)])
def test_fuzzy_matching_is_taken_note_of(text: str, is_fuzzy: bool) -> None:
    assert ask(f"fuzzymatching={text}").query.fuzzy is is_fuzzy


def test_a_uid_in_the_path_is_a_key_that_a_parameter_may_repeat_but_not_contradict() -> None:
    path_keys = [Key((STUDY_UID,), "UI", ("1.2.3",))]
    for query_string in ("", "StudyInstanceUID=1.2.3", "StudyInstanceUID=1.2.3,1.2.4", "StudyInstanceUID="):
        question = ask(query_string, Level.SERIES, path_keys=path_keys)
        assert question.query.keys == (path_keys[0],)
    with pytest.raises(InvalidRequest):
        ask("StudyInstanceUID=1.2.4", Level.SERIES, path_keys=path_keys)


@pytest.mark.parametrize("text", ["", "1" * 65, "1.2.x", "1.2/3", "..\\", "1.2\n", "１.２", "1.2 "])
def test_a_malformed_uid_in_the_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        uid_from_path(text)
    assert uid_from_path("1" * 64) == "1" * 64


def test_a_value_is_as_long_as_its_limit_and_no_longer() -> None:
    limits = replace(LIMITS, key_value_chars_max=10)
    assert ask("PatientName=" + "A" * 10, limits=limits).query.keys
    assert ask("ModalitiesInStudy=" + "A" * 10, limits=limits).query.keys
    for name in ("PatientName", "ModalitiesInStudy"):
        with pytest.raises(RequestTooLarge):
            ask(f"{name}=" + "A" * 11, limits=limits)


def test_a_list_is_as_long_as_its_limit_and_no_longer() -> None:
    limits = replace(LIMITS, uid_list_max=3)
    assert len(ask("StudyInstanceUID=1,2,3", limits=limits).query.keys[0].values) == 3
    with pytest.raises(RequestTooLarge):
        ask("StudyInstanceUID=1,2,3,4", limits=limits)


def test_there_are_as_many_keys_as_their_limit_and_no_more() -> None:
    limits = replace(LIMITS, query_keys_max=2)
    assert len(ask("PatientID=1&PatientName=A", limits=limits).query.keys) == 2
    with pytest.raises(RequestTooLarge):
        ask("PatientID=1&PatientName=A&StudyID=1", limits=limits)


def test_there_are_as_many_included_fields_as_their_limit_and_no_more() -> None:
    limits = replace(LIMITS, include_fields_max=2)
    assert len(ask("includefield=00081030,StudyID", limits=limits).query.include) == 2
    with pytest.raises(RequestTooLarge):
        ask("includefield=00081030,StudyID&includefield=Nonsense", limits=limits)


def test_parameters_are_counted_before_they_are_read() -> None:
    with pytest.raises(RequestTooLarge):
        ask("&".join(["x=1"] * 10_000))


def test_a_flood_of_unknown_names_is_remembered_once_each() -> None:
    assert ask("&".join(["x=1"] * 300)).unsupported == ("x",)


def test_ohif_asks_as_it_asks() -> None:
    question = ask(
        "limit=101&offset=0&fuzzymatching=true&includefield=00081030,00080060,00080090,00100030"
        "&PatientName=*doe*&00100020=*9990000018*&AccessionNumber=*A1*&StudyDescription=*chest*"
        "&ModalitiesInStudy=CT,MR&StudyDate=19700102-20261121&StudyInstanceUID=1.2.3\\\\1.2.4"
    )
    assert {key.path[0]: key.values for key in question.query.keys} == {
        "00100010": ("*doe*",),
        "00100020": ("*9990000018*",),
        "00080050": ("*A1*",),
        "00081030": ("*chest*",),
        "00080061": ("CT", "MR"),
        "00080020": ("19700102-20261121",),
        "0020000D": ("1.2.3", "1.2.4"),
    }
    assert question.unsupported == () and question.query.fuzzy and question.query.limit == 101


_KEYWORDS = "PatientName 00100020 StudyDate StudyTime ModalitiesInStudy StudyInstanceUID SeriesNumber Nonsense"
_OTHERS = "limit offset includefield fuzzymatching accept RequestAttributesSequence.ScheduledProcedureStepID . .x x."
_NAMES = st.sampled_from([*_KEYWORDS.split(), *_OTHERS.split()])
_TEXT = st.text(max_size=40) | st.sampled_from(["*", "?", "-", "\\\\", ",", "%", "%zz", "1.2\\1.3", "true", "all", "0"])


@given(st.lists(st.tuples(_NAMES | _TEXT, _TEXT), max_size=8), st.sampled_from(list(MATCHING)))
def test_any_query_string_is_a_query_or_a_refusal(pairs: list[tuple[str, str]], level: Level) -> None:
    try:
        question = ask("&".join(f"{name}={value}" for name, value in pairs).replace("\x00", "%00"), level)
    except InvalidRequest:
        return
    for key in question.query.keys:
        assert key.values and all(key.values) and key.path in MATCHING[level]
        assert not any(character < " " for value in key.values for character in value)


@given(st.binary(max_size=200))
def test_any_bytes_as_query_string_are_a_query_or_a_refusal(raw: bytes) -> None:
    try:
        ask(raw.decode("latin-1"))
    except InvalidRequest:
        return
