"""FHIR R4 in: statuses, instants, references, forms, and a door whose answers fhir.resources can read."""

import base64
import io
import json
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.operationoutcome import OperationOutcome

from gateway.feeds.fhir import door
from gateway.feeds.fhir.reading import read_message
from gateway.feeds.fhir.resources import REPORTS_MAX
from gateway.feeds.hl7.oru import ORDERS_MAX
from gateway.feeds.profile import Feed, FeedKind, Profile
from gateway.feeds.replaying import reader
from gateway.model.reporting.incoming import IncomingReport, ReportSource
from policy.parties import NhsNumber, PatientId
from policy.release.reports import AlertCategory, Said
from tests.clock import FakeClock
from tests.feeds.intakes import MemoryFigures, MemoryIntake
from tests.feeds.messages import RECEIVED, TRUST

PAS = "https://rx1.example/pas"
PROFILE = Profile(patient_authorities=frozenset({PAS}), alert_codes={"SUSPCA": AlertCategory.CANCER})
FEED = Feed("rx1-fhir", TRUST, FeedKind.FHIR, "RX1-PAS", PROFILE)
PDF = b"%PDF-1.7\n%%EOF\n"
Json = dict[str, Any]


def encoded(content: str | bytes) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def report(**changes: object) -> Json:
    """A report with all that it refers to inside it."""
    whole: Json = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "meta": {"versionId": "1", "lastUpdated": "2026-06-01T09:16:00+01:00"},
        "contained": [
            {
                "resourceType": "Patient",
                "id": "p",
                "identifier": [
                    {
                        "system": "https://fhir.nhs.uk/Id/nhs-number",
                        "value": "9990000018",
                        "extension": [
                            {
                                "url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
                                "valueCodeableConcept": {"coding": [{"code": "01"}]},
                            }
                        ],
                    },
                    {"system": PAS, "value": "0001234"},
                    {"system": "https://rx2.example/pas", "value": "77"},
                ],
                "name": [{"family": "TESTER", "given": ["ANNE"]}],
                "birthDate": "1980-02-29",
            },
            {
                "resourceType": "ServiceRequest",
                "id": "s",
                "status": "active",
                "intent": "order",
                "subject": {"reference": "#p"},
                "identifier": [
                    {"type": {"coding": [{"code": "PLAC"}]}, "value": "P1"},
                    {"type": {"coding": [{"code": "ACSN"}]}, "value": "A1"},
                ],
                "requester": {"reference": "#d"},
            },
            {
                "resourceType": "Practitioner",
                "id": "d",
                "identifier": [{"value": "C1234567"}],
                "name": [{"family": "REFERRER", "given": ["RITA"], "prefix": ["DR"]}],
            },
            {
                "resourceType": "ImagingStudy",
                "id": "i",
                "status": "available",
                "subject": {"reference": "#p"},
                "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.0.1"}],
                "modality": [{"code": "DX"}],
            },
        ],
        "basedOn": [{"reference": "#s"}],
        "status": "final",
        "code": {"coding": [{"code": "XCHES", "display": "Chest X-ray"}]},
        "subject": {"reference": "#p"},
        "effectiveDateTime": "2026-05-30T12:00:00+01:00",
        "issued": "2026-06-01T09:15:00+01:00",
        "resultsInterpreter": [{"display": "DR ROBERT READER"}],
        "imagingStudy": [{"reference": "#i"}],
        "presentedForm": [{"contentType": "text/plain", "data": encoded("Heart size normal.")}],
    }
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not None}


def read(whole: object) -> tuple[IncomingReport, ...]:
    message, wrong = read_message(json.dumps(whole).encode(), FEED, RECEIVED)
    assert wrong is None, wrong
    return message.reports


def only(**changes: object) -> IncomingReport:
    (found,) = read(report(**changes))
    return found


def problem(whole: object) -> str:
    raw = whole if isinstance(whole, bytes) else json.dumps(whole).encode()
    message, wrong = read_message(raw, FEED, RECEIVED)
    assert wrong is not None and message.problem == str(wrong) and message.raw == raw
    return message.problem


