"""Reports by FHIR: found and read by who may have them, valid R4, and absent alike for everybody else (SAF-63)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import cast

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.operationoutcome import OperationOutcome
from sqlalchemy import update

from dicomweb.problem import problem_of
from gateway.model.errors import AuditUnavailable, GatewayError
from gateway.model.imaging import JsonValue
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, ReportSource
from gateway.model.wording import SENTENCE
from gateway.web.fhir.parameters import NHS_NUMBER_SYSTEM
from gateway.web.fhir.service import Behind, Told, routes
from policy.parties import Caller
from policy.release.reports import Said
from storage.release.tables import report_version
from tests.clinicians.ward import TEXT, VERIFIED_AT, Ward, reported
from tests.clock import NOON
from tests.retrieval.test_freshness import due
from tests.retrieval.travels import STUDY
from tests.sharing.rows import ANNE, BEN

LATER = VERIFIED_AT + timedelta(hours=2)
OF_ANNE = f"{NHS_NUMBER_SYSTEM}|{ANNE.digits}"
Answer = tuple[int, dict[str, JsonValue]]


class Clinic:
    """A system that asks by FHIR, in the name of the trust that `X-Trust` names."""

    def __init__(self, ward: Ward, client: TestClient[web.Request, web.Application]) -> None:
        self.ward = ward
        self._client = client

    async def get(self, path: str, by: str = "RZ1", **query: str) -> Answer:
        """Read, or search."""
        return await self._answered(self._client.get(path, params=query, headers={"X-Trust": by}))

    async def search(self, by: str = "RZ1", **form: str) -> Answer:
        """Search with the parameters in the body."""
        named = {"patient:identifier": OF_ANNE, **form}
        return await self._answered(
            self._client.post("/fhir/DiagnosticReport/_search", data=named, headers={"X-Trust": by})
        )

    async def reports(self, by: str = "RZ1", **form: str) -> list[DiagnosticReport]:
        """What a search finds."""
        status, body = await self.search(by, **form)
        assert status == 200, body
        bundle = Bundle.model_validate(body)
        *found, said = bundle.entry or []
        assert isinstance(said.resource, OperationOutcome) and SENTENCE in said.resource.model_dump_json()
        return [each.resource for each in found if isinstance(each.resource, DiagnosticReport)]

    async def _answered(self, asking: object) -> Answer:
        clock, store = self.ward.region.clock, self.ward.region.store

        async def ask() -> Answer:
            async with asking as response:  # type: ignore[attr-defined]  # aiohttp's own way of asking
                assert response.content_type == "application/fhir+json"
                return response.status, orjson.loads(await response.read())

        return await clock.run(ask(), is_busy=store.is_busy)


@pytest.fixture
async def clinic(ward: Ward) -> AsyncIterator[Clinic]:
    """RZ1's system."""
    await ward.region.prepare()

    async def identified(request: web.Request) -> Caller:
        return ward.region.caller(request.headers["X-Trust"])

    behind = Behind(lambda: ward.reading, identified, told, "https://gateway.test", "1", ward.region.clock)
    application = web.Application()
    application.add_routes(routes(behind))
    async with TestClient(TestServer(application)) as client:
        yield Clinic(ward, client)


def told(error: GatewayError) -> Told:
    """As the door tells it."""
    problem = problem_of(error, "")
    said = cast("Mapping[str, str]", orjson.loads(problem.body))
    return Told(problem.status, said.get("detail") or said["title"])


def texts(report: DiagnosticReport) -> list[str]:
    """What can be read of it."""
    return [body.decode() for kind, body in forms(report) if kind.startswith("text/plain")]


def forms(report: DiagnosticReport) -> list[tuple[str, bytes]]:
    """What is attached to it, with its kind."""
    return [(str(form.contentType), bytes(form.data or b"")) for form in report.presentedForm or []]


def code_of(body: Mapping[str, JsonValue]) -> str:
    """The code of an outcome's one issue."""
    [issue] = OperationOutcome.model_validate(body).issue
    return str(issue.code)


def links(bundle: Bundle) -> dict[str, str]:
    """Where a bundle's pages are."""
    return {str(link.relation): str(link.url) for link in bundle.link or []}


