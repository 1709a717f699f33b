"""A provider shaped like NHS login, by our own hand: RS512, P9, PKCE, signed client assertions, codes of one use.

It holds every caller to the letter, so that what the gateway leaves out is refused here; and it lies on demand (`lie`).
Another hand's provider is in `test_sign_in.py`, which does none of RS512, P9 and PKCE.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import Key, RSAKey

from gateway.model.seams import Clock

Claims = dict[str, object]
CLIENT_ID = "regional-image-sharing"
ANNE: Claims = {
    "sub": "anne-at-provider",
    "nhs_number": "9990000018",
    "identity_proofing_level": "P9",
    "birthdate": "1980-02-01",
    "family_name": "Ashworth",
}


@dataclass
class Code:
    """What a code stands for until it is used."""

    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    account: str


@dataclass
class NhsLogin:
    """The provider's state; tests change it freely."""

    clock: Clock
    client_key: RSAKey
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "key-1"}))
    accounts: dict[str, Claims] = field(default_factory=lambda: {"anne": dict(ANNE)})
    signed_in: str = "anne"
    """Whose browser it is."""
    codes: dict[str, Code] = field(default_factory=dict)
    lie: Callable[[Claims], Claims] = field(default=lambda claims: claims)
    """Changes the claims of an ID token before they are signed."""
    forge: Callable[[Claims], str] | None = None
    """Makes the ID token instead."""
    is_down: bool = False
    keys_asked: int = 0
    url: str = ""

    def token(self, claims: Claims, key: Key | None = None, algorithm: str = "RS512", **header: str) -> str:
        """A token with these claims, signed."""
        signing = key or self.key
        shown = {"alg": algorithm, "kid": "key-1", **header}
        return jwt.encode(shown, dict(claims), signing, algorithms=[algorithm])

    def by_hand(self, claims: Claims, algorithm: str, secret: bytes = b"") -> str:
        """A token as no library signs one: with nothing, or by HMAC with whatever is taken for a secret."""
        parts = [json.dumps({"alg": algorithm, "kid": "key-1"}), json.dumps(claims)]
        signed = ".".join(_plain(part.encode()) for part in parts)
        return f"{signed}.{_plain(hmac.digest(secret, signed.encode(), 'sha512')) if secret else ''}"

    def claims(self, account: str, audience: str, **more: object) -> Claims:
        """Of a good token."""
        now_s = int(self.clock.now().timestamp())
        return {
            **self.accounts[account],
            "iss": self.url,
            "aud": audience,
            "iat": now_s,
            "exp": now_s + 300,
            "vot": "P9.Cp.Cd",
            **more,
        }

    def routes(self) -> list[web.RouteDef]:
        """What a browser and the gateway ask."""
        return [
            web.get("/.well-known/openid-configuration", self._configuration),
            web.get("/keys", self._keys),
            web.get("/authorize", self._authorize),
            web.post("/token", self._token),
        ]

    async def _configuration(self, request: web.Request) -> web.Response:
        self._refuse_if_down()
        names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        return web.json_response({"issuer": self.url, **{name: self.url + path for name, path in names.items()}})

    async def _keys(self, request: web.Request) -> web.Response:
        self.keys_asked += 1
        self._refuse_if_down()
        return web.json_response({"keys": [self.key.as_dict(private=False, use="sig")]})

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.query
        assert query["response_type"] == "code" and query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"] and "P9" in query["vtr"] and len(query["state"]) >= 32
        code = secrets.token_urlsafe(16)
        self.codes[code] = Code(
            query["client_id"], query["redirect_uri"], query["code_challenge"], query["nonce"], self.signed_in
        )
        raise web.HTTPFound(f"{query['redirect_uri']}?code={code}&state={query['state']}")

    async def _token(self, request: web.Request) -> web.Response:
        self._refuse_if_down()
        form = await request.post()
        code = self.codes.pop(str(form.get("code")), None)
        challenge = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            code is None
            or form.get("redirect_uri") != code.redirect_uri
            or _plain(challenge) != code.challenge
            or not self._is_client(str(form.get("client_assertion")))
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = self.lie(self.claims(code.account, code.client_id, nonce=code.nonce))
        token = self.forge(claims) if self.forge is not None else self.token(claims)
        return web.json_response({"access_token": "opaque", "token_type": "Bearer", "id_token": token})

    def _is_client(self, assertion: str) -> bool:
        claims = jwt.decode(assertion, self.client_key, algorithms=["RS512"]).claims
        now_s = self.clock.now().timestamp()
        is_ours = claims["iss"] == claims["sub"] == CLIENT_ID and claims["aud"] == self.url + "/token"
        return is_ours and len(claims["jti"]) >= 16 and now_s < claims["exp"] <= now_s + 300

    def _refuse_if_down(self) -> None:
        if self.is_down:
            raise web.HTTPServiceUnavailable


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@asynccontextmanager
async def running(provider: NhsLogin) -> AsyncIterator[NhsLogin]:
    """The provider, listening on this machine."""
    application = web.Application()
    application.add_routes(provider.routes())
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    provider.url = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
