"""The viewer as it lies in its folder: unpacked from the package as published, and examined before it is served.

What differs in one byte from the release that is known is not served at all: the file may be a stranger's script, and
it would run with the rights of every clinician who opens it. Reads and writes that folder, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.model.errors import ConfigurationError
from gateway.web.viewer import release
from gateway.web.viewer.release import BuildFile

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Installation:
    """A viewer that may be served."""

    folder: Path
    files: tuple[BuildFile, ...]

    def path_of(self, file: BuildFile) -> Path:
        """Where it lies."""
        return self.folder / file.name


@dataclass(frozen=True, slots=True)
class NotServed:
    """Why there is no viewer."""

    reason: str
    is_alarming: bool
    """Whether something lies there that is not the release: an accident at best."""


def examine(folder: Path, build_sha256: str = release.BUILD_SHA256) -> Installation | NotServed:
    """Read every file of the folder once; what may be served, or why nothing is. Raises nothing."""
    if not folder.is_dir():
        return NotServed("it is not installed", is_alarming=False)
    try:
        files = tuple(_read(folder))
    except (OSError, ValueError) as error:
        return NotServed(f"its folder cannot be read: {type(error).__name__}", is_alarming=True)
    if digest_of(files) != build_sha256:
        return NotServed(f"its files are not those of {release.PACKAGE} {release.VERSION}", is_alarming=True)
    return Installation(folder, files)


def digest_of(files: Sequence[BuildFile]) -> str:
    """One digest for all: of each file's digest and name, in the order of names, as `sha256sum` writes them."""
    lines = sorted(f"{file.sha256}  {file.name}\n" for file in files)
    return hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:])).encode("ascii")).hexdigest()


def install(package: Path, folder: Path, package_sha512: str = release.PACKAGE_SHA512) -> None:
    """Unpack a package into a folder, in place of what is there. Raises `ConfigurationError`.

    Another package than the one that is known is not opened.
    """
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").hexdigest()
        if digest != package_sha512:
            raise ConfigurationError([f"{package}: is not {release.PACKAGE} {release.VERSION} as it was published"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpacked = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            with tarfile.open(package, "r:gz") as archive:
                _unpack(archive, unpacked)
            unpacked.chmod(0o755)
            _take_place(unpacked, folder)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
    except (OSError, tarfile.TarError) as error:
        raise ConfigurationError([f"{package}: cannot be unpacked into {folder}: {error}"]) from error


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    files, left_bytes = 0, release.BUILD_BYTES_MAX
    for member in archive:
        name = member.name.removeprefix(release.BUILD_FOLDER)
        if not member.isfile() or name == member.name or not release.is_served(name):
            continue
        files, left_bytes = files + 1, left_bytes - member.size
        if files > release.FILES_MAX or member.size > release.FILE_BYTES_MAX or left_bytes < 0:
            raise tarfile.TarError("it is larger than a viewer is")
        source = archive.extractfile(member)
        assert source is not None
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _PIECE_BYTES)
        target.chmod(0o644)


def _take_place(unpacked: Path, folder: Path) -> None:
    """Put the new folder where the old one is; of both, one is there if this is interrupted between two steps."""
    old = unpacked.with_name(f"{unpacked.name}-old")
    if folder.exists():
        folder.rename(old)
    unpacked.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path) -> Iterator[BuildFile]:
    """Every file below the folder; raises `ValueError` for what a release never holds."""
    files, left_bytes = 0, release.BUILD_BYTES_MAX
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if (Path(where) / name).is_symlink():
                raise ValueError("a link")
        for name in names:
            path = Path(where) / name
            size = path.stat().st_size
            files, left_bytes = files + 1, left_bytes - size
            if files > release.FILES_MAX or size > release.FILE_BYTES_MAX or left_bytes < 0:
                raise ValueError("too much")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            relative = path.relative_to(folder).as_posix()
            if not release.is_served(relative):
                raise ValueError("a name")
            yield BuildFile(relative, digest, size)
