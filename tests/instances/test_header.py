"""The header of an instance: read as pydicom reads it, from any pieces, and bounded whatever comes."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.instances.header import (
    BIG_ENDIAN,
    COLUMNS,
    DEFLATED,
    FRAMES,
    IMPLICIT,
    PATIENT_ID,
    PATIENT_NAME,
    ROWS,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    Header,
    HeaderReader,
)
from gateway.model.errors import InvalidRequest
from tests.instances.real import real_files

EXPLICIT = "1.2.840.10008.1.2.1"


def read(transfer_syntax: str, body: bytes, piece_bytes: int = 16_384) -> Header:
    """Read a header from pieces of this length."""
    reader = HeaderReader(transfer_syntax)
    for at in range(0, len(body), piece_bytes):
        if reader.feed(memoryview(body)[at : at + piece_bytes]):
            return reader.header
    reader.end()
    return reader.header


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian."""
    said = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<H", said) if vr not in (b"SQ", b"OB", b"UN") else struct.pack("<HI", 0, said)) + value


def item(tag: int, length: int, value: bytes = b"") -> bytes:
    """An item, or the end of an item or a sequence."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value


UIDS = element(STUDY_UID, b"UI", b"1.2\0") + element(SERIES_UID, b"UI", b"1.2.3\0")


def test_there_are_real_files_in_every_kind_of_encoding() -> None:
    assert len(real_files()) > 150
    assert {IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED} < {file.transfer_syntax for file in real_files()}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("piece_bytes", [1, 7, 1_000, 1_000_000])
def test_real_files_are_read_as_pydicom_reads_them(piece_bytes: int) -> None:
    for file in real_files():
        if file.name == "emri_small_jpeg_2k_lossless_too_short.dcm":
            continue  # pydicom skips its whole header
        header = read(file.transfer_syntax, file.body, piece_bytes)
        for tag in (SOP_INSTANCE_UID, SOP_CLASS_UID, STUDY_UID, SERIES_UID):
            assert header.uid(tag) == str(file.read[tag].value or "" if tag in file.read else ""), file.name
        for tag in (ROWS, COLUMNS, FRAMES):
            value = str(file.read[tag].value if tag in file.read else "")
            assert header.number(tag) == (int(value) if value.isdigit() else None), file.name


@given(data=st.data())
def test_where_the_bytes_are_cut_changes_nothing(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([file for file in real_files() if len(file.body) < 50_000]))
    reader, at = HeaderReader(file.transfer_syntax), 0
    while at < len(file.body):
        size = data.draw(st.sampled_from((1, 2, 5, 11, 300, 4_000)))
        if reader.feed(file.body[at : at + size]):
            break
        at += size
    else:
        reader.end()
    assert reader.header == read(file.transfer_syntax, file.body)


def test_nothing_behind_the_header_is_looked_at() -> None:
    body = UIDS + element(0x7FE00010, b"OB", b"", 0xFFFFFFFF)
    reader = HeaderReader(EXPLICIT)
    assert reader.feed(body)
    assert reader.feed(b"anything")
    assert reader.header.uid(STUDY_UID) == "1.2"


def test_an_instance_that_names_itself_twice_and_differently_is_refused() -> None:
    same = element(PATIENT_ID, b"LO", b"9990000018")
    assert read(EXPLICIT, same + same + UIDS).values[PATIENT_ID] == b"9990000018"
    with pytest.raises(InvalidRequest, match="twice"):
        read(EXPLICIT, same + element(PATIENT_ID, b"LO", b"9990000026") + UIDS)


def test_what_stands_inside_a_sequence_is_not_the_instance_s_own() -> None:
    inner = item(0xFFFEE000, 0xFFFFFFFF) + element(STUDY_UID, b"UI", b"6.6.6\0") + item(0xFFFEE00D, 0)
    open_sequence = element(0x00081115, b"SQ", inner + item(0xFFFEE0DD, 0), 0xFFFFFFFF)
    closed_sequence = element(0x00081140, b"SQ", inner)
    assert read(EXPLICIT, open_sequence + closed_sequence + UIDS, 3).uid(STUDY_UID) == "1.2"


def test_an_unknown_sequence_of_open_length_is_written_implicitly() -> None:
    implicit = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
    inner = item(0xFFFEE000, 0xFFFFFFFF) + implicit + item(0xFFFEE00D, 0) + item(0xFFFEE0DD, 0)
    assert read(EXPLICIT, element(0x00091010, b"UN", inner, 0xFFFFFFFF) + UIDS, 5).uid(SERIES_UID) == "1.2.3"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (element(0x00091010, b"OB", b"", 0x7FFFFFF0), "behind more bytes"),
        (element(PATIENT_ID, b"UT", b"", 0)[:4] + b"UT\0\0" + struct.pack("<I", 1 << 20), "too long"),
        (
            element(0x00081115, b"SQ", item(0xFFFEE000, 0xFFFFFFFF) * 1, 0xFFFFFFFF) + b"\x08\0\x05\0" + b"??\0\0",
            "no known",
        ),
        (element(0x00081115, b"SQ", element(0x00080005, b"CS", b""), 0xFFFFFFFF), "no item"),
        (element(0x00080005, b"CS", b"") + item(0xFFFEE000, 0), "outside a sequence"),
        (element(0x00080005, b"CS", b"") + element(0x00091010, b"OB", b"", 0xFFFFFFFF), "no length"),
        (
            element(0x00081115, b"SQ", item(0xFFFEE000, 10) + element(0x00080100, b"SH", b"A" * 40), 0xFFFFFFFF)
            + item(0xFFFEE0DD, 0),
            "longer than what holds it",
        ),
    ],
)
def test_what_cannot_be_believed_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read(EXPLICIT, body + UIDS)


def test_nesting_and_elements_are_bounded() -> None:
    deep = (element(0x00081115, b"SQ", b"", 0xFFFFFFFF) + item(0xFFFEE000, 0xFFFFFFFF)) * 65
    with pytest.raises(InvalidRequest, match="nested deeper"):
        read(EXPLICIT, deep)
    with pytest.raises(InvalidRequest, match="too many elements"):
        read(EXPLICIT, element(0x00080005, b"CS", b"") + element(0x00080008, b"CS", b"") * 100_001)


def test_an_instance_that_ends_inside_an_element_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="ends inside an element"):
        read(EXPLICIT, UIDS[:-2])


def test_a_bomb_is_inflated_no_further_than_a_header_goes() -> None:
    squeezed = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = squeezed.compress(element(0x00091010, b"OB", b"", 1 << 30) + bytes(64 << 20)) + squeezed.flush()
    reader = HeaderReader(DEFLATED)
    with pytest.raises(InvalidRequest, match="behind more bytes"):
        reader.feed(bomb)
    with pytest.raises(InvalidRequest, match="damaged"):
        HeaderReader(DEFLATED).feed(b"\xff" * 100)


@given(st.binary(max_size=2_000), st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]))
def test_any_bytes_are_read_or_refused(body: bytes, transfer_syntax: str) -> None:
    try:
        read(transfer_syntax, body, 100)
    except InvalidRequest:
        return


def test_a_reader_who_wants_less_is_done_sooner_and_keeps_nothing_else() -> None:
    patient = element(PATIENT_NAME, b"PN", b"DOE^JANE") + element(PATIENT_ID, b"LO", b"9990000018")
    reader = HeaderReader(EXPLICIT, wanted=frozenset((PATIENT_ID,)))
    assert not reader.feed(patient)
    assert reader.feed(UIDS[:12])
    assert dict(reader.header.values) == {PATIENT_ID: b"9990000018"}
