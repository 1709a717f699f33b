"""A region whose archives send images, a real sealed cache and a real ledger behind one road."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.engines import DatabaseSettings
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.retrieval.travels import Travels
from tests.storage import cache_rig
from tests.storage.databases import migrated_file, sqlite_url

__all__ = ["clock", "migrated_file", "sqlite_url", "store", "travels"]


@pytest.fixture
def clock() -> FakeClock:
    """Time that a test moves."""
    return FakeClock()


@pytest.fixture
async def store(sqlite_url: str, clock: FakeClock) -> AsyncIterator[SqlStore]:
    """An empty store."""
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as opened:
        yield opened


@pytest.fixture
async def travels(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Travels]:
    """Anne is in RZ1's care, and RZ2 and RZ3 hold studies."""
    async with cache_rig.opened_on(store, tmp_path, clock) as rig:
        travels = Travels(store, clock, rig.cache, tmp_path / "packs")
        yield travels
        await travels.road.close()
