"""Judge what no single setting can say by itself, and load a configuration that passes.

Callers and peers of unknown trusts, enrolled organisations that may not be (SAF-10), two callers with one proof, a PACS
that did not choose how it is told of missing trusts (SAF-04); `gateway.config.transport` judges doors and connections.
Every check yields all that it finds, each with its path. Opens no socket and no database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from gateway.config import destinations, gateways, transport
from gateway.config.configuration import Configuration
from gateway.config.entries import CallerEntry
from gateway.config.keeping import KeysSection, ObjectStore, WrapperKind
from gateway.config.reading import read
from gateway.config.release import judging, portals, senders
from gateway.config.sections import StorageSection
from gateway.config.transport import is_loopback, peers
from gateway.instances import charsets
from gateway.model.errors import ConfigurationError
from gateway.sharing.locations.sampling import SAMPLES_MAX
from policy.facts import OrganisationKind
from policy.parties import TrustId
from policy.settings import Mode

PDU_BYTES_MIN = 4_096
"""What every DICOM toolkit can take and none asks less of."""
_NUMBER_STATUSES = frozenset(f"{code:02}" for code in range(1, 9))


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


def _limits(configuration: Configuration) -> Iterator[str]:
    for field in fields(configuration.limits):
        if not getattr(configuration.limits, field.name) > 0:
            yield f"limits.{field.name}: must be greater than 0"
    if configuration.limits.register_read_timeout_s > 20:
        yield "limits.register_read_timeout_s: must be 20 at most: a fault is alarmed within a minute (SAF-01)"
    if configuration.limits.retrieve_pending_interval_s > 3:
        yield "limits.retrieve_pending_interval_s: must be 3 at most: callers take longer silence for an end"
    if configuration.limits.peer_failures_before_backoff > 5:
        yield "limits.peer_failures_before_backoff: must be 5 at most"
    if configuration.limits.association_idle_timeout_s > 120:
        yield "limits.association_idle_timeout_s: must be 120 at most: an idle association holds a place of others"
    if configuration.limits.pdu_bytes_max < PDU_BYTES_MIN:
        yield f"limits.pdu_bytes_max: must be {PDU_BYTES_MIN} at least"
    if not 0 < configuration.sharing.absence_grid_ms <= 1_000:
        yield "sharing.absence_grid_ms: must lie between 1 and 1000"


def _pixels(configuration: Configuration) -> Iterator[str]:
    for field in fields(configuration.pixels):
        if not getattr(configuration.pixels, field.name) > 0:
            yield f"pixels.{field.name}: must be greater than 0"
    if configuration.pixels.frame_bytes_max > configuration.pixels.memory_bytes_max // 4:
        yield "pixels.frame_bytes_max: a quarter of memory_bytes_max at most: decoders hold a frame several times"


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


def _aliases(configuration: Configuration) -> Iterator[str]:
    """AE titles that address one trust must each mean one."""
    dimse = configuration.listen.dimse
    known = {dimse.ae_title: "listen.dimse.ae_title"} if dimse is not None else {}
    for number, trust in enumerate(configuration.trust, start=1):
        if trust.ae_alias is None:
            continue
        place = f"trust {number} ({trust.ods}).ae_alias"
        other = known.setdefault(trust.ae_alias, place)
        if other != place:
            yield f"{place}: {trust.ae_alias} is also {other}"
        if dimse is None:
            yield f"{place}: means nothing without [listen.dimse]"


def _caller_trusts(configuration: Configuration) -> Iterator[str]:
    known = {trust.ods for trust in configuration.trust}
    for place, caller in _callers(configuration):
        if caller.trust not in known:
            yield f"{place}.trust: no [[trust]] has the code {caller.trust}"


def _peer_trusts(configuration: Configuration) -> Iterator[str]:
    known = {trust.ods for trust in configuration.trust}
    for place, peer in peers(configuration):
        if peer.trust not in known:
            yield f"{place}.trust: no [[trust]] has the code {peer.trust}"


def _peer_limits(configuration: Configuration) -> Iterator[str]:
    """No archive is given more than every question has: what is above it would look set and hold for nobody."""
    for place, peer in peers(configuration):
        for name in ("find_timeout_s", "connect_timeout_s", "peer_matches_max", "peer_requests_at_once_max"):
            own, of_all = getattr(peer.limits, name), getattr(configuration.limits, name)
            if own is not None and own > of_all:
                yield f"{place}.limits.{name}: must be {of_all:g} at most: limits.{name} holds for every peer"


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


def _caller_associations(configuration: Configuration) -> Iterator[str]:
    """What holds for callers that come by DIMSE."""
    titles: dict[object, str] = {}
    for place, caller in _callers(configuration):
        if caller.ae_titles and caller.missing_sources is None:
            yield f'{place}.missing_sources: must be "row", "failure" or "comment", for it has ae_titles (SAF-04)'
        if not charsets.known((caller.character_set,)):
            yield f"{place}.character_set: {caller.character_set!r} is not a defined term of DICOM"
        for title in caller.ae_titles:
            other = titles.setdefault((title, *_shown(caller)), place)
            if other != place:
                yield f"{place}.ae_titles: {title} is also that of {other}, with the same certificate and addresses"


def _store(configuration: Configuration) -> Iterator[str]:
    yield from _database("storage", configuration.storage)


def _database(name: str, section: StorageSection | KeysSection) -> Iterator[str]:
    """What is wrong with where a database is."""
    if not section.url.startswith("postgresql"):
        if section.password_file is not None:
            yield f"{name}.password_file: SQLite has no password"
        return
    parts = urlsplit(section.url)
    options = parse_qs(parts.query)
    if parts.password or "password" in options:
        yield f"{name}.url: holds a password; put it into a file and name that as {name}.password_file"
    if section.password_file is not None and not parts.username:
        yield f"{name}.url: names no user for the password of {name}.password_file"
    host = parts.hostname or options.get("host", [""])[0]
    is_local = not host or host.startswith("/") or is_loopback(host)
    if not is_local and options.get("sslmode", [""])[0] not in ("verify-ca", "verify-full"):
        yield f"{name}.url: a database on another machine needs ?sslmode=verify-full"


def _keys(configuration: Configuration) -> Iterator[str]:
    section = configuration.keys
    yield from _database("keys", section)
    if section.url and section.url == configuration.storage.url:
        yield "keys.url: is that of [storage]; keys are kept apart from what is backed up with all else (DEC-20)"
    for kind, own in ((WrapperKind.VAULT, section.vault), (WrapperKind.KMS, section.kms)):
        if section.wrapper is kind and own is None:
            yield f'keys.{kind.value}: must be set where wrapper = "{kind.value}"'
    if section.vault is not None:
        vault = urlsplit(section.vault.url)
        if vault.scheme == "http" and vault.hostname not in ("127.0.0.1", "::1"):
            yield "keys.vault.url: must be https, save on a loopback address"
        if vault.scheme == "https" and section.vault.ca is None:
            yield "keys.vault.ca: must be set for https"
    is_inside = section.wrapper is WrapperKind.FILE and section.file.is_relative_to(configuration.gateway.data_folder)
    if is_inside and configuration.gateway.mode is not Mode.DEMO:
        yield "keys.file: lies in gateway.data_folder; a key lies apart from what it opens"


def _cache(configuration: Configuration) -> Iterator[str]:
    section = configuration.cache
    if section.store is ObjectStore.S3 and section.s3 is None:
        yield 'cache.s3: must be set where store = "s3"'
    if section.s3 is None:
        return
    endpoint = urlsplit(section.s3.endpoint)
    if endpoint.scheme == "http" and endpoint.hostname not in ("127.0.0.1", "::1"):
        yield "cache.s3.endpoint: must be https, save on a loopback address"
    if (section.s3.access_key_file is None) != (section.s3.secret_key_file is None):
        yield "cache.s3: access_key_file and secret_key_file are set together or not at all"
    if section.s3.session_token_file is not None and section.s3.access_key_file is None:
        yield "cache.s3.session_token_file: needs access_key_file and secret_key_file"


def _jobs(configuration: Configuration) -> Iterator[str]:
    section = configuration.jobs
    if sum(section.reserved.values()) >= section.at_once_max:
        yield "jobs.at_once_max: must be more than is reserved for the urgent lanes: others would never run"
    if section.retry_first_s > section.retry_max_s:
        yield "jobs.retry_max_s: must be retry_first_s at least"
    if section.poll_s > section.lease_s / 3:
        yield "jobs.poll_s: must be a third of lease_s at most"


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


def _locations(configuration: Configuration) -> Iterator[str]:
    sharing = configuration.sharing
    for name, most in (
        ("index_negative_max_age_minutes", 60),
        ("location_feed_silent_minutes", 60),
        ("location_max_age_days", 36_500),
        ("sample_interval_minutes", 1_440),
        ("sample_patients_max", SAMPLES_MAX),
    ):
        if not 0 < getattr(sharing, name) <= most:
            yield f"sharing.{name}: must be greater than 0, and {most} at most"
    asked = {peer.trust.code for peer in configuration.peer}
    for code in sorted(sharing.location_feeds):
        if code not in asked:
            yield f"sharing.location_feeds: {code} has no [[peer]]"


def _identity(configuration: Configuration) -> Iterator[str]:
    identity = configuration.identity
    if unknown := sorted(set(identity.accepted_number_statuses) - _NUMBER_STATUSES):
        yield f"identity.accepted_number_statuses: a status is a code from 01 to 08, not {', '.join(unknown)}"
    for name in ("lookup_timeout_s", "lookup_pause_s", "lookup_max_age_minutes", "lookups_kept_max"):
        if getattr(identity, name) <= 0:
            yield f"identity.{name}: must be greater than 0"


def _location_key(configuration: Configuration) -> Iterator[str]:
    is_inside = configuration.storage.location_key.is_relative_to(configuration.gateway.data_folder)
    if is_inside and configuration.gateway.mode is not Mode.DEMO:
        yield "storage.location_key: lies in gateway.data_folder; a key lies apart from what it hides"


def _callers(configuration: Configuration) -> Iterator[tuple[str, CallerEntry]]:
    for number, caller in enumerate(configuration.caller, start=1):
        yield f"caller {number} ({caller.name})", caller


def _only_loopback(caller: CallerEntry) -> bool:
    return all(network.network_address.is_loopback for network in caller.addresses)


def _proof(caller: CallerEntry) -> object:
    return *_shown(caller), frozenset(caller.ae_titles)


def _shown(caller: CallerEntry) -> tuple[object, ...]:
    certificate = (caller.certificate_sha256, caller.certificate_name)
    return certificate, caller.loopback_only, frozenset(caller.addresses)


_CHECKS: tuple[tuple[frozenset[str], Callable[[Configuration], Iterator[str]]], ...] = (
    (frozenset({"limits", "sharing"}), _limits),
    (frozenset({"pixels"}), _pixels),
    (frozenset(), _trusts),
    (frozenset({"listen", "trust"}), _aliases),
    (frozenset({"trust"}), _caller_trusts),
    (frozenset({"trust"}), _peer_trusts),
    (frozenset({"limits"}), _peer_limits),
    (frozenset(), _caller_proofs),
    (frozenset(), _caller_associations),
    (frozenset({"trust"}), gateways.callers),
    (frozenset({"sharing"}), gateways.peers),
    (frozenset({"trust"}), destinations.destinations),
    (frozenset({"caller", "destination"}), destinations.callers),
    (frozenset({"destination", "listen"}), destinations.archives),
    (frozenset(), transport.peer_connections),
    (frozenset(), transport.peer_habits),
    (frozenset({"listen"}), transport.peer_titles),
    (frozenset({"listen"}), transport.listeners),
    (frozenset({"storage"}), _store),
    (frozenset({"keys", "storage", "gateway"}), _keys),
    (frozenset({"cache"}), _cache),
    (frozenset({"jobs"}), _jobs),
    (frozenset({"audit", "gateway"}), _second_place),
    (frozenset({"sharing", "peer"}), _locations),
    (frozenset({"storage", "gateway"}), _location_key),
    (frozenset({"dicomweb"}), transport.public_url),
    (frozenset(), transport.lookups),
    (frozenset({"identity"}), _identity),
    (frozenset({"trust"}), senders.feeds),
    (frozenset({"listen", "report_feed"}), senders.doors),
    (frozenset({"release", "trust"}), judging.terms),
    (frozenset({"release", "trust"}), judging.going_live),
    (frozenset(), portals.channels),
    (frozenset({"channel", "release", "trust"}), portals.named),
    (frozenset({"channel", "release", "trust"}), portals.notices),
)
