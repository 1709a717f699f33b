"""A sealed cache on a folder, with keys that hang on one fixed secret, and instances to put into it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from gateway.model.errors import Damaged, KeyClosed
from gateway.model.seams import Clock
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
from storage.cache.packs.port import Objects
from storage.cache.remote.settings import BucketSettings
from storage.cache.remote.tiers import tiered
from storage.cache.upkeep import CacheSettings
from storage.engines import DatabaseSettings
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.peers.s3 import StoredPack, seen

NORTH, SOUTH = TrustId("RNO"), TrustId("RSO")
CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
STAND_INS = Pseudonyms(bytes(32))
MARK = bytes(range(16))
_BUCKET = "bucket.json"
CANARY = b"CANARY^OF^THE^PATIENT"


class FixedKeys:
    """See `StudyKeys`: keys derived from one secret, the same in every process."""

    def __init__(self) -> None:
        self._owners: dict[bytes, tuple[str, KeyDomain]] = {}
        self.closed: set[tuple[str, KeyDomain]] = set()
        self.kept: dict[bytes, TrustId] = {}
        self.destroyed: set[tuple[str, KeyDomain]] = set()
        self.unknown: set[tuple[str, KeyDomain]] = set()
        """Whose keys were never made here, as in another key store."""

    async def data_key(self, study_uid: str, patient_row: str, domain: KeyDomain) -> tuple[bytes, bytes]:
        """The id is a digest of whose it is, the key a digest of the id."""
        key_id = hashlib.sha256(f"{study_uid} {patient_row} {domain.value}".encode()).digest()[:16]
        self._owners[key_id] = (patient_row, domain)
        return key_id, await self.key(key_id)

    async def key(self, key_id: bytes) -> bytes:
        """Raises `KeyClosed`."""
        if self._owners.get(key_id) in self.closed | self.unknown:
            raise KeyClosed("the key is closed")
        return hashlib.sha256(b"secret of the test" + key_id).digest()

    async def key_even_closed(self, key_id: bytes) -> bytes:
        """Raises `KeyClosed` for what is destroyed, `Damaged` for what is not known."""
        if self._owners.get(key_id) in self.unknown:
            raise Damaged("the key is not known")
        if self._owners.get(key_id) in self.destroyed and key_id not in self.kept:
            raise KeyClosed("the key is destroyed")
        return hashlib.sha256(b"secret of the test" + key_id).digest()

    async def close_patient(self, patient_row: str, domain: KeyDomain) -> None:
        """Nothing of these opens."""
        self.closed.add((patient_row, domain))

    async def keep_for_custodian(self, key_id: bytes, custodian: TrustId) -> None:
        """Remembered."""
        self.kept[key_id] = custodian

    async def custodians_key(self, key_id: bytes, custodian: TrustId) -> bytes:
        """Raises `KeyClosed`."""
        if self.kept.get(key_id) != custodian:
            raise KeyClosed("nothing is kept for this custodian")
        return hashlib.sha256(b"secret of the test" + key_id).digest()

    async def discard_kept(self, key_id: bytes) -> None:
        """Forgotten."""
        self.kept.pop(key_id, None)


class Rig:
    """A cache that is open, and its parts."""

    def __init__(self, store: SqlStore, objects: Objects, cache: SealedCache, keys: FixedKeys) -> None:
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
    """The cache of a folder: `gateway.db`, `packs`, and the bucket that it names (`in_bucket`).

    Its upkeep runs by itself only where that is asked for.
    """
    clock, keys = clock or FakeClock(), keys or FixedKeys()
    database = DatabaseSettings(f"sqlite:///{folder / 'gateway.db'}")
    settings = CacheSettings("north", quota_bytes or {})
    async with (
        SqlStore(database, node="north", clock=clock) as store,
        objects_of(folder, clock, random, pack_bytes_max) as objects,
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
async def objects_of(
    folder: Path, clock: Clock, random: Callable[[int], bytes], pack_bytes_max: int
) -> AsyncIterator[Objects]:
    """Where the cache of a folder keeps its bytes."""
    settings = bucket_of(folder)
    if settings is None:
        async with LocalObjects(folder / "packs", random, pack_bytes_max=pack_bytes_max) as disk:
            yield disk
        return
    settings = replace(settings, part_bytes=min(settings.part_bytes, pack_bytes_max))
    async with tiered(settings, MARK, folder / "packs", clock, random) as objects:
        yield objects


def bucket_of(folder: Path) -> BucketSettings | None:
    """The bucket that a folder names."""
    file = folder / _BUCKET
    told = json.loads(file.read_text()) if file.exists() else {}
    told |= {name: Path(path) for name, path in told.items() if name.endswith("_file") and path}
    return BucketSettings(**told) if told else None


def packs_of(folder: Path) -> Sequence[Path | StoredPack]:
    """The packs of the cache of a folder, wherever they lie."""
    settings = bucket_of(folder)
    return sorted(folder.glob("packs/*/*.pack")) if settings is None else seen(settings).packs()


def in_bucket(folder: Path, settings: BucketSettings) -> None:
    """Have the cache of a folder keep its bytes in a bucket, from its next start on."""
    (folder / _BUCKET).write_text(json.dumps(asdict(settings), default=str))


@asynccontextmanager
async def opened_on(store: SqlStore, folder: Path, clock: FakeClock) -> AsyncIterator[Rig]:
    """A cache whose index is in a store that is open already."""
    keys = FixedKeys()
    async with (
        objects_of(folder, clock, os.urandom, PACK_BYTES_MAX) as objects,
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
