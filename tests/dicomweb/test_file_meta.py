"""The beginning of DICOM files: every one that pydicom brings, and what no file may do to a reader."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import read_file_meta_info

from dicomweb.wado.file_meta import FILE_META_BYTES_MAX, FileMeta, read_file_meta
from gateway.model.errors import InvalidRequest

FILES = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
CLASS, INSTANCE, SYNTAX = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.840.10008.1.2.1"


def element(number: int, vr: bytes, value: bytes) -> bytes:
    long = vr in (b"OB", b"UN")
    length = struct.pack("<I", len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", 2, number) + vr + (b"\0\0" if long else b"") + length + value


def uid(number: int, text: str) -> bytes:
    return element(number, b"UI", text.encode() + b"\0" * (len(text) % 2))


NAMED = uid(2, CLASS) + uid(3, INSTANCE) + uid(16, SYNTAX)
DATA_SET = b"\x08\x00\x05\x00CS\x00\x00"


def file(meta: bytes = NAMED, length: int | None = -1, data_set: bytes = DATA_SET) -> bytes:
    """A file; `length` is what its group length says, -1 the truth, None nothing."""
    said = len(meta) if length == -1 else length
    group = b"" if said is None else element(0, b"UL", struct.pack("<I", said))
    return bytes(128) + b"DICM" + group + meta + data_set


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_files_are_read_as_pydicom_reads_them(path: Path) -> None:
    content = path.read_bytes()
    if content[128:132] != b"DICM":
        with pytest.raises(InvalidRequest):
            read_file_meta(content)
        return
    meta = read_file_meta_info(path)
    try:
        found = read_file_meta(content)
    except InvalidRequest:
        wanted = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
        assert not all(keyword in meta and meta[keyword].value for keyword in wanted)
        return
    assert found is not None
    assert (found.sop_class_uid, found.sop_uid) == (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID)
    assert found.transfer_syntax == meta.TransferSyntaxUID
    assert content[found.data_set_at : found.data_set_at + 2] != b"\x02\x00"


def test_more_bytes_are_asked_for_until_the_data_set_has_begun() -> None:
    for length in (-1, None):
        whole = file(length=length)
        begins = len(whole) - len(DATA_SET)
        for count in range(len(whole) + 1):
            found = read_file_meta(whole[:count])
            if count >= begins + (2 if length is None else 0):
                assert found == FileMeta(CLASS, INSTANCE, SYNTAX, begins)
            else:
                assert found is None


@pytest.mark.parametrize("length", [None, 0, 7, 4_000_000_000])
def test_a_wrong_group_length_moves_nothing(length: int | None) -> None:
    found = read_file_meta(file(length=length))
    assert found is not None and found.data_set_at == len(file(length=length)) - len(DATA_SET)


def test_a_deflated_data_set_that_looks_like_more_of_the_group_is_not_read() -> None:
    found = read_file_meta(file(data_set=b"\x02\x00\x99\x99deflated"))
    assert found is not None and found.data_set_at == len(file()) - len(DATA_SET)


@pytest.mark.parametrize(
    "content",
    [
        bytes(128) + b"DICK",
        b"<html>" * 40,
        file(uid(2, CLASS) + uid(3, INSTANCE)),
        file(uid(2, CLASS) + uid(16, SYNTAX)),
        file(NAMED + uid(3, "1.2.3.5")),
        file(uid(2, CLASS) + uid(3, "../etc/passwd") + uid(16, SYNTAX)),
        file(uid(2, CLASS) + uid(3, "1." * 32 + "1") + uid(16, SYNTAX)),
        file(struct.pack("<HHI", 2, 2, 8) + b"implicit"),
    ],
)
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_file_meta(content)


def test_the_limit_holds_at_the_limit_and_one_past_it() -> None:
    empty = len(file(NAMED + element(0x102, b"OB", b""), data_set=b""))
    room = FILE_META_BYTES_MAX - empty
    assert read_file_meta(file(NAMED + element(0x102, b"OB", bytes(room)))) is not None
    with pytest.raises(InvalidRequest):
        read_file_meta(file(NAMED + element(0x102, b"OB", bytes(room + 1))))
    # A length that is a lie is refused before that much is waited for.
    with pytest.raises(InvalidRequest):
        read_file_meta(file(struct.pack("<HH2sHI", 2, 0x102, b"OB", 0, 0xFFFFFFFF), data_set=b""))


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(content: bytes) -> None:
    try:
        found = read_file_meta(bytes(128) + b"DICM" + content)
    except InvalidRequest:
        return
    assert found is None or found.data_set_at <= 132 + len(content)
