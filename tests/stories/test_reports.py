"""A report that Southbridge has sent is read at Northmoor: beside the images by every protocol, and by FHIR."""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from gateway.cli.session import configuration_of
from gateway.demo import cast
from gateway.demo.callers.answer import Outcome, text_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE
from gateway.demo.configuration import PACS_CALLER, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from gateway.keeping.keys import open_keyring
from gateway.model.imaging import MODALITY
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, ReportSource, Subject
from gateway.model.reporting.seams import FeedMessage
from gateway.node import SystemClock, command_node, new_id, open_store
from gateway.release.clinicians import telling
from gateway.release.clinicians.arriving import NOBODY_KNOWS_WHOSE
from gateway.release.intake import Intake
from policy.parties import NhsNumber, TrustId
from policy.release.reports import Said, Verification
from tests.clinicians.documents import observer, request, structured, text_item
from tests.forked import Forks
from tests.stories.conftest import Door
from tests.stories.fetching import DOORS, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

STUDY = study_instance_uid(cast.ANNE_HEART_US)
VERIFIED_AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
TOLD_WITHIN_S = 60.0
"""A hang guard: the runner looks every two seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    """A region of its own, to whose gateway Southbridge has sent a report of Anne's."""
    async with Region(tmp_path_factory.mktemp("reports"), start=forks.start) as running:
        await file(running, "Good function.", said=Said.VERIFIED, at=VERIFIED_AT)
        yield running


async def file(region: Region, text: str, *, said: Said, at: datetime) -> None:
    """Take a version of it in, as a feed does."""
    configuration, clock = configuration_of(region.configuration), SystemClock()
    subject = Subject(NhsNumber(ANNE.nhs_number), "01", (), ANNE.family_name, ANNE.given_name, ANNE.birth_date)
    report = IncomingReport(
        trust=TrustId("RZ3"),
        feed="ris",
        source=ReportSource.HL7_V2,
        message_id=f"RIS|{said}",
        report_number="S-260506-7",
        said=said,
        stated_at=at,
        verification=Verification(at, "VAUGHAN^Sean"),
        subject=subject,
        content=Content(text),
        received_at=at,
        accessions=("S-260506-7",),
        study_uids=(STUDY,),
        exam=Exam(("UHEART",), "US heart"),
    )
    message = FeedMessage(report.trust, "ris", report.message_id, "ORU^R01", at, (report,), raw=text.encode())
    node = command_node(configuration)
    async with (
        open_store(configuration, clock, node=node) as store,
        open_keyring(configuration, clock, node=node) as keys,
    ):
        intake = Intake(store, keys, telling.queue, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)
        await intake.take(message)


async def test_the_report_is_found_beside_the_images(door: Door) -> None:
    answer = await door.series(STUDY)
    assert answer.outcome is Outcome.ANSWERED
    assert sorted(text_of(row, MODALITY) for row in answer.rows) == ["SR", "US", "US"]


@pytest.mark.parametrize("name", DOORS)
async def test_the_report_is_fetched_with_the_images(region: Region, name: str) -> None:
    async with AsyncExitStack() as stack:
        door = await opened(region, name, stack)
        received = await door.study(STUDY)
    reports = [image.dataset for image in received.images.values() if image.dataset.Modality == "SR"]
    assert [report.VerificationFlag for report in reports] == ["VERIFIED"]
    assert reports[0].ContentSequence[0].TextValue == "Good function."


async def test_the_report_is_searched_and_read_by_fhir(region: Region) -> None:
    bundle = await fhir(region, "DiagnosticReport/_search")
    reports = [entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "match"]
    assert [report["status"] for report in reports] == ["final"]
    read = await fhir(region, f"DiagnosticReport/{reports[0]['id']}")
    assert read == reports[0]


