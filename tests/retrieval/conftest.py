"""A region whose archives send images, a real sealed cache and a real ledger behind one road."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sharing.intake.reception import Reception
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.retrieval.pushing import receiving
from tests.retrieval.travels import Travels
from tests.sharing.conftest import store
from tests.storage import cache_rig

__all__ = ["store", "travels"]


@pytest.fixture
async def travels(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Travels]:
    """Anne is in RZ1's care, and RZ2 and RZ3 hold studies."""
    async with cache_rig.opened_on(store, tmp_path, clock) as rig:
        travels = Travels(store, clock, rig.cache, tmp_path / "packs")
        yield travels
        await travels.road.close()


@pytest.fixture
async def reception(travels: Travels) -> AsyncIterator[Reception]:
    """Where RZ2's archive sends."""
    async with receiving(travels) as opened:
        yield opened
