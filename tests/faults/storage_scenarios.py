"""Scenarios of storage, each a row of durable steps, run in a process that may be killed at any fault point.

`Zygote` is a process that has imported everything and forks one child for each run: a run costs milliseconds, so that
every passage of every point gets a run of its own. A child says each step that was acknowledged to it on its output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen

from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.seams import QualityItem
from gateway.model.work.jobs import Job, Lane, NewJob
from policy.optout import Case, CaseEvent
from policy.trusts import Stage
from storage import migrate
from storage.anchors import AnchorFile
from storage.backup import backup, restore
from storage.checkpoints import checkpoint
from storage.engines import DatabaseSettings
from storage.keys import SigningKey, create_signing_key, load_signing_key
from storage.registers import agreements, labels, relationships, trusts
from storage.reserve import BYTES_MIN, Reserve
from storage.store import SqlStore
from storage.work import jobs
from tests.clock import NOON, FakeClock
from tests.storage.people import (
    ANNE,
    BEN,
    CLERK,
    DAY,
    NORTH,
    SOUTH,
    case,
    entry,
    grant,
    label,
    move,
    patient,
    relationship,
)


class Run:
    """One run of a scenario in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = DatabaseSettings(f"sqlite:///{folder / 'gateway.db'}")
        self.anchors = AnchorFile(folder / "anchors")

    def store(self) -> SqlStore:
        """A store over the folder's database."""
        return SqlStore(self.settings, node="north", clock=FakeClock())

    def key(self) -> SigningKey:
        """The folder's signing key."""
        path = self.folder / "key.pem"
        return load_signing_key(path) if path.exists() else create_signing_key(path)

    def reserve(self) -> Reserve:
        """The folder's reserve, opened."""
        made = Reserve(self.folder / "reserve", BYTES_MIN)
        made.open()
        return made

    @staticmethod
    async def step(name: str, act: Callable[[], Awaitable[object]]) -> object:
        """Do a step, once more if it failed, and say that it was acknowledged."""
        done: object = None
        try:
            done = await act()
        except GatewayError:
            with suppress(InvalidRequest):  # it had happened the first time, and its author was not told
                done = await act()
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        return done


async def registers(run: Run) -> None:
    """Every kind of register write."""
    async with run.store() as store:
        anne = str(await run.step("patient", lambda: patient(store)))
        kept = str(await run.step("relationship", lambda: relationship(store, anne)))
        await run.step("end", lambda: store.write(lambda tx: relationships.end(tx, kept, NOON + DAY, CLERK)))
        for version in (1, 2):
            await run.step(f"agreement {version}", partial(_import, store, agreements.Clause(age_min_years=version)))
        await run.step("label", lambda: label(store, anne))
        granted = str(await run.step("grant", lambda: grant(store, anne)))
        await run.step("grant ended", lambda: store.write(lambda tx: labels.end_grant(tx, granted, CLERK)))
        item = QualityItem("identity-conflict", SOUTH, "1.2", BEN, {})
        await run.step("quality", lambda: store.report_quality([item], NOON))
        await store.facts(NORTH, [ANNE, BEN], at=NOON)


async def standings(run: Run) -> None:
    """A trust suspended, and one whose archive will be down."""
    async with run.store() as store:
        await run.step("suspend", lambda: store.write(lambda tx: trusts.suspend(tx, NORTH, Stage.PUSH, CLERK)))
        await run.step(
            "downtime", lambda: store.write(lambda tx: trusts.plan_downtime(tx, SOUTH, NOON, NOON + DAY, CLERK))
        )


async def durable_jobs(run: Run) -> None:
    """Jobs queued, claimed and ended."""
    async with run.store() as store:
        new = NewJob("fetch", Lane.BACKGROUND)
        await run.step("queued", lambda: store.write(lambda tx: [jobs.enqueue(tx, new) for _ in range(3)]))
        taken = await run.step("claimed", partial(_claim, store))
        assert isinstance(taken, list)
        for each in taken:
            await run.step("finished", partial(store.write, partial(jobs.finish, held=each.claim)))


async def _claim(store: SqlStore) -> list[Job]:
    lease = timedelta(minutes=1)
    return await store.write(
        lambda tx: jobs.claim(tx, "north", Lane.BACKGROUND, 10, lease, kinds=["fetch"], lease_now=tx.now)
    )


async def _import(store: SqlStore, clause: agreements.Clause) -> None:
    await store.write(lambda tx: agreements.import_version(tx, SOUTH, [clause], NOON, CLERK))


async def opt_out(run: Run) -> None:
    """A case from its receipt to its implementation."""
    async with run.store() as store:
        anne = str(await run.step("patient", lambda: patient(store)))
        opened = await run.step("receive", lambda: case(store, anne))
        assert isinstance(opened, Case)
        for event in (CaseEvent.VERIFY, CaseEvent.IMPLEMENT):
            await run.step(event.value, partial(move, store, opened.case_id, event))


async def appends(run: Run) -> None:
    """Appends one after the other, then several at once."""
    async with run.store() as store:
        for number in range(3):
            await run.step(f"append {number}", partial(store.append_audit, entry(f"{number}")))
        together = [
            run.step(f"append {number}", partial(store.append_audit, entry(f"{number}"))) for number in range(3, 7)
        ]
        await asyncio.gather(*together)


