"""Sign in with a provider of OpenID Connect: the code flow with PKCE, shaped like NHS login. Knows no page, no reports.

The client proves itself with a signed assertion (`private_key_jwt`, RFC 7523). State, nonce and verifier are derived
from a random value in the browser's cookie (`SignIns`): a sign-in that is never ended keeps no memory here, any process
can end it, and one that was begun in another browser is none (RFC 9700 4.7).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import aiohttp
import orjson
from joserfc import jwt
from joserfc.jwk import RSAKey
from yarl import URL

from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock
from gateway.web.patient.keys import KeyCache, KeyTerms
from gateway.web.patient.tokens import KeysUnavailable, Person, TokenTerms, judge

BODY_BYTES_MAX: Final = 256 * 1024
ASSERTION_LIFE_S: Final = 60
COOKIE_CHARS_MAX: Final = 100
_CHUNK_BYTES: Final = 16 * 1024
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class ProviderUnavailable(Exception):
    """The provider gave no answer that can be used; the message says nothing of the patient."""


class CodeRefused(Exception):
    """The provider does not take the code: used before, another's, or too old."""


@dataclass(frozen=True, slots=True)
class ProviderTerms:
    """The provider, and who we are there."""

    issuer: str
    client_id: str
    return_url: str
    client_key_pem: bytes = field(repr=False)
    client_key_id: str = ""
    client_algorithm: str = "RS512"
    scope: str = "openid profile"
    trust_vector: str = '["P9.Cp.Cd","P9.Cp.Ck","P9.Cm"]'
    """NHS login's `vtr`: what proof of identity is asked for; empty: the parameter is left out."""
    algorithms: tuple[str, ...] = ("RS512",)
    token_age_max_s: int = 600
    leeway_s: int = 30
    timeout_s: float = 5.0
    connections_max: int = 8
    bearer_audience: str = ""
    """Audience of bearer tokens of delegated access; empty: none are taken."""
    bearer_age_max_s: int = 3_600
    keys: KeyTerms = field(default_factory=KeyTerms)
    tls: ssl.SSLContext | None = None
    is_demo: bool = False
    """See `TokenTerms`."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in of one browser."""

    state: str
    nonce: str
    verifier: str = field(repr=False)

    @property
    def challenge(self) -> str:
        """Of the verifier, S256 (RFC 7636 4.2)."""
        return _plain(hashlib.sha256(self.verifier.encode("ascii")).digest())


class SignIns:
    """Makes sign-ins, and finds them again by what the browser brings back."""

    def __init__(self, life_s: int) -> None:
        self._life_s = life_s

    def begin(self, now: datetime) -> tuple[str, SignIn]:
        """A new one, and the value of the cookie that leads back to it."""
        cookie = f"{int(now.timestamp())}.{secrets.token_urlsafe(32)}"
        return cookie, _sign_in(cookie)

    def again(self, cookie: str, state: str, now: datetime) -> SignIn | None:
        """The sign-in of this browser, if this is its state and its time is not up."""
        begun_s, _, _ = cookie.partition(".")
        if not (cookie.isascii() and state.isascii() and begun_s.isdecimal() and len(cookie) <= COOKIE_CHARS_MAX):
            return None
        found = _sign_in(cookie)
        is_in_time = 0 <= now.timestamp() - int(begun_s) <= self._life_s
        return found if is_in_time and hmac.compare_digest(state, found.state) else None


def _sign_in(cookie: str) -> SignIn:
    """Whoever has not the cookie can tell none of these from another, the one that is shown in addresses included."""
    uses = ("state", "nonce", "verifier")
    return SignIn(*(_plain(hmac.digest(cookie.encode(), use.encode(), "sha256")) for use in uses))


