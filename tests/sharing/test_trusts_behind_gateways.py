"""Trusts that are asked through another gateway, and questions that come from one (DEC-01)."""

from __future__ import annotations

import itertools

import pytest

from gateway.model.errors import PeerRefused
from gateway.model.imaging import PATIENT_ID, Matches, NotAskedReason, Query, Source, SourceState
from gateway.model.seams import ToldByGateway
from policy.identity import CallerBinding
from policy.parties import Caller, PrincipalKind, PurposeOfUse, TrustId
from storage.registers.agreements import Clause
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA, RZ1, RZ2, RZ3, asking_for, asking_for_study, values

CT_ALONE, NOTHING = ToldByGateway(frozenset({"CT"})), ToldByGateway(frozenset())
CONFLICT = ToldByGateway(has_identity_conflict=True)


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock) -> Region:
    """RZ1 asks; RZ2 lies behind another gateway and has a study of Anne; Ben has opted out, Clara has nothing."""
    region = Region(store, clock)
    region.callers = [CallerBinding("rz1-pacs", RZ1), CallerBinding("rz3-pacs", RZ3)]
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.2", of=ANNE).with_study("1.2.4", of=BEN).behind_gateway()
    region.trust("RZ3")
    for patient in (ANNE, BEN, CLARA):
        await region.refer(patient, to="RZ1")
    await region.opt_out(BEN)
    return region


async def probed(region: Region) -> None:
    """Let every peer be probed once, as before the first question."""
    numbers = itertools.count(1)
    await region.prepare()
    await region.clock.run(region.peers.probe(lambda: f"1.9.{next(numbers)}"), is_busy=region.store.is_busy)


def of(matches: Matches, trust: TrustId) -> Source:
    """The trust's part."""
    return next(source for source in matches.sources if source.trust == trust)


def from_gateway(region: Region) -> Caller:
    """Another gateway, that asks for RZ1."""
    return region.caller("RZ1", kind=PrincipalKind.GATEWAY, hops=1)


# --- asking another gateway ---


async def test_another_gateway_is_told_for_whom_it_is_asked_and_why(region: Region) -> None:
    await region.find(asking_for(ANNE), by=region.caller("RZ1", purpose=PurposeOfUse.ETREAT))
    [request] = region.trust("RZ2").pacs.requests
    assert (request.asking_trust, request.purpose, request.hops) == (RZ1, PurposeOfUse.ETREAT, 1)


@pytest.mark.parametrize(
    ("told", "state", "only"),
    [(CT_ALONE, SourceState.ANSWERED, ("CT",)), (NOTHING, SourceState.NOT_SHARED, ())],
)
async def test_what_it_shows_the_asker_is_told_whether_found_withheld_or_absent(
    region: Region, told: ToldByGateway, state: SourceState, only: tuple[str, ...]
) -> None:
    region.trust("RZ2").pacs.telling(told)
    await probed(region)
    parts = [of(await region.find(asking_for(patient)), RZ2) for patient in (BEN, CLARA, ANNE)]
    assert {(part.state, part.shared_modalities) for part in parts} == {(state, only)}


async def test_both_agreements_hold(region: Region) -> None:
    region.trust("RZ2").sharing(Clause(modalities=frozenset({"CT", "MR"}))).pacs.telling(
        ToldByGateway(frozenset({"MR", "US"}))
    )
    assert of(await region.find(asking_for(CLARA)), RZ2).shared_modalities == ("MR",)


async def test_a_conflict_there_is_told_here_to_who_may_see_the_patients_imaging(region: Region) -> None:
    region.trust("RZ2").pacs.telling(CONFLICT)
    assert of(await region.find(asking_for(ANNE)), RZ2).has_identity_conflict
    assert not of(await region.find(asking_for(BEN)), RZ2).has_identity_conflict


async def test_a_conflict_of_nobody_in_particular_is_not_passed_on(region: Region) -> None:
    region.trust("RZ2").pacs.telling(CONFLICT)
    assert not of(await region.find(asking_for_study("1.2.77")), RZ2).has_identity_conflict


async def test_who_is_refused_there_whoever_the_patient_sees_that_of_a_withheld_one_too(region: Region) -> None:
    region.trust("RZ2").pacs.refusing()
    await probed(region)
    for patient in (BEN, CLARA):
        assert of(await region.find(asking_for(patient)), RZ2).state is SourceState.REFUSED


async def test_a_refusal_of_one_patient_is_expected_of_no_other(region: Region) -> None:
    await probed(region)
    region.trust("RZ2").pacs.refusing()
    assert of(await region.find(asking_for(CLARA)), RZ2).state is SourceState.REFUSED
    assert of(await region.find(asking_for(BEN)), RZ2).state is SourceState.ANSWERED


async def test_a_probe_asks_for_every_trust_that_asks_here_at_first_and_then_for_one_in_turn(region: Region) -> None:
    asked = region.trust("RZ2").pacs.requests
    for expected in ([RZ1, RZ3], [RZ3], [RZ1]):
        asked.clear()
        await probed(region)
        assert [request.asking_trust for request in asked] == expected


async def test_archives_are_told_of_no_asker_in_a_probe(region: Region) -> None:
    await probed(region)
    assert [request.asking_trust for request in region.trust("RZ3").pacs.requests] == [None]


# --- asked by another gateway ---


async def test_a_question_from_a_gateway_is_asked_of_archives_alone_and_the_others_are_named(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.3", of=ANNE)
    matches = await region.find(asking_for(ANNE), by=from_gateway(region))
    assert [match.study_uid for match in matches.rows] == ["1.2.3"]
    beyond = of(matches, RZ2)
    assert (beyond.state, beyond.not_asked_because) == (SourceState.NOT_ASKED, NotAskedReason.BEHIND_GATEWAY)
    assert region.trust("RZ2").pacs.requests == []


async def test_found_withheld_or_absent_the_same_trusts_are_named_to_a_gateway(region: Region) -> None:
    told = [(await region.find(asking_for(patient), by=from_gateway(region))).sources for patient in (ANNE, BEN, CLARA)]
    assert told[0] == told[1] == told[2]


async def test_a_trust_behind_another_gateway_is_refused_to_a_gateway_that_asks_for_it_alone(region: Region) -> None:
    alone = Query(asking_for(ANNE).level, asking_for(ANNE).keys, only_trust=RZ2)
    with pytest.raises(PeerRefused):
        await region.find(alone, by=from_gateway(region))
    assert region.trust("RZ2").pacs.requests == []


async def test_a_gateway_is_shown_the_nhs_number_although_the_asking_trust_has_its_own(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.3", of=ANNE)
    await region.link(ANNE, "RZ1", "H-77", source="RZ1")
    [shown] = (await region.find(asking_for(ANNE), by=from_gateway(region))).rows
    assert values(shown.attributes, PATIENT_ID) == [ANNE.digits]
    own = (await region.find(asking_for(ANNE))).rows
    assert {str(values(match.attributes, PATIENT_ID)) for match in own} == {"['H-77']"}
