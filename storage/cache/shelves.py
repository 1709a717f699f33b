"""The studies of which the cache has news or readers, in memory: what is kept of each, ahead of the index.

One process holds a place, so a shelf once read is the truth: what is durable stands on it at once, and the index
follows. A shelf goes when nobody uses it, everything of it is indexed and there are too many. Knows no files, no keys.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.model.work.transfers import KeyDomain, SoleStudy, Standing
from policy.parties import TrustId
from storage.cache.entries import Kept
from storage.cache.index import StudyRow

ShelfKey = tuple[KeyDomain, str]

INSTANCES_MAX = 50_000
"""Instances on all shelves that nobody uses."""
_TRIMMED_TO: Final = 0.9
"""Of so many: whoever counts goes through all shelves, and should not have to for the next one."""
_READS_BETWEEN_COUNTS: Final = 64


@dataclass(slots=True)
class Shelf:
    """One study in one domain."""

    domain: KeyDomain
    study_uid: str
    row: StudyRow | None = None
    objects: dict[bytes, Kept] = field(default_factory=dict)
    """By object id, whatever they are good for."""
    current: dict[str, Kept] = field(default_factory=dict)
    """By SOP instance UID, what is handed out."""
    committing: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """Instances on their way to becoming current."""
    versions: dict[str, int] = field(default_factory=dict)
    """By SOP instance UID, the highest number given to a version."""
    unindexed: int = 0

    def put(self, kept: Kept) -> None:
        """Keep an object; a current one takes the place of the one before."""
        sop_uid = kept.instance.ref.sop_uid
        self.objects[kept.object_id] = kept
        self.versions[sop_uid] = max(kept.instance.version, self.versions.get(sop_uid, 0))
        if kept.standing is not Standing.CURRENT:
            if self.current.get(sop_uid, kept).object_id == kept.object_id:
                self.current.pop(sop_uid, None)
            return
        before = self.current.get(sop_uid)
        if before is not None and before.object_id != kept.object_id:
            self.objects[before.object_id] = before.standing_as(Standing.SUPERSEDED)
        self.current[sop_uid] = kept

    def take(self, object_id: bytes) -> Kept | None:
        """Take an object off."""
        kept = self.objects.pop(object_id, None)
        if kept is not None and self.current.get(kept.instance.ref.sop_uid) is kept:
            del self.current[kept.instance.ref.sop_uid]
        return kept

    def next_version(self, sop_uid: str) -> int:
        """A number for another version of an instance; each is given once."""
        self.versions[sop_uid] = self.versions.get(sop_uid, 0) + 1
        return self.versions[sop_uid]

    @property
    def is_idle(self) -> bool:
        """Whether the index knows all of it and nobody needs it here."""
        return not (self.unindexed or self.committing)


class SoleStudies:
    """Studies that hold what nobody else is known to have, with what stands for their patients; never behind."""

    def __init__(self) -> None:
        self._patients: dict[str, bytes] = {}
        self._studies: dict[bytes, set[str]] = {}
        self._known: dict[str, SoleStudy] = {}
        self._changed = itertools.count()

    def begin(self, known: Iterable[tuple[str, bytes, TrustId]]) -> None:
        """With what the index knows, by study UID, patient and who sent it."""
        for study_uid, patient, source in known:
            self._add(study_uid, patient, source)

    def follow(self, shelf: Shelf, *, came: Kept | None = None) -> None:
        """Something of a shelf has changed: this one `came`, or others are good for something else."""
        if shelf.domain is not KeyDomain.CACHE or (came is not None and not came.instance.is_sole_copy):
            return
        kept = shelf.current.values() if came is None else (came,)
        sources = {each.instance.source for each in kept if each.instance.is_sole_copy}
        if came is None:
            self._remove(shelf.study_uid)
        if shelf.row is not None:
            for source in sorted(sources):
                self._add(shelf.study_uid, shelf.row.patient, source)

    def of(self, patients: Iterable[bytes]) -> list[str]:
        """Those of these patients."""
        return sorted({study_uid for patient in patients for study_uid in self._studies.get(patient, ())})

    @property
    def all(self) -> Mapping[str, SoleStudy]:
        """All of them, by UID, as they are now and change."""
        return self._known

    def _add(self, study_uid: str, patient: bytes, source: TrustId) -> None:
        if self._patients.get(study_uid, patient) != patient:
            self._remove(study_uid)
        self._patients[study_uid] = patient
        known = self._known.get(study_uid)
        sources = frozenset((source,)) if known is None else known.sources | {source}
        self._known[study_uid] = SoleStudy(sources, next(self._changed))
        self._studies.setdefault(patient, set()).add(study_uid)

    def _remove(self, study_uid: str) -> None:
        self._known.pop(study_uid, None)
        patient = self._patients.pop(study_uid, None)
        if patient is not None:
            self._studies[patient].discard(study_uid)
            if not self._studies[patient]:
                del self._studies[patient]


Load = Callable[[KeyDomain, str], Awaitable[tuple[StudyRow | None, list[Kept]]]]


class Shelves:
    """The shelves at hand, read when they are asked for."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._shelves: OrderedDict[ShelfKey, Shelf] = OrderedDict()
        self._loading: dict[ShelfKey, asyncio.Task[Shelf]] = {}
        self._in_use: Counter[str] = Counter()
        self._uncounted = 0

    @asynccontextmanager
    async def using(self, domain: KeyDomain, study_uid: str) -> AsyncIterator[Shelf]:
        """A study's shelf: it stays, and all that is kept of it, until this is left. Raises `StoreUnavailable`."""
        self._in_use[study_uid] += 1
        try:
            yield await self._at_hand((domain, study_uid))
        finally:
            self.let_go(study_uid)

    def hold(self, study_uid: str) -> None:
        """Note that a study is in use in every domain, until `let_go`."""
        self._in_use[study_uid] += 1

    def let_go(self, study_uid: str) -> None:
        """One user less."""
        self._in_use[study_uid] -= 1
        if not self._in_use[study_uid]:
            del self._in_use[study_uid]

    def is_in_use(self, study_uid: str) -> bool:
        """Whether anybody reads or writes the study."""
        return study_uid in self._in_use

    def forget(self, domain: KeyDomain, study_uid: str) -> None:
        """Read a study anew when it is asked for next: the index was changed without its shelf."""
        self._shelves.pop((domain, study_uid), None)

    async def _at_hand(self, key: ShelfKey) -> Shelf:
        while (shelf := self._shelves.get(key)) is None:
            task = self._loading.get(key)
            if task is None:
                task = self._loading[key] = asyncio.create_task(self._read(key))
                task.add_done_callback(lambda _: self._loading.pop(key, None))
            await asyncio.shield(task)
        self._shelves.move_to_end(key)
        return shelf

    async def _read(self, key: ShelfKey) -> Shelf:
        row, kept = await self._load(*key)
        shelf = Shelf(*key, row)
        for each in sorted(kept, key=lambda one: one.instance.version):
            shelf.put(each)
        self._shelves[key] = shelf
        self._trim()
        return shelf

    def _trim(self) -> None:
        self._uncounted += 1
        if self._uncounted < _READS_BETWEEN_COUNTS:
            return
        self._uncounted = 0
        count = sum(len(shelf.objects) + 1 for shelf in self._shelves.values())
        if count <= INSTANCES_MAX:
            return
        for key, shelf in list(self._shelves.items()):
            if count <= _TRIMMED_TO * INSTANCES_MAX:
                break
            if shelf.is_idle and not self.is_in_use(shelf.study_uid):
                count -= len(shelf.objects) + 1
                del self._shelves[key]
