"""Keep index, packs and quotas in step with what the cache keeps: at its start, behind commits, when room is short.

What is durable stands on its shelf at once; the index is written behind that, in order, many changes in a transaction.
What is taken out is forgotten in the same way, and its room given back once nobody reads it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from types import MappingProxyType

import structlog

from gateway.model.errors import OverCapacity, ServiceFault
from gateway.model.faults import faultpoint
from gateway.model.seams import Clock
from gateway.model.work.transfers import CacheClass, KeyDomain, Standing, StudyKeys
from storage.cache import census, eviction, index, recovery
from storage.cache.entries import Entry, Kept
from storage.cache.index import StudyRow
from storage.cache.packs.frames import Extent
from storage.cache.packs.port import Objects
from storage.cache.shelves import Shelf, Shelves, SoleStudies
from storage.database import Read, Tx
from storage.store import SqlStore

log = structlog.get_logger(__name__)

CHANGES_AT_ONCE_MAX = 500
"""Changes of the index in one transaction: a few milliseconds, so that no audit record waits long behind it."""
CHANGES_WAITING_MAX = 50_000
"""Changes that the index may be behind; beyond it nothing is taken in."""
INDEX_PAUSE_S = 0.1
"""How long the index lets changes gather, so that a stream of instances does not cost it a sync each."""
_RETRY_S = 1.0
_ROOM_RETRY_S = 10.0
"""What was in use when room was short may not be any more."""
_TOUCHED_AFTER = timedelta(seconds=60)
"""How much older than the truth `used_at` may be."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How the cache behaves."""

    place: str
    """Whose packs these are: the node."""
    quota_bytes: Mapping[CacheClass, int] = field(default_factory=lambda: MappingProxyType({}))
    """The room of each class; one without a quota grows until the disk is full."""
    readers: int = 2
    """Threads that read and open."""


@dataclass(frozen=True, slots=True)
class _Change:
    body: Callable[[Tx], object]
    done: Callable[[], None]


