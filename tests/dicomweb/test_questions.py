"""How a query is put into an address: the narrowest resource, all that is needed, nothing spliced."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.connector import DicomwebPeerProfile, Quirk, question_url
from dicomweb.parameters import parse_question
from gateway.model.attributes import keyword_of
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    OTHER_PATIENT_IDS,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Key,
    Level,
    Query,
)
from gateway.model.settings import Limits
from policy.parties import TrustId

NUMBER = Key((PATIENT_ID,), "LO", ("9990000018",))
STUDY = Key((STUDY_UID,), "UI", ("1.2.3",))
SERIES = Key((SERIES_UID,), "UI", ("1.2.3.4",))
TWO_STUDIES = Key((STUDY_UID,), "UI", ("1.2.3", "1.2.4"))


def asked(query: Query, *quirks: Quirk, offset: int = 0) -> tuple[str, dict[str, list[str]]]:
    """The path below the service, and the parameters as a server would read them."""
    profile = DicomwebPeerProfile(TrustId("RJ1"), "https://pacs.example/dw", quirks=frozenset(quirks))
    parts = urlsplit(str(question_url(profile, query, offset=offset, limit=500)))
    assert parts.netloc == "pacs.example" and parts.path.startswith("/dw/") and not parts.fragment
    return parts.path.removeprefix("/dw"), parse_qs(parts.query, strict_parsing=True, keep_blank_values=True)


@pytest.mark.parametrize(
    ("level", "keys", "path", "left"),
    [
        (Level.STUDY, (NUMBER,), "/studies", {"PatientID"}),
        (Level.STUDY, (STUDY,), "/studies", {"StudyInstanceUID"}),
        (Level.SERIES, (NUMBER,), "/series", {"PatientID"}),
        (Level.SERIES, (NUMBER, STUDY), "/studies/1.2.3/series", {"PatientID"}),
        (Level.SERIES, (TWO_STUDIES,), "/series", {"StudyInstanceUID"}),
        (Level.SERIES, (STUDY, SERIES), "/studies/1.2.3/series", {"SeriesInstanceUID"}),
        (Level.IMAGE, (NUMBER,), "/instances", {"PatientID"}),
        (Level.IMAGE, (STUDY,), "/studies/1.2.3/instances", set()),
        (Level.IMAGE, (STUDY, SERIES), "/studies/1.2.3/series/1.2.3.4/instances", set()),
        (Level.IMAGE, (SERIES,), "/instances", {"SeriesInstanceUID"}),
        (Level.IMAGE, (TWO_STUDIES, SERIES), "/instances", {"StudyInstanceUID", "SeriesInstanceUID"}),
    ],
)
def test_the_narrowest_resource_is_asked(level: Level, keys: tuple[Key, ...], path: str, left: set[str]) -> None:
    at, parameters = asked(Query(level, keys))
    assert at == path and parameters.keys() == left | {"includefield", "limit"}


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_identity_and_unique_keys_are_always_asked_for(level: Level) -> None:
    fields = set(asked(Query(level, (NUMBER,)))[1]["includefield"][0].split(","))
    assert fields >= {PATIENT_ID, ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_NAME, STUDY_UID}
    assert (SERIES_UID in fields) == (level is not Level.STUDY) and (SOP_UID in fields) == (level is Level.IMAGE)


def test_what_the_caller_wants_or_matches_is_asked_for() -> None:
    query = Query(Level.STUDY, (Key(("00081030",), "LO", ("x",)),), include=frozenset({"00080080"}))
    assert {"00081030", "00080080"} <= set(asked(query)[1]["includefield"][0].split(","))
    assert asked(Query(Level.STUDY, (), include_all=True))[1]["includefield"] == ["all"]


def test_lists_are_joined_as_the_peer_reads_them() -> None:
    assert asked(Query(Level.STUDY, (TWO_STUDIES,)))[1]["StudyInstanceUID"] == ["1.2.3,1.2.4"]
    assert asked(Query(Level.STUDY, (TWO_STUDIES,)), Quirk.BACKSLASH_LISTS)[1]["StudyInstanceUID"] == ["1.2.3\\1.2.4"]


def test_alternatives_that_are_no_uids_are_not_sent_for_archives_read_them_as_one_value() -> None:
    several, one = Key(("00080061",), "CS", ("CT", "MR")), Key(("00080061",), "CS", ("CT",))
    assert "ModalitiesInStudy" not in asked(Query(Level.STUDY, (NUMBER, several)))[1]
    assert asked(Query(Level.STUDY, (NUMBER, one)))[1]["ModalitiesInStudy"] == ["CT"]


def test_a_key_inside_a_sequence_is_asked_by_its_dotted_path() -> None:
    key = Key(("00400275", "00400009"), "SH", ("S1",))
    assert asked(Query(Level.SERIES, (key,)))[1]["RequestAttributesSequence.ScheduledProcedureStepID"] == ["S1"]


def test_a_peers_habits_change_how_it_is_asked() -> None:
    wild = Key((PATIENT_NAME,), "PN", ("D?E*",))
    assert asked(Query(Level.STUDY, (NUMBER, wild)))[1]["PatientName"] == ["D?E*"]
    assert "PatientName" not in asked(Query(Level.STUDY, (NUMBER, wild)), Quirk.NO_WILDCARDS)[1]
    assert asked(Query(Level.STUDY, (NUMBER,)), Quirk.WILDCARD_PATIENT_ID)[1]["PatientID"] == ["*9990000018*"]
    assert asked(Query(Level.STUDY, (NUMBER,)), Quirk.NO_PAGING, offset=5)[1].keys() == {"PatientID", "includefield"}


def test_pages_are_asked_by_limit_and_offset() -> None:
    assert asked(Query(Level.STUDY, (NUMBER,)), offset=500)[1]["offset"] == ["500"]
    assert "offset" not in asked(Query(Level.STUDY, (NUMBER,)))[1]


@given(st.text(min_size=1, max_size=40))
def test_any_value_arrives_as_it_was_asked_and_adds_no_parameter(value: str) -> None:
    if value.encode("utf-8", "replace").decode() != value:
        return
    _, parameters = asked(Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", (value,)),)))
    assert parameters.keys() == {"PatientName", "includefield", "limit"} and parameters["PatientName"] == [value]


def test_what_we_ask_is_understood_by_our_own_reading_of_questions() -> None:
    query = Query(Level.STUDY, (NUMBER, TWO_STUDIES, Key(("00080020",), "DA", ("20250101-",))))
    profile = DicomwebPeerProfile(TrustId("RJ1"), "https://pacs.example/dw")
    text = urlsplit(str(question_url(profile, query, offset=0, limit=10))).query
    read = parse_question(text, Level.STUDY, Limits())
    assert set(read.query.keys) == set(query.keys) and read.unsupported == ()
    assert all(keyword_of(tag) != tag for tag in read.query.include)
