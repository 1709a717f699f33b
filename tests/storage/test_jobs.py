"""The jobs table on both engines: each job to one runner at a time, none lost, none ended by who no longer holds it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest

from gateway.model.errors import InvalidRequest
from gateway.model.work.jobs import FailureKind, Job, JobState, Lane, NewJob, Progress, RetryTerms, Ticket
from storage.engines import DatabaseSettings
from storage.registers.state import Author
from storage.store import SqlStore
from storage.work import jobs, standing
from tests.clock import NOON, FakeClock

LEASE = timedelta(seconds=60)
TERMS = RetryTerms(first_s=10, max_s=35)
CLERK = Author("clerk", "request-1", "no longer wanted")


async def queue(store: SqlStore, *new: NewJob) -> list[str]:
    """Queue jobs; their ids."""
    tickets: list[Ticket] = await store.write(lambda tx: [jobs.enqueue(tx, each) for each in new])
    return [ticket.job_id for ticket in tickets]


async def claim(store: SqlStore, owner: str = "north", lane: Lane = Lane.BACKGROUND, limit: int = 10) -> list[Job]:
    """Claim ready jobs of the kind "fetch" by the store's own clock."""
    return await store.write(lambda tx: jobs.claim(tx, owner, lane, limit, LEASE, kinds=["fetch"], lease_now=tx.now))


async def only(store: SqlStore, owner: str = "north") -> Job:
    """Claim the one job there is."""
    (claimed,) = await claim(store, owner)
    return claimed


async def expire(store: SqlStore) -> int:
    """Give back what nobody holds any more."""
    return await store.write(lambda tx: jobs.give_back_expired(tx, lease_now=tx.now))


async def fail(store: SqlStore, held: Job, kind: FailureKind = FailureKind.TRANSIENT) -> bool:
    """Fail an attempt."""
    return await store.write(lambda tx: jobs.fail(tx, held.claim, kind, "the archive is down", TERMS))


async def get(store: SqlStore, job_id: str) -> Job:
    """A job as it stands."""
    return await store.read(partial(jobs.get, job_id=job_id))


def background(**other: object) -> NewJob:
    """A job of the last lane."""
    return NewJob(**({"kind": "fetch", "lane": Lane.BACKGROUND} | other))  # type: ignore[arg-type]  # by name


async def test_jobs_of_a_lane_are_claimed_in_the_order_in_which_they_are_due(store: SqlStore, clock: FakeClock) -> None:
    late, soon, now = await queue(
        store,
        background(run_at=NOON + timedelta(hours=1)),
        background(run_at=NOON - timedelta(minutes=1)),
        background(),
    )
    assert [each.job_id for each in await claim(store)] == [soon, now]
    await clock.advance(3600)
    assert [each.job_id for each in await claim(store)] == [late]
    assert await claim(store) == []


async def test_only_the_lane_and_the_kinds_that_were_asked_for_are_claimed(store: SqlStore) -> None:
    await queue(store, background(), NewJob("fetch", Lane.EMERGENCY), background(kind="push"))
    assert await store.read(partial(standing.ready_lanes, kinds=["fetch"])) == {Lane.EMERGENCY, Lane.BACKGROUND}
    (urgent,) = await claim(store, lane=Lane.EMERGENCY)
    assert (urgent.lane, urgent.state, urgent.attempts) == (Lane.EMERGENCY, JobState.RUNNING, 1)
    (other,) = await claim(store)
    assert other.kind == "fetch"
    assert await store.read(partial(standing.ready_lanes, kinds=["fetch"])) == frozenset()


async def test_two_processes_claim_every_job_once(url: str, clock: FakeClock) -> None:
    settings = DatabaseSettings(url)
    async with (
        SqlStore(settings, node="north", clock=clock) as north,
        SqlStore(settings, node="south", clock=clock) as south,
    ):
        wanted = await queue(north, *(background() for _ in range(200)))

        async def work(store: SqlStore, owner: str) -> list[Job]:
            taken: list[Job] = []
            while claimed := await claim(store, owner, limit=7):
                taken += claimed
                for each in claimed:
                    assert await store.write(partial(jobs.finish, held=each.claim))
            return taken

        taken = list(itertools.chain(*await asyncio.gather(work(north, "north"), work(south, "south"))))
    assert Counter(each.job_id for each in taken) == Counter(wanted)
    assert {each.attempts for each in taken} == {1}


