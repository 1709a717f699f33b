"""OHIF in a browser, as a clinician's workstation would open it: real studies of the region, drawn and complete.

From the page to the pixels everything comes over mutual TLS from a gateway process with three archives behind it. What
was drawn is judged by the browser's own canvas; the pictures lie in the test's folder.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pydicom
import pydicom.data
import pytest
import pytest_asyncio

from gateway.demo.cast import (
    ANNE,
    ANNE_HEAD_CT,
    ANNE_HEART_US,
    CLARA_BONE_SCAN,
    EASTVALE,
    KATE_KNEE_MR,
    SOUTHBRIDGE,
    StudyPlan,
)
from gateway.demo.cast import NHS_NUMBER_ISSUER as NHS
from gateway.demo.configuration import VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from gateway.web.pages import NOTICE
from gateway.web.viewer.installation import NotServed, examine
from tests.forked import Forks
from tests.peers.browser import Page, opened

FOLDER = Path(__file__).parents[2] / "var" / "viewer"
FINDING = "No evidence of pulmonary embolism."
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("viewer")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    if isinstance(found := examine(FOLDER), NotServed):
        pytest.skip(f"the viewer is not served: {found.reason}; make viewer fetches it")
    async with Region(tmp_path_factory.mktemp("region"), viewer_folder=FOLDER, start=forks.start) as running:
        yield running


async def show(region: Region, study_uid: str, picture: Path, *, canvases: int = 0, text: tuple[str, ...] = ()) -> Page:
    url = f"{region.machines_url}/viewer?StudyInstanceUIDs={study_uid}"
    return await opened(url, region.key_pair(VIEWER), canvases=canvases, text=(NOTICE, *text), picture=picture)


def assert_at_home(page: Page, region: Region) -> None:
    """It went nowhere else, nothing was refused, and nothing in it failed."""
    assert (page.waited, page.failed, list(page.violations), list(page.errors)) == ("", [], [], [])
    own = urlsplit(region.machines_url).netloc
    assert {urlsplit(each.url).netloc for each in page.requests if not each.url.startswith(("blob:", "data:"))} == {own}


@pytest.mark.parametrize(
    ("study", "description", "frame"),
    [
        (ANNE_HEAD_CT, "CT head", "/frames/1"),
        (ANNE_HEART_US, "US heart", "/frames/2"),
        (KATE_KNEE_MR, "MR knee", "/frames/1"),
    ],
    ids=["a CT series in plain and in JPEG 2000", "an ultrasound cine of 30 frames", "an MR image in JPEG-LS"],
)
async def test_a_study_of_another_trust_is_drawn(
    region: Region, tmp_path: Path, study: StudyPlan, description: str, frame: str
) -> None:
    page = await show(region, study_instance_uid(study), tmp_path / "page.png", canvases=1, text=(description,))
    assert_at_home(page, region)
    assert page.asked(frame) and page.asked("/metadata")
    assert any(colours > 8 for colours in page.drawn)


async def test_a_structured_report_is_read(region: Region, tmp_path: Path) -> None:
    study_uid = await reported(region)
    page = await show(region, study_uid, tmp_path / "page.png", text=("Report Text", FINDING))
    assert_at_home(page, region)


async def test_what_may_not_be_seen_is_not_available_and_the_sentence_stands(region: Region, tmp_path: Path) -> None:
    page = await show(region, study_instance_uid(CLARA_BONE_SCAN), tmp_path / "page.png", text=("not available",))
    assert (page.waited, list(page.drawn)) == ("", [])
    assert "NM whole body bone" not in page.text


async def test_a_silent_trust_is_named_and_the_images_of_others_are_drawn(region: Region, tmp_path: Path) -> None:
    archive = region.archives[EASTVALE.ods_code]
    await archive.behave(dead="closed")
    try:
        missing = f"Imaging may be missing: {EASTVALE.ods_code} {EASTVALE.name}"
        page = await show(region, study_instance_uid(ANNE_HEART_US), tmp_path / "page.png", canvases=1, text=(missing,))
    finally:
        await archive.behave()
    assert_at_home(page, region)


async def reported(region: Region) -> str:
    """Have Southbridge's archive keep a report on Anne; its study."""
    report = pydicom.dcmread(Path(pydicom.data.__file__).parent / "test_files" / "reportsi.dcm")
    identity = pydicom.Dataset()
    identity.PatientID, identity.IssuerOfPatientID = ANNE.nhs_number, NHS
    report.PatientID, report.IssuerOfPatientID = ANNE.local_numbers[SOUTHBRIDGE.ods_code][0], SOUTHBRIDGE.local_issuer
    report.OtherPatientIDsSequence = [identity]
    report.PatientName, report.PatientSex = ANNE.dicom_name, ANNE.sex
    report.PatientBirthDate = ANNE.birth_date.strftime("%Y%m%d")
    report.StudyDate, report.StudyDescription = "20260507", "Report"
    report.ContentSequence[-1].ContentSequence[0].TextValue = FINDING
    file = io.BytesIO()
    report.save_as(file, enforce_file_format=True)
    pair = region.key_pair(VIEWER)
    secure = ssl.create_default_context(cafile=region.authority)
    secure.load_cert_chain(pair.certificate, pair.private_key)
    address = f"https://localhost:{region.archives[SOUTHBRIDGE.ods_code].ready['web_port']}/dicom-web/studies"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=secure)) as session:
        with aiohttp.MultipartWriter("related") as body:
            body.append(file.getvalue(), {"Content-Type": "application/dicom"})
        kind = f'multipart/related; type="application/dicom"; boundary={body.boundary}'
        async with session.post(address, data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == 200
    return str(report.StudyInstanceUID)
