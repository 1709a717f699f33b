"""TLS by BCP 195 at a real socket: who is let in, who is not, and what ends when (G10 of the threats)."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway import tls
from gateway.model.errors import ConfigurationError
from tests.gateway.certificates import NOW, Authority, Files


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_files(authority: Authority) -> Files:
    return authority.issue("gateway.example", "localhost", "127.0.0.1")


def _server(authority: Authority, server: Files, crl: Path | None = None) -> ssl.SSLContext:
    return tls.server_context(tls.ServerFiles(server.certificate, server.private_key, authority.certificate, crl))


def _client(authority: Authority, client: Files) -> ssl.SSLContext:
    return tls.client_context(tls.ClientFiles(client.certificate, client.private_key, authority.certificate))


@contextmanager
def _listening(context: ssl.SSLContext) -> Iterator[int]:
    """Answer every accepted client with one line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        secure.sendall(b"welcome")
                except (ssl.SSLError, OSError):
                    plain.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _is_let_in(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> bool:
    with _listening(server) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with client.wrap_socket(plain, server_hostname=name) as secure:
                return secure.recv(16) == b"welcome"
        except (ssl.SSLError, OSError):
            return False


def test_a_client_of_the_authority_is_let_in(authority: Authority, server_files: Files) -> None:
    client = authority.issue("pacs.example")
    assert _is_let_in(_server(authority, server_files), _client(authority, client))


def _expired(authority: Authority) -> Files:
    return authority.issue("expired.example", not_after=NOW - timedelta(hours=1))


def _not_yet_valid(authority: Authority) -> Files:
    return authority.issue("early.example", not_before=NOW + timedelta(hours=1))


def _of_another_authority(authority: Authority) -> Files:
    return Authority(authority.certificate.parent / "other", "other").issue("pacs.example")


@pytest.mark.parametrize("bad", [_expired, _not_yet_valid, _of_another_authority])
def test_a_client_with_a_bad_certificate_is_not_let_in(
    authority: Authority, server_files: Files, bad: Callable[[Authority], Files]
) -> None:
    assert not _is_let_in(_server(authority, server_files), _client(authority, bad(authority)))


def test_a_client_without_a_certificate_is_not_let_in(authority: Authority, server_files: Files) -> None:
    bare = ssl.create_default_context(cafile=authority.certificate)
    assert not _is_let_in(_server(authority, server_files), bare)


def test_a_listener_for_people_asks_for_no_certificate(authority: Authority, server_files: Files) -> None:
    people = tls.server_context(tls.ServerFiles(server_files.certificate, server_files.private_key))
    assert _is_let_in(people, ssl.create_default_context(cafile=authority.certificate))


def test_a_revoked_client_is_not_let_in_and_another_still_is(authority: Authority, server_files: Files) -> None:
    revoked, good = authority.issue("revoked.example"), authority.issue("good.example")
    server = _server(authority, server_files, authority.revoke(revoked))
    assert not _is_let_in(server, _client(authority, revoked))
    assert _is_let_in(server, _client(authority, good))


def test_an_ended_revocation_list_lets_nobody_in(authority: Authority, server_files: Files) -> None:
    stale = authority.revoke(name="stale-crl", next_update=NOW - timedelta(days=1))
    client = authority.issue("stale.example")
    assert not _is_let_in(_server(authority, server_files, stale), _client(authority, client))
    assert tls.crl_validity("crl", stale).warning_day(NOW) == 0


def _at_most(context: ssl.SSLContext, version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    # An old client: whatever the system's own policy says, it offers what the test asks for.
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning) if version < ssl.TLSVersion.TLSv1_2 else _nothing():
        context.minimum_version = version
        context.maximum_version = version
    return context


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_before_tls_1_2_are_not_let_in(
    authority: Authority, server_files: Files, version: ssl.TLSVersion
) -> None:
    client = _at_most(_client(authority, authority.issue("old.example")), version, "ALL")
    assert not _is_let_in(_server(authority, server_files), client)
    lax = _at_most(_server(authority, server_files), version, "ALL")
    assert _is_let_in(lax, client), "the client itself could"


@pytest.mark.parametrize("suite", tls.TLS_1_2_SUITES[::2])
def test_the_suites_of_rfc_9325_are_let_in_over_tls_1_2(authority: Authority, server_files: Files, suite: str) -> None:
    client = _at_most(_client(authority, authority.issue("tls12.example")), ssl.TLSVersion.TLSv1_2, suite)
    assert _is_let_in(_server(authority, server_files), client)


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"])
def test_other_suites_of_tls_1_2_are_not_let_in(authority: Authority, server_files: Files, suite: str) -> None:
    client = _at_most(_client(authority, authority.issue("weak.example")), ssl.TLSVersion.TLSv1_2, suite)
    assert not _is_let_in(_server(authority, server_files), client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(authority: Authority, server_files: Files, version: ssl.TLSVersion) -> None:
    server, client = _server(authority, server_files), _client(authority, authority.issue("again.example"))
    client.maximum_version = version
    with _listening(server) as port:
        session, reused = None, []
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                client.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
            ):
                assert secure.recv(16) == b"welcome"
                session = secure.session
                reused.append(secure.session_reused)
    assert reused == [False, False]


def test_a_peer_with_another_name_or_authority_is_not_believed(authority: Authority, server_files: Files) -> None:
    client = authority.issue("asker.example")
    assert not _is_let_in(_server(authority, server_files), _client(authority, client), name="elsewhere.example")
    other = Authority(authority.certificate.parent / "foreign", "foreign")
    impostor = other.issue("impostor.example", "localhost")
    assert not _is_let_in(_server(authority, impostor), _client(authority, client))


def test_warnings_come_at_30_14_and_3_days_and_at_the_end(authority: Authority) -> None:
    files = authority.issue("ending.example", not_after=NOW + timedelta(days=30))
    [validity] = tls.validities([("listen.machines.certificate", files.certificate)])
    days = {left: validity.warning_day(validity.valid_until - timedelta(days=left)) for left in (31, 30, 15, 14, 4, 3)}
    assert days == {31: None, 30: 30, 15: 30, 14: 14, 4: 14, 3: 3}
    assert validity.warning_day(validity.valid_from - timedelta(seconds=1)) == 0
    assert validity.warning_day(validity.valid_until) == 0
    long_lived = authority.issue("long.example")
    [validity] = tls.validities([("certificate", long_lived.certificate)])
    assert validity.warning_day(NOW) is None


def test_revoked_serials_are_read(authority: Authority) -> None:
    files = authority.issue("listed.example")
    assert tls.revoked_serials(authority.revoke(files, name="listed-crl")) == {files.read().serial_number}


def test_files_that_do_not_load_are_named(authority: Authority, server_files: Files, tmp_path: Path) -> None:
    other = authority.issue("unfit.example")
    with pytest.raises(ConfigurationError, match="do not load together"):
        tls.server_context(tls.ServerFiles(server_files.certificate, other.private_key))
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing here\n")
    with pytest.raises(ConfigurationError, match="client_ca: no certificate"):
        tls.server_context(tls.ServerFiles(server_files.certificate, server_files.private_key, empty))
    with pytest.raises(ConfigurationError, match="holds no certificate of an authority"):
        tls.server_context(
            tls.ServerFiles(server_files.certificate, server_files.private_key, server_files.certificate)
        )
    with pytest.raises(ConfigurationError, match="crl: no revocation list"):
        _server(authority, server_files, empty)


def test_a_key_with_a_pass_phrase_is_refused_instead_of_asked_for(
    authority: Authority, server_files: Files, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", server_files.private_key, "-out", locked],
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigurationError, match="must have no pass phrase"):
        tls.server_context(tls.ServerFiles(server_files.certificate, locked))
