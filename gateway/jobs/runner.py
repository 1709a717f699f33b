"""The runner: claims jobs lane by lane, runs each in a task of its own, and holds their leases meanwhile.

The rows are the truth (`storage.work.jobs`); this process only looks. It is woken by whoever queues a job here, and
polls for what others queued. A lease that is lost stops the task at once: somebody else runs the job. A handler may run
twice and must come to the same end. Retries are decided here and nowhere else. Knows no SQL and no kind of job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Protocol

import structlog

from gateway.model.errors import (
    Denied,
    GatewayError,
    InvalidRequest,
    NotFound,
    PeerProtocolError,
    PeerRefused,
    ServiceFault,
)
from gateway.model.seams import Clock
from gateway.model.work.jobs import Capacity, Claim, FailureKind, Job, Lane, Progress, RetryTerms

log = structlog.get_logger(__name__)


class JobBook(Protocol):
    """Where the jobs stand, as a runner needs it; everything raises a `ServiceFault` while it cannot be reached."""

    async def ready_lanes(self, kinds: Collection[str]) -> frozenset[Lane]:
        """The lanes in which a job is due."""

    async def claim(self, owner: str, lane: Lane, limit: int, lease: timedelta, kinds: Collection[str]) -> list[Job]:
        """Take ready jobs of a lane."""

    async def renew(self, claims: Sequence[Claim], lease: timedelta) -> Mapping[Claim, bool]:
        """Those that are still held, and whether each is to be cancelled."""

    async def to_cancel(self, claims: Sequence[Claim]) -> Collection[Claim]:
        """Those of these that somebody wants done no more."""

    async def give_back_expired(self) -> int:
        """Make the jobs of runners that are gone ready; how many."""

    async def advance(self, held: Claim, progress: Progress) -> bool:
        """Write down how far a job is."""

    async def finish(self, held: Claim) -> bool:
        """It is done."""

    async def fail(self, held: Claim, kind: FailureKind, words: str, terms: RetryTerms) -> bool:
        """Its attempt failed."""

    async def give_back(self, held: Claim) -> bool:
        """Its attempt does not count."""

    async def stopped(self, held: Claim) -> bool:
        """It was stopped as was asked."""


class Work(Protocol):
    """A job in its handler's hands."""

    @property
    def job(self) -> Job:
        """What is to be done."""

    def advance(self, progress: Progress) -> None:
        """Say how far it is; written down some time soon."""


class Handler(Protocol):
    """Does the jobs of one kind. Raises what went wrong; is cancelled where a job is to stop, and leaves no half."""

    async def __call__(self, work: Work) -> None:
        """Do it, whatever an earlier attempt has done of it already."""


class JobFailed(Exception):
    """A handler's own word on what helps. It never leaves the runner, so it is none of the errors that reach edges."""

    def __init__(self, kind: FailureKind, words: str) -> None:
        super().__init__(words)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How one node runs jobs."""

    capacity: Capacity = field(default_factory=Capacity)
    lease_s: float = 60.0
    poll_s: float = 2.0
    retry: RetryTerms = field(default_factory=RetryTerms)


class _Stop(Enum):
    """Why the runner cancelled a task."""

    LOST = auto()
    CANCELLED = auto()
    ENDING = auto()


Telling = Callable[[], Awaitable[bool]]
"""Writes down how a job ended; False if it was somebody else's by then."""


@dataclass(slots=True, eq=False)
class _Running:
    """A job that this process runs."""

    job: Job
    held_at: float
    """When its lease was last taken or renewed, by the monotonic clock."""
    task: asyncio.Task[None] | None = None
    progress: Progress = field(default_factory=Progress)
    written: Progress = field(default_factory=Progress)
    stopping: _Stop | None = None

    def advance(self, progress: Progress) -> None:
        """See `Work`."""
        self.progress = progress

    def stop(self, why: _Stop) -> None:
        """Cancel its task, once."""
        if self.stopping is None and self.task is not None:
            self.stopping = why
            self.task.cancel()


