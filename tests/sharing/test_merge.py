"""One study at several trusts is one match with its holders: in any order, never added up or mixed (C3, C4)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.attributes import ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    OTHER_PATIENT_IDS,
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Attributes,
    JsonValue,
    Key,
    Level,
    SourceState,
)
from gateway.sharing.identity.origins import Origins
from gateway.sharing.identity.patients import identity_of
from gateway.sharing.merge import RELATED_COUNTS, Candidate, candidate, conflicting_studies, merge, read_answers
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.scope import pinned_scope
from tests.sharing.rows import ANNE, BEN, INSTANCES_OF_STUDY, RZ2, RZ3, RZ4, asking_for, found, row, values


def test_one_study_at_two_trusts_is_one_match_with_two_holders() -> None:
    [match] = merge(Level.STUDY, [found(RZ3, row()), found(RZ2, row())])
    assert match.holders == (RZ2, RZ3)
    assert (match.patient, match.study_uid) == (ANNE, "1.2.3")


def test_an_accession_number_used_by_two_trusts_stays_two_studies() -> None:
    matches = merge(
        Level.STUDY,
        [
            found(RZ2, row("1.2.3", ANNE, accession="A123")),
            found(RZ3, row("1.2.4", BEN, name="BAKER^BEN", accession="A123")),
        ],
    )
    assert [(match.study_uid, match.patient, match.holders) for match in matches] == [
        ("1.2.3", ANNE, (RZ2,)),
        ("1.2.4", BEN, (RZ3,)),
    ]


def test_counts_are_never_added_up() -> None:
    [match] = merge(Level.STUDY, [found(RZ2, row(instances=30)), found(RZ3, row(instances="40"))])
    assert values(match.attributes, INSTANCES_OF_STUDY) == [40]


def test_the_fullest_copy_speaks() -> None:
    full, half = row(instances=40, name="SMITH^ANNE"), row(instances=20, name="SMITH^A")
    [match] = merge(Level.STUDY, [found(RZ2, half), found(RZ3, full)])
    assert values(match.attributes, PATIENT_NAME) == [{"Alphabetic": "SMITH^ANNE"}]


def test_modalities_of_all_copies_are_named() -> None:
    [match] = merge(Level.STUDY, [found(RZ2, row(modalities="CT")), found(RZ3, row(modalities="SR,CT"))])
    assert values(match.attributes, MODALITIES_IN_STUDY) == ["CT", "SR"]


def test_newest_studies_come_first_and_those_of_a_day_by_uid() -> None:
    rows = [row("1.5", date="20261120"), row("1.4", date="20261121"), row("1.3", date="20261121"), row("1.1")]
    matches = merge(Level.STUDY, [found(RZ2, each) for each in rows])
    assert [match.study_uid for match in matches] == ["1.3", "1.4", "1.5", "1.1"]


def test_series_and_images_are_united_by_all_their_uids() -> None:
    rows = [row(series="1.2.3.1", image="1.2.3.1.1"), row(series="1.2.3.1", image="1.2.3.1.2")]
    matches = merge(Level.IMAGE, [found(trust, each, Level.IMAGE) for each in rows for trust in (RZ2, RZ3)])
    assert [(match.sop_uid, match.holders) for match in matches] == [
        ("1.2.3.1.1", (RZ2, RZ3)),
        ("1.2.3.1.2", (RZ2, RZ3)),
    ]


def test_no_address_at_the_source_is_shown() -> None:
    addresses: Attributes = {
        "00080054": {"vr": "AE", "Value": ["PACS2"]},
        "00081190": {"vr": "UR", "Value": ["https://pacs2/wado"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "0040E010": {"vr": "UR", "Value": ["https://pacs2/xds"]},
        "0040E011": {"vr": "UI", "Value": ["1.2.9"]},
    }
    [match] = merge(Level.STUDY, [found(RZ2, {**row(), **addresses})])
    assert match.attributes.keys() & addresses.keys() == {"00080056"}
    assert values(match.attributes, "00080056") == ["NEARLINE"], "not what it is at the source"


def test_the_nhs_number_is_shown_with_the_sources_number_beside_it() -> None:
    local: Attributes = {
        **row(patient=None, patient_id="0001234", issuer="RZ2"),
        OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [other("9990000018", "NHS")]},
    }
    [match] = merge(Level.STUDY, [found(RZ2, local)])
    assert values(match.attributes, PATIENT_ID) == ["9990000018"]
    assert values(match.attributes, ISSUER_OF_PATIENT_ID) == ["NHS"]
    assert values(match.attributes, OTHER_PATIENT_IDS) == [other("0001234", "RZ2")]


def test_the_numbers_of_every_copy_are_kept() -> None:
    """Two local numbers for one NHS number, at one trust or at two (product 3.1)."""
    copies = [
        found(trust, {**row(patient=None, patient_id=number, issuer=trust.code), **ALSO_ANNE})
        for trust, number in ((RZ3, "77"), (RZ2, "0001234"), (RZ2, "0005678"))
    ]
    [match] = merge(Level.STUDY, copies)
    assert values(match.attributes, OTHER_PATIENT_IDS) == [
        other("0001234", "RZ2"),
        other("0005678", "RZ2"),
        other("77", "RZ3"),
    ]


def test_nothing_about_the_sources_number_is_left_beside_the_nhs_number() -> None:
    leftovers: Attributes = {
        "00100022": {"vr": "CS", "Value": ["BARCODE"]},
        "00100024": {"vr": "SQ", "Value": [{"00400032": {"vr": "UT", "Value": ["urn:rz2"]}}]},
        "00101000": {"vr": "LO", "Value": ["0009999"]},
    }
    [match] = merge(Level.STUDY, [found(RZ2, {**row(), **leftovers, **ALSO_ANNE})])
    assert not match.attributes.keys() & {*leftovers, OTHER_PATIENT_IDS}


def other(number: str, issuer: str) -> JsonValue:
    """An item of Other Patient IDs Sequence."""
    return {PATIENT_ID: {"vr": "LO", "Value": [number]}, ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": [issuer]}}


ALSO_ANNE: Attributes = {OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [other("9990000018", "NHS")]}}


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_a_row_without_its_unique_keys_is_no_candidate(level: Level) -> None:
    whole = {**row(series="1.2.3.1", image="1.2.3.1.1")}
    needed = {Level.STUDY: ["0020000D"], Level.SERIES: ["0020000D", "0020000E"]}.get(
        level, ["0020000D", "0020000E", "00080018"]
    )
    for tag in needed:
        broken = {key: element for key, element in whole.items() if key != tag}
        assert candidate(level, RZ2, identity_of(broken, ""), broken) is None
    assert candidate(level, RZ2, identity_of(whole, ""), whole) is not None


@pytest.mark.parametrize("uid", ["../../1", "1.2.3/series", "x", "1" * 65, "1.2 3"])
def test_a_row_whose_uid_is_none_is_no_candidate(uid: str) -> None:
    assert candidate(Level.STUDY, RZ2, identity_of(row(uid), ""), row(uid)) is None


@pytest.mark.parametrize(
    "count",
    [None, "", "many", -1, "-5", True, 1.5, [], {}, 2**31, 10**18, "9" * 400, "9" * 5000, "1_0", "٣"],
    ids=lambda count: str(count)[:12],
)
def test_a_count_that_is_none_is_not_believed(count: JsonValue) -> None:
    [match] = merge(Level.STUDY, [found(RZ2, row(instances=count)), found(RZ3, row(instances=7))])
    assert values(match.attributes, INSTANCES_OF_STUDY) == [7]


def test_a_count_that_nobody_is_believed_on_is_empty() -> None:
    [match] = merge(Level.STUDY, [found(RZ2, row(instances=-1))])
    assert match.attributes[INSTANCES_OF_STUDY] == {"vr": "IS"}


def test_rows_of_one_uid_filed_under_two_patients_are_a_conflict() -> None:
    assert conflicting_studies([found(RZ2, row()), found(RZ3, row(patient=BEN))]) == {"1.2.3"}
    assert conflicting_studies([found(RZ2, row()), found(RZ3, row())]) == frozenset()
    assert conflicting_studies([found(RZ2, row("1.1")), found(RZ3, row("1.2", BEN))]) == frozenset()


def test_one_series_or_image_filed_under_two_patients_is_a_conflict_of_both_studies() -> None:
    one = found(RZ2, row("1.2.3", series="1.2.9", image="1.2.9.1"), Level.IMAGE)
    other_study = found(RZ3, row("1.2.4", BEN, series="1.2.9", image="1.2.9.2"), Level.IMAGE)
    assert conflicting_studies([one, other_study]) == {"1.2.3", "1.2.4"}
    same_patient = found(RZ3, row("1.2.4", series="1.2.9", image="1.2.9.2"), Level.IMAGE)
    assert conflicting_studies([one, same_patient]) == frozenset()


def test_a_candidate_tells_its_uids_from_the_study_down() -> None:
    whole = row(series="1.2.3.1", image="1.2.3.1.1")
    assert [found(RZ2, whole, level).uids for level in (Level.STUDY, Level.SERIES, Level.IMAGE)] == [
        ("1.2.3", "", ""),
        ("1.2.3", "1.2.3.1", ""),
        ("1.2.3", "1.2.3.1", "1.2.3.1.1"),
    ]


# --- order and duplication never matter ---

ORIGINS = Origins(trust_of_issuer={trust.code: trust for trust in (RZ2, RZ3, RZ4)})


def issued(by: str) -> Attributes:
    """An accession number of this issuer; without one, of nobody in particular."""
    item: JsonValue = {LOCAL_NAMESPACE_ENTITY_ID: {"vr": "UT", "Value": [by]}}
    number: Attributes = {ACCESSION_NUMBER: {"vr": "SH", "Value": ["A1"]}}
    return {**number, ACCESSION_ISSUER: {"vr": "SQ", "Value": [item]}} if by else number


COPIES = st.builds(
    lambda trust, study, instances, modality, local, date, issuer: found(
        trust,
        {
            **row(
                study, None, instances=instances, modalities=modality, date=date, patient_id=local, issuer=trust.code
            ),
            **ALSO_ANNE,
            **issued(issuer),
        },
    ),
    st.sampled_from([RZ2, RZ3, RZ4]),
    st.sampled_from(["1.1", "1.2", "1.3"]),
    st.sampled_from([1, 2, "2", 3, None]),
    st.sampled_from(["CT", "MR", "CT,SR"]),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["20261120", "20261121"]),
    st.sampled_from(["", "RZ2", "RZ3", "RZ9"]),
)


@given(st.lists(COPIES, max_size=12), st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_and_duplication_of_answers_gives_the_same(
    copies: list[Candidate], shuffling: random.Random, times: int
) -> None:
    shuffled = copies * times
    shuffling.shuffle(shuffled)
    assert merge(Level.STUDY, shuffled, origins=ORIGINS) == merge(Level.STUDY, copies, origins=ORIGINS)


@given(st.lists(COPIES, max_size=12))
def test_every_copy_is_named_once_and_nothing_is_invented(copies: list[Candidate]) -> None:
    matches = merge(Level.STUDY, copies)
    assert [match.study_uid for match in matches].count("1.1") <= 1
    named = {(match.study_uid, holder) for match in matches for holder in match.holders}
    assert named == {(copy.study_uid, copy.trust) for copy in copies}
    for match in matches:
        claimed = [copy.row for copy in copies if copy.study_uid == match.study_uid]
        for tag in RELATED_COUNTS:
            for count in values(match.attributes, tag):
                assert str(count) in {str(value) for each in claimed for value in values(each, tag)}


@given(st.lists(COPIES, max_size=8), st.lists(COPIES, max_size=8))
def test_another_answer_takes_no_study_away(some: list[Candidate], more: list[Candidate]) -> None:
    before = {match.study_uid for match in merge(Level.STUDY, some)}
    assert before <= {match.study_uid for match in merge(Level.STUDY, [*some, *more])}


@given(st.lists(COPIES, max_size=8), st.lists(COPIES, max_size=8))
def test_another_answer_changes_no_row_of_a_study_that_it_does_not_hold(
    some: list[Candidate], more: list[Candidate]
) -> None:
    theirs = {copy.study_uid for copy in more}
    before = [match for match in merge(Level.STUDY, some, origins=ORIGINS) if match.study_uid not in theirs]
    after = [match for match in merge(Level.STUDY, [*some, *more], origins=ORIGINS) if match.study_uid not in theirs]
    assert after == before


@given(st.lists(COPIES, max_size=8), st.lists(COPIES, max_size=8))
def test_another_answer_takes_no_holder_and_no_version_away(some: list[Candidate], more: list[Candidate]) -> None:
    """A copy that was shown may become a version of another one; it is never forgotten."""
    after = {match.study_uid: match for match in merge(Level.STUDY, [*some, *more], origins=ORIGINS)}
    for match in merge(Level.STUDY, some, origins=ORIGINS):
        assert set(match.holders) <= set(after[match.study_uid].holders)
        if match.versions:
            assert after[match.study_uid].versions


def test_the_rows_given_are_left_as_they_were() -> None:
    one, other_copy = row(instances=3), row(instances=4, modalities="MR")
    written = repr((one, other_copy))
    merge(Level.STUDY, [found(RZ2, one), found(RZ3, other_copy)])
    assert repr((one, other_copy)) == written


def test_a_patients_studies_are_one_match_at_patient_level_that_says_nothing_of_them() -> None:
    rows = [found(RZ2, row("1.2.3", date="20200101")), found(RZ3, row("1.2.4", modalities="MR", instances=7))]
    [match] = merge(Level.PATIENT, rows)
    assert (match.holders, match.study_uid) == ((RZ2, RZ3), "")
    assert values(match.attributes, PATIENT_ID) == ["9990000018"]
    assert not match.attributes.keys() & {STUDY_UID, STUDY_DATE, MODALITIES_IN_STUDY, INSTANCES_OF_STUDY}


def test_what_is_found_must_be_fetched_first() -> None:
    for level in (Level.PATIENT, Level.STUDY):
        [match] = merge(level, [found(RZ2, row())])
        assert values(match.attributes, "00080056") == ["NEARLINE"]


def test_rows_of_a_combined_range_are_held_to_its_instants() -> None:
    keys = (Key((STUDY_DATE,), "DA", ("20261001-20261002",)), Key((STUDY_TIME,), "TM", ("1000-1200",)))
    early: Attributes = {**row("1.2.3", date="20261001"), STUDY_TIME: {"vr": "TM", "Value": ["0900"]}}
    late: Attributes = {**row("1.2.4", date="20261001"), STUDY_TIME: {"vr": "TM", "Value": ["1300"]}}
    answers = [TrustAnswer(RZ2, SourceState.ANSWERED, [early, late])]
    for combined, expected in ((True, ["1.2.4"]), (False, [])):
        query = replace(asking_for(ANNE, *keys), combined_datetime=combined)
        reading = read_answers(query, pinned_scope(query), answers, lambda _trust: "NHS")
        assert [each.study_uid for each in reading.candidates] == expected
