"""Time that no jump of the clock takes ahead, and whether it can be believed just now (SAF-31).

Within one process time is counted from an instant that was believed; a clock that runs ahead of that is doubted,
alarmed and not followed, one that runs behind is followed and alarmed. While there is doubt nothing new is released,
for so many minutes at most; then the count goes on by itself. After a start there is nothing to count from: a clock
that is far from when reports were last looked at is doubted as long, and believed then, for a node may have been off
for a week; what comes in meanwhile has come by the last look and what passed since. One that is set right is followed.
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
        """When reports were last looked at before the start, if the clock has been far from that ever since."""

    def begin(self, looked_at: datetime | None) -> None:
        """Start from a clock of which is only known when reports were last looked at; None: never."""
        self._has_begun = True
        if looked_at is None:
            return
        gap = self._began_at - looked_at
        if abs(gap) > self._unsure_max:
            self._looked_at = looked_at
            log.error("clock in doubt", alarm=True, seconds=round(gap.total_seconds()), since="the last look")

    def now(self) -> datetime:
        """The present instant, or an earlier one."""
        return min(self._clock.now(), self._counted())

    def sure_instant(self) -> datetime:
        """An instant of which is sure that it has come: in doubt after a start, the last look and what passed since."""
        if self._looked_at is None or not self._is_start_doubted():
            return self.now()
        return min(self.now(), self._looked_at + self._passed())

    def is_sure(self) -> bool:
        """Whether something new may be released by this clock."""
        is_sure = self._has_begun and not self._is_start_doubted()
        now_s = self._clock.monotonic()
        ahead = self._clock.now() - self._counted()
        if ahead < -BEHIND_MAX and not self._is_told_behind:
            log.error("clock in doubt", alarm=True, seconds=round(ahead.total_seconds()), since="the start")
        self._is_told_behind = ahead < -BEHIND_MAX
        if ahead <= AHEAD_MAX:
            self._doubted_since_s = None
            return is_sure
        if self._doubted_since_s is None:
            self._doubted_since_s = now_s
            log.error("clock in doubt", alarm=True, seconds=round(ahead.total_seconds()), since="the start")
        waited = timedelta(seconds=now_s - self._doubted_since_s)
        return is_sure and waited >= self._unsure_max

    def _is_start_doubted(self) -> bool:
        """Whether the clock is far from the last look, and nobody has waited for it long enough."""
        if self._looked_at is None:
            return False
        now = self._clock.now()
        if abs(now - (self._looked_at + self._passed())) > self._unsure_max:
            return self._passed() < self._unsure_max
        # It was set right: what was counted since the start was wrong, and no later jump is followed as far as that.
        self._began_at, self._began_s, self._looked_at = now, self._clock.monotonic(), None
        return False

    def _passed(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._began_s)

    def _counted(self) -> datetime:
        return self._began_at + self._passed()
