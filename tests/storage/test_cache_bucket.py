"""The cache in a bucket: what goes wrong there, what goes on without it, and who shares it. Moto is the peer."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from gateway.model.errors import ConfigurationError, Damaged, OutOfReach
from gateway.model.work.transfers import KeyDomain
from storage.cache import index
from storage.cache.packs.frames import ID_BYTES, Extent
from storage.cache.remote.bucket import Bucket
from storage.cache.remote.packs import BucketPacks
from storage.cache.remote.reach import PROBE_MAX_S, Reach
from storage.cache.remote.settings import BucketSettings
from storage.database import Tx
from tests.clock import FakeClock
from tests.peers.fault_proxy import FaultProxy
from tests.peers.faults import Fault, Plan, always
from tests.peers.s3 import PART_BYTES, S3, TestBucket
from tests.storage.cache_rig import CANARY, MARK, Rig, body, head, in_bucket, opened, put, read

SOLE = head(sop="1.2.1.9", is_sole_copy=True)
LARGE_BYTES = 3 * PART_BYTES + 12_345


@pytest.fixture
def bucket(s3_server: S3) -> TestBucket:
    """An empty one."""
    return s3_server.bucket()


@pytest.fixture
def folder(tmp_path: Path, migrated_file: Path, bucket: TestBucket) -> Path:
    """A folder with an empty database, whose cache lies in the bucket."""
    return made(tmp_path / "north", migrated_file, bucket.settings())


@pytest.fixture
async def relay(bucket: TestBucket) -> AsyncIterator[FaultProxy]:
    """What stands between gateway and bucket."""
    async with FaultProxy(bucket.port) as proxy:
        yield proxy


@pytest.fixture
def relayed(tmp_path: Path, migrated_file: Path, bucket: TestBucket, relay: FaultProxy) -> Path:
    """As `folder`, behind the relay."""
    return made(tmp_path / "relayed", migrated_file, bucket.settings(port=relay.port))


def made(folder: Path, migrated_file: Path, settings: BucketSettings) -> Path:
    """A folder whose cache lies in this bucket."""
    folder.mkdir()
    shutil.copyfile(migrated_file, folder / "gateway.db")
    in_bucket(folder, settings)
    return folder


def on_disk(folder: Path) -> list[Path]:
    """The packs on the node's own disk."""
    return list(folder.glob("packs/*/*.pack"))


async def in_reach_again(clock: FakeClock, rig: Rig) -> None:
    """Move the clock from probe to probe until the bucket is there."""
    while not rig.objects.is_at_hand([Extent(bytes(ID_BYTES), 0, 0)]):
        await clock.advance(PROBE_MAX_S)
        await asyncio.sleep(0.01)  # the probe's request is on its way through a real socket


async def test_a_large_instance_is_put_part_by_part_into_a_pack_of_its_own(folder: Path, bucket: TestBucket) -> None:
    content = body(LARGE_BYTES)
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), content)
        assert await read(rig.cache, kept) == content
        assert (
            await read(rig.cache, kept, PART_BYTES - 3, 2 * PART_BYTES) == content[PART_BYTES - 3 : 2 * PART_BYTES + 1]
        )
        [pack] = bucket.packs()
        assert len(pack.read_bytes()) > LARGE_BYTES and bucket.uploads() == 0
    async with opened(folder) as rig:
        assert await rig.cache.verify(kept)


async def test_a_large_instance_that_was_given_up_leaves_neither_pack_nor_parts(
    folder: Path, bucket: TestBucket
) -> None:
    async with opened(folder) as rig, rig.cache.put(head()) as writing:
        for at in range(0, LARGE_BYTES, 1_000_000):
            writing.add(body(1_000_000, at))
            await writing.drain()
    assert bucket.packs() == [] and bucket.uploads() == 0