def test_the_report_of_these_tests_is_one_of_r4() -> None:
    assert DiagnosticReport.model_validate(report()).status == "final"


def test_a_verified_report_is_read_whole() -> None:
    found = only()
    assert (found.trust, found.source, found.said) == (TRUST, ReportSource.FHIR, Said.VERIFIED)
    assert (found.message_id, found.report_number) == ("DiagnosticReport/r1/1", "A1")
    assert (found.accessions, found.placer_numbers, found.study_uids) == (("A1",), ("P1",), ("1.2.826.0.1",))
    assert found.verification is not None
    assert found.verification.at == found.stated_at == datetime.fromisoformat("2026-06-01T08:15:00Z")
    assert found.verification.by == found.interpreter.name == "DR ROBERT READER"
    assert (found.referrer.identifier, found.referrer.name) == ("C1234567", "DR RITA REFERRER")
    assert (found.exam.codes, found.exam.name, found.exam.modality) == (("XCHES",), "Chest X-ray", "DX")
    assert (found.subject.nhs_number, found.subject.nhs_number_status) == (NhsNumber("9990000018"), "01")
    assert found.subject.local == (PatientId("RX1-PAS", "0001234"),)
    assert (found.subject.family_name, found.subject.birth_date) == ("TESTER", date(1980, 2, 29))
    assert found.content.text == "Heart size normal."


@pytest.mark.parametrize(
    ("status", "said"),
    [
        *[(each, Said.PRELIMINARY) for each in ("registered", "partial", "preliminary", "unknown")],
        ("final", Said.VERIFIED),
        ("amended", Said.CORRECTED),
        ("corrected", Said.CORRECTED),
        ("appended", Said.APPENDED),
        ("cancelled", Said.CANCELLED),
        ("entered-in-error", Said.WITHDRAWN),
    ],
)
def test_every_status_of_r4_has_its_meaning(status: str, said: Said) -> None:
    found = only(status=status)
    assert found.said is said
    assert (found.verification is not None) is (said in (Said.VERIFIED, Said.CORRECTED, Said.APPENDED))


@pytest.mark.parametrize("issued", [None, "2026-06-01", "2026-06-01T09:15:00", "2026-06-31T09:15:00Z", "soon"])
def test_an_instant_without_a_zone_is_no_verification_time(issued: str | None) -> None:
    found = only(issued=issued)
    assert found.verification is not None and found.verification.at is None
    assert found.stated_at == datetime.fromisoformat("2026-06-01T08:16:00Z")


@pytest.mark.parametrize("status", ["preliminary", "partial", "cancelled", "entered-in-error"])
def test_what_stops_a_text_says_when_it_was_changed_beside_the_time_of_that_text(status: str) -> None:
    meta = {"versionId": "2", "lastUpdated": "2026-06-03T11:00:00Z"}
    for found in (only(status=status, meta=meta), only(meta=meta)):
        assert found.stated_at == datetime.fromisoformat("2026-06-01T08:15:00Z")
        assert found.sent_at == datetime.fromisoformat("2026-06-03T11:00:00Z")


def test_forms_are_text_or_one_document() -> None:
    html = {"contentType": "text/html", "data": encoded("<p>Normal</p><script>alert(1)</script>")}
    pdf = {"contentType": "application/pdf", "data": encoded(PDF)}
    rtf = {"contentType": "application/rtf", "data": encoded(r"{\rtf1 Normal.\par}")}
    elsewhere = {"contentType": "application/pdf", "url": "https://ris.example/1"}
    assert only(presentedForm=[html]).content.text == "<p>Normal</p><script>alert(1)</script>"
    assert only(presentedForm=[pdf, elsewhere]).content.pdf == PDF
    assert only(presentedForm=[rtf]).content.text == "Normal."
    assert only(presentedForm=[pdf, elsewhere]).content.is_whole, "each form is the whole report"
    assert only(presentedForm=[pdf], conclusion="No fracture.").content.text == "No fracture."
    assert only(conclusion="Heart size  normal.").content.text == "Heart size normal."


