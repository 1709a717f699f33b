"""The sockets of an HTTP listener: how many, how slow, how large, and what is said of garbage.

aiohttp parses and frames (its llhttp parser refuses the smuggling forms of threats.md 2, and a test shows each); here
stands what it lacks: a deadline for a whole request head, so that a sender of one byte a second holds nothing, a
deadline for a reader that never reads, and a share of connections for each address, so that one caller cannot take them
all. What the parser refuses is logged without its text, which may quote a question.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypedDict, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from dicomweb.listener import edge
from gateway.model.settings import Limits

HEADER_LINES_MAX = 64
"""Headers of one request. Real viewers and proxies send fewer than 30."""

_LINGER_S = 2.0
"""How long the rest of a refused body is read, so that its sender sees the refusal."""

log = structlog.get_logger(__name__)


class _ServerOptions(TypedDict):
    logger: logging.Logger
    access_log: None
    keepalive_timeout: float
    lingering_time: float
    max_line_size: int
    max_field_size: int
    max_headers: int
    shutdown_timeout: float


class Listener:
    """One listener's connections and requests. Make one for each socket that is listened on."""

    def __init__(
        self, limits: Limits, *, new_id: Callable[[], str], cors_origins: frozenset[str] = frozenset()
    ) -> None:
        self._limits = limits
        self._new_id = new_id
        self._cors_origins = cors_origins
        self._connections: dict[asyncio.BaseTransport, _Connection] = {}
        self._by_address: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def middleware(self) -> Middleware:
        """The outermost middleware for the application that this listener serves."""
        return edge(
            self._limits, new_id=self._new_id, cors_origins=self._cors_origins, under_way=self._request_under_way
        )

    @asynccontextmanager
    async def serving(
        self, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None
    ) -> AsyncIterator[tuple[str, int]]:
        """Serve `app` while the block runs; gives the address. At the end running requests have time to finish."""
        runner = web.AppRunner(app, **self._options())
        await runner.setup()
        try:
            assert runner.server is not None
            server = runner.server
            handshake_s = self._limits.request_head_timeout_s if tls is not None else None
            listening = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self, server()), host, port, ssl=tls, ssl_handshake_timeout=handshake_s
            )
            try:
                name: tuple[str, int] = listening.sockets[0].getsockname()[:2]
                yield name
            finally:
                listening.close()
        finally:
            await runner.cleanup()

    def admits(self, transport: asyncio.Transport, connection: _Connection) -> bool:
        """Count a new connection in, or refuse it because a limit is reached."""
        address = _address(transport)
        if len(self._connections) >= self._limits.connections_max:
            log.warning("connection refused", limit="connections_max")
            return False
        if self._by_address[address] >= self._limits.connections_per_address_max:
            log.warning("connection refused", limit="connections_per_address_max", address=address)
            return False
        self._connections[transport] = connection
        self._by_address[address] += 1
        return True

    def gone(self, transport: asyncio.Transport) -> None:
        """Count a connection out."""
        if self._connections.pop(transport, None) is not None:
            address = _address(transport)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    @property
    def limits(self) -> Limits:
        """The limits that its connections obey."""
        return self._limits

    @contextmanager
    def _request_under_way(self, request: web.Request) -> Iterator[None]:
        connection = self._connections.get(request.transport) if request.transport is not None else None
        if connection is None:
            yield
            return
        connection.head_arrived()
        try:
            yield
        finally:
            connection.request_answered()

    def _options(self) -> _ServerOptions:
        return {
            "logger": _ParserLog("dicomweb.http"),
            # aiohttp's access log quotes the query string, and with it the patient.
            "access_log": None,
            "keepalive_timeout": self._limits.keepalive_timeout_s,
            "lingering_time": _LINGER_S,
            "max_line_size": self._limits.request_head_bytes_max,
            "max_field_size": self._limits.request_head_bytes_max,
            "max_headers": HEADER_LINES_MAX,
            "shutdown_timeout": self._limits.drain_timeout_s,
        }


class _Connection(asyncio.Protocol):
    """One connection: passes everything to aiohttp's protocol and watches the clock beside it."""

    def __init__(self, listener: Listener, inner: web.RequestHandler) -> None:
        self._listener = listener
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._is_admitted = False
        self._is_request_under_way = False
        self._head_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # a Protocol is given one by create_server
        self._is_admitted = self._listener.admits(self._transport, self)
        if not self._is_admitted:
            self._transport.abort()
            return
        self._await_head()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_admitted:
            return
        if not self._is_request_under_way and self._head_deadline is None:
            self._await_head()
        self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._is_admitted:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        self._write_deadline = self._give_up_after(self._listener.limits.keepalive_timeout_s)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        _cancel(self._write_deadline)
        self._write_deadline = None
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        _cancel(self._head_deadline)
        _cancel(self._write_deadline)
        if self._is_admitted and self._transport is not None:
            self._listener.gone(self._transport)
            self._inner.connection_lost(error)

    def head_arrived(self) -> None:
        """A whole request head is here and its request is handled."""
        self._is_request_under_way = True
        _cancel(self._head_deadline)
        self._head_deadline = None

    def request_answered(self) -> None:
        """The connection is idle again; from its next byte on the next head has its deadline."""
        self._is_request_under_way = False

    def _await_head(self) -> None:
        self._head_deadline = self._give_up_after(self._listener.limits.request_head_timeout_s)

    def _give_up_after(self, delay_s: float) -> asyncio.TimerHandle:
        assert self._transport is not None
        return asyncio.get_running_loop().call_later(delay_s, self._transport.abort)


class _ParserLog(logging.Logger):
    """Where aiohttp reports what it refused: the event is kept, the text is not, for it quotes the request."""

    def _log(self, level: int, msg: object, *_args: object, **_kwargs: object) -> None:
        if level >= logging.WARNING:
            log.warning("request refused by the parser")


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
