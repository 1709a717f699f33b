"""Who asks over HTTP: what the connection proves of its other end, and what the request says beside it.

Evidence is the certificate that TLS accepted, and the socket's address. Nothing in the request itself is: a header that
claims to forward a certificate or an address is never read. Whom the evidence proves is for `policy.identity`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Protocol
from weakref import WeakKeyDictionary

from aiohttp import web

from dicomweb.listener import ASKING_TRUST_HEADER, HOPS_HEADER, PURPOSE_HEADER, REQUEST_ID
from gateway.model.errors import InvalidRequest
from gateway.model.evidence import evidence_of_tls
from policy.identity import Channel, Evidence
from policy.parties import Caller

_HOPS = re.compile(r"[0-9]{1,2}")


class Identifies(Protocol):
    """Who is asking."""

    async def identified(
        self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0, asking_trust: str = ""
    ) -> Caller:
        """The one caller that the evidence proves; raises `NotIdentified`, once that is recorded."""


class Callers:
    """Who asks by each request."""

    def __init__(self, directory: Identifies) -> None:
        self._directory = directory
        self._connections = Connections()

    async def caller_of(self, request: web.Request) -> Caller:
        """The one caller of a request; raises `NotIdentified`, `InvalidRequest`."""
        return await self._directory.identified(
            self._connections.evidence_of(request),
            request.headers.get(PURPOSE_HEADER, ""),
            request[REQUEST_ID],
            _hops(request),
            request.headers.get(ASKING_TRUST_HEADER, ""),
        )


class Connections:
    """What each open connection has shown: its other end shows it once, and asks many questions.

    The evidence is kept, never whom it proves: that is decided for every request, under the directory of the moment.
    """

    def __init__(self) -> None:
        self._shown: WeakKeyDictionary[asyncio.BaseTransport, Evidence] = WeakKeyDictionary()

    def evidence_of(self, request: web.BaseRequest) -> Evidence:
        """See `evidence_of`."""
        transport = request.transport
        if transport is None:
            return evidence_of(request)
        shown = self._shown.get(transport)
        if shown is None:
            shown = self._shown[transport] = evidence_of(request)
        return shown


def evidence_of(request: web.BaseRequest) -> Evidence:
    """The evidence of the connection that carries `request`; empty where nothing was shown. Raises nothing."""
    transport = request.transport
    if transport is None:
        return Evidence(Channel.HTTPS, "")
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    connection = transport.get_extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject):
        return Evidence(Channel.HTTPS, address)
    return evidence_of_tls(connection, address, Channel.HTTPS)


def _hops(request: web.Request) -> int:
    text = request.headers.get(HOPS_HEADER, "0")
    if not _HOPS.fullmatch(text):
        raise InvalidRequest(f"{HOPS_HEADER} must be a whole number")
    return int(text)
