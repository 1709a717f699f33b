"""What one channel shows already goes to a second one by the rules of the day on which it goes there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.model.reporting.channels import Account
from gateway.model.reporting.incoming import Exam
from gateway.model.seams import TraceState
from policy.release.circumstances import Death, ReleaseState
from tests.release.portal import PROVEN, Portal
from tests.release.release_rig import DUE_AT, Rig, opened, verified


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
