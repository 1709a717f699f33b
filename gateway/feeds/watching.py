"""Whether a feed has fallen silent, and whether what came is as much as its sender says it sent (SAF-32).

A report that never arrived is never released and alerts nobody: silence is the failure that no message tells of. How
long a feed may be silent depends on the hour, for no RIS reports at night what it does at noon. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from policy.release.terms import LONDON

DAYS_MAX = 3_650
COUNT_MAX = 1_000_000
_STEP = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Silence:
    """Minutes that a feed may be silent, for each hour of the London day."""

    minutes: tuple[int, ...]

    def is_too_long(self, heard_at: datetime, now: datetime) -> bool:
        """Whether a feed that was last heard then is silent for too long now.

        Minutes of an hour count by what that hour allows, so that a night that allows much is not blamed on the
        morning after it: the shares of all hours since come to more than one.
        """
        if now <= heard_at:
            return False
        share = 0.0
        at = heard_at
        while at < now and share <= 1.0:
            until = min(at + _STEP, now)
            share += (until - at) / timedelta(minutes=self.minutes[at.astimezone(LONDON).hour])
            at = until
        return share > 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """How many reports a sender says it sent on a day."""

    day: date
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A day of which the counts differ: somebody has to look."""

    day: date
    told: int
    filed: int

    @property
    def missing(self) -> int:
        """Reports that were sent and are not here; negative: more are here than were sent."""
        return self.told - self.filed


def differences(told: Iterable[Told], filed: Mapping[date, int]) -> tuple[Difference, ...]:
    """The days whose counts differ, the oldest first; of a day told twice the last word counts."""
    last = {each.day: each.count for each in told}
    found = (Difference(day, count, filed.get(day, 0)) for day, count in sorted(last.items()))
    return tuple(each for each in found if each.missing)


def counts_of(text: str) -> tuple[Told, ...]:
    """The counts of a file of lines `2026-06-01,214`; a first line of words is let pass. Raises `ValueError`."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        day, comma, count = (part.strip() for part in line.partition(","))
        if number == 1 and not day[:1].isdecimal():
            continue
        if not comma or not count.isdecimal() or not count.isascii() or int(count[:9]) > COUNT_MAX:
            raise ValueError(f"line {number}: a day and a count are expected, as in 2026-06-01,214")
        try:
            found.append(Told(date.fromisoformat(day), int(count)))
        except ValueError as error:
            raise ValueError(f"line {number}: the day is none; it is written 2026-06-01") from error
        if len(found) > DAYS_MAX:
            raise ValueError(f"the file has more than {DAYS_MAX} days")
    return tuple(found)
