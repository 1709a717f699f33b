"""What a patient is not to see any more leaves every channel that had it (REL-25, REL-34 to 36, SAF-61)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.model.reporting.channels import Outcome, PatientReport, Receipt, Rendering
from gateway.model.reporting.incoming import ReportSource
from gateway.model.reporting.seams import MessageState
from policy.release import withholding
from policy.release.circumstances import HoldKind, ReleaseState
from policy.release.reports import Said
from storage.database import Tx
from storage.release import deliveries, reports
from storage.release.deliveries import DeliveryState, Document
from tests.release.incoming import OMAR, message
from tests.release.portal import FAILED, REFUSED, UNKNOWN, Portal
from tests.release.release_rig import CLINICIAN, DUE_AT, MONDAY, PHONE, RESPONSIBLE, Rig, opened, verified

LATER = DUE_AT + timedelta(days=1)


@pytest.fixture
def app() -> Portal:
    """One of two channels."""
    return Portal("app")


@pytest.fixture
def portal() -> Portal:
    """The other one."""
    return Portal("portal")


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str, app: Portal, portal: Portal) -> AsyncIterator[Rig]:
    """One process over both."""
    async with opened(tmp_path, sqlite_url, app, portal) as running:
        yield running


async def released(rig: Rig) -> str:
    """A report that both channels show."""
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    return report_id


async def test_a_corrected_report_leaves_every_channel_at_once_and_comes_back_corrected(
    rig: Rig, app: Portal, portal: Portal
) -> None:
    report_id = await released(rig)
    await rig.on(LATER)
    await rig.file(verified(LATER, "A fracture.", said=Said.CORRECTED), name="m-2")
    await rig.work()
    for channel in (app, portal):
        assert channel.shown == {}
        [words] = channel.words.values()
        assert words == (
            "This report is being corrected. The corrected report will be shown here when it is ready."
            f" If you have any questions, please ring {PHONE}."
        )
    assert {each.state for each in await rig.given(report_id)} == {DeliveryState.WITHDRAWN}
    await rig.look(LATER + timedelta(days=28, hours=1))
    for channel in (app, portal):
        assert channel.texts == [["A fracture."]]
    assert len(app.told) + len(portal.told) == 2
    assert {str(entry["channel"]) for entry in await rig.audit("withdrawn")} == {"app", "portal"}


@pytest.mark.parametrize("said", [Said.WITHDRAWN, Said.TAKEN_BACK, Said.PRELIMINARY])
async def test_what_its_source_takes_back_leaves_every_channel(
    rig: Rig, app: Portal, portal: Portal, said: Said
) -> None:
    report_id = await released(rig)
    await rig.on(LATER)
    await rig.file(verified(LATER, said=said, verification=None), name="m-2")
    await rig.work()
    assert (app.shown, portal.shown) == ({}, {})
    assert (await rig.report(report_id)).state is not ReleaseState.RELEASED


async def test_what_is_taken_back_leaves_every_channel_however_many_documents_went_before(
    rig: Rig, app: Portal, portal: Portal
) -> None:
    report_id = await rig.file(verified())

    def gone_since(tx: Tx) -> None:
        for nth in range(250):
            document = Document(report_id, "app", f"earlier-{nth}", (f"text-{nth}",), "patient", b"key", b"sealed")
            deliveries.move(tx, deliveries.begin(tx, document, DeliveryState.PUTTING, DUE_AT), DeliveryState.REPLACED)

    await rig.store.write(gone_since)
    await rig.look(DUE_AT)
    assert [len(channel.shown) for channel in (app, portal)] == [1, 1]
    await rig.on(LATER)
    await rig.file(verified(LATER, "", said=Said.WITHDRAWN, verification=None), name="m-2")
    await rig.work()
    assert [channel.shown for channel in (app, portal)] == [{}, {}]
    assert not any(each.state.may_be_seen for each in await rig.given(report_id))


async def test_a_report_of_another_patient_is_taken_back_from_whom_it_went_to(rig: Rig, app: Portal) -> None:
    await released(rig)
    await rig.on(LATER)
    await rig.file(verified(LATER, said=Said.CORRECTED, subject=OMAR), name="m-2")
    await rig.work()
    assert app.shown == {}
    await rig.look(LATER + timedelta(days=29))
    assert {each.nhs_number.digits for each in app.asked_for} == {"9990000018"}


async def test_a_channel_that_does_not_answer_is_asked_until_it_is_gone(rig: Rig, app: Portal, portal: Portal) -> None:
    app.withdrawals = [FAILED, UNKNOWN, FAILED]
    report_id = await released(rig)
    await rig.on(LATER)
    await rig.file(verified(LATER, said=Said.WITHDRAWN, verification=None), name="m-2")
    await rig.work()
    assert (len(app.shown), portal.shown) == (1, {})
    for _ in range(10):
        await rig.clock.advance(60)
        await rig.look()
    assert app.shown == {}
    assert {each.state for each in await rig.given(report_id)} == {DeliveryState.WITHDRAWN}


async def test_a_channel_that_refuses_to_take_it_away_is_a_persons_work(rig: Rig, app: Portal) -> None:
    app.withdrawals = [REFUSED]
    report_id = await released(rig)
    await rig.on(LATER)
    await rig.file(verified(LATER, said=Said.WITHDRAWN, verification=None), name="m-2")
    await rig.work()
    stuck = next(each for each in await rig.given(report_id) if each.channel == "app")
    assert (stuck.state, stuck.words) == (DeliveryState.STUCK, REFUSED.words)
    key = stuck.document_key
    await rig.store.write(
        lambda tx: rig.acts.settle_delivery(tx, CLINICIAN, report_id, "app", key, "rang the portal", is_there=False)
    )
    assert {each.state for each in await rig.given(report_id)} == {DeliveryState.WITHDRAWN}


async def test_a_hold_says_nothing_of_its_reason_to_the_patient(rig: Rig, app: Portal) -> None:
    report_id = await released(rig)
    review_on = (DUE_AT + timedelta(days=7)).date()
    await rig.store.write(
        lambda tx: rig.acts.hold(
            tx, RESPONSIBLE, report_id, HoldKind.SAFEGUARDING, "concern about the household", review_on
        )
    )
    await rig.work()
    [words] = app.words.values()
    assert words == f"This report is not available. If you have any questions, please ring {PHONE}."
    [hold] = (await rig.situation(report_id)).plan.held_for
    assert hold == "safeguarding"


async def test_a_hold_that_ends_lets_the_report_come_back_without_telling_again(
    rig: Rig, app: Portal, portal: Portal
) -> None:
    report_id = await released(rig)
    review_on = (DUE_AT + timedelta(days=7)).date()
    await rig.store.write(
        lambda tx: rig.acts.hold(tx, RESPONSIBLE, report_id, HoldKind.LEGAL, "asked by the court", review_on)
    )
    await rig.work()
    assert app.shown == {}
    entry = (await rig.audit("hold"))[0]
    await rig.store.write(lambda tx: rig.acts.end_hold(tx, RESPONSIBLE, str(entry["hold"]), "the court has answered"))
    await rig.work()
    assert app.texts == [["No fracture."]]
    assert len(app.told + portal.told) == 1
    assert len(await rig.released(report_id)) == 1


async def test_a_retracted_report_stays_away(rig: Rig, app: Portal, portal: Portal) -> None:
    report_id = await released(rig)
    [version] = await rig.released(report_id)
    await rig.store.write(lambda tx: rig.acts.retract(tx, CLINICIAN, report_id, version, "it misleads"))
    await rig.work()
    await rig.look(LATER)
    assert (app.shown, portal.shown) == ({}, {})
    assert (await rig.report(report_id)).state is ReleaseState.RETRACTED


async def test_what_nobody_knows_to_be_there_is_taken_back_as_well(rig: Rig, app: Portal) -> None:
    app.puts = [Outcome(Receipt.UNKNOWN)]
    report_id = await released(rig)
    assert next(each for each in await rig.given(report_id) if each.channel == "app").state is DeliveryState.PUTTING
    await rig.file(verified(DUE_AT, said=Said.WITHDRAWN, verification=None), name="m-2")
    await rig.work()
    assert app.shown == {}


class BehindAProxy(Portal):
    """It takes what it is given, and what stands before it says that it did not."""

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        await super().put(report, rendering)
        return FAILED


async def test_what_was_tried_is_taken_back_though_its_channel_said_that_it_failed(
    tmp_path: Path, sqlite_url: str
) -> None:
    app = BehindAProxy("app")
    async with opened(tmp_path, sqlite_url, app) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        assert [each.state for each in await rig.given(report_id)] == [DeliveryState.WAITING]
        assert app.texts == [["No fracture."]]
        await rig.file(verified(DUE_AT, said=Said.WITHDRAWN, verification=None), name="m-2")
        await rig.work()
        assert app.shown == {}
        assert [each.state for each in await rig.given(report_id)] == [DeliveryState.WITHDRAWN]


@pytest.mark.parametrize("said", list(Said))
async def test_past_the_usual_number_of_versions_a_stop_and_a_newer_text_still_count(
    rig: Rig, app: Portal, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr(withholding, "VERSIONS_USUAL_MAX", 3)
    told = [verified(MONDAY + timedelta(minutes=nth), f"Text {nth}.") for nth in range(3)]
    *_, report_id = [await rig.file(each, name=f"m-{nth}") for nth, each in enumerate(told)]
    later = MONDAY + timedelta(hours=1)
    await rig.on(later)
    vouched = {} if said in {Said.VERIFIED, Said.CORRECTED, Said.APPENDED} else {"verification": None}
    await rig.file(verified(later, "The newest text.", said=said, **vouched), name="m-9")
    await rig.look(DUE_AT + timedelta(days=2))
    assert app.texts == []
    kept = await rig.report(report_id)
    assert kept.state is not ReleaseState.RELEASED
    if vouched:
        assert kept.current_version is None
        return
    assert kept.held_for == {"too-many-versions"}
    texts = [each.version_id for each in (await rig.situation(report_id)).lifecycle.texts]
    for text in texts:
        await rig.store.write(
            partial(rig.acts.review, staff=RESPONSIBLE, report_id=report_id, version_id=text, reason="read")
        )
    await rig.look()
    assert [text for document in app.texts for text in document][-1:] == ["The newest text."]


async def test_a_report_that_takes_no_more_versions_leaves_every_channel(
    rig: Rig, app: Portal, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = await released(rig)
    states = list[MessageState]()
    monkeypatch.setattr(withholding, "VERSIONS_MAX", 3)
    monkeypatch.setattr(reports, "VERSIONS_MAX", 3)
    for nth in range(4):
        at = LATER + timedelta(minutes=nth)
        await rig.on(at)
        draft = verified(at, f"Draft {nth}.", said=Said.PRELIMINARY, verification=None, source=ReportSource.FHIR)
        states.append((await rig.intake.take(message(draft, name=f"d-{nth}"))).state)
    assert states == [MessageState.FILED] * 2 + [MessageState.DEAD] * 2
    await rig.work()
    assert [channel.shown for channel in (app, portal)] == [{}, {}]
    assert (await rig.report(report_id)).held_for == {"too-many-versions"}
