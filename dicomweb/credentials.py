"""What an HTTP connection proves of its other end: the certificate that TLS accepted, and the socket's address.

Nothing in the request itself is evidence: a header that claims to forward a certificate or an address is never read
Whom the evidence proves is for `policy.identity`.
"""

from __future__ import annotations

import asyncio
import ssl
from weakref import WeakKeyDictionary

from aiohttp import web

from gateway.model.evidence import evidence_of_tls
from policy.identity import Channel, Evidence


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
