"""Identifiers of C-MOVE and C-GET: what they ask to have, and which are refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dimse.scp.wishes import GET_CLASSES, MOVE_CLASSES, IdentifierTerms, wish_of
from dimse.sop_classes import PATIENT_ROOT_GET, PATIENT_ROOT_MOVE, PATIENT_STUDY_ONLY_MOVE, STUDY_ROOT_MOVE
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.imaging import Level
from gateway.model.settings import Limits
from gateway.model.work.retrievals import RetrieveWish
from policy.parties import NhsNumber

IMPLICIT = "1.2.840.10008.1.2"
ANNE = NhsNumber.parse("9434765919")
STUDY_ROOT, PATIENT_ROOT = IdentifierTerms(IMPLICIT, STUDY_ROOT_MOVE), IdentifierTerms(IMPLICIT, PATIENT_ROOT_MOVE)
RELATIONAL = replace(STUDY_ROOT, negotiated=b"\1\0")
LIMITS = Limits()


def encoded(**keys: object) -> bytes:
    dataset = Dataset()
    with disable_value_validation():
        for keyword, value in keys.items():
            setattr(dataset, keyword, value)
        body = encode(dataset, True, True)
    assert body is not None
    return body


def read(terms: IdentifierTerms = STUDY_ROOT, **keys: object) -> RetrieveWish:
    return wish_of(encoded(**keys), terms, LIMITS)


class Refusal(NamedTuple):
    words: str
    offending: tuple[str, ...]


def refused(terms: IdentifierTerms = STUDY_ROOT, **keys: object) -> Refusal:
    with pytest.raises(InvalidRequest) as raised:
        wish_of(encoded(**keys), terms, LIMITS)
    return Refusal(str(raised.value), raised.value.offending)


def test_each_level_is_asked_by_its_own_key_and_those_above() -> None:
    study = read(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2")
    series = read(QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    image = read(QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", SOPInstanceUID="1.4")
    assert study == RetrieveWish(Level.STUDY, study_uids=("1.2",))
    assert series == RetrieveWish(Level.SERIES, study_uids=("1.2",), series_uids=("1.2.3",))
    assert image == RetrieveWish(Level.IMAGE, study_uids=("1.2",), series_uids=("1.2.3",), sop_uids=("1.4",))


def test_a_patient_is_named_by_nhs_number() -> None:
    wish = read(PATIENT_ROOT, QueryRetrieveLevel="PATIENT", PatientID=ANNE.spaced)
    assert wish == RetrieveWish(Level.PATIENT, patient=ANNE)


@pytest.mark.parametrize("patient_id", ["", "RZ1-0001", "943476591*", "9434765918", "9434765919\\9434765919"])
def test_a_patient_by_any_other_number_is_refused(patient_id: str) -> None:
    assert refused(PATIENT_ROOT, QueryRetrieveLevel="PATIENT", PatientID=patient_id).offending == ("00100020",)


def test_a_patient_id_above_a_study_is_kept_to_be_held_to_what_is_found() -> None:
    wish = read(PATIENT_ROOT, QueryRetrieveLevel="STUDY", PatientID="RZ1-0001", StudyInstanceUID="1.2")
    assert wish == RetrieveWish(Level.STUDY, patient_id="RZ1-0001", study_uids=("1.2",))


def test_the_key_of_the_level_may_be_a_list_and_each_is_named_once() -> None:
    assert read(QueryRetrieveLevel="STUDY", StudyInstanceUID=["1.2", "1.3", "1.2"]).study_uids == ("1.2", "1.3")


def test_whatever_is_no_unique_key_of_the_level_or_above_is_passed_over() -> None:
    wish = read(
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID="1.2",
        PatientName="SMITH^ANNE",
        PatientID="9",
        Modality="CT",
        SeriesInstanceUID="1.9",
        StudyDate="",
    )
    assert wish == RetrieveWish(Level.STUDY, study_uids=("1.2",))


@pytest.mark.parametrize(
    ("terms", "keys", "offending"),
    [
        (STUDY_ROOT, {"QueryRetrieveLevel": "STUDY"}, ("0020000D",)),
        (STUDY_ROOT, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "*"}, ("0020000D",)),
        (STUDY_ROOT, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.?"}, ("0020000D",)),
        (STUDY_ROOT, {"QueryRetrieveLevel": "PATIENT", "PatientID": ANNE.digits}, ("00080052",)),
        (STUDY_ROOT, {"StudyInstanceUID": "1.2"}, ("00080052",)),
        (STUDY_ROOT, {"QueryRetrieveLevel": "study", "StudyInstanceUID": "1.2"}, ("00080052",)),
        (STUDY_ROOT, {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": "1.4"}, ("0020000D", "0020000E")),
        (STUDY_ROOT, {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.4"}, ("0020000D",)),
        (
            STUDY_ROOT,
            {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.4", "StudyInstanceUID": ["1.2", "1.3"]},
            ("0020000D",),
        ),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"}, ("00100020",)),
        (
            IdentifierTerms(IMPLICIT, PATIENT_STUDY_ONLY_MOVE),
            {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.4"},
            ("00080052",),
        ),
    ],
)
def test_an_identifier_that_names_too_little_is_refused_with_the_element(
    terms: IdentifierTerms, keys: dict[str, object], offending: tuple[str, ...]
) -> None:
    assert refused(terms, **keys).offending == offending


@pytest.mark.parametrize("terms", [RELATIONAL, replace(STUDY_ROOT, is_lenient=True)])
def test_an_image_alone_will_do_where_relational_retrieval_was_agreed_or_the_caller_is_let_off(
    terms: IdentifierTerms,
) -> None:
    assert read(terms, QueryRetrieveLevel="IMAGE", SOPInstanceUID=["1.4", "1.5"]) == RetrieveWish(
        Level.IMAGE, sop_uids=("1.4", "1.5")
    )
    assert refused(terms, QueryRetrieveLevel="IMAGE").offending == ("00080018",)


def test_a_longer_list_of_uids_than_its_limit_is_refused() -> None:
    most = [f"1.2.{number}" for number in range(LIMITS.uid_list_max + 1)]
    assert len(read(QueryRetrieveLevel="STUDY", StudyInstanceUID=most[1:]).study_uids) == LIMITS.uid_list_max
    with pytest.raises(RequestTooLarge):
        read(QueryRetrieveLevel="STUDY", StudyInstanceUID=most)


@given(body=st.binary(max_size=200), terms=st.sampled_from([*MOVE_CLASSES, *GET_CLASSES, PATIENT_ROOT_GET]))
def test_bytes_that_are_no_identifier_are_refused_and_never_break_anything(body: bytes, terms: str) -> None:
    with contextlib.suppress(InvalidRequest):
        wish_of(body, IdentifierTerms(IMPLICIT, terms), LIMITS)
