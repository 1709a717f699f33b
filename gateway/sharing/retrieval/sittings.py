"""One caller's sitting over one study: decided once, and every further request for parts of it rides on that.

A viewer that opens a study asks for it hundreds of times, frame by frame. The first request stands alone; the second
opens a sitting: one passage, one frozen set that grows by what is asked, one outcome. A request joins only while the
registers stand as they stood at the decision, read anew for each, and never later than the time after which a retrieval
is decided again (E11). It ends when nobody has asked for a while, and its outcome says how many requests it were.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import structlog

from gateway.model.errors import GatewayError, RegisterUnavailable, StoreUnavailable
from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.retrievals import RetrieveWish
from gateway.model.work.transfers import InstanceRef
from gateway.model.work.under_way import UnderWay
from gateway.sharing.broker import Survey
from gateway.sharing.retrieval.account import Account
from gateway.sharing.retrieval.acquiring import Listed
from gateway.sharing.retrieval.descriptions import Descriptions, Room
from gateway.sharing.retrieval.entries import Entry
from policy.parties import Caller

log = structlog.get_logger(__name__)

SITTINGS_MAX = 128
ROWS_MAX = 200_000
"""Instances of all sittings together; beyond either, requests stand alone."""
REQUESTS_NAMED_MAX = 500
"""Requests whose ids the outcome names; of more it says how many they were."""
LATELY_MAX = 10_000
WRITTEN_DOWN_INTERVAL_S = 1.0
CLOSE_TIMEOUT_S = 5.0
"""So long closing waits for requests that ride."""


@dataclass(slots=True, eq=False)
class Sitting:
    """A passage that several requests share."""

    survey: Survey
    account: Account | None
    """None where nothing may be had."""
    entries: Mapping[str, Entry]
    """All of the study that may be had, by SOP instance UID in order."""
    listed: Callable[[], Listed]
    """All that its holders listed, read from their rows by whoever needs it first."""
    version: int
    """Of the registers, read before the decision."""
    decided_at_s: float
    touched_s: float
    riders: int = 0
    requests: int = 0
    request_ids: list[str] = field(default_factory=list)
    is_closed: bool = False
    """Whether nobody joins any more."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    descriptions: Descriptions = field(default_factory=Descriptions)
    late: tuple[InstanceRef, ...] = ()
    """Rejection notes, perhaps, that could not be read when it was decided: once one is here, it is decided anew."""


Opens = Callable[[Caller, RetrieveWish], AbstractAsyncContextManager[Sitting]]
"""Passes the guard for the whole study; raises as `Surveys.survey` does. Leaving closes the account and records it."""
Key = tuple[object, ...]


