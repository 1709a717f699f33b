"""A FHIR portal: what it is sent is FHIR, nothing goes out in an address, and each failure is what it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.communication import Communication
from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.channels import fhir_resources
from gateway.channels.fhir import FhirChannel, FhirPortal, TokenSource
from gateway.model.errors import StoreUnavailable
from gateway.model.reporting.channels import Outcome, Receipt
from gateway.model.reporting.notices import Notice, Told
from gateway.release.referrers.ways import Ways
from policy.parties import TrustId
from policy.release.chasing import Matter, Recipient
from tests.channels.reports import AT, RENDERING, REPORT, SARAH, Numbers, now

PATIENT = {
    "resourceType": "Patient",
    "meta": {"tag": [{"code": "P9"}]},
    "identifier": [{"system": fhir_resources.NHS_NUMBER_SYSTEM, "value": SARAH.nhs_number.digits}],
    "name": [{"family": "O'Shea"}],
    "birthDate": "1980-02-29",
}
DONE = {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": {"status": "201 Created"}}]}

Behaviour = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Portal:
    """A portal that does as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.people: object = [PATIENT]
        self.behaviour: Behaviour | None = None
        self.asked: list[str] = []
        self.bodies: list[str] = []
        self.headers: list[str] = []
        self.refused_token = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        body = await request.text()
        self.asked.append(request.path_qs)
        self.headers.append(request.headers.get("Authorization", ""))
        if request.path == "/token":
            self.bodies.append((await request.post())["client_assertion"])  # type: ignore[arg-type]  # a field, no file
            return web.json_response({"access_token": f"t-{self.asked.count('/token')}", "expires_in": 300})
        if self.refused_token and self.headers[-1] == f"Bearer {self.refused_token}":
            return web.json_response({}, status=401)
        if request.path.endswith("_search"):
            return web.json_response({"resourceType": "Bundle", "entry": self.entries()})
        self.bodies.append(body)
        if self.behaviour is not None:
            return await self.behaviour(request)
        return web.json_response(DONE)

    def entries(self) -> object:
        """What a search finds."""
        return [{"resource": each} for each in self.people] if isinstance(self.people, list) else self.people


