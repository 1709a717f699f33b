"""Real instances that come with pydicom, and pydicom-data where it is installed: encoded, and as pydicom reads them."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_preamble

_BYTES_MAX = 4 * 1024 * 1024


class Real(NamedTuple):
    """A real file: its encoded data set, and the same as pydicom reads it."""

    name: str
    transfer_syntax: str
    body: bytes
    read: Dataset


def real_paths() -> list[Path]:
    """Every file that is there, whatever is in it."""
    folders = [Path(pydicom.data.__file__).parent]
    spec = importlib.util.find_spec("data_store")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent)
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


@cache
def real_files() -> tuple[Real, ...]:
    """Every file with a file meta header."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are broken on purpose
        for path in real_paths():
            if path.stat().st_size <= _BYTES_MAX:
                found += _read(path.name, path.read_bytes())
    return tuple(found)


def real_file(name: str) -> Real:
    """The one of this name."""
    return next(real for real in real_files() if real.name == name)


def _read(name: str, whole: bytes) -> list[Real]:
    if whole[128:132] != b"DICM":
        return []
    try:
        read = dcmread(BytesIO(whole))
        length = int(read.file_meta.FileMetaInformationGroupLength)
        syntax = str(read.file_meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, KeyError):
        return []
    stream = BytesIO(whole)
    read_preamble(stream, False)
    return [Real(name, syntax, whole[stream.tell() + 12 + length :], read)]
