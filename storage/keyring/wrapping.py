"""Keys under keys: AES-256-GCM, each bound to what it is for, and the seam to whatever guards the topmost one.

A wrapped key is `nonce 12 | ciphertext | tag 16`; the associated data names the row that it belongs to, so that a blob
put into another row does not open. Pure: randomness is an argument. A nonce is random: under one key there are never
more than a few million wraps, for the key is retired with its epoch. Knows no tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NewType, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES

Random = Callable[[int], bytes]
WrapperEpoch = NewType("WrapperEpoch", str)
"""What a wrapper calls the key that it wraps by from one rotation to the next."""


class WrapRefused(Exception):
    """What was wrapped does not open: it was altered, belongs elsewhere, or its epoch is retired."""


class KeyWrapper(Protocol):
    """Guards the master keys of a key store. Called from threads, by one process at a time save for `unwrap`.

    Every method raises `RegisterUnavailable` if the wrapper cannot be reached or read.
    """

    def begin_epoch(self, store_id: str, *, is_first: bool) -> WrapperEpoch:
        """Make a new key of the wrapper's own, durable when this returns.

        `is_first`: the store has none. Raises `ConfigurationError` if the wrapper serves another store already.
        """

    def wrap(self, epoch: WrapperEpoch, key: bytes, context: bytes) -> bytes:
        """Wrap a master key under the epoch's own."""

    def unwrap(self, epoch: WrapperEpoch, wrapped: bytes, context: bytes) -> bytes:
        """The master key; raises `WrapRefused`."""

    def retire(self, spent: Sequence[WrapperEpoch], live: Sequence[WrapperEpoch]) -> None:
        """Destroy the keys of `spent`, and any that was begun before all of `live` and never used; may be repeated."""


def context(kind: str, *names: str | bytes) -> bytes:
    """Associated data that says what a wrapped key is; different names never make the same bytes."""
    parts = [name.encode() if isinstance(name, str) else name for name in (kind, *names)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def seal_key(under: bytes, key: bytes, bound_to: bytes, random: Random) -> bytes:
    """Wrap a key under another."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(under).encrypt(nonce, key, bound_to)


def open_key(under: bytes, wrapped: bytes, bound_to: bytes) -> bytes:
    """The key that was wrapped; raises `WrapRefused`."""
    if len(wrapped) != WRAPPED_BYTES:
        raise WrapRefused("a wrapped key has a length of its own")
    try:
        return AESGCM(under).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound_to)
    except InvalidTag:
        raise WrapRefused("a wrapped key is not as it was wrapped") from None
