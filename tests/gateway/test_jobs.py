"""The runner, over the real table: places kept for the urgent, leases held, ends told, nothing stops in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.runner import Handler, JobFailed, Runner, RunnerSettings, Work
from gateway.model.errors import GatewayError, InvalidRequest, PeerUnavailable, StoreUnavailable
from gateway.model.work.jobs import (
    Capacity,
    Claim,
    FailureKind,
    Job,
    JobState,
    Lane,
    NewJob,
    Progress,
    RetryTerms,
    Ticket,
)
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.engines import DatabaseSettings
from storage.registers.state import Author
from storage.store import SqlStore
from storage.work import jobs
from storage.work.book import SqlJobBook
from tests.clock import FakeClock, settle

UNEXPECTED = "failed unexpectedly: see the gateway's log"
T = TypeVar("T")
CLERK = Author("clerk", "request-1", "no longer wanted")
SETTINGS = RunnerSettings(Capacity(4, {Lane.EMERGENCY: 1, Lane.INTERACTIVE: 1}), lease_s=60, poll_s=2)


class CountedStore(SqlStore):
    """The real store; knows whether it owes an answer to somebody."""

    under_way = 0

    async def write(self, body: Callable[[Tx], T]) -> T:
        """See `SqlStore`."""
        with self._one():
            return await super().write(body)

    async def read(self, body: Callable[[Read], T]) -> T:
        """See `SqlStore`."""
        with self._one():
            return await super().read(body)

    def is_busy(self) -> bool:
        """Whether a thread of its own works for somebody."""
        return self.under_way > 0

    @contextmanager
    def _one(self) -> Iterator[None]:
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class Told(SqlJobBook):
    """The real book; tells a test what was written, and can be made to fail."""

    def __init__(self, store: CountedStore, clock: FakeClock) -> None:
        super().__init__(store)
        self._counted = store
        self._clock = clock
        self._changed = asyncio.Condition()
        self.written: list[tuple[str, str]] = []
        self.is_down = False

    async def until(self, *wanted: tuple[str, str]) -> None:
        """Let time pass until all of this was written."""
        async with asyncio.timeout(30):
            await self._clock.run(self._until(wanted), is_busy=self._counted.is_busy)

    async def _until(self, wanted: Sequence[tuple[str, str]]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: set(wanted) <= set(self.written))

    async def claim(self, owner: str, lane: Lane, limit: int, lease: timedelta, kinds: Collection[str]) -> list[Job]:
        """See `JobBook`."""
        self._check()
        return await super().claim(owner, lane, limit, lease, kinds)

    async def renew(self, claims: Sequence[Claim], lease: timedelta) -> Mapping[Claim, bool]:
        """See `JobBook`."""
        self._check()
        held = await super().renew(claims, lease)
        await self._tell("renewed", *(claim.job_id for claim in claims))
        return held

    async def advance(self, held: Claim, progress: Progress) -> bool:
        """See `JobBook`."""
        return await self._done("advanced", held, await super().advance(held, progress))

    async def finish(self, held: Claim) -> bool:
        """See `JobBook`."""
        if self.is_down:
            await self._tell("not finished", held.job_id)
        self._check()
        return await self._done("finished", held, await super().finish(held))

    async def fail(self, held: Claim, kind: FailureKind, words: str, terms: RetryTerms) -> bool:
        """See `JobBook`."""
        return await self._done(kind.value, held, await super().fail(held, kind, words, terms))

    async def give_back(self, held: Claim) -> bool:
        """See `JobBook`."""
        return await self._done("given back", held, await super().give_back(held))

    async def stopped(self, held: Claim) -> bool:
        """See `JobBook`."""
        return await self._done("stopped", held, await super().stopped(held))

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the database is gone")

    async def _done(self, act: str, held: Claim, is_done: bool) -> bool:
        await self._tell(act, held.job_id)
        return is_done

    async def _tell(self, act: str, *job_ids: str) -> None:
        async with self._changed:
            self.written += [(act, job_id) for job_id in job_ids]
            self._changed.notify_all()


class Held:
    """A handler whose jobs end when the test says so."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[Work] = asyncio.Queue()
        self.may_end: dict[str, asyncio.Event] = {}
        self.stopped: list[str] = []

    async def __call__(self, work: Work) -> None:
        """Wait for the test."""
        end = self.may_end[work.job.job_id] = asyncio.Event()
        self.begun.put_nowait(work)
        try:
            await end.wait()
        except asyncio.CancelledError:
            self.stopped.append(work.job.job_id)
            raise

    async def next(self) -> Work:
        """The next job that begins."""
        async with asyncio.timeout(30):
            return await self.begun.get()


@pytest.fixture
async def store(sqlite_url: str, clock: FakeClock) -> AsyncIterator[CountedStore]:
    opened = CountedStore(DatabaseSettings(sqlite_url), node="north", clock=clock)
    async with opened:
        yield opened