async def test_a_verified_report_is_found_and_read(clinic: Clinic) -> None:
    report_id = await clinic.ward.file(reported())
    [found] = await clinic.reports()
    assert (found.id, found.status, texts(found)) == (report_id, "final", [TEXT])
    assert found.issued == VERIFIED_AT
    said = found.model_dump_json()
    assert ANNE.digits in said and "StructureDefinition/UKCore-DiagnosticReport" in said
    status, body = await clinic.get(f"/fhir/DiagnosticReport/{report_id}")
    assert status == 200
    assert DiagnosticReport.model_validate(body) == found


@pytest.mark.parametrize(
    ("second", "status", "read"),
    [
        (None, "final", [TEXT]),
        (Said.CORRECTED, "corrected", ["New."]),
        (Said.APPENDED, "appended", [TEXT, "New."]),
        (Said.WITHDRAWN, "entered-in-error", ["WITHDRAWN: This report was withdrawn by its trust. Do not use it."]),
        (
            Said.TAKEN_BACK,
            "preliminary",
            [f"BEING CORRECTED: its trust has taken back its verification.\n\n{TEXT}"],
        ),
    ],
)
async def test_the_status_says_where_the_report_stands(
    clinic: Clinic, second: Said | None, status: str, read: list[str]
) -> None:
    await clinic.ward.file(reported())
    if second is not None:
        has_text = second in (Said.CORRECTED, Said.APPENDED)
        await clinic.ward.file(reported("New." if has_text else "", said=second, at=LATER))
    [found] = await clinic.reports()
    assert (found.status, texts(found)) == (status, read)


async def test_what_was_withdrawn_is_not_read_beside_what_is_told_after_it(clinic: Clinic) -> None:
    await clinic.ward.file(reported("Of another person."), reported("", said=Said.WITHDRAWN, at=LATER))
    await clinic.ward.file(reported("Her own.", at=LATER + timedelta(hours=1)))
    await clinic.ward.file(reported("", said=Said.TAKEN_BACK, at=LATER + timedelta(hours=2)))
    [found] = await clinic.reports()
    assert any("Her own." in text for text in texts(found))
    assert not any("Of another person." in text for text in texts(found))


async def test_a_preliminary_report_is_labelled(clinic: Clinic) -> None:
    await clinic.ward.file(reported("Perhaps.", said=Said.PRELIMINARY))
    [found] = await clinic.reports()
    assert (found.status, found.issued) == ("preliminary", None)
    assert texts(found)[0].startswith("PRELIMINARY: not verified.")


async def test_a_pdf_is_attached_as_it_came(clinic: Clinic) -> None:
    await clinic.ward.file(reported(content=Content(TEXT, b"%PDF-1.7")))
    [found] = await clinic.reports()
    assert forms(found) == [("text/plain; charset=utf-8", TEXT.encode()), ("application/pdf", b"%PDF-1.7")]


async def test_what_came_as_dicom_is_read_as_well(clinic: Clinic) -> None:
    await clinic.ward.file(reported(source=ReportSource.DICOM_SR))
    assert [found.status for found in await clinic.reports()] == ["final"]


async def test_absence_is_the_same_whatever_its_reason(clinic: Clinic) -> None:
    ward = clinic.ward
    report_id = await ward.file(reported())
    unknown = await clinic.get(f"/fhir/DiagnosticReport/{'0' * 40}")
    malformed = await clinic.get("/fhir/DiagnosticReport/nothing")
    unrelated = await clinic.get(f"/fhir/DiagnosticReport/{report_id}", by="RZ3")
    own = await clinic.get(f"/fhir/DiagnosticReport/{report_id}", by="RZ2")
    await ward.region.opt_out(ANNE)
    opted_out = await clinic.get(f"/fhir/DiagnosticReport/{report_id}")
    assert unknown[0] == 404
    assert unknown == malformed == unrelated == own == opted_out


async def test_an_opted_out_patient_has_no_reports_for_others(clinic: Clinic) -> None:
    nobodys = await clinic.search()
    await clinic.ward.file(reported())
    await clinic.ward.region.opt_out(ANNE)
    assert await clinic.search() == nobodys


