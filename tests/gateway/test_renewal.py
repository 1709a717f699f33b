"""Certificates renewed while everything runs: new connections show them, and none that is open is dropped (G10)."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import pytest

from dimse.upper_layer.association import Association
from dimse.upper_layer.wire import Ended
from tests.gateway.certificates import Files
from tests.gateway.node import Node
from tests.gateway.test_dimse_door import door_lines, workstation
from tests.peers.dimse_archive import Archive, listening

pytestmark = pytest.mark.slow

QUICK = {"drain_timeout_s = 10.0": "drain_timeout_s = 10.0\nfind_timeout_s = 1.0"}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


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
