"""What attacks are carried out upon: a core over a real store, and a whole region."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.attacked import AttackedRegion
from tests.attacks.house import House, housed
from tests.forked import Forks
from tests.sharing.conftest import store

__all__ = ["attacked", "house", "store"]


@pytest_asyncio.fixture
async def house(sqlite_url: str) -> AsyncIterator[House]:
    """A core whose archives hold what a test puts there; Anne is in the care of the asking trust, and so is Ben."""
    async with housed(sqlite_url) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def attacked(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[AttackedRegion]:
    """A running region under attack. A test that changes it changes it back."""
    region = AttackedRegion(tmp_path_factory.mktemp("attacked"), forks.start)
    async with region.hostile_archive(), region:
        yield region