class Provider:
    """One provider. Its session is opened at the first question, because it belongs to the running loop."""

    def __init__(self, terms: ProviderTerms, clock: Clock) -> None:
        self._terms = terms
        self._clock = clock
        self._key = RSAKey.import_key(terms.client_key_pem)
        self._session: aiohttp.ClientSession | None = None
        self._endpoints: Mapping[str, str] = {}
        self._endpoints_at_s = 0.0
        self._keys = KeyCache(self._fetch_keys, clock, terms.keys)

    async def address(self, sign_in: SignIn) -> str:
        """Where the browser goes to sign in; raises `ProviderUnavailable`."""
        query = {
            "response_type": "code",
            "client_id": self._terms.client_id,
            "redirect_uri": self._terms.return_url,
            "scope": self._terms.scope,
            "state": sign_in.state,
            "nonce": sign_in.nonce,
            "code_challenge": sign_in.challenge,
            "code_challenge_method": "S256",
        }
        if self._terms.trust_vector:
            query["vtr"] = self._terms.trust_vector
        return str(URL(await self._endpoint("authorization_endpoint")).update_query(query))

    async def exchange(self, code: str, sign_in: SignIn) -> Person:
        """Whom the code proves.

        Raises `CodeRefused`, `ProviderUnavailable`, `KeysUnavailable`, `TokenRefused`.
        """
        address = await self._endpoint("token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._terms.return_url,
            "client_id": self._terms.client_id,
            "code_verifier": sign_in.verifier,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(address),
        }
        status, answer = await self._ask("POST", address, form)
        if status in (400, 401, 403):
            raise CodeRefused
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise ProviderUnavailable("the token endpoint gave no ID token")
        wanted = self._wanted(self._terms.client_id, self._terms.token_age_max_s)
        return await judge(token, wanted, self._keys, self._clock.now(), sign_in.nonce)

    async def judge_bearer(self, token: str) -> Person:
        """Whom a bearer token proves, for whom it was issued to us; raises `TokenRefused`, `KeysUnavailable`."""
        wanted = self._wanted(self._terms.bearer_audience, self._terms.bearer_age_max_s)
        return await judge(token, wanted, self._keys, self._clock.now(), None)

    @property
    def takes_bearer_tokens(self) -> bool:
        """Whether there is an audience for which they may be issued."""
        return bool(self._terms.bearer_audience)

    async def close(self) -> None:
        """Give up pooled connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _wanted(self, audience: str, age_max_s: int) -> TokenTerms:
        terms = self._terms
        return TokenTerms(terms.issuer, audience, terms.algorithms, terms.leeway_s, age_max_s, terms.is_demo)

    def _assertion(self, audience: str) -> str:
        now_s = int(self._clock.now().timestamp())
        header = {"alg": self._terms.client_algorithm}
        if self._terms.client_key_id:
            header["kid"] = self._terms.client_key_id
        claims = {
            "iss": self._terms.client_id,
            "sub": self._terms.client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(16),
            "iat": now_s,
            "exp": now_s + ASSERTION_LIFE_S,
        }
        return jwt.encode(header, claims, self._key, algorithms=[self._terms.client_algorithm])

    async def _endpoint(self, name: str) -> str:
        """An address that the provider publishes (OpenID Connect Discovery 4); raises `ProviderUnavailable`."""
        age_s = self._clock.monotonic() - self._endpoints_at_s
        if not self._endpoints or age_s >= self._terms.keys.fresh_s:
            try:
                self._endpoints = await self._discover()
                self._endpoints_at_s = self._clock.monotonic()
            except ProviderUnavailable:
                if not self._endpoints or age_s >= self._terms.keys.stale_max_s:
                    raise
        address = self._endpoints.get(name)
        if address is None:
            raise ProviderUnavailable(f"the provider publishes no {name}")
        return address

    async def _discover(self) -> Mapping[str, str]:
        address = f"{self._terms.issuer.rstrip('/')}/.well-known/openid-configuration"
        status, answer = await self._ask("GET", address)
        if status != 200 or answer.get("issuer") != self._terms.issuer:
            raise ProviderUnavailable("the provider's configuration is not that of the issuer")
        scheme = URL(self._terms.issuer).scheme
        return {
            name: value
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            # An issuer behind TLS leads to nothing that is not.
            if isinstance(value := answer.get(name), str) and URL(value).scheme in ("https", scheme)
        }

    async def _fetch_keys(self) -> Mapping[str, JsonValue]:
        try:
            status, answer = await self._ask("GET", await self._endpoint("jwks_uri"))
        except ProviderUnavailable as error:
            raise KeysUnavailable("the issuer's keys cannot be fetched") from error
        if status != 200:
            raise KeysUnavailable("the issuer gives no keys")
        return answer

    async def _ask(
        self, method: str, address: str, form: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, JsonValue]]:
        try:
            async with self._opened().request(method, address, data=form, allow_redirects=False) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > BODY_BYTES_MAX:
                        raise ProviderUnavailable(f"the answer is longer than {BODY_BYTES_MAX} bytes")
                answer = orjson.loads(body) if body else {}
                return response.status, answer if isinstance(answer, dict) else {}
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # Without its cause: library errors quote addresses, and codes stand in some.
            raise ProviderUnavailable(f"no answer: {type(error).__name__}") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._terms.tls
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._terms.connections_max, ssl=tls if tls is not None else True),
                timeout=aiohttp.ClientTimeout(total=self._terms.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "image-sharing-gateway", "Accept": "application/json"},
            )
        return self._session


def _plain(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
