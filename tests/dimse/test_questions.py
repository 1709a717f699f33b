"""What a C-FIND archive is asked, level by level, and what rows take over from their parents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse.elements import Reading, decode_dataset, encode_dataset
from dimse.scu.questions import (
    Model,
    Question,
    Quirk,
    fits,
    has_all_parents,
    hierarchical,
    identifier,
    inheriting,
    keys_until,
    one_by_one,
    relational,
    under,
    with_modalities,
)
from gateway.model.attributes import MATCHING, VRS_OF_TAG, vr_of
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    Attributes,
    Element,
    Key,
    Level,
    Query,
)

ANNES = Key((PATIENT_ID,), "LO", ("9990000018",))
SINCE = Key((STUDY_DATE,), "DA", ("20200101-",))
STUDIES = Key((STUDY_UID,), "UI", ("1.2", "1.3"))
CTS = Key((MODALITY,), "CS", ("CT",))
NUMBER_1 = Key(("00200013",), "IS", ("1",))
PLAIN: frozenset[Quirk] = frozenset()


def text(vr: str, *values: str) -> Element:
    return {"vr": vr, "Value": [*values]} if values else {"vr": vr}


def test_identity_unique_keys_and_what_each_level_requires_are_always_asked() -> None:
    study, series, image = hierarchical(Query(Level.IMAGE, (ANNES,)), PLAIN)
    assert study.wanted >= {PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_NAME, PATIENT_BIRTH_DATE, STUDY_UID, "00201208"}
    assert series.wanted >= {SERIES_UID, MODALITY, "00200011"} and image.wanted >= {SOP_UID, "00080016", "00200013"}


def test_each_level_is_asked_its_own_keys_and_attributes_alone() -> None:
    query = Query(Level.IMAGE, (ANNES, SINCE, CTS, NUMBER_1), include=frozenset({"00102160", "00080070", "00180015"}))
    study, series, image = hierarchical(query, PLAIN)
    assert [step.level for step in (study, series, image)] == [Level.STUDY, Level.SERIES, Level.IMAGE]
    assert study.keys == (ANNES, SINCE) and series.keys == (CTS,) and image.keys == (NUMBER_1,)
    assert "00102160" in study.wanted and "00180015" in series.wanted
    # Manufacturer may stand at any level: it is asked where the caller asked.
    assert "00080070" in image.wanted and "00080070" not in study.wanted | series.wanted
    assert not (study.wanted & series.wanted | study.wanted & image.wanted | series.wanted & image.wanted)


def test_nothing_below_the_level_of_a_question_is_asked() -> None:
    query = Query(Level.STUDY, (ANNES, CTS), include=frozenset({MODALITY, SOP_UID, "00280010"}))
    [study] = hierarchical(query, PLAIN)
    assert study.keys == (ANNES,) and not study.wanted & {MODALITY, SOP_UID, "00280010"}


NOTHING_TO_ASK = (
    "00080005 00080052 00080054 00080056 00081190 00201200 00000100 00020010 00041130 7FE00010 00091001".split()
)


@pytest.mark.parametrize("tag", NOTHING_TO_ASK)
def test_what_no_archive_may_tell_or_an_identifier_cannot_hold_is_never_asked(tag: str) -> None:
    [study] = hierarchical(Query(Level.STUDY, (ANNES,), include=frozenset({tag})), PLAIN)
    assert tag not in study.wanted


def test_a_relational_question_has_the_keys_and_attributes_of_all_levels() -> None:
    query = Query(Level.SERIES, (ANNES, CTS))
    whole = relational(query, PLAIN)
    study, series = hierarchical(query, PLAIN)
    assert whole.level is Level.SERIES and whole.keys == (ANNES, CTS) and whole.wanted == study.wanted | series.wanted


def test_only_uids_are_asked_as_lists() -> None:
    several = Key((MODALITIES_IN_STUDY,), "CS", ("CT", "MR"))
    [study] = hierarchical(Query(Level.STUDY, (STUDIES, several)), PLAIN)
    assert study.keys == (STUDIES,) and MODALITIES_IN_STUDY in study.wanted


def test_quirks_change_what_is_asked_and_never_what_is_found() -> None:
    wild = Key((ACCESSION_NUMBER,), "SH", ("A*1",))
    modality = Key((MODALITIES_IN_STUDY,), "CS", ("CT",))
    query = Query(Level.STUDY, (ANNES, wild, modality))
    assert hierarchical(query, PLAIN)[0].keys == (ANNES, wild, modality)
    assert hierarchical(query, frozenset({Quirk.NO_WILDCARDS}))[0].keys == (ANNES, modality)
    [padded, *_] = hierarchical(query, frozenset({Quirk.WILDCARD_PATIENT_ID}))[0].keys
    assert padded.values == ("*9990000018*",)
    [by_series] = hierarchical(query, frozenset({Quirk.MODALITIES_BY_SERIES}))
    assert by_series.keys == (ANNES, wild) and MODALITIES_IN_STUDY not in by_series.wanted
    assert keys_until(query, Level.STUDY) == query.keys


def test_rows_are_held_to_the_keys_of_their_own_level_and_those_above() -> None:
    query = Query(Level.IMAGE, (ANNES, CTS, NUMBER_1, Key(("00080070",), "LO", ("ACME",))))
    assert keys_until(query, Level.STUDY) == (ANNES,)
    assert keys_until(query, Level.SERIES) == (ANNES, CTS)
    assert keys_until(query, Level.IMAGE) == query.keys


def test_a_question_below_names_all_that_lies_above() -> None:
    _, series, image = hierarchical(Query(Level.IMAGE, (ANNES, CTS)), PLAIN)
    parent: Attributes = {
        PATIENT_ID: text("LO", "LOCAL 1"),
        STUDY_UID: text("UI", "1.2"),
        SERIES_UID: text("UI", "1.2.3"),
    }
    study_pin, series_pin = Key((STUDY_UID,), "UI", ("1.2",)), Key((SERIES_UID,), "UI", ("1.2.3",))
    assert under(series, parent, Model.STUDY_ROOT).keys == (study_pin, CTS)
    assert under(image, parent, Model.STUDY_ROOT).keys == (study_pin, series_pin)
    # Patient Root wants the Patient ID by which the archive itself files the study.
    local = Key((PATIENT_ID,), "LO", ("LOCAL 1",))
    assert under(image, parent, Model.PATIENT_ROOT).keys == (local, study_pin, series_pin)


def test_patient_root_fits_only_a_question_that_names_one_patient() -> None:
    [of_anne] = hierarchical(Query(Level.STUDY, (ANNES,)), PLAIN)
    [of_studies] = hierarchical(Query(Level.STUDY, (STUDIES,)), PLAIN)
    assert fits(of_anne, Model.PATIENT_ROOT) and fits(of_studies, Model.STUDY_ROOT)
    assert not fits(of_studies, Model.PATIENT_ROOT)


def test_listed_uids_are_asked_one_by_one_in_every_combination() -> None:
    series = Key((SERIES_UID,), "UI", ("7", "8"))
    asked = list(one_by_one(Question(Level.SERIES, (STUDIES, ANNES, series), frozenset())))
    assert [tuple(key.values[0] for key in each.keys) for each in asked] == [
        ("1.2", "9990000018", "7"),
        ("1.2", "9990000018", "8"),
        ("1.3", "9990000018", "7"),
        ("1.3", "9990000018", "8"),
    ]


def test_rows_take_over_what_their_parents_said_and_keep_what_they_say_themselves() -> None:
    parent: Attributes = {
        STUDY_UID: text("UI", "1.2"),
        PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": "ONE^ANNE"}]},
        STUDY_DATE: text("DA", "20200101"),
    }
    row: Attributes = {SERIES_UID: text("UI", "7"), PATIENT_NAME: {"vr": "PN"}, STUDY_DATE: text("DA", "20200102")}
    [found] = inheriting([parent], [row], Level.SERIES)
    assert found == {**parent, SERIES_UID: text("UI", "7"), STUDY_DATE: text("DA", "20200102")}
    assert STUDY_UID not in row


def test_a_row_of_another_study_takes_over_nobodys_identity() -> None:
    parent: Attributes = {STUDY_UID: text("UI", "1.2"), PATIENT_ID: text("LO", "9990000018")}
    stray: Attributes = {SERIES_UID: text("UI", "7"), STUDY_UID: text("UI", "6.6")}
    assert inheriting([parent], [stray], Level.SERIES) == []


def test_a_study_that_is_filed_under_two_patients_gives_each_row_under_both() -> None:
    parents: list[Attributes] = [{STUDY_UID: text("UI", "1.2"), PATIENT_ID: text("LO", number)} for number in "12"]
    rows = inheriting(parents, [{SERIES_UID: text("UI", "7")}], Level.SERIES)
    assert [row[PATIENT_ID]["Value"] for row in rows] == [["1"], ["2"]]


def test_a_relational_row_must_say_whose_it_is_and_what_it_lies_in() -> None:
    whole: dict[str, Element] = {
        PATIENT_ID: text("LO", "1"), STUDY_UID: text("UI", "1.2"), SERIES_UID: text("UI", "1.2.3"),
    }  # fmt: skip
    assert has_all_parents(whole, Level.IMAGE)
    for tag in whole:
        assert not has_all_parents(whole | {tag: text(str(whole[tag]["vr"]))}, Level.IMAGE)


def test_modalities_are_gathered_from_series_and_unknown_if_they_say_nothing() -> None:
    row: Attributes = {STUDY_UID: text("UI", "1.2"), MODALITIES_IN_STUDY: text("CS")}
    series: list[Attributes] = [{MODALITY: text("CS", each)} for each in ("MR", "CT", "MR")]
    assert with_modalities(row, series)[MODALITIES_IN_STUDY] == text("CS", "CT", "MR")
    assert with_modalities(row, [{MODALITY: text("CS")}]) == row


def test_an_identifier_has_keys_with_values_and_all_else_empty() -> None:
    name = Key((PATIENT_NAME,), "PN", ("YAMADA^TAROU=山田^太郎",))
    nested = (
        Key((OTHER_PATIENT_IDS, PATIENT_ID), "LO", ("7",)),
        Key((OTHER_PATIENT_IDS, "00100021"), "LO", ("NHS",)),
    )
    question = Question(Level.STUDY, (STUDIES, name, *nested), frozenset({STUDY_UID, STUDY_DATE, "00080051"}))
    assert identifier(question) == {
        "00080052": text("CS", "STUDY"),
        STUDY_UID: text("UI", "1.2", "1.3"),
        PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": "YAMADA^TAROU", "Ideographic": "山田^太郎"}]},
        OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [{PATIENT_ID: text("LO", "7"), "00100021": text("LO", "NHS")}]},
        STUDY_DATE: text("DA"),
        "00080051": text("SQ"),
    }
    assert set(question.texts()) == {"1.2", "1.3", "YAMADA^TAROU=山田^太郎", "7", "NHS"}


PATHS = sorted(MATCHING[Level.IMAGE])
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\=^"), min_size=1, max_size=12)
UIDS = st.lists(st.from_regex(r"[0-9.]{1,64}", fullmatch=True), min_size=1, max_size=3, unique=True)


@st.composite
def keys(draw: st.DrawFn) -> Key:
    path = draw(st.sampled_from(PATHS))
    vr = vr_of(path[-1])
    if vr == "UI":
        return Key(path, vr, tuple(draw(UIDS)))
    return Key(path, vr, (draw(st.integers(0, 99).map(str) if vr == "IS" else TEXT),))


@given(
    st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]),
    st.lists(keys(), max_size=6, unique_by=lambda key: key.path),
    st.frozensets(st.sampled_from(sorted(VRS_OF_TAG)), max_size=6),
    st.sampled_from(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]),
)
def test_every_question_is_an_identifier_that_reads_as_it_was_meant(
    level: Level, asked: list[Key], include: frozenset[str], syntax: str
) -> None:
    for question in hierarchical(Query(level, tuple(asked), include=include), PLAIN):
        read = decode_dataset(encode_dataset(identifier(question), syntax, ()), syntax, Reading())
        assert read["00080052"]["Value"] == [question.level.value]
        assert read.keys() == question.wanted | {key.path[0] for key in question.keys} | {"00080052"}
        for key in question.keys:
            *above, tag = key.path
            found: Attributes = read
            for each in above:
                found = found[each]["Value"][0]  # type: ignore[index, assignment]  # one item, as it was put in
            values = found[tag]["Value"]
            assert isinstance(values, list)
            texts = [value["Alphabetic"] if isinstance(value, dict) else str(value) for value in values]
            assert texts == list(key.values)
