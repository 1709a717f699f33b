"""The scenario of a report that a trust stores as a DICOM object, from its arrival to its filing.

As `storage_scenarios`, in a process that may be killed. One that starts again finds its predecessor's leases over; the
sender stores the object again only where nothing was acknowledged to it (`IS_STORED` in the environment).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from gateway.model.reporting.incoming import IncomingReport
from gateway.model.work.jobs import Job, Lane, Progress
from gateway.model.work.transfers import InstanceRef
from gateway.release.clinicians.arriving import ARRIVED, Arrivals
from gateway.release.clinicians.custodians import Organisations
from gateway.release.contents import Contents
from gateway.release.intake import Intake
from policy.release.circumstances import Plan, ReleaseState
from policy.release.reports import Standing
from storage.database import Tx
from storage.release import reports
from storage.store import SqlStore, new_id
from storage.work import jobs
from tests.clinicians.documents import observer, structured
from tests.clock import NOON, FakeClock
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.instances.test_coercion import encoded
from tests.storage import cache_rig
from tests.storage.cache_rig import LITTLE, NORTH, Rig

DATASET = structured(observers=[observer("20261120091500+0000")])
REF = InstanceRef(DATASET.StudyInstanceUID, DATASET.SeriesInstanceUID, DATASET.SOPInstanceUID, DATASET.SOPClassUID)
LEASE = timedelta(minutes=1)
RESTARTED_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Door:
    """Where objects arrive."""

    store: SqlStore
    images: Rig
    arrivals: Arrivals
    contents: Contents

    async def stored(self) -> None:
        """What a store door does before it answers."""
        await self.arrivals.coming(REF, NORTH)
        await cache_rig.put(self.images.cache, cache_rig.head(ref=REF), encoded(DATASET, LITTLE))

    async def look(self) -> None:
        """What the runner does by now."""
        await self.store.write(lambda tx: jobs.give_back_expired(tx, lease_now=tx.now))
        claim = partial(jobs.claim, owner="north", lane=Lane.BACKGROUND, limit=10, lease=LEASE, kinds=[ARRIVED])
        for job in await self.store.write(lambda tx: claim(tx, lease_now=tx.now)):
            await self.arrivals(Errand(job))
            await self.store.write(partial(jobs.finish, held=job.claim))

    async def text(self) -> list[str]:
        """What each version of every report says."""
        kept = await self.store.read(lambda read: reports.find(read, NORTH, "F1"))
        if kept is None:
            return []
        versions = await self.store.read(lambda read: reports.versions(read, kept.report_id))
        opened: list[IncomingReport] = [await self.contents.open(each.version_id) for each in versions]
        return [each.content.text for each in opened]


@dataclass
class Errand:
    """A job in its handler's hands (`gateway.jobs.runner.Work`)."""

    job: Job

    def advance(self, progress: Progress) -> None:
        """Nobody looks."""


@asynccontextmanager
async def opened(run: Run, *, minutes: float = 0) -> AsyncIterator[Door]:
    """The door of a folder, some minutes after the begin."""
    clock = FakeClock(NOON + timedelta(minutes=minutes))
    async with (
        SqlStore(run.settings, node="north", clock=clock) as store,
        cache_rig.opened_on(store, run.folder / "packs", clock) as images,
    ):
        intake = Intake(store, images.keys, _plan, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)
        contents = Contents(store, images.keys)
        arrivals = Arrivals(store, images.cache, intake, contents, lambda: Organisations({}, {}), clock)
        yield Door(store, images, arrivals, contents)


def _plan(tx: Tx, report_id: str) -> None:
    reports.settle(tx, report_id, Plan(ReleaseState.EMBARGOED), Standing.VERIFIED, "planned")


async def arrives(run: Run) -> None:
    """It is stored and acknowledged; then it is filed."""
    begun = run.folder / "begun"
    minutes = RESTARTED_AFTER.total_seconds() / 60 if begun.exists() else 0
    begun.touch()
    async with opened(run, minutes=minutes) as door:
        if not os.environ.get("IS_STORED"):
            await run.step("stored", door.stored)
    async with opened(run, minutes=minutes + 1) as door:
        await run.step("filed", door.look)


SCENARIOS: Scenarios = {"arrives": arrives}

if __name__ == "__main__":
    serve(SCENARIOS)
