"""The scenario of reports that come in: taken, replayed, forgotten; by a process that may be killed.

As `storage_scenarios`. What is planned of a report is a fixed plan: which one is others' affair.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from gateway.model.reporting.incoming import Content
from gateway.release.contents import Contents
from gateway.release.intake import Intake
from gateway.release.letters import Letters
from policy.release.circumstances import Plan, ReleaseState
from policy.release.reports import Said, Standing
from storage.database import Tx
from storage.registers.state import Author
from storage.release import links, messages, reports
from storage.store import SqlStore, new_id
from tests.clock import FakeClock
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.release.incoming import RECEIVED_AT, VERIFIED_AT, incoming, message
from tests.storage.keyrings import Place

OFFICER = Author("J Doe", "request-1", "the profile was mended")
ADDED = incoming(said=Said.APPENDED, stated_at=VERIFIED_AT + timedelta(hours=1), content=Content("Also: a rib."))
MESSAGES = {
    "one": message(incoming(), name="one"),
    "two": message(incoming(report_number="R-2"), incoming(report_number="R-3"), name="two"),
    "added": message(ADDED, name="added"),
}
BROKEN = message(problem="an unknown code", name="broken")
MENDED = message(incoming(report_number="R-4"), name="broken")


@asynccontextmanager
async def opened(run: Run) -> AsyncIterator[tuple[SqlStore, Intake, Letters, Contents]]:
    """What takes reports in over the folder's database and keys."""
    async with run.store() as store, Place(run.folder / "keys", FakeClock()).keyring() as keys:
        intake = Intake(store, keys, _plan, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)
        yield store, intake, Letters(store, keys, intake, lambda *_: MENDED), Contents(store, keys)


def _plan(tx: Tx, report_id: str) -> None:
    reports.settle(tx, report_id, Plan(ReleaseState.EMBARGOED), Standing.VERIFIED, "planned")


async def reports_in(run: Run) -> None:
    """Three messages are taken, one twice; a fourth is dead and replayed; all is linked, and its payloads forgotten."""
    async with opened(run) as (store, intake, letters, _):
        for name, each in (*MESSAGES.items(), ("one", MESSAGES["one"])):
            await run.step(f"take {name}", partial(intake.take, each))
        await run.step("bury", lambda: intake.take(BROKEN))
        for letter in await letters.waiting():
            await run.step("replay", partial(letters.replay, letter.row_id, OFFICER))
        for wanted in await store.read(lambda read: links.unlinked(read, ("", ""), 10)):
            seen = partial(links.seen, wanted=wanted, study_uid="1.2.3", by="images")
            await run.step("link", partial(store.write, seen))
        before = RECEIVED_AT + timedelta(days=1)
        await run.step("forget", lambda: store.write(lambda tx: messages.forget_payloads(tx, before, before)))


SCENARIOS: Scenarios = {"reports": reports_in}

if __name__ == "__main__":
    serve(SCENARIOS)
