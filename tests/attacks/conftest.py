"""What attacks are carried out upon: a core over a real store, and a whole region."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.attacked import AttackedRegion
from tests.attacks.house import House, housed
from tests.sharing.conftest import clock, store
from tests.storage.databases import migrated_file, sqlite_url

__all__ = ["attacked", "clock", "house", "migrated_file", "sqlite_url", "store"]


@pytest_asyncio.fixture
async def house(sqlite_url: str) -> AsyncIterator[House]:
    """A core whose archives hold what a test puts there; Anne is in the care of the asking trust, and so is Ben."""
    async with housed(sqlite_url) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AttackedRegion]:
    """A running region under attack. A test that changes it changes it back."""
    region = AttackedRegion(tmp_path_factory.mktemp("attacked"))
    async with region.hostile_archive(), region:
        yield region
