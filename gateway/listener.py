"""One listening address: who may connect, how many at once, and for how long they may say nothing.

Accepts sockets itself, so that limits count descriptors from the first packet on (a handshake that never ends holds a
place like any other), so that no handshake blocks the next one, and so that a reload swaps the TLS context for new
connections and leaves open ones alone. What is spoken on a connection is its protocol's business, HTTP or DICOM.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.model.errors import ConfigurationError
from gateway.model.seams import Clock

if TYPE_CHECKING:
    from typing_extensions import Buffer  # in collections.abc from Python 3.12 on

log = structlog.get_logger(__name__)

BACKLOG = 512
ACCEPT_PAUSE_S = 0.5
"""Pause when the process has no descriptor left; connections wait in the backlog meanwhile."""
LOGGED_PER_MINUTE_MAX = 60
"""Refusals logged a minute; the rest is only counted, lest strangers fill the disk."""

_TLS_FAILURES = {
    "HTTP_REQUEST": "plain HTTP came, TLS is spoken here",
    "WRONG_VERSION_NUMBER": "no TLS came, but plain DICOM or another protocol; TLS is spoken here",
    "UNSUPPORTED_PROTOCOL": "a TLS older than 1.2 came",
    "NO_SHARED_CIPHER": "no suite of BCP 195 was offered",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no client certificate came",
    "CERTIFICATE_VERIFY_FAILED": "the client certificate is not accepted",
    "TLSV1_ALERT_UNKNOWN_CA": "the caller does not know the authority of our certificate",
}
"""OpenSSL's reasons that are somebody's to mend, in words; others are logged as OpenSSL names them."""

Address = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections one listener takes, and how long one may take to say what it wants."""

    connections_max: int
    connections_per_address_max: int
    greeting_timeout_s: float
    """Time for the TLS handshake and, unless the protocol keeps time itself, for each whole request head."""


class CountsConnections(Protocol):
    """Who keeps the figures."""

    def connection_opened(self, listener: str) -> None:
        """A connection was taken."""

    def connection_closed(self, listener: str) -> None:
        """Its descriptor was given back."""

    def connection_refused(self, listener: str, reason: str) -> None:
        """A connection was closed before its first request."""


@dataclass(slots=True, eq=False)
class _Connection:
    """A taken connection, from accept until its descriptor is closed."""

    peer: Address
    is_asking: bool = False
    """A request is under way: what comes meanwhile is not a head that is late."""
    head_timer: asyncio.TimerHandle | None = None
    life_timer: asyncio.TimerHandle | None = None
    transport: asyncio.Transport | None = None
    handshake: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return str(self.peer[0])

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        elif self.handshake is not None:
            self.handshake.cancel()

    def cancel_head_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def settle(self) -> None:
        self.cancel_head_timer()
        if self.life_timer is not None:
            self.life_timer.cancel()
            self.life_timer = None


