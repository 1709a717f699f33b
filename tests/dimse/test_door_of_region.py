"""C-FIND in front of the real guard, broker and store: what a PACS sees of a region, and what is recorded of it.

The sharing itself is tested where it lives; here, that the DIMSE edge neither adds to it nor takes away.
"""

from __future__ import annotations

import asyncio

import pytest
from pydicom.dataset import Dataset

from dimse.scp.profiles import CallerProfile
from dimse.status import MissingSources
from dimse.upper_layer import pdu
from dimse.upper_layer.association import AssociationRejected
from gateway.model.imaging import JsonValue, Matches, Query
from policy.identity import Evidence
from policy.parties import Caller
from tests.dimse.door import HANG_S, PACS, Answer, client, identifier, opened, proposal
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA

STRANGER = "9990000042"
FAILURE = CallerProfile(MissingSources.FAILURE)


@pytest.fixture
async def region(region: Region) -> Region:
    """RZ1 asks, RZ2 and RZ3 hold. Anne and Ben are in RZ1's care, Ben opted out; Clara is in nobody's care."""
    region.callers.append(PACS)
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.3", of=ANNE, modalities="CT").with_study("1.2.4", of=BEN, modalities="CT")
    region.trust("RZ3").with_study("1.2.6", of=ANNE, modalities="MR").with_study("1.2.7", of=CLARA)
    await region.prepare()
    await region.refer(ANNE, to="RZ1")
    await region.refer(BEN, to="RZ1")
    await region.opt_out(BEN)
    return region


class AsTimePasses:
    """The region's door; the clock moves on as far as an answer needs it."""

    def __init__(self, region: Region) -> None:
        self._region = region

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """See `FindsMatches`."""
        return await self._region.find(query, by=caller)


def for_patient(digits: str) -> Dataset:
    return identifier("STUDY", PatientID=digits, StudyInstanceUID=None, ModalitiesInStudy=None)


async def answer(region: Region, question: Dataset, profile: CallerProfile = FAILURE) -> Answer:
    door = opened(AsTimePasses(region), region.gate, profile, limits=region.limits)
    async with door as house, client(house.port) as caller:
        return await caller.find(question)


def studies(found: Answer) -> list[str]:
    return [str(each.StudyInstanceUID) for each in found.rows]


def body(record: dict[str, JsonValue]) -> dict[str, JsonValue]:
    found = record["body"]
    assert isinstance(found, dict)
    return found


async def test_a_patient_in_care_is_found_at_every_trust(region: Region) -> None:
    found = await answer(region, for_patient(ANNE.digits))
    assert studies(found) == ["1.2.3", "1.2.6"] and found.end == (0x0000, "")
    assert [each.ModalitiesInStudy for each in found.rows] == ["CT", "MR"]
    assert {each.RetrieveAETitle for each in found.rows} == {"GATEWAY"}


async def test_a_patient_who_opted_out_looks_like_one_who_has_nothing(region: Region) -> None:
    await region.refer(type(ANNE)(STRANGER), to="RZ1")
    hidden, absent = await answer(region, for_patient(BEN.digits)), await answer(region, for_patient(STRANGER))
    assert hidden == absent and hidden.rows == [] and hidden.end == (0x0000, "")


async def test_a_patient_of_nobody_here_is_refused_in_words(region: Region) -> None:
    found = await answer(region, for_patient(CLARA.digits))
    assert found.rows == [] and found.end == (0x0124, "no care relationship recorded; ring 0300 RZ1")


async def test_a_trust_that_does_not_answer_is_named_and_the_others_answer(region: Region) -> None:
    region.trust("RZ3").stalled()
    found = await answer(region, for_patient(ANNE.digits))
    assert studies(found) == ["1.2.3"] and found.end == (0xC000, "missing: RZ3 0300 RZ3")


async def test_a_missing_trust_is_named_to_whoever_asks_for_a_hidden_patient_too(region: Region) -> None:
    region.trust("RZ3").down()
    await answer(region, for_patient(ANNE.digits))
    found = await answer(region, for_patient(BEN.digits))
    assert studies(found) == [] and found.end == (0xC000, "missing: RZ3 0300 RZ3")


async def test_no_list_is_given_when_no_trust_answered(region: Region) -> None:
    region.trust("RZ2").down()
    region.trust("RZ3").down()
    found = await answer(region, for_patient(ANNE.digits))
    assert found.rows == [] and found.end == (0xC000, "no answer: RZ2 0300 RZ2, RZ3 0300 RZ3")


