"""What feeds sent is kept as long as its setting says, and what it said for good (SAF-41)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.keeping.counting import CountedTime
from gateway.model.errors import NotFound
from gateway.release.upkeep.forgetting import Forgetting, Forgotten, Retention
from policy.release.circumstances import Plan, ReleaseState
from policy.release.reports import Standing
from storage.release import messages, reports
from storage.store import SqlStore
from tests.clock import FakeClock, JumpingClock
from tests.release.copies import NO_COPIES, at
from tests.release.incoming import RECEIVED_AT, TEXT, incoming, message
from tests.release.rig import Rig
from tests.storage.keyrings import Place

DAY = timedelta(days=1)


@pytest.fixture
async def rig(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    async with Place(tmp_path / "keys", clock).keyring() as keys:
        yield Rig(store, keys)


@pytest.mark.parametrize(
    ("days", "filed", "dead"), [(90, True, True), (90.001, False, True), (365, False, True), (365.001, False, False)]
)
async def test_each_payload_is_kept_for_its_own_time(rig: Rig, days: float, filed: bool, dead: bool) -> None:
    taken = await rig.intake.take(message(incoming(), name="filed"))
    await rig.intake.take(message(problem="an unknown code", name="dead"))
    now = RECEIVED_AT + timedelta(days=days)
    forgetting = Forgetting(rig.store, NO_COPIES, lambda: Retention(90 * DAY, 365 * DAY, DAY, 2922 * DAY, DAY), at(now))
    assert await forgetting.forget() == Forgotten(messages=(not filed) + (not dead))
    of_filed = await rig.store.read(lambda read: messages.find(read, message().trust, message().feed, "filed"))
    [letter] = await rig.letters(message()).waiting()
    assert of_filed is not None
    assert (of_filed.has_payload, letter.has_payload) == (filed, dead)
    assert await rig.texts(taken.report_ids[0]) == [TEXT]


async def test_more_than_one_round_is_forgotten_in_one_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "FORGOTTEN_AT_ONCE_MAX", 2)
    for number in range(5):
        await rig.intake.take(message(problem="an unknown code", name=f"{number}"))
    forgetting = Forgetting(rig.store, NO_COPIES, lambda: Retention(DAY, DAY, DAY, DAY, DAY), at(RECEIVED_AT + 2 * DAY))
    assert await forgetting.forget() == Forgotten(messages=5)


@pytest.mark.parametrize(
    ("state", "days", "is_kept"),
    [
        (ReleaseState.RELEASED, 10, True),
        (ReleaseState.RELEASED, 10.001, False),
        (ReleaseState.WITHDRAWN, 10.001, False),
        (ReleaseState.HELD, 1000, True),
        (ReleaseState.EMBARGOED, 1000, True),
        (ReleaseState.DUE, 1000, True),
    ],
)
async def test_a_text_is_kept_for_its_time_and_as_long_as_it_waits(
    rig: Rig, clock: FakeClock, state: ReleaseState, days: float, is_kept: bool
) -> None:
    report_id = (await rig.intake.take(message(incoming()))).report_ids[0]
    await rig.store.write(lambda tx: reports.settle(tx, report_id, Plan(state), Standing.VERIFIED, None))
    now = clock.now() + timedelta(days=days)
    forgetting = Forgetting(rig.store, NO_COPIES, lambda: Retention(DAY, DAY, DAY, 10 * DAY, DAY), at(now))
    assert (await forgetting.forget()).versions == (not is_kept)
    if is_kept:
        assert await rig.texts(report_id) == [TEXT]
        return
    with pytest.raises(NotFound, match="forgotten"):
        await rig.texts(report_id)
    assert (await rig.intake.take(message(incoming(), name="again"))).report_ids == (report_id,)
    assert len(rig.planned) == 1


@pytest.mark.parametrize("began_right", [True, False])
async def test_a_clock_that_is_years_ahead_makes_nothing_forgotten(
    rig: Rig, clock: FakeClock, *, began_right: bool
) -> None:
    await rig.intake.take(message(problem="an unknown code", name="dead"))
    await CountedTime(rig.store, FakeClock(RECEIVED_AT)).now()  # a process of before, with the right clock
    wrong = JumpingClock(RECEIVED_AT)
    terms = Retention(3 * DAY, 3 * DAY, 3 * DAY, 3 * DAY, 3 * DAY)
    forgetting = Forgetting(rig.store, NO_COPIES, lambda: terms, CountedTime(rig.store, wrong).now)
    if began_right:
        assert await forgetting.forget() == Forgotten()
    wrong.ahead = 3000 * DAY
    for _ in range(48):
        assert await forgetting.forget() == Forgotten()
        await wrong.advance(3_600)
    wrong.ahead = 0 * DAY
    await wrong.advance(86_401)
    assert await forgetting.forget() == Forgotten(messages=1)
