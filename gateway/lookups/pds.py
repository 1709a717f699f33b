"""A service shaped like the Personal Demographics Service: `GET Patient/{NHS number}` (FHIR R4; domain.md C2).

A superseded number answers with the surviving record. Of the record its number and its surnames are read, nothing else:
address, telecom and practice, which restricted records lack, are not wanted here. Knows no hospital's numbers.
"""

from __future__ import annotations

import structlog

from gateway.lookups.fhir import FhirAnswer, FhirClient, FhirServer, NotBelieved, items, text
from gateway.model.seams import Trace, TraceState
from policy.parties import NHS_NUMBER_ISSUER, InvalidIdentifier, NhsNumber, PatientId

log = structlog.get_logger(__name__)

SURNAMES_MAX = 16

_UNKNOWN = Trace(TraceState.UNKNOWN)
_FAILED = Trace(TraceState.FAILED)


class PdsLookup:
    """A `PatientLookup`."""

    def __init__(self, server: FhirServer) -> None:
        self._client = FhirClient(server)

    @property
    def name(self) -> str:
        """See `PatientLookup`."""
        return "pds"

    async def trace(self, identifier: PatientId, request_id: str) -> Trace:
        """See `PatientLookup`."""
        if identifier.issuer != NHS_NUMBER_ISSUER:
            return _UNKNOWN
        try:
            return _trace(identifier, await self._client.get(("Patient", identifier.value), {}, request_id))
        except NotBelieved as error:
            log.warning("lookup failed", lookup=self.name, detail=str(error))
            return _FAILED

    async def close(self) -> None:
        """See `PatientLookup`."""
        await self._client.close()


def _trace(asked: PatientId, answer: FhirAnswer) -> Trace:
    if answer.status == 404 and "INVALIDATED_RESOURCE" in answer.issue_codes:
        return Trace(TraceState.INVALIDATED)
    if (answer.status == 404 and "RESOURCE_NOT_FOUND" in answer.issue_codes) or (
        answer.status == 400 and "INVALID_RESOURCE_ID" in answer.issue_codes
    ):
        return _UNKNOWN
    if answer.status != 200 or text(answer.resource, "resourceType") != "Patient":
        raise NotBelieved(f"unexpected status {answer.status}, or no Patient")
    try:
        number = NhsNumber.parse(text(answer.resource, "id"))
    except InvalidIdentifier as error:
        raise NotBelieved("the record has no NHS number") from error
    surnames = [text(name, "family") for name in items(answer.resource, "name")][:SURNAMES_MAX]
    state = TraceState.FOUND if number.digits == asked.value else TraceState.SUPERSEDED
    return Trace(state, number, frozenset(surname for surname in surnames if surname))
