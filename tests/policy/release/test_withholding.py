"""What keeps a report back: holds, exclusions, children, the patient on the day (domain.md A6, A7; safety.md 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from policy.release.circumstances import (
    Circumstances,
    Death,
    Flag,
    HoldKind,
    IdentityAgreement,
    ReleaseState,
    TakenBackFor,
    Traced,
)
from policy.release.reports import Said, Verification, Version
from policy.release.terms import (
    AddendumBeforeRelease,
    ThirteenToFifteen,
    UnderThirteen,
    WithoutDispatch,
)
from policy.release.withholding import VERSIONS_MAX, VERSIONS_USUAL_MAX
from tests.policy.release.examples import ADULT, BEGIN, TERMS, london, version
from tests.policy.release.situations import (
    ADDENDUM,
    DAY,
    END,
    FINAL,
    JOINT_END,
    SECOND,
    SENT,
    early,
    hold,
    out,
    planned,
    traced_at,
)


@pytest.mark.parametrize("kind", [each for each in HoldKind if not each.ends_by_itself])
def test_only_a_hold_of_timing_lapses(kind: HoldKind) -> None:
    made = planned((FINAL,), END + 365 * DAY, replace(SENT, holds=(hold(kind),)))
    assert (made.state, made.gives, made.due_at, made.held_for) == (ReleaseState.HELD, (), None, (kind.value,))


def test_a_hold_of_timing_ends_at_midnight_of_its_date_and_is_warned_of() -> None:
    held = replace(SENT, holds=(hold(HoldKind.TIMING),))
    friday = london("2026-07-10 00:00")
    before = planned((FINAL,), friday - SECOND, held)
    assert (before.state, before.due_at, before.look_at) == (ReleaseState.HELD, london("2026-07-10 08:00"), friday)
    assert Flag.HOLD_ENDING in before.flags
    assert planned((FINAL,), friday, held).held_for == ()
    assert planned((FINAL,), london("2026-07-06 23:59"), held).flags == frozenset()
    assert planned((FINAL,), london("2026-07-10 08:00"), held).gives == ("final",)


def test_a_hold_of_timing_within_the_embargo_changes_nothing() -> None:
    held = replace(SENT, holds=(hold(HoldKind.TIMING, date(2026, 6, 20)),))
    assert planned((FINAL,), BEGIN + DAY, held).state is ReleaseState.EMBARGOED


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (HoldKind.SERIOUS_HARM, TakenBackFor.HOLD),
        (HoldKind.SAFEGUARDING, TakenBackFor.HOLD),
        (HoldKind.THIRD_PARTY, TakenBackFor.HOLD),
        (HoldKind.LEGAL, TakenBackFor.HOLD),
        (HoldKind.IDENTITY, TakenBackFor.HOLD),
        (HoldKind.WRONG_PATIENT, TakenBackFor.WRONG),
    ],
)
def test_a_protecting_hold_takes_back_what_is_out(kind: HoldKind, why: TakenBackFor) -> None:
    made = planned((FINAL,), END + DAY, replace(out("final"), holds=(hold(kind),)))
    assert (made.state, made.takes_back, made.taken_back_for) == (ReleaseState.HELD, ("final",), why)


@pytest.mark.parametrize("kind", [HoldKind.TIMING, HoldKind.PATIENT_REQUEST, HoldKind.PORTAL_PAUSE])
def test_a_hold_about_when_leaves_what_is_out(kind: HoldKind) -> None:
    made = planned((FINAL,), END + DAY, replace(out("final"), holds=(hold(kind),)))
    assert (made.state, made.gives, made.takes_back) == (ReleaseState.RELEASED, ("final",), ())


def test_an_overdue_review_is_told_daily_and_goes_to_the_caldicott_guardian_on_the_fifth_working_day() -> None:
    held = replace(SENT, holds=(hold(HoldKind.LEGAL, date(2026, 7, 10)),))
    on_the_day = planned((FINAL,), london("2026-07-10 23:59:59"), held)
    assert (on_the_day.flags, on_the_day.look_at) == (frozenset(), london("2026-07-11 00:00"))
    overdue = planned((FINAL,), london("2026-07-11 00:00"), held)
    assert (overdue.flags, overdue.look_at) == (frozenset({Flag.HOLD_OVERDUE}), london("2026-07-12 00:00"))
    assert Flag.HOLD_TO_CALDICOTT not in planned((FINAL,), london("2026-07-16 23:59:59"), held).flags
    assert Flag.HOLD_TO_CALDICOTT in planned((FINAL,), london("2026-07-17 00:00"), held).flags


def test_safeguarding_exams_wait_for_a_professional_and_excluded_ones_never_go() -> None:
    terms = replace(TERMS, safeguarding_codes=frozenset({"XSKEL"}), excluded_codes=frozenset({"XRES"}))
    skeletal = replace(SENT, exam_codes=frozenset({"XSKEL"}))
    assert planned((FINAL,), END, skeletal, terms).held_for == ("safeguarding",)
    assert planned((FINAL,), END, replace(skeletal, reviewed_versions=frozenset({"final"})), terms).gives == ("final",)
    research = planned((FINAL,), END, replace(SENT, exam_codes=frozenset({"XRES"})), terms)
    assert (research.state, research.gives) == (ReleaseState.NOT_FOR_RELEASE, ())
    shown = replace(out("final"), exam_codes=frozenset({"XRES"}))
    kept = planned((FINAL, ADDENDUM), JOINT_END, shown, terms)
    assert (kept.state, kept.gives) == (ReleaseState.RELEASED, ("final",))


def test_a_report_of_too_many_versions_waits_for_a_professional_and_leaves_what_is_out() -> None:
    usual = replace(SENT, version_count=VERSIONS_USUAL_MAX)
    many = replace(SENT, version_count=VERSIONS_USUAL_MAX + 1)
    assert planned((FINAL,), END, usual).gives == ("final",)
    assert planned((FINAL,), END, many).held_for == ("too-many-versions",)
    assert planned((FINAL,), END, replace(many, reviewed_versions=frozenset({"final"}))).gives == ("final",)
    assert planned((FINAL,), END, replace(many, reviewed_versions=frozenset({"another"}))).gives == ()
    shown = planned((FINAL,), END + DAY, replace(out("final"), version_count=VERSIONS_USUAL_MAX + 1))
    assert (shown.gives, shown.takes_back) == (("final",), ())


def test_a_report_that_takes_no_more_versions_is_shown_to_nobody() -> None:
    reviewed = replace(SENT, reviewed_versions=frozenset({"final"}))
    assert planned((FINAL,), END, replace(reviewed, version_count=VERSIONS_MAX - 1)).gives == ("final",)
    assert planned((FINAL,), END, replace(reviewed, version_count=VERSIONS_MAX)).held_for == ("too-many-versions",)
    full = planned((FINAL,), END + DAY, replace(out("final"), version_count=VERSIONS_MAX))
    assert (full.gives, full.takes_back, full.taken_back_for) == ((), ("final",), TakenBackFor.HOLD)


def test_an_addendum_to_a_safeguarding_report_waits_for_a_review_of_its_own() -> None:
    terms = replace(TERMS, safeguarding_codes=frozenset({"XSKEL"}))
    reviewed = replace(SENT, exam_codes=frozenset({"XSKEL"}), reviewed_versions=frozenset({"final"}))
    together = planned((FINAL, ADDENDUM), JOINT_END, reviewed, terms)
    assert (together.gives, together.held_for) == ((), ("safeguarding",))
    seen = replace(reviewed, seen={"final": END}, ever_released={"final": END})
    beside = planned((FINAL, ADDENDUM), JOINT_END + 90 * DAY, seen, terms)
    assert (beside.state, beside.gives, beside.takes_back) == (ReleaseState.RELEASED, ("final",), ())
    assert beside.held_for == ("safeguarding",)
    both = replace(seen, reviewed_versions=frozenset({"final", "more"}))
    assert planned((FINAL, ADDENDUM), JOINT_END, both, terms).gives == ("final", "more")


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ((version("final", text=""),), "no-content"),
        ((replace(FINAL, verification=Verification(None)),), "verification-time-invalid"),
        ((FINAL, version("other", Said.CORRECTED, BEGIN + DAY, patient="nhs:2")), "patient-changed"),
        ((FINAL, replace(ADDENDUM, verification=None)), "verification-time-invalid"),
    ],
)
def test_what_only_a_person_can_judge_is_held(told: tuple[Version, ...], name: str) -> None:
    made = planned(told, END + 90 * DAY)
    assert (made.state, made.gives, made.held_for, made.due_at) == (ReleaseState.HELD, (), (name,), None)


def test_a_report_without_an_nhs_number_is_held() -> None:
    assert planned((FINAL,), END, replace(SENT, has_nhs_number=False)).held_for == ("no-nhs-number",)


def test_a_trust_that_does_not_release_yet_releases_nothing() -> None:
    for terms in (replace(TERMS, go_live_at=None), replace(TERMS, is_on=False)):
        assert planned((FINAL,), END, terms=terms).state is ReleaseState.NOT_FOR_RELEASE


def test_what_was_verified_before_go_live_needs_an_approver() -> None:
    terms = replace(TERMS, go_live_at=BEGIN + SECOND)
    assert planned((FINAL,), END, terms=terms).state is ReleaseState.NOT_FOR_RELEASE
    assert planned((FINAL,), END, replace(SENT, is_retrospective_approved=True), terms).gives == ("final",)
    assert planned((FINAL,), END, terms=replace(TERMS, go_live_at=BEGIN)).gives == ("final",)


def test_the_stop_switch_keeps_everything_back_that_is_not_out() -> None:
    stopped = replace(SENT, is_stopped=True)
    assert planned((FINAL,), END - SECOND, stopped).state is ReleaseState.EMBARGOED
    made = planned((FINAL,), END, stopped)
    assert (made.state, made.gives, made.held_for) == (ReleaseState.HELD, (), ("stopped",))
    assert planned((FINAL,), END, replace(out("final"), is_stopped=True)).gives == ("final",)


def test_a_report_of_a_wrong_patient_is_flagged_for_the_privacy_officer() -> None:
    withdrawn = planned((FINAL, version("wrong", Said.WITHDRAWN, BEGIN + DAY)), END, out("final"))
    moved = planned((FINAL, version("other", Said.CORRECTED, BEGIN + DAY, patient="nhs:2")), END)
    stopped = planned((FINAL,), END, replace(SENT, holds=(hold(HoldKind.WRONG_PATIENT),)))
    assert all(Flag.WRONG_PATIENT in made.flags for made in (withdrawn, moved, stopped))
    assert Flag.WRONG_PATIENT not in planned((FINAL,), END).flags


def test_a_retracted_report_is_gone_with_its_addenda() -> None:
    retracted = replace(out("final", "more"), retracted=frozenset({"final"}))
    made = planned((FINAL, ADDENDUM), JOINT_END + DAY, retracted)
    assert (made.state, made.takes_back, made.gives) == (ReleaseState.RETRACTED, ("final", "more"), ())
    assert made.taken_back_for is TakenBackFor.RETRACTION


def test_a_retracted_addendum_leaves_its_report() -> None:
    retracted = replace(out("final", "more"), retracted=frozenset({"more"}))
    made = planned((FINAL, ADDENDUM), JOINT_END + DAY, retracted)
    assert (made.state, made.takes_back, made.gives) == (ReleaseState.RELEASED, ("more",), ("final",))
    assert made.taken_back_for is TakenBackFor.RETRACTION


UNSIGNED = version("draft", Said.PRELIMINARY, END + DAY)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ((version("again", at=END + 2 * DAY, text="text of final"),), ReleaseState.RETRACTED),
        ((version("other", at=END + 2 * DAY),), ReleaseState.DUE),
        (
            (version("other", at=END + 2 * DAY), version("back", Said.CORRECTED, END + 3 * DAY, text="text of final")),
            ReleaseState.RETRACTED,
        ),
        (
            (
                version("wrong", Said.WITHDRAWN, END + 2 * DAY),
                version("right", at=END + 3 * DAY, text="text of final", patient="nhs:9990000026"),
            ),
            ReleaseState.DUE,
        ),
    ],
    ids=["the same text", "another text", "the same text after another", "the same text of another patient"],
)
def test_a_text_that_was_retracted_stays_so_when_it_is_verified_again(
    told: tuple[Version, ...], state: ReleaseState
) -> None:
    retracted = replace(SENT, ever_released={"final": END}, retracted=frozenset({"final"}))
    made = planned((FINAL, UNSIGNED, *told), london("2026-08-03 09:15"), retracted)
    assert (made.state, bool(made.gives)) == (state, state is ReleaseState.DUE)


def test_a_text_that_was_retracted_and_verified_again_goes_once_a_professional_lets_it_go() -> None:
    again = version("again", at=END + 2 * DAY, text="text of final")
    now = END + 4 * DAY
    retracted = replace(
        SENT, ever_released={"final": END}, retracted=frozenset({"final"}), early=early("again", now).early
    )
    assert planned((FINAL, UNSIGNED, again), now, retracted).gives == ("again",)


def test_an_addendum_that_was_retracted_stays_away_when_all_is_verified_again() -> None:
    again = (
        version("again", at=END + 2 * DAY, text="text of final"),
        version("anew", Said.APPENDED, END + 3 * DAY, text="text of more"),
    )
    retracted = replace(SENT, ever_released={"more": END}, retracted=frozenset({"more"}))
    made = planned((FINAL, ADDENDUM, UNSIGNED, *again), london("2026-08-03 09:15"), retracted)
    assert made.gives == ("again",)


def test_a_professional_may_release_before_the_end_and_out_of_hours() -> None:
    sunday = london("2026-06-07 20:00")
    made = planned((FINAL,), sunday, early("final", sunday))
    assert (made.state, made.gives) == (ReleaseState.DUE, ("final",))


def test_an_early_release_is_of_one_version() -> None:
    now = BEGIN + 9 * DAY
    assert planned((FINAL, ADDENDUM), now, early("final", now)).gives == ("final",)
    corrected = version("corrected", Said.CORRECTED, BEGIN + 8 * DAY)
    assert planned((FINAL, corrected), now, early("final", now)).gives == ()


@pytest.mark.parametrize(
    "against",
    [
        replace(SENT, has_nhs_number=False),
        replace(SENT, holds=(hold(HoldKind.LEGAL),)),
        replace(SENT, holds=(hold(HoldKind.TIMING),)),
        replace(SENT, is_stopped=True),
        replace(SENT, birth_date=date(2015, 1, 1), traced=Traced(BEGIN, IdentityAgreement.AGREES, None, "01")),
        replace(SENT, traced=Traced(BEGIN, IdentityAgreement.DISAGREES, ADULT, "01")),
        replace(SENT, traced=Traced(BEGIN, IdentityAgreement.NOT_TRACED)),
    ],
    ids=["no number", "legal", "timing", "stopped", "child", "identity", "not traced"],
)
def test_an_early_release_sets_no_exclusion_aside(against: Circumstances) -> None:
    now = BEGIN + DAY
    assert planned((FINAL,), now, replace(against, early=early("final", now).early)).gives == ()


@pytest.mark.parametrize(
    ("born", "held"),
    [
        (date(2013, 6, 30), True),
        (date(2013, 6, 29), False),
        (date(2010, 6, 30), False),
    ],
    ids=["12", "13 today", "15"],
)
def test_a_report_of_a_child_below_thirteen_waits_for_a_review(born: date, held: bool) -> None:
    circumstances = replace(SENT, birth_date=born, traced=traced_at(END, birth_date=born))
    made = planned((FINAL,), END, circumstances)
    assert (made.gives == ()) is held
    assert (made.held_for == ("child",)) is held


def test_a_birthday_does_not_take_the_place_of_a_review() -> None:
    child = replace(SENT, birth_date=date(2013, 6, 30))
    assert planned((FINAL,), END + DAY, replace(child, traced=None), traces=False).held_for == ("child",)


def test_a_review_lets_the_reviewed_version_of_a_child_go_and_no_other() -> None:
    child = replace(SENT, birth_date=date(2016, 1, 1), traced=traced_at(JOINT_END, birth_date=date(2016, 1, 1)))
    reviewed = replace(child, reviewed_versions=frozenset({"final"}))
    assert planned((FINAL,), JOINT_END, reviewed).gives == ("final",)
    assert planned((FINAL, ADDENDUM), JOINT_END, reviewed).gives == ()
    both = replace(child, reviewed_versions=frozenset({"final", "more"}))
    assert planned((FINAL, ADDENDUM), JOINT_END, both).gives == ("final", "more")


def test_an_unreviewed_addendum_of_a_child_never_goes_along_with_a_reviewed_report() -> None:
    child = replace(SENT, birth_date=date(2016, 1, 1), reviewed_versions=frozenset({"final"}))
    terms = replace(TERMS, addendum_before_release=AddendumBeforeRelease.OWN_CLOCK)
    assert planned((FINAL, ADDENDUM), JOINT_END, child, terms).gives == ()
    seen = replace(child, seen={"final": END}, ever_released={"final": END})
    assert planned((FINAL, ADDENDUM), JOINT_END, seen, terms).gives == ("final",)


def test_trusts_may_decide_otherwise_about_children() -> None:
    teenager = replace(SENT, birth_date=date(2011, 1, 1), traced=traced_at(END, birth_date=date(2011, 1, 1)))
    strict = replace(TERMS, from_13_to_15=ThirteenToFifteen.HOLD_FOR_REVIEW)
    assert planned((FINAL,), END, teenager, strict).held_for == ("child",)
    infant = replace(SENT, birth_date=date(2024, 1, 1), traced=traced_at(END, birth_date=date(2024, 1, 1)))
    assert planned((FINAL,), END, infant, replace(TERMS, under_13=UnderThirteen.RELEASE)).gives == ("final",)


def test_nobody_is_given_a_report_before_they_are_traced() -> None:
    made = planned((FINAL,), END, traces=False)
    assert (made.state, made.needs_trace, made.gives) == (ReleaseState.DUE, True, ())
    assert not planned((FINAL,), END - SECOND, traces=False).needs_trace


def test_who_could_not_be_traced_is_traced_again_soon() -> None:
    unknown = replace(SENT, traced=Traced(END, IdentityAgreement.NOT_TRACED))
    made = planned((FINAL,), END, unknown)
    assert (made.state, made.gives, made.needs_trace) == (ReleaseState.DUE, (), False)
    assert made.look_at == END + timedelta(minutes=15)
    assert planned((FINAL,), END + timedelta(minutes=15), unknown).needs_trace


@pytest.mark.parametrize(
    ("traced", "state", "held_for"),
    [
        (traced_at(END, agreement=IdentityAgreement.DISAGREES), ReleaseState.HELD, "identity"),
        (traced_at(END, nhs_number_status="02"), ReleaseState.HELD, "identity"),
        (traced_at(END, death=Death.INFORMAL), ReleaseState.HELD, "deceased"),
        (traced_at(END, death=Death.FORMAL), ReleaseState.CANCELLED, "deceased"),
    ],
)
def test_what_the_trace_says_counts_on_the_day(traced: Traced, state: ReleaseState, held_for: str) -> None:
    made = planned((FINAL,), END, replace(SENT, traced=traced))
    assert (made.state, made.gives, made.held_for) == (state, (), (held_for,))


def test_a_patient_without_any_known_age_is_no_adult() -> None:
    unknown = replace(SENT, birth_date=None, traced=traced_at(END, birth_date=None))
    assert planned((FINAL,), END, unknown).held_for == ("child",)


def test_a_missing_proof_of_dispatch_is_told_after_a_working_day() -> None:
    unsent = replace(SENT, is_dispatch_proven=False)
    late = london("2026-06-03 00:00")
    assert Flag.DISPATCH_NOT_PROVEN not in planned((FINAL,), late - SECOND, unsent).flags
    assert planned((FINAL,), BEGIN, unsent).look_at == late
    assert Flag.DISPATCH_NOT_PROVEN in planned((FINAL,), late, unsent).flags


def test_a_missing_proof_of_dispatch_holds_only_where_the_trust_says_so() -> None:
    unsent = replace(SENT, is_dispatch_proven=False)
    assert planned((FINAL,), END, unsent).gives == ("final",)
    strict = replace(TERMS, without_dispatch=WithoutDispatch.HOLD_AND_ESCALATE)
    made = planned((FINAL,), END, unsent, strict)
    assert (made.gives, made.held_for) == ((), ("dispatch-not-proven",))


def test_an_unacknowledged_cancer_report_goes_on_a_morning_early_in_the_week() -> None:
    cancer = version("final", at=london("2026-06-05 14:00"), alerts=frozenset({"cancer"}))
    unread = replace(SENT, is_acknowledged=False)
    monday = london("2026-07-06 08:00")
    made = planned((cancer,), london("2026-07-03 14:00"), unread)
    assert (made.gives, made.due_at) == ((), monday)
    assert planned((cancer,), monday, unread).gives == ("final",)
    assert planned((cancer,), london("2026-07-06 12:00"), unread).gives == ()
    assert planned((cancer,), london("2026-07-03 14:00")).gives == ("final",)
