"""Instances out of files, as a retrieval hands them out: `Item`s held in memory."""

from __future__ import annotations

import contextlib
import subprocess
import warnings
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.data.data_manager import DATA_ROOT
from pydicom.errors import InvalidDicomError

from gateway.model.errors import Damaged
from gateway.model.work.transfers import InstanceRef
from policy.parties import TrustId
from tests.peers.dcmtk import program

EASTVALE = TrustId("RZ2")


@dataclass(frozen=True)
class MemoryItem:
    """See `Item`. `cut_at`: it turns out to be damaged there."""

    ref: InstanceRef
    transfer_syntax: str
    content: bytes
    source: TrustId = EASTVALE
    etag: str = ""
    piece_bytes: int = 1_000_001
    cut_at: int | None = None

    @property
    def data_bytes(self) -> int:
        """See `Item`."""
        return len(self.content)

    def open(self, first: int = 0, last: int | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `Item`."""
        return self._opened(first, last)

    async def metadata(self) -> bytes:
        """See `Item`."""
        return b"{}"

    @contextlib.asynccontextmanager
    async def _opened(self, first: int, last: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._pieces(self.content[first : None if last is None else last + 1])

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), self.piece_bytes):
            if self.cut_at is not None and start >= self.cut_at:
                raise Damaged("what was kept is not as it was sealed")
            yield content[start : start + self.piece_bytes]


def item_of(path: Path) -> MemoryItem:
    """The instance in a file: its encoded data set as it stands there."""
    with path.open("rb") as file:
        dataset = dcmread(file, stop_before_pixels=True)
    meta = dataset.file_meta
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (dataset.SOPClassUID, dataset.SOPInstanceUID):
        raise ValueError("the file says two things of what it holds")
    # Preamble, prefix, and a group length of twelve bytes that counts what follows it.
    head_bytes = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    ref = InstanceRef(
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.MediaStorageSOPClassUID),
    )
    return MemoryItem(ref, str(meta.TransferSyntaxUID), path.read_bytes()[head_bytes:])


def items_in(folder: Path) -> dict[str, MemoryItem]:
    """What a receiver filed, by SOP Instance UID."""
    return {item.ref.sop_uid: item for item in map(item_of, folder.iterdir())}


def real_files() -> list[Path]:
    """Of pydicom's own files one for every class and transfer syntax that is an instance of a study, no UID twice."""
    chosen: dict[tuple[str, str], Path] = {}
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are odd on purpose
        for path in sorted(Path(DATA_ROOT, "test_files").glob("*.dcm")):
            try:
                item = item_of(path)
            except (InvalidDicomError, AttributeError, NotImplementedError, ValueError, TypeError):
                continue  # made to be unreadable, or no instance of a study
            ref, kind = item.ref, (item.ref.sop_class_uid, item.transfer_syntax)
            is_whole = all((ref.sop_uid, ref.series_uid, ref.study_uid, item.content))
            if is_whole and kind not in chosen and ref.sop_uid not in seen:
                chosen[kind] = path
                seen.add(ref.sop_uid)
    return list(chosen.values())


def as_dcmtk_writes(files: Iterable[Path], folder: Path) -> list[Path]:
    """The same instances in the encoding that DCMTK gives them, so that what it reads and sends stays the same to the
    byte: without group lengths and padding. Skips the test where it is not installed.
    """
    written = []
    for path in files:
        target = folder / path.name
        subprocess.run([program("dcmconv"), "-g", "-p", str(path), str(target)], check=True, capture_output=True)
        with contextlib.suppress(ValueError):  # it makes a file that contradicts itself out of one with odd UIDs
            item_of(target)
            written.append(target)
    return written
