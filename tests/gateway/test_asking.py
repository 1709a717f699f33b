"""What every peer is asked, and what becomes of rows that come twice or without their parents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.asking import ALWAYS_ASKED, DistinctRows, asked_attributes, single_value, with_known_parents
from gateway.model.errors import PeerProtocolError
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
    STUDY_UID,
    Attributes,
    Element,
    Key,
    Level,
    Query,
)
from policy.parties import TrustId

RZ2 = TrustId("RZ2")
STUDY = Key((STUDY_UID,), "UI", ("1.2",))
SERIES = Key((SERIES_UID,), "UI", ("1.2.3",))


def row(tag: str, uid: str, name: str = "ONE^ANNE") -> dict[str, Element]:
    return {tag: {"vr": "UI", "Value": [uid]}, PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": name}]}}


def test_identity_and_the_unique_keys_are_asked_at_every_level() -> None:
    for level, unique in ((Level.STUDY, STUDY_UID), (Level.SERIES, SERIES_UID), (Level.IMAGE, SOP_UID)):
        asked = asked_attributes(Query(level, ()))
        assert asked >= {PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_NAME, PATIENT_BIRTH_DATE, MODALITIES_IN_STUDY, unique}
    assert MODALITY not in ALWAYS_ASKED[Level.STUDY] and SOP_UID not in ALWAYS_ASKED[Level.SERIES]


def test_what_is_matched_or_wanted_is_asked_besides() -> None:
    query = Query(Level.STUDY, (Key((OTHER_PATIENT_IDS, PATIENT_ID), "LO", ("1",)),), include=frozenset({"00081048"}))
    assert asked_attributes(query) == ALWAYS_ASKED[Level.STUDY] | {"00081048"}


def test_a_key_with_several_values_has_no_single_one() -> None:
    query = Query(Level.SERIES, (STUDY, Key((SERIES_UID,), "UI", ("1", "2"))))
    assert single_value(query, STUDY_UID) == "1.2"
    assert single_value(query, SERIES_UID) == single_value(query, ACCESSION_NUMBER) == ""


@given(st.lists(st.tuples(st.sampled_from(["1.1", "1.2", "1.3"]), st.sampled_from(["A", "B"])), max_size=12))
def test_each_different_row_is_kept_once_in_the_order_of_coming(sent: list[tuple[str, str]]) -> None:
    rows = DistinctRows(RZ2, Level.STUDY)
    for uid, name in sent:
        rows.add([row(STUDY_UID, uid, name)])
    assert rows.rows == [row(STUDY_UID, uid, name) for uid, name in dict.fromkeys(sent)]
    assert len(rows) == len(set(sent))


@pytest.mark.parametrize(
    "element", [{"vr": "UI"}, {"vr": "UI", "Value": []}, {"vr": "UI", "Value": ["1", "2"]}, {"vr": "UI", "Value": [1]}]
)
def test_a_row_without_one_unique_key_is_not_believed(element: Element) -> None:
    with pytest.raises(PeerProtocolError):
        DistinctRows(RZ2, Level.STUDY).add([{STUDY_UID: element}])
    with pytest.raises(PeerProtocolError):
        DistinctRows(RZ2, Level.SERIES).add([row(STUDY_UID, "1.2")])


def test_parents_that_the_question_named_are_put_in_and_never_replace_what_a_row_says() -> None:
    bare, other = row(SOP_UID, "1.2.3.4"), row(SOP_UID, "1.2.3.5") | row(STUDY_UID, "9.9")
    first, second = with_known_parents([bare, other], Query(Level.IMAGE, (STUDY, SERIES)))
    assert first[STUDY_UID]["Value"] == ["1.2"] and first[SERIES_UID]["Value"] == ["1.2.3"]
    assert second[STUDY_UID]["Value"] == ["9.9"] and second[SERIES_UID]["Value"] == ["1.2.3"]
    assert STUDY_UID not in bare


def test_the_unique_key_of_the_level_itself_is_never_put_in() -> None:
    rows: list[Attributes] = [{PATIENT_NAME: {"vr": "PN"}}]
    assert with_known_parents(rows, Query(Level.STUDY, (STUDY,))) == rows
    assert SERIES_UID not in with_known_parents(rows, Query(Level.SERIES, (STUDY, SERIES)))[0]
