"""Rows as callers get them: the attributes of PS3.18 10.6.3.3, addresses of this gateway, valid DICOM JSON."""

from __future__ import annotations

from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicomweb.answer import encode, retrieve_url, wanted
from gateway.model.imaging import SERIES_UID, STUDY_UID, Element, Key, Level, Match, Query
from tests.dicomweb.small_region import PUBLIC_URL, element, instance, series, study

Row = dict[str, dict[str, object]]


def answered(match: Match, query: Query, path_tags: frozenset[str] = frozenset()) -> Row:
    [row] = orjson.loads(encode([match], wanted(query, path_tags), PUBLIC_URL))
    return cast(Row, row)


def test_no_rows_are_an_empty_array() -> None:
    assert encode([], wanted(Query(Level.STUDY, ()), frozenset()), PUBLIC_URL) == b"[]"


def test_an_attribute_that_the_archive_left_out_is_there_and_empty() -> None:
    bare = Match(Level.STUDY, None, "1.2", "", "", (), {"0020000D": element("UI", "1.2")})
    row = answered(bare, Query(Level.STUDY, ()))
    assert row["00100010"] == {"vr": "PN"} and row["00201208"] == {"vr": "IS"} and row["00080061"] == {"vr": "CS"}


def test_only_wanted_attributes_are_answered() -> None:
    match = study(1, t00081030=element("LO", "Thorax"), t00101002=element("SQ", {}))
    assert "00081030" not in answered(match, Query(Level.STUDY, ()))
    assert answered(match, Query(Level.STUDY, (), include=frozenset({"00081030"})))["00081030"]["Value"] == ["Thorax"]
    everything = answered(match, Query(Level.STUDY, (), include_all=True))
    assert {"00081030", "00101002"} <= everything.keys()


def test_a_matched_attribute_is_answered_although_nobody_asked_to_include_it() -> None:
    match = study(1, t00081030=element("LO", "Thorax"))
    query = Query(Level.STUDY, (Key(("00081030",), "LO", ("Thorax",)),))
    assert "00081030" in answered(match, query)


def test_a_series_attribute_asked_of_studies_is_passed_over() -> None:
    assert "00080060" not in answered(study(1), Query(Level.STUDY, (), include=frozenset({"00080060"})))


def test_text_is_declared_as_utf_8_whatever_the_source_declared() -> None:
    row = answered(study(1, t00080005=element("CS", "ISO_IR 100")), Query(Level.STUDY, (), include_all=True))
    assert row["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}


@pytest.mark.parametrize("everything", [True, False])
def test_addresses_and_titles_of_the_source_are_never_answered(everything: bool) -> None:
    theirs = study(1, t00081190=element("UR", "http://pacs.internal/studies/1"), t00080054=element("AE", "PACS1"))
    asked = frozenset({"00081190", "00080054"})
    row = answered(theirs, Query(Level.STUDY, (), include=asked, include_all=everything))
    assert row["00081190"] == {"vr": "UR", "Value": [f"{PUBLIC_URL}/studies/{theirs.study_uid}"]}
    assert "00080054" not in row and b"pacs.internal" not in orjson.dumps(row)


@pytest.mark.parametrize(
    ("match", "path"),
    [
        (study(1), "/studies/1.2.826.0.1.1"),
        (series(2), "/studies/1.2.826.0.1.1/series/1.2.826.0.1.1.2"),
        (instance(3), "/studies/1.2.826.0.1.1/series/1.2.826.0.1.1.1/instances/1.2.826.0.1.1.1.3"),
    ],
)
def test_the_retrieve_url_leads_to_the_match_at_this_gateway(match: Match, path: str) -> None:
    assert retrieve_url(match, PUBLIC_URL) == PUBLIC_URL + path
    assert answered(match, Query(match.level, ()))["00081190"]["Value"] == [PUBLIC_URL + path]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (element("CS", "ONLINE"), element("CS", "ONLINE")),
        (element("CS", "OFFLINE"), element("CS", "OFFLINE")),
        (element("CS", "SOON"), element("CS")),
        (element("CS", "ONLINE", "OFFLINE"), element("CS")),
        (element("CS"), element("CS")),
    ],
)
def test_availability_is_one_of_the_four_terms_or_unknown(given: Element, shown: Element) -> None:
    assert answered(study(1, t00080056=given), Query(Level.STUDY, ()))["00080056"] == shown


def test_the_time_zone_is_answered_only_where_it_is_known() -> None:
    assert "00080201" not in answered(study(1), Query(Level.STUDY, ()))
    assert "00080201" in answered(study(1, t00080201=element("SH", "+0100")), Query(Level.STUDY, ()))


def test_image_attributes_are_answered_only_where_the_object_has_them() -> None:
    row = answered(instance(1), Query(Level.IMAGE, ()))
    assert row["00280010"]["Value"] == [512] and "00280008" not in row


@pytest.mark.parametrize("match", [study(1), series(1), instance(1)])
@pytest.mark.parametrize("path_tags", [frozenset(), frozenset({STUDY_UID}), frozenset({STUDY_UID, SERIES_UID})])
@pytest.mark.parametrize("everything", [True, False])
def test_tags_stand_in_ascending_order(match: Match, path_tags: frozenset[str], everything: bool) -> None:
    query = Query(match.level, (), include=frozenset({"00081030", "00080201", "00101002"}), include_all=everything)
    with_more = Match(
        match.level,
        match.patient,
        match.study_uid,
        match.series_uid,
        match.sop_uid,
        match.holders,
        {"00101002": element("SQ", {}), **match.attributes, "00080201": element("SH", "+0000")},
    )
    tags = list(answered(with_more, query, path_tags))
    assert tags == sorted(tags)


@given(
    name=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\\^="), min_size=1, max_size=20),
    comment=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\\"), max_size=40),
)
def test_any_text_is_answered_as_json_that_pydicom_reads(name: str, comment: str) -> None:
    match = study(1, t00100010=element("PN", {"Alphabetic": name}), t00081030=element("LO", comment))
    row = answered(match, Query(Level.STUDY, (), include_all=True))
    dataset = Dataset.from_json(row)
    assert dataset.StudyInstanceUID == match.study_uid and row["00081030"]["Value"] == [comment]
