"""What nobody can know is neither repeated nor dropped: it is a person's work (SAF-67)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.model.errors import InvalidRequest
from policy.release.circumstances import ReleaseState
from storage.release.deliveries import DeliveryState
from storage.release.releases import NoticeState
from tests.release.portal import FAILED, REFUSED, UNKNOWN, Portal
from tests.release.release_rig import CLINICIAN, DUE_AT, Rig, opened, verified


async def states(rig: Rig, report_id: str) -> Sequence[DeliveryState]:
    """Of each delivery of a report."""
    return [each.state for each in await rig.given(report_id)]


async def hours(rig: Rig, count: int) -> None:
    """Let so many hours pass, and look in each."""
    for _ in range(count):
        await rig.clock.advance(3_600)
        await rig.look()


async def test_a_put_of_unknown_outcome_is_repeated_by_its_key_where_that_is_once(
    tmp_path: Path, sqlite_url: str
) -> None:
    portal = Portal(puts=[UNKNOWN, UNKNOWN, FAILED])
    async with opened(tmp_path, sqlite_url, portal) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        assert (await rig.report(report_id)).state is ReleaseState.DUE
        await hours(rig, 3)
        assert await states(rig, report_id) == [DeliveryState.CONFIRMED]
        assert (len(portal.shown), portal.put_count, len(portal.told)) == (1, 4, 1)


async def test_a_put_of_unknown_outcome_elsewhere_waits_for_a_person(tmp_path: Path, sqlite_url: str) -> None:
    portal = Portal(puts=[UNKNOWN], is_idempotent=False)
    async with opened(tmp_path, sqlite_url, portal) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        await hours(rig, 3)
        assert await states(rig, report_id) == [DeliveryState.UNKNOWN]
        assert (portal.put_count, portal.told) == (1, [])
        assert await rig.released(report_id) == {}


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_person_says_what_became_of_it(tmp_path: Path, sqlite_url: str, is_there: bool) -> None:
    portal = Portal(puts=[UNKNOWN], is_idempotent=False)
    async with opened(tmp_path, sqlite_url, portal) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        [delivery] = await rig.given(report_id)
        key = delivery.document_key
        await rig.store.write(
            lambda tx: rig.acts.settle_delivery(
                tx, CLINICIAN, report_id, "portal", key, "asked the portal's desk", is_there=is_there
            )
        )
        await rig.work()
        assert await states(rig, report_id) == [DeliveryState.CONFIRMED]
        assert portal.put_count == (1 if is_there else 2)
        assert (await rig.report(report_id)).state is ReleaseState.RELEASED
        with pytest.raises(InvalidRequest):
            await rig.store.write(
                lambda tx: rig.acts.settle_delivery(tx, CLINICIAN, report_id, "portal", key, "again", is_there=True)
            )


async def test_what_a_channel_refuses_is_not_pressed_on_it(tmp_path: Path, sqlite_url: str) -> None:
    portal = Portal(puts=[REFUSED])
    async with opened(tmp_path, sqlite_url, portal) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        await hours(rig, 3)
        assert await states(rig, report_id) == [DeliveryState.REFUSED]
        assert portal.put_count == 1
        assert (await rig.report(report_id)).state is ReleaseState.DUE


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(UNKNOWN, NoticeState.UNKNOWN), (FAILED, NoticeState.FAILED), (REFUSED, NoticeState.FAILED)],
)
async def test_a_patient_is_told_at_most_once_whatever_came_of_it(
    tmp_path: Path, sqlite_url: str, outcome: object, expected: NoticeState
) -> None:
    portal = Portal(notices=[outcome])  # type: ignore[list-item]  # by the parameters
    async with opened(tmp_path, sqlite_url, portal) as rig:
        report_id = await rig.file(verified())
        await rig.look(DUE_AT)
        await hours(rig, 3)
        assert len(portal.told) == 1
        [notice] = await rig.notices(report_id)
        assert notice.state is expected
        await rig.store.write(
            lambda tx: rig.acts.settle_notice(tx, CLINICIAN, report_id, notice.version_id, "rang the patient")
        )
        assert (await rig.notices(report_id))[0].state is NoticeState.SETTLED


async def test_a_channel_that_stays_away_is_alarmed_and_not_at_every_try(tmp_path: Path, sqlite_url: str) -> None:
    portal = Portal(puts=[FAILED] * 40)
    async with opened(tmp_path, sqlite_url, portal) as rig:
        await rig.file(verified())
        with capture_logs() as logs:
            await rig.look(DUE_AT)
            await hours(rig, 8)
        assert portal.put_count == 9
        alarms = [each for each in logs if each["event"] == "report not delivered"]
        assert [(each["alarm"], each["attempts"]) for each in alarms] == [(True, 4)]
