"""Judge what no single setting can say by itself, and load a configuration that passes.

Callers and peers of unknown trusts, enrolled organisations that may not be (SAF-10), plain transport (SAF-41, SAF-70),
two callers with one proof, certificates that do not load. Every check yields all that it finds, each with its path.
Reads files, opens no socket and no database.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from dicomweb.connector import Quirk
from dicomweb.dicomjson import is_known_charset
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import CallerEntry, PeerEntry
from gateway.config.reading import read
from gateway.config.sections import MachinesListener, PeopleListener
from gateway.model.errors import ConfigurationError
from policy.facts import OrganisationKind
from policy.parties import TrustId
from policy.settings import Mode


def load(path: Path) -> Configuration:
    """Read, check and return the configuration; raises `ConfigurationError` with all that is wrong."""
    reading = read(path)
    problems = [*reading.problems]
    if reading.configuration is not None:
        problems += find_problems(reading.configuration, reading.broken)
    if problems or reading.configuration is None:
        raise ConfigurationError(problems)
    return reading.configuration


def find_problems(configuration: Configuration, broken: Iterable[str] = ()) -> list[str]:
    """Name everything wrong between settings; checks that need a section in `broken` are left out."""
    unread = frozenset(broken)
    return [problem for needs, check in _CHECKS if not needs & unread for problem in check(configuration)]


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _limits(configuration: Configuration) -> Iterator[str]:
    for field in fields(configuration.limits):
        if not getattr(configuration.limits, field.name) > 0:
            yield f"limits.{field.name}: must be greater than 0"
    if configuration.limits.register_read_timeout_s > 20:
        yield "limits.register_read_timeout_s: must be 20 at most: a fault is alarmed within a minute (SAF-01)"
    if configuration.limits.peer_failures_before_backoff > 5:
        yield "limits.peer_failures_before_backoff: must be 5 at most"
    if not 0 < configuration.sharing.absence_grid_ms <= 1_000:
        yield "sharing.absence_grid_ms: must lie between 1 and 1000"


def _trusts(configuration: Configuration) -> Iterator[str]:
    for code, count in Counter(trust.ods for trust in configuration.trust).items():
        if count > 1:
            yield f"trust ({code}): stands {count} times"
    for number, trust in enumerate(configuration.trust, start=1):
        place = f"trust {number} ({trust.ods})"
        if trust.enrolled and trust.kind is not OrganisationKind.NHS_HOSPITAL_TRUST:
            yield f"{place}.enrolled: only NHS hospital trusts may be enrolled (SAF-10)"
        if trust.enrolled and not trust.desk_phone.strip():
            yield f"{place}.desk_phone: an enrolled trust must give its PACS desk's 24 h phone (SAF-09)"


def _caller_trusts(configuration: Configuration) -> Iterator[str]:
    known = {trust.ods for trust in configuration.trust}
    for place, caller in _callers(configuration):
        if caller.trust not in known:
            yield f"{place}.trust: no [[trust]] has the code {caller.trust}"


def _peer_trusts(configuration: Configuration) -> Iterator[str]:
    known = {trust.ods for trust in configuration.trust}
    for place, peer in _peers(configuration):
        if peer.trust not in known:
            yield f"{place}.trust: no [[trust]] has the code {peer.trust}"


def _caller_proofs(configuration: Configuration) -> Iterator[str]:
    for name, count in Counter(caller.name for caller in configuration.caller).items():
        if count > 1:
            yield f"caller ({name}): stands {count} times"
    proofs: dict[object, str] = {}
    trusts: dict[str, TrustId] = {}
    for place, caller in _callers(configuration):
        has_certificate = bool(caller.certificate_sha256 or caller.certificate_name)
        if not caller.loopback_only and not has_certificate:
            yield f"{place}: needs certificate_sha256 or certificate_name; an AE title or address alone proves nothing"
        if caller.loopback_only and not _only_loopback(caller):
            yield f"{place}.addresses: a loopback_only caller cannot come from another machine"
        if len(set(caller.purposes)) != len(caller.purposes):
            yield f"{place}.purposes: a purpose stands twice"
        for word in filter(None, (caller.certificate_sha256, caller.certificate_name)):
            if trusts.setdefault(word, caller.trust) != caller.trust:
                yield f"{place}: its certificate stands for {trusts[word]} too; one certificate speaks for one trust"
        other = proofs.setdefault(_proof(caller), place)
        if other != place:
            yield f"{place}: cannot be told from {other}: same certificate, addresses and AE titles"


def _peer_transport(configuration: Configuration) -> Iterator[str]:
    for trust, count in Counter(peer.trust for peer in configuration.peer).items():
        if count > 1:
            yield f"peer ({trust}): stands {count} times"
    for place, peer in _peers(configuration):
        yield from _one_peer_transport(place, peer)


def _peer_habits(configuration: Configuration) -> Iterator[str]:
    known = sorted(Quirk)
    for place, peer in _peers(configuration):
        for quirk in peer.quirks:
            if quirk not in known:
                yield f"{place}.quirks: no such quirk {quirk!r}; there are {', '.join(known)}"
        if not is_known_charset(peer.character_set):
            yield f"{place}.character_set: {peer.character_set!r} is not a single-byte character set of DICOM or HTTP"


def _one_peer_transport(place: str, peer: PeerEntry) -> Iterator[str]:
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
    for name in ("client_certificate", "client_private_key", "ca"):
        if getattr(peer, name) is None:
            yield f"{place}.{name}: must be set for https: both sides show certificates"
    if peer.client_certificate and peer.client_private_key and peer.ca:
        files = tls.ClientFiles(peer.client_certificate, peer.client_private_key, peer.ca)
        yield from _loads(place, lambda: tls.client_context(files))


def _listeners(configuration: Configuration) -> Iterator[str]:
    machines, people = configuration.listen.machines, configuration.listen.people
    yield from _listener("listen.machines", machines)
    yield from _listener("listen.people", people)
    if machines.port and machines.port == people.port:
        yield "listen.people.port: is that of listen.machines; there are two doors"


def _listener(place: str, listener: MachinesListener | PeopleListener) -> Iterator[str]:
    if listener.plain_http_on_loopback:
        if not is_loopback(listener.host):
            yield f"{place}.host: plain HTTP is for loopback only, not for {listener.host} (SAF-70)"
        return
    names = ["certificate", "private_key"] + ["client_ca"] * isinstance(listener, MachinesListener)
    missing = [name for name in names if getattr(listener, name) is None]
    for name in missing:
        yield f"{place}.{name}: must be set, unless plain_http_on_loopback = true"
    files = server_files(listener)
    if files is not None and not missing:
        yield from _loads(place, lambda: tls.server_context(files))


def server_files(listener: MachinesListener | PeopleListener) -> tls.ServerFiles | None:
    """The certificates of a listener, or None for plain HTTP on loopback."""
    if listener.plain_http_on_loopback or listener.certificate is None or listener.private_key is None:
        return None
    if isinstance(listener, PeopleListener):
        return tls.ServerFiles(listener.certificate, listener.private_key)
    return tls.ServerFiles(listener.certificate, listener.private_key, listener.client_ca, listener.crl)


def _loads(place: str, build: Callable[[], ssl.SSLContext]) -> Iterator[str]:
    try:
        build()
    except ConfigurationError as error:
        yield from (f"{place}: {problem}" for problem in error.problems)


def _store(configuration: Configuration) -> Iterator[str]:
    url = configuration.storage.url
    if not url.startswith("postgresql"):
        if configuration.storage.password_file is not None:
            yield "storage.password_file: SQLite has no password"
        return
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    if parts.password or "password" in options:
        yield "storage.url: holds a password; put it into a file and name that as storage.password_file"
    if configuration.storage.password_file is not None and not parts.username:
        yield "storage.url: names no user for the password of storage.password_file"
    host = parts.hostname or options.get("host", [""])[0]
    is_local = not host or host.startswith("/") or is_loopback(host)
    if not is_local and options.get("sslmode", [""])[0] not in ("verify-ca", "verify-full"):
        yield "storage.url: a database on another machine needs ?sslmode=verify-full"


def _second_place(configuration: Configuration) -> Iterator[str]:
    audit, folder = configuration.audit, configuration.gateway.data_folder
    paths = {"signing_key": audit.signing_key, "anchor_path": audit.anchor_path, "reserve_path": audit.reserve_path}
    for path, count in Counter(paths.values()).items():
        if count > 1:
            yield f"audit: two of {', '.join(paths)} are one file: {path}"
    if configuration.gateway.mode is Mode.DEMO:
        return
    for name, path in paths.items():
        if path.is_relative_to(folder):
            yield f"audit.{name}: lies in gateway.data_folder; what guards the data must lie elsewhere"


def _public_url(configuration: Configuration) -> Iterator[str]:
    url = urlsplit(configuration.dicomweb.public_base_url)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        yield "dicomweb.public_base_url: must be https, unless it is loopback"
    for number, origin in enumerate(configuration.dicomweb.cors_origins, start=1):
        parts = urlsplit(origin)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield f"dicomweb.cors_origins {number}: must be https, unless it is loopback"


def _callers(configuration: Configuration) -> Iterator[tuple[str, CallerEntry]]:
    for number, caller in enumerate(configuration.caller, start=1):
        yield f"caller {number} ({caller.name})", caller


def _peers(configuration: Configuration) -> Iterator[tuple[str, PeerEntry]]:
    for number, peer in enumerate(configuration.peer, start=1):
        yield f"peer {number} ({peer.trust})", peer


def _only_loopback(caller: CallerEntry) -> bool:
    return all(network.network_address.is_loopback for network in caller.addresses)


def _proof(caller: CallerEntry) -> object:
    certificate = (caller.certificate_sha256, caller.certificate_name)
    return certificate, caller.loopback_only, frozenset(caller.addresses), frozenset(caller.ae_titles)


_CHECKS: tuple[tuple[frozenset[str], Callable[[Configuration], Iterator[str]]], ...] = (
    (frozenset({"limits", "sharing"}), _limits),
    (frozenset(), _trusts),
    (frozenset({"trust"}), _caller_trusts),
    (frozenset({"trust"}), _peer_trusts),
    (frozenset(), _caller_proofs),
    (frozenset(), _peer_transport),
    (frozenset(), _peer_habits),
    (frozenset({"listen"}), _listeners),
    (frozenset({"storage"}), _store),
    (frozenset({"audit", "gateway"}), _second_place),
    (frozenset({"dicomweb"}), _public_url),
)
