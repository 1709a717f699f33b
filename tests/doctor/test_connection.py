"""`gateway doctor` at archives' TLS: whose certificate failed whom, and what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.doctor.findings import Finding, Report, Verdict
from tests.doctor.archives import dimse_peer, examined, of
from tests.gateway.certificates import NOW, Authority, Files
from tests.peers.dimse_archive import Archive, listening


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def server(shown: Files, clients: Authority) -> ssl.SSLContext:
    """TLS as an archive speaks it: its certificate, and whose clients it takes."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients.certificate)
    context.load_cert_chain(shown.certificate, shown.private_key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def peer(port: int, ours: Files, ca: Authority) -> str:
    """A [[peer]] that is asked over TLS."""
    files = (f'client_certificate = "{ours.certificate}"', f'client_private_key = "{ours.private_key}"')
    return dimse_peer(port, *files, f'ca = "{ca.certificate}"')


async def doctor(folder: Path, context: ssl.SSLContext | None, ours: Files, ca: Authority) -> Report:
    """Examine an archive that speaks so."""
    async with listening(Archive(), context) as archive:
        return await examined(folder, peer(archive.port, ours, ca))


@contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[int]:
    """The port of a server that says why it refuses, as OpenSSL does and asyncio's servers do not."""

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as secured:
                secured.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def failure(report: Report) -> Finding:
    """Why the handshake failed."""
    finding = of(report, "handshake")
    assert finding.verdict is Verdict.FAILED and report.has_failed
    return finding


async def test_a_good_connection_says_whose_certificate_it_is_and_how_long_it_lives(
    tmp_path: Path, authority: Authority
) -> None:
    context = server(authority.issue("pacs.example", "localhost"), authority)
    report = await doctor(tmp_path, context, authority.issue("us.example"), authority)
    assert not report.has_failed
    assert "CN=pacs.example" in of(report, "certificate").found and "days left" in of(report, "certificate").found


async def test_a_certificate_near_its_end_is_warned_of(tmp_path: Path, authority: Authority) -> None:
    shown = authority.issue("pacs.example", "localhost", not_after=NOW + timedelta(days=5))
    report = await doctor(tmp_path, server(shown, authority), authority.issue("us.example"), authority)
    assert of(report, "certificate").verdict is Verdict.WARNING and not report.has_failed


async def test_an_ended_certificate_of_the_archive_is_theirs_to_renew(tmp_path: Path, authority: Authority) -> None:
    shown = authority.issue(
        "pacs.example", "localhost", not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1)
    )
    report = await doctor(tmp_path, server(shown, authority), authority.issue("us.example"), authority)
    assert "expired" in failure(report).found and "the archive must renew" in failure(report).advice


async def test_another_name_is_said_with_whose_certificate_it_is(tmp_path: Path, authority: Authority) -> None:
    shown = authority.issue("other.example")
    report = await doctor(tmp_path, server(shown, authority), authority.issue("us.example"), authority)
    assert "for another name" in failure(report).advice
    assert "CN=other.example" in of(report, "certificate").found


async def test_an_authority_that_we_do_not_know_is_to_be_put_into_ca(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path / "certificates", "stranger")
    context = server(stranger.issue("pacs.example", "localhost"), authority)
    report = await doctor(tmp_path, context, authority.issue("us.example"), authority)
    assert "`ca`" in failure(report).advice


async def test_an_archive_that_does_not_know_our_authority_says_so(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path / "certificates", "stranger")
    ours = authority.issue("us.example")
    with refusing(server(authority.issue("pacs.example", "localhost"), stranger)) as port:
        report = await examined(tmp_path, peer(port, ours, authority))
    assert "does not know the authority of our client_certificate" in failure(report).advice


async def test_our_ended_certificate_is_ours_to_renew(tmp_path: Path, authority: Authority) -> None:
    ended = authority.issue("us.example", not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1))
    with refusing(server(authority.issue("pacs.example", "localhost"), authority)) as port:
        report = await examined(tmp_path, peer(port, ended, authority))
    assert "our client_certificate has ended" in failure(report).advice


async def test_plain_dicom_at_a_secure_port_is_recognised(tmp_path: Path, authority: Authority) -> None:
    report = await doctor(tmp_path, None, authority.issue("us.example"), authority)
    assert "TLS" in failure(report).advice
