"""A service shaped like the Personal Demographics Service: `GET Patient/{NHS number}` (FHIR R4; domain.md C2).

A superseded number answers with the surviving record. Of the record number and names are read and, where a report is to
be released, birth date, death and how far the number is verified (SAF-66); nothing else: address, telecom and practice,
which restricted records lack, are not wanted here. Knows no hospital's numbers.
"""

from __future__ import annotations

from datetime import date

import structlog

from gateway.lookups.fhir import (
    NHS_NUMBER_SYSTEM,
    FhirAnswer,
    FhirClient,
    FhirServer,
    NotBelieved,
    Resource,
    child,
    items,
    text,
)
from gateway.model.reporting.tracing import TracedPerson
from gateway.model.seams import Trace, TraceState
from policy.parties import NHS_NUMBER_ISSUER, InvalidIdentifier, NhsNumber, PatientId
from policy.release.circumstances import Death

log = structlog.get_logger(__name__)

SURNAMES_MAX = 16

_UNKNOWN = Trace(TraceState.UNKNOWN)
_FAILED = Trace(TraceState.FAILED)
_VERIFICATION_STATUS, _DEATH_STATUS = "NHSNumberVerificationStatus", "DeathNotificationStatus"
"""Ends of the addresses of the extensions; PDS and UK Core differ in what stands before."""
_FORMAL, _REMOVED = "2", "U"


class PdsLookup:
    """A `PatientLookup`, and a `PersonLookup`."""

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

    async def person(self, number: NhsNumber, request_id: str) -> TracedPerson:
        """See `PersonLookup`."""
        asked = PatientId(NHS_NUMBER_ISSUER, number.digits)
        try:
            answer = await self._client.get(("Patient", number.digits), {}, request_id)
            found = _trace(asked, answer)
            return _person(found, answer.resource) if found.number is not None else TracedPerson(found.state)
        except NotBelieved as error:
            log.warning("lookup failed", lookup=self.name, detail=str(error))
            return TracedPerson(TraceState.FAILED)

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


def _person(found: Trace, record: Resource) -> TracedPerson:
    names = items(record, "name")[:SURNAMES_MAX]
    usual = next((name for name in names if text(name, "use") == "usual"), names[0] if names else {})
    given = usual.get("given")
    first = given[0] if isinstance(given, list) and given and isinstance(given[0], str) else ""
    try:
        birth_date = date.fromisoformat(text(record, "birthDate"))
    except ValueError:  # a year or a month alone, or nothing: agrees with nobody's
        birth_date = None
    return TracedPerson(
        found.state,
        found.number,
        _number_status(record),
        text(usual, "family"),
        first,
        found.surnames,
        birth_date,
        _death(record),
    )


def _number_status(record: Resource) -> str:
    for identifier in items(record, "identifier"):
        if text(identifier, "system") == NHS_NUMBER_SYSTEM:
            return _code(identifier, _VERIFICATION_STATUS)
    return ""


def _death(record: Resource) -> Death:
    is_dead = bool(text(record, "deceasedDateTime")) or record.get("deceasedBoolean") is True
    for extension in items(record, "extension"):
        if text(extension, "url").endswith(_DEATH_STATUS):
            code = _code(extension, "deathNotificationStatus")
            if code == _FORMAL:
                return Death.FORMAL
            if code == _REMOVED and not is_dead:
                return Death.NO
            is_dead = True
    return Death.INFORMAL if is_dead else Death.NO


def _code(resource: Resource, ending: str) -> str:
    """The first code of the extension whose address ends so."""
    for extension in items(resource, "extension"):
        if text(extension, "url").endswith(ending):
            return next((text(each, "code") for each in items(child(extension, "valueCodeableConcept"), "coding")), "")
    return ""
