"""Register entries that must not undo each other: one clerk's claim never lifts a restriction (SAF-33, IDN-09)."""

from __future__ import annotations

import pytest

from policy.facts import SharingChoice
from policy.optout import CaseEvent, Role
from policy.parties import NhsNumber
from storage.database import Tx
from storage.registers import merges, optouts, patients
from storage.registers.state import Author
from tests.attacks.house import CALENDAR, DAY, STAFF, House, found_by
from tests.sharing.rows import ANNE, BEN, RZ2, asking_for, row

SECOND = Author("second", "request-0", "test")


async def chooses(house: House, number: NhsNumber, choice: SharingChoice, days_ago: int) -> None:
    """Let a patient's choice take effect some days ago."""
    at = house.clock.now() - days_ago * DAY

    def body(tx: Tx) -> None:
        receipt = optouts.Receipt(_row(tx, number), choice, "paper", "patient", at)
        case = optouts.open_case(tx, receipt, CALENDAR, Role.OFFICER, STAFF)
        for event in (CaseEvent.VERIFY, CaseEvent.IMPLEMENT):
            optouts.move_case(tx, case.case_id, event, Role.OFFICER, at, STAFF)

    await house.store.write(body)


async def merged(house: House, number: NhsNumber, survivor: NhsNumber) -> str:
    """Let one clerk claim that two numbers are one person's."""
    basis = merges.MergeBasis.TWO_PEOPLE
    return await house.store.write(lambda tx: merges.merge(tx, _row(tx, number), _row(tx, survivor), basis, STAFF))


async def is_found(house: House, number: NhsNumber) -> bool:
    house.archives[RZ2].rows = [row("1.1", number)]
    return bool(found_by(await house.find(asking_for(number))))


def _row(tx: Tx, number: NhsNumber) -> str:
    return patients.ensure(tx, patients.nhs(number), STAFF, source="test")


@pytest.mark.parametrize("survivor", [ANNE, BEN])
async def test_a_merge_that_nobody_confirmed_lifts_no_opt_out(house: House, survivor: NhsNumber) -> None:
    """Anne opted out long ago; Ben too, and in again yesterday. Whoever merges them must not open Anne's images."""
    await chooses(house, ANNE, SharingChoice.OPT_OUT, 100)
    await chooses(house, BEN, SharingChoice.OPT_OUT, 50)
    await chooses(house, BEN, SharingChoice.OPT_IN, 1)
    assert not await is_found(house, ANNE) and await is_found(house, BEN)
    merge = await merged(house, BEN if survivor == ANNE else ANNE, survivor)
    # Until somebody confirms it each is judged by both opt-outs.
    assert not await is_found(house, ANNE)
    assert not await is_found(house, BEN)
    await house.store.write(lambda tx: merges.undo_merge(tx, merge, SECOND))
    assert not await is_found(house, ANNE) and await is_found(house, BEN)


async def test_after_two_people_have_confirmed_the_persons_latest_choice_rules(house: House) -> None:
    await chooses(house, ANNE, SharingChoice.OPT_OUT, 100)
    merge = await merged(house, BEN, ANNE)
    await house.store.write(lambda tx: merges.confirm_merge(tx, merge, SECOND))
    assert not await is_found(house, ANNE) and not await is_found(house, BEN)
    await chooses(house, BEN, SharingChoice.OPT_IN, 1)
    assert await is_found(house, ANNE) and await is_found(house, BEN)


@pytest.mark.parametrize("survivor", [ANNE, BEN])
async def test_a_label_holds_for_both_numbers_as_soon_as_anybody_claims_that_they_are_one(
    house: House, survivor: NhsNumber
) -> None:
    """The trust may file the labelled study under the other number before anybody confirms the merge."""
    await house.labelled(ANNE, RZ2, "1.1")
    assert not await is_found(house, ANNE) and await is_found(house, BEN)
    await merged(house, BEN if survivor == ANNE else ANNE, survivor)
    assert not await is_found(house, ANNE)
    assert not await is_found(house, BEN)


async def test_nobodys_relationship_comes_of_a_merge_that_nobody_confirmed(house: House) -> None:
    other = NhsNumber("9990000034")
    await merged(house, other, ANNE)
    house.archives[RZ2].rows = [row("1.1", other)]
    await house.in_care(ANNE)
    query = asking_for(other)
    with pytest.raises(Exception, match="no care relationship"):
        await house.find(query)
