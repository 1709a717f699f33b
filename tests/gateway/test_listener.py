"""A listening address: its limits at the limit and one past it, silence, and what a reload does to connections."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import tls
from gateway.listener import ConnectionLimits, Listener
from gateway.model.errors import ConfigurationError
from tests.gateway.certificates import NOW, Authority, Files


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The same on a buffer of its own, as an association reads."""

    def __init__(self) -> None:
        self.buffer = bytearray(1024)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


def limits(
    *, connections_max: int = 16, connections_per_address_max: int = 16, greeting_timeout_s: float = 15.0
) -> ConnectionLimits:
    return ConnectionLimits(connections_max, connections_per_address_max, greeting_timeout_s)


class Figures:
    """What was counted."""

    def __init__(self) -> None:
        self.open = 0
        self.refused: list[str] = []
        self.changed = asyncio.Event()

    def connection_opened(self, listener: str) -> None:
        self.open += 1
        self.changed.set()

    def connection_closed(self, listener: str) -> None:
        self.open -= 1
        self.changed.set()

    def connection_refused(self, listener: str, reason: str) -> None:
        self.refused.append(reason)
        self.changed.set()

    async def until(self, open_connections: int) -> None:
        async with asyncio.timeout(30):
            while self.open != open_connections:
                self.changed.clear()
                await self.changed.wait()


