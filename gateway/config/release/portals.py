"""Judge `[[channel]]`: that each has what its kind needs, goes by TLS or sealed (SAF-41), and is there if named.

Every check yields all that it finds, each with its path. Reads certificates, opens no socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.release.channels import ChannelEntry, ChannelKind
from gateway.config.release.page import PAGE_CHANNEL
from gateway.config.release.terms import contacts_of, terms_of
from gateway.config.transport import PORT_MAX, is_loopback
from gateway.model.errors import ConfigurationError

_NEEDS = {
    ChannelKind.FHIR: ("url",),
    ChannelKind.HL7: ("address",),
    ChannelKind.FOLDER: ("folder", "recipient_key"),
}
_TOKENS = ("token_url", "client_id", "client_key")


def channels(configuration: Configuration) -> Iterator[str]:
    """What is wrong with the channels."""
    for name, count in Counter(entry.name for entry in configuration.channel).items():
        if count > 1:
            yield f"channel ({name}): stands {count} times"
    for number, entry in enumerate(configuration.channel, start=1):
        place = f"channel {number} ({entry.name})"
        if entry.name == PAGE_CHANNEL:
            yield f"{place}.name: is what the gateway's own page is called"
        for setting in _NEEDS[entry.kind]:
            if getattr(entry, setting) is None:
                yield f'{place}.{setting}: must be set for kind "{entry.kind}"'
        yield from _connection(place, entry)
        if any(getattr(entry, name) for name in _TOKENS) and not all(getattr(entry, name) for name in _TOKENS):
            yield f"{place}: {', '.join(_TOKENS)} are set together, or none of them"


def named(configuration: Configuration) -> Iterator[str]:
    """Trusts that release by a channel that is not there."""
    known = {PAGE_CHANNEL, *(entry.name for entry in configuration.channel)}
    for number, trust in enumerate(configuration.trust, start=1):
        for name in terms_of(configuration, trust.ods).channels:
            if name not in known:
                yield f"trust {number} ({trust.ods}).release.channels: no [[channel]] is called {name}"


def notices(configuration: Configuration) -> Iterator[str]:
    """Trusts whose staff are told by a channel that is not there, speaks no FHIR, or is one of patients."""
    kinds = {entry.name: entry.kind for entry in configuration.channel}
    for number, trust in enumerate(configuration.trust, start=1):
        name, place = contacts_of(configuration, trust.ods).notices_channel, f"trust {number} ({trust.ods})"
        if not name:
            continue
        if kinds.get(name) is not ChannelKind.FHIR:
            yield f'{place}.release.contacts.notices_channel: no [[channel]] of kind "fhir" is called {name}'
        if name in {channel for each in configuration.trust for channel in terms_of(configuration, each.ods).channels}:
            yield f"{place}.release.contacts.notices_channel: {name} is a channel to patients"


def _connection(place: str, entry: ChannelEntry) -> Iterator[str]:
    hosts = [urlsplit(url).hostname or "" for url in (entry.url, entry.token_url) if url and url.startswith("http:")]
    if entry.address is not None:
        host, _, port = entry.address.rpartition(":")
        hosts += [host] if entry.plain_on_loopback else []
        if not 0 < int(port) <= PORT_MAX:
            yield f"{place}.address: a port lies between 1 and {PORT_MAX}"
    if any(not is_loopback(host) for host in hosts):
        yield f"{place}: plain transport to another machine is never allowed (SAF-70)"
    elif hosts and not entry.plain_on_loopback:
        yield f"{place}: plain HTTP needs plain_on_loopback = true in this [[channel]]"
    if entry.kind is ChannelKind.FOLDER or entry.plain_on_loopback:
        return
    if entry.files is None:
        yield f"{place}: client_certificate, client_private_key and ca must be set, unless plain_on_loopback = true"
        return
    try:
        tls.client_context(entry.files)
    except ConfigurationError as error:
        yield from (f"{place}: {problem}" for problem in error.problems)
