"""What stands of a report, by each corner rule of domain.md A5 and for every order in which its versions may come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.release.lifecycle import fold
from policy.release.reports import Lifecycle, Problem, Said, Standing, Verification, Version, ZoneKnown
from tests.policy.release.examples import BEGIN, TOLERANCE, version

HOUR = timedelta(hours=1)


def folded(*versions: Version) -> Lifecycle:
    return fold(versions, TOLERANCE)


def at(hours: float) -> datetime:
    return BEGIN + hours * HOUR


FINAL = version("final")


@pytest.mark.parametrize(
    ("first", "then", "standing", "current", "superseded"),
    [
        (None, Said.PRELIMINARY, Standing.RECEIVED, None, ()),
        (None, Said.VERIFIED, Standing.VERIFIED, "then", ()),
        (None, Said.CORRECTED, Standing.VERIFIED, "then", ()),
        (None, Said.APPENDED, Standing.RECEIVED, None, ()),
        (None, Said.TAKEN_BACK, Standing.RECEIVED, None, ()),
        (None, Said.CANCELLED, Standing.CANCELLED, None, ()),
        (None, Said.WITHDRAWN, Standing.WITHDRAWN, None, ()),
        (Said.VERIFIED, Said.PRELIMINARY, Standing.BEING_CORRECTED, None, ("first",)),
        (Said.VERIFIED, Said.VERIFIED, Standing.VERIFIED, "then", ("first",)),
        (Said.VERIFIED, Said.CORRECTED, Standing.VERIFIED, "then", ("first",)),
        (Said.VERIFIED, Said.APPENDED, Standing.VERIFIED, "first", ()),
        (Said.VERIFIED, Said.TAKEN_BACK, Standing.BEING_CORRECTED, None, ("first",)),
        (Said.VERIFIED, Said.CANCELLED, Standing.CANCELLED, None, ("first",)),
        (Said.VERIFIED, Said.WITHDRAWN, Standing.WITHDRAWN, None, ("first",)),
        (Said.TAKEN_BACK, Said.CORRECTED, Standing.VERIFIED, "then", ()),
        (Said.CANCELLED, Said.VERIFIED, Standing.VERIFIED, "then", ()),
        (Said.CANCELLED, Said.PRELIMINARY, Standing.RECEIVED, None, ()),
        (Said.WITHDRAWN, Said.VERIFIED, Standing.VERIFIED, "then", ()),
    ],
)
def test_what_stands_follows_from_what_each_version_says(
    first: Said | None, then: Said, standing: Standing, current: str | None, superseded: tuple[str, ...]
) -> None:
    told = [version("then", then, at(1))] + ([version("first", first)] if first else [])
    life = folded(*told)
    assert life.standing is standing
    assert (life.current.version_id if life.current else None) == current
    assert life.superseded == superseded


def test_nothing_at_all_is_a_report_of_which_nothing_is_verified() -> None:
    assert folded() == Lifecycle(Standing.RECEIVED)


def test_the_same_statement_twice_is_one_version() -> None:
    again = replace(FINAL, received_at=at(40))
    assert folded(FINAL, again, FINAL) == folded(FINAL)


def test_a_correction_restarts_the_clock_and_takes_the_addenda_with_it() -> None:
    life = folded(FINAL, version("more", Said.APPENDED, at(1)), version("corrected", Said.CORRECTED, at(2)))
    assert life.clock_started_at == at(2)
    assert life.first_verified_at == BEGIN
    assert life.addenda == ()
    assert life.superseded == ("final", "more")


@pytest.mark.parametrize("said", [Said.VERIFIED, Said.CORRECTED])
def test_the_same_text_again_restarts_nothing(said: Said) -> None:
    addendum = version("more", Said.APPENDED, at(1))
    life = folded(FINAL, addendum, version("again", said, at(2), text="text of final"))
    assert life.current == FINAL
    assert life.clock_started_at == BEGIN
    assert life.addenda == (addendum,)
    assert life.superseded == ()
    assert life.repeats == {"again": "final"}


def test_the_same_text_again_may_bring_an_alert() -> None:
    life = folded(FINAL, version("again", at=at(2), text="text of final", alerts=frozenset({"cancer"})))
    assert life.current is not None
    assert life.current.alerts == {"cancer"}


def test_the_same_addendum_again_is_one_addendum() -> None:
    first, again = version("one", Said.APPENDED, at(1), text="more"), version("two", Said.APPENDED, at(2), text="more")
    assert folded(FINAL, first, again).addenda == (first,)


def test_an_older_text_never_stands_over_a_newer_one() -> None:
    late_copy = version("old", at=at(9), verified_at=BEGIN, text="the old text")
    life = folded(version("corrected", Said.CORRECTED, at(1)), late_copy)
    assert life.current is not None
    assert life.current.version_id == "corrected"
    assert life.superseded == ("old",)


def test_a_report_that_is_unverified_starts_anew_when_it_is_verified_again() -> None:
    draft = version("draft", Said.PRELIMINARY, at(1), text="text of final")
    again = version("again", at=at(2), text="text of final")
    assert folded(FINAL, draft).preliminary == draft
    life = folded(FINAL, draft, again)
    assert life.current == again
    assert life.clock_started_at == at(2)
    assert life.superseded == ("final",)


def test_a_correction_that_keeps_the_first_verification_follows_what_it_ends() -> None:
    doubt, corrected = version("doubt", Said.TAKEN_BACK, at(96), text=""), version("new", Said.CORRECTED, at(120))
    left = replace(corrected, verification=FINAL.verification)
    life = folded(FINAL, doubt, left)
    assert (life.standing, life.clock_started_at) == (Standing.VERIFIED, at(120))
    assert life.current is not None
    assert life.current.version_id == "new"
    again = replace(doubt, stated_at=at(130), received_at=at(130))
    assert folded(FINAL, left, again).standing is Standing.BEING_CORRECTED


def test_an_older_correction_that_is_sent_again_does_not_stand_over_a_newer_one() -> None:
    older, newer = version("older", Said.CORRECTED, at(1)), version("newer", Said.CORRECTED, at(2))
    again = version("again", Said.CORRECTED, at(9), verified_at=at(1), text="text of older")
    life = folded(again, newer, FINAL, older)
    assert life.current == newer
    assert set(life.superseded) == {"final", "older", "again"}


def test_a_copy_of_a_correction_that_was_stated_later_is_a_copy() -> None:
    corrected = version("new", Said.CORRECTED, at(2))
    copy = version("sr", Said.CORRECTED, at(5), verified_at=at(2), text="laid out otherwise", precedence=2)
    life = folded(FINAL, corrected, copy)
    assert life.current == corrected
    assert (life.clock_started_at, dict(life.repeats)) == (at(2), {"sr": "new"})


@pytest.mark.parametrize("stopped_by", [Said.TAKEN_BACK, Said.PRELIMINARY])
def test_a_correction_that_changes_nothing_in_the_end_keeps_the_clock(stopped_by: Said) -> None:
    taken_back = version("doubt", stopped_by, at(1), text="")
    life = folded(FINAL, taken_back, version("same", Said.CORRECTED, at(2), text="text of final"))
    assert life.current == FINAL
    assert life.clock_started_at == BEGIN
    assert life.superseded == ()


def test_what_was_taken_back_and_is_verified_anew_starts_anew_though_its_text_is_the_same() -> None:
    taken_back = version("doubt", Said.TAKEN_BACK, at(1), text="")
    life = folded(FINAL, taken_back, version("again", at=at(2), text="text of final"))
    assert life.clock_started_at == at(2)
    assert life.superseded == ("final",)


def test_a_time_that_comes_with_the_repetition_of_a_timeless_report_counts() -> None:
    timeless = replace(FINAL, verification=Verification(None))
    life = folded(timeless, version("again", at=at(2), text="text of final"))
    assert life.clock_started_at == at(2)
    assert life.problems == frozenset()


def test_a_date_alone_does_not_put_a_verification_behind_what_followed_on_that_day() -> None:
    end_of_day = BEGIN.replace(hour=22, minute=59)
    dated = version("final", verified_at=end_of_day, zone=ZoneKnown.DATE_ONLY)
    life = folded(dated, version("draft", Said.PRELIMINARY, at(2)))
    assert life.standing is Standing.BEING_CORRECTED
    assert folded(dated).clock_started_at == end_of_day


def test_a_copy_of_a_repetition_repeats_what_stands() -> None:
    again = version("again", at=at(2), text="text of final")
    copy = version("sr", at=at(2), text="laid out otherwise", precedence=2)
    assert folded(FINAL, again, copy).repeats == {"again": "final", "sr": "final"}


def test_a_changed_text_never_inherits_the_clock_of_the_text_before_it() -> None:
    life = folded(FINAL, version("changed", Said.CORRECTED, at(30), verified_at=BEGIN))
    assert life.clock_started_at == at(30)


def test_a_status_alone_promotes_the_newest_preliminary_text() -> None:
    older, newer = version("p1", Said.PRELIMINARY, at(-2)), version("p2", Said.PRELIMINARY, at(-1))
    final = version("final", text="", promotes=True)
    life = folded(final, newer, older)
    assert (life.standing, life.content_of, life.clock_started_at) == (Standing.VERIFIED, "p2", BEGIN)
    assert life.problems == frozenset()


def test_a_status_alone_promotes_no_text_of_another_source() -> None:
    text, beside = version("text", Said.PRELIMINARY), version("beside", Said.PRELIMINARY, at(1), precedence=2)
    final = version("final", at=at(2), text="", promotes=True)
    assert folded(text, beside, final).content_of == "text"
    assert folded(beside, final).problems == {Problem.NO_CONTENT}


def test_a_status_alone_after_a_verified_text_changes_nothing() -> None:
    life = folded(FINAL, version("status", at=at(1), text="", promotes=True))
    assert life.current == FINAL
    assert life.clock_started_at == BEGIN


@pytest.mark.parametrize("promotes", [True, False])
def test_a_verified_report_without_anything_to_read_is_a_problem(promotes: bool) -> None:
    assert folded(version("final", text="", promotes=promotes)).problems == {Problem.NO_CONTENT}


@pytest.mark.parametrize(
    ("late_by", "zone", "is_problem"),
    [
        (timedelta(minutes=5), ZoneKnown.STATED, False),
        (timedelta(minutes=5, seconds=1), ZoneKnown.STATED, True),
        (timedelta(hours=12), ZoneKnown.DATE_ONLY, False),
        (timedelta(hours=25), ZoneKnown.DATE_ONLY, True),
    ],
)
def test_a_verification_in_the_future_is_a_problem(late_by: timedelta, zone: ZoneKnown, is_problem: bool) -> None:
    life = folded(version("final", verified_at=BEGIN + late_by, received_at=BEGIN, zone=zone))
    assert life.standing is Standing.VERIFIED
    assert (life.problems == {Problem.VERIFICATION_TIME_INVALID}) is is_problem
    assert (life.clock_started_at is None) is is_problem


@pytest.mark.parametrize(
    "verification", [None, Verification(None, "Dr Reader"), Verification(datetime.min.replace(tzinfo=UTC))]
)
def test_a_verification_that_tells_no_credible_time_is_a_problem(verification: Verification | None) -> None:
    life = folded(replace(FINAL, verification=verification))
    assert life.problems == {Problem.VERIFICATION_TIME_INVALID}


def test_an_addendum_without_a_time_is_a_problem() -> None:
    life = folded(FINAL, replace(version("more", Said.APPENDED, at(1)), verification=None))
    assert life.problems == {Problem.VERIFICATION_TIME_INVALID}
    assert life.clock_started_at == BEGIN


def test_two_texts_of_one_source_at_one_instant_are_for_a_person_to_judge() -> None:
    life = folded(version("one", text="left"), version("two", text="right"))
    assert life.problems == {Problem.VERIFICATION_TIME_INVALID}


def test_two_sources_that_say_the_same_are_one_version_with_the_preferred_text() -> None:
    copy = version("sr", at=BEGIN + timedelta(seconds=20), text="laid out otherwise", precedence=2)
    life = folded(copy, FINAL)
    assert life.current is not None
    assert (life.current.version_id, life.content_of) == ("final", "final")
    assert life.clock_started_at == BEGIN + timedelta(seconds=20)
    assert life.superseded == ()
    assert life.repeats == {"sr": "final"}


def test_the_source_that_brings_a_text_is_preferred_to_one_that_brings_none() -> None:
    life = folded(version("status", text=""), version("pdf", precedence=3))
    assert (life.content_of, life.problems) == ("pdf", frozenset())


def test_an_unsigned_copy_of_another_source_does_not_unverify_a_report() -> None:
    copy = version("pdf", Said.PRELIMINARY, at(1), precedence=3)
    assert folded(FINAL, copy).current == FINAL
    signed = version("sr", text="otherwise", precedence=3)
    assert folded(FINAL, signed, copy).standing is Standing.BEING_CORRECTED


def test_a_deleted_part_is_a_problem_and_a_correction_under_way_is_none() -> None:
    deleted = replace(version("deleted", Said.TAKEN_BACK, at(1)), verification=Verification(at(1)))
    assert folded(FINAL, deleted).problems == {Problem.PART_DELETED}
    assert folded(FINAL, replace(deleted, verification=None)).problems == frozenset()
    assert folded(FINAL, deleted, version("whole", Said.CORRECTED, at(2))).problems == frozenset()


def test_a_report_that_changes_its_patient_is_a_problem() -> None:
    other = version("other", Said.CORRECTED, at(1), patient="nhs:9990000026")
    life = folded(FINAL, other)
    assert life.problems == {Problem.PATIENT_CHANGED}
    assert life.patient == "nhs:9990000026"


@pytest.mark.parametrize(
    ("patients", "is_changed"),
    [
        (["RZ1:1", "RZ1:1|nhs:1"], False),
        (["RZ1:1|nhs:1", "RZ1:1"], False),
        (["nhs:1", "RZ1:1|nhs:1", "RZ1:1"], False),
        (["RZ1:1|nhs:1", "RZ1:2|nhs:1", "RZ1:2"], False),
        (["RZ1:1|RZ1:2", "RZ1:2"], False),
        (["RZ1:1|nhs:1", "RZ1:1|nhs:2"], True),
        (["RZ1:1|nhs:1", "RZ1:1", "RZ1:1|nhs:2"], True),
        (["RZ1:1", "RZ1:2"], True),
        (["RZ1:1|nhs:1", "RZ1:2"], True),
        (["RZ1:1|RZ2:5", "RZ1:2|RZ2:5"], True),
        (["RZ1:1", "RZ2:1"], True),
        (["nhs:1", "RZ1:1"], True),
        (["", "nhs:1"], True),
        (["", ""], False),
    ],
)
def test_a_number_left_out_is_no_other_patient_and_a_number_that_differs_is_one(
    patients: list[str], is_changed: bool
) -> None:
    told = [version(f"v{place}", at=at(place), patient=each) for place, each in enumerate(patients)]
    for each in permutations(told):
        assert (Problem.PATIENT_CHANGED in folded(*each).problems) is is_changed


def test_after_a_wrong_patient_was_withdrawn_the_right_one_starts_fresh() -> None:
    wrong, right = (
        version("wrong", Said.WITHDRAWN, at(1), text=""),
        version("right", at=at(2), patient="nhs:9990000026"),
    )
    life = folded(FINAL, wrong, right)
    assert life.problems == frozenset()
    assert (life.first_verified_at, life.clock_started_at) == (at(2), at(2))
    assert life.superseded == ("final",)


@pytest.mark.parametrize("forgotten_by", [Said.CANCELLED, Said.WITHDRAWN])
@pytest.mark.parametrize("then", [Said.PRELIMINARY, Said.VERIFIED, Said.TAKEN_BACK])
def test_what_was_withdrawn_is_known_as_such_whatever_follows(forgotten_by: Said, then: Said) -> None:
    life = folded(FINAL, version("stop", forgotten_by, at(1), text=""), version("then", then, at(2)))
    assert "final" in life.withdrawn and "then" not in life.withdrawn


def test_what_is_verified_before_a_withdrawal_stays_withdrawn_however_late_it_comes() -> None:
    wrong = version("wrong", Said.WITHDRAWN, at(1), text="")
    assert folded(wrong, replace(FINAL, received_at=at(50))).standing is Standing.WITHDRAWN


@pytest.mark.parametrize("forgotten_by", [Said.CANCELLED, Said.WITHDRAWN])
def test_a_correction_that_keeps_the_first_verification_is_given_no_clock_of_what_was_withdrawn(
    forgotten_by: Said,
) -> None:
    corrected = replace(version("right", Said.CORRECTED, at(27 * 24)), verification=FINAL.verification)
    life = folded(FINAL, version("stop", forgotten_by, at(20 * 24), text=""), corrected)
    assert (life.standing, life.clock_started_at) == (Standing.VERIFIED, at(27 * 24))


@pytest.mark.parametrize("precedence", [0, 1])
def test_what_is_verified_without_a_text_confirms_what_stands(precedence: int) -> None:
    addendum = version("more", Said.APPENDED, at(1))
    life = folded(FINAL, addendum, version("confirmed", at=at(2), text="", precedence=precedence))
    assert (life.current, life.addenda, life.clock_started_at) == (FINAL, (addendum,), BEGIN)
    assert (life.problems, dict(life.repeats)) == (frozenset(), {"confirmed": "final"})


def test_a_correction_without_a_text_leaves_nothing_to_read() -> None:
    assert folded(FINAL, version("empty", Said.CORRECTED, at(2), text="")).problems == {Problem.NO_CONTENT}


def test_a_status_alone_makes_final_what_a_correction_under_way_says() -> None:
    status = version("status", at=at(2), text="", promotes=True)
    life = folded(FINAL, version("doubt", Said.TAKEN_BACK, at(1)), status)
    assert (life.content_of, life.clock_started_at, life.problems) == ("doubt", at(2), frozenset())
    silent = folded(FINAL, version("doubt", Said.TAKEN_BACK, at(1), text=""), status)
    assert (silent.content_of, silent.problems) == ("", frozenset({Problem.NO_CONTENT}))


def test_an_addendum_that_came_before_its_report_joins_it() -> None:
    addendum = version("more", Said.APPENDED, at(1))
    assert folded(addendum).superseded == ()
    assert folded(addendum, FINAL).addenda == (addendum,)


def test_addenda_stand_in_the_order_of_their_verification() -> None:
    one, two = version("a2", Said.APPENDED, at(2)), version("a1", Said.APPENDED, at(1))
    assert folded(one, two, FINAL).addenda == (two, one)


STORY = (
    version("p1", Said.PRELIMINARY, at(-1)),
    version("final", text="", promotes=True),
    version("more", Said.APPENDED, at(1)),
    version("doubt", Said.TAKEN_BACK, at(2), text=""),
    version("corrected", Said.CORRECTED, at(3)),
)


def test_every_order_of_a_recorded_story_ends_the_same() -> None:
    outcomes = {repr(fold(order, TOLERANCE)) for order in permutations(STORY)}
    assert len(outcomes) == 1


@st.composite
def versions(draw: st.DrawFn) -> Version:
    hours, precedence = draw(st.integers(0, 6)), draw(st.integers(0, 2))
    said = draw(st.sampled_from(Said))
    text = draw(st.sampled_from(["", "left", "right"]))
    patient = draw(st.sampled_from(["nhs:1", "nhs:1", "nhs:1", "nhs:2"]))
    promotes = draw(st.booleans()) and not text and said is Said.VERIFIED
    name = f"{said}/{hours}/{precedence}/{text}/{patient}/{promotes}"
    return version(name, said, at(hours), text=text, patient=patient, precedence=precedence, promotes=promotes)


def without_receipt(life: Lifecycle) -> Lifecycle:
    """All but when each version was heard of, and the clock of a correction that says no time of its own."""
    current, preliminary = (each and replace(each, received_at=BEGIN) for each in (life.current, life.preliminary))
    addenda = tuple(replace(each, received_at=BEGIN) for each in life.addenda)
    return replace(life, current=current, preliminary=preliminary, addenda=addenda, clock_started_at=None)


@given(st.lists(versions(), max_size=9), st.randoms(use_true_random=False), st.integers(0, 500))
def test_order_repetition_and_delay_change_nothing_but_a_clock_that_starts_later(
    told: list[Version], chance: Random, delay: int
) -> None:
    again = [replace(each, received_at=each.received_at + timedelta(hours=chance.randint(0, delay))) for each in told]
    chance.shuffle(again)
    assert fold([*again, *told, *again], TOLERANCE) == fold(told, TOLERANCE)
    late, prompt = fold(again, TOLERANCE), fold(told, TOLERANCE)
    assert without_receipt(late) == without_receipt(prompt)
    assert (late.clock_started_at or BEGIN) >= (prompt.clock_started_at or BEGIN)


@given(st.lists(versions(), max_size=9))
def test_what_stands_was_vouched_for_and_is_the_newest_that_was(told: list[Version]) -> None:
    life = fold(told, TOLERANCE)
    kept = {each.version_id for each in (life.current, *life.addenda) if each}
    assert not kept & set(life.superseded)
    assert (life.current is not None) == (life.standing is Standing.VERIFIED)
    if life.current is None:
        return
    assert life.current.said in {Said.VERIFIED, Said.CORRECTED}
    assert life.clock_started_at is not None
    assert life.first_verified_at is not None
    assert life.first_verified_at <= life.clock_started_at
    stopping = {Said.WITHDRAWN, Said.CANCELLED}
    assert not [each for each in told if each.said in stopping and each.stated_at >= life.current.stated_at]
