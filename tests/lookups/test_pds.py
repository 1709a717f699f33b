"""PDS-shaped lookups: what is read of a record, of a refusal, and of what cannot be believed (domain.md C2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.lookups.fhir import BODY_BYTES_MAX, FhirServer
from gateway.lookups.pds import PdsLookup
from gateway.model.seams import Trace, TraceState
from gateway.sharing.identity.translation import nhs
from policy.parties import PatientId
from tests.lookups.fhir_stub import FhirStub
from tests.sharing.rows import ANNE, BEN

FAILED = Trace(TraceState.FAILED)
UNKNOWN = Trace(TraceState.UNKNOWN)


@pytest.fixture
async def pds(stub: FhirStub) -> AsyncIterator[PdsLookup]:
    """A lookup that asks the stub."""
    lookup = PdsLookup(FhirServer(stub.url, token="opaque"))
    yield lookup
    await lookup.close()


async def test_a_record_gives_its_number_and_its_surnames(stub: FhirStub, pds: PdsLookup) -> None:
    stub.patient(ANNE, "Smith", "Jones")
    assert await pds.trace(nhs(ANNE), "request-1") == Trace(TraceState.FOUND, ANNE, frozenset({"Smith", "Jones"}))
    assert stub.asked == [ANNE.digits]
    assert (stub.headers[0]["X-Request-ID"], stub.headers[0]["Authorization"]) == ("request-1", "Bearer opaque")


async def test_a_superseded_number_gives_the_one_that_survived(stub: FhirStub, pds: PdsLookup) -> None:
    stub.patient(BEN, "Smith", survivor=ANNE)
    assert await pds.trace(nhs(BEN), "r") == Trace(TraceState.SUPERSEDED, ANNE, frozenset({"Smith"}))


async def test_a_restricted_record_without_names_still_has_its_number(stub: FhirStub, pds: PdsLookup) -> None:
    stub.patient(ANNE)
    assert await pds.trace(nhs(ANNE), "r") == Trace(TraceState.FOUND, ANNE)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "INVALIDATED_RESOURCE", Trace(TraceState.INVALIDATED)),
        (404, "RESOURCE_NOT_FOUND", UNKNOWN),
        (400, "INVALID_RESOURCE_ID", UNKNOWN),
        (404, "SOMETHING_ELSE", FAILED),
        (400, "MISSING_VALUE", FAILED),
        (401, "ACCESS_DENIED", FAILED),
        (429, "TOO_MANY_REQUESTS", FAILED),
        (500, "INTERNAL", FAILED),
        (503, "UNAVAILABLE", FAILED),
    ],
)
async def test_a_refusal_is_read_by_its_code(
    stub: FhirStub, pds: PdsLookup, status: int, code: str, expected: Trace
) -> None:
    stub.refuse(ANNE, status, code)
    assert await pds.trace(nhs(ANNE), "r") == expected


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>", "text/html"),
        (b"{", "application/fhir+json"),
        (b"[]", "application/fhir+json"),
        (b"{}", "application/fhir+json"),
        (b'{"resourceType": "Patient"}', "application/fhir+json"),
        (b'{"resourceType": "Patient", "id": "9990000019"}', "application/fhir+json"),
        (b'{"resourceType": "Bundle", "id": "9990000018"}', "application/fhir+json"),
        (b" " * (BODY_BYTES_MAX + 1), "application/fhir+json"),
    ],
    ids=["html", "broken", "a list", "nothing", "no number", "a wrong check digit", "another resource", "too long"],
)
async def test_what_cannot_be_read_changes_nothing(
    stub: FhirStub, pds: PdsLookup, body: bytes, content_type: str
) -> None:
    stub.answer(ANNE.digits, 200, body, content_type)
    assert await pds.trace(nhs(ANNE), "r") == FAILED


async def test_odd_names_are_passed_over(stub: FhirStub, pds: PdsLookup) -> None:
    names = [{"family": "Smith"}, {"family": 7}, "Jones", {"given": ["Anne"]}, {"family": ""}]
    stub.answer(ANNE.digits, 200, {"resourceType": "Patient", "id": ANNE.digits, "name": names})  # type: ignore[dict-item]  # as JSON has it
    assert (await pds.trace(nhs(ANNE), "r")).surnames == {"Smith"}


async def test_nobody_listening_is_a_failure_and_no_error() -> None:
    lookup = PdsLookup(FhirServer("http://127.0.0.1:9"))
    assert await lookup.trace(nhs(ANNE), "r") == FAILED
    await lookup.close()


async def test_a_redirect_is_not_followed(stub: FhirStub, pds: PdsLookup) -> None:
    stub.answer(ANNE.digits, 302, {"resourceType": "Patient", "id": ANNE.digits})
    assert await pds.trace(nhs(ANNE), "r") == FAILED


async def test_a_hospitals_number_is_not_its_affair(stub: FhirStub, pds: PdsLookup) -> None:
    assert await pds.trace(PatientId("RZ1", "77"), "r") == UNKNOWN
    assert stub.asked == []
