"""What every store answers to `cross_references`: one person's identifiers, over confirmed merges alone (SAF-33)."""

from __future__ import annotations

import pytest

from gateway.model.errors import InvalidRequest, StoreUnavailable
from gateway.model.seams import CrossReference, LinkedNumber
from policy.parties import NhsNumber, PatientId
from storage.engines import DatabaseSettings
from storage.registers import merges, patients
from storage.registers.merges import MergeBasis
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.storage.people import ANNE, BEN, CARA, CLERK, OFFICER, patient

MRN = PatientId("RYJ", "0001234")


async def reference(store: SqlStore, number: NhsNumber) -> CrossReference | None:
    """What a number leads to."""
    return (await store.cross_references([patients.nhs(number)])).get(patients.nhs(number))


async def link(store: SqlStore, number: NhsNumber, local: PatientId, source: str) -> None:
    """Record a hospital's number of a patient."""
    row = await patient(store, number)
    await store.write(lambda tx: patients.add_identifier(tx, row, local, CLERK, source=source))


async def test_nobody_is_known_by_a_number_that_nobody_recorded(store: SqlStore) -> None:
    assert await store.cross_references([patients.nhs(ANNE), MRN]) == {}


async def test_a_persons_numbers_lead_to_one_another_with_who_said_so(store: SqlStore) -> None:
    row = await store.write(lambda tx: patients.ensure(tx, patients.nhs(ANNE), CLERK, source="cli", status="01"))
    await store.write(lambda tx: patients.add_identifier(tx, row, MRN, CLERK, source="RYJ"))
    expected = CrossReference(ANNE, "01", frozenset(), (LinkedNumber(MRN, "RYJ"),))
    assert await store.cross_references([MRN, patients.nhs(ANNE)]) == {MRN: expected, patients.nhs(ANNE): expected}


async def test_a_hospitals_number_without_an_nhs_number_is_a_person_of_its_own(store: SqlStore) -> None:
    await store.write(lambda tx: patients.ensure(tx, MRN, CLERK, source="RYJ"))
    assert await store.cross_references([MRN]) == {MRN: CrossReference(None, local=(LinkedNumber(MRN, "RYJ"),))}


async def test_a_superseded_number_leads_to_the_one_that_survived_and_back(store: SqlStore) -> None:
    anne, ben, cara = [await patient(store, number) for number in (ANNE, BEN, CARA)]
    await link(store, CARA, MRN, "RYJ")
    await store.write(lambda tx: merges.merge(tx, cara, ben, MergeBasis.PDS_SUPERSESSION, CLERK))
    await store.write(lambda tx: merges.merge(tx, ben, anne, MergeBasis.PDS_SUPERSESSION, CLERK))
    for number in (ANNE, BEN, CARA):
        assert await reference(store, number) == CrossReference(
            ANNE, former=frozenset({BEN, CARA}), local=(LinkedNumber(MRN, "RYJ"),)
        )


async def test_a_merge_that_nobody_confirmed_leaves_two_people(store: SqlStore) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    merged = await store.write(lambda tx: merges.merge(tx, ben, anne, MergeBasis.TWO_PEOPLE, CLERK))
    assert await reference(store, BEN) == CrossReference(BEN)
    await store.write(lambda tx: merges.confirm_merge(tx, merged, OFFICER))
    assert await reference(store, BEN) == CrossReference(ANNE, former=frozenset({BEN}))
    await store.write(lambda tx: merges.undo_merge(tx, merged, CLERK))
    assert await reference(store, BEN) == CrossReference(BEN)


async def test_a_number_that_is_no_longer_believed_leads_nowhere(store: SqlStore) -> None:
    await link(store, ANNE, MRN, "RYJ")
    await store.write(lambda tx: patients.remove_identifier(tx, MRN, OFFICER))
    assert await store.cross_references([MRN]) == {}
    assert await reference(store, ANNE) == CrossReference(ANNE)


