"""What pins a question across trusts, and what is refused: visibly, never with zero rows (SAF-11, IDN-07)."""

from dataclasses import replace

import pytest

from gateway.model.errors import InvalidRequest, QueryTooBroad
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Key,
    Level,
    Query,
)
from gateway.sharing.scope import Scope, for_peers, matched_keys, pinned_scope
from policy.parties import NhsNumber

ANNE = NhsNumber("9990000018")
KEYS = {
    "patient_id": (PATIENT_ID, "LO"),
    "issuer": (ISSUER_OF_PATIENT_ID, "LO"),
    "name": (PATIENT_NAME, "PN"),
    "birth_date": (PATIENT_BIRTH_DATE, "DA"),
    "sex": (PATIENT_SEX, "CS"),
    "accession": (ACCESSION_NUMBER, "SH"),
    "study": (STUDY_UID, "UI"),
    "series": (SERIES_UID, "UI"),
    "image": (SOP_UID, "UI"),
    "date": (STUDY_DATE, "DA"),
    "time": (STUDY_TIME, "TM"),
    "modality": (MODALITIES_IN_STUDY, "CS"),
}


def key(name: str, values: str | tuple[str, ...]) -> Key:
    """A key of one value or several."""
    tag, vr = KEYS[name]
    return Key((tag,), vr, (values,) if isinstance(values, str) else values)


def asking(level: Level = Level.STUDY, **keys: str | tuple[str, ...]) -> Query:
    """A question with these keys."""
    return Query(level, tuple(key(name, values) for name, values in keys.items()))


PINNED = [
    ("an NHS number", asking(patient_id="9990000018"), Scope(ANNE, (), "")),
    ("with spaces", asking(patient_id="999 000 0018"), Scope(ANNE, (), "")),
    ("with hyphens", asking(patient_id="999-000-0018"), Scope(ANNE, (), "")),
    ("padded", asking(patient_id=" 9990000018 "), Scope(ANNE, (), "")),
    ("as OHIF types it", asking(patient_id="*9990000018*"), Scope(ANNE, (), "")),
    ("with one wild card", asking(patient_id="9990000018*"), Scope(ANNE, (), "")),
    ("spaced and wild", asking(patient_id="*999 000 0018*"), Scope(ANNE, (), "")),
    ("its issuer NHS", asking(patient_id="9990000018", issuer="NHS"), Scope(ANNE, (), "")),
    ("its issuer in small letters", asking(patient_id="9990000018", issuer="nhs "), Scope(ANNE, (), "")),
    (
        "its issuer by OID",
        asking(patient_id="9990000018", issuer="2.16.840.1.113883.2.1.4.1"),
        Scope(ANNE, (), ""),
    ),
    ("any issuer", asking(patient_id="9990000018", issuer="*"), Scope(ANNE, (), "")),
    ("a study", asking(study="1.2.3"), Scope(None, ("1.2.3",), "")),
    ("several studies", asking(study=("1.2.3", "1.2.4")), Scope(None, ("1.2.3", "1.2.4"), "")),
    ("a study of any patient", asking(study="1.2.3", patient_id="*"), Scope(None, ("1.2.3",), "")),
    ("a study of any name", asking(study="1.2.3", name="*"), Scope(None, ("1.2.3",), "")),
    ("an accession number", asking(accession="A123"), Scope(None, (), "A123")),
    ("an accession number as OHIF types it", asking(accession="*A123*"), Scope(None, (), "A123")),
    ("an accession number, padded", asking(accession="A123 "), Scope(None, (), "A123")),
    ("the longest accession number", asking(accession="A" * 16), Scope(None, (), "A" * 16)),
    (
        "patient and study",
        asking(patient_id="9990000018", study="1.2.3", accession="A123"),
        Scope(ANNE, ("1.2.3",), "A123"),
    ),
    ("a patient's series", asking(Level.SERIES, patient_id="9990000018"), Scope(ANNE, (), "")),
    ("a study's images", asking(Level.IMAGE, study="1.2.3"), Scope(None, ("1.2.3",), "")),
    ("the patient himself", asking(Level.PATIENT, patient_id="9990000018"), Scope(ANNE, (), "")),
    ("a patient, part of an accession number", asking(patient_id="9990000018", accession="A*"), Scope(ANNE, (), "")),
]

TOO_BROAD = [
    ("nothing", asking()),
    ("a name", asking(name="SMITH^ANNE")),
    ("name and birth date", asking(name="SMITH^ANNE", birth_date="19580314", sex="F")),
    ("a day", asking(date="20261121")),
    ("a modality", asking(modality="CT")),
    ("any patient", asking(patient_id="*")),
    ("any patient, twice over", asking(patient_id="**")),
    ("part of a number", asking(patient_id="999000*")),
    ("part of a number, both sides", asking(patient_id="*999000*")),
    ("a number with a hole", asking(patient_id="99900000?8")),
    ("a number with a star inside", asking(patient_id="999*0018")),
    ("a wild local number", asking(patient_id="*0001234*")),
    ("two patients", asking(patient_id=("9990000018", "9990000026"))),
    ("part of a number, in a study", asking(patient_id="999000*", study="1.2.3")),
    ("any study", asking(study="*")),
    ("studies that begin so", asking(study="1.2.*")),
    ("one study and any", asking(study=("1.2.3", "*"))),
    ("part of an accession number", asking(accession="A12*4")),
    ("any accession number", asking(accession="*")),
    ("an accession number with a hole", asking(accession="A12?")),
    ("a very short accession number", asking(accession="A12")),
    ("an accession number that cannot be", asking(accession="A" * 17)),
    ("two accession numbers", asking(accession=("A123", "A124"))),
    ("a series alone", asking(Level.SERIES, series="1.2.3.4")),
    ("an image alone", asking(Level.IMAGE, image="1.2.3.4.5")),
    ("the issuer alone", asking(issuer="NHS")),
    ("patients of a study", asking(Level.PATIENT, study="1.2.3")),
]

