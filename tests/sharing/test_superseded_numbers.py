"""One person, several NHS numbers: found by any of them once they are known to be one's, and never before (SAF-33)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.model.errors import Denied, RegisterUnavailable, ServiceFault
from gateway.model.imaging import ISSUER_OF_PATIENT_ID as ISSUER
from gateway.model.imaging import (
    OTHER_PATIENT_IDS,
    PATIENT_ID,
    Attributes,
    JsonValue,
    Level,
    Match,
    Matches,
    Query,
)
from policy.parties import NhsNumber
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA, asking_for, asking_for_study, row, values


@pytest.fixture
async def region(region: Region) -> Region:
    """Anne's imaging at RZ2 is filed under her number, at RZ3 under one (Ben's place in the cast) that she had once."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.2", of=ANNE)
    region.trust("RZ3").with_study("1.2.3", of=BEN)
    await region.refer(ANNE, to="RZ1")
    return region


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return [match.study_uid for match in matches.rows]


def conflicts(matches: Matches) -> list[str]:
    """The trusts at which something could not be shown."""
    return [source.trust.code for source in matches.sources if source.has_identity_conflict]


def others(match: Match) -> list[tuple[str, str]]:
    """Issuer and value of the other numbers shown."""
    items: list[Attributes] = [item for item in values(match.attributes, OTHER_PATIENT_IDS) if isinstance(item, dict)]  # type: ignore[misc]  # items are elements
    return [(str(values(item, ISSUER)[0]), str(values(item, PATIENT_ID)[0])) for item in items]


@pytest.mark.parametrize("asked", [ANNE, BEN], ids=["by the surviving number", "by the superseded one"])
async def test_a_question_by_either_number_finds_imaging_under_both(region: Region, asked: NhsNumber) -> None:
    await region.supersede(BEN, by=ANNE)
    found = await region.find(asking_for(asked))
    assert studies(found) == ["1.2.2", "1.2.3"]
    assert [match.patient for match in found.rows] == [ANNE, ANNE]
    assert [values(match.attributes, PATIENT_ID) for match in found.rows] == [[ANNE.digits], [ANNE.digits]]
    assert others(found.rows[1]) == [("NHS", BEN.digits)]


async def test_a_chain_of_supersessions_is_followed_to_its_end(region: Region) -> None:
    region.trust("RZ2").with_study("1.2.4", of=CLARA)
    await region.supersede(CLARA, by=BEN)
    await region.supersede(BEN, by=ANNE)
    for asked in (ANNE, BEN, CLARA):
        assert studies(await region.find(asking_for(asked))) == ["1.2.2", "1.2.3", "1.2.4"]


async def test_a_study_is_found_under_the_surviving_number_too(region: Region) -> None:
    await region.supersede(BEN, by=ANNE)
    [match] = (await region.find(asking_for_study("1.2.3"))).rows
    assert match.patient == ANNE


async def test_the_patient_is_one_row_under_the_surviving_number(region: Region) -> None:
    await region.supersede(BEN, by=ANNE)
    [match] = (await region.find(asking_for(BEN, level=Level.PATIENT))).rows
    assert values(match.attributes, PATIENT_ID) == [ANNE.digits]
    assert others(match) == [("NHS", BEN.digits)]


async def test_one_study_under_both_numbers_is_one_study_and_no_conflict(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.2", of=BEN)
    apart = await region.find(asking_for_study("1.2.2"))
    assert (studies(apart), conflicts(apart)) == ([], ["RZ2"])
    await region.supersede(BEN, by=ANNE)
    for query in (asking_for(ANNE), asking_for_study("1.2.2")):
        found = await region.find(query)
        assert conflicts(found) == []
        assert [trust.code for trust in found.rows[0].holders] == ["RZ2", "RZ3"]


async def test_a_row_that_carries_both_numbers_names_one_person_once_they_are_one(region: Region) -> None:
    number: JsonValue = {PATIENT_ID: {"vr": "LO", "Value": [ANNE.digits]}, ISSUER: {"vr": "LO", "Value": ["NHS"]}}
    region.trust("RZ2").with_row({**row("1.2.5", BEN), OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [number]}})
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2"]
    await region.supersede(BEN, by=ANNE)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2", "1.2.3", "1.2.5"]


async def test_demographics_still_decide_under_a_superseded_number(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.6", of=BEN, name="BAKER^BEN", born="19700102")
    await region.supersede(BEN, by=ANNE)
    found = await region.find(asking_for(ANNE, born="19580314"))
    assert studies(found) == ["1.2.2", "1.2.3"]
    assert conflicts(found) == ["RZ3"]


# --- until two people have confirmed, and after they are parted ---


async def test_two_numbers_stay_two_people_until_a_second_person_confirms(region: Region) -> None:
    merge = await region.claim_one(BEN, survivor=ANNE)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2"]
    with pytest.raises(Denied):
        await region.find(asking_for(BEN))
    await region.confirm(merge)
    assert studies(await region.find(asking_for(BEN))) == ["1.2.2", "1.2.3"]
    await region.part(merge)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2"]


@pytest.mark.parametrize("opted_out", [ANNE, BEN])
@pytest.mark.parametrize("asked", [ANNE, BEN])
async def test_an_opt_out_of_either_number_hides_all_of_them(
    region: Region, opted_out: NhsNumber, asked: NhsNumber
) -> None:
    await region.opt_out(opted_out)
    await region.supersede(BEN, by=ANNE)
    found = await region.find(asking_for(asked))
    assert studies(found) == []
    assert not any(region.trust(code).pacs.requests for code in ("RZ2", "RZ3"))


async def test_people_who_are_parted_while_the_trusts_are_asked_are_not_shown_as_one(region: Region) -> None:
    merge = await region.supersede(BEN, by=ANNE)
    await region.prepare()
    region.trust("RZ2").pacs.slow(1)
    asking = region.asking(asking_for(ANNE))
    await region.at_the_peers("RZ2")
    await region.part(merge)
    found = await region.clock.run(_outcome(asking), is_busy=region.store.is_busy)
    assert studies(found) == ["1.2.2"]


async def test_a_number_that_leads_to_somebody_else_by_then_is_asked_for_again(region: Region) -> None:
    merge = await region.supersede(BEN, by=ANNE)
    await region.prepare()
    region.trust("RZ2").pacs.slow(1)
    asking = region.asking(asking_for(BEN))
    await region.at_the_peers("RZ2")
    await region.part(merge)
    with pytest.raises(ServiceFault):
        await region.clock.run(_outcome(asking), is_busy=region.store.is_busy)


async def test_a_page_of_people_who_were_parted_shows_them_as_one_no_more(region: Region) -> None:
    merge = await region.supersede(BEN, by=ANNE)
    first = await region.find(_paged(0))
    assert studies(first) == ["1.2.2"]
    await region.part(merge)
    assert studies(await region.find(_paged(1), snapshot=first.snapshot)) == []


async def test_numbers_that_cannot_be_looked_up_are_a_fault_and_never_a_shorter_answer(region: Region) -> None:
    await region.supersede(BEN, by=ANNE)
    await region.prepare()
    await region.lose("patient_merge")
    with pytest.raises(RegisterUnavailable):
        await region.find(asking_for(ANNE))


async def _outcome(asking: asyncio.Task[Matches]) -> Matches:
    return await asking


def _paged(offset: int) -> Query:
    return replace(asking_for(ANNE), limit=1, offset=offset)
