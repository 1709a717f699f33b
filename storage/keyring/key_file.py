"""The default wrapper: the key of each live epoch in one file that only we may read, replaced as a whole.

The file is the one secret that opens the key store. It belongs on another disk than the objects and the store, and
never in a backup: a copy of it from before a shred brings back what was shredded. The file that was replaced is
overwritten before it is given up, also by the next process if this one is killed; how much that is worth is up to the
file system (docs/keys.md). One node, or several that share the file; several nodes are better served by Vault.
"""

from __future__ import annotations

import os
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gateway.model.errors import ConfigurationError, RegisterUnavailable
from gateway.model.faults import faultpoint
from storage.keyring.wrapping import KEY_BYTES, Random, WrapperEpoch, WrapRefused, open_key, seal_key
from storage.keys import sync_folder

FORMAT = 1
FILE_BYTES_MAX = 65_536
EPOCHS_MAX = 100
"""Two are live while keys are re-wrapped; more than a few mean that walks are begun and never ended."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What the file holds. The keys have no text form."""

    store_id: str
    keys: Mapping[str, bytes] = field(repr=False)
    """By epoch, in the order of their beginning."""

    def encoded(self) -> bytes:
        keys = [{"epoch": epoch, "key": b64encode(key).decode()} for epoch, key in self.keys.items()]
        return orjson.dumps({"format": FORMAT, "store": self.store_id, "keys": keys})


class KeyFile:
    """See `KeyWrapper`. Reads the file at each use: another process may have replaced it."""

    def __init__(self, path: Path, random: Random = secrets.token_bytes) -> None:
        self._path = path
        self._incoming = path.with_name(path.name + ".incoming")
        self._outgoing = path.with_name(path.name + ".outgoing")
        self._random = random

    def begin_epoch(self, store_id: str, *, is_first: bool) -> WrapperEpoch:
        """See `KeyWrapper`; the first one makes the file."""
        content = _Content(store_id, {}) if is_first and not self._path.exists() else self._read()
        if content.store_id != store_id:
            raise ConfigurationError(["keys.file: it belongs to another key store, whose keys it would lose"])
        if len(content.keys) >= EPOCHS_MAX:
            raise RegisterUnavailable(f"the key file holds {EPOCHS_MAX} epochs: rotations are begun and never ended")
        epoch = WrapperEpoch(self._random(8).hex())
        self._replace(_Content(store_id, {**content.keys, epoch: self._random(KEY_BYTES)}))
        return epoch

    def wrap(self, epoch: WrapperEpoch, key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        return seal_key(self._key(epoch), key, context, self._random)

    def unwrap(self, epoch: WrapperEpoch, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        return open_key(self._key(epoch), wrapped, context)

    def retire(self, spent: Sequence[WrapperEpoch], live: Sequence[WrapperEpoch]) -> None:
        """See `KeyWrapper`."""
        try:
            self._tidy()
        except OSError as error:
            raise RegisterUnavailable(f"the old key file cannot be erased: {error.strerror}") from error
        content = self._read()
        epochs = list(content.keys)
        if not set(live) <= set(epochs):
            raise RegisterUnavailable("the key file lacks a live epoch: nothing is taken out of it")
        first = min(epochs.index(epoch) for epoch in live)
        kept = {epoch: content.keys[epoch] for epoch in epochs[first:] if epoch not in spent}
        if len(kept) < len(epochs):
            self._replace(_Content(content.store_id, kept))

    def _key(self, epoch: WrapperEpoch) -> bytes:
        key = self._read().keys.get(epoch)
        if key is None:
            raise WrapRefused("the epoch is not in the key file")
        return key

    def _read(self) -> _Content:
        try:
            with self._path.open("rb") as file:
                mode, content = os.fstat(file.fileno()).st_mode, file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise RegisterUnavailable(f"the key file cannot be read: {error.strerror}") from error
        if mode & 0o077:
            raise ConfigurationError(["keys.file: others may read the file: set its mode to 600"])
        return _parsed(content)

    def _replace(self, content: _Content) -> None:
        """Put a new file in the place of the old one, and destroy that."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._tidy()
            faultpoint("keyfile.write.before")
            _write(self._incoming, content.encoded())
            faultpoint("keyfile.write.after")
            if self._path.exists():
                os.link(self._path, self._outgoing)
            faultpoint("keyfile.replace.before")
            self._incoming.rename(self._path)
            sync_folder(self._path.parent)
            faultpoint("keyfile.replace.after")
            self._tidy()
            faultpoint("keyfile.erase.after")
        except OSError as error:
            raise RegisterUnavailable(f"the key file cannot be replaced: {error.strerror}") from error

    def _tidy(self) -> None:
        """Overwrite what a replacement leaves, this one or one of a process that was killed."""
        with suppress(FileNotFoundError):
            _erase(self._incoming)
        with suppress(FileNotFoundError):
            if self._outgoing.samefile(self._path):
                self._outgoing.unlink()  # killed before the replacement: a second name of the file that is in force
            else:
                _erase(self._outgoing)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _erase(path: Path) -> None:
    length = path.stat().st_size
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, bytes(length), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
    sync_folder(path.parent)


def _parsed(content: bytes) -> _Content:
    try:
        if len(content) > FILE_BYTES_MAX:
            raise ValueError("it is too long")
        held = orjson.loads(content)
        if held["format"] != FORMAT:
            raise ValueError("its format is not known")
        keys = {str(each["epoch"]): b64decode(each["key"], validate=True) for each in held["keys"]}
        if any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        return _Content(str(held["store"]), keys)
    except (ValueError, KeyError, TypeError, Base64Error):
        # Without its cause: its text could quote the file.
        raise ConfigurationError(["keys.file: not a key file of this version"]) from None
