"""The scenario of a release: given, told, corrected, taken back, given again; by a process that may be killed.

As `storage_scenarios`. What the portal was asked stands in a file, line by line, as another process would know it. A
folder in which the scenario ran before is taken up at a later time, as after a restart.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from gateway.model.reporting.channels import Addressee, Outcome, PatientReport, Rendering
from policy.release.reports import Said
from tests.clock import FakeClock
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.release.portal import CONFIRMED, Portal
from tests.release.release_rig import DUE_AT, MONDAY, Rig, opened, verified

CORRECTED_AT = DUE_AT + timedelta(days=1)
CORRECTED_DUE_AT = CORRECTED_AT + timedelta(days=28)
AFTERWARDS = CORRECTED_DUE_AT + timedelta(hours=2)


class WrittenPortal(Portal):
    """A portal that writes down whatever it is asked, before it answers."""

    def __init__(self, folder: Path, *, is_idempotent: bool) -> None:
        super().__init__(is_idempotent=is_idempotent)
        self._file = folder / "portal"

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        self._write("put", report.document_key)
        return CONFIRMED

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`."""
        self._write("told", report.document_key)
        return CONFIRMED

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        self._write("withdrawn", document_key)
        return CONFIRMED

    def _write(self, what: str, document_key: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{what} {document_key}\n")
            os.fsync(file.fileno())


def asked(folder: Path) -> tuple[Counter[str], set[str]]:
    """How often the portal of a folder was asked what, and which documents it shows."""
    file = folder / "portal"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    shown: set[str] = set()
    for line in lines:
        what, key = line.split()
        if what == "put":
            shown.add(key)
        elif what == "withdrawn":
            shown.discard(key)
    return Counter(lines), shown


def next_start(folder: Path) -> datetime:
    """When the next process starts over a folder: the first in time for all, each later one a week after the last."""
    file = folder / "starts"
    before = len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0
    return AFTERWARDS + timedelta(weeks=before - 1) if before else MONDAY + timedelta(minutes=2)


async def _way(run: Run, *, is_idempotent: bool) -> None:
    starts_at = next_start(run.folder)
    with (run.folder / "starts").open("a", encoding="utf-8") as starts:
        starts.write("another\n")
    portal = WrittenPortal(run.folder, is_idempotent=is_idempotent)
    async with opened(run.folder, run.settings.url, portal, clock=FakeClock(starts_at)) as rig:
        await run.step("file", partial(rig.file, verified(), "m-1"))
        await _look(run, rig, "due", 0 if starts_at > DUE_AT else (DUE_AT - starts_at).total_seconds())
        # A feed tells of a correction once there is one: what seems to come from the future is believed of nobody.
        await _look(run, rig, "seen", max(0.0, (CORRECTED_AT - rig.clock.now()).total_seconds()) + 3_600)
        corrected = verified(CORRECTED_AT, "A fracture.", said=Said.CORRECTED)
        await run.step("correct", partial(rig.file, corrected, "m-2"))
        await _look(run, rig, "taken back", 60)
        wait = CORRECTED_DUE_AT - rig.clock.now()
        await _look(run, rig, "due again", max(0.0, wait.total_seconds()))
        await _look(run, rig, "at last", 3_600)


async def _look(run: Run, rig: Rig, name: str, seconds: float) -> None:
    await rig.clock.advance(seconds)
    await run.step(name, rig.look)


async def release(run: Run) -> None:
    """Over a portal that takes everything twice."""
    await _way(run, is_idempotent=True)


async def release_once(run: Run) -> None:
    """Over one that does not."""
    await _way(run, is_idempotent=False)


SCENARIOS: Scenarios = {"release": release, "release-once": release_once}

if __name__ == "__main__":
    serve(SCENARIOS)
