"""What every store answers to `facts`: the rows that act, at an instant and at a state of knowledge."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.model.errors import StoreUnavailable
from policy.facts import Facts, Register, SharingChoice
from policy.optout import CaseEvent
from policy.parties import NhsNumber, PatientId, PurposeOfUse
from storage.engines import DatabaseSettings
from storage.registers import agreements, labels, merges, patients, relationships
from storage.registers.state import confirm
from storage.store import SqlStore, StoreSettings
from tests.clock import NOON, FakeClock
from tests.storage.people import (
    ANNE,
    BEN,
    CARA,
    CLERK,
    DAY,
    EAST,
    NORTH,
    OFFICER,
    SOUTH,
    case,
    grant,
    label,
    move,
    patient,
    relationship,
)

INSTANT = timedelta(microseconds=1)


async def facts(store: SqlStore, number: NhsNumber = ANNE, **instants: object) -> Facts:
    """What is known of a patient for NORTH at noon, or at another instant."""
    at = instants.pop("at", NOON)
    snapshot = await store.facts(NORTH, [number], at=at, **instants)  # type: ignore[arg-type]  # named by the caller
    return snapshot.by_patient[number]


async def test_an_unknown_patient_has_no_facts_but_the_agreements(store: SqlStore) -> None:
    await store.write(lambda tx: agreements.import_version(tx, SOUTH, [agreements.Clause()], NOON - DAY, CLERK))
    known = await facts(store)
    assert known.patient is None
    assert (known.relationships, known.choices, known.labels, known.grants) == ((), (), (), ())
    assert [agreement.custodian for agreement in known.agreements] == [SOUTH]
    assert known.faults == frozenset()


async def test_only_the_recipients_own_relationships_and_grants_are_facts(store: SqlStore) -> None:
    anne = await patient(store)
    mine = await relationship(store, anne, NORTH)
    await relationship(store, anne, SOUTH)
    granted = await grant(store, anne, NORTH)
    await grant(store, anne, SOUTH)
    known = await facts(store)
    assert known.patient == ANNE
    assert [row.relationship_id for row in known.relationships] == [mine]
    assert [row.grant_id for row in known.grants] == [granted]


async def test_a_relationship_counts_from_its_first_instant_until_just_before_its_end(store: SqlStore) -> None:
    anne = await patient(store)
    kept = await relationship(store, anne)
    await store.write(lambda tx: relationships.end(tx, kept, NOON + DAY, CLERK))
    assert (await facts(store, at=NOON - DAY - INSTANT)).relationships == ()
    assert (await facts(store, at=NOON - DAY)).relationships != ()
    assert (await facts(store, at=NOON + DAY - INSTANT)).relationships != ()
    assert (await facts(store, at=NOON + DAY)).relationships == ()


async def test_yesterdays_knowledge_still_finds_yesterdays_relationship(store: SqlStore, clock: FakeClock) -> None:
    anne = await patient(store)
    mistaken = await relationship(store, anne)
    before = clock.now()
    await clock.advance(60)
    await store.write(lambda tx: relationships.undo(tx, mistaken, CLERK))
    assert (await facts(store)).relationships == ()
    assert [row.relationship_id for row in (await facts(store, known_at=before)).relationships] == [mistaken]
    assert (await facts(store, known_at=before - INSTANT)).patient is None


async def test_a_received_or_acknowledged_opt_out_does_not_act(store: SqlStore) -> None:
    opened = await case(store, await patient(store))
    assert (await facts(store)).choices == ()
    await move(store, opened.case_id, CaseEvent.ACKNOWLEDGE)
    assert (await facts(store)).choices == ()


async def test_a_verified_opt_out_restricts_provisionally_until_it_is_rejected(
    store: SqlStore, clock: FakeClock
) -> None:
    opened = await case(store, await patient(store))
    await move(store, opened.case_id, CaseEvent.VERIFY)
    acting = (await facts(store)).acting_choice(NOON)
    assert acting is not None and acting.is_provisional
    await clock.advance(60)
    await move(store, opened.case_id, CaseEvent.REJECT)
    assert (await facts(store, at=clock.now())).choices == ()
    assert (await facts(store, at=clock.now() - INSTANT)).choices != ()


async def test_the_latest_implemented_choice_wins(store: SqlStore, clock: FakeClock) -> None:
    anne = await patient(store)
    out = await case(store, anne)
    back_in = await case(store, anne, SharingChoice.OPT_IN)
    await move(store, back_in.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)
    await clock.advance(60)
    await move(store, out.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)
    acting = (await facts(store, at=clock.now())).acting_choice(clock.now())
    assert acting is not None and acting.case_id == out.case_id and not acting.is_provisional


async def test_the_restriction_before_an_implemented_opt_out_stays_explainable(
    store: SqlStore, clock: FakeClock
) -> None:
    opened = await case(store, await patient(store))
    await move(store, opened.case_id, CaseEvent.VERIFY)
    await clock.advance(60)
    await move(store, opened.case_id, CaseEvent.IMPLEMENT)
    then = (await facts(store, at=clock.now() - INSTANT)).acting_choice(clock.now() - INSTANT)
    now = (await facts(store, at=clock.now())).acting_choice(clock.now())
    assert then is not None and then.is_provisional
    assert now is not None and not now.is_provisional


async def test_an_opt_out_of_either_identity_survives_a_merge_that_nobody_confirmed(store: SqlStore) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    opened = await case(store, ben)
    await move(store, opened.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)
    await relationship(store, ben)
    await store.write(lambda tx: merges.merge(tx, ben, anne, merges.MergeBasis.TWO_PEOPLE, CLERK))
    for number in (ANNE, BEN):
        assert (await facts(store, number)).acting_choice(NOON) is not None
    assert (await facts(store, ANNE)).relationships == ()
    assert (await facts(store, ANNE)).patient == ANNE


async def test_relationships_and_labels_follow_a_confirmed_merge_and_part_again(store: SqlStore) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    await relationship(store, ben)
    await label(store, ben)
    merged = await store.write(lambda tx: merges.merge(tx, ben, anne, merges.MergeBasis.TWO_PEOPLE, CLERK))
    await store.write(lambda tx: merges.confirm_merge(tx, merged, OFFICER))
    for number in (ANNE, BEN):
        known = await facts(store, number)
        assert known.patient == ANNE
        assert len(known.relationships) == len(known.labels) == 1
    await store.write(lambda tx: merges.undo_merge(tx, merged, CLERK))
    assert (await facts(store, ANNE)).relationships == ()
    assert len((await facts(store, BEN)).relationships) == 1


async def test_a_chain_of_merges_is_followed_to_its_end(store: SqlStore) -> None:
    anne, ben, cara = [await patient(store, number) for number in (ANNE, BEN, CARA)]
    basis = merges.MergeBasis.PDS_SUPERSESSION
    await store.write(lambda tx: merges.merge(tx, cara, ben, basis, CLERK))
    await store.write(lambda tx: merges.merge(tx, ben, anne, basis, CLERK))
    await relationship(store, cara)
    for number in (ANNE, BEN, CARA):
        known = await facts(store, number)
        assert known.patient == ANNE and len(known.relationships) == 1


async def test_an_opt_out_kept_on_a_local_number_acts_once_the_nhs_number_is_traced(store: SqlStore) -> None:
    local = PatientId("RYJ", "0001234")
    row = await store.write(lambda tx: patients.ensure(tx, local, CLERK, source="paper form"))
    opened = await case(store, row)
    await move(store, opened.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)
    assert (await facts(store)).choices == ()
    await store.write(lambda tx: patients.add_identifier(tx, row, patients.nhs(ANNE), CLERK, source="trace"))
    assert (await facts(store)).acting_choice(NOON) is not None


async def test_a_label_acts_for_every_recipient_until_it_ends(store: SqlStore) -> None:
    labelled = await label(store, await patient(store))
    found = (await facts(store)).labels
    assert [(row.label_id, row.visible_to) for row in found] == [(labelled, frozenset({PurposeOfUse.ETREAT}))]
    await store.write(lambda tx: labels.end_label(tx, labelled, NOON, CLERK))
    assert (await facts(store)).labels == ()
    assert (await facts(store, at=NOON - INSTANT)).labels != ()


async def test_a_grant_ended_early_stops_at_once(store: SqlStore, clock: FakeClock) -> None:
    granted = await grant(store, await patient(store))
    await clock.advance(3600)
    await store.write(lambda tx: labels.end_grant(tx, granted, CLERK))
    assert (await facts(store, at=clock.now())).grants == ()
    assert (await facts(store, at=clock.now() - INSTANT)).grants != ()


async def test_the_agreement_in_force_is_that_of_the_instant(store: SqlStore) -> None:
    ct, mr = frozenset({"CT"}), frozenset({"MR"})
    await store.write(
        lambda tx: agreements.import_version(tx, SOUTH, [agreements.Clause(modalities=ct)], NOON - DAY, CLERK)
    )
    await store.write(
        lambda tx: agreements.import_version(tx, SOUTH, [agreements.Clause(modalities=mr)], NOON + DAY, CLERK)
    )
    assert [row.modalities for row in (await facts(store, at=NOON + DAY - INSTANT)).agreements] == [ct]
    assert [row.modalities for row in (await facts(store, at=NOON + DAY)).agreements] == [mr]
    # A third version before the second: the second never comes into force.
    await store.write(lambda tx: agreements.import_version(tx, SOUTH, [], NOON, CLERK))
    assert (await facts(store, at=NOON - INSTANT)).agreements != ()
    assert (await facts(store, at=NOON + 2 * DAY)).agreements == ()


async def test_an_agreement_with_others_is_no_fact_for_this_recipient(store: SqlStore) -> None:
    clause = agreements.Clause(recipients=frozenset({EAST}))
    await store.write(lambda tx: agreements.import_version(tx, SOUTH, [clause], NOON - DAY, CLERK))
    assert (await facts(store)).agreements == ()


TABLES = {
    Register.RELATIONSHIPS: "relationship",
    Register.OPT_OUTS: "optout_choice",
    Register.AGREEMENTS: "agreement_clause",
    Register.LABELS: "sensitive_label",
    Register.GRANTS: "access_grant",
}


@pytest.mark.parametrize("register", TABLES)
async def test_a_register_that_cannot_be_read_is_a_fault_for_every_patient_alike(
    store: SqlStore, register: Register
) -> None:
    await relationship(store, await patient(store))
    await store.write(lambda tx: tx.connection.exec_driver_sql(f"ALTER TABLE {TABLES[register]} RENAME TO gone"))
    snapshot = await store.facts(NORTH, [ANNE, BEN], at=NOON)
    assert snapshot.unpinned.faults == {register}
    assert {known.faults for known in snapshot.by_patient.values()} == {frozenset({register})}
    assert (await store.facts(NORTH, [], at=NOON)).unpinned.faults == {register}
    assert await store.probe() == {register}
    if register is not Register.RELATIONSHIPS:
        assert len(snapshot.by_patient[ANNE].relationships) == 1


async def test_without_the_patients_nothing_of_a_patient_can_be_believed(store: SqlStore) -> None:
    await relationship(store, await patient(store))
    await store.write(lambda tx: tx.connection.exec_driver_sql("ALTER TABLE patient_identifier RENAME TO gone"))
    known = await facts(store)
    assert known.faults == frozenset(Register) - {Register.AGREEMENTS}
    assert known.patient is None and known.relationships == ()


async def test_a_row_that_makes_no_sense_is_a_fault_and_not_passed_over(store: SqlStore) -> None:
    await label(store, await patient(store))
    await store.write(
        lambda tx: tx.connection.exec_driver_sql("UPDATE sensitive_label SET visible_to = '[\"NONSENSE\"]'")
    )
    assert (await facts(store)).faults == {Register.LABELS}


async def test_a_database_without_any_schema_is_unavailable(store: SqlStore) -> None:
    await store.write(lambda tx: tx.connection.exec_driver_sql("ALTER TABLE register_state RENAME TO gone"))
    with pytest.raises(StoreUnavailable):
        await store.facts(NORTH, [ANNE], at=NOON)
    assert await store.probe() == frozenset(Register)


async def test_a_replica_not_confirmed_in_time_is_a_fault(url: str, clock: FakeClock) -> None:
    settings = StoreSettings(opt_out_register_age_max_minutes=10)
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock, settings=settings) as store:
        assert (await facts(store)).faults == {Register.OPT_OUTS}
        await store.write(lambda tx: confirm(tx, Register.OPT_OUTS, CLERK))
        await clock.advance(600)
        assert (await facts(store)).faults == frozenset()
        await clock.advance(1)
        assert (await facts(store)).faults == {Register.OPT_OUTS}
        assert (await facts(store, known_at=NOON)).faults == frozenset()
