"""One running region for all stories, and the doors through which the same story is told.

A story asks by `door.studies(...)`, over QIDO and over C-FIND; what only QIDO has (own archive, purposes, pages,
headers) is told through the fixture `viewer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import pytest
import pytest_asyncio

from gateway.demo.callers.answer import Answer, Outcome
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.configuration import VIEWER
from gateway.demo.region import Region
from tests.forked import Forks

HEARD_AGAIN_S = 60.0
"""A hang guard: an archive that failed is left alone for a few seconds."""
NOWHERE = "1.2.826.0.1.3680043.8.498.9"
"""A study that nobody has."""


class Door(Protocol):
    """One protocol's way into the gateway, for any caller of the region."""

    async def studies(self, *, caller: str = VIEWER, **keys: str) -> Answer:
        """Search studies as this caller."""

    async def series(self, study_uid: str) -> Answer:
        """List the series of a study as Northmoor's viewer."""

    async def images(self, study_uid: str, series_uid: str) -> Answer:
        """List the images of a series as Northmoor's viewer."""


class QidoDoor:
    """By QIDO-RS."""

    def __init__(self, region: Region, stack: AsyncExitStack) -> None:
        self._region = region
        self._stack = stack
        self._open: dict[str, Viewer] = {}

    async def studies(self, *, caller: str = VIEWER, **keys: str) -> Answer:
        """See `Door`."""
        return await (await self.viewer(caller)).studies(**keys)

    async def series(self, study_uid: str) -> Answer:
        """See `Door`."""
        return await (await self.viewer(VIEWER)).search(f"studies/{study_uid}/series")

    async def images(self, study_uid: str, series_uid: str) -> Answer:
        """See `Door`."""
        return await (await self.viewer(VIEWER)).search(f"studies/{study_uid}/series/{series_uid}/instances")

    async def viewer(self, caller: str) -> Viewer:
        """The caller's viewer, connected."""
        if caller not in self._open:
            viewer = Viewer(self._region.machines_url, self._region.authority, self._region.key_pair(caller))
            self._open[caller] = await self._stack.enter_async_context(viewer)
        return self._open[caller]


class FindDoor:
    """By C-FIND."""

    def __init__(self, region: Region, stack: AsyncExitStack) -> None:
        self._region = region
        self._stack = stack
        self._open: dict[str, Workstation] = {}

    async def studies(self, *, caller: str = VIEWER, **keys: str) -> Answer:
        """See `Door`."""
        return await (await self.workstation(caller)).studies(**keys)

    async def series(self, study_uid: str) -> Answer:
        """See `Door`."""
        return await (await self.workstation(VIEWER)).find("SERIES", StudyInstanceUID=study_uid)

    async def images(self, study_uid: str, series_uid: str) -> Answer:
        """See `Door`."""
        above = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        return await (await self.workstation(VIEWER)).find("IMAGE", **above)

    async def workstation(self, caller: str) -> Workstation:
        """The caller's workstation."""
        if caller not in self._open:
            self._open[caller] = await self._stack.enter_async_context(self._region.workstation(caller))
        return self._open[caller]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    """The running region. A story that changes a register changes it back, or uses a patient of its own."""
    async with Region(tmp_path_factory.mktemp("region"), start=forks.start) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", params=["qido", "c-find"])
async def door(region: Region, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """A door into the region's gateway, by either protocol."""
    async with told_in(region) as stack:
        yield QidoDoor(region, stack) if request.param == "qido" else FindDoor(region, stack)


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(region: Region) -> AsyncIterator[Viewer]:
    """Northmoor's viewer, for what only QIDO has."""
    async with told_in(region) as stack:
        yield await QidoDoor(region, stack).viewer(VIEWER)


@asynccontextmanager
async def told_in(region: Region) -> AsyncIterator[AsyncExitStack]:
    """Hang up when a story is over, make every archive honest again, and wait until none is left alone any more."""
    async with AsyncExitStack() as stack:
        yield stack
        for archive in region.archives.values():
            await archive.behave()
        async with asyncio.timeout(HEARD_AGAIN_S):
            while not await _all_are_heard(await QidoDoor(region, stack).viewer(VIEWER)):
                pass  # an answer without rows takes its time: this asks a few times a second


async def _all_are_heard(viewer: Viewer) -> bool:
    """Whether no trust is missing in an answer."""
    answer = await viewer.studies(StudyInstanceUID=NOWHERE)
    return answer.outcome is Outcome.ANSWERED and not answer.missing
