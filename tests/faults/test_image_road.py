"""SIGKILL at every step of an image's way in and of a fetch: what was acknowledged stays, nothing lies open.

One trust pushes an image by STOW-RS and another has it by WADO-RS, as it has a study of an archive. The plan names all
points of the whole gateway that either passes; after each kill its files are searched for what the images say.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import aiohttp
import pydicom.data
import pytest
import pytest_asyncio
from pydicom import dcmread
from pydicom.uid import generate_uid

from gateway.demo import cast
from gateway.demo.callers.received import Image, image_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE, TRUSTS
from gateway.demo.configuration import PACS_CALLER, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region, RegionError
from tests.forked import Forks

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

CANARY: Final = secrets.token_hex(8).encode()
"""Stands in every pushed image, in a comment and in its pixels."""
PICTURE: Final = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
FETCHED: Final = cast.ANNE_HEART_US
NOT_THE_GATEWAYS: Final = ("archives", "certificates")
PIXELS_BYTES: Final = 48
"""So much of an image's middle is what a search takes for the image."""
BEHIND_PATIENT: Final = b"\x20\x00\x0d\x00UI"
"""The Study Instance UID, explicit little endian."""
POINTS_MAX: Final = 40
_INSIDE: Final = ("store.begin.", "chain.", "registers.")


@dataclass(frozen=True, slots=True)
class Pushed:
    """One image that was made for a push."""

    study_uid: str
    uid: str
    image: Image