async def test_instances_that_are_committed_together_share_packs(folder: Path, bucket: TestBucket) -> None:
    async with opened(folder) as rig:
        await asyncio.gather(
            *(put(rig.cache, head(sop=f"1.2.2.{number}"), body(20_000, number)) for number in range(64))
        )
        assert len(bucket.packs()) < 16


async def test_nothing_readable_is_in_the_bucket_nor_in_its_names(folder: Path, bucket: TestBucket) -> None:
    async with opened(folder) as rig:
        await put(rig.cache, head(study="1.2.826.77", sop="1.2.826.77.1"), body(300_000))
    for key in bucket.names():
        content = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
        told = str(bucket.client.head_object(Bucket=bucket.name, Key=key).get("Metadata"))
        tags = str(bucket.client.get_object_tagging(Bucket=bucket.name, Key=key)["TagSet"])
        assert not any(word in content for word in (CANARY, b"1.2.826.77", b"row-of-anne"))
        assert (told, tags) == ("{}", "[]")
        assert re.fullmatch(r"studies/north/(owner|[0-9a-f]{2}/[0-9a-f]{32}\.pack)", key)


async def test_two_nodes_share_a_bucket_and_neither_touches_what_is_the_other_s(
    folder: Path, bucket: TestBucket, tmp_path: Path, migrated_file: Path
) -> None:
    south = made(tmp_path / "south", migrated_file, bucket.settings("south"))
    async with opened(folder) as rig, opened(south) as other:
        mine = await put(rig.cache, head(), body(1_000, 1))
        theirs = await put(other.cache, head(), body(1_000, 2))
        await rig.cache.forget("1.2", "for the test")
        await rig.cache.settle()
        assert await read(other.cache, theirs) == body(1_000, 2)
        assert await rig.cache.instances("1.2") == () and mine.object_id != theirs.object_id
    async with opened(folder), opened(south) as other:
        assert await other.cache.verify(theirs)


async def test_another_gateway_of_the_same_name_is_refused_the_node_s_part(folder: Path, bucket: TestBucket) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(1_000))
        reach = Reach(FakeClock())
        with pytest.raises(ConfigurationError, match="another gateway's"):
            async with BucketPacks(Bucket(bucket.settings(), MARK[::-1], reach), bytes):
                pass
        assert await rig.cache.verify(kept)


async def test_whatever_else_lies_in_the_bucket_is_left_alone(folder: Path, bucket: TestBucket) -> None:
    strange = ["studies/north/readme", "studies/north/ab/abc.pack", f"studies/north/zz/{'0' * 32}.pack", "other/owner"]
    for key in strange:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"not ours")
    for _ in range(2):
        async with opened(folder) as rig:
            await put(rig.cache, head(), body(1_000))
            await rig.cache.settle()
    assert set(strange) <= set(bucket.names())


async def test_a_pack_that_is_gone_is_quarantined_and_the_bucket_is_not_given_up(
    folder: Path, bucket: TestBucket
) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(1_000, 1))
        for pack in bucket.packs():
            pack.unlink()
        with pytest.raises(Damaged):
            await read(rig.cache, kept)
        assert await rig.cache.instances("1.2") == ()
        again = await put(rig.cache, head(), body(1_000, 1))
        assert await read(rig.cache, again) == body(1_000, 1)


@pytest.mark.parametrize("loss", ["emptied", "deleted"])
async def test_a_bucket_that_is_emptied_or_deleted_is_out_of_reach_and_nothing_is_quarantined(
    folder: Path, bucket: TestBucket, loss: str
) -> None:
    async with opened(folder) as rig:
        kept = await put(rig.cache, head(), body(1_000))
        sole = await put(rig.cache, SOLE, body(1_000))
        bucket.empty()
        if loss == "deleted":
            bucket.client.delete_bucket(Bucket=bucket.name)
        with pytest.raises(OutOfReach, match="emptied" if loss == "emptied" else "no such bucket"):
            await read(rig.cache, kept)
        assert await rig.cache.instances("1.2") == [sole], "what nobody else has is not passed over"


