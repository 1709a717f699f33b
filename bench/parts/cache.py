"""The study cache: instances put in durably by 1, 4 and 16 writers, and how long it takes to open 100,000 of them.

The peer is what one would write first: a plain file for each instance under a temporary name, synced, renamed, and
its folder synced, by as many threads; it seals nothing, takes no digest and has no index. Opening is measured over
packs as a process leaves them that was killed: none of them settled, so that the head of every frame is read.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Figure, Goal, middle, spread
from bench.plan import Effort, Say
from gateway.model.imaging import JsonValue
from gateway.model.work.transfers import CacheClass, CachedInstance, KeyDomain, Standing
from gateway.node import SystemClock
from storage.cache import index
from storage.cache.entries import Kept
from storage.cache.index import StudyRow
from storage.cache.packs.frames import HEAD_BYTES, Extent, FrameKind, head
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.store import SqlStore
from tests.storage.cache_rig import NORTH, opened, put
from tests.storage.cache_rig import head as head_of

CT_BYTES, SMALL_BYTES = 526_000, 12_800
WRITERS = (1, 4, 16)
OPENING_S_MAX = 5.0
_OBJECTS_A_PACK = 500
_OBJECTS_A_STUDY = 250
_ENTRY_BYTES = 700
_AT = datetime(2026, 1, 1, tzinfo=UTC)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    upgrade(DatabaseSettings(f"sqlite:///{folder / 'empty.db'}"))
    for name, length, count in (("CT", CT_BYTES, effort.instances), ("small", SMALL_BYTES, 2 * effort.instances)):
        for writers in WRITERS:
            say(f"putting in {name} instances, {writers} writers")
            yield from _puts(effort, folder, f"cache, {name}, {writers} writers", length, writers, -(-count // writers))
    say(f"opening {effort.cached_objects:,} objects")
    yield asyncio.run(_opening(folder, effort.cached_objects))


def _puts(effort: Effort, folder: Path, name: str, length: int, writers: int, each: int) -> Iterator[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    syncs: list[float] = []
    for number in range(effort.rounds + 1):
        rate, a_put = asyncio.run(_our_rate(_fresh(folder), length, writers, each))
        plain = _plain_rate(_fresh(folder), length, writers, each)
        if number:
            ours.append(rate)
            syncs.append(a_put)
            theirs.append(plain)
    about: dict[str, JsonValue] = {
        "peer": "plain file, synced, renamed, folder synced",
        "ours": spread(ours),
        "theirs": spread(theirs),
    }
    yield Figure(f"{name}: instances a second", middle(ours), middle(theirs), "1/s", None, about)
    yield Figure(f"{name}: syncs an instance", middle(syncs), None, "1", None, {"ours": spread(syncs)})


def _fresh(folder: Path) -> Path:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    shutil.copyfile(folder / "empty.db", run / "gateway.db")
    return run


async def _our_rate(folder: Path, length: int, writers: int, each: int) -> tuple[float, float]:
    content = os.urandom(length)
    async with opened(folder, is_running=True) as rig:

        async def write(writer: int) -> None:
            for number in range(each):
                study = f"1.2.{writer + 1}"
                await put(rig.cache, head_of(study=study, sop=f"{study}.{number + 1}"), content)

        before = rig.objects.syncs
        began = time.perf_counter()
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        elapsed_s = time.perf_counter() - began
        return writers * each / elapsed_s, (rig.objects.syncs - before) / (writers * each)


def _plain_rate(folder: Path, length: int, writers: int, each: int) -> float:
    content = os.urandom(length)

    def write(own: Path) -> None:
        own.mkdir()
        listing = os.open(own, os.O_RDONLY)
        for number in range(each):
            descriptor = os.open(own / "incoming", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.write(descriptor, content)
            os.fdatasync(descriptor)
            os.close(descriptor)
            os.rename(own / "incoming", own / str(number))
            os.fsync(listing)
        os.close(listing)

    threads = [threading.Thread(target=write, args=(folder / f"plain-{writer}",)) for writer in range(writers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return writers * each / (time.perf_counter() - began)


async def _opening(folder: Path, count: int) -> Figure:
    run = _fresh(folder)
    await asyncio.to_thread((run / "packs").mkdir)
    async with SqlStore(
        DatabaseSettings(f"sqlite:///{run / 'gateway.db'}"), node="north", clock=SystemClock()
    ) as store:
        for first in range(0, count, _OBJECTS_A_PACK):
            kept = await asyncio.to_thread(_filled_pack, run / "packs", first, min(_OBJECTS_A_PACK, count - first))
            await store.write(lambda tx, kept=kept: _index(tx, kept))  # type: ignore[misc]  # the loop's own
    began = time.perf_counter()
    async with opened(run) as rig:
        elapsed_s = time.perf_counter() - began
        assert len(await rig.cache.instances("1.2.0")) == min(count, _OBJECTS_A_STUDY)
    goal = Goal(f"<= {OPENING_S_MAX} s", lambda figure: figure.ours <= OPENING_S_MAX)
    return Figure(f"cache: seconds to open {count} objects", elapsed_s, None, "s", goal)


def _filled_pack(packs: Path, first: int, count: int) -> list[Kept]:
    """A pack with holes for payloads: nothing is opened that the index knows."""
    pack_id, at, found = os.urandom(16), 0, []
    folder = packs / pack_id.hex()[:2]
    folder.mkdir(exist_ok=True)
    with (folder / f"{pack_id.hex()}.pack").open("wb") as file:
        for number in range(first, first + count):
            object_id = os.urandom(16)
            chunk = Extent(pack_id, at + HEAD_BYTES, CT_BYTES + 132)
            entry = Extent(pack_id, chunk.at + chunk.length + HEAD_BYTES, _ENTRY_BYTES)
            for kind, payload in ((FrameKind.CHUNK, chunk), (FrameKind.ENTRY, entry)):
                file.seek(payload.at - HEAD_BYTES)
                file.write(head(kind, object_id, payload))
            at = entry.at + entry.length
            found.append(_kept(number, object_id, (chunk, entry)))
        file.truncate(at)
    return found


def _kept(number: int, object_id: bytes, extents: tuple[Extent, ...]) -> Kept:
    study = f"1.2.{number // _OBJECTS_A_STUDY}"
    wanted = head_of(study=study, sop=f"{study}.{number}")
    instance = CachedInstance(
        wanted.ref, wanted.transfer_syntax, NORTH, NORTH, object_id.hex(), CT_BYTES, bytes(32), 1, _AT
    )
    return Kept(instance, bytes(16), bytes(16), CT_BYTES + 132, extents, Standing.CURRENT)


def _index(tx: Tx, kept: list[Kept]) -> None:
    for each in kept:
        index.add(tx, "north", each)
    for study in {each.instance.ref.study_uid for each in kept}:
        index.keep_study(tx, "north", StudyRow(KeyDomain.CACHE, study, bytes(16), CacheClass.INTERACTIVE, None, _AT))
