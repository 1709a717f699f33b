"""Where sole copies go back to, and where whoever asked for a commitment is told of it: by the configuration.

Both are `[[destination]]` entries: a trust's archive is the one with `custody`, a sender the one with its own AE title.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dimse.scu.send import Receiver
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import DestinationEntry
from gateway.model.work.commitments import Custody
from policy.parties import TrustId


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive of a trust, which takes back what the trust sent here."""

    name: str
    """In the configuration."""
    receiver: Receiver
    custody: Custody


@dataclass(frozen=True, slots=True)
class Addresses:
    """Everybody who is sent to or told."""

    archives: Mapping[TrustId, Archive]
    senders: Mapping[tuple[TrustId, str], Receiver]
    """By trust and AE title."""


NOWHERE = Addresses({}, {})


def addresses(configuration: Configuration) -> Addresses:
    """As a configuration has them; raises `ConfigurationError` for certificates that do not load."""
    listen = configuration.listen.dimse
    if listen is None:
        return NOWHERE
    receivers = {entry.name: _receiver(entry, listen.ae_title) for entry in configuration.destination}
    return Addresses(
        {
            entry.trust: Archive(entry.name, receivers[entry.name], entry.custody)
            for entry in configuration.destination
            if entry.custody is not Custody.NONE
        },
        {(entry.trust, entry.ae_title): receivers[entry.name] for entry in configuration.destination},
    )


def _receiver(entry: DestinationEntry, own_title: str) -> Receiver:
    secure = tls.client_context(entry.files) if entry.files is not None else None
    return Receiver(entry.ae_title, entry.host, entry.port, own_title, secure)
