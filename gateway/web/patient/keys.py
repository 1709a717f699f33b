"""The issuer's public keys, fetched when they are needed and kept for a while (RFC 7517, OpenID Connect Core 10.1.1).

A key that nobody knows leads to one more fetch, and not to a flood of them: whoever invents key names makes no traffic.
When the issuer cannot be reached, what was fetched before serves on, up to a limit. Keys for encryption, shared secrets
and short RSA keys are left out. Knows no token.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, RSAKey

from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock
from gateway.web.patient.tokens import KeysUnavailable

KEYS_MAX: Final = 32
RSA_BITS_MIN: Final = 2_048

Fetch = Callable[[], Awaitable[Mapping[str, JsonValue]]]
"""Gets the key set as it stands at the issuer; raises `KeysUnavailable`."""


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """How long keys count, and how often they are asked for."""

    fresh_s: float = 3_600.0
    stale_max_s: float = 86_400.0
    """How long keys serve on while the issuer cannot be reached."""
    refetch_min_s: float = 60.0
    """Between two fetches, whatever their reason and outcome."""


class KeyCache:
    """The keys of one issuer."""

    def __init__(self, fetch: Fetch, clock: Clock, terms: KeyTerms) -> None:
        self._fetch = fetch
        self._clock = clock
        self._terms = terms
        self._keys: Mapping[str | None, Key] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> Key | None:
        """The key of this name, or the only one where the token names none; raises `KeysUnavailable`."""
        async with self._fetching:
            if self._age_s() >= self._terms.fresh_s or self._pick(key_id) is None:
                await self._refresh()
        if self._age_s() >= self._terms.stale_max_s:
            raise KeysUnavailable("no keys of the issuer")
        return self._pick(key_id)

    def _pick(self, key_id: str | None) -> Key | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _age_s(self) -> float:
        return float("inf") if self._fetched_s is None else self._clock.monotonic() - self._fetched_s

    async def _refresh(self) -> None:
        now_s = self._clock.monotonic()
        if self._tried_s is not None and now_s - self._tried_s < self._terms.refetch_min_s:
            return
        self._tried_s = now_s
        try:
            found = read(await self._fetch())
        except KeysUnavailable:
            return
        if found:
            self._keys, self._fetched_s = found, self._clock.monotonic()


def read(key_set: Mapping[str, JsonValue]) -> dict[str | None, Key]:
    """The keys that may check signatures, by name; what cannot be read, or is not public, is left out."""
    stated = key_set.get("keys")
    found: dict[str | None, Key] = {}
    for each in stated[:KEYS_MAX] if isinstance(stated, list) else ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        key = _public(each)
        if key is not None:
            name = each.get("kid")
            found[name if isinstance(name, str) else None] = key
    return found


def _public(stated: Mapping[str, JsonValue]) -> Key | None:
    members = {name: value for name, value in stated.items() if isinstance(value, str)}
    try:
        match members.get("kty"):
            case "RSA":
                if _bits(members["n"]) < RSA_BITS_MIN:
                    return None
                return RSAKey.import_key({name: members[name] for name in ("kty", "n", "e")})
            case "EC":
                return ECKey.import_key({name: members[name] for name in ("kty", "crv", "x", "y")})
            case _:
                return None
    except (JoseError, KeyError, ValueError):
        return None


def _bits(modulus: str) -> int:
    """How long a modulus is, in base64url (RFC 7518 6.3.1.1); raises `ValueError`."""
    padded = modulus + "=" * (-len(modulus) % 4)
    return int.from_bytes(base64.urlsafe_b64decode(padded), "big").bit_length()
