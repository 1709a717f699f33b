"""The images that are sent: CT instances as files in memory, from pydicom's bundled CT header and noise.

The same bytes on every machine: only the UIDs differ between instances of one set, and the noise comes from a seeded
generator. The files lie on tmpfs, so that no disk is measured; in four folders, one for each of up to four senders.
"""

from __future__ import annotations

import mmap
import random
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset

PARTS = 4
MEMORY = Path("/dev/shm")
CT, SMALL = (512, 512), (74, 75)
"""Rows and columns: half a megabyte, as CT comes; 12.8 KB, where the cost of each message shows."""
_ROOT_UID = "2.25.27182818284590452353602874"
_FIRST_NUMBER = 100_001
"""UIDs of one length, so that all files of a set are of one size."""


@dataclass(frozen=True, slots=True)
class Objects:
    """A set of files, and what is sent of them."""

    name: str
    folder: Path
    count: int
    file_bytes: int

    def parts(self, associations: int) -> tuple[Path, ...]:
        """The folders for so many senders: all of it for one, a quarter each for four."""
        return (self.folder,) if associations == 1 else tuple(self.folder / f"part-{n}" for n in range(associations))


@dataclass(frozen=True, slots=True)
class Instance:
    """One file, mapped into memory, as a sender needs it."""

    sop_instance_uid: str
    content: memoryview
    """The data set, without the file's preamble and meta information."""


def write(folder: Path, name: str, count: int, size: tuple[int, int]) -> Objects:
    """Write `count` instances of so many rows and columns of 16 bit; equal arguments give equal bytes."""
    rows, columns = size
    dataset = header(rows, columns)
    noise = random.Random(rows)
    for part in range(PARTS):
        (folder / name / f"part-{part}").mkdir(parents=True)
    path = folder
    for number in range(count):
        dataset.SOPInstanceUID = f"{_ROOT_UID}.{rows}.{_FIRST_NUMBER + number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number + 1
        dataset.PixelData = noise.randbytes(rows * columns * 2)
        path = folder / name / f"part-{number % PARTS}" / f"{number + 1:04}.dcm"
        dataset.save_as(path)
    return Objects(name, folder / name, count, path.stat().st_size)


@cache
def load(folder: Path) -> tuple[Instance, ...]:
    """Every instance of a folder and the folders in it, its pages in memory."""
    return tuple(_map(path) for path in sorted(folder.rglob("*.dcm")))


def header(rows: int, columns: int) -> FileDataset:
    """A CT instance of so many rows and columns without its pixels."""
    bundled = get_testdata_file("CT_small.dcm")
    assert isinstance(bundled, str)
    dataset = dcmread(bundled)
    for tag in [element.tag for element in dataset if element.tag.is_private or element.VR == "SQ"]:
        del dataset[tag]
    del dataset[0xFFFCFFFC]
    assert isinstance(dataset, Dataset)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PatientID, dataset.PatientName = "9990000018", "BENCHMARK^P"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{_ROOT_UID}.{rows}", f"{_ROOT_UID}.{rows}.1"
    return dataset


def _map(path: Path) -> Instance:
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | mmap.MAP_POPULATE, mmap.PROT_READ))
    # PS3.10 7.1: 128 bytes, "DICM", the meta group's length, and in that group the UID of the instance.
    (meta_bytes,) = struct.unpack_from("<I", mapped, 140)
    meta = bytes(mapped[144 : 144 + meta_bytes])
    place = meta.index(b"\x02\x00\x03\x00UI") + 6
    (uid_bytes,) = struct.unpack_from("<H", meta, place)
    uid = meta[place + 2 : place + 2 + uid_bytes].rstrip(b"\0").decode()
    return Instance(uid, mapped[144 + meta_bytes :])
