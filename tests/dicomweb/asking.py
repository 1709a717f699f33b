"""Asking an archive through the connector, as the core would."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile, Quirk
from gateway.demo.cast import ANNE
from gateway.model.imaging import PATIENT_ID, Key, Level, Query
from gateway.model.seams import PeerAnswer, PeerRequest
from gateway.model.settings import Limits
from policy.parties import TrustId
from tests.gateway.simulated_pacs import SimulatedPacs

EASTVALE = TrustId("RZ2")
LIMITS = Limits()
ANNES = Key((PATIENT_ID,), "LO", (ANNE.nhs_number,))
ANNES_STUDIES = Query(Level.STUDY, (ANNES,))


@asynccontextmanager
async def peer(
    url: str, *quirks: Quirk, limits: Limits = LIMITS, charset: str = "", secure: ssl.SSLContext | None = None
) -> AsyncIterator[DicomwebPeer]:
    connector = DicomwebPeer(DicomwebPeerProfile(EASTVALE, url, charset, frozenset(quirks)), limits, secure)
    try:
        yield connector
    finally:
        await connector.close()


async def find(
    at: SimulatedPacs | str,
    query: Query = ANNES_STUDIES,
    *quirks: Quirk,
    limits: Limits = LIMITS,
    charset: str = "",
    matches_max: int = 1_000,
) -> PeerAnswer:
    url = at if isinstance(at, str) else f"http://127.0.0.1:{at.port('web')}/dicom-web"
    async with peer(url, *quirks, limits=limits, charset=charset) as connector, asyncio.timeout(30):
        return await connector.find(PeerRequest(query, "request-1", 1, matches_max))


def values(answer: PeerAnswer, tag: str) -> set[object]:
    return {row[tag]["Value"][0] for row in answer.rows}  # type: ignore[index]  # a list by the reader's contract


ONE_ROW = b'[{"0020000D":{"vr":"UI","Value":["1.2.3"]}}]'


def http(
    status: str = "200 OK", body: bytes = ONE_ROW, content_type: str = "application/dicom+json", extra: bytes = b""
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + extra + b"\r\n" + body


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[str]:
    """A socket that gives these bytes, one connection after the other, whatever it is asked, and hangs up."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
    finally:
        server.close()
