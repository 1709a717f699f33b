"""What a person should know of a report whatever its state, and when that changes next (REL-03, SAF-60, 61, 64)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from policy.release import clock
from policy.release.circumstances import Circumstances, Flag, HoldKind
from policy.release.reports import Lifecycle, Problem, Standing, ZoneKnown
from policy.release.terms import Calendar, ReleaseTerms
from policy.release.timing import Schedule


def noticed(
    lifecycle: Lifecycle,
    schedule: Schedule | None,
    circumstances: Circumstances,
    terms: ReleaseTerms,
    calendar: Calendar,
    now: datetime,
) -> tuple[frozenset[Flag], list[datetime]]:
    """The flags of now but those of holds, and the instants at which there may be others."""
    flags, looks = set[Flag](), list[datetime]()
    for flag, begins in _timed(lifecycle, schedule, circumstances, terms, calendar):
        if begins <= now:
            flags.add(flag)
        else:
            looks.append(begins)
    if _is_of_a_wrong_patient(lifecycle, circumstances):
        flags.add(Flag.WRONG_PATIENT)
    if _contact_is_due(lifecycle, circumstances):
        flags.add(Flag.CORRECTION_CONTACT_DUE)
    if schedule and schedule.is_out and any(each.name not in circumstances.ever_released for each in schedule.texts):
        flags.add(Flag.ADDENDUM_AFTER_RELEASE)
    verifications = [each.verification for each in (lifecycle.current, *lifecycle.addenda) if each]
    if any(each is not None and each.zone is not ZoneKnown.STATED for each in verifications):
        flags.add(Flag.ZONE_ASSUMED)
    return frozenset(flags), looks


def _timed(
    lifecycle: Lifecycle,
    schedule: Schedule | None,
    circumstances: Circumstances,
    terms: ReleaseTerms,
    calendar: Calendar,
) -> Iterator[tuple[Flag, datetime]]:
    """What begins at an instant by itself."""
    if lifecycle.stopped_at is not None:
        days = terms.correction_contact_working_days
        yield Flag.NOT_VERIFIED_AGAIN, clock.end_of_working_day(lifecycle.stopped_at, days, calendar)
    if schedule is None or lifecycle.clock_started_at is None:
        return
    verified_at = lifecycle.clock_started_at
    if not circumstances.is_dispatch_proven:
        days = terms.dispatch_evidence_working_days
        yield Flag.DISPATCH_NOT_PROVEN, clock.end_of_working_day(verified_at, days, calendar)
    if not circumstances.is_acknowledged:
        reminded = [verified_at + timedelta(days=each) for each in terms.reminder_days]
        yield Flag.UNACKNOWLEDGED, min([schedule.report.due_at, *reminded])
    if schedule.alarm_at is not None:
        yield Flag.DELAY_ALARM, schedule.alarm_at


def _is_of_a_wrong_patient(lifecycle: Lifecycle, circumstances: Circumstances) -> bool:
    if lifecycle.standing is Standing.WITHDRAWN or Problem.PATIENT_CHANGED in lifecycle.problems:
        return True
    return any(hold.kind is HoldKind.WRONG_PATIENT for hold in circumstances.holds)


def _contact_is_due(lifecycle: Lifecycle, circumstances: Circumstances) -> bool:
    """Whether the referrer is to reach a patient whose text was taken away for a correction (SAF-61)."""
    if lifecycle.standing not in {Standing.VERIFIED, Standing.BEING_CORRECTED}:
        return False
    is_corrected = any(each in circumstances.ever_released for each in lifecycle.superseded)
    report = lifecycle.current
    return is_corrected and (report is None or report.version_id not in circumstances.ever_released)
