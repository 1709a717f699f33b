"""No jump of the clock releases early or takes back; a week off and two processes end in one release (SAF-31)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.release.giving.trusted import TrustedTime
from policy.release.circumstances import ReleaseState
from storage.release.deliveries import DeliveryState
from tests.clock import FakeClock, JumpingClock
from tests.release.portal import Portal
from tests.release.release_rig import DUE_AT, MONDAY, Rig, opened, verified


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


async def test_a_verification_that_lies_ahead_is_not_believed_because_the_clock_ran_ahead(
    tmp_path: Path, sqlite_url: str
) -> None:
    clock = JumpingClock(MONDAY + timedelta(minutes=2))
    async with opened(tmp_path, sqlite_url, clock=clock) as rig:
        clock.ahead = timedelta(days=40)
        ahead = verified(MONDAY + timedelta(days=20), received_at=clock.now())
        report_id = await rig.file(ahead)
        assert await held_for(rig, report_id) == {"verification-time-invalid"}
        clock.ahead = timedelta(0)
        await rig.look(MONDAY + timedelta(days=60))
        assert await held_for(rig, report_id) == {"verification-time-invalid"}


@pytest.mark.parametrize("comes_back", [True, False])
async def test_what_comes_in_after_a_start_in_doubt_is_judged_again(
    tmp_path: Path, url: str, *, comes_back: bool
) -> None:
    clock = JumpingClock(MONDAY + timedelta(minutes=2))
    async with opened(tmp_path, url, clock=clock) as rig:
        await rig.look()
    clock.ahead = timedelta(days=40)
    async with opened(tmp_path, url, clock=clock) as rig:
        await rig.begin()
        report_id = await rig.file(verified(MONDAY + timedelta(days=20), received_at=clock.now()))
        assert await held_for(rig, report_id) == {"verification-time-invalid"}
    async with opened(tmp_path, url, clock=clock) as rig:  # and it fell meanwhile
        await rig.begin()
        await rig.clock.advance(600)
        if comes_back:
            clock.ahead = timedelta(0)
            await rig.look()
            assert await held_for(rig, report_id) == {"verification-time-invalid"}
        else:
            await rig.look()
            assert await held_for(rig, report_id) == {"verification-time-invalid"}
            await rig.clock.advance(3_001)
            await rig.look()
            assert (await rig.report(report_id)).state is ReleaseState.EMBARGOED


async def test_nothing_is_sure_before_it_is_known_when_reports_were_last_looked_at() -> None:
    time = TrustedTime(FakeClock(), timedelta(minutes=60))
    assert not time.is_sure()
    time.begin(None)
    assert time.is_sure()


@pytest.mark.parametrize("hours", [0.5, 2])
async def test_a_clock_that_is_set_right_after_a_start_in_the_past_is_followed(hours: float) -> None:
    clock = JumpingClock(MONDAY)
    clock.ahead = -timedelta(days=20_000)  # as where nothing keeps the time of a machine that is off
    time = TrustedTime(clock, timedelta(minutes=60))
    time.begin(MONDAY)
    await clock.advance(hours * 3_600)
    assert time.is_sure() is (hours > 1)
    clock.ahead = timedelta(0)
    assert (time.is_sure(), time.now()) == (True, clock.now())


async def test_a_clock_that_comes_back_after_a_start_is_believed_at_once_and_not_followed_again() -> None:
    clock = JumpingClock(MONDAY)
    clock.ahead = timedelta(days=40)
    time = TrustedTime(clock, timedelta(minutes=60))
    time.begin(MONDAY - timedelta(minutes=30))
    await clock.advance(60)
    assert (time.is_sure(), time.sure_instant()) == (False, MONDAY - timedelta(minutes=29))
    clock.ahead = timedelta(0)
    assert (time.is_sure(), time.sure_instant(), time.now()) == (True, clock.now(), clock.now())
    clock.ahead = timedelta(days=40)
    assert (time.is_sure(), time.now()) == (False, MONDAY + timedelta(seconds=60))


async def held_for(rig: Rig, report_id: str) -> frozenset[str]:
    """What keeps a report back."""
    return (await rig.report(report_id)).held_for


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
