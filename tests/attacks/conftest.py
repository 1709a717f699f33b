"""What attacks are carried out upon: a core over a real store, and a whole region."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.attacks.house import House, housed
from tests.storage.databases import migrated_file, sqlite_url

__all__ = ["house", "migrated_file", "sqlite_url"]


@pytest_asyncio.fixture
async def house(sqlite_url: str) -> AsyncIterator[House]:
    """A core whose archives hold what a test puts there; Anne is in the care of the asking trust, and so is Ben."""
    async with housed(sqlite_url) as opened:
        yield opened
