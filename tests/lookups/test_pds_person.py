"""What is read of a patient on the day of a release: names, birth date, death and the number's status (SAF-66)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest

from gateway.lookups.fhir import NHS_NUMBER_SYSTEM, FhirServer
from gateway.lookups.pds import PdsLookup
from gateway.model.imaging import JsonValue
from gateway.model.reporting.tracing import TracedPerson
from gateway.model.seams import TraceState
from policy.release.circumstances import Death
from tests.lookups.fhir_stub import FhirStub
from tests.sharing.rows import ANNE, BEN

UK_CORE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"


def record(**more: JsonValue) -> dict[str, JsonValue]:
    """A record of Anne Smith, born Jones, as PDS would have it."""
    status: JsonValue = {
        "url": UK_CORE + "NHSNumberVerificationStatus",
        "valueCodeableConcept": {"coding": [{"code": "01"}]},
    }
    return {
        "resourceType": "Patient",
        "id": ANNE.digits,
        "identifier": [{"system": NHS_NUMBER_SYSTEM, "value": ANNE.digits, "extension": [status]}],
        "name": [{"use": "old", "family": "Jones"}, {"use": "usual", "family": "Smith", "given": ["Anne", "Mary"]}],
        "birthDate": "1958-03-14",
        **more,
    }


def notification(code: str) -> JsonValue:
    """The extension that says how a death became known."""
    inner: JsonValue = {"url": "deathNotificationStatus", "valueCodeableConcept": {"coding": [{"code": code}]}}
    return [{"url": UK_CORE + "DeathNotificationStatus", "extension": [inner]}]


@pytest.fixture
async def pds(stub: FhirStub) -> AsyncIterator[PdsLookup]:
    """A lookup that asks the stub."""
    lookup = PdsLookup(FhirServer(stub.url))
    yield lookup
    await lookup.close()


async def test_a_record_says_who_the_patient_is_today(stub: FhirStub, pds: PdsLookup) -> None:
    stub.answer(ANNE.digits, 200, record())
    assert await pds.person(ANNE, "r") == TracedPerson(
        TraceState.FOUND, ANNE, "01", "Smith", "Anne", frozenset({"Smith", "Jones"}), date(1958, 3, 14), Death.NO
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"deceasedDateTime": "2026-11-01"}, Death.INFORMAL),
        ({"deceasedDateTime": "2026-11-01", "extension": notification("1")}, Death.INFORMAL),
        ({"deceasedDateTime": "2026-11-01", "extension": notification("2")}, Death.FORMAL),
        ({"extension": notification("2")}, Death.FORMAL),
        ({"extension": notification("U")}, Death.NO),
        ({"deceasedBoolean": True}, Death.INFORMAL),
        ({"deceasedBoolean": False}, Death.NO),
    ],
)
async def test_a_death_is_as_formal_as_the_record_has_it(
    stub: FhirStub, pds: PdsLookup, more: dict[str, JsonValue], expected: Death
) -> None:
    stub.answer(ANNE.digits, 200, record(**more))
    assert (await pds.person(ANNE, "r")).death is expected


async def test_half_a_birth_date_is_none(stub: FhirStub, pds: PdsLookup) -> None:
    stub.answer(ANNE.digits, 200, record(birthDate="1958-03"))
    assert (await pds.person(ANNE, "r")).birth_date is None


async def test_who_is_not_there_or_cannot_be_asked_is_nobody(stub: FhirStub, pds: PdsLookup) -> None:
    assert await pds.person(BEN, "r") == TracedPerson(TraceState.UNKNOWN)
    stub.answer(ANNE.digits, 500, {"resourceType": "OperationOutcome"})
    assert await pds.person(ANNE, "r") == TracedPerson(TraceState.FAILED)


async def test_a_superseded_number_is_told_with_the_one_that_survived(stub: FhirStub, pds: PdsLookup) -> None:
    stub.answer(BEN.digits, 200, record())
    found = await pds.person(BEN, "r")
    assert (found.state, found.number) == (TraceState.SUPERSEDED, ANNE)
