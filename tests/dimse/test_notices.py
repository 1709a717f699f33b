"""What is missing is told in the way that a caller has chosen, and nothing tells that something was withheld."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse.notices import ending, synthetic_rows
from dimse.status import Ending, MissingSources
from gateway.model.imaging import (
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    JsonValue,
    Key,
    Level,
    Match,
    Matches,
    NotAskedReason,
    Query,
    Source,
    SourceState,
)
from gateway.model.wording import why_not_asked
from policy.parties import TrustId

ROW, FAILURE, COMMENT = MissingSources.ROW, MissingSources.FAILURE, MissingSources.COMMENT
STUDY_DESCRIPTION, SERIES_DESCRIPTION, AVAILABILITY = "00081030", "0008103E", "00080056"
ASKED = Query(
    Level.STUDY,
    (
        Key((PATIENT_ID,), "LO", ("9990000018",)),
        Key((STUDY_UID,), "UI", ("1.2.3",)),
        Key((SERIES_UID,), "UI", ("1.4",)),
    ),
)


def source(code: str, state: SourceState, *, only: tuple[str, ...] | None = None, conflict: bool = False) -> Source:
    return Source(TrustId(code), f"Trust {code}", state, f"020 7946 0{code[-1] * 3}", only, conflict)


HEARD = source("RJ1", SourceState.ANSWERED)
SLOW = source("RJ2", SourceState.TIMED_OUT)
DOWN = source("RJ3", SourceState.UNREACHABLE)
APART = source("RJ4", SourceState.NOT_SHARED)
IN_DISPUTE = source("RJ5", SourceState.ANSWERED, conflict=True)
IN_PART = source("RJ6", SourceState.ANSWERED, only=("CT", "MR"))


def answer(*sources: Source, cut_at: int | None = None) -> Matches:
    return Matches((), sources, truncated_at=cut_at)


def text(row: Match, tag: str) -> JsonValue:
    values = row.attributes[tag]["Value"]
    assert isinstance(values, list)
    value = values[0]
    return value["Alphabetic"] if isinstance(value, dict) else value


@pytest.mark.parametrize("how", MissingSources)
def test_an_answer_of_everybody_ends_without_a_word(how: MissingSources) -> None:
    assert ending(answer(HEARD), how) == Ending(0x0000)
    assert synthetic_rows(answer(HEARD), ASKED, how) == ()


@pytest.mark.parametrize(
    ("how", "end", "rows"),
    [
        (ROW, Ending(0x0000), 2),
        (FAILURE, Ending(0xC000, "missing: RJ2 020 7946 0222, RJ3 020 7946 0333"), 0),
        (COMMENT, Ending(0x0000, "missing: RJ2 020 7946 0222, RJ3 020 7946 0333"), 0),
    ],
)
def test_missing_trusts_are_told_as_the_caller_chose(how: MissingSources, end: Ending, rows: int) -> None:
    matches = answer(HEARD, SLOW, DOWN)
    assert ending(matches, how) == end
    assert len(synthetic_rows(matches, ASKED, how)) == rows


@pytest.mark.parametrize(("how", "comment"), [(ROW, ""), (FAILURE, "held here: RJ1"), (COMMENT, "held here: RJ1")])
def test_what_the_gateway_holds_for_an_archive_is_told_and_is_no_failure(how: MissingSources, comment: str) -> None:
    matches = answer(replace(HEARD, is_held_here=True))
    assert ending(matches, how) == Ending(0x0000, comment) and synthetic_rows(matches, ASKED, how) == ()


def test_a_row_names_the_trust_what_became_of_it_and_whom_to_ring() -> None:
    [row] = synthetic_rows(answer(HEARD, SLOW), ASKED, ROW)
    assert text(row, PATIENT_NAME) == "SOURCE UNAVAILABLE"
    assert text(row, STUDY_DESCRIPTION) == "RJ2 Trust RJ2: did not answer in time; ring 020 7946 0222"
    assert text(row, SERIES_DESCRIPTION) == "SOURCE UNAVAILABLE: RJ2; ring 020 7946 0222"
    assert text(row, AVAILABILITY) == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("level", "of_question", "of_its_own"),
    [
        (Level.STUDY, {PATIENT_ID: "9990000018"}, STUDY_UID),
        (Level.SERIES, {PATIENT_ID: "9990000018", STUDY_UID: "1.2.3"}, SERIES_UID),
        (Level.IMAGE, {PATIENT_ID: "9990000018", STUDY_UID: "1.2.3", SERIES_UID: "1.4"}, SOP_UID),
    ],
)
def test_a_row_stands_under_the_parents_asked_for_and_is_nothing_that_exists(
    level: Level, of_question: dict[str, str], of_its_own: str
) -> None:
    query = Query(level, ASKED.keys)
    [row] = synthetic_rows(answer(SLOW), query, ROW)
    assert {tag: text(row, tag) for tag in of_question} == of_question
    uid = text(row, of_its_own)
    assert isinstance(uid, str) and re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid)
    assert uid in (row.study_uid, row.series_uid, row.sop_uid) and row.level is level
    assert synthetic_rows(answer(HEARD, SLOW), query, ROW) == (row,)


def test_a_row_of_a_list_of_patients_is_a_patient_who_does_not_exist() -> None:
    [row] = synthetic_rows(answer(SLOW), Query(Level.PATIENT, ASKED.keys), ROW)
    assert text(row, PATIENT_ID) == "SOURCE UNAVAILABLE RJ2"
    assert text(row, PATIENT_NAME) == "SOURCE UNAVAILABLE^RJ2; ring 020 7946 0222"


def test_every_row_of_an_answer_has_a_uid_of_its_own() -> None:
    matches = answer(SLOW, DOWN, APART, IN_DISPUTE, source("RJ2", SourceState.ANSWERED, conflict=True), cut_at=9)
    rows = synthetic_rows(matches, ASKED, ROW)
    assert len({row.study_uid for row in rows}) == len(rows) == 6


def test_wild_cards_and_lists_are_not_echoed_as_if_they_were_values() -> None:
    keys = (Key((PATIENT_ID,), "LO", ("*9990000018*",)), Key((STUDY_UID,), "UI", ("1.2.3", "1.2.4")))
    [row] = synthetic_rows(answer(SLOW), Query(Level.SERIES, keys), ROW)
    assert PATIENT_ID not in row.attributes and STUDY_UID not in row.attributes


def test_an_identity_conflict_is_told_with_the_desk_that_knows() -> None:
    matches = answer(HEARD, IN_DISPUTE)
    assert ending(matches, FAILURE) == Ending(0xC000, "identity differs: RJ5 020 7946 0555")
    assert ending(matches, COMMENT) == Ending(0x0000, "identity differs: RJ5 020 7946 0555")
    [row] = synthetic_rows(matches, ASKED, ROW)
    assert text(row, PATIENT_NAME) == "IDENTITY DETAILS DIFFER"
    assert text(row, STUDY_DESCRIPTION) == "RJ5 Trust RJ5: an item could not be shared; ring 020 7946 0555"


def test_a_trust_that_shares_nothing_is_coverage_and_no_fault() -> None:
    matches = answer(HEARD, APART, IN_PART)
    assert ending(matches, FAILURE) == Ending(0x0000, "not shared: RJ4; shared: RJ6 only CT MR")
    assert ending(matches, COMMENT) == Ending(0x0000, "not shared: RJ4; shared: RJ6 only CT MR")
    [row] = synthetic_rows(matches, ASKED, ROW)
    assert text(row, PATIENT_NAME) == "NOT ALL IMAGING SHARED"
    assert text(row, STUDY_DESCRIPTION) == "not shared: RJ4; shared: RJ6 only CT MR"


def test_an_answer_that_was_cut_says_so() -> None:
    matches = answer(HEARD, cut_at=1000)
    assert ending(matches, FAILURE) == Ending(0xA700, "cut: at 1000 rows")
    assert ending(matches, COMMENT) == Ending(0x0000, "cut: at 1000 rows")
    [row] = synthetic_rows(matches, ASKED, ROW)
    assert text(row, PATIENT_NAME) == "ANSWER CUT SHORT"


def test_missing_trusts_come_before_all_else_in_a_comment() -> None:
    matches = answer(SLOW, APART, IN_DISPUTE, cut_at=1000)
    assert ending(matches, FAILURE) == Ending(0xC000, "missing: RJ2 020 7946 0222 +3")


SOURCES = st.builds(
    source,
    st.sampled_from(["RJ1", "RJ2", "RJ3"]),
    st.sampled_from(SourceState),
    only=st.sampled_from([None, (), ("CT",)]),
    conflict=st.booleans(),
)


@given(
    st.lists(SOURCES, max_size=6, unique_by=lambda each: each.trust),
    st.sampled_from([None, 10]),
    st.sampled_from(MissingSources),
    st.sampled_from(Level),
)
def test_whatever_may_be_missing_is_told_within_what_the_attributes_hold(
    sources: list[Source], cut_at: int | None, how: MissingSources, level: Level
) -> None:
    matches, query = answer(*sources, cut_at=cut_at), Query(level, ASKED.keys)
    end, rows = ending(matches, how), synthetic_rows(matches, query, how)
    is_whole = cut_at is None and not any(each.state.is_missing or each.has_identity_conflict for each in sources)
    assert is_whole or end.comment or rows
    assert how is not FAILURE or is_whole is (end.status == 0x0000)
    for row in rows:
        assert all(
            len(str(text(row, tag))) <= 64
            for tag in (PATIENT_NAME, PATIENT_ID, STUDY_DESCRIPTION)
            if tag in row.attributes
        )
        assert len(str(text(row, SERIES_DESCRIPTION))) <= 64


def test_a_trust_down_by_plan_says_until_when_and_why_and_whom_to_ring() -> None:
    down = Source(TrustId("RZ2"), "Eastvale University NHS Trust", SourceState.NOT_ASKED, "01632 960002")
    matches = Matches((), (replace(down, note="down until 22 Nov 06:00, PACS upgrade"),))
    [row] = synthetic_rows(matches, Query(Level.STUDY, ()), MissingSources.ROW)
    assert row.attributes["00081030"]["Value"] == ["RZ2: down until 22 Nov 06:00, PACS upgrade; ring 01632 960002"]


@pytest.mark.parametrize("reason", NotAskedReason)
def test_why_a_trust_was_not_asked_stands_whole_in_its_row_before_the_number_to_ring(reason: NotAskedReason) -> None:
    unasked = Source(TrustId("RZ2"), "Eastvale University NHS Trust", SourceState.NOT_ASKED, "01632 960002")
    matches = Matches((), (replace(unasked, not_asked_because=reason),))
    [row] = synthetic_rows(matches, Query(Level.STUDY, ()), MissingSources.ROW)
    assert row.attributes["00081030"]["Value"] == [f"RZ2: not asked, {why_not_asked(reason)}; ring 01632 960002"]


def test_a_long_name_gives_way_to_what_became_of_the_trust() -> None:
    for name, told in (
        ("Eastvale", "RZ2 Eastvale: cannot be reached"),
        ("Eastvale University NHS", "RZ2: cannot be reached"),
    ):
        lost = Source(TrustId("RZ2"), name, SourceState.UNREACHABLE, "0300 555 0110 ext 5")
        [row] = synthetic_rows(Matches((), (lost,)), Query(Level.STUDY, ()), MissingSources.ROW)
        assert row.attributes["00081030"]["Value"] == [f"{told}; ring 0300 555 0110 ext 5"]
