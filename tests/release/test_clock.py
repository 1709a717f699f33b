"""No jump of the clock releases early or takes back; a week off and two processes end in one release (SAF-31)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

from policy.release.circumstances import ReleaseState
from storage.release.deliveries import DeliveryState
from tests.clock import FakeClock
from tests.release.portal import Portal
from tests.release.release_rig import DUE_AT, MONDAY, opened, verified


class JumpingClock(FakeClock):
    """A clock that somebody sets."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """The wrong time."""
        return super().now() + self.ahead


async def test_a_jump_forwards_releases_nothing_early(tmp_path: Path, sqlite_url: str) -> None:
    clock, portal = JumpingClock(MONDAY + timedelta(minutes=2)), Portal()
    async with opened(tmp_path, sqlite_url, portal, clock=clock) as rig:
        report_id = await rig.file(verified())
        clock.ahead = timedelta(days=40)
        for _ in range(5):
            await rig.look()
            await rig.clock.advance(1_800)
        assert (portal.put_count, (await rig.report(report_id)).state) == (0, ReleaseState.EMBARGOED)
        left = DUE_AT - (rig.clock.now() - clock.ahead)
        await rig.clock.advance(left.total_seconds() + 1)
        await rig.look()
        assert len(portal.shown) == 1


async def test_nothing_new_goes_while_the_clock_is_doubted_and_what_is_wrong_still_leaves(
    tmp_path: Path, sqlite_url: str
) -> None:
    clock = JumpingClock(DUE_AT - timedelta(minutes=1))
    async with opened(tmp_path, sqlite_url, clock=clock) as rig:
        clock.ahead = timedelta(hours=2)
        assert not rig.time.is_sure()
        await rig.clock.advance(59 * 60)
        assert not rig.time.is_sure()
        await rig.clock.advance(120)
        assert rig.time.is_sure()
        assert rig.time.now() == DUE_AT + timedelta(minutes=60)
        clock.ahead = timedelta(0)
        assert rig.time.is_sure()


async def test_a_jump_backwards_takes_nothing_from_a_patient(tmp_path: Path, sqlite_url: str) -> None:
    clock, portal = JumpingClock(MONDAY + timedelta(minutes=2)), Portal()
    async with opened(tmp_path, sqlite_url, portal, clock=clock) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        clock.ahead = -timedelta(days=20)
        await rig.file(verified(), name="m-2")
        await rig.look()
        assert (len(portal.shown), (await rig.report(report_id)).state) == (1, ReleaseState.RELEASED)


async def test_after_a_week_off_everything_that_fell_due_goes_once(tmp_path: Path, sqlite_url: str) -> None:
    portal = Portal()
    async with opened(tmp_path, sqlite_url, portal) as rig:
        report_ids = [await rig.file(verified(report_number=f"R-{number}"), name=f"m-{number}") for number in range(5)]
        await rig.look(DUE_AT - timedelta(days=1))
    async with opened(tmp_path, sqlite_url, portal, clock=FakeClock(DUE_AT + timedelta(days=7))) as rig:
        await rig.begin()
        await rig.look()
        assert portal.put_count == 0  # a clock that is a week on is doubted for an hour
        await rig.clock.advance(3_601)
        await rig.look()
        assert (len(portal.shown), portal.put_count, len(portal.told)) == (5, 5, 5)
        for each in report_ids:
            assert (await rig.report(each)).state is ReleaseState.RELEASED


async def test_two_processes_over_one_database_release_once(tmp_path: Path, url: str) -> None:
    portal, clock = Portal(), FakeClock(MONDAY + timedelta(minutes=2))
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(opened(tmp_path, url, portal, clock=clock))
        other = await stack.enter_async_context(opened(tmp_path, url, portal, clock=clock, node="south"))
        report_ids = [await one.file(verified(report_number=f"R-{number}"), name=f"m-{number}") for number in range(8)]
        await one.on(DUE_AT)
        await asyncio.gather(one.looking.look(), other.looking.look())
        await asyncio.gather(one.work(), other.work())
        assert (len(portal.shown), portal.put_count, len(portal.told)) == (8, 8, 8)
        for report_id in report_ids:
            assert [each.state for each in await one.given(report_id)] == [DeliveryState.CONFIRMED]
        assert len(await one.audit("released")) == 8
