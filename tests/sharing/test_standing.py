"""Trusts that join, pause, merge and are down by plan: who asks, who is asked, and what everybody is told (1N, C3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from gateway.model.errors import Denied, InvalidRequest
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    Key,
    Level,
    Matches,
    NotAskedReason,
    Query,
    Source,
    SourceState,
)
from policy.parties import NhsNumber, TrustId
from policy.trusts import Stage, Standing
from storage.database import Tx
from storage.registers import patients, trusts
from storage.registers.trusts import SignedOff
from storage.store import SqlStore
from tests.region import CLERK, Region
from tests.sharing.rows import ANNE, BEN, asking_for, asking_for_study, row

RZ1, RZ2, RZ3 = TrustId("RZ1"), TrustId("RZ2"), TrustId("RZ3")


@pytest.fixture
async def region(region: Region) -> Region:
    """RZ1 asks, RZ2 and RZ3 hold something of Anne, RZ2 of Ben as well."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.3", of=ANNE, modalities="CT").with_study("1.2.4", of=BEN, modalities="CT")
    region.trust("RZ3").with_study("1.2.5", of=ANNE, modalities="CT")
    await region.prepare()
    await region.refer(ANNE, to="RZ1")
    await region.refer(BEN, to="RZ1")
    return region


async def enter(region: Region, store: SqlStore, act: Callable[[Tx], object]) -> None:
    """Change the register as a command does, and let the region see it."""
    await store.write(act)
    region.roll = await store.read(trusts.roll)


def source(matches: Matches, trust: TrustId) -> Source:
    """A trust's part in an answer."""
    [found] = [each for each in matches.sources if each.trust == trust]
    return found


def studies(matches: Matches) -> list[str]:
    return [match.study_uid for match in matches.rows]


async def test_a_suspended_trust_is_not_asked_and_told_as_coverage(region: Region, store: SqlStore) -> None:
    await enter(region, store, lambda tx: trusts.suspend(tx, RZ2, Stage.PUSH, CLERK))
    matches = await region.find(asking_for(ANNE))
    assert studies(matches) == ["1.2.5"] and source(matches, RZ2).state is SourceState.NOT_SHARED
    assert region.trust("RZ2").pacs.requests == []


async def test_a_suspended_trust_is_not_answered_and_told_why(region: Region, store: SqlStore) -> None:
    await enter(region, store, lambda tx: trusts.suspend(tx, RZ1, Stage.PUSH, CLERK))
    with pytest.raises(Denied, match="not an enrolled NHS hospital trust"):
        await region.find(asking_for(ANNE))


async def test_a_resumed_trust_takes_part_as_before(region: Region, store: SqlStore) -> None:
    await enter(region, store, lambda tx: trusts.suspend(tx, RZ2, Stage.PUSH, CLERK))
    await enter(region, store, lambda tx: trusts.resume(tx, RZ2, CLERK))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.5"]


async def test_a_trust_in_its_test_stage_answers_for_labelled_patients_alone(region: Region, store: SqlStore) -> None:
    ben = await store.read(lambda read: patients.find(read, patients.nhs(BEN)))
    assert ben is not None
    await enter(region, store, lambda tx: trusts.enrol(tx, RZ2, Stage.TEST, CLERK))
    await enter(region, store, lambda tx: trusts.label_test_patient(tx, RZ2, ben, "on-boarding", CLERK))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.5"]
    assert studies(await region.find(asking_for(BEN))) == ["1.2.4"]
    assert studies(await region.find(asking_for_study("1.2.3"))) == []


async def test_a_trust_in_its_test_stage_is_answered_for_labelled_patients_alone(
    region: Region, store: SqlStore
) -> None:
    ben = await store.read(lambda read: patients.find(read, patients.nhs(BEN)))
    assert ben is not None
    await enter(region, store, lambda tx: trusts.enrol(tx, RZ1, Stage.TEST, CLERK))
    await enter(region, store, lambda tx: trusts.label_test_patient(tx, RZ1, ben, "on-boarding", CLERK))
    assert studies(await region.find(asking_for(BEN))) == ["1.2.4"]
    with pytest.raises(Denied):
        await region.find(asking_for(ANNE))


async def test_a_signed_off_trust_takes_part_for_everybody(region: Region, store: SqlStore) -> None:
    await enter(region, store, lambda tx: trusts.enrol(tx, RZ2, Stage.TEST, CLERK))
    signed = SignedOff("Dr Hollis", "Mr Adeyemi")
    await enter(region, store, lambda tx: trusts.step_to(tx, RZ2, Stage.QUERY, signed, CLERK))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.5"]


async def test_a_trust_in_planned_downtime_is_named_with_its_reason_and_not_asked(
    region: Region, store: SqlStore
) -> None:
    begins = region.clock.now()
    ends, why = begins + timedelta(hours=2), CLERK.reason
    await enter(region, store, lambda tx: trusts.plan_downtime(tx, RZ2, begins, ends, CLERK))
    matches = await region.find(asking_for(ANNE))
    told = source(matches, RZ2)
    assert studies(matches) == ["1.2.5"] and told.state is SourceState.NOT_ASKED
    assert told.not_asked_because is NotAskedReason.PLANNED_DOWNTIME and told.note.endswith(why)
    assert region.trust("RZ2").pacs.requests == []


