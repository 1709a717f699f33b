"""A report whose patient changed since verification is held until a person has looked (SAF-33, REL-36)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.release.upkeep.identities import Identities
from policy.parties import NhsNumber
from policy.release.circumstances import HoldKind, Plan, ReleaseState
from policy.release.reports import Standing
from storage.database import Tx
from storage.registers import merges, patients
from storage.registers.merges import MergeBasis
from storage.registers.state import Author
from storage.release import holds, reports
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import OMAR, SARAH, VERIFIED_AT, incoming, message
from tests.release.rig import Rig
from tests.storage.keyrings import Place

CLERK, OTHER = Author("clerk", "r-1", "duplicate"), Author("second clerk", "r-2", "checked")


@dataclass
class Desk:
    """Two patients, a report of each, and who looks after whose they are."""

    rig: Rig
    sarahs: str = ""
    omars: str = ""
    planned: list[str] = field(default_factory=list)

    @property
    def identities(self) -> Identities:
        def replan(_: Tx, report_id: str, author: Author) -> None:
            self.planned.append(f"{report_id}: {author.reason}")

        return Identities(self.rig.store, replan)

    async def filed(self, **otherwise: object) -> str:
        """A verified report that waits."""
        name = str(otherwise)
        report_id = (await self.rig.intake.take(message(incoming(**otherwise), name=name))).report_ids[0]

        def settle(tx: Tx) -> None:
            current = reports.versions(tx, report_id)[-1].version_id
            reports.settle(tx, report_id, Plan(ReleaseState.EMBARGOED), Standing.VERIFIED, current)

        await self.rig.store.write(settle)
        return report_id

    async def row(self, number: NhsNumber | None) -> str:
        assert number is not None
        found = await self.rig.store.read(lambda read: patients.find(read, patients.nhs(number)))
        assert found is not None
        return found

    async def merged(self, basis: MergeBasis) -> str:
        """Sarah's number gives way to Omar's."""
        sarah, omar = await self.row(SARAH.nhs_number), await self.row(OMAR.nhs_number)
        return await self.rig.store.write(lambda tx: merges.merge(tx, sarah, omar, basis, CLERK))

    async def held(self, report_id: str) -> list[str]:
        """Why it is held for its identity."""
        found = await self.rig.store.read(lambda read: holds.decisions(read, report_id))
        assert all(hold.kind is HoldKind.IDENTITY for hold in found.holds)
        return [hold.reason for hold in found.holds]


@pytest.fixture
async def desk(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Desk]:
    async with Place(tmp_path / "keys", clock).keyring() as keys:
        desk = Desk(Rig(store, keys))
        desk.sarahs, desk.omars = await desk.filed(), await desk.filed(subject=OMAR, report_number="R-2")
        yield desk


async def test_nothing_is_held_while_nobody_changes(desk: Desk) -> None:
    assert await desk.identities.look("r") == 0


async def test_a_merge_holds_the_reports_of_the_number_that_gave_way_once(desk: Desk) -> None:
    await desk.merged(MergeBasis.PDS_SUPERSESSION)
    assert await desk.identities.look("r") == 1
    assert await desk.held(desk.sarahs) == ["the patient was merged since verification"]
    assert await desk.held(desk.omars) == []
    assert desk.planned == [f"{desk.sarahs}: the patient was merged since verification"]
    assert await desk.identities.look("r") == 0


async def test_one_persons_claim_changes_nothing_until_the_second_confirms_it(desk: Desk) -> None:
    merge_id = await desk.merged(MergeBasis.TWO_PEOPLE)
    assert await desk.identities.look("r") == 0
    await desk.rig.store.write(lambda tx: merges.confirm_merge(tx, merge_id, OTHER))
    assert await desk.identities.look("r") == 1


async def test_a_merge_that_is_undone_holds_what_went_to_the_other_patient(desk: Desk, clock: FakeClock) -> None:
    merge_id = await desk.merged(MergeBasis.PDS_SUPERSESSION)
    await clock.advance(3600)
    joined = clock.now() - timedelta(minutes=1)
    later = await desk.filed(report_number="R-3", stated_at=joined, verification=incoming().verification)
    assert await desk.identities.look("r") == 2
    await clock.advance(60)
    await desk.rig.store.write(lambda tx: merges.undo_merge(tx, merge_id, OTHER))
    assert await desk.identities.look("r") == 2
    assert "a merge of the patient was undone since verification" in await desk.held(later)


async def test_a_hold_that_a_person_ended_is_not_placed_again_for_the_same_change(desk: Desk) -> None:
    await desk.merged(MergeBasis.PDS_SUPERSESSION)
    await desk.identities.look("r")
    [hold] = (await desk.rig.store.read(lambda read: holds.decisions(read, desk.sarahs))).holds
    await desk.rig.store.write(lambda tx: holds.end(tx, hold.hold_id, "J Doe", "it is hers"))
    assert await desk.identities.look("r") == 0
    assert await desk.held(desk.sarahs) == []


async def test_what_was_verified_after_the_merge_is_not_held(desk: Desk, clock: FakeClock) -> None:
    await desk.merged(MergeBasis.PDS_SUPERSESSION)
    await desk.identities.look("r")
    await clock.advance(3600)
    verification = incoming().verification
    assert verification is not None
    at = clock.now()
    fresh = type(verification)(at, verification.by)
    await desk.filed(report_number="R-4", stated_at=at, verification=fresh)
    assert at > VERIFIED_AT
    assert await desk.identities.look("r") == 0


async def test_rows_that_were_merged_into_the_one_that_gave_way_go_with_it(desk: Desk) -> None:
    third = NhsNumber("9990000034")
    thirds = await desk.filed(report_number="R-5", subject=type(SARAH)(nhs_number=third))
    row, sarah = await desk.row(third), await desk.row(SARAH.nhs_number)
    await desk.rig.store.write(lambda tx: merges.merge(tx, row, sarah, MergeBasis.PDS_SUPERSESSION, CLERK))
    assert await desk.identities.look("r") == 1
    await desk.merged(MergeBasis.PDS_SUPERSESSION)
    assert await desk.identities.look("r") == 2
    assert len(await desk.held(thirds)) == 2
