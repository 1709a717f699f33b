"""The sealed cache: what was put in comes back, from any byte on, after any start, and to nobody once it is closed."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.model.errors import ConfigurationError, Damaged, InvalidRequest, KeyClosed
from gateway.model.work.transfers import CacheClass, Described, KeyDomain, Standing
from storage.cache import census
from storage.cache.packs.frames import HEAD_BYTES
from storage.cache.writing import WINDOW_BYTES
from tests.clock import NOON, FakeClock, settle
from tests.peers.s3 import S3
from tests.storage.cache_rig import CANARY, SOUTH, FixedKeys, body, head, in_bucket, opened, packs_of, put, read

LENGTHS = [0, 1, 262_100, 262_144, 526_000, WINDOW_BYTES, WINDOW_BYTES + 1, 5_000_000]
SOLE = head(sop="1.2.1.9", is_sole_copy=True)


@pytest.fixture(params=["disk", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> Path:
    """A folder with an empty database, whose cache lies there or in a bucket."""
    shutil.copyfile(migrated_file, tmp_path / "gateway.db")
    if request.param == "bucket":
        server: S3 = request.getfixturevalue("s3_server")
        in_bucket(tmp_path, server.bucket().settings())
    return tmp_path


def used_bytes(folder: Path) -> int:
    """The room that the packs take."""
    packs = packs_of(folder)
    return sum(pack.stat().st_blocks * 512 if isinstance(pack, Path) else len(pack.read_bytes()) for pack in packs)


def everything(folder: Path) -> list[Path]:
    """Every file and folder."""
    return list(folder.rglob("*"))


def lose_the_index(folder: Path, migrated_file: Path) -> None:
    """An empty database in place of the one that was there."""
    for path in folder.glob("gateway.db*"):
        path.unlink()
    shutil.copyfile(migrated_file, folder / "gateway.db")


@pytest.mark.parametrize("length", LENGTHS)
async def test_what_was_put_in_comes_back_before_and_after_a_start(folder: Path, length: int) -> None:
    content = body(length)
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), content)
        assert kept.plain_bytes == length
        assert await read(rig.cache, kept) == content
    async with opened(folder) as rig:
        [found] = await rig.cache.instances("1.2")
        assert found == kept
        assert await read(rig.cache, found) == content
        assert await rig.cache.verify(found)


async def test_any_range_comes_back(folder: Path) -> None:
    content = body(2_000_000)
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), content)
        for first, last in (
            (0, 0),
            (1, 262_143),
            (262_000, 300_000),
            (1_999_999, None),
            (5, 1_500_000),
            (0, 9_999_999),
        ):
            assert await read(rig.cache, kept, first, last) == content[first : None if last is None else last + 1]
        with pytest.raises(ValueError, match="no such bytes"):
            await read(rig.cache, kept, 2_000_000)


async def test_instances_that_come_together_do_not_mix(folder: Path) -> None:
    async with opened(folder, pack_bytes_max=4_000_000, is_running=True) as rig:
        wanted = {f"1.2.1.{number}": body(700_000 * (number % 5) + number, number) for number in range(24)}
        kept = await asyncio.gather(*(put(rig.cache, head(sop=sop), content) for sop, content in wanted.items()))
        assert [await read(rig.cache, each) for each in kept] == list(wanted.values())
        await rig.cache.settle()
    async with opened(folder) as rig:
        found = await rig.cache.instances("1.2")
        assert {each.ref.sop_uid: await read(rig.cache, each) for each in found} == wanted


async def test_a_lone_writer_pays_one_sync_for_an_instance_and_several_pay_less(folder: Path) -> None:
    async with opened(folder) as rig:
        for number in range(10):
            await put(rig.cache, head(sop=f"1.2.1.{number}"), body(526_000, number))
        alone = rig.objects.syncs
        assert alone == 10
        await asyncio.gather(
            *(put(rig.cache, head(sop=f"1.2.2.{number}"), body(20_000, number)) for number in range(64))
        )
        assert rig.objects.syncs - alone < 64


async def test_nothing_readable_is_on_the_disk(folder: Path) -> None:
    clock = FakeClock()
    async with opened(folder, clock=clock) as rig:
        described = Described(metadata=b'{"00100010": "' + CANARY + b'"}')
        await put(rig.cache, head(study="1.2.826.77", sop="1.2.826.77.1"), body(300_000), described=described)
        await rig.cache.settle()
        for path in everything(folder):
            assert "826" not in path.name
            if path.is_file():
                assert CANARY not in path.read_bytes()
        packs = b"".join(path.read_bytes() for path in packs_of(folder))
        assert b"1.2.826.77" not in packs and b"row-of-anne" not in packs
        assert b"row-of-anne" not in (folder / "gateway.db").read_bytes() + (folder / "gateway.db-wal").read_bytes()
        assert {path.stat().st_mode & 0o077 for path in everything(folder / "packs")} == {0}


async def test_metadata_is_kept_sealed_beside_the_instance(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = [
            await put(rig.cache, head(sop=f"1.2.1.{number}"), body(10), described=Described(metadata=b"%d" % number))
            for number in range(3)
        ]
        assert await rig.cache.metadata(kept[::-1]) == [b"2", b"1", b"0"]
    async with opened(folder) as rig:
        assert await rig.cache.metadata(await rig.cache.instances("1.2")) == [b"0", b"1", b"2"]


async def test_an_instance_that_was_not_committed_leaves_nothing(folder: Path) -> None:
    async with opened(folder) as rig:
        async with rig.cache.put(head()) as writing:
            writing.add(body(3_000_000))
        assert await rig.cache.instances("1.2") == ()
        await put(rig.cache, head(sop="1.2.1.2"), body(100))
        assert used_bytes(folder) < 100_000
    async with opened(folder) as rig:
        assert [each.ref.sop_uid for each in await rig.cache.instances("1.2")] == ["1.2.1.2"]


async def test_the_same_bytes_again_are_the_instance_that_is_there(folder: Path) -> None:
    async with opened(folder) as rig:
        together = await asyncio.gather(*(put(rig.cache, head(), body(2_000_000)) for _ in range(4)))
        assert await put(rig.cache, head(), body(2_000_000)) == together[0]
        assert len({each.object_id for each in together}) == 1
        await rig.cache.settle()
        assert used_bytes(folder) < 2_200_000


async def test_another_header_becomes_the_version_that_is_handed_out(folder: Path) -> None:
    async with opened(folder) as rig:
        first = await put(rig.cache, head(), body(100, 1))
        second = await put(rig.cache, head(), body(100, 2))
        assert (first.version, second.version) == (1, 2)
        assert await rig.cache.instances("1.2") == [second]
        assert await read(rig.cache, first) == body(100, 1)
        other = await put(rig.cache, head(), body(100, 3), standing=Standing.SUPERSEDED)
        assert other.version == 3
    async with opened(folder) as rig:
        assert await rig.cache.instances("1.2") == [second]


async def test_what_is_in_conflict_is_kept_and_handed_out_to_nobody(folder: Path) -> None:
    async with opened(folder) as rig:
        mine = await put(rig.cache, head(), body(100, 1))
        with pytest.raises(InvalidRequest, match="another patient"):
            await put(rig.cache, head(patient_row="ben"), body(100, 2))
        other = await put(rig.cache, head(patient_row="ben"), body(100, 2), standing=Standing.QUARANTINED)
        for _ in range(2):
            assert await rig.cache.instances("1.2") == [mine]
            with pytest.raises(Damaged):
                await read(rig.cache, other)
            await rig.cache.settle()


async def test_a_damaged_instance_is_quarantined_and_can_be_fetched_again(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(600_000))
        [pack] = packs_of(folder)
        content = bytearray(pack.read_bytes())
        content[HEAD_BYTES + 300_000 : HEAD_BYTES + 300_004] = bytes(4)
        pack.write_bytes(content)
        with pytest.raises(Damaged):
            await read(rig.cache, kept)
        assert await rig.cache.instances("1.2") == ()
        again = await put(rig.cache, head(), body(600_000))
        assert again.version == 2
    async with opened(folder) as rig:
        assert await rig.cache.instances("1.2") == [again]
        assert await read(rig.cache, again) == body(600_000)


async def test_an_object_put_in_another_s_place_does_not_open(folder: Path) -> None:
    async with opened(folder) as rig:
        one = await put(rig.cache, head(sop="1.2.1.1"), body(1_000, 1))
        other = await put(rig.cache, head(sop="1.2.1.2"), body(1_000, 2))
        packs = packs_of(folder)
        first, last = packs[0], packs[-1]
        source, content = last.read_bytes(), bytearray(first.read_bytes())
        second = source.rindex(b"\x89SEAL", 0, source.rindex(b"\x89PCK"))
        content[HEAD_BYTES : HEAD_BYTES + 1_100] = source[second : second + 1_100]
        first.write_bytes(content)
        # Packs have random names: either may be the one that was overwritten.
        refused = []
        for kept, whole in ((one, body(1_000, 1)), (other, body(1_000, 2))):
            try:
                assert await read(rig.cache, kept) == whole
            except Damaged:
                refused.append(kept)
        assert len(refused) == 1


async def test_an_index_that_was_lost_is_made_anew_from_the_packs(folder: Path, migrated_file: Path) -> None:
    async with opened(folder) as rig:
        for number in range(5):
            await put(rig.cache, head(sop=f"1.2.1.{number}"), body(50_000, number), described=Described(metadata=b"m"))
        newest = await put(rig.cache, head(sop="1.2.1.0"), body(10, 99))
    lose_the_index(folder, migrated_file)
    async with opened(folder) as rig:
        found = await rig.cache.instances("1.2")
        assert len(found) == 5 and found[0] == newest
        assert await read(rig.cache, found[4]) == body(50_000, 4)
        study = await rig.cache.study("1.2")
        assert study is not None and study.instances == 5


async def test_what_was_closed_before_it_was_indexed_is_indexed_and_its_sole_copies_are_the_custodian_s(
    folder: Path, migrated_file: Path
) -> None:
    keys = FixedKeys()
    async with opened(folder, keys=keys) as rig:
        kept = await put(rig.cache, head(), body(50_000, 1))
        sole = await put(rig.cache, SOLE, body(50_000, 2))
    lose_the_index(folder, migrated_file)
    await keys.close_patient("row-of-anne", KeyDomain.CACHE)
    async with opened(folder, keys=keys) as rig:
        assert await rig.cache.instances("1.2") == ()
        assert await rig.cache.sole_copies.of("1.2", sole.custodian) == [sole]
        assert list(keys.kept.values()) == [sole.custodian]
    keys.closed.clear()
    async with opened(folder, keys=keys) as rig:
        assert {each.ref.sop_uid for each in await rig.cache.instances("1.2")} == {kept.ref.sop_uid, sole.ref.sop_uid}
        assert await read(rig.cache, sole) == body(50_000, 2)


async def test_what_a_destroyed_key_sealed_is_gone_but_for_what_its_custodian_s_key_opens(
    folder: Path, migrated_file: Path
) -> None:
    keys = FixedKeys()
    async with opened(folder, keys=keys) as rig:
        sole = await put(rig.cache, SOLE, body(50_000, 1))
        await put(rig.cache, head(study="1.3", sop="1.3.1.1"), body(50_000, 2))
        await rig.cache.shred("row-of-anne", KeyDomain.CACHE)
    lose_the_index(folder, migrated_file)
    keys.destroyed.add(("row-of-anne", KeyDomain.CACHE))
    async with opened(folder, keys=keys) as rig:
        assert await rig.cache.study_uids() == ["1.2"]
        async with rig.cache.sole_copies.open(sole) as pieces:
            assert b"".join([piece async for piece in pieces]) == body(50_000, 1)


async def test_what_no_key_store_knows_is_left_as_it_lies_until_the_right_one_is_there(
    folder: Path, migrated_file: Path
) -> None:
    keys = FixedKeys()
    async with opened(folder, keys=keys) as rig:
        sole = await put(rig.cache, SOLE, body(50_000, 1))
        for study in ("1.3", "1.4"):
            await put(rig.cache, head(study=study, sop=f"{study}.1", patient_row="row-of-ben"), body(50_000, 2))
    lose_the_index(folder, migrated_file)
    keys.unknown.add(("row-of-anne", KeyDomain.CACHE))
    async with opened(folder, keys=keys) as rig:
        assert await rig.cache.study_uids() == ["1.3", "1.4"]
        await rig.cache.forget("1.3", "rejected at its source")
        await rig.cache.settle()
    for _ in range(2):
        async with opened(folder, keys=keys) as rig:
            assert await rig.cache.study_uids() == ["1.4"], "what was taken out does not come to life again beside it"
            await rig.cache.settle()
    keys.unknown.clear()
    async with opened(folder, keys=keys) as rig:
        assert await rig.cache.study_uids() == ["1.2", "1.4"]
        assert await read(rig.cache, sole) == body(50_000, 1)


async def test_packs_that_were_lost_take_their_index_with_them(folder: Path) -> None:
    async with opened(folder, pack_bytes_max=100_000) as rig:
        for number in range(6):
            await put(rig.cache, head(sop=f"1.2.1.{number}"), body(60_000, number))
    packs = packs_of(folder)
    packs[0].unlink()
    packs[1].write_bytes(packs[1].read_bytes()[:50_000])
    async with opened(folder) as rig:
        found = await rig.cache.instances("1.2")
        assert 2 <= len(found) <= 4
        for each in found:
            assert await read(rig.cache, each) == body(60_000, int(each.ref.sop_uid[-1]))


async def test_a_forgotten_study_gives_its_room_back_and_does_not_come_to_life_again(folder: Path) -> None:
    async with opened(folder) as rig:
        await put(rig.cache, head(), body(3_000_000))
        await put(rig.cache, head(study="1.3", sop="1.3.1.1"), body(100))
        await rig.cache.forget("1.2", "rejected at its source")
        assert await rig.cache.instances("1.2") == ()
        assert used_bytes(folder) > 3_000_000
    async with opened(folder) as rig:
        assert await rig.cache.instances("1.2") == ()
        assert used_bytes(folder) < 100_000
        assert len(await rig.cache.instances("1.3")) == 1
        await rig.cache.forget("1.3", "rejected at its source")
        await rig.cache.settle()
        assert packs_of(folder) == []


async def test_nothing_in_use_is_evicted_and_the_least_used_goes_first(folder: Path) -> None:
    clock = FakeClock()
    quota = {CacheClass.INTERACTIVE: 2_500_000}
    async with opened(folder, clock=clock, quota_bytes=quota) as rig:
        for number in range(3):
            await put(rig.cache, head(study=f"1.{number}", sop=f"1.{number}.1"), body(1_000_000, number))
            await clock.advance(120)
        [first] = await rig.cache.instances("1.0")
        await read(rig.cache, first)
        async with rig.cache.using("1.1"):
            await rig.cache.settle()
        assert [len(await rig.cache.instances(f"1.{number}")) for number in range(3)] == [1, 1, 0]
        await put(rig.cache, head(study="1.5", sop="1.5.1"), body(1_000_000, 5))
        await rig.cache.settle()
        assert [len(await rig.cache.instances(f"1.{number}")) for number in (0, 1, 5)] == [1, 0, 1]
        assert used_bytes(folder) < 2_500_000


async def test_what_was_in_use_when_room_was_short_goes_once_it_is_not(folder: Path) -> None:
    clock = FakeClock()
    async with opened(folder, clock=clock, quota_bytes={CacheClass.INTERACTIVE: 0}, is_running=True) as rig:
        async with rig.cache.using("1.2"):
            kept = await put(rig.cache, head(), body(1_000))
            await clock.advance(1.0)
            assert await rig.cache.instances("1.2") == [kept]
        # Nothing comes any more that would have it look again.
        await clock.advance(11.0)
        async with asyncio.timeout(30):
            while await rig.cache.instances("1.2"):
                await settle()


async def test_sole_copies_pinned_studies_and_other_classes_are_never_evicted(folder: Path) -> None:
    clock = FakeClock()
    async with opened(folder, clock=clock, quota_bytes={CacheClass.INTERACTIVE: 0}) as rig:
        sole = await put(rig.cache, SOLE, body(1_000))
        await put(rig.cache, head(study="1.3", sop="1.3.1"), body(1_000))
        await rig.cache.pin("1.3", NOON + timedelta(days=1))
        await put(rig.cache, head(study="1.4", sop="1.4.1", cache_class=CacheClass.MEETING), body(1_000))
        await rig.cache.settle()
        assert [len(await rig.cache.instances(study)) for study in ("1.2", "1.3", "1.4")] == [1, 1, 1]
        await clock.advance(2 * 86_400)
        await rig.cache.sole_copies.confirm("1.2", [sole.object_id])
        await rig.cache.settle()
        assert [len(await rig.cache.instances(study)) for study in ("1.2", "1.3", "1.4")] == [0, 0, 1]


async def test_a_patient_s_studies_close_at_once_and_only_sole_copies_outlast_it(folder: Path) -> None:
    clock, keys = FakeClock(), FixedKeys()
    async with opened(folder, clock=clock, keys=keys) as rig:
        kept = await put(rig.cache, head(), body(1_000, 1))
        pushed = await put(rig.cache, head(domain=KeyDomain.PUSH), body(1_000, 1))
        sole = await put(rig.cache, SOLE, body(1_000, 2))
        async with rig.cache.put(head(sop="1.2.1.3")) as late:
            late.add(b"on its way")
            await rig.cache.shred("row-of-anne", KeyDomain.CACHE)
            with pytest.raises(KeyClosed):
                await late.commit()
        for instance in (kept, sole):
            with pytest.raises(KeyClosed):
                await read(rig.cache, instance)
        assert await rig.cache.instances("1.2") == ()
        assert await rig.cache.instances("1.2", KeyDomain.PUSH) == [pushed]
        assert await read(rig.cache, pushed) == body(1_000, 1)
        assert list(keys.kept.values()) == [sole.custodian]
        await clock.advance(86_400)
    async with opened(folder, clock=clock, keys=keys) as rig:
        await rig.cache.bury_closed(clock.now())
        await rig.cache.settle()
        keys.closed.clear()
        await rig.cache.reopen("row-of-anne", KeyDomain.CACHE)
        assert await rig.cache.instances("1.2") == [sole]


async def test_a_shred_that_was_a_mistake_is_undone(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(1_000))
        await rig.cache.shred("row-of-anne", KeyDomain.CACHE)
        rig.keys.closed.clear()
        await rig.cache.reopen("row-of-anne", KeyDomain.CACHE)
        assert await rig.cache.instances("1.2") == [kept]
        assert await read(rig.cache, kept) == body(1_000)


async def test_everything_can_be_counted_and_walked_through_and_no_other_place(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = [await put(rig.cache, head(sop=f"1.2.1.{number}"), body(1_000, number)) for number in range(5)]
        other = await put(rig.cache, head(study="1.3", sop="1.3.1", domain=KeyDomain.PUSH), body(1_000))
        assert (await rig.cache.count(), list(await rig.cache.study_uids())) == (6, ["1.2", "1.3"])
        walked: list[str] = []
        while some := await rig.cache.following(walked[-1] if walked else "00" * 16, 4):
            walked += [each.object_id for each in some]
        assert walked == sorted(each.object_id for each in [*kept, other])
        interactive, *others = await rig.store.read(lambda read: census.by_class(read, "north"))
        assert (interactive.studies, interactive.instances, interactive.sole_copies) == (2, 6, 0)
        assert [each.held_bytes for each in others] == [0, 0, 0]
        assert [each.instances for each in await rig.store.read(lambda read: census.by_class(read, "south"))] == [0] * 4


async def test_who_has_something_that_is_not_closed_is_told_and_given_up_whole(folder: Path) -> None:
    async with opened(folder) as rig:
        await put(rig.cache, head(), body(1_000))
        await put(rig.cache, head(study="1.3", sop="1.3.1", patient_row="row-of-ben"), body(1_000))
        await put(rig.cache, replace(SOLE, ref=head(study="1.4", sop="1.4.1").ref), body(1_000))
        rows = ["row-of-anne", "row-of-ben", "row-of-nobody"]
        assert await rig.cache.kept_open(rows, KeyDomain.CACHE) == ["row-of-anne", "row-of-ben"]
        assert await rig.cache.kept_open(rows, KeyDomain.PUSH) == []
        await rig.cache.shred("row-of-anne", KeyDomain.CACHE)
        assert await rig.cache.kept_open(rows, KeyDomain.CACHE) == ["row-of-ben"]
        [closed] = [each for each in await rig.store.read(lambda read: census.by_class(read, "north")) if each.studies]
        assert (closed.studies, closed.closed_studies, closed.sole_copies) == (3, 2, 1)
        assert closed.oldest_sole_copy_at == NOON
        await rig.cache.give_up("row-of-anne", KeyDomain.CACHE)
        assert list(await rig.cache.study_uids()) == ["1.3", "1.4"], "a sole copy stays"


async def test_a_caller_that_goes_away_during_its_commit_leaves_the_instance_whole(folder: Path) -> None:
    async with opened(folder) as rig:
        async with rig.cache.put(head()) as writing:
            writing.add(body(1_000))
            committing = asyncio.ensure_future(writing.commit())
            await asyncio.sleep(0)
            committing.cancel()
            await asyncio.wait([committing])
        again = await put(rig.cache, head(), body(1_000))
        assert await rig.cache.instances("1.2") == [again]


async def test_an_index_write_that_nobody_waited_for_is_not_in_its_own_way(folder: Path) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(1_000))
        settling = asyncio.ensure_future(rig.cache.settle())
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])
        await rig.store.write(lambda tx: None)  # behind it in the writer's queue
        await rig.cache.settle()
    async with opened(folder) as rig:
        assert await rig.cache.instances("1.2") == [kept]


async def test_a_second_process_does_not_add_to_the_same_packs(folder: Path) -> None:
    async with opened(folder):
        with pytest.raises(ConfigurationError, match="another process"):
            async with opened(folder):
                pass


async def test_a_study_tells_what_is_known_of_it(folder: Path) -> None:
    async with opened(folder) as rig:
        await put(rig.cache, head(custodian=SOUTH, cache_class=CacheClass.APPOINTMENT), body(10))
        await rig.cache.validated("1.2", NOON)
    async with opened(folder) as rig:
        study = await rig.cache.study("1.2")
        assert study is not None
        assert (study.cache_class, study.instances, study.validated_at) == (CacheClass.APPOINTMENT, 1, NOON)
        assert await rig.cache.study("1.9") is None