async def test_without_the_bucket_instances_pass_over_the_node_s_disk_and_those_that_must_last_are_refused(
    relayed: Path, relay: FaultProxy, bucket: TestBucket
) -> None:
    clock = FakeClock()
    async with opened(relayed, clock=clock) as rig:
        kept = await put(rig.cache, head(), body(900_000))
        async with relay.down():
            with pytest.raises(OutOfReach):
                await read(rig.cache, kept)
            with pytest.raises(OutOfReach):
                await rig.cache.verify(kept)
            assert not await rig.cache.instances("1.2"), "so that it is fetched from its holder"
            again = await put(rig.cache, head(), body(900_000))
            large = await put(rig.cache, head(sop="1.2.1.2"), body(3_000_000, 2))
            assert await read(rig.cache, again) == body(900_000)
            assert await rig.cache.instances("1.2") == [again, large]
            for refused in (SOLE, head(sop="1.2.1.8", domain=KeyDomain.PUSH)):
                with pytest.raises(OutOfReach):
                    await put(rig.cache, refused, body(1_000))
            assert len(on_disk(relayed)) == 1
        await in_reach_again(clock, rig)
        await put(rig.cache, SOLE, body(1_000))
    async with opened(relayed) as rig:
        assert await read(rig.cache, again) == body(900_000)
        assert len(await rig.cache.instances("1.2")) == 3


async def test_a_study_that_was_given_up_while_the_bucket_was_away_goes_when_it_is_back(
    relayed: Path, relay: FaultProxy, bucket: TestBucket
) -> None:
    clock = FakeClock()
    async with opened(relayed, clock=clock) as rig:
        await put(rig.cache, head(), body(1_000))
        await rig.cache.settle()
        async with relay.down():
            with pytest.raises(OutOfReach):
                await put(rig.cache, SOLE, body(1_000))
            await rig.cache.forget("1.2", "for the test")
            await rig.cache.settle()
        await in_reach_again(clock, rig)
        await rig.cache.settle()
        assert bucket.packs() == []


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET, Fault.STALL])
async def test_a_put_that_is_cut_off_is_not_called_kept_and_what_is_in_reach_again_is_whole(
    relayed: Path, relay: FaultProxy, fault: Fault
) -> None:
    clock = FakeClock()
    async with opened(relayed, clock=clock) as rig:
        kept = await put(rig.cache, head(), body(400_000))
        await relay.behave(always(asking=Plan(fault, after_bytes=100_000, lasts_s=0.1)))
        with pytest.raises(OutOfReach):
            await put(rig.cache, SOLE, body(400_000, 9))
        await relay.behave()
        await in_reach_again(clock, rig)
        sole = await put(rig.cache, SOLE, body(400_000, 9))
    async with opened(relayed) as rig:
        assert await rig.cache.instances("1.2") == [kept, sole]
        assert await rig.cache.verify(kept) and await rig.cache.verify(sole)


async def test_an_answer_that_is_cut_off_is_the_bucket_s_fault_and_not_the_instance_s(
    relayed: Path, relay: FaultProxy
) -> None:
    clock = FakeClock()
    async with opened(relayed, clock=clock) as rig:
        kept = await put(rig.cache, head(), body(400_000))
        await relay.behave(always(answering=Plan(Fault.CUT, after_bytes=100_000)))
        with pytest.raises(OutOfReach):
            await read(rig.cache, kept)
        await relay.behave()
        await in_reach_again(clock, rig)
        assert await read(rig.cache, kept) == body(400_000)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("403 Forbidden", "InvalidAccessKeyId", "refuses our credentials"),
        ("403 Forbidden", "AccessDenied", "refuses our credentials"),
        ("500 Internal Server Error", "InternalError", "does not answer as it should"),
        ("503 Slow Down", "SlowDown", "does not answer as it should"),
        ("404 Not Found", "NoSuchBucket", "no such bucket"),
    ],
)
async def test_a_bucket_that_refuses_us_says_what_to_look_at_and_no_secret(
    bucket: TestBucket, tmp_path: Path, status: str, code: str, words: str
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        told = f"<Error><Code>{code}</Code></Error>"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(told)}\r\nConnection: close\r\n\r\n{told}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1")
    async with server:
        settings = bucket.settings(port=server.sockets[0].getsockname()[1])
        with pytest.raises(OutOfReach, match=words) as caught:
            async with BucketPacks(Bucket(settings, MARK, Reach(FakeClock())), bytes):
                pass
    assert bucket.word.read_text().strip() not in str(caught.value)


