"""All that is kept of a report goes together once its time is over, and nothing of it while it is needed (SAF-41)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.model.reporting.channels import Account
from gateway.release.giving.page import PageChannel
from gateway.release.upkeep.forgetting import GONE, Forgetting, Forgotten, Retention
from policy.release.circumstances import ReleaseState
from policy.release.reports import Said
from storage.registers import patients as registered
from storage.release import patients
from storage.release.deliveries import DeliveryState, report_delivery
from storage.release.patients import KeptAccount, patient_document
from storage.release.standing import report_trace
from storage.release.tables import report_version
from tests.release.copies import NO_COPIES, at
from tests.release.incoming import SARAH
from tests.release.portal import FAILED, Portal
from tests.release.release_rig import DUE_AT, Rig, opened, render, verified

DAY = timedelta(days=1)
KEPT = Retention(payloads=90 * DAY, dead_letters=90 * DAY, addressees=90 * DAY, texts=400 * DAY, letters=90 * DAY)
OVER = DUE_AT + 401 * DAY
"""Longer after it was released than a text is kept."""
SEALED = (report_version, report_delivery, report_trace, patient_document)


@pytest.fixture
def portal() -> Portal:
    """A channel outside."""
    return Portal("portal")


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str, portal: Portal) -> AsyncIterator[Rig]:
    """A process over that and the patient's page, on which Sarah has signed in."""
    async with opened(tmp_path, sqlite_url, portal) as running:
        page = PageChannel("patient-page", running.store, running.vault, running.time.now, render)
        running.channels["patient-page"] = page
        running.terms = replace(running.terms, channels=("portal", "patient-page"))
        yield running


async def released(rig: Rig) -> str:
    """A report that Sarah sees at the portal and on the page."""
    report_id = await rig.file(verified())
    assert SARAH.nhs_number is not None and SARAH.birth_date is not None
    row = await rig.store.patient_row(registered.nhs(SARAH.nhs_number))
    key_id, sealed = await rig.vault.seal(f"patient-account/{row}", SARAH.family_name.encode(), row)
    account = KeptAccount(row, SARAH.birth_date.isoformat(), key_id, sealed)
    await rig.store.write(lambda tx: patients.signed_in(tx, account))
    await rig.look(DUE_AT)
    assert {each.state for each in await rig.given(report_id)} == {DeliveryState.CONFIRMED}
    return report_id


async def forget(rig: Rig) -> Forgotten:
    """What is forgotten at this moment."""
    return await Forgetting(rig.store, NO_COPIES, lambda: KEPT, at(rig.clock.now())).forget()


async def sealed(rig: Rig) -> set[str]:
    """The tables in which something is sealed."""

    def body(read: object) -> set[str]:
        assert hasattr(read, "connection")
        found = {each.name: read.connection.execute(select(each.c.sealed)).scalars().all() for each in SEALED}
        return {name for name, values in found.items() if any(values)}

    return await rig.store.read(body)


async def test_all_that_is_kept_of_a_report_goes_together(rig: Rig) -> None:
    report_id = await released(rig)
    assert await sealed(rig) == {each.name for each in SEALED}
    await rig.on(OVER)
    assert (await forget(rig)).versions == 1
    assert await sealed(rig) == set()
    assert await forget(rig) == Forgotten()
    report = await rig.report(report_id)
    assert report.patient_id is not None
    row = report.patient_id
    [document] = await rig.store.read(lambda read: patients.documents(read, [row]))
    assert (document.is_shown, document.words) == (False, GONE)


async def test_what_is_still_to_be_taken_back_keeps_its_addressee(rig: Rig, portal: Portal) -> None:
    report_id = await released(rig)
    portal.withdrawals = [FAILED] * 1000
    await rig.file(verified(DUE_AT + DAY, "", said=Said.WITHDRAWN), name="m-2")
    await rig.work()
    await rig.on(OVER + 10 * DAY)
    assert (await forget(rig)).versions == 0
    assert {"report_version", "report_delivery"} <= await sealed(rig)
    portal.withdrawals = []
    await rig.look()
    assert {each.state for each in await rig.given(report_id)} == {DeliveryState.WITHDRAWN}


async def test_whom_nobody_may_see_a_document_of_any_more_is_forgotten_before_the_text(rig: Rig) -> None:
    report_id = await released(rig)
    await rig.file(verified(DUE_AT + DAY, "", said=Said.WITHDRAWN), name="m-2")
    await rig.look(DUE_AT + 2 * DAY)
    assert "report_delivery" in await sealed(rig)
    await rig.on(DUE_AT + 93 * DAY)
    gone = await forget(rig)
    assert (gone.versions, gone.addressees) == (0, 3)
    assert await sealed(rig) == {"report_version"}
    assert (await rig.report(report_id)).state is ReleaseState.WITHDRAWN


async def test_whom_a_document_went_to_that_may_be_seen_is_kept_with_the_text(rig: Rig) -> None:
    await released(rig)
    await rig.on(DUE_AT + 93 * DAY)
    assert (await forget(rig)).addressees == 1, "the trace of the day"
    assert await sealed(rig) == {each.name for each in SEALED} - {"report_trace"}


async def test_what_is_to_be_taken_back_after_all_was_forgotten_is_a_persons_work(rig: Rig, portal: Portal) -> None:
    report_id = await released(rig)
    await rig.on(OVER)
    await forget(rig)
    await rig.file(verified(OVER, "", said=Said.WITHDRAWN), name="m-2")
    await rig.work()
    at_portal = next(each for each in await rig.given(report_id) if each.channel == "portal")
    assert at_portal.state is DeliveryState.STUCK
    assert "by hand" in at_portal.words
    assert len(portal.shown) == 1


async def test_whoever_gets_an_account_after_all_was_forgotten_is_given_nothing(rig: Rig) -> None:
    late = Portal("late", has_account=Account(is_there=False))
    rig.channels["late"] = late
    rig.terms = replace(rig.terms, channels=("portal", "patient-page", "late"))
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    row = (await rig.report(report_id)).patient_id
    assert row is not None
    await rig.on(OVER)
    assert (await forget(rig)).versions == 1
    late.has_account = Account(is_there=True, is_proven=True)
    assert await rig.store.write(lambda tx: rig.acts.signed_up(tx, row)) == 0
    await rig.look(OVER + 10 * DAY)
    assert late.shown == {}
    assert (await rig.report(report_id)).look_at is None


async def test_a_report_that_is_only_looked_at_again_and_again_does_not_count_as_changed(rig: Rig) -> None:
    report_id = await released(rig)
    rig.channels["empty"] = Portal("empty", has_account=Account(is_there=False))
    rig.terms = replace(rig.terms, channels=("portal", "patient-page", "empty"))
    await rig.look(DUE_AT + DAY)
    changed_at = (await rig.report(report_id)).changed_at
    for day in range(2, 5):
        await rig.look(DUE_AT + day * DAY)
    assert (await rig.report(report_id)).changed_at == changed_at