async def test_who_has_no_relationship_is_told_so(clinic: Clinic) -> None:
    await clinic.ward.file(reported())
    status, body = await clinic.search(by="RZ3")
    assert status == 403
    assert code_of(body) == "forbidden"


async def test_who_asks_for_many_strangers_is_noticed(clinic: Clinic) -> None:
    for patient in (ANNE, BEN):
        status, _ = await clinic.search(by="RZ3", **{"patient:identifier": f"{NHS_NUMBER_SYSTEM}|{patient.digits}"})
        assert status == 403
    [alert] = await clinic.ward.region.records("security-alert")
    assert "enumeration" in str(alert)


async def test_a_search_names_one_patient(clinic: Clinic) -> None:
    for form in (
        {"patient:identifier": ""},
        {"patient:identifier": "9990000019"},
        {"patient:identifier": "x|9990000018"},
    ):
        status, body = await clinic.search(**form)
        assert status == 400
        assert "999000" not in str(body)
    status, _ = await clinic.get("/fhir/DiagnosticReport")
    assert status == 400


async def test_dates_and_statuses_filter(clinic: Clinic) -> None:
    await clinic.ward.file(
        reported(report_number="R1"),
        reported("Old.", report_number="R2", exam=Exam(at=NOON - timedelta(days=400)), accessions=("ACC00002",)),
        reported("When?", report_number="R3", exam=Exam(), accessions=("ACC00003",)),
    )
    assert len(await clinic.reports()) == 3
    recent = await clinic.reports(date="ge2026-01-01")
    assert sorted(texts(each)[0] for each in recent) == [TEXT, "When?"]
    assert len(await clinic.reports(date="eq2026-11-18")) == 2
    assert len(await clinic.reports(status="final,amended")) == 3
    assert await clinic.reports(status="preliminary") == []
    assert (await clinic.search(date="yesterday"))[0] == 400


async def test_pages_are_asked_for_without_a_number_in_the_address(clinic: Clinic) -> None:
    await clinic.ward.file(*(reported(f"Text {n}.", report_number=f"R{n}", accessions=()) for n in range(3)))
    _, body = await clinic.search(_count="2")
    bundle = Bundle.model_validate(body)
    assert (bundle.total, len(bundle.entry or [])) == (3, 3)
    assert not any(ANNE.digits in url for url in links(bundle).values())
    path, _, token = links(bundle)["next"].removeprefix("https://gateway.test").partition("?_page=")
    status, body = await clinic.get(path, _page=token)
    second = Bundle.model_validate(body)
    assert (status, second.total, len(second.entry or [])) == (200, 3, 2)
    assert (await clinic.get(path, by="RZ3", _page=token))[0] == 400


@pytest.mark.parametrize(
    ("between", "pages"),
    [
        (reported("Corrected.", report_number="R1", said=Said.CORRECTED, at=LATER), ["3", "Corrected.", "2"]),
        (reported("Corrected.", report_number="R3", said=Said.CORRECTED, at=LATER), ["3", "Corrected.", "2", "1"]),
        (reported("New.", report_number="R4", at=LATER), ["3", "New.", "2", "1"]),
    ],
)
async def test_no_page_misses_what_changed_or_came_since_the_first(
    clinic: Clinic, between: IncomingReport, pages: list[str]
) -> None:
    for n in (1, 2, 3):
        await clinic.ward.file(
            reported(str(n), report_number=f"R{n}", at=VERIFIED_AT + timedelta(minutes=n), accessions=())
        )
    status, body = await clinic.search(_count="1")
    seen = []
    while status == 200:
        bundle = Bundle.model_validate(body)
        found = [each.resource for each in bundle.entry or [] if isinstance(each.resource, DiagnosticReport)]
        seen += [text for each in found for text in texts(each)]
        if len(seen) == 1:
            await clinic.ward.file(between)
        following = links(bundle).get("next")
        if following is None:
            break
        path, _, token = following.removeprefix("https://gateway.test").partition("?_page=")
        status, body = await clinic.get(path, _page=token)
    assert seen == pages