async def test_credentials_that_cannot_be_read_are_told(bucket: TestBucket) -> None:
    settings = replace(bucket.settings(), access_key_file=Path("/nowhere"), secret_key_file=Path("/nowhere"))
    with pytest.raises(OutOfReach, match="credentials"):
        async with BucketPacks(Bucket(settings, MARK, Reach(FakeClock())), bytes):
            pass


async def test_what_was_refused_never_takes_the_place_of_what_was_kept_after_it(folder: Path) -> None:
    """A put whose answer was lost may have succeeded; where its pack could not be deleted, a start finds it."""
    async with opened(folder) as rig:
        refused = await put(rig.cache, head(), body(100, 1))
        newest = await put(rig.cache, head(), body(100, 2))
        await rig.cache.settle()
        await rig.cache.settle()  # indexed by the first, their packs are settled by the second
        lies = await rig.store.read(lambda read: index.where_all_lie(read, "north"))
        object_id = bytes.fromhex(refused.object_id)

        def forget(tx: Tx) -> None:
            index.unsettle(tx, [lies[object_id][0].pack_id])
            tx.connection.execute(delete(index.cache_instance).where(index.cache_instance.c.object_id == object_id))

        await rig.store.write(forget)
    for _ in range(2):
        async with opened(folder) as rig:
            assert await rig.cache.instances("1.2") == [newest]
            assert await rig.cache.count() == 2


async def test_studies_that_share_a_pack_go_one_by_one_and_it_goes_with_the_last(
    folder: Path, bucket: TestBucket
) -> None:
    clock = FakeClock()
    async with opened(folder, clock=clock) as rig:
        for some in (range(32), range(32, 64)):  # two packs at least, however few turns the machine gives us
            await asyncio.gather(
                *(put(rig.cache, head(study=f"1.{each}", sop=f"1.{each}.1"), body(1_000, each)) for each in some)
            )
            await rig.cache.settle()
        before = len(bucket.packs())
        for number in range(63):
            await rig.cache.forget(f"1.{number}", "for the test")
        await rig.cache.settle()
        assert len(bucket.packs()) == 1 < before
    async with opened(folder) as rig:
        assert list(await rig.cache.study_uids()) == ["1.63"], "nothing comes to life again"
        await rig.cache.forget("1.63", "for the test")
        await rig.cache.settle()
        assert bucket.packs() == []


async def test_a_sole_copy_whose_bucket_was_misspelt_is_there_when_it_is_spelt_right(
    folder: Path, s3_server: S3, bucket: TestBucket
) -> None:
    async with opened(folder) as rig:
        await put(rig.cache, head(), body(1_000, 1))
        sole = await put(rig.cache, SOLE, body(1_000, 2))
    in_bucket(folder, s3_server.bucket().settings())
    async with opened(folder) as rig:
        assert await rig.cache.instances("1.2") == [sole]
        await put(rig.cache, head(study="1.3", sop="1.3.1"), body(1_000, 3))
    in_bucket(folder, bucket.settings())
    async with opened(folder) as rig:
        assert sole in await rig.cache.instances("1.2")
        assert await read(rig.cache, sole) == body(1_000, 2)