async def test_of_open_jobs_of_one_key_there_is_one_and_it_is_never_made_less_urgent(store: SqlStore) -> None:
    later = NOON + timedelta(hours=1)
    first = await store.write(lambda tx: jobs.enqueue(tx, background(dedupe_key="study 1", run_at=later)))
    urgent = NewJob("fetch", Lane.EMERGENCY, dedupe_key="study 1")
    second = await store.write(lambda tx: jobs.enqueue(tx, urgent))
    third = await store.write(lambda tx: jobs.enqueue(tx, background(dedupe_key="study 1", run_at=later)))
    assert (first.is_new, second, third) == (True, Ticket(first.job_id, False), Ticket(first.job_id, False))
    stands = await get(store, first.job_id)
    assert (stands.lane, stands.run_at) == (Lane.EMERGENCY, NOON)


async def test_a_key_is_free_again_when_its_job_has_ended(store: SqlStore) -> None:
    await queue(store, background(dedupe_key="study 1"))
    held = await only(store)
    (same,) = await queue(store, background(dedupe_key="study 1"))
    assert same == held.job_id
    await store.write(partial(jobs.finish, held=held.claim))
    (fresh,) = await queue(store, background(dedupe_key="study 1"))
    assert fresh != held.job_id


@pytest.mark.parametrize("end", ["is done", "fails for good", "is stopped", "is given back", "is lost"])
async def test_a_job_that_is_asked_for_again_while_it_is_being_cancelled_runs_again(
    store: SqlStore, clock: FakeClock, end: str
) -> None:
    new = background(dedupe_key="study 1", attempts_max=1)
    await queue(store, new)
    held = await only(store)
    await store.write(partial(jobs.cancel, job_id=held.job_id, author=CLERK))
    await queue(store, new)
    match end:
        case "is done":
            assert await store.write(partial(jobs.finish, held=held.claim))
        case "fails for good":
            assert await fail(store, held, FailureKind.PERMANENT)
        case "is stopped":
            assert await store.write(partial(jobs.stopped, held=held.claim))
        case "is given back":
            assert await store.write(partial(jobs.give_back, held=held.claim))
        case _:
            await clock.advance(61)
            assert await expire(store) == 1
    again = await only(store)
    assert (again.job_id, again.is_cancel_requested, again.words) == (held.job_id, False, "")
    assert again.claim != held.claim, "whoever had it before can say nothing of this run"
    assert await store.write(partial(jobs.finish, held=again.claim))
    assert (await get(store, held.job_id)).state is JobState.DONE


async def test_what_came_behind_a_running_job_s_look_is_looked_at_in_a_run_of_its_own(
    store: SqlStore, clock: FakeClock
) -> None:
    await queue(store, background(dedupe_key="study 1"))
    held = await only(store)
    for minutes in (5, 9):  # the second is covered by the run for the first
        soon = clock.now() + timedelta(minutes=minutes)
        await queue(store, background(dedupe_key="study 1", follows_running=True, run_at=soon))
    assert await store.write(partial(jobs.finish, held=held.claim))
    assert await claim(store) == []
    await clock.advance(300)
    again = await only(store)
    assert again.job_id == held.job_id
    assert await store.write(partial(jobs.finish, held=again.claim))
    assert (await get(store, held.job_id)).state is JobState.DONE


async def test_a_job_that_is_cancelled_after_it_was_asked_for_again_does_not_run_again(store: SqlStore) -> None:
    await queue(store, background(dedupe_key="study 1"))
    held = await only(store)
    await queue(store, background(dedupe_key="study 1", follows_running=True))
    await store.write(partial(jobs.cancel, job_id=held.job_id, author=CLERK))
    assert await store.write(partial(jobs.stopped, held=held.claim))
    assert (await get(store, held.job_id)).state is JobState.CANCELLED


async def test_two_processes_that_queue_the_same_at_once_queue_it_once(url: str, clock: FakeClock) -> None:
    settings = DatabaseSettings(url)
    async with (
        SqlStore(settings, node="north", clock=clock) as north,
        SqlStore(settings, node="south", clock=clock) as south,
    ):
        new = background(dedupe_key="study 1")
        tickets = await asyncio.gather(
            *(store.write(lambda tx: jobs.enqueue(tx, new)) for store in (north, south) for _ in range(20))
        )
    assert len({ticket.job_id for ticket in tickets}) == 1
    assert sum(ticket.is_new for ticket in tickets) == 1


