"""Several small instances read at once: what each one holds, and what is wrong with those that do not open."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.model.errors import Damaged, KeyClosed
from gateway.model.work.transfers import KeyDomain
from storage.cache import reading
from storage.cache.packs.frames import HEAD_BYTES
from storage.cache.reading import FRESH_BYTES_MAX, FRESH_HELD_BYTES_MAX, Fresh
from tests.storage.cache_rig import body, head, opened, put


@pytest.fixture
def folder(tmp_path: Path, migrated_file: Path) -> Path:
    """A folder with an empty database."""
    shutil.copyfile(migrated_file, tmp_path / "gateway.db")
    return tmp_path


def damage(folder: Path) -> None:
    """Overwrite a few bytes of the first instance in the only pack."""
    [pack] = folder.glob("packs/*/*.pack")
    with pack.open("r+b") as file:
        file.seek(HEAD_BYTES + 300_000)
        file.write(b"\0\0\0\0")


def lose(folder: Path) -> None:
    """Take every pack away."""
    for pack in folder.glob("packs/*/*.pack"):
        pack.unlink()


async def test_instances_read_together_come_each_whole_and_in_order(folder: Path) -> None:
    async with opened(folder) as rig:
        lengths = {"1.2.1.1": 0, "1.2.1.2": 12_800, "1.2.1.3": 526_000, "1.2.1.4": 1_048_576}
        kept = [await put(rig.cache, head(sop=sop), body(length)) for sop, length in lengths.items()]
        read = await rig.cache.read(list(reversed(kept)))
        assert [b"".join(pieces) for pieces in read if isinstance(pieces, tuple)] == [
            body(length) for length in reversed(lengths.values())
        ]
        assert await rig.cache.read([]) == []


async def test_a_damaged_one_among_them_is_quarantined_and_the_others_come(folder: Path) -> None:
    async with opened(folder) as rig:
        damaged = await put(rig.cache, head(sop="1.2.1.1"), body(600_000))
        sound = await put(rig.cache, head(sop="1.2.1.2"), body(1_000))
        damage(folder)
        first, second = await rig.cache.read([damaged, sound])
        assert isinstance(first, Damaged) and second == (body(1_000),)
        assert await rig.cache.instances("1.2") == [sound]
        [again, _] = await rig.cache.read([damaged, sound])
        assert isinstance(again, Damaged), "it stays so"


async def test_of_a_closed_patient_none_is_read(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(1_000))
        await rig.cache.shred("row-of-anne", KeyDomain.CACHE)
        [found] = await rig.cache.read([kept])
        assert isinstance(found, KeyClosed)


async def test_of_beginnings_no_more_than_the_first_segment_is_read(folder: Path) -> None:
    async with opened(folder) as rig:
        small = await put(rig.cache, head(sop="1.2.1.1"), body(1_000))
        large = await put(rig.cache, head(sop="1.2.1.2"), body(5_000_000))
        [of_small, of_large] = await rig.cache.read([small, large], beginnings=True)
        assert of_small == (body(1_000),)
        assert isinstance(of_large, tuple) and len(of_large) == 1
        assert 200_000 < len(of_large[0]) < 300_000
        assert body(5_000_000).startswith(of_large[0])


# --- what somebody waits for ---


async def test_what_is_waited_for_is_read_once_without_the_disk(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, replace(head(), is_waited_for=True), body(600_000))
        damage(folder)
        [first] = await rig.cache.read([kept])
        assert isinstance(first, tuple) and b"".join(first) == body(600_000)
        [second] = await rig.cache.read([kept])
        assert isinstance(second, Damaged)


async def test_what_nobody_waits_for_or_is_long_is_read_from_the_disk(folder: Path) -> None:
    async with opened(folder) as rig:
        pushed = await put(rig.cache, head(), body(600_000))
        long = await put(rig.cache, replace(head(sop="1.2.1.2"), is_waited_for=True), body(FRESH_BYTES_MAX + 1))
        lose(folder)
        assert [type(found) for found in await rig.cache.read([pushed, long])] == [Damaged, Damaged]


async def test_what_is_waited_for_of_a_patient_who_is_closed_meanwhile_is_not_read(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, replace(head(), is_waited_for=True), body(1_000))
        await rig.cache.shred("row-of-anne", KeyDomain.CACHE)
        [found] = await rig.cache.read([kept])
        assert isinstance(found, KeyClosed)


async def test_no_more_stays_open_than_its_limit_and_what_came_first_goes_first() -> None:
    fresh, each = Fresh(), (bytes(FRESH_BYTES_MAX),)
    room = FRESH_HELD_BYTES_MAX // FRESH_BYTES_MAX
    for number in range(room + 2):
        fresh.put(bytes([number]), each)
    found = [fresh.take(bytes([number])) is not None for number in range(room + 2)]
    assert found == [False, False] + [True] * room
    assert fresh.take(b"\0") is None


async def test_what_nobody_asks_for_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FRESH_S", 0.0)
    fresh = Fresh()
    fresh.put(b"a", (b"content",))
    for _ in range(10):
        await asyncio.sleep(0)
    assert fresh.take(b"a") is None