def made() -> Pushed:
    """A CT image of Anne's, of a study of its own, with the canary in it."""
    dataset = dcmread(PICTURE)
    dataset.PatientID, dataset.IssuerOfPatientID = ANNE.nhs_number, cast.NHS_NUMBER_ISSUER
    dataset.PatientName, dataset.PatientSex = ANNE.dicom_name, ANNE.sex
    dataset.PatientBirthDate = f"{ANNE.birth_date:%Y%m%d}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in ("OtherPatientIDs", "OtherPatientIDsSequence"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.PatientComments = CANARY.decode()
    dataset.PixelData = (CANARY * (len(dataset.PixelData) // len(CANARY) + 1))[: len(dataset.PixelData)]
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return Pushed(str(dataset.StudyInstanceUID), *image_of(file.getvalue()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    async with Region(tmp_path_factory.mktemp("road"), start=forks.start) as running:
        await running.stop_gateway()
        yield running


async def push(region: Region, pushed: Pushed) -> bool:
    """Push an image; whether it was acknowledged. False: no answer came."""
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        try:
            status, answer = await viewer.store(pushed.image.file)
        except aiohttp.ClientError:
            return False
    assert status == 200, answer
    return True


async def fetched(region: Region, resource: str) -> dict[str, Image] | None:
    """Images by WADO-RS; None: not all came."""
    async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
        try:
            received = await viewer.retrieve(resource)
        except aiohttp.ClientError:
            return None
    return dict(received.images) if received.is_whole else None


async def push_one(region: Region) -> Pushed | None:
    """Push a new image; which one, if it was acknowledged."""
    pushed = made()
    return pushed if await push(region, pushed) else None


async def fetch(region: Region) -> dict[str, Image] | None:
    """Fetch the study of the archive."""
    return await fetched(region, f"studies/{study_instance_uid(FETCHED)}")


def is_kept(pushed: Pushed, found: dict[str, Image] | None) -> bool:
    """Whether this image is what was found, bit for bit from behind the patient's numbers on (SAF-34)."""
    encoded = pushed.image.encoded
    return (
        found is not None
        and [*found] == [pushed.uid]
        and found[pushed.uid].encoded.endswith(encoded[encoded.index(BEHIND_PATIENT) :])
    )


def kept_by_archive(region: Region) -> dict[str, Image]:
    """The study as its archive keeps it."""
    (trust,) = (trust for trust in TRUSTS for plan in (FETCHED,) if _folder(region, trust.ods_code, plan.name).is_dir())
    files = sorted(_folder(region, trust.ods_code, FETCHED.name).glob("*.dcm"))
    return dict(image_of(file.read_bytes()) for file in files)


def _folder(region: Region, ods_code: str, study: str) -> Path:
    return region.folder / "archives" / ods_code / study


def open_on_disk(region: Region, *images: Image) -> list[str]:
    """The gateway's files in which anything of these images can be read."""
    words = [CANARY, *(_middle(image) for image in images)]
    files = [path for path in region.folder.rglob("*") if path.is_file()]
    ours = [path for path in files if path.relative_to(region.folder).parts[0] not in NOT_THE_GATEWAYS]
    assert len(ours) > 5
    return [path.name for path in ours if any(word in path.read_bytes() for word in words)]


def _middle(image: Image) -> bytes:
    at = len(image.encoded) // 2
    while len(set(image.encoded[at : at + PIXELS_BYTES])) < PIXELS_BYTES // 4:  # black would be found anywhere
        at += PIXELS_BYTES
    return image.encoded[at : at + PIXELS_BYTES]


def begin(path: Path, *, is_begun: bool) -> None:
    """Have fault points counted from now on, or not before the next call."""
    path.touch() if is_begun else path.unlink(missing_ok=True)


def passed(log: Path) -> list[str]:
    """The points passed, each once, in the order of their first passage; reading alone has nothing to lose.

    Of those that the audit's and every transaction pass, the ones before and behind the commit are enough.
    """
    points = dict.fromkeys(log.read_text(encoding="utf-8").splitlines())
    return [point for point in points if not (point.endswith(".read") or point.startswith(_INSIDE))]


async def ended(region: Region) -> int | None:
    """Stop the gateway if it still runs; how it ended, if it did by itself."""
    assert region.gateway is not None
    status = region.gateway.returncode
    with contextlib.suppress(ProcessLookupError):
        await region.stop_gateway()
    region.gateway = None
    return status


async def start(region: Region, **environment: str) -> None:
    """Start the gateway; one that is killed at once is found out by what is asked of it."""
    with contextlib.suppress(RegionError):
        await region.start_gateway(environment)


async def test_a_kill_on_an_images_way_in_loses_none_that_was_acknowledged(region: Region, tmp_path: Path) -> None:
    log, begins = tmp_path / "log", tmp_path / "begins"
    await start(region, GATEWAY_FAULTS_LOG=str(log), GATEWAY_FAULTS_FROM=str(begins))
    begin(begins, is_begun=True)
    pushed = [await push_one(region)]
    assert pushed[0] is not None
    await ended(region)
    points = await asyncio.to_thread(passed, log)
    assert {"objects.sync.before", "objects.sync.after", "store.commit.before"} <= set(points)
    assert len(points) <= POINTS_MAX
    lost: list[Pushed] = []
    for point in points:
        begin(begins, is_begun=False)
        await start(region, GATEWAY_FAULTS=f"{point}=kill@1", GATEWAY_FAULTS_FROM=str(begins))
        begin(begins, is_begun=True)
        one = made()
        (pushed if await push(region, one) else lost).append(one)
        assert region.gateway is not None
        if one in lost:
            assert await region.gateway.wait() == -signal.SIGKILL, point
        await ended(region)
        assert await asyncio.to_thread(open_on_disk, region) == [], point
    assert lost
    await region.start_gateway()
    for each in [one for one in pushed if one is not None]:
        assert is_kept(each, await fetched(region, f"studies/{each.study_uid}"))
    for each in lost:  # whoever got no answer sends again
        assert await push(region, each)
        assert is_kept(each, await fetched(region, f"studies/{each.study_uid}"))
    await ended(region)


async def test_a_kill_during_a_fetch_leaves_nothing_half_and_nothing_open(region: Region, tmp_path: Path) -> None:
    log, begins = tmp_path / "log", tmp_path / "begins"
    await start(region, GATEWAY_FAULTS_LOG=str(log), GATEWAY_FAULTS_FROM=str(begins))
    begin(begins, is_begun=True)
    kept = await asyncio.to_thread(kept_by_archive, region)
    whole = await fetch(region)
    assert whole is not None
    assert whole.keys() == kept.keys()
    await ended(region)
    points = await asyncio.to_thread(passed, log)
    assert {"ledger.freeze.between", "objects.sync.after", "question.attempt.after"} <= set(points)
    assert len(points) <= POINTS_MAX
    killed = 0
    for point in points:
        begin(begins, is_begun=False)
        await start(region, GATEWAY_FAULTS=f"{point}=kill@1", GATEWAY_FAULTS_FROM=str(begins))
        await region.must("cache", "evict", "--all")
        begin(begins, is_begun=True)
        answer = await fetch(region)
        assert answer in (None, whole), point
        killed += answer is None
        await ended(region)
        assert await asyncio.to_thread(open_on_disk, region, *kept.values()) == [], point
    assert killed
    await region.start_gateway()
    assert await fetch(region) == whole
    verified = await region.command("audit", "verify")
    assert verified.status == 0, verified.output + verified.errors
    await ended(region)
