"""Requests that two parsers may read differently are refused, and so is all that follows them.

Over raw sockets against aiohttp with the options that every listener of ours gets. Behind each hostile request stands a
second, honest one: were it answered, a smuggler could have written it.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest
from yarl import URL

from tests.dicomweb.small_region import Shelf, serving, study

FOLLOWING = b"GET /dicom-web/series HTTP/1.1\r\nHost: second\r\n\r\n"
GET = b"GET /dicom-web/studies HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /dicom-web/studies HTTP/1.1\r\nHost: a\r\n"

AMBIGUOUS = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length and chunks on a search": GET + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": GET + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "one length twice": GET + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "list of lengths": GET + b"Content-Length: 4, 4\r\n\r\nabcd",
    "signed length": POST + b"Content-Length: +10\r\n\r\n0123456789",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "hexadecimal length": POST + b"Content-Length: 0x4\r\n\r\nabcd",
    "huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "bare line feeds": b"GET /dicom-web/studies HTTP/1.1\nHost: a\n\n",
    "one bare line feed": GET + b"X-A: b\nX-C: d\r\n\r\n",
    "bare carriage return": GET + b"X-A: b\rX-C: d\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding with a tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": GET + b"Content-Length : 4\r\n\r\nabcd",
    "NUL in a header": GET + b"X-A: a\x00b\r\n\r\n",
    "no host": b"GET /dicom-web/studies HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "no colon": GET + b"nonsense\r\n\r\n",
    "a later version": b"GET /dicom-web/studies HTTP/2.0\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /dicom-web/studies\r\n\r\n",
    "lower-case method": b"get /dicom-web/studies HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"FIND /dicom-web/studies HTTP/1.1\r\nHost: a\r\n\r\n",
    "space in the path": b"GET /dicom-web/studies /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw bytes in the path": b"GET /dicom-web/studies/\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"A" * 40 + b"\r\n\r\n",
    "a DICOM association": b"\x01\x00\x00\x00\x00\xd1\x00\x01\x00\x00" + b"ANY-SCP".ljust(16) + b"\r\n\r\n",
    "too long a line": b"GET /dicom-web/studies?PatientID=" + b"1" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "too long a header": GET + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "too many headers": GET + b"".join(b"X-%d: 1\r\n" % n for n in range(70)) + b"\r\n",
}

BODIES = {
    "search with length": GET + b"Content-Length: 4\r\n\r\nabcd",
    "search with chunks": GET + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "search with no chunk": GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "other method with chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "other method with length": POST + b"Content-Length: 4\r\n\r\nabcd",
    "change of protocol": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "change to HTTP/2": GET
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
}


async def answers(base: str, request: bytes, following: bytes = FOLLOWING) -> list[int]:
    """The statuses that come back on one connection until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port)
    writer.write(request + following)
    received = b""
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            received += chunk
    writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3})", received)]


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_an_ambiguous_request_is_refused_and_ends_its_connection(request_bytes: bytes) -> None:
    shelf = Shelf([study(1)])
    async with serving(shelf) as base:
        assert await answers(base, request_bytes) == [400]
    assert shelf.questions == []


@pytest.mark.parametrize("request_bytes", BODIES.values(), ids=BODIES.keys())
async def test_nothing_behind_a_body_or_a_change_of_protocol_is_taken_for_a_request(request_bytes: bytes) -> None:
    async with serving(Shelf([study(1)])) as base:
        assert len(await answers(base, request_bytes)) == 1


async def test_honest_requests_may_follow_one_another() -> None:
    shelf = Shelf([study(1)])
    async with serving(shelf) as base:
        assert await answers(base, GET + b"\r\n", GET + b"Connection: close\r\n\r\n") == [200, 200]


@pytest.mark.parametrize(
    "target",
    [
        b"/dicom-web/../admin",
        b"/dicom-web/%2e%2e/admin",
        b"/dicom-web//studies",
        b"//evil.example/dicom-web/studies",
        b"/dicom-web/studies/1.2%2F3/series",
        b"/dicom-web/studies/%00/series",
        b"/dicom-web/studies/%ff/series",
        b"/dicom-web/studies/1.2%0d%0aX:1/series",
        b"/dicom-web/trust/..%2f..%2f/studies",
        b"*",
    ],
)
async def test_a_path_that_climbs_or_hides_finds_nothing(target: bytes) -> None:
    shelf = Shelf([study(1)])
    async with serving(shelf) as base:
        request = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        [status] = await answers(base, request, b"")
    assert status in (400, 404) and shelf.questions == []


async def test_the_host_that_a_request_names_stands_in_no_link() -> None:
    async with serving(Shelf([study(1)])) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port)
        writer.write(
            b"GET http://evil.example/dicom-web/studies HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n"
            b"X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher\r\nForwarded: host=evil.example\r\n\r\n"
        )
        received = await reader.read()
        writer.close()
    assert received.startswith(b"HTTP/1.1 200") and b"evil" not in received and b"gateway.example" in received
