"""The viewer's folder: filled from the one package that is known, and served only while it is what was in it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from gateway.model.errors import ConfigurationError
from gateway.web.viewer import release
from gateway.web.viewer.installation import Installation, NotServed, digest_of, examine, install
from gateway.web.viewer.release import BuildFile, is_served

BUILD = {"index.html": b"<html></html>", "assets/favicon.ico": b"icon", "app.bundle.0f6159c501addfe9.js": b"run()"}
LEFT_OUT = {"ort/ort.js": b"large", "app-config.js": b"elsewhere", "sw.js": b"worker", "8.js.map": b"map"}


def package(folder: Path, files: dict[str, bytes], *, links: dict[str, str] | None = None) -> tuple[Path, str]:
    """A package as npm packs it, and its digest."""
    path = folder / "viewer.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path, hashlib.sha512(path.read_bytes()).hexdigest()


def built(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{release.BUILD_FOLDER}{name}": content for name, content in files.items()}


def digest(files: dict[str, bytes]) -> str:
    return digest_of([BuildFile(name, hashlib.sha256(body).hexdigest(), len(body)) for name, body in files.items()])


def found_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path, known = package(tmp_path, built(BUILD | LEFT_OUT))
    install(path, tmp_path / "viewer", known)
    return tmp_path / "viewer"


def test_what_the_viewer_needs_is_unpacked_and_nothing_else(installed: Path) -> None:
    assert found_in(installed) == BUILD
    assert [path.name for path in installed.parent.iterdir() if path.is_dir()] == ["viewer"]


def test_a_viewer_as_it_was_published_is_served(installed: Path) -> None:
    found = examine(installed, digest(BUILD))
    assert isinstance(found, Installation)
    assert {file.name for file in found.files} == set(BUILD)


def test_another_package_is_not_opened(tmp_path: Path) -> None:
    path, _ = package(tmp_path, built(BUILD))
    with pytest.raises(ConfigurationError, match="is not @ohif/app"):
        install(path, tmp_path / "viewer")
    assert not (tmp_path / "viewer").exists()


def test_a_package_takes_the_place_of_the_one_before(installed: Path, tmp_path: Path) -> None:
    path, known = package(tmp_path, built({"index.html": b"new"}))
    install(path, installed, known)
    assert found_in(installed) == {"index.html": b"new"}


@pytest.mark.parametrize(
    "name", ["../outside.js", "/etc/outside.js", "a/../../outside.js", ".hidden", "a//b.js", "a\\b"]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    path, known = package(tmp_path, built(BUILD | {name: b"x"}) | {"package/dist/../../up.js": b"x"})
    install(path, tmp_path / "viewer", known)
    assert found_in(tmp_path / "viewer") == BUILD
    assert not is_served(name)


def test_a_link_in_a_package_is_not_followed_and_not_made(tmp_path: Path) -> None:
    path, known = package(tmp_path, built(BUILD), links={f"{release.BUILD_FOLDER}passwd": "/etc/passwd"})
    install(path, tmp_path / "viewer", known)
    assert found_in(tmp_path / "viewer") == BUILD


def test_a_folder_that_is_not_there_is_no_alarm(tmp_path: Path) -> None:
    assert examine(tmp_path / "viewer") == NotServed("it is not installed", is_alarming=False)


def changed(folder: Path) -> None:
    (folder / "index.html").write_bytes(b"<html>evil</html>")


def added(folder: Path) -> None:
    (folder / "evil.js").write_bytes(b"evil()")


def taken_away(folder: Path) -> None:
    (folder / "assets" / "favicon.ico").unlink()


def renamed(folder: Path) -> None:
    (folder / "index.html").rename(folder / "page.html")


def linked(folder: Path) -> None:
    target = folder.parent / "page"
    (folder / "index.html").rename(target)
    (folder / "index.html").symlink_to(target)


def hidden(folder: Path) -> None:
    (folder / ".htaccess").write_bytes(b"x")


@pytest.mark.parametrize("tampering", [changed, added, taken_away, renamed, linked, hidden], ids=lambda f: f.__name__)
def test_a_folder_that_differs_in_anything_is_an_alarm_and_not_served(installed: Path, tampering: object) -> None:
    assert callable(tampering)
    tampering(installed)
    found = examine(installed, digest(BUILD))
    assert isinstance(found, NotServed) and found.is_alarming


def test_the_digest_is_that_of_sha256sum(installed: Path) -> None:
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=installed, capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == digest(BUILD)


@pytest.mark.parametrize(
    ("name", "is_immutable"),
    [
        ("app.bundle.0f6159c501addfe9.js", True),
        ("37fa160cc3a47cfd.wasm", True),
        ("app.bundle.css", False),
        ("index.html", False),
        ("dicom-microscopy-viewer/dataLoader.worker.min.js", False),
    ],
)
def test_only_a_file_that_is_named_by_what_is_in_it_never_changes(name: str, is_immutable: bool) -> None:
    assert BuildFile(name, "0" * 64, 1).is_immutable is is_immutable