async def test_a_job_whose_runner_is_gone_is_taken_over_and_the_old_one_can_say_nothing_more(
    store: SqlStore, clock: FakeClock
) -> None:
    await queue(store, background())
    lost = await only(store)
    await clock.advance(61)
    assert await store.read(lambda read: standing.has_expired(read, lease_now=read.now))
    assert await expire(store) == 1
    held = await only(store, "south")
    assert (held.job_id, held.attempts) == (lost.job_id, 2)
    assert not await store.write(partial(jobs.advance, held=lost.claim, progress=Progress(9)))
    assert not await store.write(partial(jobs.finish, held=lost.claim))
    assert not await store.write(partial(jobs.give_back, held=lost.claim))
    assert not await store.write(partial(jobs.stopped, held=lost.claim))
    assert not await fail(store, lost)
    renewed = await store.write(lambda tx: jobs.renew(tx, [lost.claim, held.claim], LEASE, lease_now=tx.now))
    assert renewed == {held.claim: False}
    assert await store.write(partial(jobs.finish, held=held.claim))
    assert (await get(store, held.job_id)).state is JobState.DONE


async def test_a_lease_that_is_renewed_does_not_end(store: SqlStore, clock: FakeClock) -> None:
    await queue(store, background())
    held = await only(store)
    for _ in range(5):
        await clock.advance(40)
        await store.write(lambda tx: jobs.renew(tx, [held.claim], LEASE, lease_now=tx.now))
        assert await expire(store) == 0
    assert (await get(store, held.job_id)).state is JobState.RUNNING


async def test_a_job_that_kills_its_runners_ends(store: SqlStore, clock: FakeClock) -> None:
    (job_id,) = await queue(store, background(attempts_max=2))
    for _ in range(2):
        await only(store)
        await clock.advance(61)
        await expire(store)
    ended = await get(store, job_id)
    assert (ended.state, ended.words) == (JobState.FAILED, "its runner was lost 2 times")


async def test_a_transient_failure_waits_longer_each_time_and_ends_with_the_attempts(
    store: SqlStore, clock: FakeClock
) -> None:
    (job_id,) = await queue(store, background(attempts_max=4))
    for pause_s in (10, 20, 35):
        assert await fail(store, await only(store))
        waiting = await get(store, job_id)
        assert (waiting.state, waiting.words) == (JobState.READY, "the archive is down")
        assert waiting.run_at - clock.now() == timedelta(seconds=pause_s)
        await clock.advance(pause_s - 1)
        assert await claim(store) == []
        await clock.advance(1)
    assert await fail(store, await only(store))
    ended = await get(store, job_id)
    assert (ended.state, ended.failure, ended.attempts) == (JobState.FAILED, FailureKind.TRANSIENT, 4)


@pytest.mark.parametrize("kind", [FailureKind.PERMANENT, FailureKind.POLICY])
async def test_what_time_does_not_mend_ends_at_once(store: SqlStore, kind: FailureKind) -> None:
    await queue(store, background())
    held = await only(store)
    assert await fail(store, held, kind)
    ended = await get(store, held.job_id)
    assert (ended.state, ended.failure) == (JobState.FAILED, kind)


async def test_an_attempt_that_was_given_back_does_not_count(store: SqlStore) -> None:
    await queue(store, background(attempts_max=1))
    held = await only(store)
    assert await store.write(partial(jobs.give_back, held=held.claim))
    assert (await only(store, "south")).attempts == 1


async def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_when_it_can_stop(store: SqlStore) -> None:
    waiting, running = await queue(store, background(run_at=NOON + timedelta(hours=1)), background())
    held = await only(store)
    assert held.job_id == running
    for job_id in (waiting, running):
        await store.write(partial(jobs.cancel, job_id=job_id, author=CLERK))
    assert (await get(store, waiting)).state is JobState.CANCELLED
    assert (await get(store, running)).state is JobState.RUNNING
    renewed = await store.write(lambda tx: jobs.renew(tx, [held.claim], LEASE, lease_now=tx.now))
    assert renewed == {held.claim: True}
    assert await store.write(partial(jobs.stopped, held=held.claim))
    ended = await get(store, running)
    assert (ended.state, ended.words) == (JobState.CANCELLED, "no longer wanted")
    with pytest.raises(InvalidRequest, match="cancelled already"):
        await store.write(partial(jobs.cancel, job_id=running, author=CLERK))


