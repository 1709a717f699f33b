"""One report on its way to its patient: at its time, once, to whom it belongs, and back again where it is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.model.reporting.incoming import Exam, IncomingReport, ReportSource, Subject
from policy.release.circumstances import HoldKind, ReleaseState
from policy.release.reports import Said
from storage.database import Tx
from storage.release.deliveries import DeliveryState
from tests.release.portal import FAILED, Portal
from tests.release.release_rig import CLERK, DUE_AT, MONDAY, PHONE, Rig, opened, verified


@pytest.fixture
def portal() -> Portal:
    """One portal that takes everything."""
    return Portal()


@pytest.fixture
async def rig(tmp_path: Path, url: str, portal: Portal) -> AsyncIterator[Rig]:
    """One process over one portal, on each engine in turn."""
    async with opened(tmp_path, url, portal) as running:
        yield running


async def test_a_report_is_released_by_itself_once_its_time_has_come(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified())
    kept = await rig.report(report_id)
    assert (kept.state, kept.due_at) == (ReleaseState.EMBARGOED, DUE_AT)
    await rig.look(DUE_AT - timedelta(seconds=2))
    assert portal.shown == {}
    await rig.look(DUE_AT)
    assert portal.texts == [["No fracture."]]
    assert len(portal.told) == 1
    assert (await rig.report(report_id)).state is ReleaseState.RELEASED
    assert len(await rig.released(report_id)) == 1
    went = [entry["to"] for entry in await rig.audit("plan")]
    assert list(dict.fromkeys(went)) == ["embargoed", "due", "released"]


@pytest.mark.parametrize(
    "uncoded",
    [
        verified(MONDAY + timedelta(seconds=20), source=ReportSource.DICOM_SR, exam=Exam()),
        verified(MONDAY + timedelta(days=1), "more", said=Said.APPENDED, exam=Exam()),
    ],
    ids=["a copy of another source", "an addendum"],
)
@pytest.mark.parametrize(
    ("safeguarding", "excluded", "state"),
    [({"XSKEL"}, {"RES"}, ReleaseState.HELD), ({"XHEAD"}, {"XSKEL"}, ReleaseState.NOT_FOR_RELEASE)],
)
async def test_a_later_message_without_codes_frees_no_report_of_such_an_exam(
    rig: Rig, portal: Portal, uncoded: IncomingReport, safeguarding: set[str], excluded: set[str], state: ReleaseState
) -> None:
    rig.terms = replace(rig.terms, safeguarding_codes=frozenset(safeguarding), excluded_codes=frozenset(excluded))
    report_id = await rig.file(verified(exam=Exam(codes=("XSKEL",))))
    await rig.file(uncoded, name="m-2")
    assert (await rig.report(report_id)).state is state
    await rig.look(DUE_AT + timedelta(days=40))
    assert portal.shown == {}


async def test_a_report_whose_code_its_sender_mistyped_goes_under_another_number(rig: Rig, portal: Portal) -> None:
    """Nobody lifts an exclusion here: the sender withdraws the report, and sends it again as another one."""
    rig.terms = replace(rig.terms, excluded_codes=frozenset({"XSKEL"}))
    mistyped = await rig.file(verified(exam=Exam(codes=("XSKEL",))))
    stop = verified(MONDAY + timedelta(minutes=1), "", said=Said.WITHDRAWN, verification=None)
    await rig.file(stop, name="m-2")
    again = verified(MONDAY, report_number="R-2", exam=Exam(codes=("XCHES",)), stated_at=MONDAY + timedelta(minutes=2))
    right = await rig.file(again, name="m-3")
    assert right != mistyped
    await rig.look(DUE_AT + timedelta(minutes=1))
    assert {each.report_id for each in portal.shown.values()} == {right}
    assert (await rig.report(mistyped)).state is ReleaseState.WITHDRAWN


async def test_a_channel_that_fails_three_times_releases_once_when_it_confirms(rig: Rig, portal: Portal) -> None:
    portal.puts = [FAILED, FAILED, FAILED]
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    while (await rig.report(report_id)).state is not ReleaseState.RELEASED:
        assert (await rig.report(report_id)).state is ReleaseState.DUE
        assert await rig.released(report_id) == {}
        await rig.clock.advance(30)
        await rig.look()
    [delivery] = await rig.given(report_id)
    assert (delivery.state, delivery.attempts, delivery.due_at) == (DeliveryState.CONFIRMED, 4, DUE_AT)
    assert delivery.released_at is not None and delivery.released_at > DUE_AT + timedelta(seconds=90)
    assert list((await rig.released(report_id)).values()) == [delivery.released_at]
    assert len(portal.told) == 1


async def test_looking_again_and_again_releases_and_tells_once(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    events = len(await rig.audit())
    for _ in range(3):
        await rig.file(verified(), name=f"again-{_}")
        await rig.clock.advance(3_600)
        await rig.look()
    assert (portal.put_count, len(portal.told)) == (1, 1)
    assert len(await rig.audit("released")) == 1
    assert len(await rig.released(report_id)) == 1
    assert len(await rig.audit()) == events


async def test_a_report_that_was_due_at_night_goes_when_work_begins(rig: Rig, portal: Portal) -> None:
    friday_night = MONDAY + timedelta(days=4, hours=14)
    await rig.on(friday_night + timedelta(minutes=2))
    report_id = await rig.file(verified(friday_night))
    await rig.look(friday_night + timedelta(days=28, minutes=5))
    assert portal.shown == {}
    due_at = (await rig.report(report_id)).due_at
    assert due_at == datetime(2026, 7, 6, 7, tzinfo=UTC)  # Monday, 08:00 in London
    await rig.look(due_at)
    assert portal.texts == [["No fracture."]]


async def test_an_addendum_before_release_goes_with_its_report(rig: Rig, portal: Portal) -> None:
    await rig.file(verified())
    added_at = MONDAY + timedelta(days=7)
    await rig.on(added_at + timedelta(minutes=2))
    await rig.file(verified(added_at, "Seen again.", said=Said.APPENDED), name="m-2")
    await rig.look(DUE_AT)
    assert portal.shown == {}
    await rig.look(DUE_AT + timedelta(days=7))
    assert portal.texts == [["No fracture.", "Seen again."]]
    assert len(portal.told) == 1


async def test_an_addendum_after_release_takes_the_place_of_what_was_there(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    added_at = DUE_AT + timedelta(hours=1)
    await rig.on(added_at + timedelta(minutes=2))
    await rig.file(verified(added_at, "Seen again.", said=Said.APPENDED), name="m-2")
    await rig.work()
    assert portal.texts == [["No fracture."]]
    await rig.look(DUE_AT + timedelta(days=28, hours=2))
    assert portal.texts == [["No fracture.", "Seen again."]]
    assert sorted(each.state for each in await rig.given(report_id)) == ["confirmed", "replaced"]
    assert len(portal.told) == 2
    assert len(await rig.released(report_id)) == 2


async def test_every_agreed_channel_is_given_it_and_the_patient_told_once(tmp_path: Path, sqlite_url: str) -> None:
    app, portal = Portal("app", puts=[FAILED]), Portal("portal")
    async with opened(tmp_path, sqlite_url, app, portal) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        assert (app.texts, portal.texts) == ([], [["No fracture."]])
        assert (await rig.report(report_id)).state is ReleaseState.RELEASED
        await rig.clock.advance(60)
        await rig.look()
        assert app.texts == portal.texts
        assert len(app.told) + len(portal.told) == 1
        at = {each.channel: each.released_at for each in await rig.given(report_id)}
        assert at["portal"] < at["app"]  # type: ignore[operator]  # both are confirmed
        assert list((await rig.released(report_id)).values()) == [at["portal"]]


async def test_what_a_hold_came_for_while_the_channel_was_asked_is_taken_back(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified())
    placed: list[asyncio.Task[object]] = []

    def hold() -> None:
        review_on = (rig.clock.now() + timedelta(days=7)).date()

        def body(tx: Tx) -> object:
            return rig.acts.hold(tx, CLERK, report_id, HoldKind.WRONG_PATIENT, "not this patient", review_on)

        placed.append(asyncio.create_task(rig.store.write(body)))

    portal.on_put = hold
    await rig.look(DUE_AT)
    await asyncio.gather(*placed)
    await rig.work()
    assert portal.shown == {}
    assert (await rig.report(report_id)).state is ReleaseState.HELD
    assert list(portal.words.values()) == [
        f"This report is not available. If you have any questions, please ring {PHONE}."
    ]


async def test_a_report_that_names_no_patient_is_never_given(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified(subject=Subject(family_name="Nobody")))
    await rig.look(DUE_AT)
    assert (await rig.report(report_id)).state is ReleaseState.HELD
    assert (portal.put_count, rig.demographics.asked) == (0, 0)


async def test_a_channel_that_nobody_opened_keeps_no_other_waiting(rig: Rig, portal: Portal) -> None:
    rig.terms = replace(rig.terms, channels=("nowhere", "portal"))
    await rig.file(verified())
    await rig.look(DUE_AT)
    assert portal.texts == [["No fracture."]]
