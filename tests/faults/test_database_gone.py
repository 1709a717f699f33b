"""The database goes away under a serving gateway and comes back: a fault told to everybody, and nothing lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE, ANNE_HEART_US, BEN, CLARA, FAITH
from gateway.demo.configuration import PACS_CALLER, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.faults.test_image_road import is_kept, made
from tests.forked import Forks
from tests.peers.postgres import Postgres, running_postgres

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.peer, pytest.mark.timeout(300)]

HANG_GUARD_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server of this module's own, because it is stopped."""
    with running_postgres() as postgres:
        if not postgres.is_ours:
            pytest.skip("the given server is not ours to stop")
        yield postgres


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(server: Postgres, tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    url = server.create_database().replace("postgresql://", "postgresql+psycopg://")
    async with Region(tmp_path_factory.mktemp("on-postgres"), storage_url=url, start=forks.start) as running:
        yield running


async def probe(region: Region, path: str) -> int:
    """The status of one of the people's door's probes."""
    context = ssl.create_default_context(cafile=str(region.authority))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(f"{region.people_url}/{path}") as answer,
    ):
        return answer.status


async def until(region: Region, path: str, status: int) -> None:
    """Wait until a probe says so."""
    async with asyncio.timeout(HANG_GUARD_S):
        while await probe(region, path) != status:
            pass


async def test_a_database_that_goes_and_comes_back(region: Region, server: Postgres) -> None:
    async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
        before = await viewer.studies(PatientID=ANNE.nhs_number)
        assert before.studies

        await asyncio.to_thread(server.stop, crash=True)
        try:
            for patient in (ANNE, BEN, CLARA, FAITH):
                answer = await viewer.studies(PatientID=patient.nhs_number)
                assert answer.status == 503
                assert answer.problem["detail"] in ("sharing not checked", "not recorded")
                assert int(answer.headers["Retry-After"]) > 0
            await until(region, "ready", 503)
            assert await probe(region, "live") == 200
            refused = await region.command("audit", "verify")
            assert refused.status == 1
            assert "database" in refused.errors
        finally:
            await asyncio.to_thread(server.start)

        await until(region, "ready", 200)
        after = await viewer.studies(PatientID=ANNE.nhs_number)
        assert after.studies == before.studies
    verified = await region.command("audit", "verify")
    assert verified.status == 0, verified.output + verified.errors


async def test_a_database_that_goes_and_comes_back_takes_no_image_and_gives_none_meanwhile(
    region: Region, server: Postgres
) -> None:
    study = f"studies/{study_instance_uid(ANNE_HEART_US)}"
    async with (
        Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer,
        Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as sender,
    ):
        kept, pushed = await viewer.retrieve(study), made()
        assert kept.is_whole and kept.images
        await asyncio.to_thread(server.stop, crash=True)
        try:
            assert (await viewer.retrieve(study)).status == 503
            status, answer = await sender.store(pushed.image.file)
            assert status == 503 and answer["detail"] in ("sharing not checked", "not recorded")
        finally:
            await asyncio.to_thread(server.start)
        await until(region, "ready", 200)
        assert (await viewer.retrieve(study)).images == kept.images
        assert (await viewer.retrieve(f"studies/{pushed.study_uid}")).status == 404
        status, _ = await sender.store(pushed.image.file)
        assert status == 200
        assert is_kept(pushed, dict((await viewer.retrieve(f"studies/{pushed.study_uid}")).images))