@pytest.mark.parametrize("end", ["fails", "is lost", "is given back"])
async def test_a_job_that_is_to_be_cancelled_is_not_tried_again(store: SqlStore, clock: FakeClock, end: str) -> None:
    await queue(store, background())
    held = await only(store)
    await store.write(partial(jobs.cancel, job_id=held.job_id, author=CLERK))
    if end == "fails":
        await fail(store, held)
    elif end == "is given back":
        await store.write(partial(jobs.give_back, held=held.claim))
    else:
        await clock.advance(61)
        await expire(store)
    assert (await get(store, held.job_id)).state is JobState.CANCELLED


async def test_nothing_more_is_done_for_a_patient_whose_jobs_are_cancelled(store: SqlStore) -> None:
    mine, running = await queue(store, background(patient_row="anne"), background(patient_row="anne"))
    held = (await claim(store, limit=1))[0]
    (other,) = await queue(store, background(patient_row="ben"))
    count = await store.write(lambda tx: jobs.cancel_of_patient(tx, "anne", "sharing has stopped"))
    states = {each: await get(store, each) for each in (mine, running, other)}
    assert count == 2
    assert states[held.job_id].is_cancel_requested
    assert {each.state for key, each in states.items() if key not in (held.job_id, other)} == {JobState.CANCELLED}
    assert states[other].state is JobState.READY
    assert not states[other].is_cancel_requested


async def test_a_job_that_failed_is_done_again_with_all_its_attempts(store: SqlStore) -> None:
    await queue(store, background(dedupe_key="study 1", attempts_max=1))
    held = await only(store)
    with pytest.raises(InvalidRequest, match="only one that failed or was cancelled"):
        await store.write(partial(jobs.retry, job_id=held.job_id, author=CLERK))
    await fail(store, held)
    await store.write(partial(jobs.retry, job_id=held.job_id, author=CLERK))
    again = await only(store)
    assert (again.job_id, again.attempts, again.words, again.failure) == (held.job_id, 1, "", None)


async def test_what_another_job_does_already_is_not_tried_again(store: SqlStore) -> None:
    await queue(store, background(dedupe_key="study 1", attempts_max=1))
    held = await only(store)
    await fail(store, held)
    (other,) = await queue(store, background(dedupe_key="study 1"))
    with pytest.raises(InvalidRequest, match=f"job {other} does the same"):
        await store.write(partial(jobs.retry, job_id=held.job_id, author=CLERK))


async def test_how_far_a_job_is_outlives_its_runner(store: SqlStore, clock: FakeClock) -> None:
    await queue(store, background())
    held = await only(store)
    progress = Progress(3, 10, 1_500_000, 5_000_000)
    await store.write(partial(jobs.advance, held=held.claim, progress=progress))
    await clock.advance(61)
    await expire(store)
    assert (await only(store, "south")).progress == progress
    assert progress.remaining_s(30.0) == pytest.approx(70.0)


async def test_jobs_are_listed_by_urgency_state_and_kind(store: SqlStore) -> None:
    slow, quick = await queue(store, background(), NewJob("push", Lane.EMERGENCY))
    assert [each.job_id for each in await store.read(jobs.listed)] == [quick, slow]
    assert [each.job_id for each in await store.read(partial(jobs.listed, kind="fetch"))] == [slow]
    assert await store.read(partial(jobs.listed, states=[JobState.FAILED])) == []
    with pytest.raises(InvalidRequest, match="no such job"):
        await get(store, "unknown")


async def test_who_cancelled_and_who_tried_again_is_recorded(store: SqlStore) -> None:
    (job_id,) = await queue(store, background(run_at=NOON + timedelta(hours=1)))
    await store.write(partial(jobs.cancel, job_id=job_id, author=CLERK))
    await store.write(partial(jobs.retry, job_id=job_id, author=CLERK))
    assert (await get(store, job_id)).state is JobState.READY
