"""Associations kept open to one archive, so that a question need not wait for a handshake.

The one that was used last is used first, so that those not needed grow idle and are released. One that its archive
ended meanwhile is thrown away. Whoever leases one says how it leaves it: clean, or with a query under way that is first
brought to its end behind the caller's back, or else it is aborted. Knows no service.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.wire import LINGER_S

CLOSE_TIMEOUT_S = LINGER_S + 1.0
"""How long `close` waits for archives to agree to a release and to hang up."""


class PoolClosed(AssociationFailure):
    """The pool was closed."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many associations, and how long they live."""

    associations_max: int
    """Open at once, in use or idle."""
    idle_s: float
    """One that is not used for as long is released."""
    life_max_s: float
    """One that is older is not used again."""
    queries_max: int = 0
    """How often one is used; 0: as often as it lives."""


@dataclass(slots=True)
class Lease:
    """An association in use by one caller at a time."""

    association: Association
    expires_at: float
    uses: int = 1
    is_clean: bool = False
    """Set by the caller: nothing is under way, and the next may use it."""
    settle: Callable[[], Awaitable[bool]] | None = None
    """Set by the caller while a query is under way: ends it in bounded time or with its association; whether clean."""

    @property
    def is_reused(self) -> bool:
        """Whether somebody used it before, so that its archive may have ended it unseen."""
        return self.uses > 1


@dataclass(slots=True, eq=False)
class _Idle:
    lease: Lease
    timer: asyncio.TimerHandle | None = field(default=None)


class Pool:
    """The associations to one archive. Made with what opens one; times are those of the loop."""

    def __init__(
        self, associate: Callable[[], Awaitable[Association]], limits: PoolLimits, *, now: Callable[[], float]
    ) -> None:
        self._associate = associate
        self._limits = limits
        self._now = now
        self._places = asyncio.Semaphore(limits.associations_max)
        self._idle: list[_Idle] = []
        self._leased: set[Association] = set()
        self._behind: set[asyncio.Task[None]] = set()
        """Connections watched, queries brought to their end, releases: at most two of these for each connection."""
        self._is_closed = False

    @contextlib.asynccontextmanager
    async def lease(self, *, is_fresh: bool = False) -> AsyncIterator[Lease]:
        """An association, waiting for a place if all are taken; `is_fresh`: one that nobody used before.

        Raises `AssociationFailure`.
        """
        await self._places.acquire()
        try:
            lease = await self._obtained(is_fresh)
        except BaseException:
            self._places.release()
            raise
        self._leased.add(lease.association)
        try:
            yield lease
        finally:
            if lease.settle is not None and lease.association.is_open and not self._is_closed:
                self._start(self._settled(lease))
            else:
                self._take_back(lease)

    async def close(self) -> None:
        """Abort what is in use, release what is idle; returns once all have hung up, or after `CLOSE_TIMEOUT_S`.

        Idempotent.
        """
        self._is_closed = True
        for association in tuple(self._leased):
            association.abort("the connector is closed")
        self._release_idle()
        if self._behind:
            _, unwilling = await asyncio.wait(self._behind, timeout=CLOSE_TIMEOUT_S)
            for task in unwilling:
                task.cancel()
            await asyncio.gather(*unwilling, return_exceptions=True)

    async def _obtained(self, is_fresh: bool) -> Lease:
        self._check_open()
        if is_fresh:
            # What broke one of them, such as an archive that was started anew, broke the others.
            self._release_idle()
        while self._idle:
            idle = self._idle.pop()
            _stop(idle)
            lease = idle.lease
            if lease.association.is_open and self._loop_time() < lease.expires_at:
                lease.uses, lease.is_clean, lease.settle = lease.uses + 1, False, None
                return lease
            self._release(lease.association)
        association = await self._associate()
        self._start(self._watched(association))
        try:
            self._check_open()
        except PoolClosed:
            association.abort("the connector is closed")
            raise
        return Lease(association, self._loop_time() + self._life_s(association))

    def _check_open(self) -> None:
        if self._is_closed:
            raise PoolClosed("the connector is closed")

    def _take_back(self, lease: Lease) -> None:
        association = lease.association
        self._leased.discard(association)
        if not lease.is_clean or self._is_closed:
            association.abort("given up")
        elif association.is_open and not self._is_worn(lease):
            self._keep(lease)
        else:
            self._release(association)
        self._places.release()

    def _keep(self, lease: Lease) -> None:
        idle = _Idle(lease)
        wait_s = min(self._limits.idle_s, lease.expires_at - self._loop_time())
        idle.timer = asyncio.get_running_loop().call_later(wait_s, self._expire, idle)
        self._idle.append(idle)

    def _expire(self, idle: _Idle) -> None:
        self._idle.remove(idle)
        self._release(idle.lease.association)

    def _is_worn(self, lease: Lease) -> bool:
        return self._loop_time() >= lease.expires_at or 0 < self._limits.queries_max <= lease.uses

    def _life_s(self, association: Association) -> float:
        """How long it may be used: not beyond the end of the archive's certificate."""
        certificate = association.ssl_object.getpeercert() if association.ssl_object is not None else None
        ends = certificate.get("notAfter") if certificate else None
        if not isinstance(ends, str):
            return self._limits.life_max_s
        return min(self._limits.life_max_s, ssl.cert_time_to_seconds(ends) - self._now())

    async def _watched(self, association: Association) -> None:
        """Throw away an association that ended while nobody used it."""
        await association.over()
        for idle in [idle for idle in self._idle if idle.lease.association is association]:
            _stop(idle)
            self._idle.remove(idle)
        await association.wire.hung_up.wait()

    async def _settled(self, lease: Lease) -> None:
        assert lease.settle is not None
        try:
            lease.is_clean = await lease.settle()
        except AssociationFailure:
            lease.is_clean = False
        finally:
            self._take_back(lease)

    def _release_idle(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            _stop(idle)
            self._release(idle.lease.association)

    def _release(self, association: Association) -> None:
        if association.is_open:
            self._start(self._released(association))

    @staticmethod
    async def _released(association: Association) -> None:
        try:
            await association.release()
        finally:
            association.abort("not released in time")

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()


def _stop(idle: _Idle) -> None:
    if idle.timer is not None:
        idle.timer.cancel()
