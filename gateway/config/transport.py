"""Judge what the file says of doors and connections: plain transport (SAF-41, SAF-70), certificates, addresses.

Both sides of every connection between machines show certificates; what is plain is on loopback, and by explicit word.
Every check yields all that it finds, each with its path. Reads certificates, opens no socket.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import assert_never
from urllib.parse import urlsplit

from dicomweb.connector import Quirk as DicomwebQuirk
from dicomweb.dicomjson import is_known_charset
from dimse.scu.questions import Quirk as DimseQuirk
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import DicomwebPeerEntry, DimsePeerEntry, LookupKind
from gateway.config.release.feeds import Hl7Listener
from gateway.config.sections import AnyListener, DimseListener, PeopleListener
from gateway.instances import charsets
from gateway.model.errors import ConfigurationError

PORT_MAX = 65_535

AnyPeer = DicomwebPeerEntry | DimsePeerEntry


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def peers(configuration: Configuration) -> Iterator[tuple[str, AnyPeer]]:
    """Every archive, with its place in the file."""
    for number, peer in enumerate(configuration.peer, start=1):
        yield f"peer {number} ({peer.trust})", peer


def is_plain(listener: AnyListener) -> bool:
    """Whether it speaks without TLS."""
    if isinstance(listener, DimseListener | Hl7Listener):
        return listener.plain_on_loopback
    return listener.plain_http_on_loopback


def server_files(listener: AnyListener) -> tls.ServerFiles | None:
    """The certificates of a listener, or None for plain transport on loopback."""
    if is_plain(listener) or listener.certificate is None or listener.private_key is None:
        return None
    if isinstance(listener, PeopleListener):
        return tls.ServerFiles(listener.certificate, listener.private_key)
    return tls.ServerFiles(listener.certificate, listener.private_key, listener.client_ca, listener.crl)


def client_files(peer: AnyPeer) -> tls.ClientFiles | None:
    """What we show a peer, or None where nothing is shown: plain transport on loopback."""
    is_plain_dimse = isinstance(peer, DimsePeerEntry) and peer.plain_on_loopback
    if is_plain_dimse or peer.client_certificate is None or peer.client_private_key is None or peer.ca is None:
        return None
    return tls.ClientFiles(peer.client_certificate, peer.client_private_key, peer.ca)


def listeners(configuration: Configuration) -> Iterator[str]:
    """Doors that are open wider than they may be, or that collide."""
    listen = configuration.listen
    doors: dict[str, AnyListener] = {"machines": listen.machines, "people": listen.people}
    if listen.dimse is not None:
        doors["dimse"] = listen.dimse
    if listen.hl7 is not None:
        doors["hl7"] = listen.hl7
    ports: dict[int, str] = {}
    for name, listener in doors.items():
        yield from _listener(f"listen.{name}", listener)
        other = ports.setdefault(listener.port, name) if listener.port else name
        if other != name:
            yield f"listen.{name}.port: is that of listen.{other}; each door has its own"


def peer_connections(configuration: Configuration) -> Iterator[str]:
    """Archives that would be asked in the open, or without a certificate."""
    for trust, count in Counter(peer.trust for peer in configuration.peer).items():
        if count > 1:
            yield f"peer ({trust}): stands {count} times"
    for place, peer in peers(configuration):
        match peer:
            case DicomwebPeerEntry():
                yield from _dicomweb_connection(place, peer)
            case DimsePeerEntry():
                yield from _dimse_connection(place, peer)
            case _:
                assert_never(peer)


def lookups(configuration: Configuration) -> Iterator[str]:
    """Lookups over connections that are not allowed, and settings of theirs that mean nothing."""
    for number, lookup in enumerate(configuration.lookup, start=1):
        place = f"lookup {number} ({lookup.kind})"
        url = urlsplit(lookup.url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield f"{place}.url: plain HTTP to another machine is never allowed; use https (SAF-70)"
        elif url.scheme == "http" and not lookup.plain_http_on_loopback:
            yield f"{place}.url: plain HTTP needs plain_http_on_loopback = true in this [[lookup]]"
        elif url.scheme == "https" and lookup.files is None:
            yield f"{place}: client_certificate, client_private_key and ca must be set for https"
        elif lookup.files is not None:
            files = lookup.files
            yield from _loads(place, lambda files=files: tls.client_context(files))  # type: ignore[misc]  # this one's
        if lookup.kind is not LookupKind.PIXM and lookup.systems:
            yield f"{place}.systems: only a pixm lookup knows hospitals' numbers"


def peer_habits(configuration: Configuration) -> Iterator[str]:
    """Quirks and character sets that the connector does not know."""
    for place, peer in peers(configuration):
        match peer:
            case DicomwebPeerEntry():
                known = sorted(map(str, DicomwebQuirk))
                if not is_known_charset(peer.character_set):
                    yield f"{place}.character_set: {peer.character_set!r} is not a single-byte one of DICOM or HTTP"
            case DimsePeerEntry():
                known = sorted(map(str, DimseQuirk))
                if not charsets.known((peer.character_set,)):
                    yield f"{place}.character_set: {peer.character_set!r} is not a defined term of DICOM"
            case _:
                assert_never(peer)
        for quirk in peer.quirks:
            if quirk not in known:
                yield f"{place}.quirks: no such quirk {quirk!r}; there are {', '.join(known)}"


def peer_titles(configuration: Configuration) -> Iterator[str]:
    """Archives that would be asked under no name of ours."""
    if configuration.listen.dimse is not None:
        return
    for place, peer in peers(configuration):
        if isinstance(peer, DimsePeerEntry) and peer.calling_ae_title is None:
            yield f"{place}.calling_ae_title: must be set, for there is no listen.dimse.ae_title to call by"


def public_url(configuration: Configuration) -> Iterator[str]:
    """Links in answers and origins of viewers that would be plain."""
    url = urlsplit(configuration.dicomweb.public_base_url)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        yield "dicomweb.public_base_url: must be https, unless it is loopback"
    for number, origin in enumerate(configuration.dicomweb.cors_origins, start=1):
        parts = urlsplit(origin)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield f"dicomweb.cors_origins {number}: must be https, unless it is loopback"


def _listener(place: str, listener: AnyListener) -> Iterator[str]:
    protocol, word = _plain_words(listener)
    if is_plain(listener):
        if not is_loopback(listener.host):
            yield f"{place}.host: plain {protocol} is for loopback only, not for {listener.host} (SAF-70)"
        return
    names = ["certificate", "private_key"] + ["client_ca"] * (not isinstance(listener, PeopleListener))
    missing = [name for name in names if getattr(listener, name) is None]
    for name in missing:
        yield f"{place}.{name}: must be set, unless {word} = true"
    files = server_files(listener)
    if files is not None and not missing:
        yield from _loads(place, lambda: tls.server_context(files))


def _plain_words(listener: AnyListener) -> tuple[str, str]:
    match listener:
        case DimseListener():
            return "DICOM", "plain_on_loopback"
        case Hl7Listener():
            return "HL7", "plain_on_loopback"
        case _:
            return "HTTP", "plain_http_on_loopback"


def _dicomweb_connection(place: str, peer: DicomwebPeerEntry) -> Iterator[str]:
    url = urlsplit(peer.url)
    if not url.hostname:
        yield f"{place}.url: names no host"
        return
    if url.scheme == "http":
        if not is_loopback(url.hostname):
            yield f"{place}.url: plain HTTP to another machine is never allowed; use https (SAF-70)"
        elif not peer.plain_http_on_loopback:
            yield f"{place}.url: plain HTTP needs plain_http_on_loopback = true in this [[peer]]"
        return
    if peer.plain_http_on_loopback:
        yield f"{place}.plain_http_on_loopback: the url is https already"
    yield from _shows_certificates(place, peer, "must be set for https: both sides show certificates")


def _dimse_connection(place: str, peer: DimsePeerEntry) -> Iterator[str]:
    if not 0 < peer.port <= PORT_MAX:
        yield f"{place}.address: a port lies between 1 and {PORT_MAX}"
    if peer.plain_on_loopback:
        if not is_loopback(peer.host):
            yield f"{place}.address: plain DICOM to another machine is never allowed (SAF-70)"
        return
    yield from _shows_certificates(place, peer, "must be set, unless plain_on_loopback = true: both sides show theirs")


def _shows_certificates(place: str, peer: AnyPeer, otherwise: str) -> Iterator[str]:
    for name in ("client_certificate", "client_private_key", "ca"):
        if getattr(peer, name) is None:
            yield f"{place}.{name}: {otherwise}"
    files = client_files(peer)
    if files is not None:
        yield from _loads(place, lambda: tls.client_context(files))


def _loads(place: str, build: Callable[[], ssl.SSLContext]) -> Iterator[str]:
    try:
        build()
    except ConfigurationError as error:
        yield from (f"{place}: {problem}" for problem in error.problems)
