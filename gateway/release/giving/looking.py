"""Look which reports time has changed, and plan them anew: due times are rows, and this job only looks.

One process looks at a time, any may; what one of them has planned is not due to be looked at any more, so a look may
be repeated, missed for a week or killed. A report that cannot be planned is put off and alarmed: no other waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

import structlog

from gateway.jobs.runner import Work
from gateway.model.errors import ServiceFault
from gateway.release.giving.documents import RETRY_MAX
from gateway.release.giving.trusted import TrustedTime
from gateway.release.planner import Planner
from storage.database import Tx
from storage.registers.state import Author
from storage.release import reports, standing
from storage.release.upkeep import receipts
from storage.store import SqlStore

log = structlog.get_logger(__name__)

LOOK = "release-look"
"""The kind of the job."""
LOOK_INTERVAL_S = 30.0
AT_ONCE_MAX = 100
"""Reports that are planned together."""
_AUTHOR = Author("release", "", "the time has come")


class Looking:
    """The handler of `LOOK` jobs."""

    def __init__(self, store: SqlStore, planner: Planner, time: TrustedTime, woken: Callable[[], None]) -> None:
        """`woken` is called once jobs were queued."""
        self._store = store
        self._planner = planner
        self._time = time
        self._woken = woken

    async def __call__(self, work: Work) -> None:
        """See `Handler`."""
        await self.look()

    async def look(self) -> int:
        """Plan all reports that are to be looked at by now; how many. Raises a `ServiceFault`."""
        if not self._time.is_sure():
            return 0
        now = self._time.now()
        await self._store.write(lambda tx: standing.mark_looked(tx, now))
        await self._judge_receipts(now)
        count = 0
        while found := await self._store.read(partial(reports.due, now=now, limit=AT_ONCE_MAX)):
            await asyncio.gather(*(self._plan(each) for each in found))
            count += len(found)
            self._woken()
        return count

    async def _judge_receipts(self, now: datetime) -> None:
        """Judge again when that came which came in doubt of the clock; who plans it next goes by it."""

        def body(tx: Tx) -> None:
            for report_id in found:
                reports.hold(tx, report_id)
                receipts.judge(tx, report_id, now)
                standing.look_at_report(tx, report_id, now)

        while found := await self._store.read(receipts.doubted):
            await self._store.write(body)

    async def _plan(self, report_id: str) -> None:
        def body(tx: Tx) -> None:
            self._planner.replan(tx, report_id, _AUTHOR)

        try:
            await self._store.write(body)
        except ServiceFault:
            raise
        except Exception as error:  # noqa: BLE001  # the outermost frame of one report's plan: the others go on
            log.error("report not planned", alarm=True, report=report_id, error=type(error).__name__)
            again = self._time.now() + RETRY_MAX
            await self._store.write(lambda tx: standing.look_at_report(tx, report_id, again))
