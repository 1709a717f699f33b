"""PIXm lookups: `$ihe-pix` as ITI-83 has it, and nothing believed beyond the systems that are configured."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.lookups.fhir import NHS_NUMBER_SYSTEM, FhirServer
from gateway.lookups.pixm import PixmLookup
from gateway.model.seams import Trace, TraceState
from gateway.sharing.identity.translation import nhs
from policy.parties import PatientId
from tests.lookups.fhir_stub import FhirStub
from tests.sharing.rows import ANNE, BEN

NORTH, EAST = "https://northmoor.example/pas", "urn:oid:1.2.826.0.1.3680043.10.2"
HERE, THERE = PatientId("NORTH-PAS", "H-77"), PatientId("EAST-PAS", "0001234")
NHS = (NHS_NUMBER_SYSTEM, ANNE.digits)


@pytest.fixture
async def pixm(stub: FhirStub) -> AsyncIterator[PixmLookup]:
    """A lookup that knows two hospitals' systems."""
    lookup = PixmLookup(FhirServer(stub.url), {"NORTH-PAS": NORTH, "EAST-PAS": EAST})
    yield lookup
    await lookup.close()


async def test_a_hospitals_number_leads_to_the_nhs_number_and_to_others(stub: FhirStub, pixm: PixmLookup) -> None:
    stub.link(NORTH, "H-77", NHS, (EAST, "0001234"))
    assert await pixm.trace(HERE, "r") == Trace(TraceState.FOUND, ANNE, local=(THERE, HERE))
    assert stub.asked == [f"{NORTH}|H-77"]


async def test_an_nhs_number_leads_to_hospitals_numbers(stub: FhirStub, pixm: PixmLookup) -> None:
    stub.link(*NHS, (EAST, "0001234"))
    assert await pixm.trace(nhs(ANNE), "r") == Trace(TraceState.FOUND, ANNE, local=(THERE,))


async def test_a_system_that_is_not_configured_is_passed_over(stub: FhirStub, pixm: PixmLookup) -> None:
    stub.link(*NHS, ("https://elsewhere.example", "55"))
    assert await pixm.trace(nhs(ANNE), "r") == Trace(TraceState.FOUND, ANNE)


@pytest.mark.parametrize("asked", [PatientId("SOUTH-PAS", "1"), PatientId("NORTH-PAS", "a|b")])
async def test_what_it_cannot_know_is_not_asked(stub: FhirStub, pixm: PixmLookup, asked: PatientId) -> None:
    assert await pixm.trace(asked, "r") == Trace(TraceState.UNKNOWN)
    assert stub.asked == []


async def test_nobody_of_this_number_is_unknown(pixm: PixmLookup) -> None:
    assert await pixm.trace(HERE, "r") == Trace(TraceState.UNKNOWN)


@pytest.mark.parametrize("targets", [(NHS, (NHS_NUMBER_SYSTEM, BEN.digits)), ((NHS_NUMBER_SYSTEM, "9990000019"),)])
async def test_two_nhs_numbers_or_a_wrong_one_are_not_believed(
    stub: FhirStub, pixm: PixmLookup, targets: tuple[tuple[str, str], ...]
) -> None:
    stub.link(NORTH, "H-77", *targets)
    assert await pixm.trace(HERE, "r") == Trace(TraceState.FAILED)


async def test_a_cross_reference_supersedes_no_nhs_number(stub: FhirStub, pixm: PixmLookup) -> None:
    """Only PDS and two named people do (SAF-33)."""
    stub.link(NHS_NUMBER_SYSTEM, BEN.digits, NHS)
    assert await pixm.trace(nhs(BEN), "r") == Trace(TraceState.FAILED)


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_refusal_is_a_failure(stub: FhirStub, pixm: PixmLookup, status: int) -> None:
    stub.answer(f"{NORTH}|H-77", status, {"resourceType": "OperationOutcome"})
    assert await pixm.trace(HERE, "r") == Trace(TraceState.FAILED)