class Runner:
    """Runs the jobs of these kinds while `running()` is open."""

    def __init__(
        self,
        book: JobBook,
        handlers: Mapping[str, Handler],
        clock: Clock,
        *,
        owner: str,
        settings: RunnerSettings | None = None,
    ) -> None:
        self._book = book
        self._handlers = handlers
        self._clock = clock
        self._owner = owner
        self._settings = settings or RunnerSettings()
        self._lease = timedelta(seconds=self._settings.lease_s)
        self._running: dict[Claim, _Running] = {}
        self._woken = asyncio.Event()
        self.last_looked_at: float | None = None
        """When, by the monotonic clock, the book was last read: a runner that looks no more has to be seen."""

    @property
    def under_way(self) -> Counter[Lane]:
        """How many jobs of each lane run here."""
        return Counter(each.job.lane for each in self._running.values())

    def wake(self) -> None:
        """Something was queued or cancelled here: look at once."""
        self._woken.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run jobs; at the end give those back that are not done, for others to go on with."""
        loops = [asyncio.create_task(self._claim_for_ever()), asyncio.create_task(self._hold_for_ever())]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            for each in list(self._running.values()):
                each.stop(_Stop.ENDING)
            tasks = [each.task for each in self._running.values() if each.task is not None]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _claim_for_ever(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._stop_unwanted()
                await self._book.give_back_expired()
                await self._claim()
                self.last_looked_at = self._clock.monotonic()
            except ServiceFault as error:
                log.warning("jobs not looked at", error=str(error))
            await self._woken_or(self._settings.poll_s)

    async def _stop_unwanted(self) -> None:
        """Stop what was cancelled, at the next look and not only when its lease is renewed: an opt-out cancels."""
        for claim in await self._book.to_cancel(list(self._running)):
            if (running := self._running.get(claim)) is not None:
                running.stop(_Stop.CANCELLED)

    async def _claim(self) -> None:
        kinds = sorted(self._handlers)
        for lane in sorted(await self._book.ready_lanes(kinds)):
            free = self._settings.capacity.free(self.under_way, lane)
            if free:
                for job in await self._claimed(lane, free, kinds):
                    self._start(job)

    async def _claimed(self, lane: Lane, limit: int, kinds: Collection[str]) -> list[Job]:
        """Jobs that are this runner's now. One that is stopped in this moment gives back what it gets all the same."""
        claiming = asyncio.ensure_future(self._book.claim(self._owner, lane, limit, self._lease, kinds))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(ServiceFault):  # then its lease ends by itself
                for job in await claiming:
                    await self._book.give_back(job.claim)
            raise

    def _start(self, job: Job) -> None:
        running = _Running(job, self._clock.monotonic(), progress=job.progress, written=job.progress)
        self._running[job.claim] = running
        running.task = asyncio.create_task(self._run(running))
        running.task.add_done_callback(lambda _: self._ended(job.claim))

    def _ended(self, claim: Claim) -> None:
        self._running.pop(claim, None)
        self.wake()  # a place is free

    async def _run(self, running: _Running) -> None:
        job = running.job
        try:
            await self._handlers[job.kind](running)
        except asyncio.CancelledError:
            tell = self._telling_of_a_stop(running)
        except (GatewayError, JobFailed) as error:
            tell = self._telling_of_a_failure(job, _kind(error), str(error))
        except Exception as error:  # noqa: BLE001  # outermost frame of this job's task: a bug is its failure alone
            log.error("job failed unexpectedly", job=job.job_id, kind=job.kind, error=type(error).__name__)
            tell = self._telling_of_a_failure(job, FailureKind.TRANSIENT, "failed unexpectedly: see the gateway's log")
        else:
            tell = partial(self._finish, running)
        if tell is not None:
            await self._told(job, tell)

    async def _finish(self, running: _Running) -> bool:
        if running.progress != running.written:
            await self._book.advance(running.job.claim, running.progress)
        return await self._book.finish(running.job.claim)

    def _telling_of_a_stop(self, running: _Running) -> Telling | None:
        """Nothing is told of a job that is somebody else's by now."""
        claim = running.job.claim
        if running.stopping is _Stop.LOST:
            return None
        return partial(self._book.stopped if running.stopping is _Stop.CANCELLED else self._book.give_back, claim)

    def _telling_of_a_failure(self, job: Job, kind: FailureKind, words: str) -> Telling:
        log.warning("job attempt failed", job=job.job_id, kind=job.kind, failure=kind.value, attempt=job.attempts)
        return partial(self._book.fail, job.claim, kind, words, self._settings.retry)

    async def _told(self, job: Job, tell: Telling) -> None:
        """Have a job's end written down, as long as its lease lasts; behind that another runner begins it anew."""
        give_up_at = self._clock.monotonic() + self._settings.lease_s
        while True:
            try:
                if not await tell():
                    log.warning("job was taken over", job=job.job_id, kind=job.kind)
                return
            except ServiceFault as error:
                if self._clock.monotonic() >= give_up_at:
                    log.error("end of job not written", job=job.job_id, kind=job.kind, error=str(error))
                    return
            await self._clock.sleep(self._settings.poll_s)

    async def _hold_for_ever(self) -> None:
        """Renew the leases three times in their length; stop what is lost or is to be cancelled."""
        while True:
            await self._clock.sleep(self._settings.lease_s / 3)
            try:
                await self._hold()
            except ServiceFault as error:
                log.warning("leases not renewed", error=str(error))
            now = self._clock.monotonic()
            for each in self._running.values():
                if now - each.held_at >= self._settings.lease_s:
                    each.stop(_Stop.LOST)

    async def _hold(self) -> None:
        asked_at = self._clock.monotonic()
        held = await self._book.renew(list(self._running), self._lease)
        for claim, running in list(self._running.items()):
            if claim not in held:
                if running.held_at < asked_at:  # else it was claimed while we asked
                    running.stop(_Stop.LOST)
                continue
            running.held_at = asked_at
            if held[claim]:
                running.stop(_Stop.CANCELLED)
            elif running.progress != running.written:
                running.written = running.progress
                await self._book.advance(claim, running.progress)

    async def _woken_or(self, delay_s: float) -> None:
        waiting = asyncio.create_task(self._clock.sleep(delay_s))
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait((waiting, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            woken.cancel()


def _kind(error: GatewayError | JobFailed) -> FailureKind:
    """What helps, told by the family of the error."""
    if isinstance(error, JobFailed):
        return error.kind
    if isinstance(error, Denied):
        return FailureKind.POLICY
    if isinstance(error, InvalidRequest | NotFound | PeerRefused | PeerProtocolError):
        return FailureKind.PERMANENT
    return FailureKind.TRANSIENT
