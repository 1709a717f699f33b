"""What one channel shows already goes to a second one by the rules of the day on which it goes there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Rendering
from gateway.model.reporting.incoming import Exam
from gateway.model.seams import TraceState
from gateway.release.staff.views import board
from policy.release.circumstances import Death, ReleaseState
from policy.release.reports import Said
from storage.release.deliveries import IS_RETRIED, report_delivery
from storage.store import SqlStore
from tests.release.incoming import NORTH
from tests.release.portal import FAILED, PROVEN, UNKNOWN, Portal
from tests.release.release_rig import DUE_AT, Rig, opened, verified

HANG_GUARD_S = 30.0


@pytest.fixture
def late() -> Portal:
    """Where the patient has no account yet."""
    return Portal("late", has_account=Account(is_there=False))


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str, late: Portal) -> AsyncIterator[Rig]:
    """One process with that portal for the second of two."""
    async with opened(tmp_path, sqlite_url, Portal("first"), late) as running:
        yield running


async def shown_at_first(rig: Rig, late: Portal) -> str:
    """A report that the first portal shows; now there is an account at the second."""
    report_id = await rig.file(verified(exam=Exam(codes=("XARM",))))
    await rig.look(DUE_AT)
    assert (late.texts, (await rig.report(report_id)).state) == ([], ReleaseState.RELEASED)
    late.has_account = PROVEN
    return report_id


async def test_an_account_that_appears_gets_what_the_first_one_has(rig: Rig, late: Portal) -> None:
    await shown_at_first(rig, late)
    await rig.look(DUE_AT + timedelta(days=1, minutes=1))
    assert late.texts == [["No fracture."]]


def dead(rig: Rig) -> None:
    rig.demographics.sarah(death=Death.FORMAL)


def perhaps_dead(rig: Rig) -> None:
    rig.demographics.sarah(death=Death.INFORMAL)


def unverified(rig: Rig) -> None:
    rig.demographics.sarah(number_status="02")


def not_found(rig: Rig) -> None:
    rig.demographics.sarah(state=TraceState.UNKNOWN)


def switched_off(rig: Rig) -> None:
    rig.terms = replace(rig.terms, is_on=False)


def excluded(rig: Rig) -> None:
    rig.terms = replace(rig.terms, excluded_codes=frozenset({"XARM"}))


@pytest.mark.parametrize("change", [dead, perhaps_dead, unverified, not_found, switched_off, excluded])
async def test_what_may_go_out_no_more_goes_to_no_second_channel(
    rig: Rig, late: Portal, change: Callable[[Rig], None]
) -> None:
    await shown_at_first(rig, late)
    change(rig)
    for day in (1, 2, 3):
        await rig.look(DUE_AT + timedelta(days=day, minutes=2))
    assert late.texts == []


async def test_what_was_barred_goes_out_once_it_is_not(rig: Rig, late: Portal) -> None:
    await shown_at_first(rig, late)
    rig.demographics.sarah(death=Death.FORMAL)
    await rig.look(DUE_AT + timedelta(days=1, minutes=2))
    rig.demographics.sarah()
    await rig.look(DUE_AT + timedelta(days=2, minutes=3))
    assert late.texts == [["No fracture."]]


async def test_a_channel_that_tells_nobody_leaves_the_telling_to_the_next(tmp_path: Path, sqlite_url: str) -> None:
    page, app, other = Portal("page", notifies=False), Portal("app"), Portal("other")
    async with opened(tmp_path, sqlite_url, page, app, other) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        assert [len(each.shown) for each in (page, app, other)] == [1, 1, 1]
        assert [len(each.told) for each in (page, app, other)] == [0, 1, 0]
        assert [each.channel for each in await rig.notices(report_id)] == ["app"]


async def test_a_patient_is_told_when_an_account_appears_where_they_can_be(rig: Rig, late: Portal) -> None:
    first = rig.channels["first"]
    assert isinstance(first, Portal)
    first.notifies = False
    await shown_at_first(rig, late)
    assert first.told == []
    await rig.look(DUE_AT + timedelta(days=1, minutes=1))
    assert len(late.told) == 1


@dataclass
class Hanging(Portal):
    """A portal that answers once it is let go."""

    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        await self.goes_on.wait()
        return await super().put(report, rendering)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        await self.goes_on.wait()
        return await super().withdraw(document_key, addressee, words)


@dataclass
class Heard(Portal):
    """A portal of which one can wait until it was asked."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        outcome = await super().put(report, rendering)
        self.asked.set()
        return outcome

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        outcome = await super().withdraw(document_key, addressee, words)
        self.asked.set()
        return outcome


async def test_a_channel_that_hangs_keeps_nothing_from_another(tmp_path: Path, sqlite_url: str) -> None:
    hanging, second = Hanging("hanging"), Heard("second")
    async with opened(tmp_path, sqlite_url, hanging, second) as rig:
        report_id = await rig.file(verified())
        await rig.on(DUE_AT)
        await rig.looking.look()
        tending = asyncio.create_task(rig.tending.tend(report_id))
        async with asyncio.timeout(HANG_GUARD_S):
            await second.asked.wait()
        assert (second.texts, hanging.texts) == ([["No fracture."]], [])
        hanging.goes_on.set()
        await tending
        hanging.goes_on.clear()
        second.asked.clear()
        await rig.file(verified(said=Said.WITHDRAWN), "m-2")
        tending = asyncio.create_task(rig.tending.tend(report_id))
        async with asyncio.timeout(HANG_GUARD_S):
            await second.asked.wait()
        assert (second.texts, hanging.texts) == ([], [["No fracture."]])
        hanging.goes_on.set()
        await tending
        assert hanging.texts == []


@pytest.mark.parametrize("outcome", [FAILED, UNKNOWN], ids=["failed", "unknown"])
async def test_what_a_channel_has_not_done_yet_stands_on_the_board(
    tmp_path: Path, sqlite_url: str, outcome: Outcome
) -> None:
    failing = Portal("failing", puts=[outcome], withdrawals=[FAILED])
    async with opened(tmp_path, sqlite_url, Portal("first"), failing) as rig:

        async def on_the_board() -> int:
            return (await rig.store.read(lambda read: board(read, rig.planner, NORTH))).retried

        await rig.file(verified())
        await rig.look(DUE_AT)
        assert await on_the_board() == 1
        await rig.look(DUE_AT + timedelta(minutes=1))
        assert (await on_the_board(), failing.texts) == (0, [["No fracture."]])
        await rig.file(verified(said=Said.WITHDRAWN), "m-2")
        await rig.work()
        assert await on_the_board() == 1
        await rig.look(DUE_AT + timedelta(minutes=3))
        assert (await on_the_board(), failing.texts) == (0, [])


async def test_the_way_to_what_a_channel_has_not_done_yet_is_an_index(store: SqlStore) -> None:
    asked = str(select(report_delivery.c.report_id).where(IS_RETRIED).compile(compile_kwargs={"literal_binds": True}))
    if store.database.is_sqlite:
        rows = await store.read(lambda read: read.connection.execute(text(f"EXPLAIN QUERY PLAN {asked}")).all())
        assert any("ix_report_delivery_retried" in str(row) for row in rows)
