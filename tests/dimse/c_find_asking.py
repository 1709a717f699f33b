"""Asking an archive by C-FIND through the connector, as the core would."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dimse.connector import DimsePeer, DimsePeerProfile, Model, Quirk
from gateway.model.imaging import PATIENT_ID, Key, Level, Query
from gateway.model.seams import PeerAnswer, PeerRequest
from gateway.model.settings import Limits
from policy.parties import TrustId

EASTVALE = TrustId("RZ2")
LIMITS = Limits()
ANNE = "9990000018"
ANNES = Key((PATIENT_ID,), "LO", (ANNE,))
ANNES_STUDIES = Query(Level.STUDY, (ANNES,))


@asynccontextmanager
async def peer(
    port: int,
    *quirks: Quirk,
    limits: Limits = LIMITS,
    charset: str = "",
    model: Model = Model.STUDY_ROOT,
    called: str = "ARCHIVE",
    secure: ssl.SSLContext | None = None,
) -> AsyncIterator[DimsePeer]:
    """The connector to the archive at this port."""
    profile = DimsePeerProfile(EASTVALE, "127.0.0.1", port, called, "GATEWAY", model, charset, frozenset(quirks))
    connector = DimsePeer(profile, limits, secure)
    try:
        yield connector
    finally:
        await connector.close()


async def ask(connector: DimsePeer, query: Query = ANNES_STUDIES, *, matches_max: int = 1_000) -> PeerAnswer:
    """Ask one thing."""
    async with asyncio.timeout(30):
        return await connector.find(PeerRequest(query, "request-1", 1, matches_max))


def values(answer: PeerAnswer, tag: str) -> list[object]:
    """The first value of an attribute in each row."""
    return [row[tag]["Value"][0] for row in answer.rows]  # type: ignore[index]  # a list by the reader's contract
