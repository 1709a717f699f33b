"""Certificates renewed while everything runs: new connections show them, and none that is open is dropped (G10)."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dimse.upper_layer.association import Association
from dimse.upper_layer.wire import Ended
from tests.forked import Forks
from tests.gateway.certificates import Files
from tests.gateway.node import Node
from tests.gateway.test_dimse_door import door_lines, workstation
from tests.peers.dimse_archive import Archive, listening

pytestmark = pytest.mark.slow

QUICK = {"drain_timeout_s = 10.0": "drain_timeout_s = 10.0\nfind_timeout_s = 1.0"}


@pytest.fixture
def node(tmp_path: Path, forks: Forks) -> Node:
    return Node(tmp_path, forks.start)


def archives_tls(node: Node, shown: Files) -> ssl.SSLContext:
    """TLS of an archive that asks for our certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=node.authority.certificate)
    context.load_cert_chain(shown.certificate, shown.private_key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def peer(node: Node, archive: Archive, ours: Files) -> str:
    """Eastvale's archive, asked by C-FIND over TLS."""
    return f"""
[[peer]]
trust = "RZ2"
connector = "dimse"
address = "localhost:{archive.port}"
ae_title = "ARCHIVE"
calling_ae_title = "GATEWAY"
client_certificate = "{ours.certificate}"
client_private_key = "{ours.private_key}"
ca = "{node.authority.certificate}"
"""


def shown_to(association: Association) -> int:
    """The serial number of the certificate that the gateway showed."""
    assert association.ssl_object is not None
    certificate = association.ssl_object.getpeercert()
    assert certificate is not None
    return int(str(certificate["serialNumber"]), 16)


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection of the gateway's to a web archive."""

    serial_number: int
    is_over: asyncio.Event


class WebArchive:
    """An archive that has nothing, and sees which certificate each question comes by."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: asyncio.Queue[Connected] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def listening(cls, secure: ssl.SSLContext) -> AsyncIterator[WebArchive]:
        """One that listens until the block ends."""
        archive = cls()
        server = await asyncio.start_server(archive._serve, "127.0.0.1", 0, ssl=secure)
        archive.port = server.sockets[0].getsockname()[1]
        async with server:
            yield archive

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert()
        connected = Connected(int(str(shown["serialNumber"]), 16), asyncio.Event())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked.put_nowait(connected)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 2\r\n\r\n"
                writer.write(head + b"[]")
        except (asyncio.IncompleteReadError, ConnectionError):
            connected.is_over.set()
        finally:
            writer.close()


def web_peer(node: Node, port: int, ours: Files) -> str:
    """Eastvale's archive, asked by QIDO over TLS."""
    return f"""
[[peer]]
trust = "RZ2"
url = "https://localhost:{port}/dicom-web"
client_certificate = "{ours.certificate}"
client_private_key = "{ours.private_key}"
ca = "{node.authority.certificate}"
"""


async def asked_anew(archive: Archive) -> Association:
    """Wait for the next question; the association that it came on."""
    async with asyncio.timeout(30):
        await archive.was_asked.wait()
    archive.was_asked.clear()
    return archive.associations[-1]


async def test_archives_are_shown_a_renewed_certificate_and_their_old_associations_are_released(node: Node) -> None:
    ours = node.authority.issue("asker.example")
    old = ours.read().serial_number
    async with listening(
        Archive(), archives_tls(node, node.authority.issue("archive.example", "localhost"))
    ) as archive:
        node.write(peer(node, archive, ours), replace=QUICK)
        async with node.serving() as serving:
            before = await asked_anew(archive)
            assert shown_to(before) == old
            node.authority.issue("asker.example")
            serving.signal(signal.SIGHUP)
            await serving.logged("reloaded")
            after = await asked_anew(archive)
            assert shown_to(after) == ours.read().serial_number != old
            async with asyncio.timeout(30):
                await before.over()
            assert before.end is not None and before.end.why is Ended.RELEASED
            assert after.is_open


async def test_web_archives_are_shown_a_renewed_certificate_and_their_old_connections_end(node: Node) -> None:
    ours = node.authority.issue("asker.example")
    old = ours.read().serial_number
    async with WebArchive.listening(
        archives_tls(node, node.authority.issue("archive.example", "localhost"))
    ) as archive:
        node.write(web_peer(node, archive.port, ours), replace=QUICK)
        async with node.serving() as serving:
            before = await archive.asked.get()
            assert before.serial_number == old
            node.authority.issue("asker.example")
            serving.signal(signal.SIGHUP)
            await serving.logged("reloaded")
            async with asyncio.timeout(30):
                while (after := await archive.asked.get()).serial_number == old:
                    pass  # a probe that was under way
                await before.is_over.wait()
            assert after.serial_number == ours.read().serial_number
            assert not after.is_over.is_set()


async def test_an_association_at_the_door_outlives_the_renewal_of_the_doors_certificate(node: Node) -> None:
    node.write(replace=door_lines(node))
    async with node.serving() as serving, workstation(serving, node.pacs) as pacs:
        assert await pacs.echo() == 0
        port = int(serving.dimse.partition("/")[0].rpartition(":")[2])
        before = await shown_at(port, serving.client(node.pacs))
        node.authority.issue("gateway.example", "localhost", "127.0.0.1")
        serving.signal(signal.SIGHUP)
        await serving.logged("reloaded")
        assert await pacs.echo() == 0
        assert await shown_at(port, serving.client(node.pacs)) != before
        assert not any(line.get("event") == "association ended" for line in serving.log)


async def shown_at(port: int, context: ssl.SSLContext) -> bytes | None:
    """The certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=context, server_hostname="localhost")
    shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown
