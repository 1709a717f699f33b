"""When each text of a report may go to its patient if nothing holds it (SAF-60, SAF-60a, SAF-61, SAF-68, REL-24).

Every text has an embargo of its own. Before the report is out, an addendum makes it wait, up to the longest delay;
afterwards an addendum waits alone. What was out once is never under embargo again, whatever a clock says. Knows
nothing of holds and of the patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from policy.release import clock
from policy.release.circumstances import Circumstances
from policy.release.reports import AlertCategory, Lifecycle, Version
from policy.release.terms import AddendumBeforeRelease, Calendar, ReleaseTerms


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a report, and when it may go."""

    version: Version
    own_end: datetime
    """Of its own embargo."""
    ready_at: datetime
    """When no embargo keeps it any more."""
    due_at: datetime
    """When the next window opens after that."""
    is_early: bool = False
    """A professional let it go before its time: no window counts on that day."""

    @property
    def name(self) -> str:
        """Its version."""
        return self.version.version_id


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the texts of a report go: the report first, then its addenda."""

    texts: tuple[Text, ...]
    is_out: bool
    """The report itself has been before its patient."""
    is_correction: bool
    """It takes the place of a text that has been."""
    is_for_alert_window: bool
    alarm_at: datetime | None = None
    """From when on its delay by addenda is to be looked at; None: nothing delays it."""

    @property
    def report(self) -> Text:
        """The report itself."""
        return self.texts[0]


def schedule(
    lifecycle: Lifecycle, circumstances: Circumstances, terms: ReleaseTerms, calendar: Calendar
) -> Schedule | None:
    """When each text goes; None where nothing stands or no time can be told."""
    report, started = lifecycle.current, lifecycle.clock_started_at
    if report is None or started is None or lifecycle.first_verified_at is None:
        return None
    released = circumstances.ever_released
    is_out = report.version_id in released
    is_correction = not is_out and any(each in released for each in lifecycle.superseded)
    own_end = _embargo_end(started, terms, calendar, is_correction=is_correction)
    ends = {each: _embargo_end(at, terms, calendar) for each in lifecycle.addenda if (at := _verified_at(each))}
    waits_for = [] if is_out else [end for each, end in ends.items() if _is_waited_for(each, terms)]
    joint = max([own_end, *waits_for])
    longest = clock.later_of(lifecycle.first_verified_at, terms.total_delay_max_days, calendar)
    ready = min(joint, max(longest, own_end))
    early = {each.version_id: each.at for each in circumstances.early}
    alerts = report.alerts.union(*(each.alerts for each in lifecycle.addenda))
    is_for_alert_window = AlertCategory.CANCER.value in alerts and not circumstances.is_acknowledged

    def text(version: Version, end: datetime, at: datetime) -> Text:
        at = min(at, released.get(version.version_id, at))
        let_go = early.get(version.version_id)
        if let_go is not None and let_go <= at:
            at = let_go
        is_early = let_go is not None and at == let_go
        due = at if is_early else next_window(at, terms, calendar, is_for_alert_window)
        return Text(version, end, at, due, is_early)

    first = text(report, own_end, ready)
    addenda = []
    for each, end in ends.items():
        alone = text(each, end, end)
        goes_along = (each.is_administrative and not is_out) or alone.due_at <= first.due_at
        addenda.append(_along(alone, first) if goes_along else alone)
    alarm_at = clock.later_of(lifecycle.first_verified_at, terms.total_delay_alarm_days, calendar)
    is_delayed = not is_out and first.ready_at > own_end
    return Schedule(
        texts=(first, *addenda),
        is_out=is_out,
        is_correction=is_correction,
        is_for_alert_window=is_for_alert_window,
        alarm_at=alarm_at if is_delayed else None,
    )


def next_window(at: datetime, terms: ReleaseTerms, calendar: Calendar, is_for_alert_window: bool) -> datetime:
    """The first instant from `at` on at which something may go out."""
    if is_for_alert_window:
        return clock.alert_window(at, terms.alert_release_window, calendar)
    return clock.window(at, terms, calendar)


def _embargo_end(
    verified_at: datetime, terms: ReleaseTerms, calendar: Calendar, *, is_correction: bool = False
) -> datetime:
    step = clock.embargo_step(terms, verified_at)
    end = clock.embargo_end(verified_at, step, calendar)
    if not is_correction:
        return end
    # What is shorter than the national four weeks needs the evidence of the embargo itself, corrections included.
    days = max(terms.correction_after_release_days, min(step.days, clock.NATIONAL_EMBARGO_DAYS))
    return clock.later_of(verified_at, days, calendar)


def _is_waited_for(addendum: Version, terms: ReleaseTerms) -> bool:
    if addendum.is_administrative:
        return False
    return terms.addendum_before_release is AddendumBeforeRelease.JOIN or bool(addendum.alerts)


def _along(addendum: Text, report: Text) -> Text:
    """An addendum never goes before the report that it adds to."""
    return Text(addendum.version, addendum.own_end, report.ready_at, report.due_at, report.is_early)


def _verified_at(version: Version) -> datetime | None:
    return version.verification.at if version.verification else None
