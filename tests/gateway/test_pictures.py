"""Instances in other forms than they are kept in, through the DICOMweb edge, judged by pydicom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO

import numpy
import pydicom
import pytest

from gateway.edges import pictures
from gateway.edges.pictures import Pictures
from gateway.model.work.transfers import InstanceRef
from gateway.pixels.pool import PixelLimits, Pool
from tests.dicomweb.image_shelf import ImageShelf, Kept, ShelfItem, ask, content_of, kept_file
from tests.dicomweb.test_retrieve import files

UIDS = {"study": "1.2.3", "series": "1.2.3.1", "sop": "1.2.3.1.1"}
INSTANCE = "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFAULT = {"Accept": 'multipart/related; type="application/dicom"'}


@pytest.fixture
async def made() -> AsyncIterator[Pictures]:
    async with Pool(PixelLimits(workers_max=1)) as pool:
        yield Pictures(pool)


def read(name: str) -> pydicom.Dataset:
    from pathlib import Path

    return pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / name)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "rtdose_rle.dcm",
    ],
)
async def test_a_caller_that_names_no_syntax_gets_explicit_little_endian_with_the_same_pixels(
    made: Pictures, name: str
) -> None:
    shelf = ImageShelf([kept_file(name, **UIDS)])
    answer = await ask(shelf, "/studies/1.2.3", headers=DEFAULT, transcoder=made)
    [whole] = files(answer)
    got, expected = pydicom.dcmread(BytesIO(whole)), read(name)
    assert got.file_meta.TransferSyntaxUID == EXPLICIT
    assert numpy.array_equal(got.pixel_array, expected.pixel_array) and got.PatientName == expected.PatientName
    assert shelf.sent == ["1.2.3.1.1"]


async def test_what_is_too_long_to_hold_is_made_twice_and_alike(
    made: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = ShelfItem(kept_file("MR_small_implicit.dcm", **UIDS))
    held = await made.transcoded(item, (EXPLICIT,))
    monkeypatch.setattr(pictures, "HELD_BYTES_MAX", 100)
    again = await made.transcoded(item, (EXPLICIT,))
    assert held is not None and again is not None and held.data_bytes == again.data_bytes
    for first, last in ((0, None), (0, 9), (5, 2_000), (again.data_bytes - 3, None)):
        async with held.open(first, last) as one, again.open(first, last) as other:
            assert b"".join([piece async for piece in one]) == b"".join([piece async for piece in other])


async def test_a_frame_is_unpacked_for_those_who_take_nothing_else(made: Pictures) -> None:
    shelf = ImageShelf([kept_file("rtdose_rle.dcm", **UIDS)])
    headers = {"Accept": 'multipart/related; type="application/octet-stream"'}
    answer = await ask(shelf, f"{INSTANCE}/frames/2", headers=headers, renderer=made)
    assert files(answer) == [read("rtdose_rle.dcm").pixel_array[1].astype("<u4").tobytes()]


@pytest.mark.parametrize(("accept", "magic"), [("image/jpeg", b"\xff\xd8\xff"), ("image/png", b"\x89PNG")])
async def test_an_instance_is_rendered_as_a_browser_shows_it(made: Pictures, accept: str, magic: bytes) -> None:
    shelf = ImageShelf([kept_file("CT_small.dcm", **UIDS)])
    answer = await ask(shelf, f"{INSTANCE}/rendered?window=40,400,linear", headers={"Accept": accept}, renderer=made)
    assert answer.status == 200 and answer.body.startswith(magic) and answer.headers["Content-Type"] == accept


async def test_what_has_no_pixels_has_no_picture(made: Pictures) -> None:
    for name in ("rtplan.dcm", "waveform_ecg.dcm"):
        shelf = ImageShelf([kept_file(name, **UIDS)])
        assert (await ask(shelf, f"{INSTANCE}/rendered", renderer=made)).status == 406


async def test_a_syntax_that_cannot_be_made_is_refused_and_not_made_up(made: Pictures) -> None:
    shelf = ImageShelf([kept_file("MR_small_implicit.dcm", **UIDS)])
    headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'}
    assert (await ask(shelf, "/studies/1.2.3", headers=headers, transcoder=made)).status == 406
    assert content_of(files(await ask(shelf, "/studies/1.2.3", transcoder=made))[0]) == shelf.kept[0].content


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
async def test_a_report_is_rendered_in_words_that_are_never_markup(made: Pictures, accept: str) -> None:
    shelf = ImageShelf([kept_file("reportsi.dcm", **UIDS)])
    answer = await ask(shelf, f"{INSTANCE}/rendered", headers={"Accept": accept}, renderer=made)
    assert answer.status == 200 and answer.headers["Content-Type"] == f"{accept}; charset=utf-8"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert b"Radiology" in answer.body or b"Report" in answer.body


async def test_a_wrapped_document_is_given_as_it_is(made: Pictures) -> None:
    document = b"%PDF-1.7 " + bytes(range(256)) * 1000
    content = b"\x42\x00\x11\x00OB\0\0" + len(document).to_bytes(4, "little") + document
    ref = InstanceRef("1.2.3", "1.2.3.1", "1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.104.1")
    shelf = ImageShelf([Kept(ref, EXPLICIT, content, b"{}")])
    answer = await ask(shelf, f"{INSTANCE}/rendered", renderer=made)
    assert (answer.headers["Content-Type"], answer.body) == ("application/pdf", document)
