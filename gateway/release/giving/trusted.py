"""Time that no jump of the clock takes ahead, and whether it can be believed just now (SAF-31).

Within one process time is counted from an instant that was believed; a clock that runs ahead of that is doubted,
alarmed and not followed, one that runs behind is. While there is doubt nothing new is released, for so many minutes at
most; then the count goes on by itself. After a start there is nothing to count from: a clock that is far from when
reports were last looked at is doubted as long, and believed then, for a node may have been off for a week; what comes
in meanwhile has come by the last look and what passed since, until more is known.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from gateway.model.seams import Clock

log = structlog.get_logger(__name__)

AHEAD_MAX = timedelta(seconds=60)
"""So far a clock may be corrected forwards without being doubted."""


BEHIND_MAX = timedelta(seconds=60)
"""So far a clock may be corrected backwards without being told of."""


class TrustedTime:
    """Counts. `begin` before the first look: until then nothing is sure."""

    def __init__(self, clock: Clock, unsure_max: timedelta) -> None:
        self._clock = clock
        self._unsure_max = unsure_max
        self._began_at, self._began_s = clock.now(), clock.monotonic()
        self._has_begun = False
        self._doubted_since_s: float | None = None
        self._is_told_behind = False
        self._looked_at: datetime | None = None
        """While the start is in doubt: when reports were last looked at, as of the start."""

    def begin(self, looked_at: datetime | None) -> None:
        """Start from a clock of which is only known when reports were last looked at; None: never."""
        self._has_begun = True
        if looked_at is None:
            return
        gap = self._began_at - looked_at
        if gap > self._unsure_max:
            self._looked_at = looked_at
            log.error("clock in doubt", alarm=True, seconds=round(gap.total_seconds()), since="the last look")
        elif -gap > self._unsure_max:
            log.error("clock in doubt", alarm=True, seconds=round(gap.total_seconds()), since="the last look")

    def now(self) -> datetime:
        """The present instant, or an earlier one."""
        return min(self._clock.now(), self._counted())

    def sure_instant(self) -> datetime:
        """An instant of which is sure that it has come: in doubt after a start, the last look and what passed since."""
        self._settle()
        return self.now() if self._looked_at is None else min(self.now(), self._looked_at + self._passed())

    def is_sure(self) -> bool:
        """Whether something new may be released by this clock."""
        self._settle()
        now_s = self._clock.monotonic()
        ahead = self._clock.now() - self._counted()
        if ahead < -BEHIND_MAX and not self._is_told_behind:
            log.error("clock in doubt", alarm=True, seconds=round(ahead.total_seconds()), since="the start")
        self._is_told_behind = ahead < -BEHIND_MAX
        if ahead <= AHEAD_MAX:
            self._doubted_since_s = None
            return self._has_begun and self._looked_at is None
        if self._doubted_since_s is None:
            self._doubted_since_s = now_s
            log.error("clock in doubt", alarm=True, seconds=round(ahead.total_seconds()), since="the start")
        waited = timedelta(seconds=now_s - self._doubted_since_s)
        return self._has_begun and self._looked_at is None and waited >= self._unsure_max

    def _settle(self) -> None:
        """End the doubt of a start: the clock has come back to the last look, or has been waited for long enough."""
        if self._looked_at is None:
            return
        now = self._clock.now()
        if now - (self._looked_at + self._passed()) <= self._unsure_max:
            # What was counted from was wrong: no later jump is followed as far as that.
            self._began_at, self._began_s, self._looked_at = now, self._clock.monotonic(), None
        elif self._passed() >= self._unsure_max:
            self._looked_at = None

    def _passed(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._began_s)

    def _counted(self) -> datetime:
        return self._began_at + self._passed()