async def test_a_correction_is_shown_and_whoever_has_the_old_version_is_told(region: Region) -> None:
    async with AsyncExitStack() as stack:
        await (await opened(region, "wado", stack)).study(STUDY)
    await file(region, "Poor function.", said=Said.CORRECTED, at=VERIFIED_AT + timedelta(hours=1))
    async with asyncio.timeout(TOLD_WITHIN_S):
        while "received-images-withdrawn" not in await region.must("quality", "list"):
            pass  # a command takes a while: this looks about once a second
    bundle = await fhir(region, "DiagnosticReport/_search")
    assert [entry["resource"].get("status") for entry in bundle["entry"]] == ["corrected", None]


async def fhir(region: Region, path: str, *, of: str = ANNE.nhs_number) -> dict[str, Any]:
    """What Northmoor's viewer is answered; a search is for this patient."""
    pair = region.key_pair(VIEWER)
    secure = ssl.create_default_context(cafile=str(region.authority))
    secure.load_cert_chain(pair.certificate, pair.private_key)
    url = f"{region.machines_url.removesuffix('/dicom-web')}/fhir/{path}"
    form = {"patient:identifier": f"https://fhir.nhs.uk/Id/nhs-number|{of}"}
    async with aiohttp.ClientSession() as session:
        is_search = path.endswith("_search")
        asking = session.post(url, data=form, ssl=secure) if is_search else session.get(url, ssl=secure)
        async with asking as response:
            body: dict[str, Any] = orjson.loads(await response.read())
            assert response.status == 200, body
            return body


async def test_a_report_that_a_trust_stores_as_an_object_is_read_by_fhir(region: Region) -> None:
    await store(region, "A cyst in the left kidney.")
    assert await read_of_kate(region, 1) == {"Findings: A cyst in the left kidney."}


async def test_a_stored_report_of_nobody_knows_whom_is_filed_once_a_person_says_so(region: Region) -> None:
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "A CLINIC ABROAD"
    order = [request(filler="F2", accession="A2")]
    named = {"ReferencedRequestSequence": order, "AccessionNumber": "A2", "SOPInstanceUID": generate_uid()}
    await store(region, "A stone.", IssuerOfAccessionNumberSequence=[issuer], **named)
    letters: list[dict[str, Any]] = []
    async with asyncio.timeout(TOLD_WITHIN_S):
        while not letters:
            letters = orjson.loads(await region.must("reports", "dead-letters", "--json"))
    message = str(letters[0]["message"])
    assert letters[0]["problem"] == NOBODY_KNOWS_WHOSE
    author = ("--by", "R Lead", "--reason", "reported by a locum")
    assert "Findings" not in await region.must("reports", "letter", message, *author)
    assert "running gateway" in await region.must("reports", "replay", message, *author)
    assert "Findings: A stone." in await read_of_kate(region, 2)
    assert orjson.loads(await region.must("reports", "dead-letters", "--json")) == []


async def store(region: Region, finding: str, **values: object) -> None:
    """Have a PACS store a verified report of Kate's."""
    dataset = structured(
        text_item("Findings", finding),
        observers=[observer(f"{VERIFIED_AT:%Y%m%d%H%M%S}+0000")],
        PatientID=cast.KATE.nhs_number,
        IssuerOfPatientID=cast.NHS_NUMBER_ISSUER,
        PatientName=cast.KATE.dicom_name,
        PatientBirthDate=f"{cast.KATE.birth_date:%Y%m%d}",
        StudyInstanceUID=generate_uid(),
        Modality="SR",
        **values,
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as sender:
        status, answer = await sender.store(file.getvalue())
    assert status == 200, answer


async def read_of_kate(region: Region, count: int) -> set[str]:
    """What Northmoor reads of her, once there are so many reports."""
    found: list[str] = []
    async with asyncio.timeout(TOLD_WITHIN_S):
        while len(found) < count:  # each question takes its time: this asks a few times a second
            bundle = await fhir(region, "DiagnosticReport/_search", of=cast.KATE.nhs_number)
            found = [entry["resource"]["presentedForm"][0]["data"] for entry in bundle["entry"][:-1]]
    return {b64decode(data).decode() for data in found}