async def test_patients_that_cannot_be_read_are_unavailable(url: str, clock: FakeClock) -> None:
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock) as store:
        pass
    with pytest.raises(StoreUnavailable):
        await store.cross_references([MRN])


async def test_a_trusts_own_word_about_its_number_replaces_anybody_elses(store: SqlStore) -> None:
    row = await patient(store, ANNE)
    await link(store, ANNE, MRN, "cli")
    assert await store.write(lambda tx: patients.vouch(tx, row, MRN, CLERK, source="RYJ"))
    assert not await store.write(lambda tx: patients.vouch(tx, row, MRN, CLERK, source="RYJ"))
    await link(store, ANNE, MRN, "cli")
    found = await reference(store, ANNE)
    assert found is not None and found.local == (LinkedNumber(MRN, "RYJ"),)


async def test_a_trusts_word_joins_no_two_patients(store: SqlStore) -> None:
    await link(store, ANNE, MRN, "cli")
    ben = await patient(store, BEN)
    with pytest.raises(InvalidRequest, match="another patient"):
        await store.write(lambda tx: patients.vouch(tx, ben, MRN, CLERK, source="RYJ"))


async def test_the_status_of_a_number_can_change_and_its_age_stays(store: SqlStore, clock: FakeClock) -> None:
    row = await patient(store, ANNE)
    await clock.advance(60)
    await store.write(lambda tx: patients.add_identifier(tx, row, patients.nhs(BEN), CLERK, source="trace"))
    await clock.advance(60)
    await store.write(lambda tx: patients.record_status(tx, patients.nhs(ANNE), "01", CLERK, source="trace"))
    found = await reference(store, ANNE)
    assert found == CrossReference(BEN, "", frozenset({ANNE}))
    await store.write(lambda tx: patients.record_status(tx, patients.nhs(BEN), "02", CLERK, source="trace"))
    found = await reference(store, ANNE)
    assert found == CrossReference(BEN, "02", frozenset({ANNE}))


async def test_a_status_of_nobodys_number_is_refused(store: SqlStore) -> None:
    with pytest.raises(InvalidRequest):
        await store.write(lambda tx: patients.record_status(tx, patients.nhs(ANNE), "01", CLERK, source="trace"))


# --- what PDS says (SAF-33) ---


async def superseded(store: SqlStore, former: NhsNumber = BEN, survivor: NhsNumber = ANNE) -> NhsNumber | None:
    """Let PDS say that a number gave way; who it leads to then."""
    await store.supersede(former, survivor, source="pds", request_id="request-1")
    found = await reference(store, former)
    return found.number if found is not None else None


async def test_pds_joins_two_numbers_that_nobody_knew(store: SqlStore) -> None:
    assert await superseded(store) == ANNE


async def test_what_pds_says_again_is_no_register_write(store: SqlStore) -> None:
    await superseded(store)
    before = await store.register_version()
    assert await superseded(store) == ANNE
    assert await store.register_version() == before


async def test_pds_confirms_what_one_person_claimed(store: SqlStore) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    await store.write(lambda tx: merges.merge(tx, ben, anne, MergeBasis.TWO_PEOPLE, CLERK))
    assert await superseded(store) == ANNE


async def test_pds_does_not_join_again_what_staff_has_parted(store: SqlStore) -> None:
    await superseded(store)
    [merge] = await store.read(merges.merges)
    await store.write(lambda tx: merges.undo_merge(tx, merge.merge_id, OFFICER))
    assert await superseded(store) == BEN


async def test_pds_turns_round_no_merge_and_closes_no_circle(store: SqlStore) -> None:
    await superseded(store, ANNE, BEN)
    assert await superseded(store, BEN, ANNE) == BEN
    await superseded(store, CARA, ANNE)
    assert await superseded(store, BEN, CARA) == BEN


async def test_a_number_that_is_joined_to_somebody_else_is_left_to_people(store: SqlStore) -> None:
    await superseded(store, BEN, ANNE)
    assert await superseded(store, BEN, CARA) == ANNE
