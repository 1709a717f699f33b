"""Make the keyring of a configuration: its key store, and whichever wrapper guards its master keys.

For `serve` and for commands alike. Nothing is opened here but certificates.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import assert_never

from gateway.config.configuration import Configuration
from gateway.config.keeping import KeysSection, VaultSection, WrapperKind
from gateway.model.errors import ConfigurationError
from gateway.model.seams import Clock
from storage.engines import DatabaseSettings, sqlite_path
from storage.keyring import kms
from storage.keyring.key_file import KeyFile
from storage.keyring.keyring import Keyring, KeyringSettings
from storage.keyring.vault import VaultSettings, VaultTransit, calling
from storage.keyring.wrapping import KeyWrapper


def open_keyring(configuration: Configuration, clock: Clock, *, node: str) -> Keyring:
    """The keyring, not entered yet; raises `ConfigurationError`."""
    section = configuration.keys
    settings = KeyringSettings(
        DatabaseSettings(_url(configuration)),
        shred_after_hours=section.shred_after_hours,
        watch_s=section.watch_s,
        cached_keys_max=section.cached_keys_max,
        rewrap_batch_max=section.rewrap_batch_max,
        lock_wait_s=section.lock_wait_s,
    )
    return Keyring(settings, _wrapper(section), node=node, clock=clock)


def key_store_file(configuration: Configuration) -> Path | None:
    """The key store's file; None where it is on a server."""
    return sqlite_path(configuration.key_store_url) if not configuration.keys.password_file else None


def _url(configuration: Configuration) -> str:
    try:
        return configuration.key_store_url
    except OSError as error:
        raise ConfigurationError([f"keys.password_file: cannot be read: {error.strerror}"]) from error


def _wrapper(section: KeysSection) -> KeyWrapper:
    match section.wrapper:
        case WrapperKind.FILE:
            return KeyFile(section.file)
        case WrapperKind.VAULT:
            if section.vault is None:
                raise ConfigurationError(["keys.vault: must be set"])
            return _vault(section.vault)
        case WrapperKind.KMS:
            if section.kms is None:
                raise ConfigurationError(["keys.kms: must be set"])
            return kms.connect(section.kms.region, section.kms.endpoint_url or None, section.kms.timeout_s)
        case _:
            assert_never(section.wrapper)


def _vault(section: VaultSection) -> VaultTransit:
    settings = VaultSettings(
        url=section.url,
        token_file=section.token_file,
        key=section.key,
        mount=section.mount,
        namespace=section.namespace,
        timeout_s=section.timeout_s,
    )
    try:
        believed = ssl.create_default_context(cafile=section.ca) if section.ca is not None else None
    except OSError as error:
        raise ConfigurationError(["keys.vault.ca: not certificates in PEM"]) from error
    return VaultTransit(settings, calling(settings, believed))