async def test_no_page_misses_a_report_where_another_went_out_of_sight(clinic: Clinic) -> None:
    for n in (1, 2, 3):
        await clinic.ward.file(
            reported(str(n), report_number=f"R{n}", at=VERIFIED_AT + timedelta(minutes=n), accessions=())
        )
    _, body = await clinic.search(_count="1", status="final")
    await clinic.ward.file(reported("", report_number="R3", said=Said.WITHDRAWN, at=LATER))
    _, _, token = links(Bundle.model_validate(body))["next"].partition("?_page=")
    _, body = await clinic.get("/fhir/DiagnosticReport", _page=token)
    [found, _] = Bundle.model_validate(body).entry or []
    assert isinstance(found.resource, DiagnosticReport)
    assert texts(found.resource) == ["2"]


async def test_reading_is_recorded_before_it_is_answered(clinic: Clinic) -> None:
    ward = clinic.ward
    report_id = await ward.file(reported())
    await clinic.reports()
    events = [str(entry["event"]) for entry in await ward.region.records()]
    assert events[-3:] == ["retrieve-attempt", "report-read", "retrieve-outcome"]
    [read] = await ward.region.records("report-read")
    assert read["body"]["reports"][0]["report"] == report_id  # type: ignore[index,call-overload]  # an object of the record
    assert TEXT not in str(await ward.region.records())


async def test_what_cannot_be_recorded_is_not_answered(clinic: Clinic) -> None:
    await clinic.ward.file(reported())
    clinic.ward.region.store.failing_appends = range(1, 100)
    clinic.ward.region.store.failing_error = AuditUnavailable("the disk is full")
    status, body = await clinic.search()
    assert status == 503
    assert code_of(body) == "transient"


async def test_without_keys_the_answer_is_a_fault_for_every_patient(clinic: Clinic) -> None:
    clinic.ward.has_keys = False
    nobodys = await clinic.search()
    await clinic.ward.file(reported())
    assert await clinic.search() == nobodys
    assert (nobodys[0], code_of(nobodys[1])) == (503, "transient")


async def damaged(clinic: Clinic) -> None:
    """Of a report that cannot be opened."""
    report_id = await clinic.ward.file(reported())
    of_it = update(report_version).where(report_version.c.report_id == report_id)
    await clinic.ward.store.write(lambda tx: tx.connection.execute(of_it.values(sealed=b"damaged" * 20)))


async def test_that_a_report_cannot_be_read_is_told_to_nobody_who_may_have_none(clinic: Clinic) -> None:
    await clinic.ward.region.label(ANNE, "RZ2", STUDY)
    nobodys = await clinic.search()
    await damaged(clinic)
    assert await clinic.search() == nobodys


async def test_that_a_report_cannot_be_read_is_told_beside_those_that_can(clinic: Clinic) -> None:
    await damaged(clinic)
    await clinic.ward.file(reported(report_number="R2", accessions=("ACC00002",)))
    assert len(await clinic.reports()) == 1
    assert "could not be read at this moment" in str(await clinic.search())


async def test_who_read_a_report_is_told_when_it_is_corrected(clinic: Clinic) -> None:
    ward = clinic.ward
    await ward.file(reported())
    await clinic.reports()
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER))
    await due(ward.travels, ward.handlers)
    assert [item.custodian.code for item in await ward.region.quality()] == ["RZ1"]
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER, alert_codes=("CRITICAL",)))
    await due(ward.travels, ward.handlers)
    assert len(await ward.region.quality()) == 1


async def test_another_patients_reports_are_not_among_them(clinic: Clinic) -> None:
    await clinic.ward.file(reported())
    await clinic.ward.region.refer(BEN, to="RZ1")
    assert await clinic.reports(**{"patient:identifier": f"{NHS_NUMBER_SYSTEM}|{BEN.digits}"}) == []


async def test_the_capability_statement_is_valid(clinic: Clinic) -> None:
    status, body = await clinic.get("/fhir/metadata")
    assert status == 200
    assert '"type":"DiagnosticReport"' in CapabilityStatement.model_validate(body).model_dump_json()