@pytest.fixture
def book(store: CountedStore, clock: FakeClock) -> Told:
    return Told(store, clock)


def runner(book: Told, clock: FakeClock, handler: Handler, owner: str = "north") -> Runner:
    """A runner of the kind "fetch"."""
    return Runner(book, {"fetch": handler}, clock, owner=owner, settings=SETTINGS)


async def queue(store: SqlStore, lane: Lane = Lane.BACKGROUND, **other: object) -> str:
    """Queue one job; its id."""
    new = NewJob("fetch", lane, **other)  # type: ignore[arg-type]  # by name
    ticket: Ticket = await store.write(lambda tx: jobs.enqueue(tx, new))
    return ticket.job_id


async def get(store: SqlStore, job_id: str) -> Job:
    """A job as it stands."""
    return await store.read(partial(jobs.get, job_id=job_id))


async def test_what_is_queued_is_run_and_ended(store: SqlStore, book: Told, clock: FakeClock) -> None:
    done: list[str] = []

    async def handler(work: Work) -> None:
        work.advance(Progress(2, 2, 900, 900))
        done.append(work.job.job_id)

    before = await queue(store)
    async with runner(book, clock, handler).running():
        await book.until(("finished", before))
    ended = await get(store, before)
    assert (done, ended.state, ended.progress) == ([before], JobState.DONE, Progress(2, 2, 900, 900))


async def test_a_job_that_is_queued_here_wakes_the_runner(store: SqlStore, book: Told, clock: FakeClock) -> None:
    held = Held()
    running = runner(book, clock, held)
    async with running.running():
        first = await queue(store)
        running.wake()
        assert (await held.next()).job.job_id == first
        held.may_end[first].set()
        await book.until(("finished", first))