class Upkeep:
    """The index and the room of one place."""

    def __init__(self, store: SqlStore, objects: Objects, clock: Clock, settings: CacheSettings) -> None:
        self.store = store
        self.place = settings.place
        self.shelves = Shelves(self._load)
        self.sole = SoleStudies()
        self._objects = objects
        self._clock = clock
        self._quota_bytes = settings.quota_bytes
        self._changes: deque[_Change] = deque()
        self._changed = asyncio.Event()
        self._indexing = asyncio.Lock()
        self._dead: list[Kept] = []
        self._held: Counter[CacheClass] = Counter()
        self._live: Counter[bytes] = Counter()
        self._settled: set[bytes] = set()
        self._is_short = False
        """Whether what is in use kept room from being made."""

    async def start(self, keys: StudyKeys) -> None:
        """Make packs and index agree; raises a `ServiceFault` where that cannot be done."""
        found = await recovery.examine(self.store, self._objects, keys, self.place)
        missing = await self._forgettable(found.missing)
        for entry in found.unindexed:
            async with self.shelves.using(entry.kept.instance.domain, entry.kept.instance.ref.study_uid) as shelf:
                self._index(shelf, _behind_newer(shelf, entry))
        self._change(partial(index.take_out, place=self.place, gone=missing))
        self._change(partial(index.settle, place=self.place, packs=found.read))
        await self.write()
        self.sole.begin(await self.store.read(partial(census.sole_studies, place=self.place)))
        buried = [extent for extents in found.dead.values() for extent in extents]
        await self._objects.drop([*found.orphans, *buried])
        await self._objects.drop(packs=found.empty)
        gone = {object_id for object_id, extents in found.dead.items() if not _touches(extents, found.unclear)}
        self._change(partial(index.given_back, object_ids={*gone, *(kept.object_id for kept in missing)}))
        self._change(partial(index.unsettle, packs=found.empty))
        await self.write()
        for kept in missing:
            self.shelves.forget(kept.instance.domain, kept.instance.ref.study_uid)
        self._live = found.live
        self._settled = {pack_id for pack_id, objects in found.live.items() if objects} - found.unclear
        self._held.update(await self.store.read(partial(eviction.held_by_class, place=self.place)))
        if found.keyless:
            log.error("kept objects without a key", alarm=True, instances=len(found.keyless))
        log.info(
            "study cache opened",
            packs=len(self._settled),
            indexed=len(found.unindexed),
            missing=len(found.missing),
            damaged=found.damaged,
        )

    async def _forgettable(self, missing: Sequence[bytes]) -> list[Kept]:
        """What is not there and can be fetched again. A sole copy stays in the index, and so does its pack once it is
        there again: a folder was not mounted, a bucket was misspelt.
        """
        found = await self.store.read(partial(index.by_ids, object_ids=missing))
        sole = [kept for kept in found if kept.instance.is_sole_copy]
        if sole:
            log.error("sole copies not found", alarm=True, instances=len(sole))
        return [kept for kept in found if not kept.instance.is_sole_copy]

    async def run(self) -> None:
        """Write the index behind what is kept, make room, give room back; for ever."""
        while True:
            await self._something_to_do()
            await self._clock.sleep(INDEX_PAUSE_S)
            self._changed.clear()
            try:
                await self.write()
                await self.make_room()
                await self.give_back()
            except ServiceFault as fault:
                log.warning("study cache index behind", changes=len(self._changes), error=str(fault))
                await self._clock.sleep(_RETRY_S)
                self._changed.set()

    async def _something_to_do(self) -> None:
        if not self._is_short:
            await self._changed.wait()
            return
        waiting = {asyncio.ensure_future(each) for each in (self._changed.wait(), self._clock.sleep(_ROOM_RETRY_S))}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def stop(self) -> None:
        """Index what is not yet; what cannot be now is at the next start."""
        try:
            await self.write()
        except ServiceFault as fault:
            log.warning("study cache index behind", changes=len(self._changes), error=str(fault))

    def admit(self) -> None:
        """Raises `OverCapacity` while the index is too far behind to take anything in."""
        if len(self._changes) > CHANGES_WAITING_MAX:
            raise OverCapacity("the index of the study cache is too far behind")

    async def write(self) -> None:
        """Bring the index up to what is kept; raises `StoreUnavailable`, and what was not written waits on."""
        async with self._indexing:
            settled = self._objects.settled()
            if settled:
                self._settled.update(settled)
                self._change(partial(index.settle, place=self.place, packs=settled))
            while self._changes:
                some = list(islice(self._changes, CHANGES_AT_ONCE_MAX))
                await self.store.write(partial(_apply, changes=some))
                for change in some:
                    self._changes.popleft()
                    change.done()

    async def make_room(self) -> int:
        """Let the least used studies of each class go that takes more than its quota; how many went."""
        self._is_short = False
        if all(self._held[cache_class] <= quota_bytes for cache_class, quota_bytes in self._quota_bytes.items()):
            return 0
        self._held = Counter(await self.store.read(partial(eviction.held_by_class, place=self.place)))
        count = 0
        for cache_class, quota_bytes in self._quota_bytes.items():
            too_much_bytes = self._held[cache_class] - quota_bytes
            if too_much_bytes <= 0:
                continue
            candidates = await self.store.read(partial(eviction.least_used, place=self.place, cache_class=cache_class))
            self._is_short |= any(self.shelves.is_in_use(each.study_uid) for each in candidates)
            for victim in eviction.choose(candidates, too_much_bytes, self.shelves.is_in_use):
                count += bool(await self.take_out(victim.domain, victim.study_uid))
        if count:
            await self.write()
            log.info("studies evicted", studies=count)
        return count

    async def give_back(self) -> None:
        """Give the room of what was taken out back to the disk, as far as nobody reads it any more."""
        gone = [kept for kept in self._dead if self._may_go(kept)]
        going = {kept.object_id for kept in gone}
        staying = {extent.pack_id for kept in self._dead if kept.object_id not in going for extent in kept.extents}
        empty = [
            pack_id
            for pack_id in self._settled - staying
            if not self._live[pack_id] and self._objects.is_at_hand([Extent(pack_id, 0, 0)])
        ]
        if not gone and not empty:
            return
        await self._objects.drop([extent for kept in gone for extent in kept.extents])
        await self._objects.drop(packs=empty)
        self._dead = [kept for kept in self._dead if kept.object_id not in going]
        self._settled.difference_update(empty)
        self._change(partial(index.given_back, object_ids=[kept.object_id for kept in gone]))
        self._change(partial(index.unsettle, packs=empty))
        await self.write()

    def _may_go(self, kept: Kept) -> bool:
        """Whether nobody reads it; and where its room comes back with its pack's alone, a start knows it for gone."""
        if self.shelves.is_in_use(kept.instance.ref.study_uid) or not self._objects.is_at_hand(kept.extents):
            return False
        packs = {extent.pack_id for extent in kept.extents}
        return all(pack_id in self._settled or not self._objects.goes_whole(pack_id) for pack_id in packs)

    def keep(self, shelf: Shelf, entry: Entry) -> None:
        """Note what has just become durable."""
        self._live.update({extent.pack_id for extent in entry.kept.extents})
        self._held[(shelf.row.cache_class if shelf.row else entry.cache_class)] += entry.kept.held_bytes
        self._index(shelf, entry, partial(self._objects.release, entry.kept.extents))

    def stand(self, shelf: Shelf, kept: Kept, standing: Standing, why: str) -> None:
        """An object is good for something else from now on."""
        shelf.put(kept.standing_as(standing))
        if kept.instance.is_sole_copy:
            self.sole.follow(shelf)
        self._change(partial(index.set_standing, object_id=kept.object_id, standing=standing, why=why))

    def confirm_elsewhere(self, shelf: Shelf, confirmed: Sequence[Kept]) -> None:
        """These are no sole copies any more."""
        for kept in confirmed:
            shelf.put(replace(kept, instance=replace(kept.instance, is_sole_copy=False)))
        if confirmed:
            self.sole.follow(shelf)
            self._change(partial(index.confirm_elsewhere, object_ids=[kept.object_id for kept in confirmed]))

    def alter(self, shelf: Shelf, row: StudyRow) -> None:
        """Something else is known of a study from now on."""
        if row != shelf.row:
            shelf.row = row
            self._change(partial(index.keep_study, place=self.place, row=row))

    def touch(self, shelf: Shelf) -> None:
        """A study is used."""
        now = self._clock.now()
        if shelf.row is not None and now - shelf.row.used_at >= _TOUCHED_AFTER:
            self.alter(shelf, replace(shelf.row, used_at=now))

    async def take_out(self, domain: KeyDomain, study_uid: str) -> int:
        """Forget a study, except sole copies; how many instances went."""
        async with self.shelves.using(domain, study_uid) as shelf:
            gone = [kept for kept in shelf.objects.values() if not kept.instance.is_sole_copy]
            for kept in gone:
                shelf.take(kept.object_id)
                self._live.subtract({extent.pack_id for extent in kept.extents})
            if shelf.row is not None:
                self._held[shelf.row.cache_class] -= sum(kept.held_bytes for kept in gone)
            if not shelf.objects:
                shelf.row = None
            self._dead += gone
            if gone:
                self._change(partial(index.take_out, place=self.place, gone=gone))
        return len(gone)

    def _index(self, shelf: Shelf, entry: Entry, released: Callable[[], None] = lambda: None) -> None:
        def done() -> None:
            shelf.unindexed -= 1
            released()

        shelf.put(entry.kept)
        shelf.unindexed += 1
        self.alter(shelf, _row_with(shelf.row, entry, self._clock.now()))
        if entry.kept.standing is Standing.CURRENT:
            self.sole.follow(shelf, came=entry.kept)
        self._change(partial(index.add, place=self.place, kept=entry.kept), done)

    def _change(self, body: Callable[[Tx], object], done: Callable[[], None] = lambda: None) -> None:
        self._changes.append(_Change(body, done))
        self._changed.set()

    async def _load(self, domain: KeyDomain, study_uid: str) -> tuple[StudyRow | None, list[Kept]]:
        def body(read: Read) -> tuple[StudyRow | None, list[Kept]]:
            of = (read, self.place, domain, study_uid)
            return index.study_row(*of), index.instances(*of)

        return await self.store.read(body)


