"""Forget what is kept once its retention is over (SAF-41): messages as they came, dead letters, the texts of reports.

What messages said outlives them as versions of reports, and each row outlives what stood beside it: a message that
comes again is still the same one. A wrong clock takes nothing away before its time (SAF-31).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from gateway.jobs.runner import Work
from storage.database import Tx
from storage.release import messages
from storage.release.upkeep import forgetting
from storage.store import SqlStore

log = structlog.get_logger(__name__)

FORGET = "reports-forget"
"""The kind of the job that forgets."""
FORGET_INTERVAL_S = 86_400.0
ROUNDS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long it is kept."""

    payloads: timedelta
    dead_letters: timedelta
    texts: timedelta


class Forgetting:
    """The job."""

    def __init__(
        self,
        store: SqlStore,
        retention: Callable[[], Retention],
        now: Callable[[], Awaitable[datetime]],
    ) -> None:
        """`now` gives time that no wrong clock takes ahead: see `gateway.keeping.counting`."""
        self._store = store
        self._retention = retention
        self._now = now

    async def __call__(self, work: Work) -> None:
        """The job that recurs."""
        forgotten = await self.forget()
        if any(forgotten):
            log.info("contents of reports forgotten", messages=forgotten[0], versions=forgotten[1], job=work.job.job_id)

    async def forget(self) -> tuple[int, int]:
        """Forget what is due; of how many messages, and of how many versions, that was."""
        now, kept = await self._now(), self._retention()
        texts = partial(forgetting.forget_texts, before=now - kept.texts)
        some = partial(messages.forget_payloads, filed_before=now - kept.payloads, dead_before=now - kept.dead_letters)
        return (
            await self._all(some, messages.FORGOTTEN_AT_ONCE_MAX),
            await self._all(texts, forgetting.FORGOTTEN_AT_ONCE_MAX),
        )

    async def _all(self, some: Callable[[Tx], int], at_once_max: int) -> int:
        count = 0
        for _ in range(ROUNDS_MAX):
            forgotten = await self._store.write(some)
            count += forgotten
            if forgotten < at_once_max:
                break
        return count
