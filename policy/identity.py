"""Turn evidence into a principal, or say why it proves nobody.

Certificate, AE title and address together must bind to exactly one configured caller, and the certificate to exactly
one ODS code; an AE title alone proves nothing (threats.md 2, domain.md C3). The certificate's chain, dates and
revocation are the TLS layer's to check; what arrives here it has accepted. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from policy.parties import Principal, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Proof

Network = IPv4Network | IPv6Network


class Channel(StrEnum):
    """The doors by which a caller may come."""

    HTTPS = "https"
    """DICOMweb; the name stands for plain HTTP on loopback too."""
    DIMSE = "dimse"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a connection shows of its other end. Empty strings: nothing was shown."""

    channel: Channel
    address: str
    """The other end's IP address, as the socket has it; never one from a header."""
    certificate_sha256: str = ""
    """Fingerprint of the accepted client certificate: SHA-256 over its DER form, lower-case hexadecimal."""
    common_name: str = ""
    """The certificate's subject common name."""
    dns_names: tuple[str, ...] = ()
    """The certificate's subject alternative names of type DNS."""
    uris: tuple[str, ...] = ()
    """The certificate's subject alternative names of type URI."""
    ae_title: str = ""
    """Calling AE title."""
    called_ae_title: str = ""
    stated_identity: str = ""
    """The user that the other end claims to be (PS3.7 D.3.3.7): recorded beside the question, never believed (DEC-03).

    `username <text>`, or `jwt sha256:<hexadecimal>` and the like for what may be a secret.
    """


@dataclass(frozen=True, slots=True)
class CallerBinding:
    """One configured caller, `[[caller]]`: whom it stands for, and the evidence that proves it.

    Whatever is configured must be shown; what is left empty is not asked for. Only a `loopback_only` caller may have
    neither fingerprint nor certificate name.
    """

    name: str
    trust: TrustId
    kind: PrincipalKind = PrincipalKind.SYSTEM
    certificate_sha256: str = ""
    certificate_name: str = ""
    """A subject alternative name (DNS or URI) of the certificate, or the common name of one that has none."""
    addresses: tuple[Network, ...] = ()
    ae_titles: tuple[str, ...] = ()
    teams: frozenset[str] = frozenset()
    purposes: tuple[PurposeOfUse, ...] = (PurposeOfUse.TREAT,)
    """Purposes it may state; the first is meant when it states none."""
    asks_for: frozenset[TrustId] = frozenset()
    """Of another gateway: the trusts that it may speak for. It never speaks for itself (DEC-01)."""
    loopback_only: bool = False
    """Comes from this machine alone, and then needs no certificate."""


class Unproven(StrEnum):
    """Why evidence proves nobody. For the log and the audit: the other end learns only that it is not identified."""

    NO_CERTIFICATE = "no-certificate"
    CERTIFICATE_UNKNOWN = "certificate-unknown"
    CERTIFICATE_OF_SEVERAL_TRUSTS = "certificate-of-several-trusts"
    ADDRESS_INVALID = "address-invalid"
    ADDRESS_UNKNOWN = "address-unknown"
    AE_TITLE_UNKNOWN = "ae-title-unknown"
    AMBIGUOUS = "ambiguous"
    TRUST_NOT_STATED = "asking-trust-not-stated"
    TRUST_NOT_SPOKEN_FOR = "asking-trust-not-spoken-for"
    PURPOSE_UNKNOWN = "purpose-unknown"
    PURPOSE_NOT_ALLOWED = "purpose-not-allowed"


@dataclass(frozen=True, slots=True)
class NotProven:
    """The evidence does not bind to exactly one caller."""

    reason: Unproven


def identify(evidence: Evidence, bindings: Sequence[CallerBinding]) -> Principal | NotProven:
    """Find the one caller that the evidence proves."""
    address = _parse_address(evidence.address)
    if address is None:
        return NotProven(Unproven.ADDRESS_INVALID)
    candidates = _by_certificate(evidence, bindings)
    if isinstance(candidates, NotProven):
        return candidates
    candidates = [binding for binding in candidates if _admits_address(binding, address)]
    if not candidates:
        return NotProven(Unproven.ADDRESS_UNKNOWN)
    if evidence.channel is Channel.DIMSE:
        # Leading and trailing spaces of an AE title are not significant (PS3.5 6.2), its case is.
        candidates = [binding for binding in candidates if evidence.ae_title.strip(" ") in binding.ae_titles]
        if not candidates:
            return NotProven(Unproven.AE_TITLE_UNKNOWN)
    if len(candidates) > 1:
        return NotProven(Unproven.AMBIGUOUS)
    binding = candidates[0]
    return Principal(binding.name, binding.kind, binding.trust, binding.teams, _proofs(evidence, binding))


