"""The morning on which many reports are due: find them among a hundred thousand under embargo, and release them all.

Each goes out as it always does: planned anew, its patient traced, account and document asked of a channel that takes
50 ms for each answer, confirmed, told of once, audited. Nothing of the others is looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import func, insert, select

from bench.figures import Figure, at_most, middle, ratio_at_most
from bench.plan import Effort, Say
from bench.rig.reports.messages import nhs_number
from bench.rig.reports.rig import RealClock, release_over
from gateway.jobs.runner import Runner
from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Receipt, Rendering
from gateway.release.giving.looking import AT_ONCE_MAX
from gateway.release.planner import TEND
from policy.release.circumstances import ReleaseState
from policy.release.reports import Standing
from storage.database import Read, Tx
from storage.release import reports
from storage.release.releases import report_release
from storage.release.tables import report
from storage.work.book import SqlJobBook
from tests.release.incoming import SARAH, message
from tests.release.release_rig import SARAH_TRACED, Rig, verified

CHANNEL_S = 0.05
HOUR_S = 3_600.0
PLANNED_S_MAX = 60.0
SCAN_RATIO_MAX = 3.0
SCANS = 201
VERIFIED_AT = datetime(2026, 6, 1, 8, 15, tzinfo=UTC)
DUE_AT = datetime(2026, 6, 29, 8, 15, tzinfo=UTC)
_ROWS_AT_ONCE = 5_000
_TAKEN_AT_ONCE = 16


@dataclass
class SlowPortal:
    """A channel that answers after its time, and always well (`gateway.model.reporting.channels.Channel`)."""

    expected: int
    """Notices after which it is done."""
    name: str = "portal"
    is_idempotent: bool = True
    checks_proxies: bool = True
    notifies: bool = True
    puts: int = 0
    notices: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`."""
        await asyncio.sleep(CHANNEL_S)
        return Account(is_there=True, is_proven=True)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        await asyncio.sleep(CHANNEL_S)
        self.puts += 1
        return Outcome(Receipt.CONFIRMED)

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`."""
        await asyncio.sleep(CHANNEL_S)
        self.notices += 1
        if self.notices == self.expected:
            self.done.set()
        return Outcome(Receipt.CONFIRMED)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        raise RuntimeError("nothing is withdrawn here")

    async def close(self) -> None:
        """See `Channel`."""


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    due, waiting = max(4, effort.queries_after // 5), effort.queued_jobs
    yield from asyncio.run(_morning(folder, due, waiting, say))


async def _morning(folder: Path, due: int, waiting: int, say: Say) -> list[Figure]:
    now = datetime.now(UTC)
    say(f"{due} reports come in")
    async with release_over(folder, RealClock(VERIFIED_AT + timedelta(minutes=5) - now), SlowPortal(0)) as before:
        await _take(before, due)
        alone_ms = await _scan_ms(before)
        say(f"{waiting:,} more under embargo")
        for first in range(0, waiting, _ROWS_AT_ONCE):
            rows = range(first, min(first + _ROWS_AT_ONCE, waiting))
            await before.store.write(partial(_wait, numbers=rows))
        among_ms = await _scan_ms(before)
    portal = SlowPortal(due)
    async with release_over(folder, RealClock(DUE_AT + timedelta(minutes=1) - now), portal) as morning:
        for number in range(due):
            known = replace(SARAH_TRACED, number=nhs_number(number))
            morning.demographics.people[nhs_number(number).digits] = known
        say(f"releasing {due}")
        began = time.perf_counter()
        planned = await morning.looking.look()
        planned_s = time.perf_counter() - began
        runner = Runner(SqlJobBook(morning.store), {TEND: morning.tending}, RealClock(), owner="bench-1")
        async with runner.running(), asyncio.timeout(HOUR_S):
            await portal.done.wait()
            released_s = time.perf_counter() - began
        released = await morning.store.read(_released)
    if (planned, portal.puts, portal.notices, released) != (due, due, due, due):
        raise RuntimeError(
            f"{planned} planned, {portal.puts} put, {portal.notices} told of, {released} of {due} released"
        )
    among = f"reports, {waiting:,} under embargo"
    peer = {"peer": f"with {due} under embargo"}
    return [
        Figure(
            f"{among}: a scan that finds none due", among_ms, alone_ms, "ms", ratio_at_most(SCAN_RATIO_MAX), {**peer}
        ),
        Figure(f"{among}: {due} found and planned", planned_s, None, "s", at_most(PLANNED_S_MAX, "s")),
        Figure(f"{among}: {due} released, the channel at 50 ms", released_s, None, "s", at_most(HOUR_S, "s")),
        Figure(f"{among}: released a second", due / released_s, None, "1/s"),
    ]


async def _take(rig: Rig, count: int) -> None:
    """Reports of as many patients, all verified at the same instant."""

    async def some(first: int) -> None:
        for number in range(first, count, _TAKEN_AT_ONCE):
            subject = replace(SARAH, nhs_number=nhs_number(number), local=())
            said = verified(VERIFIED_AT, report_number=f"D{number}", accessions=(), subject=subject)
            await rig.intake.take(message(said, name=f"d{number}"))

    await asyncio.gather(*(some(first) for first in range(_TAKEN_AT_ONCE)))


async def _scan_ms(rig: Rig) -> float:
    """The median of some scans for what is due, which find nothing."""
    times = []
    scan = partial(reports.due, now=rig.clock.now(), limit=AT_ONCE_MAX)
    for _ in range(SCANS):
        began = time.perf_counter()
        if await rig.store.read(scan):
            raise RuntimeError("a report was due before its time")
        times.append(1000 * (time.perf_counter() - began))
    return middle(times)


def _wait(tx: Tx, numbers: range) -> None:
    """Rows of reports that are due on later days."""
    rows = [
        {
            "report_id": f"waiting-{number}",
            "trust": "RZ1",
            "report_number": f"W{number}",
            "patient_key": "",
            "exam_codes": [],
            "state": ReleaseState.EMBARGOED.value,
            "standing": Standing.VERIFIED.value,
            "due_at": DUE_AT + timedelta(days=1, seconds=number),
            "look_at": DUE_AT + timedelta(days=1, seconds=number),
            "held_for": [],
            "flags": [],
            "is_linked": True,
            "created_at": VERIFIED_AT,
            "changed_at": VERIFIED_AT,
        }
        for number in numbers
    ]
    tx.connection.execute(insert(report), rows)


def _released(read: Read) -> int:
    return int(read.connection.execute(select(func.count()).select_from(report_release)).scalar_one())
