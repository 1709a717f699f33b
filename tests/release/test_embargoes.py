"""A change of the embargo concerns what is verified from then on, whenever and however it is written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from

from gateway.release.upkeep.embargoes import Embargoes, settled
from policy.parties import TrustId
from policy.release.clock import embargo_step
from policy.release.terms import LONG_AGO, EmbargoStep, ReleaseTerms
from storage.engines import DatabaseSettings
from storage.release.upkeep.embargoes import KeptStep
from storage.store import SqlStore
from tests.clock import FakeClock

RZ1 = TrustId("RZ1")
NOW = datetime(2027, 6, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)
FOUR_WEEKS = EmbargoStep()


def days_at(steps: tuple[KeptStep, ...], verified_at: datetime) -> int:
    """How long what was verified then waits."""
    terms = ReleaseTerms(embargo=tuple(EmbargoStep(step.days, step.counts_from) for step in steps))
    return embargo_step(terms, verified_at).days


def test_a_trust_begins_as_its_file_says() -> None:
    begun = settled((), (FOUR_WEEKS, EmbargoStep(14, NOW - 9 * DAY)), NOW)
    assert [days_at(begun, NOW - each * DAY) for each in (10, 9, 0)] == [28, 14, 14]


def test_a_step_that_is_written_down_late_counts_from_then_on() -> None:
    begun = settled((), (FOUR_WEEKS,), NOW - 30 * DAY)
    late = settled(begun, (FOUR_WEEKS, EmbargoStep(14, NOW - 9 * DAY)), NOW)
    assert [days_at(late, at) for at in (NOW - 9 * DAY, NOW - timedelta(seconds=1), NOW)] == [28, 28, 14]


def test_a_step_that_was_written_down_in_time_counts_from_its_instant_whoever_starts_anew() -> None:
    steps = (FOUR_WEEKS, EmbargoStep(14, NOW))
    begun = settled(settled((), (FOUR_WEEKS,), NOW - 30 * DAY), steps, NOW - 9 * DAY)
    again = settled(begun, steps, NOW + 5 * DAY)
    assert [days_at(again, at) for at in (NOW - DAY, NOW, NOW + DAY)] == [28, 14, 14]


def test_a_longer_embargo_that_is_taken_back_stays_for_what_was_verified_under_it() -> None:
    begun = settled((), (EmbargoStep(35),), NOW - 30 * DAY)
    shorter = settled(begun, (FOUR_WEEKS,), NOW)
    assert [days_at(shorter, at) for at in (NOW - DAY, NOW)] == [35, 28]


def test_a_step_that_is_taken_out_before_it_began_never_counts() -> None:
    begun = settled((), (FOUR_WEEKS, EmbargoStep(14, NOW + DAY)), NOW)
    without = settled(begun, (FOUR_WEEKS,), NOW)
    assert days_at(without, NOW + 9 * DAY) == 28


CHOICES = (
    (FOUR_WEEKS,),
    (EmbargoStep(35),),
    (FOUR_WEEKS, EmbargoStep(14, NOW)),
    (FOUR_WEEKS, EmbargoStep(14, NOW + 20 * DAY)),
    (EmbargoStep(35), EmbargoStep(21, NOW + 10 * DAY), EmbargoStep(14, NOW + 30 * DAY)),
)


@given(lists(sampled_from(CHOICES), min_size=1, max_size=6), integers(0, 60))
def test_no_later_file_changes_what_an_embargo_that_runs_waits(files: list[tuple[EmbargoStep, ...]], day: int) -> None:
    at, known = NOW, settled((), files[0], NOW)
    for file in files[1:]:
        verified_at = at - day * DAY
        before = days_at(known, verified_at)
        at += 9 * DAY
        known = settled(known, file, at)
        assert days_at(known, verified_at) == before
        wanted = [step for step in file if step.from_at <= at][-1]
        assert days_at(known, at) == wanted.days
    assert days_at(known, LONG_AGO) == files[0][0].days


async def test_what_counted_outlasts_the_process(url: str) -> None:
    clock = FakeClock(NOW - 30 * DAY)
    late = ReleaseTerms(embargo=(FOUR_WEEKS, EmbargoStep(14, NOW - 9 * DAY)))
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock) as store:
        first = Embargoes(store)
        await first.read()
        first.follow({RZ1: ReleaseTerms()}, clock.now())
        await first.keep()
        for at in (NOW, NOW + DAY):
            again = Embargoes(store)
            await again.read()
            again.follow({RZ1: late}, at)
            await again.keep()
            counted = again.over(RZ1, late)
            assert embargo_step(counted, NOW - timedelta(seconds=1)).days == 28
            assert embargo_step(counted, NOW).days == 14
