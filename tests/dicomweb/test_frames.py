"""Frames, bulk values, metadata and pictures, taken from real files and judged by pydicom."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from io import BytesIO

import orjson
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import get_expected_length

from dicomweb.wado.contents import Layouts, layout_of
from dicomweb.wado.negotiation import MEDIA_TYPES
from dicomweb.wado.rendered import Rendered, RenderWish, Viewport, Window, WindowFunction
from gateway.model.errors import NotFound
from gateway.model.work.retrievals import Item
from tests.dicomweb.image_shelf import ImageShelf, Kept, ShelfItem, ask, bundled, kept_file
from tests.dicomweb.small_region import PUBLIC_URL
from tests.dicomweb.test_retrieve import files

UIDS = {"study": "1.2.3", "series": "1.2.3.1", "sop": "1.2.3.1.1"}
INSTANCE = "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.1"
AS_KEPT = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
COMPRESSED = ["JPEG2000.dcm", "JPEG-lossy.dcm", "MR_small_RLE.dcm", "examples_ybr_color.dcm", "rtdose_rle.dcm"]
NATIVE = ["CT_small.dcm", "MR_small_implicit.dcm", "rtdose.dcm"]


def dataset(kept: Kept) -> pydicom.Dataset:
    """As pydicom reads it."""
    read = pydicom.dcmread(BytesIO(kept.content), force=True) if not kept.transfer_syntax else None
    assert read is None
    return pydicom.filereader.read_dataset(
        BytesIO(kept.content),
        kept.transfer_syntax == "1.2.840.10008.1.2",
        kept.transfer_syntax != "1.2.840.10008.1.2.2",
    )


def frames_by_pydicom(kept: Kept) -> list[bytes]:
    read = dataset(kept)
    count = int(read.get("NumberOfFrames", 1))
    if kept.transfer_syntax in MEDIA_TYPES:
        return list(generate_frames(read.PixelData, number_of_frames=count))
    size = get_expected_length(read) // count
    return [read.PixelData[size * number : size * (number + 1)] for number in range(count)]


@pytest.mark.parametrize("name", [*NATIVE, *COMPRESSED])
async def test_frames_are_the_bytes_that_pydicom_finds(name: str) -> None:
    kept = kept_file(name, **UIDS)
    expected = frames_by_pydicom(kept)
    shelf = ImageShelf([kept])
    numbers = ",".join(str(number + 1) for number in range(len(expected)))
    answer = await ask(shelf, f"{INSTANCE}/frames/{numbers}", headers=AS_KEPT)
    assert answer.status == 200 and files(answer) == expected
    syntax = kept.transfer_syntax if kept.transfer_syntax in MEDIA_TYPES else "1.2.840.10008.1.2.1"
    assert answer.body.count(b"application/octet-stream; transfer-syntax=" + syntax.encode()) == len(expected)
    assert shelf.sent == ["1.2.3.1.1"]


async def test_frames_come_in_the_order_asked_and_as_often() -> None:
    kept = kept_file("rtdose.dcm", **UIDS)
    first, third = frames_by_pydicom(kept)[0], frames_by_pydicom(kept)[2]
    answer = await ask(ImageShelf([kept]), f"{INSTANCE}/frames/3,1,3", headers=AS_KEPT)
    assert files(answer) == [third, first, third]


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 400), ("1,0", 400), ("x", 400), ("-1", 400), ("1,,2", 400), ("16", 404), ("1,16", 404), ("15", 200)],
)
async def test_a_frame_that_there_is_not_is_refused(frames: str, status: int) -> None:
    shelf = ImageShelf([kept_file("rtdose.dcm", **UIDS)])
    assert (await ask(shelf, f"{INSTANCE}/frames/{frames}", headers=AS_KEPT)).status == status


async def test_an_instance_without_pixels_has_no_frames() -> None:
    shelf = ImageShelf([kept_file("rtplan.dcm", **UIDS)])
    assert (await ask(shelf, f"{INSTANCE}/frames/1", headers=AS_KEPT)).status == 404


async def test_one_frame_may_be_asked_for_by_itself_and_in_ranges() -> None:
    kept = kept_file("JPEG2000.dcm", **UIDS)
    [expected] = frames_by_pydicom(kept)
    headers = {"Accept": "image/jp2"}
    answer = await ask(ImageShelf([kept]), f"{INSTANCE}/frames/1", headers=headers)
    assert answer.body == expected and answer.headers["Content-Type"].startswith("image/jp2; transfer-syntax=")
    part = await ask(ImageShelf([kept]), f"{INSTANCE}/frames/1", headers=headers | {"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, expected[10:20])


async def test_every_bulk_address_in_metadata_leads_to_its_bytes() -> None:
    followed = 0
    for name in NATIVE:
        kept = kept_file(name, **UIDS)
        shelf = ImageShelf([kept])
        [model] = orjson.loads((await ask(shelf, f"{INSTANCE}/metadata")).body)
        read = dataset(kept)
        for tag, element in model.items():
            if "BulkDataURI" not in element:
                continue
            address = element["BulkDataURI"]
            assert address.startswith(f"{PUBLIC_URL}{INSTANCE}/bulkdata/")
            answer = await ask(shelf, address.removeprefix(PUBLIC_URL))
            assert answer.status == 200 and answer.body == read[int(tag, 16)].value
            parts = await ask(
                shelf,
                address.removeprefix(PUBLIC_URL),
                headers={"Accept": 'multipart/related; type="application/octet-stream"'},
            )
            assert files(parts) == [answer.body]
            followed += 1
    assert followed >= len(NATIVE)


async def test_a_bulk_value_is_given_in_ranges_and_head_says_how_long_it_is() -> None:
    kept = kept_file("CT_small.dcm", **UIDS)
    pixels = dataset(kept).PixelData
    path = f"{INSTANCE}/bulkdata/7FE00010"
    head = await ask(ImageShelf([kept]), path, method="HEAD")
    assert int(head.headers["Content-Length"]) == len(pixels) and head.headers["Accept-Ranges"] == "bytes"
    last = await ask(ImageShelf([kept]), path, headers={"Range": "bytes=-100"})
    assert (last.status, last.body) == (206, pixels[-100:])
    tag = last.headers["ETag"]
    same = await ask(ImageShelf([kept]), path, headers={"Range": "bytes=0-9", "If-Range": tag})
    other = await ask(ImageShelf([kept]), path, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (same.status, other.status, other.body) == (206, 200, pixels)


async def test_compressed_pixels_as_a_bulk_value_are_their_frames() -> None:
    kept = kept_file("examples_ybr_color.dcm", **UIDS)
    answer = await ask(ImageShelf([kept]), f"{INSTANCE}/bulkdata/7FE00010")
    assert files(answer) == frames_by_pydicom(kept)
    assert answer.headers["Content-Type"].startswith('multipart/related; type="image/jpeg"')


@pytest.mark.parametrize("path", ["7FE00011", "nonsense", "1/2/3", "..%2f..%2fx"])
async def test_an_address_that_leads_nowhere_is_absence(path: str) -> None:
    shelf = ImageShelf([kept_file("CT_small.dcm", **UIDS)])
    assert (await ask(shelf, f"{INSTANCE}/bulkdata/{path}")).status == 404


async def test_addresses_in_metadata_of_one_trust_lead_to_that_trust() -> None:
    shelf = ImageShelf([kept_file("CT_small.dcm", **UIDS)])
    [model] = orjson.loads((await ask(shelf, f"/trust/RJ1{INSTANCE}/metadata")).body)
    assert model["7FE00010"]["BulkDataURI"].startswith(f"{PUBLIC_URL}/trust/RJ1/studies/1.2.3/")


async def test_metadata_of_a_study_are_those_of_its_instances_compressed_where_that_is_taken() -> None:
    kept = [kept_file(name, study="1.2.3", sop=f"1.2.3.{number}") for number, name in enumerate(bundled(), 1)]
    kept = [each for each in kept if each.json]
    plain = await ask(ImageShelf(kept), "/studies/1.2.3/metadata")
    assert plain.headers["Content-Type"] == "application/dicom+json"
    assert len(orjson.loads(plain.body)) == len(kept) > 50
    small = await ask(ImageShelf(kept), "/studies/1.2.3/metadata", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip" and gzip.decompress(small.body) == plain.body


async def test_metadata_is_json_or_refused() -> None:
    shelf = ImageShelf([kept_file("CT_small.dcm", **UIDS)])
    xml = {"Accept": 'multipart/related; type="application/dicom+xml"'}
    assert (await ask(shelf, f"{INSTANCE}/metadata", headers=xml)).status == 406


class Painter:
    """Makes no picture, but keeps what was wished for."""

    def __init__(self) -> None:
        self.wishes: list[RenderWish] = []

    def offered(self, sop_class_uid: str) -> Sequence[str]:
        return ("image/jpeg", "image/png") if sop_class_uid.endswith(".1.2") else ("text/html",)

    async def rendered(self, item: Item, wish: RenderWish) -> Rendered:
        self.wishes.append(wish)
        return Rendered(wish.media_types[0], b"picture")

    async def unpacked(self, item: Item, number: int) -> bytes:
        if number > 1:
            raise NotFound("the instance has no such frame")
        return b"unpacked"


async def test_a_picture_is_wished_for_as_the_query_says() -> None:
    painter = Painter()
    shelf = ImageShelf([kept_file("CT_small.dcm", **UIDS)])
    query = "viewport=512,256&window=40,400,sigmoid&quality=80"
    answer = await ask(shelf, f"{INSTANCE}/frames/1/rendered?{query}", renderer=painter, headers={"Accept": "image/*"})
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"picture", "image/jpeg")
    window = Window(40, 400, WindowFunction.SIGMOID)
    assert painter.wishes == [RenderWish(("image/jpeg", "image/png"), 1, Viewport(512, 256), window, 80)]
    thumbnail = await ask(shelf, "/studies/1.2.3/thumbnail", renderer=painter, headers={"Accept": "image/png"})
    assert thumbnail.headers["Content-Type"] == "image/png"
    assert painter.wishes[-1] == RenderWish(("image/png",), None, Viewport(128, 128))


@pytest.mark.parametrize(
    "query",
    ["viewport=0,1", "viewport=x", "viewport=9999,1", "window=1", "window=1,0", "window=1,2,cubic", "quality=0"],
)
async def test_a_picture_that_cannot_be_meant_is_refused(query: str) -> None:
    shelf = ImageShelf([kept_file("CT_small.dcm", **UIDS)])
    assert (await ask(shelf, f"{INSTANCE}/rendered?{query}", renderer=Painter())).status == 400


async def test_a_report_is_rendered_as_text_and_has_no_thumbnail() -> None:
    shelf = ImageShelf([kept_file("reportsi.dcm", study="1.2.3", series="1.2.3.1", sop="1.2.3.1.1")])
    answer = await ask(shelf, f"{INSTANCE}/rendered", renderer=Painter())
    assert answer.headers["Content-Type"] == "text/html"
    assert (await ask(shelf, f"{INSTANCE}/thumbnail", renderer=Painter())).status == 406
    assert (await ask(shelf, f"{INSTANCE}/rendered", renderer=Painter(), headers={"Accept": "image/*"})).status == 406


async def test_frames_are_unpacked_for_those_who_take_nothing_else() -> None:
    shelf = ImageShelf([kept_file("JPEG2000.dcm", **UIDS)])
    headers = {"Accept": 'multipart/related; type="application/octet-stream"'}
    answer = await ask(shelf, f"{INSTANCE}/frames/1", headers=headers, renderer=Painter())
    assert files(answer) == [b"unpacked"] and b"transfer-syntax=1.2.840.10008.1.2.1\r\n" in answer.body
    assert (await ask(shelf, f"{INSTANCE}/frames/2", headers=headers, renderer=Painter())).status == 404
    assert (await ask(shelf, f"{INSTANCE}/frames/1", headers=headers)).status == 406


async def test_pixels_that_do_not_add_up_can_only_be_had_whole() -> None:
    kept = kept_file("CT_small.dcm", **UIDS)
    cut = Kept(kept.ref, kept.transfer_syntax, kept.content[:20_000], kept.json)
    for path in ("frames/1", "bulkdata/7FE00010"):
        assert (await ask(ImageShelf([cut]), f"{INSTANCE}/{path}", headers=AS_KEPT)).status == 406
    fewer = Kept(kept.ref, "1.2.840.10008.1.2.4.50", kept.content, kept.json)
    answer = await ask(ImageShelf([fewer]), f"{INSTANCE}/frames/1", headers=AS_KEPT)
    assert answer.status == 406 and "had whole" in str(answer.problem["detail"])
    assert (await ask(ImageShelf([fewer]), INSTANCE)).status == 200


async def test_where_pixels_stand_is_told_of_each_instance_however_many_are_remembered() -> None:
    items = [ShelfItem(kept_file(name, **UIDS)) for name in (*NATIVE, "JPEG2000.dcm")]
    for count_max in (0, 1, 2, 100):
        layouts = Layouts(count_max)
        for item in (*items, *reversed(items), *items):
            assert await layouts.of(item) == await layout_of(item)
