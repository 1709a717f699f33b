"""Judge what the file says of other gateways: whom one of them may ask for, and how one is asked (DEC-01).

A gateway as a caller never speaks for itself and never by C-FIND; a gateway as a peer stands for one trust, at the
address where it answers for that trust alone. Every check yields all that it finds, each with its path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.config.configuration import Configuration
from gateway.config.entries import CallerEntry, DicomwebPeerEntry
from gateway.config.transport import AnyPeer
from gateway.sharing.directory import PatientIdAsked
from policy.parties import PrincipalKind, TrustId


def callers(configuration: Configuration) -> Iterator[str]:
    """Gateways that could ask for nobody or for anybody, and others that would ask as one."""
    known = {trust.ods for trust in configuration.trust}
    for number, caller in enumerate(configuration.caller, start=1):
        place = f"caller {number} ({caller.name})"
        if caller.kind is PrincipalKind.GATEWAY:
            yield from _gateway_caller(place, caller, known)
        elif caller.asks_for:
            yield f'{place}.asks_for: only a caller of kind "gateway" asks for other trusts than its own'


def peers(configuration: Configuration) -> Iterator[str]:
    """Gateways that are asked as they cannot be, or as an archive is."""
    for number, peer in enumerate(configuration.peer, start=1):
        if peer.gateway:
            place = f"peer {number} ({peer.trust})"
            yield from _gateway_peer(place, peer)
            if peer.trust.code in configuration.sharing.location_feeds:
                yield f"sharing.location_feeds: {peer.trust} is behind another gateway, which keeps its own index"


def _gateway_caller(place: str, caller: CallerEntry, known: set[TrustId]) -> Iterator[str]:
    if not caller.asks_for:
        yield f"{place}.asks_for: must name the trusts that this gateway may ask for; it asks nothing for itself"
    for trust, count in Counter(caller.asks_for).items():
        if trust not in known:
            yield f"{place}.asks_for: no [[trust]] has the code {trust}"
        if count > 1:
            yield f"{place}.asks_for: {trust} stands {count} times"
    if caller.ae_titles:
        yield f"{place}.ae_titles: C-FIND cannot say for whom a gateway asks; it asks by DICOMweb"
    if caller.teams:
        yield f"{place}.teams: a gateway is no person"


def _gateway_peer(place: str, peer: AnyPeer) -> Iterator[str]:
    if not isinstance(peer, DicomwebPeerEntry):
        yield f'{place}.gateway: C-FIND cannot say for whom it asks; another gateway is asked by connector = "dicomweb"'
        return
    if not urlsplit(peer.url).path.rstrip("/").endswith(f"/dicom-web/trust/{peer.trust}"):
        yield f"{place}.url: must end with /dicom-web/trust/{peer.trust}, where the gateway answers for it alone"
    if peer.quirks:
        yield f"{place}.quirks: a gateway has none"
    if peer.patient_id is not PatientIdAsked.NHS_NUMBER:
        yield f"{place}.patient_id: a gateway is asked by the NHS number, and knows its archives' own"
    if peer.patient_id_issuer:
        yield f"{place}.patient_id_issuer: a gateway names the issuer of every number"
