"""One running region for all stories, and the doors through which the same story is told.

A story asks by `door.studies(...)`; each further protocol joins as one more parameter of `door`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.demo.region import VIEWER, Region
from gateway.demo.viewer import Answer, Viewer


class Door:
    """One protocol's way into the gateway, for any caller of the region."""

    def __init__(self, protocol: str, region: Region) -> None:
        self._protocol = protocol
        self._region = region
        self._open: dict[str, Viewer] = {}
        self._stack = AsyncExitStack()

    async def studies(self, *, caller: str = VIEWER, purpose: str = "", trust: str = "", **keys: str) -> Answer:
        """Search studies as this caller."""
        assert self._protocol == "qido"
        return await (await self.viewer(caller)).studies(purpose=purpose, trust=trust, **keys)

    async def viewer(self, caller: str) -> Viewer:
        """The caller's viewer, connected."""
        if caller not in self._open:
            viewer = Viewer(self._region.machines_url, self._region.authority, self._region.key_pair(caller))
            self._open[caller] = await self._stack.enter_async_context(viewer)
        return self._open[caller]

    async def close(self) -> None:
        """Hang up."""
        await self._stack.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def region(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Region]:
    """The running region. A story that changes a register changes it back, or uses a patient of its own."""
    async with Region(tmp_path_factory.mktemp("region")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", params=["qido"])
async def door(region: Region, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """A door into the region's gateway."""
    opened = Door(request.param, region)
    try:
        yield opened
    finally:
        await opened.close()
        for archive in region.archives.values():
            await archive.behave()