class WallClock:
    """A clock that stands at one instant."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now or datetime.now(UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """A listener with its figures, and those who connect to it."""

    def __init__(
        self, limits: ConnectionLimits, secure: ssl.SSLContext | None, now: datetime | None, *, keeps_own_time: bool
    ) -> None:
        self.figures = Figures()
        self.listener = Listener(
            "machines",
            limits,
            self.figures,
            WallClock(now),
            new_protocol=BufferedEcho if keeps_own_time else Echo,
            secure=secure,
            keeps_own_time=keeps_own_time,
        )
        self.callers: list[asyncio.StreamWriter] = []

    async def connect(self, secure: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Connection:
        name = "localhost" if secure else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.listener.port, ssl=secure, server_hostname=name, local_addr=(address, 0)
        )
        self.callers.append(writer)
        return reader, writer


@asynccontextmanager
async def listening(
    limits: ConnectionLimits,
    secure: ssl.SSLContext | None = None,
    now: datetime | None = None,
    *,
    keeps_own_time: bool = False,
) -> AsyncIterator[Door]:
    door = Door(limits, secure, now, keeps_own_time=keeps_own_time)
    door.listener.open("127.0.0.1", 0)
    door.listener.start()
    try:
        yield door
    finally:
        await door.listener.stop()
        door.listener.close()
        await door.figures.until(0)
        for caller in door.callers:
            caller.transport.abort()


async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    try:
        writer.write(b"ping")
        return await asyncio.wait_for(reader.read(4), 30) == b"ping"
    except ConnectionError:
        return False


async def test_one_connection_past_the_limit_of_all_is_closed_at_once() -> None:
    async with listening(limits(connections_max=2)) as door:
        first, second = await door.connect(), await door.connect()
        assert await echoes(*first)
        assert await echoes(*second)
        third = await door.connect()
        assert not await echoes(*third)
        assert door.figures.refused == ["too many connections"]
        first[1].close()
        await door.figures.until(1)
        assert await echoes(*await door.connect()), "a place that was given back is there again"


async def test_one_address_cannot_take_the_places_of_another() -> None:
    async with listening(limits(connections_per_address_max=1)) as door:
        assert await echoes(*await door.connect(address="127.0.0.2"))
        assert not await echoes(*await door.connect(address="127.0.0.2"))
        assert await echoes(*await door.connect(address="127.0.0.3"))
        assert door.figures.refused == ["too many connections from one address"]


async def test_a_silent_connection_is_closed_and_one_that_asks_is_not() -> None:
    async with listening(limits(greeting_timeout_s=0.2)) as door:
        silent, asking = await door.connect(), await door.connect()
        await door.figures.until(2)
        with door.listener.answering(asking[1].get_extra_info("sockname")):
            assert await asyncio.wait_for(silent[0].read(), 30) == b"", "closed by the other side"
            assert door.figures.refused == ["silent"]
            assert await echoes(*asking)


async def test_the_next_head_has_its_time_from_its_first_byte_and_rest_has_more() -> None:
    async with listening(limits(greeting_timeout_s=0.2)) as door:
        resting, dripping = await door.connect(), await door.connect()
        await door.figures.until(2)
        for _, writer in (resting, dripping):
            with door.listener.answering(writer.get_extra_info("sockname")):
                pass
        dripping[1].write(b"G")
        assert await dripping[0].read(1) == b"G"
        assert await asyncio.wait_for(dripping[0].read(), 30) == b"", "closed by the other side"
        assert door.figures.refused == ["silent"]
        assert door.figures.open == 1, "who rests between requests is aiohttp's to close"


async def test_a_protocol_that_keeps_its_own_time_may_be_silent_once_connected(authority: Authority) -> None:
    own = authority.issue("gateway.example", "localhost")
    caller = client(authority, authority.issue("pacs.example"))
    async with listening(limits(greeting_timeout_s=0.2), server(authority, own), keeps_own_time=True) as door:
        quiet = await door.connect(caller)
        assert await echoes(*quiet)
        late, _ = await door.connect()
        assert await asyncio.wait_for(late.read(), 30) == b"", (
            "its handshake took longer than all of the silence before"
        )
        assert await echoes(*quiet)
        assert door.figures.open == 1


@pytest.mark.parametrize(
    ("first_words", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "tls: plain HTTP came, TLS is spoken here"),
        (
            b"\x01\x00\x00\x00\x00\xcf\x00\x01\x00\x00GATEWAY         NORTHMOOR_PACS  ",
            "tls: no TLS came, but plain DICOM or another protocol; TLS is spoken here",
        ),
    ],
)
async def test_plain_words_at_a_tls_port_are_logged_as_what_they_are(
    authority: Authority, first_words: bytes, reason: str
) -> None:
    own = authority.issue("gateway.example", "localhost")
    with capture_logs() as logged:
        async with listening(limits(), server(authority, own), keeps_own_time=True) as door:
            reader, writer = await door.connect()
            writer.write(first_words)
            assert not (await asyncio.wait_for(reader.read(), 30)).startswith(b"\x02"), "no association without TLS"
            await door.figures.until(0)
    assert [line["reason"] for line in logged] == [reason]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def server(authority: Authority, own: Files, crl: Path | None = None) -> ssl.SSLContext:
    return tls.server_context(tls.ServerFiles(own.certificate, own.private_key, authority.certificate, crl))


def client(authority: Authority, files: Files) -> ssl.SSLContext:
    return tls.client_context(tls.ClientFiles(files.certificate, files.private_key, authority.certificate))


async def test_a_handshake_that_never_ends_holds_its_place_only_for_the_head_time(authority: Authority) -> None:
    own = authority.issue("gateway.example", "localhost")
    async with listening(limits(greeting_timeout_s=0.2, connections_max=1), server(authority, own)) as door:
        reader, _ = await door.connect()
        assert await asyncio.wait_for(reader.read(), 30) == b""
        await door.figures.until(0)
        caller = client(authority, authority.issue("late.example"))
        assert await echoes(*await door.connect(caller))


async def test_a_caller_without_a_good_certificate_is_counted_as_refused(authority: Authority) -> None:
    own = authority.issue("gateway.example", "localhost")
    async with listening(limits(), server(authority, own)) as door:
        reader, writer = await door.connect(ssl.create_default_context(cafile=authority.certificate))
        assert not await echoes(reader, writer)
        await door.figures.until(0)
        assert door.figures.refused == ["tls"]


async def test_a_connection_does_not_outlive_its_certificate(authority: Authority) -> None:
    own = authority.issue("gateway.example", "localhost")
    ending = authority.issue("ending.example", not_after=NOW + timedelta(days=2))
    # The gateway's clock says that the certificate ends this very moment.
    async with listening(limits(), server(authority, own), now=NOW + timedelta(days=2)) as door:
        reader, _ = await door.connect(client(authority, ending))
        assert not await asyncio.wait_for(reader.read(), 30), "closed by the other side"
        await door.figures.until(0)


async def test_a_new_context_serves_new_connections_and_leaves_open_ones(authority: Authority) -> None:
    own = authority.issue("gateway.example", "localhost")
    good, bad = authority.issue("good.example"), authority.issue("bad.example")
    async with listening(limits(), server(authority, own)) as door:
        kept = await door.connect(client(authority, good))
        cut = await door.connect(client(authority, bad))
        assert await echoes(*kept)
        assert await echoes(*cut)
        crl = authority.revoke(bad)
        door.listener.secure_with(server(authority, own, crl), tls.revoked_serials(crl))
        await door.figures.until(1)
        assert await echoes(*kept)
        assert await echoes(*await door.connect(client(authority, good)))
        assert not await echoes(*await door.connect(client(authority, bad)))


async def test_after_stop_nobody_is_taken_and_who_is_there_goes_on() -> None:
    async with listening(limits()) as door:
        port, there = door.listener.port, await door.connect()
        assert await echoes(*there)
        await door.listener.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert await echoes(*there)


async def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = Listener("people", limits(), Figures(), WallClock(), new_protocol=Echo, secure=None)
        with pytest.raises(ConfigurationError, match=r"listen\.people: 127\.0\.0\.1 port \d+ cannot be used"):
            listener.open("127.0.0.1", taken.getsockname()[1])
