"""dicomweb-client and curl fetching and storing through the DICOMweb edge, as their users call them."""

from __future__ import annotations

import asyncio
import shutil
from email import message_from_bytes
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from requests import HTTPError

from tests.dicomweb.image_shelf import ImageShelf, content_of, kept_file, made, serving
from tests.dicomweb.test_frames import frames_by_pydicom
from tests.dicomweb.test_stow import Tray, storing

STUDY, SERIES, SOP = "1.2.3", "1.2.3.1", "1.2.3.1.1"
CURL = shutil.which("curl")


def one(name: str) -> ImageShelf:
    return ImageShelf([kept_file(name, study=STUDY, series=SERIES, sop=SOP)])


async def call(shelf: ImageShelf, what: str, *arguments: object, **named: object) -> object:
    """Call a method of the client in a thread, beside the served shelf."""
    async with serving(shelf) as base:
        client = DICOMwebClient(base)
        client.set_http_retry_params(retry=False)
        return await asyncio.to_thread(getattr(client, what), *arguments, **named)


async def test_a_study_is_retrieved_whole_and_its_pixels_are_those_of_the_files() -> None:
    names = ["CT_small.dcm", "MR_small.dcm"]
    shelf = ImageShelf([kept_file(name, study=STUDY, sop=f"{SOP}.{name[0] == 'C':d}") for name in names])
    found = await call(shelf, "retrieve_study", STUDY)
    assert isinstance(found, list) and len(found) == 2
    for dataset, name in zip(found, names, strict=True):
        path = Path(pydicom.__file__).parent / "data" / "test_files" / name
        assert dataset.PixelData == (await asyncio.to_thread(pydicom.dcmread, path)).PixelData


@pytest.mark.parametrize("what", ["retrieve_series", "retrieve_instance"])
async def test_compressed_instances_are_retrieved_as_they_are_kept(what: str) -> None:
    shelf = one("JPEG2000.dcm")
    uids = (STUDY, SERIES, SOP) if what.endswith("instance") else (STUDY, SERIES)
    media = (("application/dicom", shelf.kept[0].transfer_syntax),)
    found = await call(shelf, what, *uids, media_types=media)
    dataset = found[0] if isinstance(found, list) else found
    assert isinstance(dataset, pydicom.Dataset)
    assert frames_by_pydicom(shelf.kept[0])[0] in dataset.PixelData


async def test_metadata_and_the_bulk_values_that_they_name_are_retrieved() -> None:
    shelf = one("CT_small.dcm")
    async with serving(shelf) as base:
        client = DICOMwebClient(base)
        [model] = await asyncio.to_thread(client.retrieve_series_metadata, STUDY, SERIES)
        address = model["7FE00010"]["BulkDataURI"].replace("https://gateway.example/dicom-web", base)
        [pixels] = await asyncio.to_thread(client.retrieve_bulkdata, address)
    assert pixels == frames_by_pydicom(shelf.kept[0])[0]
    read = pydicom.Dataset.from_json(model, lambda *_names: None)
    assert read.PatientName == "CompressedSamples^CT1"


async def test_frames_are_retrieved_in_every_form_that_the_client_knows() -> None:
    shelf = one("rtdose.dcm")
    frames = await call(shelf, "retrieve_instance_frames", STUDY, SERIES, SOP, [1, 15])
    expected = frames_by_pydicom(shelf.kept[0])
    assert frames == [expected[0], expected[14]]
    shelf = one("JPEG2000.dcm")
    media = (("image/jp2", shelf.kept[0].transfer_syntax),)
    assert await call(shelf, "retrieve_instance_frames", STUDY, SERIES, SOP, [1], media_types=media) == (
        frames_by_pydicom(shelf.kept[0])
    )


async def test_absence_and_a_gap_reach_the_client_as_errors() -> None:
    with pytest.raises(HTTPError) as error:
        await call(ImageShelf(), "retrieve_study", STUDY)
    assert error.value.response is not None and error.value.response.status_code == 404
    shelf = ImageShelf([made(1), made(2)], lost_on_the_way=frozenset({"1.2.3.2"}))
    with pytest.raises(Exception, match=r"(?i)connection|dicom|incomplete|chunk"):
        await call(shelf, "retrieve_study", STUDY)


async def test_instances_are_stored_by_the_client() -> None:
    tray = Tray()
    paths = [Path(pydicom.__file__).parent / "data" / "test_files" / name for name in ("CT_small.dcm", "MR_small.dcm")]
    files = [await asyncio.to_thread(pydicom.dcmread, path) for path in paths]
    async with storing(tray) as base:
        client = DICOMwebClient(base)
        answer = await asyncio.to_thread(client.store_instances, files)
    assert len(answer.ReferencedSOPSequence) == 2
    assert set(tray.kept) == {each.SOPInstanceUID for each in files}


async def curl(*arguments: str) -> bytes:
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL, "--silent", "--show-error", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out


@pytest.mark.peer
async def test_curl_gets_parts_without_asking_for_anything_and_a_file_by_name() -> None:
    shelf = one("CT_small.dcm")
    async with serving(shelf) as base:
        whole = await curl("--include", f"{base}/studies/{STUDY}")
        file = await curl("-H", "Accept: application/dicom", f"{base}/studies/{STUDY}/series/{SERIES}/instances/{SOP}")
    head, _, body = whole.partition(b"\r\n\r\n")
    message = message_from_bytes(head.split(b"\r\n", 1)[1] + b"\r\n\r\n" + body)
    assert message.is_multipart() and shelf.kept[0].content in body
    assert content_of(file) == shelf.kept[0].content


@pytest.mark.peer
async def test_curl_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    shelf = one("CT_small.dcm")
    part = tmp_path / "part.dcm"
    async with serving(shelf) as base:
        url = f"{base}/studies/{STUDY}/series/{SERIES}/instances/{SOP}?accept=application/dicom"
        whole = await curl(url)
        part.write_bytes(whole[:10_000])
        await curl("-C", "-", "-o", str(part), url)
    assert part.read_bytes() == whole


@pytest.mark.peer
async def test_curl_stores_a_file(tmp_path: Path) -> None:
    tray = Tray()
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    async with storing(tray) as base:
        answer = await curl("-H", "Content-Type: application/dicom", "--data-binary", f"@{path}", f"{base}/studies")
    assert b"00081199" in answer and len(tray.kept) == 1
