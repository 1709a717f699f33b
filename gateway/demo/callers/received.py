"""What a user can notice of images that were asked for, whichever protocol brought them.

The twin of `answer` for retrieval: stories over C-MOVE, C-GET and WADO-RS judge by this alone. Images are held as the
bytes of their encoded data sets, so that "bit for bit" can be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Protocol

from pydicom import dcmread
from pydicom.dataset import FileDataset

from gateway.demo.callers.answer import Outcome

_META_AT: Final = 144
"""Preamble, prefix, and the length of the file meta information's group (PS3.10 7.1)."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image as it arrived."""

    transfer_syntax: str
    encoded: bytes
    """The data set, without preamble and file meta information."""
    file: bytes
    """The same as a DICOM file."""

    @property
    def dataset(self) -> FileDataset:
        """The image, read."""
        return dcmread(BytesIO(self.file))


class Received(Protocol):
    """One answer with images."""

    @property
    def outcome(self) -> Outcome:
        """How the retrieval ended; `ANSWERED` also for one of nothing."""

    @property
    def images(self) -> Mapping[str, Image]:
        """Every image that arrived whole, by its SOP Instance UID."""

    @property
    def is_whole(self) -> bool:
        """Whether it is said that everything has come."""

    @property
    def told(self) -> str:
        """What is said beside the images, or in their place."""

    @property
    def comparable(self) -> object:
        """All of it that could be held against another answer; neither time nor request ids."""


def image_of(file: bytes) -> tuple[str, Image]:
    """An image from the bytes of its file, and the UID that its file meta information gives."""
    meta = dcmread(BytesIO(file), stop_before_pixels=True, specific_tags=[]).file_meta
    length = int.from_bytes(file[_META_AT - 4 : _META_AT], "little")
    return str(meta.MediaStorageSOPInstanceUID), Image(str(meta.TransferSyntaxUID), file[_META_AT + length :], file)


def stored_image(path: Path) -> Image:
    """An image as it lies in an archive's folder."""
    return image_of(path.read_bytes())[1]
