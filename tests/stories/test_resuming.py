"""A retrieval that ended with something missing, gone on with by a coordinator, in the real gateway.

The workstation that images were sent to was not there; what it lacks is sent when it is, by what may be had then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.callers.retriever import Shelf
from gateway.demo.configuration import AE_TITLES, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import told_in
from tests.stories.fetching import kept_at
from tests.stories.test_retrieving import assert_as_kept

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_S = 60.0


@pytest_asyncio.fixture(loop_scope="session")
async def broken_off(region: Region) -> AsyncIterator[str]:
    """A C-MOVE of Anne's heart to a workstation that takes nothing; the retrieval's id."""
    async with told_in(region), region.workstation(VIEWER) as workstation:
        study_uid = study_instance_uid(cast.ANNE_HEART_US)
        missed = await workstation.move(AE_TITLES[VIEWER], Shelf(), StudyInstanceUID=study_uid)
        assert not missed.is_whole and missed.images == {}
        [newest, *_] = json.loads(await region.must("retrieve", "list", "--failed", "--json"))
        assert newest["to"] == AE_TITLES[VIEWER]
        yield newest["retrieval"]


async def until_ended(region: Region, job: str) -> str:
    """How a job ended."""
    async with asyncio.timeout(HANG_S):
        while (state := json.loads(await region.must("jobs", "show", job, "--json"))["state"]) in ("ready", "running"):
            pass
    return str(state)


async def test_what_a_workstation_missed_is_sent_to_it_when_it_is_there(region: Region, broken_off: str) -> None:
    kept = kept_at(region, "RZ3", cast.ANNE_HEART_US)
    async with region.workstation(VIEWER) as workstation:
        with workstation.receiving(region.receiving_port) as shelf:
            [resumed] = json.loads(await region.must("retrieve", "resume", broken_off, "--by", "coordinator", "--json"))
            assert await until_ended(region, resumed["job"]) == "done"
    assert_as_kept(shelf.images, kept)
    shown = json.loads(await region.must("retrieve", "show", broken_off, "--json"))
    assert shown["failed"] == len(kept) and shown["resumed"][0]["instances"] == f"{len(kept)} of {len(kept)}"
    asked = json.loads(await region.must("audit", "show", "--request", resumed["job"], "--json"))
    assert [record["said"]["event"] for record in asked] == ["retrieve-attempt", "retrieve-outcome"]
    result = await region.command("retrieve", "resume", broken_off, "--by", "coordinator")
    assert "everything of the retrieval was delivered" in result.errors
