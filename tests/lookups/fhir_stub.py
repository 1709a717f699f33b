"""A stub of PDS (FHIR R4, `GET Patient/{number}`) and of a PIXm manager (ITI-83), as their public interfaces say.

Answers what a test describes, over plain HTTP on loopback, and remembers who was asked for and under which headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from gateway.lookups.fhir import NHS_NUMBER_SYSTEM
from gateway.model.imaging import JsonValue
from policy.parties import NhsNumber

FHIR_JSON = "application/fhir+json"


class FhirStub:
    """What the stub answers, by path and by source identifier."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.is_stalled = False
        self._answers: dict[str, tuple[int, bytes, str]] = {}

    def patient(self, asked: NhsNumber, *families: str, survivor: NhsNumber | None = None) -> None:
        """Answer a number with a record: its own, or that of the number that superseded it."""
        names: list[JsonValue] = [
            {"use": "usual" if first else "old", "family": family, "given": ["Anne"]}
            for first, family in zip((True, *(False for _ in families)), families, strict=False)
        ]
        record: dict[str, JsonValue] = {
            "resourceType": "Patient",
            "id": (survivor or asked).digits,
            "identifier": [{"system": NHS_NUMBER_SYSTEM, "value": (survivor or asked).digits}],
            "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "U"}]},
            "name": names,
            "birthDate": "1958-03-14",
        }
        self.answer(asked.digits, 200, record)

    def refuse(self, asked: NhsNumber, status: int, code: str) -> None:
        """Answer a number with an OperationOutcome."""
        issue: JsonValue = {"severity": "error", "code": "value", "details": {"coding": [{"code": code}]}}
        self.answer(asked.digits, status, {"resourceType": "OperationOutcome", "issue": [issue]})

    def link(self, system: str, value: str, *targets: tuple[str, str]) -> None:
        """Answer a source identifier with target identifiers, each a system and a value."""
        parameters: list[JsonValue] = [
            {"name": "targetIdentifier", "valueIdentifier": {"use": "official", "system": target, "value": number}}
            for target, number in targets
        ]
        reference: JsonValue = {"name": "targetId", "valueReference": {"reference": "Patient/1"}}
        answer: dict[str, JsonValue] = {"resourceType": "Parameters", "parameter": [*parameters, reference]}
        self.answer(f"{system}|{value}", 200, answer)

    def answer(self, asked: str, status: int, body: JsonValue | bytes, content_type: str = FHIR_JSON) -> None:
        """Answer this, whatever it is."""
        encoded = body if isinstance(body, bytes) else orjson.dumps(body)
        self._answers[asked] = (status, encoded, content_type)

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one request."""
        tail = request.match_info["tail"]
        asked = request.query.get("sourceIdentifier", "") if tail == "$ihe-pix" else tail
        self.asked.append(asked)
        self.headers.append(dict(request.headers))
        if self.is_stalled:
            await asyncio.Event().wait()
        status, body, content_type = self._answers.get(asked, (404, _NOT_FOUND, FHIR_JSON))
        return web.Response(status=status, body=body, headers={"Content-Type": content_type})


_NOT_FOUND = orjson.dumps(
    {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "details": {"coding": [{"code": "RESOURCE_NOT_FOUND"}]}}],
    }
)


@asynccontextmanager
async def running_stub() -> AsyncIterator[FhirStub]:
    """A stub that listens."""
    stub = FhirStub()
    app = web.Application()
    app.router.add_get("/FHIR/R4/Patient/{tail}", stub.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    addresses: Sequence[tuple[str, int]] = runner.addresses
    stub.url = f"http://127.0.0.1:{addresses[0][1]}/FHIR/R4"
    try:
        yield stub
    finally:
        await runner.cleanup()