async def checkpoints(run: Run) -> None:
    """Checkpoints between appends."""
    async with run.store() as store:
        for number in range(2):
            await run.step(f"append {number}", partial(store.append_audit, entry(f"{number}")))
            await run.step(f"checkpoint {number}", lambda: checkpoint(store.database, run.anchors, run.key()))


async def reserve(run: Run) -> None:
    """Records in the reserve, drained twice."""
    async with run.store() as store:
        for number in range(2):
            for part in "ab":
                await run.step(f"append {number}{part}", partial(_reserve, run, f"{number}{part}"))
            await run.step(f"drained {number}", lambda: _drain(run, store))


async def _reserve(run: Run, name: str) -> None:
    held = run.reserve()
    try:
        await held.append(entry(name))
    finally:
        held.close()


async def _drain(run: Run, store: SqlStore) -> None:
    held = run.reserve()
    try:
        await held.drain(store.database)
    finally:
        held.close()


async def backups(run: Run) -> None:
    """A backup, and its restoration elsewhere."""
    async with run.store() as store:
        await run.step("append", lambda: store.append_audit(entry("0")))
        await run.step("backup", lambda: backup(store.database, run.folder / "backup", run.key()))
    elsewhere = DatabaseSettings(f"sqlite:///{run.folder / 'restored.db'}")
    await run.step("restored", lambda: _restore(run, elsewhere))


async def _restore(run: Run, elsewhere: DatabaseSettings) -> None:
    if not (run.folder / "restored.db").exists():
        await restore(run.folder / "backup", elsewhere, run.key().verifying)


async def migration(run: Run) -> None:
    """The schema of an empty database."""
    empty = DatabaseSettings(f"sqlite:///{run.folder / 'empty.db'}")
    await run.step("migrated", lambda: asyncio.to_thread(migrate.upgrade, empty))


Scenarios = Mapping[str, Callable[[Run], Coroutine[object, object, None]]]

SCENARIOS: Scenarios = {
    scenario.__name__: scenario
    for scenario in (registers, standings, opt_out, durable_jobs, appends, checkpoints, reserve, backups, migration)
}


_DONE = (".after", ".written", ".created", ".committed")
_NOT_ON_DISK = ("store.begin.", "chain.", "registers.", "cache.index.", "keyring.rewrap.", "objects.sync.")
"""Behind these the disk is as before: a transaction is under way, or a sync, of which a killed process has no need."""


class Zygote:
    """The test's end of the process that forks, which runs the scenarios of a module. A context manager."""

    def __init__(self, module: str = "tests.faults.storage_scenarios") -> None:
        self._module = module

    def __enter__(self) -> Zygote:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_FAULTS")}
        command = [sys.executable, "-m", self._module]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, env=environment)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, scenario: str, folder: Path, **environment: str) -> tuple[int, list[str]]:
        """Run a scenario; its exit status (negative: the signal) and the steps that were acknowledged.

        With `KILLED_AFTER_S` in its environment it ends by a signal that nobody catches.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([scenario, str(folder), environment]).encode() + b"\n")
        self._process.stdin.flush()
        status: int = json.loads(self._process.stdout.readline())
        return status, (folder / "acknowledged").read_text().splitlines()

    def lasting_s(self, scenario: str, folder: Path) -> float:
        """How long a run takes that nobody ends: the machine says within which time a kill hits it."""
        began_s = time.monotonic()
        assert self.run(scenario, folder)[0] == 0
        return time.monotonic() - began_s

    def passages(self, scenario: str, folder: Path, points: tuple[str, ...] = ("",)) -> list[tuple[str, int]]:
        """Where a run may fail, in order: behind each durable step, and at each other point's first and last passage.

        Between two durable steps a process leaves the same behind wherever it dies. `points`: how their names begin.
        """
        log = folder.parent / "points"
        log.unlink(missing_ok=True)
        status, acknowledged = self.run(scenario, folder, GATEWAY_FAULTS_LOG=str(log))
        assert status == 0 and acknowledged
        passed = [point for point in log.read_text().splitlines() if point.startswith(points)]
        found = [(point, passed[: place + 1].count(point)) for place, point in enumerate(passed)]
        return [
            (point, passage)
            for point, passage in found
            if passage in (1, passed.count(point)) or (point.endswith(_DONE) and not point.startswith(_NOT_ON_DISK))
        ]


def serve(scenarios: Scenarios) -> None:
    """The other end: run what is asked for, each time in a child of its own."""
    for line in sys.stdin:
        scenario, folder, environment = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                _child(scenarios[scenario], Path(folder), environment)
            except BaseException:  # noqa: BLE001  # the outermost frame of the child
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _child(
    scenario: Callable[[Run], Coroutine[object, object, None]], folder: Path, environment: dict[str, str]
) -> None:
    os.environ |= environment
    output = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    sys.stdout = os.fdopen(output, "w")
    if "KILLED_AFTER_S" in os.environ:
        signal.setitimer(signal.ITIMER_REAL, float(os.environ["KILLED_AFTER_S"]))
    asyncio.run(scenario(Run(folder)))


if __name__ == "__main__":
    serve(SCENARIOS)