class Sittings:
    """Every sitting of one core. `close` ends them."""

    def __init__(self, opens: Opens, version: Callable[[], Awaitable[int]], clock: Clock, limits: Limits) -> None:
        self._opens = opens
        self._look = _Look(version)
        self._clock = clock
        self._limits = limits
        self._lately: OrderedDict[Key, float] = OrderedDict()
        self._open: dict[Key, asyncio.Future[Sitting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows = 0
        self._room = Room()
        self._riding = UnderWay()
        self._is_closing = False

    @contextlib.asynccontextmanager
    async def joined(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Sitting | None]:
        """A place in the sitting that this request belongs to; None: it stands alone.

        Raises what passing the guard raises.
        """
        key = _key(caller, wish)
        sitting = await self._sitting(key, caller, wish) if key is not None else None
        if sitting is None:
            yield None
            return
        sitting.riders += 1
        sitting.requests += 1
        if len(sitting.request_ids) < REQUESTS_NAMED_MAX:
            sitting.request_ids.append(caller.request_id)
        try:
            with self._riding.one():
                yield sitting
        finally:
            sitting.riders -= 1
            sitting.touched_s = self._clock.monotonic()
            sitting.news.set()

    async def close(self) -> None:
        """Let nobody join any more, and end all of them once their riders have left, for then the record is whole."""
        self._is_closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._riding.until_none()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def rested(self) -> None:
        """Return once all of them have ended by themselves."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _sitting(self, key: Key, caller: Caller, wish: RetrieveWish) -> Sitting | None:
        was_here = self._was_here_lately(key)
        known = self._open.get(key)
        if known is not None and not known.done():
            # It is being decided at this moment, for somebody who asked at the same time.
            return _unless_closed(await asyncio.shield(known))
        if known is not None and await self._may_join(sitting := known.result()):
            return sitting
        if not was_here or self._is_closing or len(self._open) >= SITTINGS_MAX or self._rows >= ROWS_MAX:
            return None
        before, known = known, self._open.get(key)
        if known is None or known.done():
            known = self._open[key] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._sit(key, caller, wish, known, self._taken_over(before)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return _unless_closed(await asyncio.shield(known))

    async def _may_join(self, sitting: Sitting) -> bool:
        """Whether its decision still holds for whoever comes now."""
        if not self._is_joinable(sitting):
            return False
        try:
            version = await self._look.version()
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error
        if version != sitting.version:
            sitting.is_closed = True
            sitting.news.set()
        return self._is_joinable(sitting)

    def _is_joinable(self, sitting: Sitting) -> bool:
        age_s = self._clock.monotonic() - sitting.decided_at_s
        return not (sitting.is_closed or self._is_closing) and age_s < self._limits.retrieve_recheck_s

    def _was_here_lately(self, key: Key) -> bool:
        now_s = self._clock.monotonic()
        before_s = self._lately.pop(key, float("-inf"))
        self._lately[key] = now_s
        if len(self._lately) > LATELY_MAX:
            self._lately.popitem(last=False)
        return now_s - before_s < self._limits.retrieve_rest_s

    def _taken_over(self, before: asyncio.Future[Sitting] | None) -> Descriptions:
        """What the caller's last sitting over the study remembers; it goes on with nothing."""
        if before is None or before.cancelled() or before.exception() is not None:
            return Descriptions(self._room)
        descriptions, before.result().descriptions = before.result().descriptions, Descriptions()
        return descriptions

    async def _sit(
        self,
        key: Key,
        caller: Caller,
        wish: RetrieveWish,
        known: asyncio.Future[Sitting],
        descriptions: Descriptions,
    ) -> None:
        rows = 0
        try:
            async with self._opens(caller, wish) as sitting:
                rows = len(sitting.entries)
                self._rows += rows
                sitting.is_closed, sitting.descriptions = not rows, descriptions
                known.set_result(sitting)
                try:
                    await self._until_at_rest(sitting)
                finally:
                    sitting.descriptions.forget()
        except GatewayError as error:
            if not known.done():
                known.set_exception(error)
                known.exception()  # whoever waits for it hears of it; nobody has to
            else:
                log.error("sitting not recorded", error=type(error).__name__)
        finally:
            self._rows -= rows
            if self._open.get(key) is known:
                del self._open[key]
            known.cancel()

    async def _until_at_rest(self, sitting: Sitting) -> None:
        """Until nobody rides, and nobody did for a while or may any more."""
        # Whoever waited for it takes their place first.
        await asyncio.sleep(0)
        while True:
            left_s = sitting.touched_s + self._limits.retrieve_rest_s - self._clock.monotonic()
            if not sitting.riders and (left_s <= 0 or not self._is_joinable(sitting)):
                sitting.is_closed = True
                return
            sitting.news.clear()
            await self._pause(sitting, min(max(left_s, 0.1), WRITTEN_DOWN_INTERVAL_S))
            if sitting.account is not None:
                await sitting.account.write_down()

    async def _pause(self, sitting: Sitting, pause_s: float) -> None:
        if self._is_joinable(sitting):
            await self._clock.sleep(pause_s)
            return
        waiting = [asyncio.ensure_future(self._clock.sleep(pause_s)), asyncio.ensure_future(sitting.news.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()


class _Look:
    """Reads the version of the registers, one time for all who ask while a reading is under way."""

    def __init__(self, read: Callable[[], Awaitable[int]]) -> None:
        self._read = read
        self._running: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def version(self) -> int:
        """As it stands after this was called. Raises `StoreUnavailable`."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._begun())
            return await asyncio.shield(self._running)
        # What is under way may have begun before this was asked.
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        return await asyncio.shield(self._next)

    async def _begun(self) -> int:
        return await self._read()

    async def _after(self, before: asyncio.Task[int]) -> int:
        await asyncio.wait({before})
        self._running, self._next = self._next, None
        return await self._read()


def requests_of(sitting: Sitting) -> JsonValue:
    """What the outcome says of those who shared it."""
    ids: list[JsonValue] = [*sitting.request_ids]
    return {"count": sitting.requests, "ids": ids}


def _unless_closed(sitting: Sitting) -> Sitting | None:
    return None if sitting.is_closed and sitting.entries else sitting


def _key(caller: Caller, wish: RetrieveWish) -> Key | None:
    """Who sits over what: everything that the decision hangs on. None for a wish that stands alone by its kind."""
    if wish.destination is not None or wish.patient is not None or wish.job_id or len(wish.study_uids) != 1:
        return None
    who = (caller.principal, caller.purpose, caller.hops, caller.stated_identity)
    return (*who, wish.study_uids[0], wish.patient_id, wish.only_trust)
