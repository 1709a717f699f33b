"""Who goes first where several want the same: an archive's associations, and this process.

Somebody waits for an interactive retrieval; nobody waits for one in the background. So an archive always has a place
left for the former, and the most urgent is next when one comes free. While a study that somebody waits for has not
begun to come, what nobody waits for stands back, for a moment at each piece, so that it goes on all the same. Belongs
to one event loop; times are the loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from gateway.model.work.jobs import Lane

HURRY_S_MAX = 2.0
"""So long others stand back for one retrieval at most: its archive may be slow."""
STAND_BACK_S_MAX = 0.25
"""So long a piece of what nobody waits for is held back at most; the next one is another piece."""


class Urgency:
    """How urgent an errand is. It grows when somebody more urgent comes to need it."""

    def __init__(self, lane: Lane = Lane.INTERACTIVE) -> None:
        self.lane = lane
        self._told: list[Callable[[], None]] = []

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody sits and waits."""
        return self.lane <= Lane.INTERACTIVE

    def raise_to(self, lane: Lane) -> None:
        """At least as urgent as this from now on."""
        if lane < self.lane:
            self.lane = lane
            for tell in tuple(self._told):
                tell()

    def follow(self, tell: Callable[[], None]) -> None:
        """Have `tell` called whenever it grows, until `unfollow`."""
        self._told.append(tell)

    def unfollow(self, tell: Callable[[], None]) -> None:
        """Take back `follow`."""
        self._told.remove(tell)


class Places:
    """So many at once; of several places the last is kept for what somebody waits for."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._kept = 1 if count > 1 else 0
        self._waiting: list[tuple[Urgency, asyncio.Future[None]]] = []

    async def acquire(self, urgency: Urgency) -> None:
        """Take a place once there is one; the most urgent first, and of those the one that came first."""
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (urgency, came)
        self._waiting.append(waiting)
        urgency.follow(self._serve)
        try:
            self._serve()
            await came
        except asyncio.CancelledError:
            if came.done() and not came.cancelled():
                self.release()
            raise
        finally:
            urgency.unfollow(self._serve)
            with suppress(ValueError):
                self._waiting.remove(waiting)

    def has_room(self, urgency: Urgency) -> bool:
        """Whether there is a place at once."""
        return not self._waiting and self._free > (0 if urgency.is_waited_for else self._kept)

    def release(self) -> None:
        """Give a place back."""
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            urgency, came = min(self._waiting, key=lambda each: each[0].lane)
            if self._free <= (0 if urgency.is_waited_for else self._kept):
                return
            self._waiting.remove((urgency, came))
            if not came.done():
                self._free -= 1
                came.set_result(None)


class RightOfWay:
    """Who stands back for whom in one process."""

    def __init__(self) -> None:
        self._hurrying: set[Hurry] = set()
        self._turn = asyncio.Lock()
        self._clear = asyncio.Event()
        self._clear.set()

    def hurry(self, lane: Lane) -> Hurry:
        """A retrieval begins; to be ended with `over`."""
        hurry = Hurry(self, Urgency(lane))
        if hurry.urgency.is_waited_for:
            self._hurrying.add(hurry)
            self._clear.clear()
            hurry.timer = asyncio.get_running_loop().call_later(HURRY_S_MAX, hurry.over)
        return hurry

    async def stand_back(self, urgency: Urgency) -> None:
        """Let those pass for whom somebody waits, but no longer than for a moment.

        One piece at a time goes on, so that whoever comes now finds few before it in the loop.
        """
        if urgency.is_waited_for:
            return
        async with self._turn:
            await asyncio.sleep(0)
            if self._clear.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(STAND_BACK_S_MAX):
                    await self._clear.wait()

    def end(self, hurry: Hurry) -> None:
        """One less to stand back for."""
        self._hurrying.discard(hurry)
        if not self._hurrying:
            self._clear.set()


class Hurry:
    """One retrieval's way: others stand back for it until its first image is there, it may have to for others."""

    def __init__(self, of: RightOfWay, urgency: Urgency) -> None:
        self.urgency = urgency
        self.timer: asyncio.TimerHandle | None = None
        self._of = of

    def over(self) -> None:
        """The first image is there, or none comes; idempotent."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self._of.end(self)

    async def stand_back(self) -> None:
        """See `RightOfWay.stand_back`."""
        await self._of.stand_back(self.urgency)
