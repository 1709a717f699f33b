"""The viewer over HTTP: for callers of DICOMweb alone, file by file, and with what keeps a browser at home."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from dicomweb.credentials import Callers
from dicomweb.listener import edge
from gateway.edges import viewer
from gateway.model.settings import Limits
from gateway.web.pages import NOTICE
from gateway.web.viewer import instructions
from gateway.web.viewer.installation import Installation
from gateway.web.viewer.release import BuildFile
from tests.dicomweb.small_region import Reception, served

DICOMWEB = "https://gateway.example/dicom-web"
PAGE = (
    b'<html><script>window.PUBLIC_URL="/"</script><script defer src="/app.bundle.0f6159c501addfe9.js"></script></html>'
)
PROGRAM = b"run();\n" * 100_000
FILES = {
    "index.html": PAGE,
    "app.bundle.0f6159c501addfe9.js": PROGRAM,
    "5130ccb17e3f3f5b.wasm": bytes(range(256)),
    "assets/favicon.ico": b"icon",
    "assets/empty.css": b"",
}


@asynccontextmanager
async def serving(folder: Path, *, knows_nobody: bool = False, region: str = "Demo region") -> AsyncIterator[str]:
    for name, body in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    files = tuple(BuildFile(name, hashlib.sha256(body).hexdigest(), len(body)) for name, body in FILES.items())
    callers = Callers(Reception(knows_nobody=knows_nobody))
    application = web.Application(middlewares=[edge(Limits(), new_id=lambda: "request-1")])
    application.add_routes(viewer.routes(viewer.Viewer(Installation(folder, files), callers, DICOMWEB, region)))
    async with served(application) as origin:
        yield origin


async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, URL(url, encoded=True), headers={"Accept-Encoding": "identity", **named}) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.read()


@pytest.mark.parametrize("path", ["/", "/viewer", "/viewer?StudyInstanceUIDs=1.2.3", "/segmentation"])
async def test_the_page_is_found_wherever_the_program_reads_its_address(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as origin:
        status, headers, body = await get(origin + path)
    assert (status, headers["Content-Type"], body) == (200, "text/html; charset=utf-8", PAGE)


@pytest.mark.parametrize("name", sorted(FILES))
async def test_every_file_arrives_as_it_is_packed_or_not(tmp_path: Path, name: str) -> None:
    path = "/" if name == "index.html" else f"/{name}"
    async with serving(tmp_path) as origin:
        plain, packed = await get(origin + path), await get(origin + path, Accept_Encoding="gzip")
    assert plain[2] == FILES[name]
    assert (gzip.decompress(packed[2]) if "Content-Encoding" in packed[1] else packed[2]) == FILES[name]


async def test_a_stranger_gets_nothing_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path, knows_nobody=True) as origin:
        for path in ("/", "/viewer", "/app-config.js", "/app.bundle.0f6159c501addfe9.js"):
            status, _, body = await get(origin + path)
            assert status == 401
            assert b"run()" not in body and b"dicom-web" not in body


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/index.html/..",
            "/../index.html",
            "/assets/../../secret",
            "/assets/%2e%2e/%2e%2e/secret",
            "/assets/",
            "/assets",
        ),
        *("//etc/passwd", "/%2fetc/passwd", "/assets/favicon.ico/", "/assets%2ffavicon.ico%00", "/secret", "/viewer/"),
    ],
)
async def test_nothing_but_the_files_of_the_release_is_found(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "viewer"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    async with serving(folder) as origin:
        status, _, body = await get(origin + path)
    assert status == 404 and b"secret" not in body


async def test_browsers_keep_what_never_changes_and_ask_after_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path) as origin:
        _, program, _ = await get(f"{origin}/app.bundle.0f6159c501addfe9.js")
        _, page, _ = await get(f"{origin}/viewer")
        status, _, body = await get(f"{origin}/viewer", If_None_Match=page["Etag"])
        _, told, _ = await get(f"{origin}/app-config.js")
    assert "immutable" in program["Cache-Control"] and "private" in program["Cache-Control"]
    assert page["Cache-Control"] == told["Cache-Control"] == "private, no-cache"
    assert (status, body) == (304, b"")


async def test_head_says_what_get_would(tmp_path: Path) -> None:
    async with serving(tmp_path) as origin:
        for path in ("/viewer", "/app-config.js", "/5130ccb17e3f3f5b.wasm"):
            status, headers, body = await get(origin + path, "HEAD")
            assert (status, body) == (200, b"")
            assert headers["Content-Type"] == (await get(origin + path))[1]["Content-Type"]


def directives(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in policy.split(";"))}


async def test_the_browser_may_load_from_nowhere_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as origin:
        answers = [await get(origin + path) for path in ("/viewer", "/app-config.js", "/assets/favicon.ico")]
    for _, headers, _ in answers:
        policy = directives(headers["Content-Security-Policy"])
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
        sources = {value for values in policy.values() for value in values}
        assert {value for value in sources if "//" in value or "*" in value} == {"https://gateway.example"}
        assert "'unsafe-inline'" not in policy["script-src"]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_scripts_in_the_page_are_allowed_by_what_is_in_them() -> None:
    policy = directives(instructions.headers(PAGE.decode(), DICOMWEB)["Content-Security-Policy"])
    digests = [value for value in policy["script-src"] if value.startswith("'sha256-")]
    digest = base64.b64encode(hashlib.sha256(b'window.PUBLIC_URL="/"').digest()).decode()
    assert digests == [f"'sha256-{digest}'"]


def configured(script: str) -> dict[str, object]:
    matched = re.match(r"window\.config = (.*);\n", script)
    assert matched is not None
    found: dict[str, object] = json.loads(matched.group(1))
    return found


def source_of(told: dict[str, object]) -> dict[str, object]:
    sources = told["dataSources"]
    assert isinstance(sources, list) and len(sources) == 1
    found: dict[str, object] = sources[0]["configuration"]
    return found


def test_the_viewer_is_told_of_this_gateway_alone_and_of_no_list_of_studies() -> None:
    told = configured(instructions.configuration(DICOMWEB, "Demo region"))
    addresses = {value for value in source_of(told).values() if "/" in str(value)}
    assert addresses == {DICOMWEB}
    assert told["showStudyList"] is False


def test_the_sentence_on_lists_goes_with_the_viewer() -> None:
    assert NOTICE in instructions.configuration(DICOMWEB, "Demo region")


@pytest.mark.parametrize("region", ["</script><script>alert(1)</script>", '"; alert(1); "', "\u2028alert(1)", "\\"])
def test_what_a_region_calls_itself_cannot_run(region: str) -> None:
    script = instructions.configuration(DICOMWEB, region)
    assert "</script" not in script and script.isascii()
    assert source_of(configured(script))["friendlyName"] == region