async def test_an_opted_out_patient_meets_the_same_downtime(region: Region, store: SqlStore) -> None:
    begins = region.clock.now()
    ends = begins + timedelta(hours=2)
    await enter(region, store, lambda tx: trusts.plan_downtime(tx, RZ2, begins, ends, CLERK))
    await region.opt_out(BEN)
    assert (await region.find(asking_for(BEN))).sources == (await region.find(asking_for(ANNE))).sources


async def test_after_its_downtime_a_trust_is_asked_again(region: Region, store: SqlStore) -> None:
    begins = region.clock.now()
    ends = begins + timedelta(hours=2)
    await enter(region, store, lambda tx: trusts.plan_downtime(tx, RZ2, begins, ends, CLERK))
    await region.clock.advance(7_200)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.5"]


async def test_a_downtime_that_ended_early_is_over(region: Region, store: SqlStore) -> None:
    begins = region.clock.now()
    downtime_id = await store.write(
        lambda tx: trusts.plan_downtime(tx, RZ2, begins, begins + timedelta(hours=2), CLERK)
    )
    await enter(region, store, lambda tx: trusts.cancel_downtime(tx, downtime_id, CLERK))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.5"]


async def test_a_retired_trusts_successor_has_its_relationships_and_agreements(region: Region, store: SqlStore) -> None:
    await region.refer(ANNE, to="RZ3")
    successor = TrustId("RZ1")
    await enter(region, store, lambda tx: trusts.retire(tx, RZ3, successor, CLERK))
    snapshot = await store.facts(RZ1, [ANNE], at=region.clock.now())
    held = snapshot.by_patient[ANNE].relationships
    assert len(held) == 2 and {each.trust for each in held} == {RZ1}
    assert region.roll.present(RZ3) == RZ1 and region.roll.standings[RZ3].standing is Standing.RETIRED


async def test_a_retired_trust_is_named_no_more(region: Region, store: SqlStore) -> None:
    await enter(region, store, lambda tx: trusts.retire(tx, RZ3, RZ1, CLERK))
    matches = await region.find(asking_for(ANNE))
    assert studies(matches) == ["1.2.3"] and [each.trust for each in matches.sources] == [RZ2]


# --- the numbers of a trust that succeeded another one (C3, SAF-34) ---


async def test_the_word_of_a_retired_trust_counts_as_its_successors_where_they_share_one_numbering(
    region: Region, store: SqlStore
) -> None:
    for code in ("RZ1", "RZ3"):
        region.trust(code).filing_under("SHARED-PAS")
    await region.link(ANNE, "SHARED-PAS", "77", source="RZ3")
    [before, _] = (await region.find(asking_for(ANNE))).rows
    await enter(region, store, lambda tx: trusts.retire(tx, RZ3, RZ1, CLERK))
    [after] = (await region.find(asking_for(ANNE))).rows
    assert [row.attributes[PATIENT_ID]["Value"] for row in (before, after)] == [[ANNE.digits], ["77"]]


async def test_a_trust_with_the_numbers_of_two_hospitals_is_shown_none_of_them_as_patient_id(
    region: Region, store: SqlStore
) -> None:
    for code in ("RZ1", "RZ3"):
        region.trust(code).filing_under(f"{code}-PAS")
    await region.link(ANNE, "RZ1-PAS", "77", source="RZ1")
    assert (await region.find(asking_for(ANNE))).rows[0].attributes[PATIENT_ID]["Value"] == ["77"]
    await enter(region, store, lambda tx: trusts.retire(tx, RZ3, RZ1, CLERK))
    assert (await region.find(asking_for(ANNE))).rows[0].attributes[PATIENT_ID]["Value"] == [ANNE.digits]


async def test_a_bare_number_of_one_of_two_hospitals_is_never_guessed(region: Region, store: SqlStore) -> None:
    """At the trust itself 77 is Anne, at the one that it took over it is Ben."""
    for code in ("RZ1", "RZ3"):
        region.trust(code).filing_under(f"{code}-PAS")
    await region.link(ANNE, "RZ1-PAS", "77")
    await region.link(BEN, "RZ3-PAS", "77")
    await enter(region, store, lambda tx: trusts.retire(tx, RZ3, RZ1, CLERK))
    for number in ("77", "78"):  # whoever has it, if anybody
        with pytest.raises(InvalidRequest, match="several hospitals: send the number with its issuer"):
            await region.find(by_local(number))
    assert studies(await region.find(by_local("77", "RZ1-PAS"))) == ["1.2.3"]
    assert studies(await region.find(by_local("77", "RZ3-PAS"))) == ["1.2.4"]
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3"]


async def test_a_number_that_a_retired_trust_vouched_for_needs_no_further_evidence(
    region: Region, store: SqlStore
) -> None:
    clara = NhsNumber("9990000034")
    await region.number(clara, status="02")
    await region.refer(clara, to="RZ1")
    await region.link(clara, "RZ3-PAS", "79", source="RZ3")
    await region.find(asking_for(clara, born="19580314"))
    region.trust("RZ2").with_row(row("1.2.6", clara, born=""))
    assert studies(await region.find(asking_for(clara, born="19580314"))) == []
    await enter(region, store, lambda tx: trusts.retire(tx, RZ3, RZ1, CLERK))
    assert studies(await region.find(asking_for(clara, born="19580314"))) == ["1.2.6"]


def by_local(value: str, issuer: str = "") -> Query:
    """A question by a hospital's number."""
    named = (Key((ISSUER_OF_PATIENT_ID,), "LO", (issuer,)),) if issuer else ()
    return Query(Level.STUDY, (Key((PATIENT_ID,), "LO", (value,)), *named))
