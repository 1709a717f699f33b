"""Who may connect, what may be said before anybody is known, and how little it costs the others (goals G7, G10)."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress

import pytest

from gateway.demo.cast import ANNE, CLARA
from gateway.demo.configuration import PACS_CALLER, VIEWER
from tests.attacks.attacked import (
    ATTACKER,
    CONNECTIONS_PER_ADDRESS_MAX,
    HANG_GUARD_S,
    AttackedRegion,
)
from tests.dicomweb.test_raw_http import AMBIGUOUS, BODIES, GET

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANNES = f"/dicom-web/studies?PatientID={ANNE.nhs_number}"
CLARAS = f"/dicom-web/studies?PatientID={CLARA.nhs_number}"
REFUSED = 'gateway_connections_refused_total{listener="machines",reason="too many connections from one address"}'


async def is_let_in(region: AttackedRegion, certificate: str | None, version: ssl.TLSVersion | None = None) -> bool:
    """Whether a request on such a connection is answered at all."""
    try:
        async with region.connection(certificate, version=version) as (reader, writer), asyncio.timeout(HANG_GUARD_S):
            writer.write(b"GET /dicom-web/studies HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return bool(await reader.read(1))
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.parametrize("certificate", [None, "of another authority", "expired", "not yet valid", "revoked"], ids=str)
async def test_a_bad_certificate_gets_no_answer_at_all(attacked: AttackedRegion, certificate: str | None) -> None:
    assert await is_let_in(attacked, VIEWER)
    assert not await is_let_in(attacked, certificate)


async def test_a_good_certificate_of_nobody_known_is_told_only_that(attacked: AttackedRegion) -> None:
    known_path, no_path = [await attacked.get(target, certificate="stranger") for target in (ANNES, "/dicom-web/x")]
    assert known_path.status == 401
    assert b"certificate" not in known_path.body.replace(b"TLS-Client-Certificate", b"")
    assert no_path.status == 404


async def test_a_certificate_speaks_for_its_own_trust_whatever_headers_say(attacked: AttackedRegion) -> None:
    """Clara is not in Northmoor's care; no header makes the viewer anybody else, or anybody nearer."""
    plain = await attacked.get(CLARAS)
    assert plain.status == 403
    for header in (
        b"X-Forwarded-For: 127.0.0.1",
        b"Forwarded: for=127.0.0.1;proto=https",
        b"X-Client-Cert: southbridge-pacs",
        b"X-SSL-Client-S-DN: CN=southbridge-pacs",
        b"X-Forwarded-Client-Cert: Subject=CN=southbridge-pacs",
        b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
        b"X-Original-URL: " + ANNES.encode(),
        b"X-HTTP-Method-Override: DELETE",
        b"Gateway-Caller: " + PACS_CALLER.encode(),
    ):
        assert (await attacked.get(CLARAS, header)).status == 403, header


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_not_spoken(attacked: AttackedRegion, version: ssl.TLSVersion) -> None:
    assert not await is_let_in(attacked, VIEWER, version)
    assert await is_let_in(attacked, VIEWER, ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    "said",
    [
        b"GET /dicom-web/studies HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x01\x00\x00\x00\x00\xd1\x00\x01\x00\x00" + b"ANY-SCP".ljust(200),
        b"SSH-2.0-x\r\n",
        b"\x00" * 5_000,
    ],
    ids=["http", "dicom", "ssh", "noughts"],
)
async def test_whoever_speaks_no_tls_is_answered_nothing_readable(attacked: AttackedRegion, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", attacked.machines_port)
    received = b""
    async with asyncio.timeout(HANG_GUARD_S):
        with suppress(ConnectionError):
            writer.write(said)
            received = await reader.read()
    writer.transport.abort()
    assert b"HTTP" not in received and len(received) < 100


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_an_ambiguous_request_gets_one_refusal_and_the_end(
    attacked: AttackedRegion, request_bytes: bytes
) -> None:
    following = b"GET " + ANNES.encode() + b" HTTP/1.1\r\nHost: second\r\n\r\n"
    assert [reply.status for reply in await attacked.replies(request_bytes + following)] == [400]


@pytest.mark.parametrize("request_bytes", BODIES.values(), ids=BODIES.keys())
async def test_nothing_behind_a_body_is_answered(attacked: AttackedRegion, request_bytes: bytes) -> None:
    following = b"GET " + ANNES.encode() + b" HTTP/1.1\r\nHost: second\r\n\r\n"
    [reply] = await attacked.replies(request_bytes + following)
    assert reply.status in (400, 405, 415)


async def test_a_flood_of_connections_from_one_address_leaves_the_others_served(attacked: AttackedRegion) -> None:
    past_the_limit = 10
    before = await attacked.figure(REFUSED)
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(
            *(
                asyncio.open_connection("127.0.0.1", attacked.machines_port, local_addr=(ATTACKER, 0))
                for _ in range(CONNECTIONS_PER_ADDRESS_MAX + past_the_limit)
            )
        )
        for _, writer in opened:
            stack.callback(writer.transport.abort)
        closed = [asyncio.create_task(ended(reader)) for reader, _ in opened]
        assert (await attacked.get(ANNES)).status == 200
        pending = set(closed)
        async with asyncio.timeout(HANG_GUARD_S):
            while len(closed) - len(pending) < past_the_limit:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # Those that were taken hold their places until their silence has lasted too long.
            await asyncio.gather(*closed)
    assert await attacked.figure(REFUSED) - before == past_the_limit
    assert (await attacked.get(ANNES)).status == 200


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the gateway closed the connection."""
    with suppress(ConnectionError):
        return await reader.read()
    return b""


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, letter: bytes) -> bytes:
    """Send a letter now and then until the gateway has had enough; what it said."""
    end = asyncio.create_task(ended(reader))
    while not end.done():
        with suppress(ConnectionError):
            writer.write(letter)
        await asyncio.wait({end}, timeout=0.1)
    return end.result()


async def test_heads_that_never_end_are_cut_off_while_others_are_served(attacked: AttackedRegion) -> None:
    async with AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(attacked.connection(PACS_CALLER, ATTACKER))
            for _ in range(CONNECTIONS_PER_ADDRESS_MAX // 2)
        ]
        for _, writer in slow:
            writer.write(b"GET /dicom-web/studies HTTP/1.1\r\nHost: ")
        dripping = [asyncio.create_task(drip(*connection, b"a")) for connection in slow]
        assert (await attacked.get(ANNES)).status == 200
        async with asyncio.timeout(HANG_GUARD_S):
            await asyncio.gather(*dripping)
        assert (await attacked.get(ANNES)).status == 200


async def test_a_second_head_on_a_kept_connection_may_not_drip_either(attacked: AttackedRegion) -> None:
    async with attacked.connection() as (reader, writer), asyncio.timeout(HANG_GUARD_S):
        writer.write(GET + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"400" in head.splitlines()[0]
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(b"GET /dicom-web/studies HTTP/1.1\r\nHost: ")
        assert await drip(reader, writer, b"a") == b""


async def test_a_megabyte_of_head_is_refused_before_it_is_read(attacked: AttackedRegion) -> None:
    for request in (
        b"GET /dicom-web/studies?x=" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        GET + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(10_000)) + b"\r\n",
    ):
        found = await attacked.replies(request)
        assert [reply.status for reply in found] in ([400], [431], [])
    assert (await attacked.get(ANNES)).status == 200
