"""A clock that stands still until a test moves it (`gateway.model.seams.Clock`).

Sleepers wake in the order of their instants, those of one instant in the order in which they lay down; between two of
them the event loop runs until it has nothing left to do, so that the same test always takes the same course.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

_TURNS_TO_SETTLE = 40
"""Turns of the loop after which everything that can run without the clock has run."""


class FakeClock:
    """Time that only `advance` and `run` move."""

    def __init__(self, start: datetime = NOON) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        """The instant at which this clock stands."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._elapsed_s

    async def sleep(self, delay_s: float) -> None:
        """Return when the clock has been moved by `delay_s` seconds; at once, after a turn of the loop, for none."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + delay_s, next(self._numbers), woken))
        await woken

    @property
    def is_slept_on(self) -> bool:
        """Whether anybody waits for this clock."""
        return any(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move on, waking every sleeper at its own instant on the way."""
        until_s = self._elapsed_s + seconds
        await settle()
        while (wakes_at_s := self._next_wake()) is not None and wakes_at_s <= until_s:
            await self._wake(wakes_at_s)
        self._elapsed_s = until_s

    async def run(self, work: Coroutine[object, object, T], *, is_busy: Callable[[], bool] = lambda: False) -> T:
        """Run `work` to its end, moving from sleeper to sleeper whenever nothing else can happen.

        `is_busy` says that something outside the loop (a thread) has still to answer.
        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await settle()
                if not is_busy():
                    await settle()  # whoever was answered in the last turn goes on, and may ask again
                if task.done():
                    break
                if is_busy() or (wakes_at_s := self._next_wake()) is None:
                    await asyncio.wait([task], timeout=0.001)
                else:
                    await self._wake(wakes_at_s)
            return task.result()
        finally:
            task.cancel()

    def _next_wake(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)  # whoever slept here was cancelled
        return self._sleepers[0][0] if self._sleepers else None

    async def _wake(self, wakes_at_s: float) -> None:
        _, _, woken = heapq.heappop(self._sleepers)
        self._elapsed_s = wakes_at_s
        woken.set_result(None)
        await settle()


class JumpingClock(FakeClock):
    """A clock that somebody sets."""

    ahead = timedelta()

    def now(self) -> datetime:
        """The wrong time."""
        return super().now() + self.ahead


async def settle() -> None:
    """Let everything run that waits for neither a clock, a thread nor a socket."""
    for _ in range(_TURNS_TO_SETTLE):
        await asyncio.sleep(0)
