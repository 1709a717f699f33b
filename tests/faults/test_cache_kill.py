"""SIGKILL, a failing disk or a torn write under the study cache: nothing acknowledged is lost, none shown in part.

Invariants I1 to I3, I6 and I9; goals G1 and G4.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.model.errors import StoreFull, StoreUnavailable
from gateway.model.work.transfers import CachedInstance
from storage.cache import index
from tests.faults.cache_scenarios import CONTENTS, SCENARIOS
from tests.faults.storage_scenarios import Zygote
from tests.storage.cache_rig import CANARY, body, head, opened, put, read

KILLS_AT_RANDOM = 60
SEED = 20261122


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.faults.cache_scenarios") as running:
        yield running


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", ["kill", "raise"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_no_fault_between_two_steps_loses_or_halves_an_instance(
    zygote: Zygote, migrated_file: Path, memory: Path, scenario: str, fault: str
) -> None:
    passages = zygote.passages(scenario, fresh(memory / "run", migrated_file), ("objects.", "cache."))
    for number, (point, passage) in enumerate(passages):
        folder = fresh(memory / "run", migrated_file)
        where = f"{point}={fault}@{passage}"
        status, acknowledged = zygote.run(scenario, folder, GATEWAY_FAULTS=where)
        # What runs at once may pass a point less often than it did the first time, and then ends by itself; a start
        # that cannot write its index is refused.
        assert status in (0, -signal.SIGKILL if fault == "kill" else 1), where
        await check(folder, acknowledged, where)
        if number % 4 == 0:  # and the same work can be done on what is left
            status, again = zygote.run(scenario, folder)
            assert status == 0, where
            await check(folder, again, where)


@pytest.mark.timeout(600)
async def test_no_kill_at_a_random_moment_loses_or_halves_an_instance(
    zygote: Zygote, migrated_file: Path, memory: Path
) -> None:
    moments, killed = random.Random(SEED), 0
    lasts_s = {name: zygote.lasting_s(name, fresh(memory / "run", migrated_file)) for name in SCENARIOS}
    folder = fresh(memory / "run", migrated_file)
    for number in range(KILLS_AT_RANDOM):
        if number % 6 == 0:
            folder = fresh(memory / "run", migrated_file)
        scenario = moments.choice(sorted(SCENARIOS))
        after_s = moments.uniform(0.001, lasts_s[scenario])
        status, acknowledged = zygote.run(scenario, folder, KILLED_AFTER_S=str(after_s))
        assert status in (-signal.SIGALRM, 0), (SEED, number)
        killed += status != 0
        await check(folder, acknowledged, f"seed {SEED}, kill {number}")
    assert killed, "no run was ended before its end"


def fresh(folder: Path, migrated_file: Path) -> Path:
    """A folder with an empty database."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(migrated_file, folder / "gateway.db")
    return folder


async def check(folder: Path, acknowledged: list[str], where: str) -> None:
    """What must hold of a folder after any fault."""
    present: set[str] = set()
    gone: set[str] = set()
    for step in acknowledged:
        match step.split():
            case ["put", name]:
                present.add(name)
                gone.discard(name[:3])
            case ["going", study]:  # and may be gone before that is acknowledged
                present = {name for name in present if not name.startswith(study)}
            case ["gone", study]:
                present = {name for name in present if not name.startswith(study)}
                gone.add(study)
            case ["settling" | "settled"]:
                present = set()  # anything may have been evicted
            case _:
                pass
    for _ in range(2):
        async with opened(folder) as rig:
            found = {}
            for study in ("1.2", "1.3", "1.4", "1.9"):
                for instance in await rig.cache.instances(study):
                    assert await read(rig.cache, instance) == CONTENTS[instance.ref.sop_uid], where
                    assert await rig.cache.verify(instance), where
                    found[instance.ref.sop_uid] = instance
            assert present <= set(found), where
            assert not {name[:3] for name in found} & gone, where
            lies = await rig.store.read(lambda read: index.where_all_lie(read, "north"))
            assert await rig.store.read(lambda read: index.dead(read, "north")) == [], where
            # Both ways: each object lies in a pack that is there, and each pack has an object.
            packs = rig.objects.packs()
            assert {extent.pack_id for extents in lies.values() for extent in extents} == set(packs), where
    strays = [path for path in strangers(folder) if path.suffix != ".pack" and path.name != "lock"]
    assert strays == [], where
    assert not any(CANARY in path.read_bytes() for path in strangers(folder)), where


def strangers(folder: Path) -> list[Path]:
    """The files that the cache made."""
    return [path for path in (folder / "packs").rglob("*") if path.is_file()]


