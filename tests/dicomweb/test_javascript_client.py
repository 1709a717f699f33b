"""dicomweb-client in JavaScript, in a page in Chromium: what viewers in a browser are built on, from another origin.

The browser decides what the page may read of another origin: preflights and every answer's headers are its judgement.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from dicomweb.credentials import Callers
from dicomweb.qido import routes as search_routes
from dicomweb.stow.service import Desk
from dicomweb.stow.service import routes as store_routes
from gateway.model.settings import Limits, QidoEmpty
from tests.dicomweb.image_shelf import ImageShelf, application, content_of, kept_file
from tests.dicomweb.small_region import PUBLIC_URL, Reception, Shelf, served, study
from tests.dicomweb.test_frames import frames_by_pydicom
from tests.dicomweb.test_stow import Tray, whole
from tests.peers import dcmjs

STUDY, SERIES, SOP = "1.2.3", "1.2.3.1", "1.2.3.1.1"
IMAGE = {"studyInstanceUID": STUDY, "seriesInstanceUID": SERIES, "sopInstanceUID": SOP}
HANG_S = 120.0

Call = tuple[str, Mapping[str, object]]


async def nothing(_request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>a viewer</title>", content_type="text/html")


@asynccontextmanager
async def page() -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/", nothing)])
    async with served(app) as origin:
        yield origin


async def called(
    *calls: Call,
    shelf: ImageShelf | None = None,
    found: Shelf | None = None,
    tray: Tray | None = None,
    knows: bool = True,
) -> list[dict[str, Any]]:
    """Make these calls from a page; `knows`: whether its origin is configured."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    async with page() as origin:
        app = application(shelf or ImageShelf(), cors_origins=[origin] if knows else [])
        searches = search_routes(found or Shelf(), Reception(), Limits(), public_url=PUBLIC_URL, empty=QidoEmpty.OK)
        app.add_routes(searches)
        app.add_routes(store_routes(Desk(tray or Tray(), Callers(Reception()), Limits(), PUBLIC_URL)))
        async with served(app) as service:
            wanted = {
                "page": f"{origin}/",
                "service": f"{service}/dicom-web",
                "chromium": chromium,
                "calls": [{"method": method, "options": options} for method, options in calls],
            }
            script = dcmjs.installed().with_name("web_client.js")
            process = await asyncio.create_subprocess_exec(
                *("node", str(script), json.dumps(wanted)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(HANG_S):
                printed, errors = await process.communicate()
    assert printed, errors.decode()
    answers: list[dict[str, Any]] = json.loads(printed)
    return answers


def images(*names: str) -> ImageShelf:
    return ImageShelf([kept_file(name, study=STUDY, series=SERIES, sop=SOP) for name in names])


def decoded(values: Sequence[str]) -> list[bytes]:
    return [base64.b64decode(value) for value in values]


async def test_a_study_is_searched_and_its_rows_are_read() -> None:
    parameters = {"PatientID": "9990000018", "includefield": "all", "limit": "1", "fuzzymatching": "false"}
    [answer] = await called(("searchForStudies", {"queryParams": parameters}), found=Shelf([study(1), study(2)]))
    assert [row["0020000D"]["Value"] for row in answer["value"]] == [["1.2.826.0.1.1"]]


async def test_metadata_and_what_they_name_are_read() -> None:
    [answer, *_] = await called(("retrieveSeriesMetadata", IMAGE), shelf=images("CT_small.dcm"))
    [model] = answer["value"]
    assert model["00280010"]["Value"] == [128]
    assert model["7FE00010"]["BulkDataURI"].startswith(f"{PUBLIC_URL}/studies/{STUDY}/series/{SERIES}/instances/{SOP}/")


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"])
async def test_frames_arrive_as_they_are_kept(name: str) -> None:
    shelf = images(name)
    media = [{"mediaType": "application/octet-stream", "transferSyntaxUID": "*"}]
    options: dict[str, object] = {**IMAGE, "frameNumbers": [1], "mediaTypes": media}
    [answer] = await called(("retrieveInstanceFrames", options), shelf=shelf)
    assert decoded(answer["value"]) == [frames_by_pydicom(shelf.kept[0])[0]]


async def test_instances_are_read_whole() -> None:
    shelf = images("CT_small.dcm")
    by_one, by_study = await called(
        ("retrieveInstance", dict(IMAGE)), ("retrieveStudy", {"studyInstanceUID": STUDY}), shelf=shelf
    )
    assert shelf.kept[0].content in base64.b64decode(by_one["value"])
    [file] = decoded(by_study["value"])
    assert content_of(file) == shelf.kept[0].content


async def test_an_instance_is_stored() -> None:
    tray, file = Tray(), whole("CT_small.dcm")
    [answer] = await called(("storeInstances", {"files": [base64.b64encode(file).decode()]}), tray=tray)
    assert list(tray.kept.values()) == [kept_file("CT_small.dcm").content]
    assert "00081199" in json.loads(answer["value"])


async def test_a_refusal_can_be_told_from_a_fault() -> None:
    [answer] = await called(("retrieveSeriesMetadata", {**IMAGE, "studyInstanceUID": "1.2.9"}))
    assert answer["status"] == 404


async def test_a_page_of_an_origin_that_is_not_configured_reads_nothing() -> None:
    answers = await called(
        ("searchForStudies", {"queryParams": {"PatientID": "9990000018"}}),
        ("retrieveSeriesMetadata", dict(IMAGE)),
        shelf=images("CT_small.dcm"),
        found=Shelf([study(1)]),
        knows=False,
    )
    assert all("value" not in answer for answer in answers)
