"""Go on with a retrieval that ended with something missing (J1): a durable job, in the name of whoever asked.

It is asked as if its caller asked again, for what is missing alone: the guard decides anew, by the same purpose and
what the registers say now. What was sent to an application entity is sent there; what its caller fetched by itself is
brought into the cache, to be at hand when the caller fetches it again, and is delivered to nobody. An attempt begins
behind what earlier ones delivered, so it may be tried as often as it has to be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol

from gateway.jobs.runner import JobFailed, Work
from gateway.model.errors import GatewayError
from gateway.model.imaging import Level, Source
from gateway.model.seams import Clock
from gateway.model.work.jobs import FailureKind, Progress
from gateway.model.work.retrievals import Brought, Delivery, Destination, Halt, RetrieveWish
from policy.parties import Caller
from storage.store import SqlStore
from storage.work import resumption
from storage.work.ledger import LedgerRetrieval, SqlLedger

PROGRESS_INTERVAL_S = 1.0


class Onward(Protocol):
    """The way to an application entity."""

    @property
    def destination(self) -> Destination | None:
        """Whose it is."""

    async def carry(self, delivery: Delivery) -> None:
        """Send everything that the delivery gives, and tell it what became of each."""


class Asks(Protocol):
    """The door, as of the configuration of this moment."""

    def acting_for(self, subject: str, purpose: str, request_id: str) -> Caller:
        """The caller of this name; raises `GatewayError` for one that is there no more or cannot be acted for."""

    def retrieve(self, caller: Caller, wish: RetrieveWish) -> AbstractAsyncContextManager[Delivery]:
        """See `Retrievals`."""

    async def bring(self, caller: Caller, wish: RetrieveWish) -> Brought:
        """See `gateway.sharing.retrieval.road.Road.bring`."""


class Resuming:
    """The handler."""

    def __init__(
        self,
        store: SqlStore,
        ledger: SqlLedger,
        door: Asks,
        onward: Callable[[Caller, str], Onward | None],
        clock: Clock,
    ) -> None:
        """`onward` is the way to an AE title that this caller may have images sent to; None: it may not."""
        self._store = store
        self._ledger = ledger
        self._door = door
        self._onward = onward
        self._clock = clock

    async def __call__(self, work: Work) -> None:
        """Deliver, or bring, what is missing. Raises what it is to be tried again for, and what it is not."""
        retrieval_id = str(work.job.detail.get("retrieval", ""))
        found = await self._ledger.show(retrieval_id)
        rest = partial(resumption.missing, found=found, patient_row=work.job.patient_row)
        left = await self._store.read(rest)
        if not left:
            return
        work.advance(Progress(0, len(left)))
        refs = [each.frozen.ref for each in left]
        wish = RetrieveWish(
            Level.IMAGE,
            study_uids=tuple(sorted({ref.study_uid for ref in refs})),
            sop_uids=tuple(ref.sop_uid for ref in refs),
            lane=work.job.lane,
            job_id=work.job.job_id,
        )
        caller = self._caller(found, work.job.job_id)
        if found.destination:
            await self._sent(work, caller, wish, found.destination)
        else:
            brought = await self._door.bring(caller, wish)
            work.advance(Progress(brought.kept, len(refs)))
            _check(len(refs), brought.kept, brought.sources, has_failures=brought.failed > 0)

    def _caller(self, found: LedgerRetrieval, request_id: str) -> Caller:
        try:
            return self._door.acting_for(found.subject, found.purpose, request_id)
        except GatewayError as error:
            raise JobFailed(FailureKind.POLICY, str(error)) from error

    async def _sent(self, work: Work, caller: Caller, wish: RetrieveWish, ae_title: str) -> None:
        onward = self._onward(caller, ae_title)
        if onward is None:
            raise JobFailed(FailureKind.POLICY, "the caller may have nothing sent there any more")
        async with self._door.retrieve(caller, replace(wish, destination=onward.destination)) as delivery:
            if delivery.refs:
                async with self._telling(work, delivery, len(wish.sop_uids)):
                    await onward.carry(delivery)
        counts = delivery.counts
        done = counts.completed + counts.warning
        work.advance(Progress(done, len(wish.sop_uids)))
        if delivery.halted is Halt.POLICY:
            raise JobFailed(FailureKind.POLICY, "no longer permitted")
        _check(len(wish.sop_uids), done, delivery.sources, has_failures=counts.failed > 0)

    @contextlib.asynccontextmanager
    async def _telling(self, work: Work, delivery: Delivery, total: int) -> AsyncIterator[None]:
        """Say how far it is, again and again, while this is open."""

        async def tell() -> None:
            while True:
                work.advance(Progress(delivery.counts.completed + delivery.counts.warning, total))
                await self._clock.sleep(PROGRESS_INTERVAL_S)

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()


def _check(wanted: int, done: int, sources: Sequence[Source], *, has_failures: bool) -> None:
    """Raise what helps where something is missing still."""
    if done >= wanted:
        return
    still = f"{wanted - done:,} of {wanted:,} instances"
    if has_failures or any(source.state.is_missing for source in sources):
        raise JobFailed(FailureKind.TRANSIENT, f"{still} are still missing")
    raise JobFailed(FailureKind.PERMANENT, f"{still} are at no archive any more, or may not be had")
