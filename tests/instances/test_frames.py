"""Frames: each is found where pydicom finds it, by table, count or marker, and headers that lie are refused."""

from __future__ import annotations

import struct
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from gateway.instances.deflation import inflated
from gateway.instances.frames import Frame, PixelLayout, Read, frames, pixel_layout
from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    RLE,
    VIDEO,
)
from gateway.model.errors import InvalidRequest, NotFound
from tests.instances.real import Real, real_file, real_files

OPEN = 2**32 - 1
DIFFERENT = {
    "badVR.dcm": "pydicom gives up at its number of frames",
}


def reading(body: bytes) -> Read:
    """Reads from bytes in memory."""

    async def read(first: int, size: int) -> bytes:
        return body[first : first + size]

    return read


def layout(body: bytes, transfer_syntax: str) -> PixelLayout:
    """The layout of a whole instance."""
    found = pixel_layout(body, transfer_syntax, is_whole=True)
    assert found is not None
    return found


def content(body: bytes, frame: Frame) -> bytes:
    """The bytes of a frame."""
    return b"".join(body[piece.first : piece.first + piece.data_bytes] for piece in frame.pieces)


async def found(body: bytes, transfer_syntax: str, numbers: Collection[int] = ()) -> list[bytes]:
    """The bytes of these frames."""
    return [content(body, frame) for frame in await frames(layout(body, transfer_syntax), reading(body), numbers)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "real", [real for real in real_files() if "PixelData" in real.read], ids=lambda real: str(real.name)
)
async def test_frames_of_real_instances_are_those_that_pydicom_finds(real: Real) -> None:
    if real.name in DIFFERENT or "Rows" not in real.read:
        return
    deflated = real.transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    body = inflated(real.body) if deflated else real.body
    where = layout(real.body, real.transfer_syntax)
    if where.transfer_syntax in VIDEO:
        return
    count = int(real.read.get("NumberOfFrames") or 1)
    if where.data_bytes is None:
        theirs = list(generate_frames(real.read.PixelData, number_of_frames=count))
    elif where.frame_bits % 8 and count > 1:
        return
    else:
        size = where.frame_bytes
        theirs = [real.read.PixelData[at * size : (at + 1) * size] for at in range(count)]
    ours = [content(body, frame) for frame in await frames(where, reading(body))]
    assert ours == theirs


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    long = vr in (b"OB", b"OW", b"OV")
    return head + (struct.pack("<2xI", size) if long else struct.pack("<H", size)) + value


def header(count: int, *, rows: int = 2, columns: int = 3, bits: int = 8, samples: int = 1) -> bytes:
    """What an image says of its pixels."""
    frames = str(count).encode()
    return b"".join(
        (
            element(0x00280002, b"US", struct.pack("<H", samples)),
            element(0x00280008, b"IS", frames + b" " * (len(frames) % 2)),
            element(0x00280010, b"US", struct.pack("<H", rows)),
            element(0x00280011, b"US", struct.pack("<H", columns)),
            element(0x00280100, b"US", struct.pack("<H", bits)),
        )
    )


