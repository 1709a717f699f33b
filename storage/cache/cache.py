"""The sealed cache as the core knows it (`gateway.model.work.transfers.StudyCache`): studies at rest in local packs.

An instance is kept once its pack is synced; the index follows (`storage.cache.upkeep`) and is made good at the next
start. What is kept is told from memory and is never behind. Knows no permission and no wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import structlog

from gateway.model.errors import Damaged, GatewayError, KeyClosed, NotFound
from gateway.model.seams import Clock
from gateway.model.work.transfers import (
    CachedInstance,
    CachedStudy,
    KeyDomain,
    ReceivedHead,
    SoleStudy,
    Standing,
    StudyKeys,
)
from policy.parties import TrustId
from storage.cache import census, index
from storage.cache.entries import Kept, open_entry
from storage.cache.index import StudyRow
from storage.cache.packs.frames import ID_BYTES
from storage.cache.packs.port import Objects
from storage.cache.reading import Fresh, first_opened, is_whole, opened, wholes
from storage.cache.shelves import Shelf
from storage.cache.sole import SoleCopies
from storage.cache.upkeep import CacheSettings, Upkeep
from storage.cache.writing import Means, SealedFor, SealedWriting
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore

log = structlog.get_logger(__name__)

T = TypeVar("T")


class SealedCache:
    """One node's cache. `async with`; `run` has to run beside it."""

    def __init__(
        self,
        store: SqlStore,
        objects: Objects,
        keys: StudyKeys,
        stand_ins: Pseudonyms,
        clock: Clock,
        settings: CacheSettings,
        random: Callable[[int], bytes],
    ) -> None:
        self._objects = objects
        self._keys = keys
        self._stand_ins = stand_ins
        self._clock = clock
        self._random = random
        self._upkeep = Upkeep(store, objects, clock, settings)
        self._shelves = self._upkeep.shelves
        self._fresh = Fresh()
        self._means = Means(objects, random, clock.now, keys.key, self._upkeep.keep, self._fresh)
        self._pool = ThreadPoolExecutor(settings.readers, thread_name_prefix="cache-reader")

    async def __aenter__(self) -> SealedCache:
        """Make packs and index agree; raises a `ServiceFault` where that cannot be done."""
        await self._upkeep.start(self._keys)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upkeep.stop()
        self._pool.shutdown(wait=False)

    async def run(self) -> None:
        """Index, make room and give room back behind everybody else; for ever. Enter it as a background task."""
        await self._upkeep.run()

    async def settle(self) -> None:
        """Do at once what `run` does in time; raises `StoreUnavailable`."""
        await self._upkeep.write()
        await self._upkeep.make_room()
        await self._upkeep.give_back()

    @asynccontextmanager
    async def put(self, head: ReceivedHead) -> AsyncIterator[SealedWriting]:
        """See `StudyCache`. Raises `OverCapacity`, `StoreUnavailable`, or what the keys raise."""
        self._upkeep.admit()
        key_id, key = await self._keys.data_key(head.ref.study_uid, head.patient_row, head.domain)
        owner = SealedFor(self._stand_ins.of_row(head.patient_row), key_id, key)
        async with self._shelves.using(head.domain, head.ref.study_uid) as shelf:
            writing = SealedWriting(self._means, head, shelf, owner, self._random(ID_BYTES))
            try:
                yield writing
            finally:
                writing.leave()

    async def instances(self, study_uid: str, domain: KeyDomain = KeyDomain.CACHE) -> Sequence[CachedInstance]:
        """See `StudyCache`."""
        async with self._shelves.using(domain, study_uid) as shelf:
            if not shelf.current or shelf.row is None or shelf.row.closed_at is not None:
                return ()
            try:
                await self._keys.key(next(iter(shelf.current.values())).key_id)
            except NotFound:
                return ()
            found = [kept.instance for kept in shelf.current.values() if self._can_be_had(kept)]
            return sorted(found, key=lambda each: (each.ref.series_uid, each.ref.sop_uid))

    async def instance(
        self, study_uid: str, sop_uid: str, domain: KeyDomain = KeyDomain.CACHE
    ) -> CachedInstance | None:
        """See `StudyCache`."""
        async with self._shelves.using(domain, study_uid) as shelf:
            kept = shelf.current.get(sop_uid)
            is_closed = shelf.row is None or shelf.row.closed_at is not None
            return None if kept is None or is_closed or not self._can_be_had(kept) else kept.instance

    async def stand(self, instance: CachedInstance, standing: Standing, why: str) -> None:
        """See `StudyCache`."""
        async with self._shelves.using(instance.domain, instance.ref.study_uid) as shelf:
            kept = shelf.objects.get(bytes.fromhex(instance.object_id))
            before = shelf.current.get(instance.ref.sop_uid)
            if kept is None:
                return
            if standing is Standing.CURRENT and before is not None and before is not kept:
                self._upkeep.stand(shelf, before, Standing.SUPERSEDED, why)
            self._upkeep.stand(shelf, kept, standing, why)
        await self._upkeep.write()

    @asynccontextmanager
    async def open(
        self, instance: CachedInstance, first: int = 0, last: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `StudyCache`. Raises `ValueError` for bytes that it does not have."""
        async with self._shelves.using(instance.domain, instance.ref.study_uid) as shelf:
            kept, key = await self._opening(shelf, instance)
            self._upkeep.touch(shelf)
            async with aclosing(self._pieces(shelf, kept, key, first, last)) as pieces:
                yield pieces

    async def read(
        self, instances: Sequence[CachedInstance], *, beginnings: bool = False
    ) -> Sequence[tuple[bytes, ...] | GatewayError]:
        """See `StudyCache`."""
        places: list[tuple[Shelf, Kept] | None] = []
        wanted: list[tuple[Kept, bytes] | GatewayError] = []
        with self._holding({instance.ref.study_uid for instance in instances}):
            for instance in instances:
                async with self._shelves.using(instance.domain, instance.ref.study_uid) as shelf:
                    try:
                        kept, key = await self._opening(shelf, instance)
                    except (Damaged, NotFound) as error:
                        places.append(None)
                        wanted.append(error)
                        continue
                    self._upkeep.touch(shelf)
                    places.append((shelf, kept))
                    wanted.append((kept, key))
            if len(wanted) == 1 and places[0] is not None and (plain := self._fresh.take(places[0][1].object_id)):
                return [plain]
            slice_max = -(-len(wanted) // self._objects.reads_at_once)
            slices = [wanted[at : at + slice_max] for at in range(0, len(wanted), slice_max or 1)]
            read = await asyncio.gather(*(self._in_pool(wholes, self._objects, each, beginnings) for each in slices))
            found = [whole for each in read for whole in each]
            for place, whole in zip(places, found, strict=True):
                if place is not None and isinstance(whole, Damaged):
                    self._quarantine(*place)
        return found

    async def metadata(self, instances: Sequence[CachedInstance]) -> Sequence[bytes]:
        """See `StudyCache`."""
        wanted: list[tuple[Kept, bytes]] = []
        with self._holding({instance.ref.study_uid for instance in instances}):
            for instance in instances:
                async with self._shelves.using(instance.domain, instance.ref.study_uid) as shelf:
                    wanted.append(await self._opening(shelf, instance))
            slice_max = -(-len(wanted) // self._objects.reads_at_once)
            slices = [wanted[at : at + slice_max] for at in range(0, len(wanted), slice_max or 1)]
            read = await asyncio.gather(*(self._in_pool(_metadata, self._objects, each) for each in slices))
            return [metadata for each in read for metadata in each]

    @asynccontextmanager
    async def using(self, study_uid: str) -> AsyncIterator[None]:
        """See `StudyCache`."""
        with self._holding({study_uid}):
            yield

    async def study(self, study_uid: str, domain: KeyDomain = KeyDomain.CACHE) -> CachedStudy | None:
        """See `StudyCache`."""
        async with self._shelves.using(domain, study_uid) as shelf:
            row = shelf.row
            if row is None or row.closed_at is not None or not shelf.current:
                return None
            held = sum(kept.held_bytes for kept in shelf.objects.values())
            return CachedStudy(
                study_uid,
                domain,
                row.cache_class,
                held,
                len(shelf.current),
                row.used_at,
                row.pinned_until,
                row.validated_at,
            )

    async def validated(self, study_uid: str, at: datetime) -> None:
        """See `StudyCache`."""
        await self._alter(study_uid, KeyDomain.CACHE, lambda row: replace(row, validated_at=at))

    async def pin(self, study_uid: str, until: datetime | None, domain: KeyDomain = KeyDomain.CACHE) -> None:
        """Keep a study at least until then, whatever its class has room for; None: no longer than others."""
        await self._alter(study_uid, domain, lambda row: replace(row, pinned_until=until))

    @property
    def sole_copies(self) -> SoleCopies:
        """What nobody else is known to have."""
        return SoleCopies(self._upkeep, self._keys, self._pieces)

    def sole_studies(self) -> Mapping[str, SoleStudy]:
        """See `StudyCache`."""
        return self._upkeep.sole.all

    def sole_studies_of(self, patient_rows: Collection[str]) -> Sequence[str]:
        """See `StudyCache`."""
        return self._upkeep.sole.of(map(self._stand_ins.of_row, patient_rows))

    async def unread_sources(self) -> frozenset[TrustId]:
        """See `StudyCache`."""
        return frozenset()

    async def forget(self, study_uid: str, why: str) -> None:
        """See `StudyCache`."""
        for domain in KeyDomain:
            count = await self._upkeep.take_out(domain, study_uid)
            if count:
                log.info("study given up", why=why, domain=domain.value, instances=count)
        await self._upkeep.write()

    async def shred(self, patient_row: str, domain: KeyDomain) -> None:
        """See `StudyCache`. The keys are closed first, whatever becomes of the rest (SAF-25)."""
        await self._keys.close_patient(patient_row, domain)
        self._fresh.clear()
        now = self._clock.now()
        for study_uid in await self._studies_of(patient_row, domain):
            async with self._shelves.using(domain, study_uid) as shelf:
                sole = {kept.key_id: kept.instance.custodian for kept in shelf.objects.values() if _is_sole(kept)}
                for key_id, custodian in sole.items():
                    await self._keys.keep_for_custodian(key_id, custodian)
            await self._alter(study_uid, domain, lambda row: replace(row, closed_at=row.closed_at or now))

    async def reopen(self, patient_row: str, domain: KeyDomain) -> None:
        """Take back a `shred` whose keys were reopened (SAF-20: the undo of a mistaken case)."""
        for study_uid in await self._studies_of(patient_row, domain):
            await self._alter(study_uid, domain, lambda row: replace(row, closed_at=None))

    async def kept_open(self, patient_rows: Collection[str], domain: KeyDomain) -> list[str]:
        """Of these patients those of whom a study is kept that is not closed."""
        await self._upkeep.write()
        wanted = {self._stand_ins.of_row(patient_row): patient_row for patient_row in patient_rows}
        found = await self._upkeep.store.read(partial(index.patients_open, place=self._upkeep.place, domain=domain))
        return sorted(wanted[patient] for patient in wanted.keys() & found)

    async def give_up(self, patient_row: str, domain: KeyDomain) -> None:
        """Take out what is kept of a patient, except sole copies: its keys are destroyed."""
        for study_uid in await self._studies_of(patient_row, domain):
            await self._upkeep.take_out(domain, study_uid)
        await self._upkeep.write()

    async def bury_closed(self, before: datetime) -> None:
        """Give up what was closed before an instant, except sole copies: nobody can undo that any more."""
        await self._upkeep.write()
        closed = partial(index.closed_before, place=self._upkeep.place, before=before)
        for domain, study_uid in await self._upkeep.store.read(closed):
            await self._upkeep.take_out(domain, study_uid)
        await self._upkeep.write()

    async def following(self, object_id: str, count_max: int) -> Sequence[CachedInstance]:
        """The instances behind an object id, in the order of these random ids, whatever they are good for."""
        await self._upkeep.write()
        after = bytes.fromhex(object_id)
        behind = partial(census.following, place=self._upkeep.place, after=after, count_max=count_max)
        return await self._upkeep.store.read(behind)

    async def count(self) -> int:
        """How many instances are kept, whatever they are good for."""
        await self._upkeep.write()
        return await self._upkeep.store.read(partial(census.count, place=self._upkeep.place))

    async def study_uids(self) -> Sequence[str]:
        """Every study of which something is kept, whatever for."""
        await self._upkeep.write()
        return await self._upkeep.store.read(partial(census.study_uids, place=self._upkeep.place))

    async def studies_of(self, patient_row: str, domain: KeyDomain = KeyDomain.CACHE) -> Sequence[str]:
        """The studies of a patient of which something is kept, closed ones too."""
        return await self._studies_of(patient_row, domain)

    async def verify(self, instance: CachedInstance) -> bool:
        """Whether an instance opens from end to end and is what came; if not, it is quarantined."""
        async with self._shelves.using(instance.domain, instance.ref.study_uid) as shelf:
            kept, key = await self._opening(shelf, instance)
            if await self._in_pool(is_whole, self._objects, kept, key):
                return True
            self._quarantine(shelf, kept)
            return False

    async def _studies_of(self, patient_row: str, domain: KeyDomain) -> list[str]:
        await self._upkeep.write()
        patient = self._stand_ins.of_row(patient_row)
        of_patient = partial(index.of_patient, place=self._upkeep.place, patient=patient, domain=domain)
        return await self._upkeep.store.read(of_patient)

    async def _alter(self, study_uid: str, domain: KeyDomain, altered: Callable[[StudyRow], StudyRow]) -> None:
        async with self._shelves.using(domain, study_uid) as shelf:
            if shelf.row is not None:
                self._upkeep.alter(shelf, altered(shelf.row))
        await self._upkeep.write()

    async def _opening(self, shelf: Shelf, instance: CachedInstance) -> tuple[Kept, bytes]:
        kept = shelf.objects.get(bytes.fromhex(instance.object_id))
        if kept is None or kept.standing is Standing.QUARANTINED:
            raise Damaged("the instance is not kept any more")
        if shelf.row is not None and shelf.row.closed_at is not None:
            raise KeyClosed("the study is closed")
        return kept, await self._keys.key(kept.key_id)

    async def _pieces(
        self, shelf: Shelf, kept: Kept, key: bytes, first: int, last: int | None
    ) -> AsyncGenerator[bytes]:
        """Some segments at a time, the next ones on their way while these are used."""
        coming: asyncio.Future[bytes] | None = None
        try:
            opening, begins, plain = await self._in_pool(first_opened, self._objects, kept, key, first, last)
            at_once = self._objects.segments_at_once
            numbers = opening.spans(first, last)[at_once:]
            ends = opening.plain_bytes if last is None else min(last + 1, opening.plain_bytes)
            steps = [numbers[at : at + at_once] for at in range(0, len(numbers), at_once)]
            for step in steps:
                coming = self._in_pool(opened, self._objects, kept, opening, step)
                yield plain[max(0, first - begins) : ends - begins]
                begins, plain = opening.span(step[0]).plain_at, await coming
            yield plain[max(0, first - begins) : ends - begins]
        except Damaged:
            self._quarantine(shelf, kept)
            raise
        finally:
            if coming is not None:
                coming.cancel()

    def _can_be_had(self, kept: Kept) -> bool:
        """What lies out of reach is fetched anew, as if it were not kept; what nobody else has is not passed over."""
        return _is_sole(kept) or self._objects.is_at_hand(kept.extents)

    def _quarantine(self, shelf: Shelf, kept: Kept) -> None:
        log.error("study cache object damaged", alarm=True, object=kept.instance.object_id)
        if shelf.objects.get(kept.object_id) is kept:
            self._upkeep.stand(shelf, kept, Standing.QUARANTINED, "it does not open")

    def _in_pool(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *arguments))

    @contextmanager
    def _holding(self, study_uids: Collection[str]) -> Iterator[None]:
        for study_uid in study_uids:
            self._shelves.hold(study_uid)
        try:
            yield
        finally:
            for study_uid in study_uids:
                self._shelves.let_go(study_uid)


def _metadata(objects: Objects, wanted: Sequence[tuple[Kept, bytes]]) -> list[bytes]:
    found = []
    for kept, key in wanted:
        place = kept.extents[-1]
        found.append(open_entry(kept.object_id, objects.read([place], 0, place.length), place, key).metadata)
    return found


def _is_sole(kept: Kept) -> bool:
    return kept.instance.is_sole_copy
