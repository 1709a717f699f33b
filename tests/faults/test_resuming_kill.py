"""SIGKILL while a retrieval is gone on with: the next start goes on, nothing is lost, and nothing counts twice.

A C-MOVE whose workstation had no room for any of it, in the real gateway; a coordinator has it sent after all, and the
gateway is killed at one step after the other, at last while an image is on its way. What a workstation took and the
ledger did not hear of is sent again, under the same UIDs (PS3.4 B.2).
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.configuration import AE_TITLES, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.faults.test_image_road import ended, open_on_disk, start
from tests.forked import Forks
from tests.stories.fetching import kept_at
from tests.stories.test_resuming import until_ended
from tests.stories.test_retrieving import assert_as_kept

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

STUDY, HOLDER = cast.ANNE_HEAD_CT, "RZ2"
OUT_OF_ROOM = 0xA700
LEASE_S = 5.0
"""The shortest there is: so long a job waits after its runner was killed."""
STEPS = ("question.attempt.after", "ledger.freeze.between", "objects.sync.after", "ledger.note.before")
HANG_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    async with Region(tmp_path_factory.mktemp("resumed"), start=forks.start) as running:
        await running.stop_gateway()
        written = running.configuration.read_text(encoding="utf-8")
        leases = written.replace("[jobs]\n", f"[jobs]\nlease_s = {LEASE_S}\n")
        running.configuration.write_text(leases, encoding="utf-8")
        yield running


async def broken_off(region: Region) -> str:
    """A C-MOVE to a workstation without room; the retrieval's id."""
    async with region.workstation(VIEWER) as workstation:
        with workstation.receiving(region.receiving_port) as shelf:
            shelf.refuses = lambda _: OUT_OF_ROOM
            keys = {"StudyInstanceUID": study_instance_uid(STUDY)}
            missed = await workstation.move(AE_TITLES[VIEWER], shelf, **keys)
    assert not missed.is_whole and missed.images == {}
    [newest, *_] = json.loads(await region.must("retrieve", "list", "--failed", "--json"))
    return str(newest["retrieval"])


async def attempts(region: Region, job: str) -> int:
    shown = json.loads(await region.must("jobs", "show", job, "--json"))
    return int(str(shown["attempts"]).partition(" ")[0])


async def killed(region: Region) -> None:
    """Wait until the gateway is killed."""
    assert region.gateway is not None
    async with asyncio.timeout(HANG_S):
        assert await region.gateway.wait() == -signal.SIGKILL
    await ended(region)


async def test_a_retrieval_that_is_gone_on_with_outlives_kills_and_loses_nothing(region: Region) -> None:
    kept = kept_at(region, HOLDER, STUDY)
    await region.start_gateway()
    retrieval = await broken_off(region)
    await region.must("cache", "evict", "--all", "--by", "coordinator")
    await ended(region)
    [resumed] = json.loads(await region.must("retrieve", "resume", retrieval, "--by", "coordinator", "--json"))
    job, came = resumed["job"], Counter[str]()
    async with region.workstation(VIEWER) as workstation:
        with workstation.receiving(region.receiving_port) as shelf:

            def take(uid: str) -> int:
                came[uid] += 1
                if len(came) == 2 and region.gateway is not None and came[uid] == 1:
                    region.gateway.kill()
                return 0

            for count, step in enumerate(STEPS, 1):
                await start(region, GATEWAY_FAULTS=f"{step}=kill@1")
                await killed(region)
                assert await attempts(region, job) == count, step
                assert await asyncio.to_thread(open_on_disk, region, *kept.values()) == [], step
            shelf.refuses = take
            await region.start_gateway()
            await killed(region)
            await region.start_gateway()
            assert await until_ended(region, job) == "done"
    assert_as_kept(shelf.images, kept)
    assert came.keys() == kept.keys() and max(came.values()) <= 2
    shown = json.loads(await region.must("retrieve", "show", retrieval, "--json"))
    assert [(each["resumed_by"], each["attempts"]) for each in shown["resumed"]] == [(job, len(STEPS) + 2)]
    again = await region.command("retrieve", "resume", retrieval, "--by", "coordinator")
    assert "everything of the retrieval was delivered" in again.errors
    verified = await region.command("audit", "verify")
    assert verified.status == 0, verified.output + verified.errors
    await ended(region)
