"""Times of HL7 v2 (TS, DTM) as instants, with where their zone came from (domain.md A3).

Without a zone it is London's; a wall time that London has twice is the second of them, one that it does not have is an
hour later; a date alone is the end of that day. What cannot be read is None, never a guess. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone

from policy.release.reports import ZoneKnown
from policy.release.terms import LONDON

_TIME = re.compile(
    r"(?P<date>[0-9]{8})(?:(?P<clock>[0-9]{4}(?:[0-9]{2})?)(?:\.(?P<fraction>[0-9]{1,9}))?)?(?P<zone>[+-][0-9]{4})?"
)
_ZONE_MINUTES_MAX = 14 * 60
_YEARS = range(1900, 2200)


@dataclass(frozen=True, slots=True)
class Stamp:
    """An instant, and how it is known."""

    at: datetime
    zone: ZoneKnown

    @property
    def earliest(self) -> datetime:
        """The first of the two instants that a wall time without a zone may mean when London's clocks go back."""
        is_of_two = self.zone is ZoneKnown.ASSUMED and self.at.astimezone(LONDON).fold
        return self.at - timedelta(hours=1) if is_of_two else self.at


def stamp(value: str) -> Stamp | None:
    """The instant that a time means; None where it is none, or less than a day is known of it."""
    found = _TIME.fullmatch(value.strip())
    if found is None:
        return None
    day = day_of(found["date"])
    if day is None or day.year not in _YEARS:
        return None
    clock = found["clock"]
    if clock is None:
        # A zone of a date alone says nothing of when on that day.
        return Stamp(london(datetime.combine(day, time(23, 59, 59))), ZoneKnown.DATE_ONLY)
    try:
        wall = datetime.combine(day, time(int(clock[:2]), int(clock[2:4]), int(clock[4:6] or 0)))
    except ValueError:
        return None
    wall += timedelta(microseconds=int((found["fraction"] or "0").ljust(6, "0")[:6]))
    if found["zone"] is None:
        return Stamp(london(wall), ZoneKnown.ASSUMED)
    minutes = int(found["zone"][1:3]) * 60 + int(found["zone"][3:5])
    if minutes > _ZONE_MINUTES_MAX or int(found["zone"][3:5]) > 59:
        return None
    offset = timedelta(minutes=-minutes if found["zone"].startswith("-") else minutes)
    return Stamp(wall.replace(tzinfo=timezone(offset)).astimezone(UTC), ZoneKnown.STATED)


def day_of(value: str) -> date | None:
    """The day that a time begins with; None where it is none."""
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:8])) if value[:8].isdecimal() else None
    except ValueError:
        return None


def london(wall: datetime) -> datetime:
    """The instant at which London's clocks show this: the second of two, or an hour later where they never do."""
    first = wall.replace(tzinfo=LONDON, fold=0).astimezone(UTC)
    is_skipped = first.astimezone(LONDON).replace(tzinfo=None) != wall
    return first if is_skipped else wall.replace(tzinfo=LONDON, fold=1).astimezone(UTC)
