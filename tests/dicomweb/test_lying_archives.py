"""Archives that lie, fail, stall or speak nonsense: none is believed, none stalls us, none gets a word into our logs.

What the simulated PACS cannot be made to do on the wire is done by a few bytes over a plain socket.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
import structlog

from dicomweb.connector import PAGE_ROWS_MAX
from gateway.demo.cast import ANNE
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import (
    SERIES_UID,
    STUDY_UID,
    Key,
    Level,
    Query,
)
from gateway.model.seams import PeerRequest
from tests.dicomweb.asking import ANNES, ANNES_STUDIES, EASTVALE, LIMITS, ONE_ROW, answering, find, http, peer
from tests.gateway.simulated_pacs import SimulatedPacs


@pytest.mark.parametrize(
    "lie",
    [
        "endless",
        "huge",
        "garbled",
        "not-a-list",
        "wrong-types",
        "deep-nesting",
        "wrong-content-type",
        "redirect",
        "missing-uids",
        "bad-uids",
    ],
)
async def test_a_lying_archive_is_not_believed(eastvale: SimulatedPacs, lie: str) -> None:
    eastvale.behave(lies=[lie])
    with pytest.raises(PeerProtocolError) as error:
        await find(eastvale, limits=replace(LIMITS, peer_answer_bytes_max=256 * 1024))
    assert error.value.trust == EASTVALE and ANNE.nhs_number not in str(error.value)
    assert eastvale.counts().get("other-http", 0) == 0


@pytest.mark.parametrize(("lie", "expected"), [("server-error", PeerUnavailable), ("truncated", PeerUnavailable)])
async def test_a_failing_archive_is_unavailable(eastvale: SimulatedPacs, lie: str, expected: type[PeerError]) -> None:
    eastvale.behave(lies=[lie])
    with pytest.raises(expected):
        await find(eastvale)


async def test_a_dripping_archive_ends_at_the_callers_deadline(eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["dripping"])
    async with peer(f"http://127.0.0.1:{eastvale.port('web')}/dicom-web") as connector:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10))


async def test_a_silent_archive_is_a_timeout(eastvale: SimulatedPacs) -> None:
    eastvale.behave(dead="silent")
    with pytest.raises(PeerTimeout):
        await find(eastvale, limits=replace(LIMITS, find_timeout_s=0.1))


async def test_a_closed_port_is_no_connection(eastvale: SimulatedPacs) -> None:
    eastvale.behave(dead="closed")
    with pytest.raises(PeerUnavailable):
        await find(eastvale)


async def test_no_lie_leaves_the_patients_number_in_a_log_or_an_error(
    eastvale: SimulatedPacs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        for lie in ("redirect", "server-error", "garbled", "truncated", "wrong-content-type", "endless"):
            eastvale.behave(lies=[lie])
            with pytest.raises(PeerError) as error:
                await find(eastvale, limits=replace(LIMITS, peer_answer_bytes_max=64 * 1024))
            cause: BaseException | None = error.value
            while cause is not None:
                assert ANNE.nhs_number not in repr(cause) + str(cause)
                cause = cause.__cause__
    assert ANNE.nhs_number not in caplog.text + str(logs)


# What only a plain socket does.

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", PeerUnavailable),
        (b"\x00" * 100, PeerProtocolError),
        (b"SSH-2.0-OpenSSH_9\r\n", PeerProtocolError),
        (http()[:-10], PeerUnavailable),
        (http("400 Bad Request"), PeerRefused),
        (http("401 Unauthorized"), PeerRefused),
        (http("403 Forbidden"), PeerRefused),
        (http("404 Not Found"), PeerRefused),
        (http("406 Not Acceptable"), PeerRefused),
        (http("413 Too Large"), PeerRefused),
        (http("408 Timeout"), PeerUnavailable),
        (http("429 Too Many Requests"), PeerUnavailable),
        (http("500 Error"), PeerUnavailable),
        (http("502 Bad Gateway"), PeerUnavailable),
        (http("503 Unavailable"), PeerUnavailable),
        (http("301 Moved", extra=b"Location: http://evil.example/\r\n"), PeerProtocolError),
        (http("302 Found", extra=b"Location: /dicom-web/studies\r\n"), PeerProtocolError),
        (http("304 Not Modified", b""), PeerProtocolError),
        (http("201 Created"), PeerProtocolError),
        (http("299 Odd"), PeerProtocolError),
        (http(content_type="text/html"), PeerProtocolError),
        (http(content_type="application/dicom+xml"), PeerProtocolError),
        (http(content_type=""), PeerProtocolError),
        (http(body=b""), PeerProtocolError),
        (http(body=b"{}"), PeerProtocolError),
        (http(body=b'[{"0020000D":{"vr":"UI"}}]'), PeerProtocolError),
        (http(body=b"[{}]"), PeerProtocolError),
        (http(body=b'[{"0020000D":{"vr":"UI","Value":["1.2","1.3"]}}]'), PeerProtocolError),
        (http(extra=b"Content-Encoding: gzip\r\n"), PeerProtocolError),
        (http(extra=b"Content-Encoding: br\r\n"), PeerProtocolError),
        (http(extra=b"X-A: " + b"a" * 20_000 + b"\r\n"), PeerProtocolError),
        (http(extra=b"Transfer-Encoding: chunked\r\n"), PeerProtocolError),
        (_HEAD + b"Content-Length: 999999999\r\n\r\n", PeerProtocolError),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", PeerError),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", PeerProtocolError),
    ],
)  # fmt: skip
async def test_every_answer_that_is_not_one_is_an_error_of_the_right_kind(
    answer: bytes, expected: type[PeerError]
) -> None:
    async with answering(answer) as url:
        with pytest.raises(expected):
            await find(url)


@pytest.mark.parametrize(
    ("answer", "is_truncated"),
    [
        (http(), False),
        (http(content_type="application/json"), False),
        (http(content_type="application/dicom+json; charset=utf-8"), False),
        (http("206 Partial Content"), True),
        (http(extra=b'Warning: 299 pacs: "There are 3 additional results that can be requested"\r\n'), True),
        (http(extra=b"Warning: 299 pacs: The results are limited\r\n"), True),
        (http(extra=b"Warning: 299 pacs: The fuzzymatching parameter is not supported. Only literal\r\n"), False),
        (http(extra=b"Warning: 299 pacs: The parameter X is not supported., 299 pacs: RJ1 is missing\r\n"), True),
        (http(extra=b"Warning: 199 pacs: something else\r\n"), False),
    ],
)
async def test_an_archive_that_says_it_left_something_out_is_truncated(answer: bytes, is_truncated: bool) -> None:
    async with answering(answer) as url:
        found = await find(url)
    assert len(found.rows) == 1 and found.is_truncated is is_truncated


async def test_an_archive_that_ignores_the_limit_is_read_to_its_end() -> None:
    count = PAGE_ROWS_MAX + 100
    body = b",".join(b'{"0020000D":{"vr":"UI","Value":["1.2.%d"]}}' % n for n in range(count))
    async with answering(http(body=b"[" + body + b"]")) as url:
        found = await find(url)
    assert len(found.rows) == count and not found.is_truncated


async def test_an_answer_is_as_long_as_its_limit_and_no_longer() -> None:
    async with answering(http()) as url:
        assert (await find(url, limits=replace(LIMITS, peer_answer_bytes_max=len(ONE_ROW)))).rows
        with pytest.raises(PeerProtocolError):
            await find(url, limits=replace(LIMITS, peer_answer_bytes_max=len(ONE_ROW) - 1))


async def test_parents_that_the_path_named_are_put_into_rows_that_leave_them_out() -> None:
    body = b'[{"00080018":{"vr":"UI","Value":["1.2.3.4.5"]}}]'
    keys = (Key((STUDY_UID,), "UI", ("1.2.3",)), Key((SERIES_UID,), "UI", ("1.2.3.4",)))
    async with answering(http(body=body)) as url:
        [row] = (await find(url, Query(Level.IMAGE, keys))).rows
    assert row[STUDY_UID]["Value"] == ["1.2.3"] and row[SERIES_UID]["Value"] == ["1.2.3.4"]


async def test_there_is_no_search_at_patient_level() -> None:
    with pytest.raises(PeerRefused):
        await find("http://127.0.0.1:1/dicom-web", Query(Level.PATIENT, (ANNES,)))
