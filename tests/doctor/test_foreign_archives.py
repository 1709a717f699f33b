"""`gateway doctor` at real foreign archives, Orthanc and DCMTK's: none is called broken, and its habits are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.demo.cast import ANNE
from gateway.demo.images import MadeTrust
from gateway.doctor.findings import Verdict
from tests.doctor.archives import dimse_peer, examined, of, web_peer
from tests.peers import dcmqrscp, orthanc
from tests.peers.dcmqrscp import running_dcmqrscp
from tests.peers.orthanc import Orthanc, running_orthanc

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def files(made: MadeTrust, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Anne's images, filed under her NHS number."""
    folder, found = tmp_path_factory.mktemp("images"), []
    for study in made.studies:
        if study.plan.patient == ANNE:
            for path in (path for series in study.series for path in series.files):
                dataset = dcmread(path)
                dataset.PatientID, dataset.IssuerOfPatientID = ANNE.nhs_number, "NHS"
                found.append(folder / f"{dataset.SOPInstanceUID}.dcm")
                dataset.save_as(found[-1])
    return found


@pytest.fixture(scope="module")
def archive_of_orthanc(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        assert archive.store(files) == len(files)
        yield archive


async def test_orthanc_can_be_asked_by_qido(archive_of_orthanc: Orthanc, tmp_path: Path) -> None:
    report = await examined(tmp_path, web_peer(archive_of_orthanc.port), test_patient=ANNE.nhs_number)
    assert not report.has_failed and of(report, "test patient").verdict is Verdict.GOOD
    assert of(report, "Accept: application/dicom+json").verdict is Verdict.GOOD


async def test_orthanc_can_be_asked_by_c_find(archive_of_orthanc: Orthanc, tmp_path: Path) -> None:
    entry = dimse_peer(archive_of_orthanc.dicom_port).replace('"ARCHIVE"', f'"{orthanc.AE_TITLE}"')
    report = await examined(tmp_path, entry, test_patient=ANNE.nhs_number)
    assert not report.has_failed and of(report, "test patient").verdict is Verdict.GOOD
    assert "one-query-per-association" not in report.quirks


async def test_a_wrong_title_at_orthanc_is_recognised(archive_of_orthanc: Orthanc, tmp_path: Path) -> None:
    report = await examined(tmp_path, dimse_peer(archive_of_orthanc.dicom_port))
    assert report.has_failed and "set ae_title" in of(report, "request").advice


async def test_dcmtks_archive_leaves_modalities_out(files: list[Path], tmp_path: Path) -> None:
    with running_dcmqrscp(tmp_path, files) as port:
        entry = dimse_peer(port).replace('"ARCHIVE"', f'"{dcmqrscp.AE_TITLE}"')
        report = await examined(tmp_path, entry, test_patient=ANNE.nhs_number)
    assert not report.has_failed and "modalities-by-series" in report.quirks
