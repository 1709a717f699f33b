"""The key that signs the audit's checkpoints and the backups' manifests: Ed25519, in a file that only we may read.

Set-up makes it once. It never goes into the database or a backup (DEC-20); its public half lies beside it, for
whoever verifies elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.model.errors import ConfigurationError
from gateway.model.faults import faultpoint


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half."""

    public: Ed25519PublicKey

    @property
    def key_id(self) -> str:
        """Sixteen hexadecimal digits that name the key."""
        raw = self.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:16]

    def is_signed(self, message: bytes, signature: str) -> bool:
        """Whether the holder of the private half signed `message`."""
        try:
            self.public.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half. It has no text form."""

    private: Ed25519PrivateKey

    @property
    def verifying(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(self.private.public_key())

    def sign(self, message: bytes) -> str:
        """The signature, hexadecimal."""
        return self.private.sign(message).hex()


def create_signing_key(path: Path) -> SigningKey:
    """Make a key, its file readable by us alone, and its public half in `<path>.pub`.

    Raises `ConfigurationError` if there is a file already: a key is never overwritten.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, private, 0o600)
        faultpoint("keys.create.between")
        write_whole(_public_path(path), public, 0o644)
    except OSError as error:
        raise ConfigurationError([f"audit.signing_key: cannot be made: {error.strerror}"]) from error
    return SigningKey(key)


def load_signing_key(path: Path) -> SigningKey:
    """Read the key; raises `ConfigurationError` if it is missing, unreadable or open to others."""
    try:
        mode = path.stat().st_mode
        pem = path.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"audit.signing_key: cannot be read: {error.strerror}"]) from error
    if mode & 0o077:
        raise ConfigurationError(["audit.signing_key: others may read the file: set its mode to 600"])
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(["audit.signing_key: not a private key in PEM"]) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(["audit.signing_key: not an Ed25519 key"])
    return SigningKey(key)


def load_verifying_key(path: Path) -> VerifyingKey:
    """Read the public half of the key at `path`, from beside it or else from the key; raises `ConfigurationError`."""
    public = _public_path(path)
    if path.exists() and not public.exists():
        return load_signing_key(path).verifying  # set-up was interrupted between the two
    try:
        key = serialization.load_pem_public_key(public.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(["audit.signing_key: its public half cannot be read"]) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(["audit.signing_key: its public half is not an Ed25519 key"])
    return VerifyingKey(key)


def _public_path(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Make a new file that appears with all of its content or not at all; `FileExistsError` if there is one."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.link(partial, path)
    finally:
        os.close(descriptor)
        partial.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a file's name in its folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
