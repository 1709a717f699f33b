"""What every request passes: ids, refusals, preflights, compression, and bugs that show nothing."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import aiohttp
import pytest
import structlog
from aiohttp import web
from yarl import URL

from dicomweb.listener import GZIP_BYTES_MIN, edge, request_ids, server_options
from gateway.model.settings import Limits
from tests.dicomweb.small_region import Reception, Shelf, application, ask, served, serving, study

ORIGIN = "https://viewer.northmoor.example"


def test_a_well_formed_correlation_id_stands_before_ours_and_any_other_is_dropped() -> None:
    assert request_ids("own", "viewer-7") == "viewer-7/own"
    assert request_ids("own", "a" * 100) == f"{'a' * 100}/own"
    for bad in ("", "a" * 101, "-a", "a b", "a\nb", "<x>", "é"):
        assert request_ids("own", bad) == "own"


async def test_an_answer_carries_the_id_under_which_it_was_asked() -> None:
    shelf = Shelf([study(1)])
    answer = await ask(shelf, "/studies", headers={"Gateway-Correlation": "viewer-7"})
    assert answer.headers["Gateway-Correlation"] == shelf.caller.request_id == "viewer-7/request-1"


@pytest.mark.parametrize("path", ["/studies", "/studies?StudyDate=x", "/nonsense"])
async def test_answers_are_kept_out_of_caches_and_name_no_software(path: str) -> None:
    headers = (await ask(Shelf([study(1)]), path)).headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert headers["Server"] == "image-sharing-gateway"


@pytest.mark.parametrize("path", ["/nonsense", "/studies/1.2", "/studies/1.2/metadata", "", "/", "/trust/RJ1"])
async def test_a_path_that_is_none_of_ours_is_a_problem(path: str) -> None:
    answer = await ask(Shelf(), path)
    assert answer.status == answer.problem["status"] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_method_that_a_search_has_not_is_a_problem_that_names_those_it_has(method: str) -> None:
    answer = await ask(Shelf(), "/studies", method=method, data=b"x")
    assert answer.status == answer.problem["status"] == 405
    assert (answer.headers["Allow"], answer.headers["Connection"]) == ("GET, HEAD, OPTIONS", "close")


async def test_head_is_answered_like_get_without_a_body() -> None:
    shelf = Shelf([study(1)])
    with_body, without = await ask(shelf, "/studies"), await ask(shelf, "/studies", method="HEAD")
    assert without.status == 200 and without.body == b""
    assert int(without.headers["Content-Length"]) == int(with_body.headers["Content-Length"]) == len(with_body.body)


@pytest.mark.parametrize("body", [b"x", b""])
async def test_a_search_with_a_body_is_refused_and_the_connection_closed(body: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    shelf = Shelf()
    answer = await ask(shelf, "/studies", data=chunks())
    assert (answer.status, answer.headers["Connection"]) == (400, "close")
    assert shelf.questions == []


async def test_a_head_is_as_long_as_its_limit_and_no_longer() -> None:
    limits = replace(Limits(), request_head_bytes_max=2_000)
    async with served(application(Shelf(), limits=limits), limits) as origin, aiohttp.ClientSession() as session:
        statuses = []
        for filling in (1_500, 1_999):
            headers = {"X-A": "a" * (filling // 2), "X-B": "b" * (filling // 2)}
            async with session.get(f"{origin}/dicom-web/studies", headers=headers) as response:
                statuses.append(response.status)
    assert statuses == [200, 431]


async def test_a_preflight_of_a_known_origin_is_answered_and_of_another_is_not() -> None:
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "Gateway-Purpose"}
    async with (
        served(application(Shelf(), cors_origins=[ORIGIN])) as origin,
        aiohttp.ClientSession(f"{origin}/dicom-web/") as session,
    ):
        async with session.options("studies", headers={"Origin": ORIGIN, **preflight}) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Gateway-Purpose" in response.headers["Access-Control-Allow-Headers"]
            assert "GET" in response.headers["Access-Control-Allow-Methods"]
        for stranger in ("https://evil.example", "null", f"{ORIGIN}.evil.example", ORIGIN.upper()):
            async with session.options("studies", headers={"Origin": stranger, **preflight}) as response:
                assert not any(name.startswith("Access-Control") for name in response.headers)
        async with session.options("nonsense", headers={"Origin": ORIGIN, **preflight}) as response:
            assert response.status == 404


async def test_a_known_origin_may_read_the_answer_and_its_notices() -> None:
    async with (
        served(application(Shelf([study(1)]), cors_origins=[ORIGIN])) as origin,
        aiohttp.ClientSession() as session,
        session.get(f"{origin}/dicom-web/studies", headers={"Origin": ORIGIN}) as response,
    ):
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert {"Warning", "Gateway-Sources"} <= set(response.headers["Access-Control-Expose-Headers"].split(", "))


async def test_long_answers_are_compressed_for_those_who_accept_it() -> None:
    shelf = Shelf([study(number) for number in range(5)])
    plain = await ask(shelf, "/studies", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers and len(plain.body) > GZIP_BYTES_MIN
    small = await ask(shelf, "/studies", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip" and gzip.decompress(small.body) == plain.body
    assert "Accept-Encoding" in small.headers["Vary"]
    empty = await ask(shelf, "/studies?limit=0", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in empty.headers


async def test_a_bug_is_logged_with_the_request_and_shown_to_nobody() -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        answer = await ask(Shelf(error=ValueError("PatientID 9990000018")), "/studies")
    assert answer.status == 500 and b"9990000018" not in answer.body
    [failed] = [entry for entry in logs if entry["event"] == "request failed"]
    assert failed["request"] == "request-1" and failed["route"] == "/dicom-web/studies"


async def test_no_log_line_holds_the_question(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        for path in (
            "/studies?PatientID=9990000018",
            "/9990000018",
            "/studies/9990000018x/series?PatientID=9990000018",
        ):
            await ask(Shelf(), path)
        async with serving(Shelf()) as base:
            await _send_raw(base, b"GET /dicom-web/studies?PatientID=9990000018 HTTP/9.x\r\n\r\n")
            await _send_raw(base, b"GET /dicom-web/studies HTTP/1.1\r\nPatientID 9990000018\r\n\r\n")
    assert "9990000018" not in str(logs) + caplog.text
    assert [entry["event"] for entry in logs].count("request refused by the parser") == 2


async def _send_raw(base: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    limits = replace(Limits(), keepalive_timeout_s=0.05)
    answered = asyncio.Event()

    async def much(request: web.Request) -> web.Response:
        answered.set()
        return web.Response(body=bytes(64 * 1024 * 1024))

    under_way = asyncio.Event()
    over = asyncio.Event()

    @contextmanager
    def watched(_request: web.Request) -> Iterator[None]:
        under_way.set()
        try:
            yield
        finally:
            over.set()

    app = web.Application(middlewares=[edge(limits, new_id=lambda: "r", under_way=watched)])
    app.router.add_get("/", much)
    async with served(app, limits) as origin:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(origin.rsplit(":", 1)[1]), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: identity\r\n\r\n")
        await asyncio.wait_for(over.wait(), 30)
        assert under_way.is_set()
        # What was in flight may still be read; the whole never comes.
        received = 0
        try:
            while chunk := await reader.read(1024 * 1024):
                received += len(chunk)
        except ConnectionError:
            pass
        assert received < 64 * 1024 * 1024
        writer.close()


def test_the_server_is_told_to_write_no_access_log() -> None:
    assert server_options(Limits())["access_log"] is None


async def test_an_unidentified_caller_is_told_only_that() -> None:
    answer = await ask(Shelf([study(1)]), "/studies", reception=Reception(knows_nobody=True))
    assert answer.status == 401 and "detail" not in answer.problem and answer.headers["WWW-Authenticate"]
