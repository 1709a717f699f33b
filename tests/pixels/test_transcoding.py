"""Transcoding: pydicom reads the same pixels out of it as out of the source, and the same header but its encoding."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    NATIVE,
    RLE,
)
from gateway.model.errors import NotAcceptable
from gateway.pixels.codecs import DECODED_BY
from gateway.pixels.pool import PixelLimits, Pool
from gateway.pixels.source import pixel_source
from gateway.pixels.transcoding import TARGETS, transcoded
from tests.instances.real import Real, real_file, real_files
from tests.instances.test_coercion import parsed, values
from tests.pixels.hostile import element, fragments, header, reading

UNDECODED = {
    "JPEG-lossy.dcm": "JPEG of twelve bits: what decodes it is under the GPL",
    "JPGExtended.dcm": "JPEG of twelve bits",
    "SC_rgb_jpeg.dcm": "it is written implicitly, whatever it announces",
    "JPEG2000-embedded-sequence-delimiter.dcm": "its code stream announces four thousand million columns",
}
OF_ENCODING = {0x00280000, 0x00280004, 0x00280006, 0x7FE00000, 0x7FE00001, 0x7FE00002, 0x7FE00010}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with Pool(PixelLimits(workers_max=1)) as found:
        yield found


async def turned(pool: Pool, body: bytes, transfer_syntax: str, target: str) -> bytes:
    """The whole instance in another transfer syntax."""
    source = await pixel_source(transfer_syntax, len(body), reading(body))
    return b"".join([piece async for piece in transcoded(pool, source, target)])


def pixels(dataset: Dataset, transfer_syntax: str) -> NDArray[np.generic]:
    """The pixels as pydicom decodes them."""
    decoder = get_decoder(UID(transfer_syntax))
    found, _ = decoder.as_array(dataset, decoding_plugin=DECODED_BY[transfer_syntax])
    return found


def _compressed() -> list[Real]:
    return [real for real in real_files() if real.transfer_syntax not in NATIVE and "PixelData" in real.read]


def test_there_are_real_images_of_every_codec() -> None:
    assert {real.transfer_syntax for real in _compressed()} >= set(DECODED_BY) - NATIVE - {
        uid for uid in DECODED_BY if uid.startswith("1.2.840.10008.1.2.4.20") or uid.endswith(".57")
    }


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("real", _compressed(), ids=lambda real: str(real.name))
async def test_real_images_hold_the_same_pixels_without_compression(pool: Pool, real: Real) -> None:
    if real.name in UNDECODED:
        with pytest.raises(NotAcceptable):
            await turned(pool, real.body, real.transfer_syntax, EXPLICIT_VR_LITTLE_ENDIAN)
        return
    body = await turned(pool, real.body, real.transfer_syntax, EXPLICIT_VR_LITTLE_ENDIAN)
    found, source = parsed(body, EXPLICIT_VR_LITTLE_ENDIAN), parsed(real.body, real.transfer_syntax)
    assert np.array_equal(pixels(found, EXPLICIT_VR_LITTLE_ENDIAN), pixels(source, real.transfer_syntax))
    before = {tag: value for tag, value in values(source).items() if tag not in OF_ENCODING}
    assert {tag: value for tag, value in values(found).items() if tag not in OF_ENCODING} == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("target", [JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE])
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "examples_rgb_color.dcm", "SC_rgb_small_odd_jpeg.dcm", "emri_small.dcm", "US1_J2KR.dcm"]
)
async def test_pixels_that_are_compressed_anew_lose_nothing(pool: Pool, name: str, target: str) -> None:
    real = next((real for real in real_files() if real.name == name), real_file("CT_small.dcm"))
    if real.name == "SC_rgb_small_odd_jpeg.dcm" and target != RLE:
        with pytest.raises(NotAcceptable, match="cannot be compressed"):
            await turned(pool, real.body, real.transfer_syntax, target)
        return
    found = parsed(await turned(pool, real.body, real.transfer_syntax, target), target)
    source = parsed(real.body, real.transfer_syntax)
    assert np.array_equal(pixels(found, target), pixels(source, real.transfer_syntax))


@pytest.mark.asyncio(loop_scope="module")
async def test_an_odd_number_of_bytes_is_filled_up_and_what_stands_behind_the_pixels_follows(pool: Pool) -> None:
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x08\1\2\3\4\5\6\7\x08\x09"
    padding = element(0xFFFCFFFC, b"OB", b"\0\0")
    body = await turned(pool, header(rows=3, columns=3) + fragments(frame) + padding, RLE, EXPLICIT_VR_LITTLE_ENDIAN)
    assert body.endswith(bytes((1, 2, 3, 4, 5, 6, 7, 8, 9, 0)) + padding)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_deflated_image_is_compressed_from_what_it_was(pool: Pool) -> None:
    real = real_file("image_dfl.dcm")
    found = parsed(
        await turned(pool, real.body, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, JPEG_LS_LOSSLESS), JPEG_LS_LOSSLESS
    )
    assert np.array_equal(pixels(found, JPEG_LS_LOSSLESS), real.read.pixel_array)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("MR_small_bigendian.dcm", JPEG_LS_LOSSLESS),
        ("MR_small_implicit.dcm", JPEG_LS_LOSSLESS),
        ("CT_small.dcm", IMPLICIT_VR_LITTLE_ENDIAN),
        ("CT_small.dcm", EXPLICIT_VR_BIG_ENDIAN),
        ("liver_1frame.dcm", RLE),
        ("SC_rgb_rle_32bit.dcm", RLE),
    ],
)
async def test_what_is_not_transcoded_is_said_before_the_first_byte(pool: Pool, name: str, target: str) -> None:
    real = real_file(name)
    source = await pixel_source(real.transfer_syntax, len(real.body), reading(real.body))
    with pytest.raises(NotAcceptable):
        await anext(transcoded(pool, source, target))


def test_no_target_loses_anything() -> None:
    assert set(TARGETS) == {EXPLICIT_VR_LITTLE_ENDIAN, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE}