RESULT = {"reference": "Observation/o"}
ELSEWHERE = {"contentType": "application/pdf", "url": "Binary/b1"}


@pytest.mark.parametrize(
    "parts",
    [
        {"presentedForm": [ELSEWHERE]},
        {"presentedForm": [{"contentType": "application/pdf"}]},
        {"presentedForm": None, "result": [RESULT]},
        {"presentedForm": [{"contentType": "text/plain", "data": encoded(" ")}], "result": [RESULT]},
    ],
)
def test_a_conclusion_is_no_report_where_more_of_it_lies_elsewhere(parts: Json) -> None:
    assert not only(**parts).content.is_whole
    assert not only(**parts, conclusion="See attached report.").content.is_whole
    assert only(presentedForm=None, conclusion="No fracture.").content.is_whole
    assert only(result=[RESULT], conclusion="No fracture.").content.is_whole, "what is presented is all of it"


def test_a_form_that_came_beside_its_report_is_read() -> None:
    binary = {"resourceType": "Binary", "id": "b1", "contentType": "application/pdf", "data": encoded(PDF)}
    whole = report(presentedForm=[ELSEWHERE], conclusion="See attached report.")
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": whole}, {"resource": binary}]}
    (found,) = read(bundle)
    assert found.content.is_whole and found.content.pdf == PDF


def test_a_bundle_is_read_with_its_references() -> None:
    patient = {**report()["contained"][0], "id": "p9"}
    second = report(
        id="r2", meta=None, issued=None, subject={"reference": "Patient/p9"}, identifier=[{"value": "R2"}], basedOn=None
    )
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": "2026-06-01T09:16:00Z",
        "entry": [
            {"fullUrl": "urn:uuid:1", "resource": patient, "request": {"method": "PUT", "url": "Patient/p9"}},
            {"resource": report(subject={"reference": "urn:uuid:1"}), "request": {"method": "POST", "url": "x"}},
            {"resource": second, "request": {"method": "POST", "url": "x"}},
        ],
    }
    assert Bundle.model_validate(bundle).type == "transaction"
    first, other = read(bundle)
    assert other.stated_at == datetime.fromisoformat("2026-06-01T09:16:00Z")
    assert first.subject == other.subject and first.subject.nhs_number == NhsNumber("9990000018")
    assert (first.report_number, other.report_number, first.message_id) == ("A1", "R2", other.message_id)


def bundle_of(count: int) -> Json:
    entries = [{"resource": report(id=f"r{number}", basedOn=None)} for number in range(count)]
    return {"resourceType": "Bundle", "type": "collection", "timestamp": "2026-06-01T09:16:00Z", "entry": entries}


def test_a_bundle_brings_no_more_reports_than_a_message_of_hl7() -> None:
    # They are filed in one transaction, and nobody else writes meanwhile.
    assert len(read(bundle_of(REPORTS_MAX))) == REPORTS_MAX == ORDERS_MAX
    assert problem(bundle_of(REPORTS_MAX + 1)) == "the bundle holds more than 200 reports"


def test_a_patient_may_be_named_without_a_resource() -> None:
    logical = {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}}
    assert only(subject=logical).subject.nhs_number == NhsNumber("9990000018")


def test_an_alert_is_one_that_the_profile_maps() -> None:
    found = only(conclusionCode=[{"coding": [{"code": "suspca"}, {"code": "254637007"}]}])
    assert found.alert_codes == ("cancer",)


