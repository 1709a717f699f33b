"""An image larger than what the gateway may hold passes it in the memory that a small one takes, in and out.

In the real gateway, whose peak the kernel tells; the benchmark `growing` does it with 2 GB, through an archive as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
import pytest_asyncio
from pydicom import dcmread
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage as MULTI_FRAME
from pydicom.uid import generate_uid

from gateway.demo import cast
from gateway.demo.callers.received import image_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE
from gateway.demo.configuration import PACS_CALLER, VIEWER
from gateway.demo.region import Region
from tests.forked import Forks

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

FRAME_BYTES = 2 * 1024 * 1024
FEW, MANY = 4, 96
"""Frames: 8 MB and 201 MB."""
MORE_BYTES_MAX = 24 * 1024 * 1024
"""So much more the large one may take: windows that a small one does not fill."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    async with Region(tmp_path_factory.mktemp("large"), start=forks.start) as running:
        yield running


def multi_frame(frames: int) -> bytes:
    """An image of Anne's with so many frames."""
    dataset = dcmread(Path(pydicom.data.__file__).parent / "test_files" / "MR_small.dcm")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MULTI_FRAME
    dataset.PatientID, dataset.IssuerOfPatientID = ANNE.nhs_number, cast.NHS_NUMBER_ISSUER
    dataset.PatientName, dataset.PatientSex = ANNE.dicom_name, ANNE.sex
    dataset.PatientBirthDate = f"{ANNE.birth_date:%Y%m%d}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows = dataset.Columns = 1024
    dataset.NumberOfFrames = frames
    dataset.PixelData = bytes(range(256)) * (frames * FRAME_BYTES // 256)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def peak_bytes(region: Region) -> int:
    """The most memory that the gateway has ever had."""
    assert region.gateway is not None
    lines = Path(f"/proc/{region.gateway.pid}/status").read_text(encoding="ascii").splitlines()
    [peak] = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return peak


async def passed(region: Region, file: bytes) -> int:
    """The gateway's peak when an image has been pushed and has been fetched, bit for bit."""
    uid, image = image_of(file)
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        status, answer = await viewer.store(file)
    assert status == 200, answer
    async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
        received = await viewer.retrieve(f"studies/{image.dataset.StudyInstanceUID}")
    assert received.is_whole and received.images[uid].encoded == image.encoded
    return peak_bytes(region)


async def test_a_large_image_passes_in_the_memory_of_a_small_one(region: Region) -> None:
    small_bytes = await passed(region, multi_frame(FEW))
    large_bytes = await passed(region, multi_frame(MANY))
    assert large_bytes - small_bytes <= MORE_BYTES_MAX, (small_bytes, large_bytes)
