"""The release of reports over a store and keys on disk, put together as its tests put it together, in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.model.reporting.channels import Channel
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.store import SqlStore
from tests.release.release_rig import Rig
from tests.storage.keyrings import Place


class RealClock:
    """Real time, or time that is ahead of it or behind (`gateway.model.seams.Clock`)."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        """The present instant of this clock."""
        return datetime.now(UTC) + self._ahead

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await asyncio.sleep(delay_s)


@asynccontextmanager
async def release_over(folder: Path, clock: RealClock, *channels: Channel) -> AsyncIterator[Rig]:
    """One process's release, over the store and the keys of a folder, which are made if there are none."""
    database = DatabaseSettings(f"sqlite:///{folder / 'gateway.db'}")
    await asyncio.to_thread(upgrade, database)
    place = Place(folder / "keys", clock)  # type: ignore[arg-type]  # a clock that nobody moves serves as well
    async with SqlStore(database, node="bench-1", clock=clock) as store, place.keyring() as keys:
        yield Rig(store, keys, clock, *channels)  # type: ignore[arg-type]  # as above
