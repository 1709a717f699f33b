"""Time by which what cannot be undone is done: keys destroyed, texts and records forgotten (SAF-31).

The earlier of the clock and of a count that outlives the process. It goes on with what the processor counts; a restart
is believed by the clock for as long as restarts take, and a longer pause only slowly, for nobody can tell it from a
clock that runs ahead, and what is kept too long hurts less than what is lost. So a clock that is years ahead takes away
an hour a day at most, and a gateway that was off for a week forgets a week later until it has caught up.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from gateway.model.seams import Clock
from storage.database import Tx
from storage.store import SqlStore
from storage.work import counting

log = structlog.get_logger(__name__)

RESTART_MAX = timedelta(hours=2)
"""So far a clock is believed at a start: it was counted within the last hour, and restarts take no longer than that."""
CATCHES_UP_IN = 24
"""So many hours it takes to catch up with the clock by one."""
TOLD_FROM = timedelta(days=1)


class CountedTime:
    """Counts, from the first `now` on."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counted_s = clock.monotonic()
        self._at: datetime | None = None
        """As far as this process has counted."""
        self._told_s = float("-inf")

    async def now(self) -> datetime:
        """The present instant, or an earlier one; raises a `ServiceFault`."""
        clock_at, now_s = self._clock.now(), self._clock.monotonic()
        passed = timedelta(seconds=now_s - self._counted_s)

        def body(tx: Tx) -> datetime:
            at = self._count(counting.counted_at(tx), clock_at, passed)
            counting.keep(tx, at)
            return at

        self._at, self._counted_s = await self._store.write(body), now_s
        behind = clock_at - self._at
        if abs(behind) >= TOLD_FROM and now_s - self._told_s >= TOLD_FROM.total_seconds():
            self._told_s = now_s
            log.warning("clock far from counted time", hours=round(behind / timedelta(hours=1)))
        return min(clock_at, self._at)

    def _count(self, kept: datetime | None, clock_at: datetime, passed: timedelta) -> datetime:
        if kept is None:
            return clock_at
        if self._at is None and timedelta() <= clock_at - kept <= RESTART_MAX:
            return clock_at
        counted = max(kept, self._at or kept) + passed
        return counted + min(max(clock_at - counted, timedelta()), passed / CATCHES_UP_IN)
