"""Open the channels of the configuration: each `[[channel]]` as a `Channel`, its keys and certificates from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from datetime import datetime
from pathlib import Path
from typing import TypeVar, assert_never

from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gateway import tls
from gateway.channels.drop import DropChannel, Folder
from gateway.channels.fhir import FhirChannel, FhirPortal, TokenSource
from gateway.channels.hl7_messages import Names
from gateway.channels.hl7_out import Hl7Channel, Hl7Portal
from gateway.channels.resting import RestingChannel
from gateway.config.configuration import Configuration
from gateway.config.release.channels import ChannelEntry, ChannelKind
from gateway.model.errors import ConfigurationError
from gateway.model.reporting.channels import Channel

Value = TypeVar("Value")


def open_channels(
    configuration: Configuration, executor: Executor, now: Callable[[], datetime], new_id: Callable[[], str]
) -> Mapping[str, Channel]:
    """Every channel by its name; raises `ConfigurationError`. Connects to nobody yet."""
    return {entry.name: _opened(entry, executor, now, new_id) for entry in configuration.channel}


def open_notifiers(
    configuration: Configuration, now: Callable[[], datetime], new_id: Callable[[], str]
) -> Mapping[str, FhirChannel]:
    """Every channel by which staff may be told; raises `ConfigurationError`. Connects to nobody yet."""
    fhir = [entry for entry in configuration.channel if entry.kind is ChannelKind.FHIR]
    return {entry.name: FhirChannel(_portal(entry), now, new_id) for entry in fhir}


def _portal(entry: ChannelEntry) -> FhirPortal:
    place = f"channel ({entry.name})"
    return FhirPortal(
        name=entry.name,
        url=_set(entry.url, f"{place}.url"),
        timeout_s=entry.timeout_s,
        tls=tls.client_context(entry.files) if entry.files is not None else None,
        tokens=_tokens(entry, place),
        accounts_are_proven=entry.accounts_are_proven,
        checks_proxies=entry.checks_proxies,
    )


def _opened(entry: ChannelEntry, executor: Executor, now: Callable[[], datetime], new_id: Callable[[], str]) -> Channel:
    place = f"channel ({entry.name})"
    context = tls.client_context(entry.files) if entry.files is not None else None
    match entry.kind:
        case ChannelKind.FHIR:
            return RestingChannel(FhirChannel(_portal(entry), now, new_id), now)
        case ChannelKind.HL7:
            host, _, port = _set(entry.address, f"{place}.address").rpartition(":")
            receiver = Hl7Portal(
                name=entry.name,
                host=host.strip("[]"),
                port=int(port),
                names=Names(*entry.hl7_names),
                timeout_s=entry.timeout_s,
                tls=None if entry.plain_on_loopback else context,
                deletion=entry.hl7_deletion,
                is_idempotent=entry.is_idempotent,
                checks_proxies=entry.checks_proxies,
            )
            return RestingChannel(Hl7Channel(receiver, now, new_id), now)
        case ChannelKind.FOLDER:
            recipient = _key(_set(entry.recipient_key, f"{place}.recipient_key"), f"{place}.recipient_key")
            path = _set(entry.folder, f"{place}.folder")
            return DropChannel(Folder(entry.name, path, recipient, entry.checks_proxies), executor, now)
        case _:
            assert_never(entry.kind)


def _tokens(entry: ChannelEntry, place: str) -> TokenSource | None:
    if entry.token_url is None or entry.client_key is None:
        return None
    return TokenSource(
        url=entry.token_url,
        client_id=entry.client_id,
        key=_key(entry.client_key, f"{place}.client_key"),
        key_id=entry.client_key_id,
        algorithm=entry.client_algorithm,
        scope=entry.scope,
    )


def _key(path: Path, place: str) -> RSAKey:
    try:
        return RSAKey.import_key(path.read_bytes())
    except (OSError, JoseError, ValueError) as error:
        raise ConfigurationError([f"{place}: {path} is no RSA key (PEM)"]) from error


def _set(value: Value | None, place: str) -> Value:
    if value is None:
        raise ConfigurationError([f"{place}: must be set"])
    return value
