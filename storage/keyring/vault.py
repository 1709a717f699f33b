"""The wrapper for several nodes: HashiCorp Vault's transit engine, one named key a key store, an epoch a version of it.

Retiring raises `min_decryption_version` and `min_encryption_version` and trims the key, after which Vault itself cannot
have the version again. Plain HTTP/1.1 over TLS from a thread: no redirects, no proxy, a limit on the answer, a token
read from its file at each call, so that an agent may renew it. Written after the public API, tried against a stub of it
(docs/keys.md). Answers are never quoted: they may hold keys.
"""

from __future__ import annotations

import http.client
import ssl
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from gateway.model.errors import ConfigurationError, RegisterUnavailable
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from storage.keyring.wrapping import KEY_BYTES, WrapperEpoch, WrapRefused

ANSWER_BYTES_MAX = 65_536
TOKEN_BYTES_MAX = 4_096

Json = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where Vault is, and what is asked of it."""

    url: str
    """`https://vault.example:8200`; plain HTTP on a loopback address only."""
    token_file: Path
    key: str
    """Name of the transit key; no other key store may use it."""
    mount: str = "transit"
    namespace: str = ""
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class VaultAnswer:
    """A status and the body that came with it."""

    status: int
    body: Json


Call = Callable[[str, str, Json | None], VaultAnswer]
"""Method, path under `/v1/` and body; raises `RegisterUnavailable`."""


class VaultTransit:
    """See `KeyWrapper`."""

    def __init__(self, settings: VaultSettings, call: Call) -> None:
        self._call = call
        self._key = f"{settings.mount}/keys/{settings.key}"
        self._encrypt = f"{settings.mount}/encrypt/{settings.key}"
        self._decrypt = f"{settings.mount}/decrypt/{settings.key}"

    def begin_epoch(self, store_id: str, *, is_first: bool) -> WrapperEpoch:
        """See `KeyWrapper`. A store's first epoch is version 1; a key with more versions belongs to another store."""
        found = self._call("GET", self._key, None)
        if is_first:
            if found.status == HTTPStatus.NOT_FOUND:
                self._said(self._call("POST", self._key, {"type": "aes256-gcm96"}), "make a key")
            elif self._number(found, "latest_version") != 1:
                raise ConfigurationError(["keys.vault.key: it is in use already: every key store needs one of its own"])
        else:
            self._said(self._call("POST", f"{self._key}/rotate", {}), "rotate the key")
        return WrapperEpoch(str(self._number(self._call("GET", self._key, None), "latest_version")))

    def wrap(self, epoch: WrapperEpoch, key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        body: Json = {"plaintext": _text(key), "associated_data": _text(context), "key_version": int(epoch)}
        answer = self._said(self._call("POST", self._encrypt, body), "wrap")
        ciphertext = answer.get("ciphertext")
        if not isinstance(ciphertext, str) or not ciphertext.startswith(f"vault:v{epoch}:"):
            raise RegisterUnavailable("Vault did not wrap with the version that it was asked for")
        return ciphertext.encode()

    def unwrap(self, epoch: WrapperEpoch, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        if not wrapped.startswith(f"vault:v{epoch}:".encode()):
            raise WrapRefused("a wrapped key is of another version")
        body = {"ciphertext": wrapped.decode("ascii", "replace"), "associated_data": _text(context)}
        answer = self._call("POST", self._decrypt, body)
        if answer.status == HTTPStatus.BAD_REQUEST:
            raise WrapRefused("Vault does not open it: the version is retired, or it was altered")
        try:
            key = b64decode(str(self._said(answer, "unwrap").get("plaintext")), validate=True)
        except Base64Error:
            raise RegisterUnavailable("Vault's answer is not what its API says") from None
        if len(key) != KEY_BYTES:
            raise WrapRefused(f"a key has {KEY_BYTES} bytes")
        return key

    def retire(self, spent: Sequence[WrapperEpoch], live: Sequence[WrapperEpoch]) -> None:
        """See `KeyWrapper`. Versions go from the oldest on: what is spent behind a live one waits for the next walk."""
        oldest = min(int(epoch) for epoch in live)
        if any(int(epoch) > oldest for epoch in spent):
            raise RegisterUnavailable("a version that is live stands before one that is spent")
        limits = {"min_decryption_version": oldest, "min_encryption_version": oldest}
        self._said(self._call("POST", f"{self._key}/config", limits), "retire a version")
        self._said(self._call("POST", f"{self._key}/trim", {"min_available_version": oldest}), "trim the key")
        if self._number(self._call("GET", self._key, None), "min_available_version") != oldest:
            raise RegisterUnavailable("Vault did not trim the key")

    def _said(self, answer: VaultAnswer, what: str) -> Json:
        """What a call that must succeed answers."""
        if answer.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            raise RegisterUnavailable(f"Vault would not {what}: status {answer.status}")
        told = answer.body.get("data")
        return told if isinstance(told, Mapping) else {}

    def _number(self, answer: VaultAnswer, name: str) -> int:
        found = self._said(answer, "tell of the key").get(name)
        if not isinstance(found, int):
            raise RegisterUnavailable("Vault's answer is not what its API says")
        return found


def calling(settings: VaultSettings, tls: ssl.SSLContext | None) -> Call:
    """Calls over HTTP; `tls` holds the authority that is believed, None is for a loopback address."""
    url = urlsplit(settings.url)
    host, port = url.hostname or "", url.port or 8200
    if url.scheme != ("https" if tls is not None else "http") or (tls is None and host not in ("127.0.0.1", "::1")):
        raise ConfigurationError(["keys.vault.url: https, save on a loopback address"])

    def call(method: str, path: str, body: Json | None) -> VaultAnswer:
        headers = {"X-Vault-Token": _token(settings.token_file), "X-Vault-Request": "true"}
        if settings.namespace:
            headers["X-Vault-Namespace"] = settings.namespace
        connection = (
            http.client.HTTPSConnection(host, port, timeout=settings.timeout_s, context=tls)
            if tls is not None
            else http.client.HTTPConnection(host, port, timeout=settings.timeout_s)
        )
        try:
            with closing(connection):
                faultpoint("vault.call.before")
                connection.request(method, f"/v1/{path}", None if body is None else orjson.dumps(body), headers)
                response = connection.getresponse()
                content = response.read(ANSWER_BYTES_MAX + 1)
                faultpoint("vault.call.after")
        except (OSError, http.client.HTTPException) as error:
            # Without its cause: library errors may quote headers.
            raise RegisterUnavailable(f"Vault cannot be reached: {type(error).__name__}") from None
        return _answer(response.status, content)

    return call


def _answer(status: int, content: bytes) -> VaultAnswer:
    if len(content) > ANSWER_BYTES_MAX:
        raise RegisterUnavailable(f"Vault's answer is longer than {ANSWER_BYTES_MAX} bytes")
    try:
        body = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError:
        raise RegisterUnavailable("Vault's answer is not JSON") from None
    return VaultAnswer(status, body if isinstance(body, dict) else {})


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(TOKEN_BYTES_MAX + 1)
        token = content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RegisterUnavailable("the file with Vault's token cannot be read") from error
    if not token.isprintable() or not 0 < len(token) <= TOKEN_BYTES_MAX:
        raise RegisterUnavailable("the file with Vault's token holds none")
    return token


def _text(content: bytes) -> str:
    return b64encode(content).decode()