async def test_a_torn_write_shows_a_whole_instance_or_none(migrated_file: Path, tmp_path: Path) -> None:
    folder = fresh(tmp_path / "run", migrated_file)
    async with opened(folder) as rig:
        for number in range(3):
            await put(rig.cache, head(sop=f"1.2.1.{number}"), body(50_000, number))
        [pack] = [path for path in strangers(folder) if path.suffix == ".pack"]
        durable = pack.stat().st_size
        await put(rig.cache, head(sop="1.2.1.3"), body(300_000, 3))
        shutil.copytree(folder, tmp_path / "fallen")  # nothing is indexed yet
    pages = random.Random(SEED)
    whole = (tmp_path / "fallen" / pack.relative_to(folder)).read_bytes()
    for number in range(12):
        torn = bytearray(whole)
        for at in range(durable, len(whole), 4_096):
            if pages.random() < 0.3:
                torn[at : at + 4_096] = bytes(len(torn[at : at + 4_096]))
        if number % 3 == 0:
            del torn[pages.randrange(durable, len(torn)) :]
        case = tmp_path / "case"
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(tmp_path / "fallen", case)
        (case / pack.relative_to(folder)).write_bytes(torn)
        async with opened(case) as rig:
            found = await rig.cache.instances("1.2")
            assert {f"1.2.1.{number}" for number in range(3)} <= {each.ref.sop_uid for each in found}
            for each in found:
                number_of = int(each.ref.sop_uid[-1])
                assert await read(rig.cache, each) == body(300_000 if number_of == 3 else 50_000, number_of)


async def test_an_instance_is_acknowledged_behind_the_sync_of_its_bytes(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded order of system calls and acknowledgements (DEC-36)."""
    order: list[str] = []
    write, sync = os.pwritev, os.fdatasync

    def writing(descriptor: int, buffers: list[memoryview], at: int) -> int:
        order.append("write")
        return write(descriptor, buffers, at)

    def syncing(descriptor: int) -> None:
        sync(descriptor)
        order.append("sync")

    monkeypatch.setattr(os, "pwritev", writing)
    monkeypatch.setattr(os, "fdatasync", syncing)
    async with opened(fresh(tmp_path / "run", migrated_file)) as rig:
        for number in range(3):
            await put(rig.cache, head(sop=f"1.2.1.{number}"), body(526_000, number))
            order.append("acknowledged")
    assert order[:9] == ["write", "sync", "acknowledged"] * 3


async def test_a_failed_sync_fails_its_instances_alone_and_is_not_tried_again(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fresh(tmp_path / "run", migrated_file)
    failing: list[int] = []
    sync = os.fdatasync

    def broken(descriptor: int) -> None:
        failing.append(descriptor)
        raise OSError(errno.EIO, "input/output error")

    async with opened(folder) as rig:
        kept = await put(rig.cache, head(sop="1.2.1.1"), body(1_000, 1))
        monkeypatch.setattr(os, "fdatasync", broken)
        with pytest.raises(StoreUnavailable):
            await put(rig.cache, head(sop="1.2.1.2"), body(1_000, 2))
        assert len(failing) == 1
        monkeypatch.setattr(os, "fdatasync", sync)
        again = await put(rig.cache, head(sop="1.2.1.2"), body(1_000, 2))
        assert await rig.cache.instances("1.2") == [kept, again]
        assert len([path for path in strangers(folder) if path.suffix == ".pack"]) == 2
    async with opened(folder) as rig:
        assert await rig.cache.instances("1.2") == [kept, again]
        assert await read(rig.cache, kept) == body(1_000, 1)


async def test_a_full_disk_refuses_visibly_and_keeps_what_it_has(
    migrated_file: Path, tmp_path: Path, small_disk: SmallDisk
) -> None:
    folder = fresh(tmp_path / "run", migrated_file)
    (folder / "packs").symlink_to(small_disk.folder)
    kept: list[CachedInstance] = []
    async with opened(folder, is_running=True, pack_bytes_max=8_000_000) as rig:
        with pytest.raises(StoreFull):
            while len(kept) < 100:
                number = len(kept)
                kept.append(await put(rig.cache, head(sop=f"1.2.1.{number}"), body(1_000_000, number)))
        assert len(kept) > 20
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await put(rig.cache, head(study="1.8", sop="1.8.1"), body(4_000_000))
        for number, instance in enumerate(kept):
            assert await read(rig.cache, instance) == body(1_000_000, number)
        await asyncio.to_thread(small_disk.make_room)
        late = await put(rig.cache, head(study="1.8", sop="1.8.1"), body(4_000_000))
        assert await rig.cache.verify(late)
    async with opened(folder) as rig:
        assert len(await rig.cache.instances("1.2")) == len(kept)
        assert await read(rig.cache, late) == body(4_000_000)


class SmallDisk:
    """A folder with little room, and a way to make more."""

    def __init__(self, folder: Path, make_room: Callable[[], None]) -> None:
        self.folder = folder
        self.make_room = make_room


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """A memory disk of 32 MB where we may mount one; else a system call that says so after as many bytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield SmallDisk(folder, lambda: _run("mount", "-o", "remount,size=64m", str(folder)))
        finally:
            _run("umount", str(folder))
        return
    write, written = os.pwritev, 0

    def writing(descriptor: int, buffers: list[memoryview], at: int) -> int:
        nonlocal written
        written += sum(map(len, buffers))
        if written > 32 * 1024 * 1024:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(descriptor, buffers, at)

    monkeypatch.setattr(os, "pwritev", writing)
    yield SmallDisk(folder, lambda: monkeypatch.setattr(os, "pwritev", write))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
