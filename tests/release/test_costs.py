"""Filing a report costs the same among many as among few: counted in the database's own steps, not in time."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from bench.rig.reports.messages import nhs_number
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import SARAH
from tests.release.release_rig import Rig, verified
from tests.storage.keyrings import Place

STEPS_AT_ONCE: Final = 10
FEW, MANY = 30, 300
GROWTH_MAX: Final = 1.3
"""A tree of ten times as many rows is deeper by a page; a walk through them costs ten times as much."""


class Steps:
    """Counts what SQLite's machine works off for the store's writer."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, tx: Tx) -> None:
        """Have the driver call at every few steps."""
        driver = tx.connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(self._worked, STEPS_AT_ONCE)

    def _worked(self) -> int:
        self.count += STEPS_AT_ONCE
        return 0


@pytest.fixture
async def rig(clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    settings = DatabaseSettings(f"sqlite:///{tmp_path / 'gateway.db'}")
    upgrade(settings)
    async with SqlStore(settings, node="one", clock=clock) as store, Place(tmp_path / "keys", clock).keyring() as keys:
        yield Rig(store, keys, clock)


async def test_a_report_of_a_new_patient_costs_the_same_among_many(rig: Rig) -> None:
    steps = Steps()
    await rig.store.write(steps.watch)
    costs = list[int]()
    for number in range(MANY):
        before = steps.count
        subject = replace(SARAH, nhs_number=nhs_number(number), local=())
        await rig.file(
            verified(subject=subject, report_number=f"R-{number}", accessions=(f"A-{number}",)), f"m-{number}"
        )
        costs.append(steps.count - before)
    few, many = sorted(costs[FEW - 9 : FEW])[4], sorted(costs[-9:])[4]
    assert few > 0
    assert many <= GROWTH_MAX * few, f"{few} steps among {FEW}, {many} among {MANY}"
