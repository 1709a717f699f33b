"""Evidence is what TLS accepted and the socket shows; what a request claims about itself is none."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import trustme
from aiohttp import web

from dicomweb.credentials import evidence_of
from policy.identity import Channel, Evidence


@asynccontextmanager
async def heard(secure: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[Evidence]]]:
    """A server that notes the evidence of each request; its origin, and the notes."""
    notes: list[Evidence] = []

    async def note(request: web.Request) -> web.Response:
        notes.append(evidence_of(request))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", note)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=secure).start()
        yield f"{'https' if secure else 'http'}://127.0.0.1:{runner.addresses[0][1]}", notes
    finally:
        await runner.cleanup()


def contexts(
    authority: trustme.CA, *client_names: str, common_name: str | None = None, asks: bool = True
) -> tuple[ssl.SSLContext, ssl.SSLContext, str]:
    """A server's context, a client's with a certificate of these names, and that certificate's fingerprint."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    issued = authority.issue_cert(*client_names, common_name=common_name)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    issued.configure_cert(client)
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    return server, client, hashlib.sha256(der).hexdigest()


async def test_an_accepted_certificate_is_evidence_by_fingerprint_and_names() -> None:
    server, client, fingerprint = contexts(
        trustme.CA(), "pacs.northmoor.example", "viewer.northmoor.example", common_name="Northmoor PACS"
    )
    async with heard(server) as (origin, notes), aiohttp.ClientSession() as session:
        await session.get(origin, ssl=client)
    assert notes == [
        Evidence(
            channel=Channel.HTTPS,
            address="127.0.0.1",
            certificate_sha256=fingerprint,
            common_name="Northmoor PACS",
            dns_names=("pacs.northmoor.example", "viewer.northmoor.example"),
        )
    ]


async def test_a_certificate_that_nobody_verified_is_no_evidence() -> None:
    server, client, _ = contexts(trustme.CA(), "pacs.northmoor.example", asks=False)
    async with heard(server) as (origin, notes), aiohttp.ClientSession() as session:
        await session.get(origin, ssl=client)
    assert notes == [Evidence(Channel.HTTPS, "127.0.0.1")]


async def test_headers_that_claim_a_certificate_or_an_address_are_no_evidence() -> None:
    claims = {
        "X-Forwarded-For": "10.1.2.3",
        "Forwarded": "for=10.1.2.3",
        "X-Real-IP": "10.1.2.3",
        "X-Client-Cert": "MIIB",
        "X-SSL-Client-Cert": "MIIB",
        "X-SSL-Client-S-DN": "CN=Northmoor PACS",
        "X-Forwarded-Client-Cert": "Hash=00;Subject=CN",
        "Client-Cert": ":MIIB:",
    }
    async with heard() as (origin, notes), aiohttp.ClientSession() as session:
        await session.get(origin, headers=claims)
    assert notes == [Evidence(Channel.HTTPS, "127.0.0.1")]
