"""Whether the bucket can be had at this moment. What fails once is not asked by everybody else in turn.

Lost by the first request that fails for a reason of the bucket's own, found again by a probe that tries at growing
intervals. Said as an alarm once each way. Safe from any thread; knows no requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.model.errors import OutOfReach
from gateway.model.seams import Clock

log = structlog.get_logger(__name__)

PROBE_FIRST_S = 1.0
PROBE_MAX_S = 30.0
"""The pauses between probes, doubled from the first to the longest."""
ALARM_INTERVAL_S = 60.0
"""An alarm that lasts is repeated so often."""


class Reach:
    """What is known of the bucket."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._words = ""
        self._alarmed_s = 0.0
        self._lost = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def words(self) -> str:
        """Why it cannot be had; empty while it can."""
        return self._words

    def check(self) -> None:
        """Raises `OutOfReach` while it cannot be had."""
        if self._words:
            raise OutOfReach(self._words)

    def lose(self, words: str) -> OutOfReach:
        """It cannot be had, for this reason; the error to raise."""
        now_s = self._clock.monotonic()
        if not self._words or now_s - self._alarmed_s >= ALARM_INTERVAL_S:
            log.error("study bucket out of reach", alarm=True, reason=words)
            self._alarmed_s = now_s
        self._words = words
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._lost.set)
        return OutOfReach(words)

    def find(self) -> None:
        """It can be had again."""
        if self._words:
            log.warning("study bucket in reach again", alarm=False)
        self._words = ""
        self._lost.clear()

    async def probe(self, is_there: Callable[[], Awaitable[None]]) -> None:
        """Look for it while it is lost, for ever; `is_there` raises `OutOfReach` when it is not."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._lost.wait()
            pause_s = PROBE_FIRST_S
            while self._words:
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, PROBE_MAX_S)
                try:
                    await is_there()
                except OutOfReach:
                    continue
                self.find()
