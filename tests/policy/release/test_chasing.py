"""What is told to whom about a verified report, and until when (SAF-51, SAF-68, REL-03, REL-11, domain.md A8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from policy.release.chasing import Matter, Recipient, Referral, Step, alert_is_late, due, next_at
from policy.release.circumstances import Flag
from policy.release.reports import AlertCategory
from policy.release.terms import ReleaseTerms
from tests.policy.release.examples import BEGIN, CALENDAR, TERMS, london

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
END = london("2026-06-29 09:15")
PLAIN = Referral(BEGIN, dispatched_at=BEGIN, release_at=END)
CANCER = replace(PLAIN, alerts=frozenset({"cancer"}))


def told(referral: Referral, now: datetime, before: tuple[str, ...] = ()) -> tuple[Step, ...]:
    return due(referral, before, TERMS, CALENDAR, now)


def followed(referral: Referral, until: datetime, terms: ReleaseTerms = TERMS) -> list[Step]:
    """Everything that is told if each step is told when it falls due."""
    now, done = referral.verified_at, list[Step]()
    while True:
        keys = [each.key for each in done]
        done += due(referral, keys, terms, CALENDAR, now)
        following = next_at(referral, [each.key for each in done], terms, CALENDAR, now)
        if following is None or following > until:
            return done
        now = following


def test_the_referrer_is_told_at_verification() -> None:
    assert [(each.matter, each.to) for each in told(PLAIN, BEGIN)] == [(Matter.REPORT, (Recipient.REFERRER,))]
    assert told(PLAIN, BEGIN, ("report",)) == ()


def test_an_unknown_referrer_means_the_service_and_its_deputies_from_the_first_day() -> None:
    [step] = told(replace(PLAIN, is_referrer_known=False), BEGIN)
    assert step.to == (Recipient.SERVICE_MAILBOX, Recipient.DEPUTIES)


def test_an_alert_leaves_at_once_whatever_the_embargo() -> None:
    assert [each.matter for each in told(CANCER, BEGIN)] == [Matter.ALERT, Matter.REPORT]
    assert Matter.ALERT not in [each.matter for each in told(PLAIN, BEGIN)]


def test_an_alert_that_has_not_left_within_its_time_is_late() -> None:
    edge = BEGIN + timedelta(minutes=15)
    assert not alert_is_late(CANCER, (), TERMS, edge - SECOND, BEGIN)
    assert alert_is_late(CANCER, (), TERMS, edge, BEGIN)
    assert not alert_is_late(CANCER, ("alert/cancer",), TERMS, edge, BEGIN)
    assert not alert_is_late(PLAIN, (), TERMS, edge, BEGIN)
    assert not alert_is_late(CANCER, (), TERMS, edge, since=edge)


@pytest.mark.parametrize(
    ("code", "deputies", "lead"),
    [
        ("critical", timedelta(hours=1), timedelta(hours=4)),
        ("urgent", timedelta(hours=24), timedelta(hours=48)),
        ("cancer", timedelta(days=2), timedelta(days=4)),
        ("LOCAL-MACRO-7", timedelta(hours=24), timedelta(hours=48)),
    ],
)
def test_an_unanswered_alert_goes_further_by_its_category(code: str, deputies: timedelta, lead: timedelta) -> None:
    alert = replace(PLAIN, alerts=frozenset({code}))
    steps = [each for each in followed(alert, BEGIN + 5 * DAY) if each.matter is Matter.UNANSWERED_ALERT]
    assert [each.due_at - BEGIN for each in steps] == [deputies, lead]
    assert Recipient.DEPUTIES in steps[0].to
    assert Recipient.RESULTS_LEAD in steps[1].to


def test_a_trust_says_when_an_unanswered_alert_goes_further() -> None:
    terms = replace(TERMS, alert_escalation_minutes=((AlertCategory.CRITICAL, 10, 30), (AlertCategory.UNKNOWN, 20, 40)))
    for code, *minutes in (("critical", 10, 30), ("urgent", 20, 40), ("LOCAL-MACRO-7", 20, 40)):
        alert = replace(PLAIN, alerts=frozenset({code}))
        steps = [each for each in followed(alert, BEGIN + DAY, terms) if each.matter is Matter.UNANSWERED_ALERT]
        assert [(each.due_at - BEGIN) / timedelta(minutes=1) for each in steps] == minutes


def test_of_two_alerts_the_more_pressing_one_sets_the_pace() -> None:
    both = replace(PLAIN, alerts=frozenset({"cancer", "critical"}))
    steps = [each for each in followed(both, BEGIN + DAY) if each.matter is Matter.UNANSWERED_ALERT]
    assert steps[0].due_at == BEGIN + timedelta(hours=1)


def test_reminders_widen_from_deputies_over_the_lead_to_the_governance_list() -> None:
    steps = [each for each in followed(PLAIN, BEGIN + 21 * DAY) if each.matter is Matter.NOT_ACKNOWLEDGED]
    assert [(each.due_at - BEGIN).days for each in steps] == [7, 14, 21]
    assert steps[0].to == (Recipient.REFERRER, Recipient.DEPUTIES)
    assert Recipient.RESULTS_LEAD in steps[1].to
    assert Recipient.GOVERNANCE not in steps[1].to
    assert Recipient.GOVERNANCE in steps[2].to


def test_somebody_is_chased_weekly_after_the_last_reminder_and_not_for_ever() -> None:
    steps = followed(PLAIN, BEGIN + 3000 * DAY)
    assert [each.due_at - BEGIN for each in steps if each.key == "week-1"] == [28 * DAY]
    assert max(each.due_at for each in steps) == BEGIN + 21 * DAY + 52 * 7 * DAY


def test_an_acknowledgement_ends_the_chase_of_a_plain_report() -> None:
    read = replace(PLAIN, acknowledged_at=BEGIN + DAY)
    assert next_at(read, ("report",), TERMS, CALENDAR, BEGIN + DAY) is None


def test_an_alert_is_chased_until_its_follow_up_is_recorded() -> None:
    read = replace(CANCER, acknowledged_at=BEGIN + DAY)
    steps = followed(read, BEGIN + 21 * DAY)
    assert [each.matter for each in steps if each.key.startswith("day-")] == [Matter.NO_FOLLOW_UP] * 3
    assert Matter.UNANSWERED_ALERT not in [each.matter for each in steps]
    seen_to = replace(read, followed_up_at=BEGIN + 2 * DAY)
    assert next_at(seen_to, ("report", "alert/cancer"), TERMS, CALENDAR, BEGIN + 2 * DAY) is None


def test_a_follow_up_without_an_acknowledgement_leaves_the_report_unacknowledged() -> None:
    odd = replace(CANCER, followed_up_at=BEGIN + DAY)
    assert "day-7" in [each.key for each in followed(odd, BEGIN + 8 * DAY)]


def test_an_unacknowledged_alert_is_warned_of_a_week_before_its_patient_reads_it() -> None:
    warned = [each for each in followed(CANCER, END) if each.matter is Matter.RELEASE_NEAR]
    assert [(each.due_at, each.to) for each in warned] == [(END - 7 * DAY, (Recipient.TEAM, Recipient.RESULTS_LEAD))]
    assert not [each for each in followed(PLAIN, END) if each.matter is Matter.RELEASE_NEAR]


def test_a_missing_proof_of_dispatch_is_somebodys_work_after_one_working_day() -> None:
    friday = london("2026-06-05 16:00")
    unproven = Referral(friday, release_at=END, acknowledged_at=friday)
    steps = followed(unproven, END)
    assert [(each.key, each.due_at) for each in steps[1:]] == [
        ("dispatch-not-proven", london("2026-06-09 00:00")),
        ("dispatch-not-proven/release", END),
    ]
    assert Recipient.RESULTS_LEAD in steps[2].to


def test_a_contact_after_a_correction_is_asked_for_at_once_and_widens_after_two_working_days() -> None:
    taken = london("2026-07-01 10:00")
    gone = replace(PLAIN, contact_from=taken, is_standing=False)
    steps = followed(gone, taken + 9 * DAY)
    assert [each.due_at for each in steps] == [taken, london("2026-07-04 00:00"), london("2026-07-08 00:00")]
    assert {each.matter for each in steps} == {Matter.CORRECTION_CONTACT}
    assert next_at(replace(gone, followed_up_at=taken), (), TERMS, CALENDAR, taken) is None


def test_what_an_absence_made_late_is_told_once() -> None:
    keys = [each.key for each in told(CANCER, BEGIN + 30 * DAY)]
    assert sorted(keys) == ["alert/cancer", "release-near/cancer", "report", "unanswered-alert/cancer/2", "week-1"]


def test_an_overdue_hold_is_told_daily_and_to_the_caldicott_guardian_from_the_fifth_working_day() -> None:
    quiet = replace(PLAIN, acknowledged_at=BEGIN, flags=frozenset({Flag.HOLD_OVERDUE}))
    night = london("2026-07-11 00:00")
    [first] = told(quiet, night, ("report",))
    assert first.to == (Recipient.RESULTS_LEAD,)
    assert told(quiet, night + timedelta(hours=23), ("report", first.key)) == ()
    [second] = told(quiet, night + DAY, ("report", first.key))
    assert second.key != first.key
    late = replace(quiet, flags=frozenset({Flag.HOLD_OVERDUE, Flag.HOLD_TO_CALDICOTT}))
    assert Recipient.CALDICOTT_GUARDIAN in told(late, night, ("report",))[0].to


def test_the_end_of_a_hold_and_a_long_delay_are_told_once() -> None:
    flagged = replace(PLAIN, acknowledged_at=BEGIN, flags=frozenset({Flag.HOLD_ENDING, Flag.DELAY_ALARM}))
    steps = told(flagged, BEGIN + DAY, ("report",))
    assert {each.matter for each in steps} == {Matter.HOLD_ENDING, Matter.DELAY}
    assert told(flagged, BEGIN + 3 * DAY, ("report", *(each.key for each in steps))) == ()


def test_an_early_release_makes_no_proof_of_dispatch_late_before_its_working_day() -> None:
    early = replace(PLAIN, dispatched_at=None, release_at=BEGIN)
    assert [each.key for each in told(early, BEGIN)] == ["report"]
    assert [each.key for each in told(early, london("2026-06-03 00:00"), ("report",))] == [
        "dispatch-not-proven/release"
    ]
