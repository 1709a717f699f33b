"""Pictures: grey as PS3.3 computes it, colours as pydicom has them, in the size and kind that was asked for."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from io import BytesIO

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest, NotAcceptable, NotFound
from gateway.pixels.pictures import picture
from gateway.pixels.pool import PixelLimits, Pool
from gateway.pixels.source import pixel_source
from gateway.pixels.wishes import Media, PictureWish, Window, WindowFunction
from tests.instances.real import Real, real_file, real_files
from tests.pixels.hostile import element, header, number, reading

pytestmark = pytest.mark.asyncio(loop_scope="module")
PNG = PictureWish(media=Media.PNG)
RAMP = bytes(range(256))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with Pool(PixelLimits(workers_max=1)) as found:
        yield found


async def drawn(
    pool: Pool, body: bytes, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN, wish: PictureWish = PNG, frame: int = 1
) -> Image.Image:
    """A frame as a picture."""
    source = await pixel_source(transfer_syntax, len(body), reading(body))
    return Image.open(BytesIO(await picture(pool, source, frame, wish)))


def levels(image: Image.Image) -> NDArray[np.int64]:
    """What a picture shows, from 0 to 255."""
    return np.asarray(image).astype(np.int64)


def ramp(*elements: bytes, kind: str = "MONOCHROME2") -> bytes:
    """An image of every value from 0 to 255, with these elements between its header and its pixels."""
    return header(rows=16, columns=16, kind=kind) + b"".join(elements) + element(0x7FE00010, b"OB", RAMP)


def text(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element of text."""
    return element(tag, vr, value + b" " * (len(value) % 2))


async def test_without_a_window_all_that_the_pixels_hold_is_shown(pool: Pool) -> None:
    assert levels(await drawn(pool, ramp())).ravel().tolist() == list(range(256))


async def test_monochrome1_is_turned_round(pool: Pool) -> None:
    assert levels(await drawn(pool, ramp(kind="MONOCHROME1"))).ravel().tolist() == list(range(255, -1, -1))


async def test_what_pads_an_image_takes_no_part_in_its_range(pool: Pool) -> None:
    found = levels(await drawn(pool, ramp(number(0x00280120, 255)))).ravel()
    assert (found[0], found[254], found[255]) == (0, 255, 255)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: black at c - 0.5 - (w-1)/2, white behind c - 0.5 + (w-1)/2.
        (b"LINEAR", 50, 0),
        (b"LINEAR", 149, 255),
        (b"LINEAR", 100, round((0.5 / 99 + 0.5) * 255)),
        (b"LINEAR_EXACT", 100, 128),
        (b"LINEAR_EXACT", 125, round(0.75 * 255)),
        (b"SIGMOID", 100, 128),
        (b"SIGMOID", 125, round(255 / (1 + np.exp(-1)))),
    ],
)
async def test_a_window_is_what_the_standard_says(pool: Pool, function: bytes, value: int, expected: int) -> None:
    own = (text(0x00281050, b"DS", b"100\\1"), text(0x00281051, b"DS", b"100\\1"), text(0x00281056, b"CS", function))
    asked = PictureWish(media=Media.PNG, window=Window(100.0, 100.0, WindowFunction(function.decode())))
    assert levels(await drawn(pool, ramp(*own))).ravel()[value] == expected
    assert levels(await drawn(pool, ramp(), wish=asked)).ravel()[value] == expected


async def test_a_window_is_of_values_of_the_modality(pool: Pool) -> None:
    rescale = (text(0x00281052, b"DS", b"-1024"), text(0x00281053, b"DS", b"2"))
    wish = PictureWish(media=Media.PNG, window=Window(-824.0, 200.0, WindowFunction.LINEAR_EXACT))
    found = levels(await drawn(pool, ramp(*rescale), wish=wish)).ravel()
    assert (found[50], found[100], found[150]) == (0, 128, 255)


async def test_a_table_of_the_instance_comes_before_its_window(pool: Pool) -> None:
    entries = struct.pack("<4H", 0, 1000, 2000, 4095)
    item = element(0x00283002, b"US", struct.pack("<3H", 4, 10, 12)) + element(0x00283006, b"OW", entries)
    table = element(0x00283010, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)
    window = (text(0x00281050, b"DS", b"100"), text(0x00281051, b"DS", b"100"))
    found = levels(await drawn(pool, ramp(*window, table))).ravel()
    assert found[[0, 10, 11, 12, 13, 255]].tolist() == [0, 0, 62, 125, 255, 255]


def sequence(tag: int, *items: bytes) -> bytes:
    """A sequence of these items."""
    return element(tag, b"SQ", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items))


