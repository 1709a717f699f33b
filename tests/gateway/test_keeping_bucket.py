"""A node whose images lie in a bucket: it opens, says why it cannot, and goes on without it. Moto is the peer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.model.errors import OutOfReach, StoreFull
from storage.cache.remote.reach import PROBE_MAX_S
from tests.clock import FakeClock
from tests.gateway.commands import Commands
from tests.gateway.commands import gateway as gateway  # the fixture
from tests.gateway.keeping_rig import Kept, Place
from tests.gateway.test_cli_keeping import nothing, served
from tests.gateway.test_keeping import CONTENT, patient_with_a_study, put, read
from tests.peers.fault_proxy import FaultProxy
from tests.peers.s3 import S3, TestBucket
from tests.storage.cache_rig import head


@pytest.fixture
def bucket(s3_server: S3) -> TestBucket:
    """An empty one."""
    return s3_server.bucket()


def section(bucket: TestBucket, port: int, more: str = "") -> str:
    """What a configuration says of it."""
    return f"""
[cache]
store = "s3"
{more}
[cache.s3]
bucket = "{bucket.name}"
endpoint = "http://127.0.0.1:{port}"
access_key_file = "{bucket.word}"
secret_key_file = "{bucket.word}"
retries_max = 0
"""


async def kept_and_read(kept: Kept) -> None:
    """A study comes in and is given."""
    assert kept.fault == ""
    _, instance = await patient_with_a_study(kept)
    assert await read(kept, instance) == CONTENT


async def test_a_node_keeps_its_studies_in_its_part_of_the_bucket(tmp_path: Path, bucket: TestBucket) -> None:
    place = Place(tmp_path, FakeClock())
    place.more = [section(bucket, bucket.port)]
    async with place.open() as kept:
        await kept_and_read(kept)
    assert bucket.packs() and all(name.startswith("node-1/") for name in bucket.names())
    async with place.open() as kept:
        [found] = await kept.keeping.cache.instances("1.2")
        assert await read(kept, found) == CONTENT


async def test_a_gateway_with_another_database_does_not_take_a_node_s_part(tmp_path: Path, bucket: TestBucket) -> None:
    for number, said in enumerate(["", "another gateway's"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        place = Place(folder, FakeClock())
        place.more = [section(bucket, bucket.port)]
        async with place.open() as kept:
            assert said in kept.fault and bool(said) == bool(kept.fault)


async def test_a_bucket_that_is_away_at_the_start_is_told_and_opened_once_it_is_back(
    tmp_path: Path, bucket: TestBucket
) -> None:
    place = Place(tmp_path, FakeClock())
    async with FaultProxy(bucket.port) as relay:
        place.more = [section(bucket, relay.port)]
        async with relay.down():
            opening = place.open()
            kept = await opening.__aenter__()
            assert "the bucket does not answer" in kept.fault
            with pytest.raises(OutOfReach):
                await kept.keeping.cache.study("1.2")
        await kept.keeping.look()
        await kept_and_read(kept)
        await opening.__aexit__(None, None, None)


async def test_a_full_disk_is_asked_for_room_only_when_the_bucket_is_away(tmp_path: Path, bucket: TestBucket) -> None:
    place = Place(tmp_path, FakeClock())
    async with FaultProxy(bucket.port) as relay:
        place.more = [section(bucket, relay.port, more=f"disk_reserve_bytes = {2**50}")]
        async with place.open() as kept:
            anne, instance = await patient_with_a_study(kept)
            async with relay.down():
                with pytest.raises(OutOfReach):
                    await read(kept, instance)
                with pytest.raises(StoreFull):
                    await put(kept, head(sop="1.2.1.2", patient_row=anne))


async def test_a_bucket_that_is_lost_meanwhile_is_told_and_the_doors_of_images_stay_open(
    tmp_path: Path, bucket: TestBucket
) -> None:
    clock = FakeClock()
    place = Place(tmp_path, clock)
    async with FaultProxy(bucket.port) as relay:
        place.more = [section(bucket, relay.port)]
        async with place.open() as kept:
            anne, instance = await patient_with_a_study(kept)
            async with relay.down():
                with pytest.raises(OutOfReach):
                    await read(kept, instance)
                await kept.keeping.look()
                assert "the bucket does not answer" in kept.fault
                again = await put(kept, head(sop="1.2.1.2", patient_row=anne))
                assert await read(kept, again) == CONTENT
            while kept.fault:
                await clock.advance(PROBE_MAX_S)
                await asyncio.sleep(0.01)  # the probe's request is on its way through a real socket
                await kept.keeping.look()
            assert await read(kept, instance) == CONTENT


@pytest.mark.parametrize(("is_there", "said"), [(True, "in reach"), (False, "there is no such bucket")])
def test_the_command_says_how_the_bucket_is(gateway: Commands, s3_server: S3, is_there: bool, said: str) -> None:
    bucket = s3_server.bucket()
    gateway.path.write_text(gateway.path.read_text(encoding="utf-8") + section(bucket, bucket.port), encoding="utf-8")
    served(gateway, nothing)
    if not is_there:
        bucket.empty()
        bucket.client.delete_bucket(Bucket=bucket.name)
    assert f"bucket {bucket.name}: {said}" in gateway.do("cache", "status")
    told = gateway.json("cache", "status")
    assert told["bucket"]["name"] == bucket.name and bool(told["bucket"]["fault"]) != is_there
