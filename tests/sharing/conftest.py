"""A region over a fresh store of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from storage.engines import DatabaseSettings
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region


@pytest.fixture
async def store(sqlite_url: str, clock: FakeClock) -> AsyncIterator[SqlStore]:
    """An empty store."""
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as opened:
        yield opened


@pytest.fixture
def region(store: SqlStore, clock: FakeClock) -> Region:
    """A region with nothing in it yet."""
    return Region(store, clock)