NOT_A_PATIENT = [
    ("a local number", asking(patient_id="0001234")),
    ("a wrong check digit", asking(patient_id="9990000019")),
    ("one digit repeated", asking(patient_id="9999999999")),
    ("a number of another issuer", asking(patient_id="9990000018", issuer="RZ2")),
    ("a local number in a study", asking(patient_id="0001234", study="1.2.3")),
    ("a letter for a nought", asking(patient_id="999OOOOO18")),
    ("no UID", asking(study="study-1")),
    ("an endless UID", asking(study="1" * 65)),
]


@pytest.mark.parametrize(("query", "scope"), [case[1:] for case in PINNED], ids=[case[0] for case in PINNED])
def test_a_question_is_pinned_by(query: Query, scope: Scope) -> None:
    assert pinned_scope(query) == scope


@pytest.mark.parametrize("query", [case[1] for case in TOO_BROAD], ids=[case[0] for case in TOO_BROAD])
def test_a_question_is_too_broad_that_names_only(query: Query) -> None:
    with pytest.raises(QueryTooBroad):
        pinned_scope(query)


@pytest.mark.parametrize("query", [case[1] for case in NOT_A_PATIENT], ids=[case[0] for case in NOT_A_PATIENT])
def test_a_question_is_invalid_that_names(query: Query) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        pinned_scope(query)
    assert not isinstance(refusal.value, QueryTooBroad)


@pytest.mark.parametrize("name", ["patient_id", "study", "accession", "birth_date"])
def test_a_key_that_is_given_twice_is_refused(name: str) -> None:
    """The second would be forgotten, and the answer be about another patient than the caller thinks."""
    twice = (key("patient_id", "9990000018"), key(name, "9990000026"), key(name, "9990000034"))
    with pytest.raises(InvalidRequest):
        pinned_scope(Query(Level.STUDY, twice))


def test_no_refusal_repeats_what_was_asked() -> None:
    for _, query in TOO_BROAD + NOT_A_PATIENT:
        with pytest.raises(InvalidRequest) as refusal:
            pinned_scope(query)
        for asked in query.keys:
            assert not any(len(value) > 3 and value in str(refusal.value) for value in asked.values)


def test_peers_are_asked_for_the_patient_by_number_alone() -> None:
    query = asking(
        patient_id="*999 000 0018*",
        issuer="NHS",
        name="SMITH*",
        birth_date="19580314",
        sex="F",
        date="20261121",
    )
    asked = for_peers(query, pinned_scope(query))
    assert asked.keys == (key("patient_id", "9990000018"), key("date", "20261121"))


def test_peers_are_asked_for_everything_whatever_the_page() -> None:
    query = Query(Level.STUDY, (key("patient_id", "9990000018"),), limit=10, offset=20)
    asked = for_peers(query, pinned_scope(query))
    assert (asked.limit, asked.offset) == (None, 0)


def test_peers_are_asked_a_combined_range_by_its_days_and_rows_are_held_to_both_here() -> None:
    query = replace(asking(study="1.2.3", date="20261001-20261002", time="1000-1200"), combined_datetime=True)
    scope = pinned_scope(query)
    asked = for_peers(query, scope)
    assert asked.keys == (key("study", "1.2.3"), key("date", "20261001-20261002")) and not asked.combined_datetime
    assert matched_keys(query, scope) == query.keys


@pytest.mark.parametrize(("date", "is_combined"), [("20261001", True), ("20261001-20261002", False)])
def test_peers_are_asked_for_date_and_time_that_stand_for_themselves(date: str, is_combined: bool) -> None:
    query = replace(asking(study="1.2.3", date=date, time="1000-1200"), combined_datetime=is_combined)
    assert for_peers(query, pinned_scope(query)).keys == query.keys


def test_names_filter_a_question_that_pins_no_patient() -> None:
    query = asking(study="1.2.3", name="SMITH*")
    scope = pinned_scope(query)
    assert for_peers(query, scope).keys == query.keys
    assert matched_keys(query, scope) == query.keys


def test_the_patient_is_left_to_the_identity_rules() -> None:
    query = asking(patient_id="9990000018", name="SMITH*", date="20261121")
    assert matched_keys(query, pinned_scope(query)) == (key("date", "20261121"),)


def test_an_accession_number_that_pins_is_matched_whole() -> None:
    """`*A123*` would find every number that contains it, in the whole region."""
    query = asking(accession="*A123*")
    scope = pinned_scope(query)
    assert for_peers(query, scope).keys == (key("accession", "A123"),)
    assert matched_keys(query, scope) == (key("accession", "A123"),)


def test_a_wild_accession_number_filters_a_question_that_is_pinned_otherwise() -> None:
    query = asking(patient_id="9990000018", accession="*A123*")
    assert key("accession", "*A123*") in for_peers(query, pinned_scope(query)).keys
    assert matched_keys(query, pinned_scope(query)) == (key("accession", "*A123*"),)


def test_any_patient_of_a_study_is_no_filter() -> None:
    query = asking(study="1.2.3", patient_id="*")
    scope = pinned_scope(query)
    assert for_peers(query, scope).keys == (key("study", "1.2.3"),)
    assert matched_keys(query, scope) == (key("study", "1.2.3"),)
