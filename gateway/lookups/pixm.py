"""A patient identifier cross-reference consumer: `$ihe-pix` on Patient (IHE ITI PIXm, ITI-83, FHIR R4).

Hospitals' numbers are known to it by FHIR systems, to the registers here by issuers: the configuration pairs the two,
and what has no pair is not asked and not believed. Knows no demographics.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from gateway.lookups.fhir import NHS_NUMBER_SYSTEM, FhirAnswer, FhirClient, FhirServer, NotBelieved, child, items, text
from gateway.model.seams import Trace, TraceState
from policy.parties import NHS_NUMBER_ISSUER, InvalidIdentifier, NhsNumber, PatientId

log = structlog.get_logger(__name__)

IDENTIFIERS_MAX = 64

_UNKNOWN = Trace(TraceState.UNKNOWN)
_FAILED = Trace(TraceState.FAILED)


class PixmLookup:
    """A `PatientLookup`. `systems` are the FHIR systems of the issuers that it knows, by issuer."""

    def __init__(self, server: FhirServer, systems: Mapping[str, str]) -> None:
        self._client = FhirClient(server)
        self._systems = {NHS_NUMBER_ISSUER: NHS_NUMBER_SYSTEM, **systems}
        self._issuers = {system: issuer for issuer, system in self._systems.items()}

    @property
    def name(self) -> str:
        """See `PatientLookup`."""
        return "pixm"

    async def trace(self, identifier: PatientId, request_id: str) -> Trace:
        """See `PatientLookup`."""
        system = self._systems.get(identifier.issuer)
        if system is None or "|" in identifier.value:
            return _UNKNOWN
        query = {"sourceIdentifier": f"{system}|{identifier.value}"}
        try:
            return self._trace(identifier, await self._client.get(("Patient", "$ihe-pix"), query, request_id))
        except NotBelieved as error:
            log.warning("lookup failed", lookup=self.name, detail=str(error))
            return _FAILED

    async def close(self) -> None:
        """See `PatientLookup`."""
        await self._client.close()

    def _trace(self, asked: PatientId, answer: FhirAnswer) -> Trace:
        if answer.status == 404:
            return _UNKNOWN
        if answer.status != 200 or text(answer.resource, "resourceType") != "Parameters":
            raise NotBelieved(f"unexpected status {answer.status}, or no Parameters")
        found = {asked, *self._identifiers(answer)}
        numbers = {number for each in found if (number := _number(each)) is not None}
        # A cross-reference that gives one person two NHS numbers says that they are two, or one of them wrong.
        if len(numbers) > 1:
            raise NotBelieved("several NHS numbers for one person")
        local = tuple(sorted(each for each in found if each.issuer != NHS_NUMBER_ISSUER))
        return Trace(TraceState.FOUND, next(iter(numbers), None), local=local)

    def _identifiers(self, answer: FhirAnswer) -> list[PatientId]:
        values = [
            child(parameter, "valueIdentifier")
            for parameter in items(answer.resource, "parameter")[:IDENTIFIERS_MAX]
            if text(parameter, "name") == "targetIdentifier"
        ]
        return [
            PatientId(issuer, value)
            for each in values
            if (issuer := self._issuers.get(text(each, "system"))) and (value := text(each, "value").strip())
        ]


def _number(identifier: PatientId) -> NhsNumber | None:
    if identifier.issuer != NHS_NUMBER_ISSUER:
        return None
    try:
        return NhsNumber.parse(identifier.value)
    except InvalidIdentifier as error:
        raise NotBelieved("what should be an NHS number is none") from error