async def test_each_frame_of_an_enhanced_image_has_its_own_window_and_all_share_their_scale(pool: Pool) -> None:
    shared = text(0x00281052, b"DS", b"-100") + text(0x00281053, b"DS", b"1")
    windows = [text(0x00281050, b"DS", centre) + text(0x00281051, b"DS", b"21") for centre in (b"0", b"100")]
    body = (
        header(rows=16, columns=16)
        + text(0x00280008, b"IS", b"2")
        + sequence(0x52009229, sequence(0x00289145, shared))
        + sequence(0x52009230, *(sequence(0x00289132, window) for window in windows))
        + element(0x7FE00010, b"OB", RAMP * 2)
    )
    for frame, middle in ((1, 100), (2, 200)):
        found = levels(await drawn(pool, body, frame=frame)).ravel()
        assert (found[middle - 11], found[middle], found[middle + 10]) == (0, round((0.5 / 20 + 0.5) * 255), 255)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "mlut_18.dcm", "vlut_04.dcm", "693_J2KR.dcm"])
async def test_grey_is_what_pydicom_computes(pool: Pool, name: str) -> None:
    real = next((real for real in real_files() if real.name == name), real_file("MR_small.dcm"))
    values = apply_modality_lut(real.read.pixel_array, real.read)
    expected = apply_voi_lut(values, real.read).astype(float)
    if "WindowWidth" in real.read or "VOILUTSequence" in real.read:
        lowest, highest = _range_of(real)
    else:
        lowest, highest = expected.min(), expected.max()
    expected = (expected - lowest) / (highest - lowest) * 255
    if real.read.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    assert np.abs(levels(await drawn(pool, real.body, real.transfer_syntax)) - expected).max() <= 1


def _range_of(real: Real) -> tuple[float, float]:
    """From what to what pydicom maps a window or a table."""
    if real.read.get("VOILUTSequence"):
        return 0.0, 2.0 ** real.read.VOILUTSequence[0].LUTDescriptor[2] - 1
    bits, slope = real.read.BitsStored, float(real.read.get("RescaleSlope", 1))
    intercept = float(real.read.get("RescaleIntercept", 0))
    least = -(2 ** (bits - 1)) if real.read.PixelRepresentation else 0
    return least * slope + intercept, (least + 2**bits - 1) * slope + intercept


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["examples_palette.dcm", "OBXXXX1A.dcm"])
async def test_palettes_become_colours(pool: Pool, name: str) -> None:
    real = real_file(name)
    colours = apply_color_lut(real.read.pixel_array, real.read)
    expected = colours >> 8 if colours.dtype.itemsize == 2 else colours
    assert np.array_equal(levels(await drawn(pool, real.body, real.transfer_syntax)), expected[..., :3])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", ["examples_rgb_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle.dcm"]
)
async def test_colours_are_red_green_and_blue(pool: Pool, name: str) -> None:
    real = real_file(name)
    found = levels(await drawn(pool, real.body, real.transfer_syntax))
    assert np.abs(found - real.read.pixel_array.astype(np.int64)).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "size"), [(8, 0, (8, 8)), (0, 4, (4, 4)), (64, 32, (32, 32)), (0, 0, (16, 16))]
)
async def test_a_picture_fits_in_what_was_asked_and_keeps_its_shape(
    pool: Pool, width: int, height: int, size: tuple[int, int]
) -> None:
    wish = PictureWish(width_max=width, height_max=height)
    found = await drawn(pool, ramp(), wish=wish)
    assert (found.size, found.format) == (size, "JPEG")


async def test_better_quality_is_more_bytes(pool: Pool) -> None:
    real = real_file("CT_small.dcm")
    source = await pixel_source(real.transfer_syntax, len(real.body), reading(real.body))
    poor, good = [len(await picture(pool, source, 1, PictureWish(quality=quality))) for quality in (10, 95)]
    assert poor < good


async def test_bits_are_black_and_white(pool: Pool) -> None:
    body = header(rows=2, columns=8, bits=1) + element(0x7FE00010, b"OB", b"\x0f\xf0")
    assert levels(await drawn(pool, body)).tolist() == [[255] * 4 + [0] * 4, [0] * 4 + [255] * 4]


@pytest.mark.parametrize(
    "wish",
    [
        {"quality": 0},
        {"quality": 101},
        {"width_max": 8_193},
        {"height_max": -1},
        {"window": Window(0.0, 0.5)},
        {"window": Window(float("nan"), 5.0)},
        {"window": Window(0.0, 0.0, WindowFunction.SIGMOID)},
    ],
)
async def test_wishes_that_nobody_could_fulfil_are_refused(wish: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        PictureWish(**wish)  # type: ignore[arg-type]  # each is of its own type


async def test_a_frame_that_there_is_not_and_pixels_that_nothing_decodes_are_told_apart(pool: Pool) -> None:
    with pytest.raises(NotFound):
        await drawn(pool, ramp(), frame=2)
    with pytest.raises(NotFound, match="no pixels"):
        await drawn(pool, header(rows=1, columns=1))
    twelve_bits = real_file("JPEG-lossy.dcm")
    with pytest.raises(NotAcceptable):
        await drawn(pool, twelve_bits.body, twelve_bits.transfer_syntax)
