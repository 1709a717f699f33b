"""The road while the cache's bucket is out of reach: images come from their archives, or are said to be missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.model.work.retrievals import Counts
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.peers.fault_proxy import FaultProxy
from tests.peers.s3 import S3
from tests.retrieval.travels import Travels, uids, whole
from tests.sharing.rows import ANNE
from tests.storage import cache_rig


@pytest.fixture
async def relay(s3_server: S3) -> AsyncIterator[FaultProxy]:
    """What stands between gateway and bucket."""
    async with FaultProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
async def travels(
    store: SqlStore, clock: FakeClock, tmp_path: Path, s3_server: S3, relay: FaultProxy
) -> AsyncIterator[Travels]:
    """As elsewhere in this folder, with the cache in a bucket."""
    cache_rig.in_bucket(tmp_path, s3_server.bucket().settings(port=relay.port))
    async with cache_rig.opened_on(store, tmp_path, clock) as rig:
        yield Travels(store, clock, rig.cache, tmp_path / "packs")


async def test_a_kept_study_comes_from_its_archive_once_the_bucket_is_lost_and_is_kept_on_the_disk_then(
    travels: Travels, relay: FaultProxy
) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    await travels.region.refer(ANNE, to="RZ1")
    assert (await travels.brought())[0] == uids(held)
    async with relay.down():
        got, delivery = await travels.brought()
        assert got == uids(held) and delivery.counts == Counts(0, 3, 0, 0)
        fetched = len(travels.region.trust("RZ2").pacs.fetches)
        assert fetched > 1
        assert (await travels.brought())[0] == uids(held)
        assert len(travels.region.trust("RZ2").pacs.fetches) == fetched, "the disk has it now"


async def test_a_cold_study_passes_while_the_bucket_is_known_to_be_away(travels: Travels, relay: FaultProxy) -> None:
    kept = travels.hold("RZ2", "1.2.3.1")
    cold = travels.hold("RZ2", "1.2.4.1", "1.2.4.2", study="1.2.4")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    async with relay.down():
        assert (await travels.brought())[0] == uids(kept)
        got, delivery = await travels.brought(whole("1.2.4"))
        assert got == uids(cold) and delivery.failures == ()


async def test_what_neither_bucket_nor_archive_gives_has_failed_and_is_not_passed_over(
    travels: Travels, relay: FaultProxy
) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()

    async def broken(_ref: object) -> None:
        raise ConnectionError("the archive went away")

    travels.region.trust("RZ2").pacs.pace = broken
    async with relay.down():
        got, delivery = await travels.brought()
    assert got == {} and delivery.counts == Counts(0, 0, 2, 0)
