"""Time that no jump of the clock takes ahead, and whether it can be believed just now (SAF-31).

Within one process time is counted from an instant that was believed; a clock that runs ahead of that is doubted,
alarmed and not followed, one that runs behind is. While there is doubt nothing new is released, for so many minutes at
most; then the count goes on by itself. After a start there is nothing to count from: a clock that is far from when
reports were last looked at is doubted as long, and believed then, for a node may have been off for a week.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from gateway.model.seams import Clock

log = structlog.get_logger(__name__)

AHEAD_MAX = timedelta(seconds=60)
"""So far a clock may be corrected forwards without being doubted."""


class TrustedTime:
    """Counts. `begin` before the first look."""

    def __init__(self, clock: Clock, unsure_max: timedelta) -> None:
        self._clock = clock
        self._unsure_max = unsure_max
        self._began_at, self._began_s = clock.now(), clock.monotonic()
        self._doubted_since_s: float | None = None
        self._unsure_until_s = float("-inf")

    def begin(self, looked_at: datetime | None) -> None:
        """Start from a clock of which is only known when reports were last looked at; None: never."""
        if looked_at is None:
            return
        gap = self._began_at - looked_at
        if gap > self._unsure_max:
            self._unsure_until_s = self._began_s + self._unsure_max.total_seconds()
            log.error("clock in doubt", alarm=True, seconds=round(gap.total_seconds()), since="the last look")

    def now(self) -> datetime:
        """The present instant, or an earlier one."""
        return min(self._clock.now(), self._counted())

    def is_sure(self) -> bool:
        """Whether something new may be released by this clock."""
        now_s = self._clock.monotonic()
        ahead = self._clock.now() - self._counted()
        if ahead <= AHEAD_MAX:
            self._doubted_since_s = None
            return now_s >= self._unsure_until_s
        if self._doubted_since_s is None:
            self._doubted_since_s = now_s
            log.error("clock in doubt", alarm=True, seconds=round(ahead.total_seconds()), since="the start")
        waited = timedelta(seconds=now_s - self._doubted_since_s)
        return waited >= self._unsure_max and now_s >= self._unsure_until_s

    def _counted(self) -> datetime:
        return self._began_at + timedelta(seconds=self._clock.monotonic() - self._began_s)
