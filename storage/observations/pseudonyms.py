"""What stands for a patient in the location index: a keyed hash of the NHS number, so that the table shows nobody.

There are only some hundred million valid numbers, so a hash without a key would hide none of them (DEC-21). The key
lies in a file that only we may read, apart from the database and its backups. One hash stands for one *number*: each
says what is filed under that number, so merging or parting patients moves nothing. Losing the key empties the index.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from gateway.model.errors import ConfigurationError
from policy.parties import NhsNumber
from storage.keys import write_whole

KEY_BYTES = 32
HASH_BYTES = 16
"""Half of SHA-256: among a hundred million numbers two of one hash are a matter of one in 10^22."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """The key, and what it makes of numbers. It has no text form."""

    key: bytes = field(repr=False)

    def of(self, number: NhsNumber) -> bytes:
        """What stands for this number."""
        return hmac.digest(self.key, number.digits.encode(), hashlib.sha256)[:HASH_BYTES]

    def of_row(self, patient_row: str) -> bytes:
        """What stands for a patient of this internal row: the same whatever numbers lead to it."""
        return hmac.digest(self.key, b"row " + patient_row.encode(), hashlib.sha256)[:HASH_BYTES]

    def of_place(self, node: str) -> bytes:
        """What stands for this database's node of this name, and for no other gateway's where they share room."""
        return hmac.digest(self.key, b"place " + node.encode(), hashlib.sha256)[:HASH_BYTES]


def pseudonyms(path: Path) -> Pseudonyms:
    """The pseudonyms of the key in this file, which is made if there is none. Raises `ConfigurationError`.

    Nodes that share a database share the key: copy the file.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path)
        mode, key = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"storage.location_key: cannot be used: {error.strerror}"]) from error
    if mode & 0o077:
        raise ConfigurationError(["storage.location_key: others may read the file: set its mode to 600"])
    if len(key) != KEY_BYTES:
        raise ConfigurationError([f"storage.location_key: a key has {KEY_BYTES} bytes"])
    return Pseudonyms(key)


def _create(path: Path) -> None:
    try:
        write_whole(path, secrets.token_bytes(KEY_BYTES), 0o600)
    except FileExistsError:
        return  # another process was first: its key is the one
