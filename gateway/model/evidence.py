"""What an established TLS connection proves of its other end, for every door alike.

Only what TLS itself has accepted is evidence, and the address that the socket has; nothing that the other end says of
itself later. An edge adds what its protocol shows (AE titles). Whom the evidence proves is for `policy.identity`.
"""

from __future__ import annotations

import hashlib
import ssl

from policy.identity import Channel, Evidence

_Names = tuple[tuple[str, str], ...]


def evidence_of_tls(connection: ssl.SSLObject | ssl.SSLSocket, address: str, channel: Channel) -> Evidence:
    """The evidence of an established TLS connection from `address`; no certificate of theirs: the address alone."""
    encoded = connection.getpeercert(binary_form=True)
    if not encoded:
        return Evidence(channel, address)
    # Empty unless the certificate was verified, in which case the fingerprint alone is no evidence either.
    certificate = connection.getpeercert()
    if not certificate:
        return Evidence(channel, address)
    subject: tuple[_Names, ...] = certificate.get("subject", ())  # type: ignore[assignment]  # typeshed: one type for all entries
    alternatives: _Names = certificate.get("subjectAltName", ())  # type: ignore[assignment]  # as above
    common_names = [value for names in subject for name, value in names if name == "commonName"]
    return Evidence(
        channel=channel,
        address=address,
        certificate_sha256=hashlib.sha256(encoded).hexdigest(),
        # Two common names name nobody.
        common_name=common_names[0] if len(common_names) == 1 else "",
        dns_names=tuple(value for kind, value in alternatives if kind == "DNS"),
        uris=tuple(value for kind, value in alternatives if kind == "URI"),
    )
