"""Studies of any number and size, made on the spot: the same bytes wherever they are asked for.

One series of CT instances each, from pydicom's bundled header and noise. Instances differ in their UIDs and numbers
alone, all of one length, so that a head is made by replacing digits, and a file gets other UIDs by writing its head
anew: whoever has an instance already would not store it again.
"""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.uid import UID

from bench.rig.dimse import objects
from bench.rig.dimse.objects import CT, SMALL, Objects
from bench.rig.dimse.wire import CT_IMAGE_STORAGE
from policy.parties import NhsNumber

PATIENT = NhsNumber.parse("9990000018")
LARGE = (2048, 2048)
"""Rows and columns: 8 MB an instance, for studies of gigabytes."""
SIZES = {"CT": CT, "small": SMALL, "large": LARGE}
PARTS = 16
"""Folders that a set of files lies in, one for each of up to so many senders."""

_ROOT_UID = "2.25.16180339887498948482045868"
_FIRST_STUDY, _FIRST_INSTANCE = 200_000, 100_001


@dataclass(frozen=True, slots=True)
class Study:
    """A study of so many instances of one size."""

    number: int
    count: int
    size: str = "CT"
    """A name in `SIZES`."""
    frames: int = 1
    """In each of its instances."""

    @property
    def uid(self) -> str:
        """Its Study Instance UID."""
        return f"{_ROOT_UID}.{_FIRST_STUDY + self.number}"

    @property
    def series_uid(self) -> str:
        """The UID of its one series."""
        return f"{self.uid}.1"

    def sop_uid(self, index: int) -> str:
        """The UID of an instance, counted from 0."""
        return f"{self.series_uid}.{_FIRST_INSTANCE + index}"

    @property
    def file_bytes(self) -> int:
        """How long each of its instances is as a file."""
        head, frame = _template(self.size, self.frames)
        return len(head) + self.frames * len(frame)

    def head(self, index: int) -> bytes:
        """What stands in the file of an instance before its pixels."""
        head, _ = _template(self.size, self.frames)
        head = head.replace(str(_FIRST_STUDY).encode(), str(_FIRST_STUDY + self.number).encode())
        return head.replace(str(_FIRST_INSTANCE).encode(), str(_FIRST_INSTANCE + index).encode())

    @property
    def frame(self) -> bytes:
        """The pixels of one frame; the rest of each file is nothing but this, again and again."""
        return _template(self.size, self.frames)[1]

    def rows(self, first: int, count: int) -> str:
        """The DICOM JSON rows of some of its instances, as an archive answers (PS3.18 Table 10.6.3-5)."""
        indexes = range(first, min(self.count, first + count))
        return "[" + ",".join(self._row(index) for index in indexes) + "]"

    def _row(self, index: int) -> str:
        # Written by hand: ten thousand of them are to cost next to nothing.
        return _ROW.replace("STUDY", self.uid).replace("NUMBER", str(_FIRST_INSTANCE + index))


def with_uid(studies: Sequence[Study], uid: str) -> Study | None:
    """The study of a UID."""
    return next((study for study in studies if study.uid == uid), None)


def write(folder: Path, name: str, study: Study, parts: int = PARTS) -> Objects:
    """Write a study as files into folders of their own for so many senders."""
    for part in range(parts):
        (folder / name / f"part-{part:02}").mkdir(parents=True)
    for index in range(study.count):
        path = folder / name / f"part-{index % parts:02}" / f"{index:05}.dcm"
        path.write_bytes(study.head(index) + study.frame * study.frames)
    return Objects(name, folder / name, study.count, study.file_bytes)


def rewrite(files: Objects, study: Study) -> None:
    """Give files the UIDs of another study of their count and size."""
    for path in files.folder.rglob("*.dcm"):
        with path.open("r+b") as file:
            file.write(study.head(int(path.stem)))


def parts(files: Objects, senders: int) -> list[list[Path]]:
    """The folders for each of so many senders: its share of the parts."""
    everything = sorted(files.folder.iterdir())
    return [everything[sender::senders] for sender in range(senders)]


@cache
def _template(size: str, frames: int) -> tuple[bytes, bytes]:
    """The file of the first instance of the first study, cut before its pixels; and those of one frame."""
    rows, columns = SIZES[size]
    dataset = objects.header(rows, columns)
    first = Study(0, 1, size)
    dataset.SOPInstanceUID = first.sop_uid(0)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(first.sop_uid(0))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = first.uid, first.series_uid
    dataset.PatientID, dataset.IssuerOfPatientID = PATIENT.digits, "NHS"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, _FIRST_INSTANCE
    dataset.PixelData = random.Random(rows).randbytes(rows * columns * 2)
    if frames > 1:
        dataset.NumberOfFrames = frames
    file = io.BytesIO()
    dataset.save_as(file)
    whole = file.getvalue()
    frame_bytes = len(dataset.PixelData)
    # Explicit VR (PS3.5 7.1.2): the last thing before the value is its length.
    head = whole[: -frame_bytes - 4] + struct.pack("<I", frames * frame_bytes)
    return head, whole[-frame_bytes:]


def _elements() -> Iterator[tuple[str, str, object]]:
    yield "00080005", "CS", "ISO_IR 100"
    yield "00080016", "UI", CT_IMAGE_STORAGE
    yield "00080018", "UI", "STUDY.1.NUMBER"
    yield "00080020", "DA", "20040119"
    yield "00080056", "CS", "ONLINE"
    yield "00080060", "CS", "CT"
    yield "00080061", "CS", "CT"
    yield "00100010", "PN", {"Alphabetic": "BENCHMARK^P"}
    yield "00100020", "LO", PATIENT.digits
    yield "00100021", "LO", "NHS"
    yield "0020000D", "UI", "STUDY"
    yield "0020000E", "UI", "STUDY.1"
    yield "00200011", "IS", 1


_ROW = json.dumps(
    {
        **{tag: {"vr": vr, "Value": [value]} for tag, vr, value in _elements()},
        "00200013": {"vr": "IS", "Value": [0]},
    },
    separators=(",", ":"),
).replace('"00200013":{"vr":"IS","Value":[0]}', '"00200013":{"vr":"IS","Value":[NUMBER]}')