class _CountedSocket(socket.socket):
    """A socket that tells when its descriptor is closed, whoever closes it. Reads and writes cost nothing more."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        tell, self.on_close = self.on_close, None
        super().close()
        if tell is not None:
            tell()


class _TimedSocket(_CountedSocket):
    """One that tells when bytes came as well.

    asyncio reads by `recv` without TLS and by `recv_into` with it.
    """

    on_bytes: Callable[[], None] | None = None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        received = super().recv(size, flags)
        if self.on_bytes is not None:
            self.on_bytes()
        return received

    def recv_into(self, buffer: Buffer, size: int = 0, flags: int = 0, /) -> int:
        received = super().recv_into(buffer, size, flags)
        if self.on_bytes is not None:
            self.on_bytes()
        return received

    def close(self) -> None:
        self.on_bytes = None
        super().close()


class Listener:
    """A listening address with its limits. `open`, then `start` until `stop`; `close` ends what is left.

    A protocol that keeps time itself (an association has its ARTIM timer) is on its own once TLS is established;
    of any other each request head is timed here, `answering` excepted.
    """

    def __init__(
        self,
        name: str,
        limits: ConnectionLimits,
        figures: CountsConnections,
        clock: Clock,
        *,
        new_protocol: Callable[[], asyncio.BaseProtocol],
        secure: ssl.SSLContext | None,
        revoked: Collection[int] = (),
        keeps_own_time: bool = False,
    ) -> None:
        self.name = name
        self._limits = limits
        self._figures = figures
        self._clock = clock
        self._new_protocol = new_protocol
        self._secure = secure
        self._revoked = frozenset(revoked)
        self._keeps_own_time = keeps_own_time
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: dict[Address, _Connection] = {}
        self._by_address: Counter[str] = Counter()
        self._log_minute = self._logged = 0

    @property
    def port(self) -> int:
        """The port in use: the one asked for, or the system's choice. Only while open."""
        return int(self._sockets[0].getsockname()[1])

    def open(self, host: str, port: int) -> None:
        """Bind every address of `host`; raises `ConfigurationError`. Connections wait until `start`."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in dict.fromkeys(found):
                listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
                listening.setblocking(False)
                self._sockets.append(listening)
                if port == 0:
                    break  # a second address would get another port
        except OSError as error:
            self._close_sockets()
            reason = error.strerror or "not an address"
            raise ConfigurationError([f"listen.{self.name}: {host} port {port} cannot be used: {reason}"]) from error

    def start(self) -> None:
        """Take connections from now on."""
        self._accepting = [asyncio.create_task(self._accept(listening)) for listening in self._sockets]

    def secure_with(self, context: ssl.SSLContext | None, revoked: Collection[int] = ()) -> None:
        """Use another context for new connections; open ones stay, but those whose certificate is revoked now."""
        self._secure, self._revoked = context, frozenset(revoked)
        for connection in list(self._connections.values()):
            if connection.transport is not None and _serial(connection.transport) in self._revoked:
                log.warning("connection closed", listener=self.name, reason="certificate revoked")
                connection.abort()

    @contextmanager
    def answering(self, peer: object) -> Iterator[None]:
        """Hold while a request of this peer name is answered: its head is here, and the next one has not begun."""
        connection = self._connections.get(peer) if isinstance(peer, tuple) else None
        if connection is None:
            yield
            return
        connection.is_asking = True
        connection.cancel_head_timer()
        try:
            yield
        finally:
            connection.is_asking = False

    async def stop(self) -> None:
        """Take no more connections; those taken go on."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._close_sockets()

    def close(self) -> None:
        """Abort what is still open."""
        for connection in list(self._connections.values()):
            connection.abort()

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                plain, peer = await loop.sock_accept(listening)
            except OSError as error:
                # The peer gave up, or no descriptor is left: neither ends a listener.
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._note("no descriptor left", "")
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._take(plain, peer)

    def _take(self, plain: socket.socket, peer: Address) -> None:
        connection = _Connection(peer)
        if reason := self._refusal(connection.address):
            plain.close()
            self._figures.connection_refused(self.name, reason)
            self._note(reason, connection.address)
            return
        counted = self._counted(plain, connection)
        counted.setblocking(False)
        counted.on_close = lambda: self._closed(connection)
        self._connections[peer] = connection
        self._by_address[connection.address] += 1
        self._figures.connection_opened(self.name)
        self._expect_head(connection)
        connection.handshake = asyncio.get_running_loop().create_task(self._greet(counted, connection))

    def _counted(self, plain: socket.socket, connection: _Connection) -> _CountedSocket:
        if self._keeps_own_time:
            return _CountedSocket(plain.family, plain.type, plain.proto, plain.detach())
        timed = _TimedSocket(plain.family, plain.type, plain.proto, plain.detach())
        timed.on_bytes = lambda: self._expect_head(connection)
        return timed

    def _expect_head(self, connection: _Connection) -> None:
        """From the first byte on, and from the beginning before any, a head has its time to be whole."""
        if connection.head_timer is None and not connection.is_asking:
            connection.head_timer = asyncio.get_running_loop().call_later(
                self._limits.greeting_timeout_s, self._silent, connection
            )

    def _refusal(self, address: str) -> str:
        if len(self._connections) >= self._limits.connections_max:
            return "too many connections"
        if self._by_address[address] >= self._limits.connections_per_address_max:
            return "too many connections from one address"
        return ""

    async def _greet(self, counted: _CountedSocket, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = self._limits.greeting_timeout_s if self._secure else None
        try:
            transport, _ = await loop.connect_accepted_socket(
                self._new_protocol, counted, ssl=self._secure, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:  # ssl.SSLError is one; asyncio closes the descriptor
            self._figures.connection_refused(self.name, "tls")
            self._note(f"tls: {_tls_failure(error)}", connection.address)
            return
        connection.transport = transport
        if self._revoked and _serial(transport) in self._revoked:
            # By a list in its grace; one that has not ended is judged in the handshake.
            self._figures.connection_refused(self.name, "tls")
            self._note("tls: certificate revoked", connection.address)
            transport.abort()
            return
        if self._keeps_own_time:
            connection.cancel_head_timer()
        ends_at = _certificate_end(transport)
        if ends_at is not None:
            ends_in_s = max(0.0, ends_at - self._clock.now().timestamp())
            connection.life_timer = loop.call_later(ends_in_s, transport.abort)
        if counted.fileno() == -1:
            connection.settle()

    def _silent(self, connection: _Connection) -> None:
        self._figures.connection_refused(self.name, "silent")
        connection.abort()

    def _closed(self, connection: _Connection) -> None:
        connection.settle()
        if self._connections.pop(connection.peer, None) is None:
            return
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]
        self._figures.connection_closed(self.name)

    def _note(self, reason: str, address: str) -> None:
        minute = int(asyncio.get_running_loop().time() // 60)
        if minute != self._log_minute:
            self._log_minute, self._logged = minute, 0
        self._logged += 1
        if self._logged <= LOGGED_PER_MINUTE_MAX:
            log.warning("connection refused", listener=self.name, reason=reason, address=address)


def _tls_failure(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return _TLS_FAILURES.get(str(reason), str(reason)) if reason else type(error).__name__


def _certificate_end(transport: asyncio.Transport) -> float | None:
    """When the other end's certificate ends, in seconds since 1970; a connection does not outlive it."""
    certificate = transport.get_extra_info("peercert")
    ends = certificate.get("notAfter") if certificate else None
    return ssl.cert_time_to_seconds(ends) if ends else None


def _serial(transport: asyncio.Transport) -> int | None:
    certificate = transport.get_extra_info("peercert")
    serial = certificate.get("serialNumber") if certificate else None
    return int(serial, 16) if serial else None
