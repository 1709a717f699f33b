"""A sealed cache on a folder, with keys that hang on one fixed secret, and instances to put into it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from gateway.model.errors import KeyClosed
from gateway.model.work.transfers import (
    UNREAD,
    CacheClass,
    CachedInstance,
    Described,
    InstanceRef,
    KeyDomain,
    ReceivedHead,
    Standing,
)
from policy.parties import TrustId
from storage.cache.cache import SealedCache
from storage.cache.packs.objects import PACK_BYTES_MAX, LocalObjects
from storage.cache.upkeep import CacheSettings
from storage.engines import DatabaseSettings
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore
from tests.clock import FakeClock

NORTH, SOUTH = TrustId("RNO"), TrustId("RSO")
CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
STAND_INS = Pseudonyms(bytes(32))
CANARY = b"CANARY^OF^THE^PATIENT"


class FixedKeys:
    """See `StudyKeys`: keys derived from one secret, the same in every process."""

    def __init__(self) -> None:
        self._owners: dict[bytes, tuple[str, KeyDomain]] = {}
        self.closed: set[tuple[str, KeyDomain]] = set()
        self.kept: dict[bytes, TrustId] = {}

    async def data_key(self, study_uid: str, patient_row: str, domain: KeyDomain) -> tuple[bytes, bytes]:
        """The id is a digest of whose it is, the key a digest of the id."""
        key_id = hashlib.sha256(f"{study_uid} {patient_row} {domain.value}".encode()).digest()[:16]
        self._owners[key_id] = (patient_row, domain)
        return key_id, await self.key(key_id)

    async def key(self, key_id: bytes) -> bytes:
        """Raises `KeyClosed`."""
        if self._owners.get(key_id) in self.closed:
            raise KeyClosed("the key is closed")
        return hashlib.sha256(b"secret of the test" + key_id).digest()

    async def close_patient(self, patient_row: str, domain: KeyDomain) -> None:
        """Nothing of these opens."""
        self.closed.add((patient_row, domain))

    async def keep_for_custodian(self, key_id: bytes, custodian: TrustId) -> None:
        """Remembered."""
        self.kept[key_id] = custodian


class Rig:
    """A cache that is open, and its parts."""

    def __init__(self, store: SqlStore, objects: LocalObjects, cache: SealedCache, keys: FixedKeys) -> None:
        self.store = store
        self.objects = objects
        self.cache = cache
        self.keys = keys


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    clock: FakeClock | None = None,
    keys: FixedKeys | None = None,
    quota_bytes: dict[CacheClass, int] | None = None,
    pack_bytes_max: int = PACK_BYTES_MAX,
    is_running: bool = False,
    random: Callable[[int], bytes] = os.urandom,
) -> AsyncIterator[Rig]:
    """The cache of a folder: `gateway.db` and `packs`. Its upkeep runs by itself only where that is asked for."""
    clock, keys = clock or FakeClock(), keys or FixedKeys()
    database = DatabaseSettings(f"sqlite:///{folder / 'gateway.db'}")
    settings = CacheSettings("north", quota_bytes or {})
    async with (
        SqlStore(database, node="north", clock=clock) as store,
        LocalObjects(folder / "packs", random, pack_bytes_max=pack_bytes_max) as objects,
        SealedCache(store, objects, keys, STAND_INS, clock, settings, random) as cache,
    ):
        running = asyncio.create_task(cache.run()) if is_running else None
        try:
            yield Rig(store, objects, cache, keys)
        finally:
            if running is not None:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running


@asynccontextmanager
async def opened_on(store: SqlStore, folder: Path, clock: FakeClock) -> AsyncIterator[Rig]:
    """A cache whose index is in a store that is open already."""
    keys = FixedKeys()
    async with (
        LocalObjects(folder / "packs", os.urandom) as objects,
        SealedCache(store, objects, keys, STAND_INS, clock, CacheSettings("north", {}), os.urandom) as cache,
    ):
        yield Rig(store, objects, cache, keys)


def head(study: str = "1.2", sop: str = "1.2.1.1", **changes: object) -> ReceivedHead:
    """What is known of an instance of Anne's before its first byte."""
    ref = InstanceRef(study, f"{study}.1", sop, CT)
    made = ReceivedHead(ref, LITTLE, source=NORTH, custodian=NORTH, patient_row="row-of-anne")
    return replace(made, **changes)  # type: ignore[arg-type]  # named by the caller


def body(length: int, seed: int = 0) -> bytes:
    """Bytes that no disk could guess, with a canary in front."""
    return (CANARY + hashlib.shake_256(seed.to_bytes(4, "big")).digest(max(0, length - len(CANARY))))[:length]


async def put(
    cache: SealedCache,
    wanted: ReceivedHead,
    content: bytes,
    *,
    described: Described = UNREAD,
    standing: Standing = Standing.CURRENT,
    piece_bytes: int = 131_072,
) -> CachedInstance:
    """Put an instance in, piece by piece."""
    async with cache.put(wanted) as writing:
        for at in range(0, len(content), piece_bytes):
            writing.add(memoryview(content)[at : at + piece_bytes])
            await writing.drain()
        return await writing.commit(described, standing)


async def read(cache: SealedCache, instance: CachedInstance, first: int = 0, last: int | None = None) -> bytes:
    """An instance's bytes."""
    async with cache.open(instance, first, last) as pieces:
        return b"".join([piece async for piece in pieces])