@asynccontextmanager
async def connected(portal: Portal, **settings: object) -> AsyncIterator[FhirChannel]:
    """A channel to it."""
    server = web.Server(portal.answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    key = settings.pop("key", None)
    tokens = TokenSource(f"{url}/token", "gateway", key) if isinstance(key, RSAKey) else None
    facing = replace(FhirPortal("portal", url, timeout_s=5, tokens=tokens), **settings)  # type: ignore[arg-type]  # a test's own
    channel = FhirChannel(facing, now, Numbers())
    try:
        yield channel
    finally:
        await channel.close()
        await runner.cleanup()


@pytest.mark.parametrize("replaces", ["", "document-0"])
def test_what_a_portal_is_sent_is_fhir(replaces: str) -> None:
    for bundle in (
        fhir_resources.putting(replace(REPORT, replaces=replaces), RENDERING),
        fhir_resources.withdrawing("document-1", SARAH, "This document has been withdrawn.", AT),
    ):
        Bundle.model_validate_json(json.dumps(bundle))
    Communication.model_validate_json(json.dumps(fhir_resources.notifying(REPORT)))


def test_a_report_has_the_fields_of_uk_core() -> None:
    bundle = json.loads(json.dumps(fhir_resources.putting(REPORT, RENDERING)))
    report = bundle["entry"][0]["resource"]
    assert report["meta"]["profile"] == ["https://fhir.hl7.org.uk/StructureDefinition/UKCore-DiagnosticReport"]
    assert report["status"] == "final"
    assert report["category"][0]["coding"][0]["code"] == "RAD"
    assert report["code"]["coding"][0]["code"] == "722124004"
    assert report["subject"]["identifier"]["value"] == "9990000018"
    assert [form["contentType"].split(";")[0] for form in report["presentedForm"]] == [
        "application/pdf",
        "text/html",
        "text/plain",
    ]


def test_a_notification_says_nothing_of_the_examination() -> None:
    said = json.dumps(fhir_resources.notifying(REPORT))
    for word in ("X-ray", "chest", "lungs", "Respiratory", "O'Shea"):
        assert word not in said


async def test_a_report_is_put_and_confirmed_and_no_address_names_the_patient() -> None:
    portal = Portal()
    async with connected(portal) as channel:
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.CONFIRMED
        assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.CONFIRMED
        assert (await channel.notify(REPORT)).receipt is Receipt.CONFIRMED
    assert not [each for each in portal.asked if "9990000018" in each or "document" in each]


async def test_a_token_is_had_by_a_signed_assertion_and_used_again() -> None:
    portal, key = Portal(), RSAKey.generate_key(2048)
    async with connected(portal, key=key) as channel:
        await channel.put(REPORT, RENDERING)
        await channel.put(REPORT, RENDERING)
    assert portal.asked.count("/token") == 1
    claims = jwt.decode(portal.bodies[0], key, algorithms=["RS512"]).claims
    assert (claims["iss"], claims["sub"]) == ("gateway", "gateway")
    assert portal.headers[1:] == ["Bearer t-1"] * 4


async def test_a_token_that_the_portal_no_longer_takes_is_asked_for_anew() -> None:
    portal = Portal()
    async with connected(portal, key=RSAKey.generate_key(2048)) as channel:
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.CONFIRMED
        portal.refused_token = "t-1"
        # The account is looked up first: that answer alone has to say it.
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.FAILED
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.CONFIRMED
    assert portal.asked.count("/token") == 2


@pytest.mark.parametrize(
    ("people", "receipt"),
    [
        ([], Receipt.NO_ACCOUNT),
        ([{**PATIENT, "meta": {}}], Receipt.NO_ACCOUNT),
        ([{**PATIENT, "birthDate": "1990-01-01"}], Receipt.REFUSED),
        ([PATIENT, PATIENT], Receipt.REFUSED),
        ("nonsense", Receipt.NO_ACCOUNT),
    ],
)
async def test_nothing_is_put_without_an_account_that_is_proven_and_the_patients(
    people: object, receipt: Receipt
) -> None:
    portal = Portal()
    portal.people = people
    async with connected(portal) as channel:
        assert (await channel.put(REPORT, RENDERING)).receipt is receipt
    assert portal.bodies == []


async def _dropped(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _status(status: int, body: object) -> web.StreamResponse:
    return web.json_response(body, status=status)


@pytest.mark.parametrize(
    ("behaviour", "receipt"),
    [
        (lambda _: _status(422, {"issue": [{"diagnostics": "O'Shea 9990000018"}]}), Receipt.REFUSED),
        (lambda _: _status(403, {}), Receipt.REFUSED),
        (lambda _: _status(302, {}), Receipt.REFUSED),
        (lambda _: _status(401, {}), Receipt.FAILED),
        (lambda _: _status(429, {}), Receipt.FAILED),
        (lambda _: _status(500, {}), Receipt.UNKNOWN),
        (lambda _: _status(504, {}), Receipt.UNKNOWN),
        (lambda _: _status(200, {"type": "transaction-response", "entry": []}), Receipt.UNKNOWN),
        (lambda _: _status(200, ["odd"]), Receipt.UNKNOWN),
        (_dropped, Receipt.UNKNOWN),
    ],
)
async def test_each_failure_is_what_it_was_and_repeats_nothing(behaviour: Behaviour, receipt: Receipt) -> None:
    portal = Portal()
    portal.behaviour = behaviour
    async with connected(portal) as channel:
        outcome = await channel.put(REPORT, RENDERING)
    assert outcome.receipt is receipt
    assert "O'Shea" not in outcome.words and "999" not in outcome.words


async def test_a_portal_that_hangs_leaves_it_unknown() -> None:
    portal = Portal()
    ends = []

    async def hanging(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        ends.append(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b" ")
        return response

    portal.behaviour = hanging
    async with connected(portal, timeout_s=0.3) as channel:
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.UNKNOWN


async def test_a_portal_that_is_not_there_failed() -> None:
    async with connected(Portal(), url="http://127.0.0.1:1") as channel:
        outcome = await channel.put(REPORT, RENDERING)
        assert outcome == Outcome(Receipt.FAILED, "the account could not be looked up: no connection")
        assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.FAILED


NOTICE = Notice(
    key="a" * 40,
    trust=TrustId("RZ1"),
    report_id="r1",
    version_id="v1",
    report_number="R-1",
    matter=Matter.ALERT,
    to=(Told(Recipient.REFERRER, "C1234567 Dr B Referrer"), Told(Recipient.TEAM, "")),
    due_at=AT,
)


def test_a_notice_to_staff_is_fhir_and_names_the_report_alone() -> None:
    said = json.dumps(fhir_resources.telling(NOTICE, AT))
    read = Communication.model_validate_json(said)
    assert read.subject is None and "Patient" not in said
    assert (read.priority, [each.display for each in read.recipient or []]) == (
        "urgent",
        ["referrer: C1234567 Dr B Referrer", "team"],
    )


async def test_a_notice_that_a_system_took_is_proven_by_its_answer() -> None:
    portal = Portal()

    async def created(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"resourceType": "Communication", "id": "17"}, status=201)

    portal.behaviour = created
    async with connected(portal) as channel:
        assert await channel.tell(NOTICE) == "portal: Communication 17, status 201"
    assert portal.asked == ["/Communication"]


@pytest.mark.parametrize("status", [400, 404, 409, 503])
async def test_a_notice_that_no_system_took_is_proven_by_nothing(status: int) -> None:
    portal = Portal()

    async def refused(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({}, status=status)

    portal.behaviour = refused
    async with connected(portal) as channel:
        with pytest.raises(StoreUnavailable, match="the notice was not taken"):
            await channel.tell(NOTICE)


class Postbox:
    """A way that says who was told by it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def tell(self, notice: Notice) -> str:
        """See `Notifier`."""
        self.told.append(notice.key)
        return "taken"


async def test_each_trust_is_told_by_its_own_way_and_by_no_other() -> None:
    folder, system = Postbox(), Postbox()
    named = {TrustId("RZ1"): "order-comms", TrustId("RZ3"): "nowhere"}
    ways = Ways(folder, {"order-comms": system}, lambda trust: named.get(trust, ""))
    for trust in ("RZ1", "RZ2"):
        assert await ways.tell(replace(NOTICE, trust=TrustId(trust), key=trust)) == "taken"
    with pytest.raises(StoreUnavailable):
        await ways.tell(replace(NOTICE, trust=TrustId("RZ3")))
    assert (system.told, folder.told) == (["RZ1"], ["RZ2"])