async def test_an_unreadable_register_is_a_fault_for_everybody(region: Region) -> None:
    await region.lose("optout_choice")
    for digits in (ANNE.digits, BEN.digits):
        found = await answer(region, for_patient(digits))
        assert found.rows == [] and found.end == (0xA700, "sharing not checked")


async def test_nothing_is_answered_that_cannot_be_recorded(region: Region) -> None:
    region.store.failing_appends = range(1, 1_000)
    found = await answer(region, for_patient(ANNE.digits))
    assert found.rows == [] and found.end == (0xA700, "not recorded")


@pytest.mark.parametrize(
    "question",
    [identifier("STUDY", PatientName="SMITH^ANNE"), identifier("STUDY", PatientID="999*"), identifier("STUDY")],
)
async def test_a_question_that_pins_nobody_is_refused_in_words(region: Region, question: Dataset) -> None:
    found = await answer(region, question)
    assert found.end == (0xA900, "name one NHS number, study UID or whole accession number")
    assert found.last.offending_elements == ("00100020",)


async def test_the_record_of_a_question_names_its_caller_and_the_user_it_claimed(region: Region) -> None:
    request = proposal(identity=pdu.UserIdentity(1, False, b"consultant"))
    async with opened(AsTimePasses(region), region.gate, FAILURE) as house, client(house.port, request) as caller:
        await caller.find(for_patient(ANNE.digits))
    [attempt] = await region.records("query-attempt")
    assert body(attempt)["stated_identity"] == "username consultant"
    access = body(attempt)["access"]
    assert isinstance(access, dict) and access["proven_by"] == ["ae-title", "dimse", "loopback"]
    [outcome] = await region.records("query-outcome")
    assert body(outcome)["result"] == "answered" and body(outcome)["returned"] == 2


async def test_a_stranger_is_rejected_once_that_is_recorded(region: Region) -> None:
    async with opened(AsTimePasses(region), region.gate) as house:
        with pytest.raises(AssociationRejected) as rejected:
            async with client(house.port, proposal(calling="STRANGER")):
                pass
        assert rejected.value.reject == pdu.CALLING_AE_TITLE_NOT_RECOGNISED
        [alert] = await region.records("security-alert")
        assert (body(alert)["channel"], body(alert)["ae_title"]) == ("dimse", "STRANGER")
        assert body(alert)["reason"] == "ae-title-unknown"


async def test_a_stranger_who_cannot_be_recorded_is_told_to_come_later(region: Region) -> None:
    region.store.failing_appends = range(1, 1_000)
    async with opened(AsTimePasses(region), region.gate) as house:
        with pytest.raises(AssociationRejected) as rejected:
            async with client(house.port, proposal(calling="STRANGER")):
                pass
    assert rejected.value.reject == pdu.TEMPORARY_CONGESTION


async def test_a_cancelled_question_is_recorded_as_such_and_its_trusts_are_let_go(region: Region) -> None:
    region.trust("RZ3").stalled()
    async with opened(region.broker, region.gate) as house, client(house.port) as caller:
        message_id = await caller.ask(for_patient(ANNE.digits))
        await region.at_the_peers("RZ3")
        await caller.cancel(message_id)
        found = await caller.hear()
    assert found.rows == [] and found.end == (0xFE00, "")
    [outcome] = await region.records("query-outcome")
    assert body(outcome)["result"] == "cancelled" and body(outcome)["returned"] == 0


async def test_a_question_whose_caller_is_gone_is_recorded_as_cancelled(region: Region) -> None:
    region.trust("RZ3").stalled()
    async with opened(region.broker, region.gate) as house:
        async with client(house.port) as caller:
            await caller.ask(for_patient(ANNE.digits))
            await region.at_the_peers("RZ3")
        async with asyncio.timeout(HANG_S):
            await house.door.stop()
    [outcome] = await region.records("query-outcome")
    assert body(outcome)["result"] == "cancelled"


async def test_callers_are_identified_by_the_evidence_of_their_connection_alone(region: Region) -> None:
    shown: list[Evidence] = []

    class Listening:
        async def identified(self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0) -> Caller:
            shown.append(evidence)
            return await region.gate.identified(evidence, purpose, request_id, hops)

    async with opened(AsTimePasses(region), Listening()) as house, client(house.port) as caller:
        await caller.find(for_patient(ANNE.digits))
    assert len(shown) == 2 and len(set(shown)) == 1
    assert (shown[0].address, shown[0].certificate_sha256) == ("127.0.0.1", "")