@pytest.mark.parametrize(
    "whole",
    [
        b"\xff",
        b"[]",
        b'"DiagnosticReport"',
        b"[" * 100_000,
        {"resourceType": "Patient"},
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "entry": [{}]},
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}]},
        {"resourceType": "Bundle", "entry": [{"resource": report()}, {"resource": report()}]},
        report(status="done"),
        report(issued=None, meta=None),
        report(subject=None),
        report(subject={"reference": "Patient/elsewhere", "display": "ANNE TESTER"}),
        report(presentedForm=[{"contentType": "image/png", "data": "AAAA"}]),
        report(presentedForm=[{"contentType": "text/plain", "data": "%%%"}]),
        report(presentedForm=[{"contentType": "text/plain", "data": encoded(b"\xff\xfe")}]),
        report(presentedForm=[{"contentType": "application/pdf", "data": encoded(PDF)}] * 2),
        report(identifier=[{"value": "x" * 65}], basedOn=None),
    ],
)
def test_what_cannot_be_read_is_kept_with_a_reason_that_repeats_nothing(whole: object) -> None:
    found = problem(whole)
    assert found and "TESTER" not in found and "9990000018" not in found


class Rig:
    """A door behind which an intake keeps things in memory."""

    def __init__(self) -> None:
        self.feed: Feed | None = FEED
        self.intake = MemoryIntake()
        self.figures = MemoryFigures()
        taking = door.FhirDoor(lambda _request: self.feed, self.intake, FakeClock(), self.figures)
        self.application = web.Application(client_max_size=1)
        self.application.add_routes(taking.routes())


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(rig.application)) as client:
        yield client


async def sent(
    client: TestClient[web.Request, web.Application], body: object, method: str = "POST", path: str = "", kind: str = ""
) -> int:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": kind or "application/fhir+json"}
    async with client.request(method, door.PATH + path, data=io.BytesIO(raw), headers=headers) as answer:
        outcome = OperationOutcome.model_validate(await answer.json(content_type="application/fhir+json"))
        assert outcome.issue
        return answer.status


async def test_a_report_is_answered_once_it_is_kept(rig: Rig, client: TestClient[web.Request, web.Application]) -> None:
    assert await sent(client, report(), path="/DiagnosticReport") == 201
    assert await sent(client, report(), path="/DiagnosticReport") == 200
    assert await sent(client, report(meta={**report()["meta"], "versionId": "2"}), "PUT", "/DiagnosticReport/r1") == 201
    assert await sent(client, report(), "PUT", "/DiagnosticReport/r2") == 400
    assert [each.message_id for each in rig.intake.messages] == ["DiagnosticReport/r1/1", "DiagnosticReport/r1/2"]
    assert rig.figures.outcomes == ["filed", "filed", "filed"]


async def test_what_can_never_be_read_is_kept_and_what_cannot_be_kept_is_asked_for_again(
    rig: Rig, client: TestClient[web.Request, web.Application]
) -> None:
    assert await sent(client, b"{") == 422
    assert [bool(each.problem) for each in rig.intake.messages] == [True]
    assert [feed for feed, _ in rig.intake.heard] == ["rx1-fhir"], "a sign of life all the same"
    rig.intake.is_down = True
    assert await sent(client, report()) == 503
    rig.intake.is_down = False
    assert await sent(client, report()) == 201


async def test_strangers_other_forms_and_long_bodies_are_refused(
    rig: Rig, client: TestClient[web.Request, web.Application]
) -> None:
    assert await sent(client, report(), kind="application/fhir+xml") == 415
    assert await sent(client, b" " * (door.BODY_BYTES_MAX + 1)) == 413
    rig.feed = None
    assert await sent(client, report()) == 403
    assert rig.intake.messages == []


async def test_a_long_report_is_taken(rig: Rig, client: TestClient[web.Request, web.Application]) -> None:
    long = report(presentedForm=[{"contentType": "text/plain", "data": encoded("Normal. " * 100_000)}])
    assert await sent(client, long) == 201
    assert len(rig.intake.messages[0].reports[0].content.text) == 800_000


def test_a_kept_resource_is_read_anew() -> None:
    message = reader(lambda: [FEED])(TRUST, "rx1-fhir", json.dumps(report()).encode(), RECEIVED)
    assert message.reports[0].report_number == "A1"
