"""The jobs table as a runner asks it: each act a transaction of its own, leases counted by one clock for all nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import text

from gateway.model.work.jobs import Claim, FailureKind, Job, Lane, Progress, RetryTerms
from storage.database import Read
from storage.store import SqlStore
from storage.tables.columns import instant_of
from storage.work import jobs, standing

_CLOCK_OF_POSTGRESQL = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class SqlJobBook:
    """See `gateway.jobs.runner.JobBook`. Where nodes share a database, leases are counted by the database's clock."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def ready_lanes(self, kinds: Collection[str]) -> frozenset[Lane]:
        """The lanes in which a job is due."""
        return await self._store.read(partial(standing.ready_lanes, kinds=kinds))

    async def claim(self, owner: str, lane: Lane, limit: int, lease: timedelta, kinds: Collection[str]) -> list[Job]:
        """Take ready jobs of a lane."""
        return await self._store.write(
            lambda tx: jobs.claim(tx, owner, lane, limit, lease, kinds=kinds, lease_now=self._lease_now(tx))
        )

    async def renew(self, claims: Sequence[Claim], lease: timedelta) -> Mapping[Claim, bool]:
        """Those that are still held, and whether each is to be cancelled."""
        if not claims:
            return {}
        return await self._store.write(lambda tx: jobs.renew(tx, claims, lease, lease_now=self._lease_now(tx)))

    async def to_cancel(self, claims: Sequence[Claim]) -> Collection[Claim]:
        """Those of these that somebody wants done no more."""
        if not claims:
            return ()
        return await self._store.read(partial(standing.to_cancel, claims=claims))

    async def give_back_expired(self) -> int:
        """Make the jobs of runners that are gone ready; how many."""
        if not await self._store.read(lambda read: standing.has_expired(read, lease_now=self._lease_now(read))):
            return 0
        return await self._store.write(lambda tx: jobs.give_back_expired(tx, lease_now=self._lease_now(tx)))

    async def advance(self, held: Claim, progress: Progress) -> bool:
        """Write down how far a job is."""
        return await self._store.write(partial(jobs.advance, held=held, progress=progress))

    async def finish(self, held: Claim) -> bool:
        """It is done."""
        return await self._store.write(partial(jobs.finish, held=held))

    async def fail(self, held: Claim, kind: FailureKind, words: str, terms: RetryTerms) -> bool:
        """Its attempt failed."""
        return await self._store.write(lambda tx: jobs.fail(tx, held, kind, words, terms))

    async def give_back(self, held: Claim) -> bool:
        """Its attempt does not count."""
        return await self._store.write(partial(jobs.give_back, held=held))

    async def stopped(self, held: Claim) -> bool:
        """It was stopped as was asked."""
        return await self._store.write(partial(jobs.stopped, held=held))

    def _lease_now(self, read: Read) -> datetime:
        if self._store.database.is_sqlite:
            return read.now
        return instant_of(int(read.connection.execute(_CLOCK_OF_POSTGRESQL).scalar_one()))