async def test_an_emergency_starts_although_the_background_has_filled_its_places(
    store: SqlStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    running = runner(book, clock, held)
    for _ in range(6):
        await queue(store)
    async with running.running():
        for _ in range(2):
            assert (await held.next()).job.lane is Lane.BACKGROUND
        urgent = await queue(store, Lane.EMERGENCY)
        running.wake()
        assert (await held.next()).job.job_id == urgent
        assert running.under_way == {Lane.BACKGROUND: 2, Lane.EMERGENCY: 1}


@given(
    at_once=st.integers(2, 12),
    reserved=st.dictionaries(st.sampled_from(list(Lane)[:3]), st.integers(0, 5)),
    asked=st.lists(st.sampled_from(Lane), max_size=40),
)
def test_places_are_never_more_than_there_are_and_an_emergency_always_finds_its_own(
    at_once: int, reserved: dict[Lane, int], asked: list[Lane]
) -> None:
    if sum(reserved.values()) >= at_once:
        with pytest.raises(ValueError, match="last lane"):
            Capacity(at_once, reserved)
        return
    capacity, running = Capacity(at_once, reserved), dict.fromkeys(Lane, 0)
    for lane in asked:
        if capacity.free(running, lane):
            running[lane] += 1
    assert sum(running.values()) <= at_once
    if running[Lane.EMERGENCY] < reserved.get(Lane.EMERGENCY, 0):
        assert capacity.free(running, Lane.EMERGENCY)
    assert all(capacity.free(running, lane) >= capacity.free(running, Lane.BACKGROUND) for lane in Lane)


@pytest.mark.parametrize(
    ("error", "kind", "state"),
    [
        (PeerUnavailable(TrustId("RZ2"), "no connection"), FailureKind.TRANSIENT, JobState.READY),
        (StoreUnavailable("the database is gone"), FailureKind.TRANSIENT, JobState.READY),
        (InvalidRequest("no such study"), FailureKind.PERMANENT, JobState.FAILED),
        (JobFailed(FailureKind.POLICY, "sharing has stopped"), FailureKind.POLICY, JobState.FAILED),
        (ValueError("a bug"), FailureKind.TRANSIENT, JobState.READY),
    ],
)
async def test_what_helps_is_told_by_what_went_wrong(
    store: SqlStore, book: Told, clock: FakeClock, error: Exception, kind: FailureKind, state: JobState
) -> None:
    async def handler(work: Work) -> None:
        raise error

    job_id = await queue(store)
    async with runner(book, clock, handler).running():
        await book.until((kind.value, job_id))
    ended = await get(store, job_id)
    assert (ended.state, ended.failure) == (state, kind)
    assert ended.words == (
        str(error) if isinstance(error, GatewayError | JobFailed) else "failed unexpectedly: see the gateway's log"
    )


async def test_leases_are_renewed_as_long_as_a_job_runs(store: SqlStore, book: Told, clock: FakeClock) -> None:
    held = Held()
    job_id = await queue(store)
    async with runner(book, clock, held).running():
        work = await held.next()
        work.advance(Progress(1, 3))
        for _ in range(6):
            book.written.clear()
            await book.until(("renewed", job_id))
        assert await store.write(lambda tx: jobs.give_back_expired(tx, lease_now=tx.now)) == 0
        assert (await get(store, job_id)).progress == Progress(1, 3)
        held.may_end[job_id].set()
        await book.until(("finished", job_id))


async def test_a_job_is_cancelled_by_another_process_at_the_next_look(
    store: SqlStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    job_id = await queue(store)
    async with runner(book, clock, held).running():
        await held.next()
        await store.write(partial(jobs.cancel, job_id=job_id, author=CLERK))
        await book.until(("stopped", job_id))
    ended = await get(store, job_id)
    assert (ended.state, ended.words, held.stopped) == (JobState.CANCELLED, "no longer wanted", [job_id])


async def test_a_runner_that_lost_a_job_stops_it_and_says_nothing_of_it(
    store: SqlStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    job_id = await queue(store)
    async with runner(book, clock, held).running():
        await held.next()
        other = timedelta(seconds=600)
        await store.write(lambda tx: jobs.give_back_expired(tx, lease_now=tx.now + other))
        (taken,) = await store.write(
            lambda tx: jobs.claim(tx, "south", Lane.BACKGROUND, 1, other, kinds=["fetch"], lease_now=tx.now)
        )
        await book.until(("renewed", job_id))
        await settle()
        assert held.stopped == [job_id]
    standing = await get(store, job_id)
    assert (standing.owner, standing.attempts, standing.state) == ("south", taken.attempts, JobState.RUNNING)


async def test_a_runner_that_stops_gives_back_what_is_not_done(store: SqlStore, book: Told, clock: FakeClock) -> None:
    held = Held()
    job_id = await queue(store, attempts_max=1)
    async with runner(book, clock, held).running():
        await held.next()
    standing = await get(store, job_id)
    assert (standing.state, standing.attempts, held.stopped) == (JobState.READY, 0, [job_id])


class Slow(Told):
    """A book whose answer to a claim comes when the test says so, long after the claim is durable."""

    def __init__(self, store: CountedStore, clock: FakeClock) -> None:
        super().__init__(store, clock)
        self.has_claimed, self.may_answer = asyncio.Event(), asyncio.Event()

    async def claim(self, owner: str, lane: Lane, limit: int, lease: timedelta, kinds: Collection[str]) -> list[Job]:
        """See `JobBook`."""
        claimed = await super().claim(owner, lane, limit, lease, kinds)
        self.has_claimed.set()
        await self.may_answer.wait()
        return claimed


async def test_a_runner_that_stops_in_the_moment_of_a_claim_gives_back_what_it_got(
    store: CountedStore, clock: FakeClock
) -> None:
    slow, held = Slow(store, clock), Held()
    job_id = await queue(store)

    async def run_until_claimed() -> None:
        async with runner(slow, clock, held).running():
            await slow.has_claimed.wait()

    running = asyncio.create_task(run_until_claimed())
    await slow.has_claimed.wait()
    await settle()
    slow.may_answer.set()
    async with asyncio.timeout(30):
        await running
    standing = await get(store, job_id)
    assert (standing.state, standing.attempts, held.begun.empty()) == (JobState.READY, 0, True)


async def test_an_end_that_cannot_be_written_is_written_when_the_database_is_back(
    store: SqlStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    job_id = await queue(store)
    async with runner(book, clock, held).running():
        await held.next()
        book.is_down = True
        held.may_end[job_id].set()
        await book.until(("not finished", job_id))
        book.is_down = False
        await book.until(("finished", job_id))
    assert (await get(store, job_id)).state is JobState.DONE


async def test_while_leases_cannot_be_renewed_jobs_are_stopped_before_others_may_begin_them(
    store: SqlStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    job_id = await queue(store)
    async with runner(book, clock, held).running():
        await held.next()
        book.is_down = True
        await clock.advance(59)
        assert held.stopped == []
        await clock.advance(2)
        assert held.stopped == [job_id]


async def test_a_runner_whose_database_was_gone_goes_on_by_itself(
    store: SqlStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    book.is_down = True
    running = runner(book, clock, held)
    job_id = await queue(store)
    async with running.running():
        await clock.advance(10)
        book.is_down = False
        running.wake()
        assert (await held.next()).job.job_id == job_id


async def test_what_is_cancelled_elsewhere_stops_at_the_next_look(
    store: CountedStore, book: Told, clock: FakeClock
) -> None:
    held = Held()
    job_id = await queue(store, patient_row="anne")
    async with runner(book, clock, held).running():
        await held.next()
        await store.write(lambda tx: jobs.cancel_of_patient(tx, "anne", "no longer permitted"))
        began_s = clock.monotonic()
        await book.until(("stopped", job_id))
    # Long before its lease is renewed: whoever opts out does not wait for that.
    assert clock.monotonic() - began_s < SETTINGS.lease_s / 3
    assert (await get(store, job_id)).state is JobState.CANCELLED
