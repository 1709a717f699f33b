"""TLS contexts by BCP 195 (RFC 8996, RFC 9325; PS3.15 B.12), and when their certificates end.

One place says which versions, suites and checks count, for both listeners and for every peer. Knows files, not the
configuration and not the network. A context is never changed: a reload builds a new one, so that a removed CA, a new
revocation list or a session of before cannot linger in it. cryptography is used only to read dates and serials.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from gateway.model.errors import ConfigurationError

TLS_1_2_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""The four of RFC 9325 4.2, in OpenSSL's names. TLS 1.3 has only good ones."""

WARNING_DAYS = (30, 14, 3)
"""Days before its end at which a certificate is warned of."""

GRACE_BEGINS_BEFORE = timedelta(hours=2)
"""Certificates are looked at every hour: so early before its end that none is refused in between."""


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What a listener shows, and by which authority its clients must be certified (None: clients show nothing)."""

    certificate: Path
    private_key: Path
    client_ca: Path | None = None
    crl: Path | None = None


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """What we show a peer, and by which authority it must be certified."""

    certificate: Path
    private_key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Validity:
    """The life of one certificate or revocation list. `name` is the setting that names the file."""

    name: str
    path: Path
    valid_from: datetime
    valid_until: datetime

    def days_left(self, now: datetime) -> float:
        """Days until the end; negative once it is past."""
        return (self.valid_until - now) / timedelta(days=1)

    def warning_day(self, now: datetime) -> int | None:
        """The narrowest warning that is due: 30, 14, 3, 0 for ended or not begun; None while all is well."""
        if not self.valid_from <= now < self.valid_until:
            return 0
        return min((day for day in WARNING_DAYS if self.days_left(now) <= day), default=None)


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """A certificate as its holder showed it, for words about it: nothing of it is proven."""

    subject: str
    issuer: str
    validity: Validity


def shown_certificate(encoded: bytes) -> ShownCertificate | None:
    """Read a certificate (DER) that was shown on a connection; None if it cannot be read."""
    try:
        one = x509.load_der_x509_certificate(encoded)
        subject, issuer = one.subject.rfc4514_string(), one.issuer.rfc4514_string()
    except ValueError:
        return None
    return ShownCertificate(subject, issuer, Validity("", Path(), one.not_valid_before_utc, one.not_valid_after_utc))


def server_context(files: ServerFiles, *, checks_crl: bool = True) -> ssl.SSLContext:
    """A context for a listener; a client certificate is required if `client_ca` is given. `ConfigurationError`.

    Without `checks_crl` whoever takes connections must hold them to `revoked_serials`.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, files.certificate, files.private_key)
    if files.client_ca is not None:
        _load_authority(context, files.client_ca, "client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
        if files.crl is not None and checks_crl:
            _load_crl(context, files.crl)
    return context


def client_context(files: ClientFiles) -> ssl.SSLContext:
    """A context for asking one peer: its name is checked, our certificate is shown. Raises `ConfigurationError`."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _load_own(context, files.certificate, files.private_key)
    _load_authority(context, files.ca, "ca")
    return context


def validities(named: Sequence[tuple[str, Path]]) -> list[Validity]:
    """Read the life of every certificate in the files (all of a chain). Raises `ConfigurationError`."""
    found = []
    for name, path in named:
        try:
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError([f"{name}: no certificate can be read from {path}"]) from error
        found += [Validity(name, path, one.not_valid_before_utc, one.not_valid_after_utc) for one in certificates]
    return found


def crl_validity(name: str, path: Path) -> Validity:
    """The life of a revocation list; one that has ended lets nobody in. Raises `ConfigurationError`."""
    crl = _read_crl(path)
    ends = crl.next_update_utc or datetime.max.replace(tzinfo=crl.last_update_utc.tzinfo)
    return Validity(name, path, crl.last_update_utc, ends)


def is_in_grace(crl: Path, now: datetime, grace: timedelta) -> bool:
    """Whether a revocation list has ended, or is about to, and still counts for a while as it last was (SAF-39).

    OpenSSL lets nobody in by a list that has ended, not even who is not on it. Raises `ConfigurationError`.
    """
    ends = crl_validity("crl", crl).valid_until
    return ends - GRACE_BEGINS_BEFORE <= now < ends + grace


def revoked_serials(path: Path) -> frozenset[int]:
    """The serial numbers on a revocation list. Raises `ConfigurationError`."""
    return frozenset(entry.serial_number for entry in _read_crl(path))


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(TLS_1_2_SUITES))
    # No resumption: a session must not outlive the certificate that began it.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    try:
        # A key with a pass phrase would ask at the terminal: an empty one makes it fail instead.
        context.load_cert_chain(certificate, private_key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "unreadable"
        problem = f"{certificate} and {private_key} do not load together ({reason}); the key must have no pass phrase"
        raise ConfigurationError([problem]) from error


def _load_authority(context: ssl.SSLContext, path: Path, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError([f"{name}: no certificate can be read from {path}"]) from error
    if not context.get_ca_certs():
        raise ConfigurationError([f"{name}: {path} holds no certificate of an authority"])


def _load_crl(context: ssl.SSLContext, path: Path) -> None:
    _read_crl(path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError([f"crl: {path} does not load"]) from error
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _read_crl(path: Path) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"crl: no revocation list (PEM) can be read from {path}"]) from error