def purpose_of(binding: CallerBinding, stated: str) -> PurposeOfUse | NotProven:
    """Read a stated purpose code for an identified caller; an empty one means the caller's first.

    A code that is not direct care is passed on for the rules to deny, and the audit to keep; a direct-care code must be
    among those configured: the right to break the glass is itself authorised (SHR-23).
    """
    code = stated.strip()
    if not code:
        return binding.purposes[0] if binding.purposes else NotProven(Unproven.PURPOSE_NOT_ALLOWED)
    try:
        purpose = PurposeOfUse(code)
    except ValueError:
        return NotProven(Unproven.PURPOSE_UNKNOWN)
    if purpose.is_direct_care and purpose not in binding.purposes:
        return NotProven(Unproven.PURPOSE_NOT_ALLOWED)
    return purpose


def standing_for(binding: CallerBinding) -> Principal:
    """Whom a caller stands for where durable work goes on in its name: proved by what it has to show whenever it asks.

    Nobody is connected then. Its first request was proved by evidence, and whatever evidence its entry demands now it
    would have to show again.
    """
    proofs = {Channel.DIMSE.value, Proof.AE_TITLE.value} if binding.ae_titles else {Channel.HTTPS.value}
    proofs.add(Proof.CERTIFICATE.value if _demands_certificate(binding) else Proof.LOOPBACK.value)
    if binding.addresses:
        proofs.add(Proof.ADDRESS.value)
    return Principal(binding.name, binding.kind, binding.trust, binding.teams, frozenset(proofs))


def trust_of(binding: CallerBinding, stated: str) -> TrustId | NotProven:
    """Which trust asks: the caller's own, or the one of its trusts for which another gateway says that it asks.

    Only a gateway may say so: what another system said of a trust would make one trust's certificate speak for two.
    """
    code = stated.strip()
    if binding.kind is not PrincipalKind.GATEWAY:
        return NotProven(Unproven.TRUST_NOT_SPOKEN_FOR) if code else binding.trust
    if not code:
        return NotProven(Unproven.TRUST_NOT_STATED)
    return next((trust for trust in binding.asks_for if trust.code == code), NotProven(Unproven.TRUST_NOT_SPOKEN_FOR))


def _by_certificate(evidence: Evidence, bindings: Sequence[CallerBinding]) -> list[CallerBinding] | NotProven:
    if not evidence.certificate_sha256:
        plain = [binding for binding in bindings if binding.loopback_only and not _demands_certificate(binding)]
        return plain or NotProven(Unproven.NO_CERTIFICATE)
    shown = [binding for binding in bindings if _demands_certificate(binding) and _shows_certificate(evidence, binding)]
    if not shown:
        return NotProven(Unproven.CERTIFICATE_UNKNOWN)
    # An AE title or address must not decide between two trusts: then it alone would prove one of them.
    if len({binding.trust for binding in shown}) > 1:
        return NotProven(Unproven.CERTIFICATE_OF_SEVERAL_TRUSTS)
    return shown


def _demands_certificate(binding: CallerBinding) -> bool:
    return bool(binding.certificate_sha256 or binding.certificate_name)


def _shows_certificate(evidence: Evidence, binding: CallerBinding) -> bool:
    if binding.certificate_sha256 and binding.certificate_sha256.lower() != evidence.certificate_sha256.lower():
        return False
    return not binding.certificate_name or binding.certificate_name.casefold() in _names(evidence)


def _names(evidence: Evidence) -> frozenset[str]:
    """Names of the certificate, compared whole: a wildcard in one is a character like any other.

    The common name counts only where there is no alternative name (RFC 9525 2).
    """
    names = (*evidence.dns_names, *evidence.uris) or (evidence.common_name,)
    return frozenset(name.casefold() for name in names if name)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _admits_address(binding: CallerBinding, address: IPv4Address | IPv6Address) -> bool:
    if binding.loopback_only and not address.is_loopback:
        return False
    return not binding.addresses or any(address in network for network in binding.addresses)


def _proofs(evidence: Evidence, binding: CallerBinding) -> frozenset[str]:
    proofs = {evidence.channel.value}
    if evidence.certificate_sha256:
        proofs.add(Proof.CERTIFICATE.value)
    else:
        proofs.add(Proof.LOOPBACK.value)
    if binding.addresses:
        proofs.add(Proof.ADDRESS.value)
    if evidence.channel is Channel.DIMSE:
        proofs.add(Proof.AE_TITLE.value)
    return frozenset(proofs)