def item(value: bytes) -> bytes:
    """A fragment."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def image(count: int, fragments: bytes) -> bytes:
    """An image of encapsulated pixels."""
    return header(count) + element(0x7FE00010, b"OB", fragments, OPEN)


@given(
    codestreams=st.lists(st.binary(min_size=2, max_size=40).map(lambda value: value * 2), min_size=1, max_size=9),
    fragments=st.integers(1, 3),
    has_table=st.booleans(),
    data=st.data(),
)
async def test_frames_of_any_fragments_are_found_by_table_count_or_marker(
    codestreams: list[bytes], fragments: int, has_table: bool, data: st.DataObject
) -> None:
    marked = [b"\xff\xd8\xff\xe0" + b"\0" * 8 + codestream.replace(b"\xff", b"\0") for codestream in codestreams]
    body = image(len(marked), encapsulate(marked, fragments_per_frame=fragments, has_bot=has_table) + END)
    numbers = data.draw(st.lists(st.integers(1, len(marked)), min_size=1, max_size=4))
    assert [frame.rstrip(b"\0") for frame in await found(body, JPEG_BASELINE, numbers)] == [
        marked[number - 1].rstrip(b"\0") for number in numbers
    ]


async def test_the_extended_table_leads_to_frames_of_odd_length_without_their_padding() -> None:
    codestreams = [b"abc", b"defg"]
    pixels, offsets, lengths = encapsulate_extended(codestreams)
    body = (
        header(2)
        + element(0x7FE00001, b"OV", offsets)
        + element(0x7FE00002, b"OV", lengths)
        + element(0x7FE00010, b"OB", pixels + END, OPEN)
    )
    assert [frame[: len(real)] for frame, real in zip(await found(body, RLE), codestreams, strict=True)] == codestreams


async def test_only_heads_of_fragments_are_read() -> None:
    body = image(3, item(b"") + b"".join(item(bytes(1_000_000)) for _ in range(3)) + END)
    sizes = []

    async def read(first: int, size: int) -> bytes:
        sizes.append(size)
        return body[first : first + size]

    assert len(await frames(layout(body, RLE), read)) == 3
    assert sum(sizes) < 100_000


async def test_bits_of_one_frame_are_a_frame_and_of_many_are_not_taken_apart() -> None:
    one = header(1, bits=1) + element(0x7FE00010, b"OB", b"\x3f\0")
    assert await found(one, EXPLICIT_VR_LITTLE_ENDIAN) == [b"\x3f"]
    two = header(2, bits=1) + element(0x7FE00010, b"OB", b"\x3f\0")
    with pytest.raises(InvalidRequest, match="inside a byte"):
        await found(two, EXPLICIT_VR_LITTLE_ENDIAN)


async def test_an_instance_has_only_the_frames_that_it_has() -> None:
    body = header(2) + element(0x7FE00010, b"OB", bytes(12))
    assert await found(body, EXPLICIT_VR_LITTLE_ENDIAN, [2]) == [bytes(6)]
    for number in (0, 3):
        with pytest.raises(NotFound):
            await found(body, EXPLICIT_VR_LITTLE_ENDIAN, [number])
    with pytest.raises(NotFound, match="no pixels"):
        layout(header(1), EXPLICIT_VR_LITTLE_ENDIAN)


def test_a_beginning_is_enough_that_goes_as_far_as_the_pixels() -> None:
    real = real_file("CT_small.dcm")
    whole = layout(real.body, real.transfer_syntax)
    assert pixel_layout(real.body[: whole.first], real.transfer_syntax) == whole
    assert pixel_layout(real.body[: whole.first - 13], real.transfer_syntax) is None


@pytest.mark.parametrize(
    ("body", "transfer_syntax", "words"),
    [
        (image(2, item(b"") + item(b"ab") + END), RLE, "another number of frames"),
        (image(1, item(b"") + item(b"ab") * 2 + END), RLE, "another number of frames"),
        (image(2, item(b"") + item(b"ab") * 3 + END), JPEG_BASELINE, "told apart"),
        (image(2, item(struct.pack("<II", 0, 4)) + item(b"ab") * 2 + END), RLE, "does not lead"),
        (image(2, item(struct.pack("<II", 0, 900)) + item(b"ab") * 2 + END), RLE, "inside its pixels|add up"),
        (image(1, item(b"") + item(b"ab")), RLE, "inside its pixels"),
        (image(1, END), RLE, "begin with an offset table"),
        (image(1, item(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, OPEN)), RLE, "no length"),
        (image(100_001, item(b"")), RLE, "more than 100000 frames"),
        (image(1, item(b"")), EXPLICIT_VR_LITTLE_ENDIAN, "as its transfer syntax says"),
        (header(1) + element(0x7FE00010, b"OB", bytes(6)), RLE, "as its transfer syntax says"),
        (header(1) + element(0x7FE00010, b"OB", bytes(4)), EXPLICIT_VR_LITTLE_ENDIAN, "fewer pixels"),
        (header(1, rows=0) + element(0x7FE00010, b"OB", b""), EXPLICIT_VR_LITTLE_ENDIAN, "what its pixels are"),
        (header(1, samples=9) + element(0x7FE00010, b"OB", b""), EXPLICIT_VR_LITTLE_ENDIAN, "what its pixels are"),
        (header(1, bits=7) + element(0x7FE00010, b"OB", b""), EXPLICIT_VR_LITTLE_ENDIAN, "what its pixels are"),
        (image(1, item(b"")), "1.2.840.10008.1.2.4.102", "video"),
    ],
)
async def test_headers_and_tables_that_lie_are_refused_in_words(body: bytes, transfer_syntax: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        await found(body, transfer_syntax)


@given(data=st.data())
async def test_fragments_with_a_flipped_byte_are_found_or_refused(data: st.DataObject) -> None:
    real = data.draw(st.sampled_from([real for real in real_files() if real.transfer_syntax == RLE]))
    body = bytearray(real.body)
    first = layout(real.body, RLE).first
    body[data.draw(st.integers(max(0, first - 200), min(len(body), first + 100) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        await found(bytes(body), RLE)
    except (InvalidRequest, NotFound):
        return
