"""A gateway process with a viewer, without one, and with one that was changed; and what its operator is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.web.viewer import release
from gateway.web.viewer.installation import NotServed, examine
from tests.gateway.node import Node

INSTALLED = Path(__file__).parents[2] / "var" / "viewer"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def folder(node: Node) -> Path:
    """The viewer in this node's own folder."""
    if isinstance(found := examine(INSTALLED), NotServed):
        pytest.skip(f"the viewer is not served: {found.reason}; make viewer fetches it")
    folder = node.folder / "var" / "viewer"
    shutil.copytree(INSTALLED, folder)
    return folder


async def test_without_a_viewer_the_gateway_serves_all_else_and_says_so(node: Node) -> None:
    async with node.serving() as serving:
        told = await serving.logged("viewer not served", level="info")
        status, _ = await serving.get(serving.machines.removesuffix("/dicom-web") + "/viewer", node.pacs)
        _, said = await serving.get(f"{serving.people}/status")
        assert (await serving.get(f"{serving.people}/ready"))[0] == 200
    assert (told["reason"], status) == ("it is not installed", 404)
    assert json.loads(said)["viewer"] == "not served: it is not installed"
    assert (await node.run("viewer", "status")).status == 1


async def test_a_viewer_that_was_changed_is_not_served_and_an_alarm_says_so(node: Node, folder: Path) -> None:
    with (folder / release.PAGE).open("ab") as page:
        page.write(b"<!-- -->")
    async with node.serving() as serving:
        await serving.logged("viewer not served", level="error", alarm=True)
        status, _ = await serving.get(serving.machines.removesuffix("/dicom-web") + "/viewer", node.pacs)
        assert (await serving.get(f"{serving.people}/ready"))[0] == 200
    assert status == 404
    assert "viewer.folder: it is not served" in (await node.run("check")).output


async def test_an_installed_viewer_is_named_at_the_start_and_served_to_callers_alone(node: Node, folder: Path) -> None:
    stranger = node.authority.issue("stranger.example")
    async with node.serving() as serving:
        ready = await serving.logged("ready")
        address = serving.machines.removesuffix("/dicom-web") + "/viewer"
        known, page = await serving.get(address, node.pacs)
        unknown, _ = await serving.get(address, stranger)
        at_people, _ = await serving.get(f"{serving.people}/viewer")
    assert urlsplit(str(ready["viewer"])).path == "/viewer"
    assert (known, unknown, at_people) == (200, 401, 404)
    assert page == (folder / release.PAGE).read_text(encoding="utf-8")
    shown = await node.run("viewer", "status", "--json")
    assert (shown.status, json.loads(shown.output)["served"]) == (0, True)


async def test_a_package_that_is_not_the_release_is_refused_in_words(node: Node, tmp_path: Path) -> None:
    package = tmp_path / "ohif.tgz"
    package.write_bytes(b"anything")
    ended = await node.run("viewer", "install", str(package))
    assert ended.status == 2
    assert f"is not {release.PACKAGE} {release.VERSION} as it was published" in ended.errors + ended.output
    assert not (node.folder / "var" / "viewer").exists()
