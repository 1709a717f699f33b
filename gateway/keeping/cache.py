"""The study cache as the core holds it, whether or not it could be opened (`gateway.model.work.transfers.StudyCache`).

While it is not open every call raises the fault that keeps it from opening, the same for every patient (SAF-01); what
needs no images goes on. Adds what only the running node knows: that the disk is never filled to the brim, and that
nothing is taken in for a patient of whom the register says that the keys are to be closed, even before they are.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path

from gateway.model.errors import GatewayError, KeyClosed, ServiceFault, StoreFull, StoreUnavailable
from gateway.model.seams import Clock
from gateway.model.work.transfers import (
    CachedInstance,
    CachedStudy,
    KeyDomain,
    ReceivedHead,
    SoleStudy,
    Standing,
    Writing,
)
from policy.parties import TrustId
from storage.cache.cache import SealedCache
from storage.cache.sole import SoleCopies

ROOM_CHECK_INTERVAL_S = 1.0


class Room:
    """How much room is left on the cache's disk; looked at once a second at most."""

    def __init__(self, folder: Path, reserve_bytes: int, clock: Clock) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._looked_at_s = float("-inf")
        self._is_short = False

    def check(self) -> None:
        """Raises `StoreFull` with less than the reserve left."""
        if self._clock.monotonic() - self._looked_at_s >= ROOM_CHECK_INTERVAL_S:
            self._looked_at_s = self._clock.monotonic()
            self._is_short = self.free_bytes() < self._reserve_bytes
        if self._is_short:
            raise StoreFull("the disk of the study cache is full but for its reserve")

    def free_bytes(self) -> int:
        """The room left; raises `StoreUnavailable`."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise StoreUnavailable(f"the disk of the study cache cannot be looked at: {error.strerror}") from error
        return disk.f_bavail * disk.f_frsize


class KeptCache:
    """See `StudyCache`."""

    def __init__(
        self,
        opened: Callable[[], SealedCache],
        check_room: Callable[[], None],
        opted_out: Callable[[], Collection[str]],
        sole_sources: Callable[[], Awaitable[frozenset[TrustId]]],
    ) -> None:
        """`opened` gives the cache, or raises the fault that keeps it closed; `check_room` raises `StoreFull`."""
        self._opened = opened
        self._check_room = check_room
        self._opted_out = opted_out
        self._sole_sources = sole_sources

    def put(self, head: ReceivedHead) -> AbstractAsyncContextManager[Writing]:
        """See `StudyCache`. Raises `StoreFull` before anything is written, `KeyClosed` for who is opted out."""
        cache = self._opened()
        self._check_room()
        if head.domain is KeyDomain.CACHE and head.patient_row in self._opted_out():
            raise KeyClosed("the patient's keys are to be closed")
        return cache.put(head)

    async def instances(self, study_uid: str, domain: KeyDomain = KeyDomain.CACHE) -> Sequence[CachedInstance]:
        """See `StudyCache`."""
        return await self._opened().instances(study_uid, domain)

    async def instance(
        self, study_uid: str, sop_uid: str, domain: KeyDomain = KeyDomain.CACHE
    ) -> CachedInstance | None:
        """See `StudyCache`."""
        return await self._opened().instance(study_uid, sop_uid, domain)

    async def stand(self, instance: CachedInstance, standing: Standing, why: str) -> None:
        """See `StudyCache`."""
        await self._opened().stand(instance, standing, why)

    def open(
        self, instance: CachedInstance, first: int = 0, last: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `StudyCache`."""
        return self._opened().open(instance, first, last)

    async def read(
        self, instances: Sequence[CachedInstance], *, beginnings: bool = False
    ) -> Sequence[tuple[bytes, ...] | GatewayError]:
        """See `StudyCache`."""
        return await self._opened().read(instances, beginnings=beginnings)

    async def metadata(self, instances: Sequence[CachedInstance]) -> Sequence[bytes]:
        """See `StudyCache`."""
        return await self._opened().metadata(instances)

    def using(self, study_uid: str) -> AbstractAsyncContextManager[None]:
        """See `StudyCache`."""
        return self._opened().using(study_uid)

    async def study(self, study_uid: str, domain: KeyDomain = KeyDomain.CACHE) -> CachedStudy | None:
        """See `StudyCache`."""
        return await self._opened().study(study_uid, domain)

    async def studies_of(self, patient_row: str, domain: KeyDomain = KeyDomain.CACHE) -> Sequence[str]:
        """See `SealedCache`."""
        return await self._opened().studies_of(patient_row, domain)

    async def validated(self, study_uid: str, at: datetime) -> None:
        """See `StudyCache`."""
        await self._opened().validated(study_uid, at)

    async def pin(self, study_uid: str, until: datetime | None, domain: KeyDomain = KeyDomain.CACHE) -> None:
        """See `SealedCache`."""
        await self._opened().pin(study_uid, until, domain)

    @property
    def sole_copies(self) -> SoleCopies:
        """See `SealedCache`; raises the fault that keeps it closed."""
        return self._opened().sole_copies

    def sole_studies(self) -> Mapping[str, SoleStudy]:
        """See `StudyCache`."""
        return self._opened().sole_studies()

    def sole_studies_of(self, patient_rows: Collection[str]) -> Sequence[str]:
        """See `StudyCache`."""
        return self._opened().sole_studies_of(patient_rows)

    async def unread_sources(self) -> frozenset[TrustId]:
        """See `StudyCache`."""
        try:
            return await self._opened().unread_sources()
        except ServiceFault:
            return await self._sole_sources()

    async def forget(self, study_uid: str, why: str) -> None:
        """See `StudyCache`."""
        await self._opened().forget(study_uid, why)

    async def shred(self, patient_row: str, domain: KeyDomain) -> None:
        """See `StudyCache`."""
        await self._opened().shred(patient_row, domain)
