"""Durable work on what is kept: destroy keys that are due, open a slice of the cache, evict by command, forget the old.

Each kind but the last is one node's, because keys and packs may be one node's alone. A plan queues what recurs; of each
kind one job is open at a time, whoever queues it. Every handler may run twice and comes to the same end.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from gateway.jobs.runner import Handler, JobFailed, Work
from gateway.keeping.counting import CountedTime
from gateway.model.errors import Damaged, NotFound
from gateway.model.work.jobs import FailureKind, Lane, NewJob, Progress
from gateway.model.work.transfers import CachedInstance
from storage.cache.cache import SealedCache
from storage.keyring.keyring import Keyring
from storage.registers.state import Author, record_change
from storage.store import SqlStore
from storage.work import commitments, forgetting, transactions
from storage.work.ledger import SqlLedger

log = structlog.get_logger(__name__)

SHRED, VERIFY, EVICT, FORGET = "keys-shred", "cache-verify", "cache-evict", "records-forget"
SHRED_INTERVAL_S = 3_600.0
FORGET_INTERVAL_S = 86_400.0
AT_ONCE_MAX = 200
"""Instances whose places are read at once."""
_ID_BYTES = 16
_FIRST_ID = bytes(_ID_BYTES).hex()


def kind_of(what: str, node: str) -> str:
    """The kind of a job that one node alone can do."""
    return f"{what}/{node}"


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """How much is done how often."""

    node: str
    shred_after: timedelta
    verify_interval_s: float
    verify_instances_max: int
    ended_kept: timedelta
    retrievals_kept: timedelta


class Upkeep:
    """The handlers, and what recurs."""

    def __init__(
        self,
        settings: WorkSettings,
        store: SqlStore,
        ledger: SqlLedger,
        time: CountedTime,
        opened: Callable[[], tuple[Keyring, SealedCache]],
    ) -> None:
        """`opened` gives keys and cache, or raises the `ServiceFault` that keeps them closed."""
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._time = time
        self._opened = opened
        self._cursor = secrets.token_bytes(_ID_BYTES).hex()
        """Where the next slice begins: somewhere at a start, so that restarts do not always look at the same."""

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By kind."""
        node = self._settings.node
        return {
            kind_of(SHRED, node): self._shred,
            kind_of(VERIFY, node): self._verify,
            kind_of(EVICT, node): self._evict,
            FORGET: self._forget,
        }

    @property
    def recurring(self) -> Mapping[str, float]:
        """The kinds that are queued again and again, and after how many seconds each."""
        node = self._settings.node
        found = {kind_of(SHRED, node): SHRED_INTERVAL_S, FORGET: FORGET_INTERVAL_S}
        if self._settings.verify_instances_max:
            found[kind_of(VERIFY, node)] = self._settings.verify_interval_s
        return found

    async def _shred(self, work: Work) -> None:
        keyring, cache = self._opened()
        now = await self._time.now()
        walked = await keyring.shred_due(now)
        await cache.bury_closed(now - self._settings.shred_after)
        if walked.patients_shredded:
            log.info("patients' keys destroyed", patients=walked.patients_shredded, epochs=walked.epochs_retired)
            author = Author(self._settings.node, work.job.job_id, "the time to undo is over")
            detail = {"patients": walked.patients_shredded}
            await self._store.write(lambda tx: record_change(tx, author, "keys", "destroy", "cache", {**detail}))

    async def _verify(self, work: Work) -> None:
        """A slice; or a study, or everything, where the job says so."""
        _, cache = self._opened()
        match work.job.detail:
            case {"study": str(study_uid)}:
                some = await cache.instances(study_uid)
                await _verify(work, cache, _one(some), len(some))
            case {"everything": True}:
                await _verify(work, cache, _all(cache), await cache.count())
            case _:
                some = await cache.following(self._cursor, self._settings.verify_instances_max)
                await _verify(work, cache, _one(some), len(some))
                self._cursor = some[-1].object_id if some else _FIRST_ID

    async def _evict(self, work: Work) -> None:
        _, cache = self._opened()
        study_uid = work.job.detail.get("study")
        studies = [study_uid] if isinstance(study_uid, str) else await cache.study_uids()
        for number, each in enumerate(studies, start=1):
            await cache.forget(each, "by command")
            if len(studies) > 1:
                work.advance(Progress(number, len(studies)))

    async def _forget(self, work: Work) -> None:
        now = await self._time.now()
        while await self._ledger.forget(now - self._settings.retrievals_kept):
            pass
        ended = partial(forgetting.forget_ended, before=now - self._settings.ended_kept)
        while await self._store.write(ended):
            pass
        for forget, kept in (
            (transactions.forget, self._settings.ended_kept),
            (commitments.forget, self._settings.retrievals_kept),
        ):
            while await self._store.write(partial(forget, before=now - kept)):
                pass


async def _one(some: Sequence[CachedInstance]) -> AsyncIterator[Sequence[CachedInstance]]:
    yield some


async def _all(cache: SealedCache) -> AsyncIterator[Sequence[CachedInstance]]:
    """Everything that is kept, some at a time."""
    after = _FIRST_ID
    while some := await cache.following(after, AT_ONCE_MAX):
        after = some[-1].object_id
        yield some


async def _verify(work: Work, cache: SealedCache, slices: AsyncIterator[Sequence[CachedInstance]], total: int) -> None:
    """Open each from end to end. Raises `JobFailed` where any did not open, once all were looked at."""
    done, done_bytes, damaged = 0, 0, 0
    async for some in slices:
        for instance in some:
            with suppress(NotFound, Damaged):  # closed, gone or in quarantine by now
                damaged += not await cache.verify(instance)
            done, done_bytes = done + 1, done_bytes + instance.plain_bytes
            work.advance(Progress(done, max(total, done), done_bytes))
    if damaged:
        words = f"{damaged:,} of {done:,} instances did not open: they are in quarantine"
        raise JobFailed(FailureKind.PERMANENT, words)


def recurring_job(kind: str) -> NewJob:
    """A job that is queued again and again."""
    return NewJob(kind, Lane.BACKGROUND, dedupe_key=kind)
