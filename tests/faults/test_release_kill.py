"""Kills at any step of a release, and at any moment: one release, told once at most, and nothing wrong stays (SAF-67).

Whatever is not known after the fall is a person's work, never a second telling; a portal that takes nothing twice is
given nothing twice.
"""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest

from policy.release.circumstances import ReleaseState
from storage import audit_log
from storage.release.deliveries import DeliveryState
from storage.release.releases import NoticeState
from storage.release.tables import report
from tests.clock import FakeClock
from tests.faults import release_scenarios
from tests.faults.release_scenarios import WrittenPortal, asked, next_start
from tests.faults.storage_scenarios import Run, Zygote
from tests.faults.test_storage_kill import fresh
from tests.release.release_rig import opened

POINTS = (
    *("release.putting", "release.put", "release.notifying", "release.notified", "release.withdrawn"),
    *("release.delivery.begin", "release.delivery.move", "release.notice.begin"),
)
"""What is passed on the way; everything else of a transaction has its own test."""
KILLS_AT_RANDOM = 60
SEED = 20261122


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", ["release", "release-once"])
async def test_a_report_is_released_once_whenever_a_process_falls(
    migrated_file: Path, memory: Path, scenario: str
) -> None:
    begun = fresh(memory / "begun", migrated_file)
    async with opened(begun, Run(begun).settings.url):
        pass  # the making of a key store has its own test
    seen: set[str] = set()
    with Zygote(release_scenarios.__name__) as zygote:
        for point, passage in zygote.passages(scenario, copied(begun, memory / "run")):
            if point not in POINTS:
                continue
            seen.add(point)
            run = Run(copied(begun, memory / "run"))
            where = f"{point}=kill@{passage}"
            assert zygote.run(scenario, run.folder, GATEWAY_FAULTS=where)[0] == -signal.SIGKILL, where
            assert zygote.run(scenario, run.folder)[0] == 0, where
            await check(run, where, is_idempotent=scenario == "release")
    assert seen == set(POINTS)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(KILLS_AT_RANDOM, marks=pytest.mark.timeout(300)),
        pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
    ],
)
async def test_no_kill_at_a_random_moment_loses_or_doubles_a_release(
    migrated_file: Path, memory: Path, kills: int
) -> None:
    begun = fresh(memory / "begun", migrated_file)
    async with opened(begun, Run(begun).settings.url):
        pass
    moments, killed, reports = random.Random(SEED), 0, 0
    with Zygote(release_scenarios.__name__) as zygote:
        # The first run of a process is slow, and would send most kills behind the end of the others.
        lasts_s = min(zygote.lasting_s("release", copied(begun, memory / "run")) for _ in range(3))
        while killed < kills:
            scenario, run = moments.choice(["release", "release-once"]), Run(copied(begun, memory / "run"))
            where = f"seed {SEED}, report {reports}"
            # Killed again while it takes up what the last one left, as often as that happens.
            while (status := zygote.run(scenario, run.folder, KILLED_AFTER_S=_moment(moments, lasts_s))[0]) != 0:
                assert status == -signal.SIGALRM, where
                killed += 1
            await check(run, where, is_idempotent=scenario == "release")
            reports += 1
    print(f"{killed} kills, {reports} reports, 0 lost, 0 released twice")  # noqa: T201  # what docs/failures.md tells


def _moment(moments: random.Random, lasts_s: float) -> str:
    """Some moment of a run; every third time or so behind its end."""
    return str(moments.uniform(0.001, 1.5 * lasts_s))


async def check(run: Run, where: str, *, is_idempotent: bool) -> None:
    """What must hold of a folder after a fall and a restart."""
    counts, shown = asked(run.folder)
    told = {what: count for what, count in counts.items() if what.startswith("told")}
    assert set(told.values()) <= {1}, f"{where}: told twice"
    portal = WrittenPortal(run.folder, is_idempotent=is_idempotent)
    async with opened(run.folder, run.settings.url, portal, clock=FakeClock(next_start(run.folder))) as rig:
        assert (await audit_log.verify(rig.store.database, ())).is_whole, where
        [report_id] = await rig.store.read(
            lambda read: [str(row.report_id) for row in read.connection.execute(report.select())]
        )
        given = await rig.given(report_id)
        notices = await rig.notices(report_id)
        released = await rig.released(report_id)
        kept = await rig.report(report_id)
    last = given[-1]
    if not is_idempotent:
        puts = {what: count for what, count in counts.items() if what.startswith("put")}
        assert set(puts.values()) <= {1}, f"{where}: given twice"
    if last.state is DeliveryState.UNKNOWN:
        assert not is_idempotent, where
        assert released.keys().isdisjoint(last.versions), where
    else:
        assert (last.state, kept.state) == (DeliveryState.CONFIRMED, ReleaseState.RELEASED), where
        assert shown == {last.document_key}, f"{where}: the corrected report stands, and nothing else"
    assert sum(each.state is DeliveryState.CONFIRMED for each in given) <= 1, where
    for notice in notices:
        was_told = told.get(f"told {notice.document_key}", 0) == 1
        assert was_told or notice.state is NoticeState.UNKNOWN, f"{where}: nobody knows, and nobody looks"
        assert notice.state in (NoticeState.NOTIFIED, NoticeState.UNKNOWN), where


def copied(begun: Path, to: Path) -> Path:
    """A folder with an empty store and its keys."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(begun, to)
    return to
