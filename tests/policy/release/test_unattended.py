"""What a rule keeps back, and no person: staff are told of it until somebody takes it up (domain.md A3, REL-45)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime

import pytest

from policy.release.circumstances import Circumstances, Death, Flag, HoldKind, IdentityAgreement, ReleaseState
from policy.release.reports import Said, Verification, Version
from policy.release.terms import ReleaseTerms, WithoutDispatch
from policy.release.withholding import VERSIONS_MAX, VERSIONS_USUAL_MAX
from tests.policy.release.examples import BEGIN, TERMS, london, version
from tests.policy.release.situations import DAY, END, FINAL, SECOND, SENT, hold, out, planned, traced_at

TUESDAY = london("2026-06-02 00:00")
"""After the Monday on which `FINAL` came."""
THE_DAY_AFTER = london("2026-06-30 00:00")
"""`END`, on which it is due, is a Monday."""
TOLD = frozenset({Flag.HELD_BY_RULE, Flag.HOLD_OVERDUE, Flag.HOLD_TO_CALDICOTT})
SAFEGUARDED = replace(TERMS, safeguarding_codes=frozenset({"XSKEL"}))
WANTS_PROOF = replace(TERMS, without_dispatch=WithoutDispatch.HOLD_AND_ESCALATE)
CHILD = date(2019, 1, 1)


@dataclass(frozen=True, slots=True)
class Kept:
    """A report that a rule keeps back."""

    reason: str
    told_from: datetime
    overdue_from: datetime
    versions: tuple[Version, ...] = (FINAL,)
    circumstances: Circumstances = SENT
    terms: ReleaseTerms = TERMS
    found_at: datetime = BEGIN

    def flags(self, now: datetime, **others: object) -> frozenset[Flag]:
        """What staff are told of it at an instant."""
        circumstances = replace(self.circumstances, **others)  # type: ignore[arg-type]  # named fields of the value
        made = planned(self.versions, now, circumstances, self.terms)
        assert others or self.reason in made.held_for
        return made.flags & TOLD


def at_once(reason: str, *versions: Version, circumstances: Circumstances = SENT) -> Kept:
    """Kept back since it came."""
    return Kept(reason, TUESDAY, TUESDAY + DAY, versions or (FINAL,), circumstances)


def on_the_day(reason: str, circumstances: Circumstances, terms: ReleaseTerms = TERMS) -> Kept:
    """Found out when it was due."""
    return Kept(reason, THE_DAY_AFTER, THE_DAY_AFTER + DAY, (FINAL,), circumstances, terms, END)


def until_reviewed(reason: str, circumstances: Circumstances, terms: ReleaseTerms = TERMS) -> Kept:
    """To be reviewed by the day on which it would be due."""
    return Kept(reason, TUESDAY, THE_DAY_AFTER, (FINAL,), circumstances, terms)


KEPT = [
    at_once("no-content", version("final", text="")),
    at_once("verification-time-invalid", replace(FINAL, verification=Verification(None))),
    at_once("verification-time-invalid", version("final", verified_at=BEGIN + 365 * DAY)),
    at_once("patient-changed", version("draft", Said.PRELIMINARY, BEGIN - DAY, patient="nhs:9990000026"), FINAL),
    at_once("no-nhs-number", circumstances=replace(SENT, has_nhs_number=False)),
    at_once("too-many-versions", circumstances=replace(SENT, version_count=VERSIONS_USUAL_MAX + 1)),
    at_once("too-many-versions", circumstances=replace(SENT, version_count=VERSIONS_MAX)),
    until_reviewed("child", replace(SENT, birth_date=CHILD)),
    until_reviewed("safeguarding", replace(SENT, exam_codes=frozenset({"XSKEL"})), SAFEGUARDED),
    on_the_day("identity", replace(SENT, traced=traced_at(END, agreement=IdentityAgreement.DISAGREES))),
    on_the_day("identity", replace(SENT, traced=traced_at(END, nhs_number_status="02"))),
    Kept(
        "child",
        told_from=END,
        overdue_from=THE_DAY_AFTER,
        circumstances=replace(SENT, birth_date=None, traced=traced_at(END, birth_date=None)),
        found_at=END,
    ),
    on_the_day("deceased", replace(SENT, traced=traced_at(END, death=Death.INFORMAL))),
    on_the_day("dispatch-not-proven", replace(SENT, is_dispatch_proven=False), WANTS_PROOF),
]


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.reason)
def test_what_a_rule_keeps_back_is_told_by_the_next_working_day_and_then_as_an_overdue_hold(kept: Kept) -> None:
    before = frozenset() if kept.told_from > kept.found_at else {Flag.HELD_BY_RULE}
    assert kept.flags(max(kept.told_from - SECOND, kept.found_at)) == before
    assert kept.flags(kept.told_from) == {Flag.HELD_BY_RULE}
    assert kept.flags(kept.overdue_from - SECOND) == {Flag.HELD_BY_RULE}
    assert kept.flags(kept.overdue_from) == {Flag.HELD_BY_RULE, Flag.HOLD_OVERDUE}
    assert kept.flags(kept.overdue_from + 5 * DAY) == {Flag.HELD_BY_RULE, Flag.HOLD_OVERDUE}
    assert kept.flags(kept.overdue_from + 7 * DAY) == TOLD
    assert kept.flags(kept.overdue_from + 365 * DAY) == TOLD


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.reason)
def test_what_a_rule_keeps_back_is_looked_at_when_there_is_something_to_tell(kept: Kept) -> None:
    for now in (kept.told_from, kept.overdue_from):
        before = planned(kept.versions, now - SECOND, kept.circumstances, kept.terms)
        assert before.look_at is not None
        assert before.look_at <= now
    late = planned(kept.versions, kept.overdue_from, kept.circumstances, kept.terms)
    assert late.look_at == kept.overdue_from + DAY


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.reason)
def test_whoever_takes_it_up_by_a_hold_is_asked_again_on_the_day_that_they_named(kept: Kept) -> None:
    taken_up = (hold(HoldKind.LEGAL, date(2026, 8, 3)),)
    assert kept.flags(london("2026-08-03 23:59:59"), holds=taken_up) == frozenset()
    assert kept.flags(london("2026-08-04 00:00"), holds=taken_up) == {Flag.HOLD_OVERDUE}


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.reason)
def test_that_the_patient_asked_for_time_is_nobody_on_the_staff_who_looks(kept: Kept) -> None:
    not_now = (hold(HoldKind.PATIENT_REQUEST, date(2026, 8, 3)),)
    made = planned(kept.versions, kept.overdue_from, replace(kept.circumstances, holds=not_now), kept.terms)
    is_found_out_now = kept.reason in made.held_for
    assert (Flag.HOLD_OVERDUE in made.flags) is is_found_out_now


def test_it_ends_by_itself_when_the_reason_goes() -> None:
    late = END + 2 * DAY
    unsure = on_the_day("identity", replace(SENT, traced=traced_at(late, agreement=IdentityAgreement.DISAGREES)))
    assert unsure.flags(late) == {Flag.HELD_BY_RULE, Flag.HOLD_OVERDUE}
    assert unsure.flags(late, traced=traced_at(late)) == frozenset()
    empty, full = version("empty", text=""), version("full", Said.CORRECTED, BEGIN + DAY)
    assert planned((empty, full), BEGIN + 9 * DAY).flags & TOLD == frozenset()
    reviewed = until_reviewed("child", replace(SENT, birth_date=CHILD))
    assert reviewed.flags(BEGIN + 9 * DAY, reviewed_versions=frozenset({"final"})) == frozenset()


def test_a_report_that_no_rule_keeps_back_is_nobodys_work() -> None:
    for now in (BEGIN, BEGIN + 9 * DAY, END, END + 9 * DAY):
        assert planned((FINAL,), now).flags & TOLD == frozenset()
        assert planned((FINAL,), now, replace(SENT, is_stopped=True)).flags & TOLD == frozenset()
    dead = replace(SENT, traced=traced_at(END, death=Death.FORMAL))
    assert planned((FINAL,), END + 9 * DAY, dead).flags & TOLD == frozenset()


def test_an_addendum_that_a_rule_keeps_back_is_told_of_though_its_report_is_out() -> None:
    empty = version("more", Said.APPENDED, END + DAY, text="")
    made = planned((FINAL, empty), END + 4 * DAY, out("final"))
    assert (made.state, made.gives, made.held_for) == (ReleaseState.RELEASED, ("final",), ("no-content",))
    assert Flag.HELD_BY_RULE in made.flags


def test_a_patient_who_disagreed_on_the_day_is_no_other_at_night() -> None:
    disagrees = replace(SENT, traced=traced_at(END, agreement=IdentityAgreement.DISAGREES))
    night = planned((FINAL,), london("2026-07-01 02:00"), disagrees)
    assert (night.state, night.held_for) == (ReleaseState.HELD, ("identity",))
