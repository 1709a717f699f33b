"""SIGKILL under the study cache in a bucket: nothing acknowledged is lost, none shown in part, nothing left behind.

As `test_cache_kill`, between put and index, and between index and delete (I1 to I3, G1).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bucket_scenarios import SCENARIOS
from tests.faults.storage_scenarios import Zygote
from tests.faults.test_cache_kill import check, fresh
from tests.peers.s3 import S3
from tests.storage.cache_rig import in_bucket


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.faults.bucket_scenarios") as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_no_kill_between_put_and_index_loses_halves_or_leaves_anything(
    zygote: Zygote, s3_server: S3, migrated_file: Path, memory: Path, scenario: str
) -> None:
    def emptied() -> Path:
        folder = fresh(memory / "run", migrated_file)
        in_bucket(folder, s3_server.bucket().settings())
        return folder

    passages = zygote.passages(scenario, emptied(), ("bucket.", "cache."))
    killed = 0
    for point, passage in passages:
        folder, where = emptied(), f"{point}=kill@{passage}"
        status, acknowledged = zygote.run(scenario, folder, GATEWAY_FAULTS=where)
        assert status in (0, -signal.SIGKILL), where
        killed += status != 0
        await check(folder, acknowledged, where)
    assert killed > len(passages) // 2
