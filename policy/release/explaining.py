"""Why a text goes when it does, in words for staff, each with its rule: what `gateway release explain` shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from policy.release.circumstances import Reason
from policy.release.terms import Calendar
from policy.release.timing import Schedule, Text


def embargo_reasons(schedule: Schedule, waiting: Collection[Text], calendar: Calendar) -> tuple[Reason, ...]:
    """Why the texts that wait go when they go."""
    return tuple(reason for each in waiting for reason in _reasons(schedule, each, calendar))


def told_at(at: datetime, calendar: Calendar) -> str:
    """An instant as staff read it."""
    return f"{at.astimezone(calendar.zone):%a %d %B %Y %H:%M %Z}"


def _reasons(schedule: Schedule, text: Text, calendar: Calendar) -> Iterator[Reason]:
    is_report = text is schedule.report
    what = "the report" if is_report else "an addendum"
    ends = told_at(text.own_end, calendar)
    if text.is_early:
        yield Reason("REL-24", f"a professional let {what} go before its time")
        return
    if is_report and schedule.is_correction:
        yield Reason("SAF-61", f"it corrects a text that its patient has seen: its own embargo ends {ends}")
    else:
        yield Reason("REL-07", f"the embargo of {what} ends {ends}")
    if is_report and text.ready_at > text.own_end:
        yield Reason("SAF-60", f"it waits for its addenda until {told_at(text.ready_at, calendar)}")
    if is_report and any(each.own_end > text.ready_at for each in schedule.texts[1:]) and not schedule.is_out:
        yield Reason("SAF-60a", "an addendum that would delay it for too long follows later")
    if not is_report and text.ready_at != text.own_end:
        yield Reason("SAF-60", "it goes together with its report")
    if text.due_at > text.ready_at:
        rule, hours = ("SAF-68", "mornings") if schedule.is_for_alert_window else ("REL-26", "working hours")
        yield Reason(rule, f"{hours} after that begin {told_at(text.due_at, calendar)}")