def _apply(tx: Tx, changes: Sequence[_Change]) -> None:
    faultpoint("cache.index.before")
    for change in changes:
        change.body(tx)
    faultpoint("cache.index.after")


def _touches(extents: Sequence[Extent], packs: Collection[bytes]) -> bool:
    return any(extent.pack_id in packs for extent in extents)


def _behind_newer(shelf: Shelf, entry: Entry) -> Entry:
    """What was found beside a newer version that is handed out does not take its place."""
    kept = entry.kept
    current = shelf.current.get(kept.instance.ref.sop_uid)
    is_older = current is not None and current.instance.version > kept.instance.version
    if kept.standing is Standing.CURRENT and is_older:
        return replace(entry, kept=kept.standing_as(Standing.SUPERSEDED))
    return entry


def _row_with(row: StudyRow | None, entry: Entry, now: datetime) -> StudyRow:
    """What is known of a study once this came."""
    kept = entry.kept
    if row is None:
        study_uid, domain = kept.instance.ref.study_uid, kept.instance.domain
        return StudyRow(domain, study_uid, kept.patient, entry.cache_class, entry.study_date, now)
    is_weakest = row.cache_class is CacheClass.INTERACTIVE
    return replace(
        row,
        patient=kept.patient if kept.standing is Standing.CURRENT else row.patient,
        cache_class=entry.cache_class if is_weakest else row.cache_class,
        study_date=row.study_date or entry.study_date,
        used_at=now if now - row.used_at >= _TOUCHED_AFTER else row.used_at,
    )
