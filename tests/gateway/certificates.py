"""Certificates for tests: an authority, what it issues, good and bad, and its revocation lists, as files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Files:
    """A certificate with its key on disk."""

    certificate: Path
    private_key: Path

    @property
    def fingerprint(self) -> str:
        return self.read().fingerprint(hashes.SHA256()).hex()

    def read(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


class Authority:
    """A certificate authority with a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.certificate))

    def issue(
        self,
        name: str,
        *hosts: str,
        not_before: datetime = NOW - timedelta(days=1),
        not_after: datetime = NOW + timedelta(days=365),
    ) -> Files:
        """Issue a certificate with `name` as common name, for the hosts or for the name itself."""
        leaf = self._ca.issue_cert(*(hosts or (name,)), common_name=name, not_before=not_before, not_after=not_after)
        files = Files(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        files.private_key.write_bytes(leaf.private_key_pem.bytes())
        files.private_key.chmod(0o600)
        return files

    def revoke(self, *revoked: Files, name: str = "crl", next_update: datetime = NOW + timedelta(days=7)) -> Path:
        """Write a revocation list with these certificates on it."""
        key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), password=None)
        assert isinstance(key, EllipticCurvePrivateKey)
        issuer = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=issuer.subject, last_update=NOW - timedelta(days=10), next_update=next_update
        )
        for files in revoked:
            entry = x509.RevokedCertificateBuilder(files.read().serial_number, NOW - timedelta(days=9))
            builder = builder.add_revoked_certificate(entry.build())
        path = self._folder / f"{name}.pem"
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path
