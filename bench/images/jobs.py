"""Durable jobs claimed and ended a second: by one process and by four, with few queued and with a hundred thousand.

Each process claims a job, and writes down that it is done, in transactions of their own; that is the least a runner
can do. On SQLite on disk and on PostgreSQL, as durable as they are configured. Jobs that were done are queued again
between turns, so that as many wait as are told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from bench.figures import Figure, beside, middle, ratio_at_most
from bench.plan import Effort, Say, in_turns
from bench.rig.workers import Told, Worker, work, working
from gateway.model.work.jobs import Job, Lane, NewJob
from gateway.node import SystemClock
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.store import SqlStore
from storage.work import jobs
from tests.peers.postgres import running_postgres

PROCESSES = (1, 4)
FEW = 1_000
KIND = "bench"
_LEASE = timedelta(seconds=60)
_QUEUED_AT_ONCE = 1_000
_NO_DEARER = ratio_at_most(1.1, "ratio <= 1.1: no dearer")


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does: on which database, as whom, how many jobs."""

    url: str
    owner: str
    count: int


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    with ExitStack() as stack:
        workers = [stack.enter_context(working("bench.images.jobs")) for _ in range(max(PROCESSES))]
        urls = {few: f"sqlite:///{folder / f'{name}.db'}" for few, name in ((True, "few"), (False, "many"))}
        yield from _on("SQLite", urls, effort, workers, say)
        if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            say("PostgreSQL is not installed (Debian package postgresql): figures without it")
            return
        server = stack.enter_context(running_postgres())
        urls = {few: server.create_database() for few in (True, False)}
        yield from _on("PostgreSQL", urls, effort, workers, say)


def _on(database: str, urls: dict[bool, str], effort: Effort, workers: Sequence[Worker], say: Say) -> Iterator[Figure]:
    queued = {True: min(FEW, effort.queued_jobs), False: effort.queued_jobs}
    claimed = effort.claimed_jobs
    for is_few, url in urls.items():
        say(f"{database}: queueing {queued[is_few]:,}")
        upgrade(DatabaseSettings(url))
        asyncio.run(_queue(url, queued[is_few]))
    for processes in PROCESSES:
        say(f"{database}: claiming, {processes} processes")

        def turn(url: str, processes: int = processes) -> float:
            rate = _claimed_per_s(url, workers[:processes], claimed)
            asyncio.run(_queue(url, claimed // processes * processes))
            return rate

        rounds = in_turns({str(is_few): partial(turn, url) for is_few, url in urls.items()}, effort.rounds)
        # The time of one, so that a ratio is what the long queue costs more.
        times = {is_few: [1000 / rate for rate in rounds[str(is_few)]] for is_few in urls}
        many, few = times[False], times[True]
        at_work = f"{processes} process{'' if processes == 1 else 'es'}"
        name = f"jobs, {database}, {at_work}, {queued[False]:,} queued"
        about = beside(f"with {queued[True]:,} queued", many, few) | {"jobs a second": round(1000 / middle(many))}
        yield Figure(f"{name}: a job claimed and ended", middle(many), middle(few), "ms", _NO_DEARER, about)


def _claimed_per_s(url: str, workers: Sequence[Worker], count: int) -> float:
    tasks = [Task(url, f"runner-{number}", count // len(workers)) for number in range(len(workers))]
    with ThreadPoolExecutor(len(workers)) as pool:
        told = list(pool.map(lambda pair: pair[0].ask(asdict(pair[1])), zip(workers, tasks, strict=True)))
    began, ended = ([float(str(each[name])) for each in told] for name in ("began", "ended"))
    return sum(task.count for task in tasks) / (max(ended) - min(began))


async def _queue(url: str, count: int) -> None:
    async with _opened(url, "queue") as store:
        for first in range(0, count, _QUEUED_AT_ONCE):
            await store.write(partial(_enqueue, count=min(_QUEUED_AT_ONCE, count - first)))


def _enqueue(tx: Tx, *, count: int) -> None:
    for _ in range(count):
        jobs.enqueue(tx, NewJob(KIND, Lane.BACKGROUND, {"study": "1.2.3"}))


async def _claim_and_end(task: Task) -> Told:
    """Claim and end jobs one by one; when that began and ended, by the clock that all processes share."""
    async with _opened(task.url, task.owner) as store:
        await store.register_version()  # opens the connections
        began = time.monotonic()
        for _ in range(task.count):
            (claimed,) = await store.write(partial(_claim, owner=task.owner))
            if not await store.write(partial(jobs.finish, held=claimed.claim)):
                raise RuntimeError("a job was lost")
        return {"began": began, "ended": time.monotonic()}


def _claim(tx: Tx, *, owner: str) -> list[Job]:
    return jobs.claim(tx, owner, Lane.BACKGROUND, 1, _LEASE, kinds=[KIND], lease_now=tx.now)


def _opened(url: str, node: str) -> SqlStore:
    return SqlStore(DatabaseSettings(url), node=node, clock=SystemClock())


def _perform(told: Told) -> Told:
    return asyncio.run(_claim_and_end(Task(str(told["url"]), str(told["owner"]), int(str(told["count"])))))


if __name__ == "__main__":
    work(_perform)
