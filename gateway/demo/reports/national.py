"""NHS login and the national register of patients as stand-ins on loopback, as their public interfaces say.

NHS login: discovery, keys, a page on which a visitor says who they are, codes of one use with PKCE, ID tokens signed by
RS512 at P9. The register (PDS): `GET Patient/{number}`. Both know the cast and nothing of the gateway.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gateway.demo.cast import PATIENTS, Patient

CLIENT_ID: Final = "demo-region"
TOKEN_LIFE_S: Final = 300
CODES_MAX: Final = 1_000
REGISTER_PATH: Final = "/personal-demographics/FHIR/R4"
_ALGORITHM: Final = "RS512"
_KEY_ID: Final = "demo-login-1"
_NHS_NUMBER: Final = "https://fhir.nhs.uk/Id/nhs-number"
_VERIFICATION_STATUS: Final = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"


@dataclass(frozen=True, slots=True)
class _Code:
    """What a code stands for until it is used."""

    patient: Patient
    redirect_uri: str
    challenge: str
    nonce: str


class NationalServices:
    """Both services on one port. `async with`; they listen in between."""

    def __init__(self, client_key: Path, port: int) -> None:
        """`client_key` is made here, for the gateway to prove itself by."""
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._key = RSAKey.generate_key(2048, {"kid": _KEY_ID})
        self._client = RSAKey.generate_key(2048)
        self._codes: dict[str, _Code] = {}
        self._people = {patient.nhs_number: patient for patient in PATIENTS}
        self._stack = AsyncExitStack()
        client_key.parent.mkdir(mode=0o700, exist_ok=True)
        client_key.touch(mode=0o600)
        client_key.write_bytes(self._client.as_pem(private=True))

    async def __aenter__(self) -> NationalServices:
        application = web.Application()
        application.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._configuration),
                web.get("/keys", self._keys),
                web.get("/authorize", self._authorize),
                web.post("/token", self._token),
                web.get(REGISTER_PATH + "/Patient/{number}", self._person),
            ]
        )
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _configuration(self, request: web.Request) -> web.Response:
        places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        return web.json_response({"issuer": self.url, **{name: self.url + path for name, path in places.items()}})

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": [self._key.as_dict(private=False, use="sig")]})

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        """Ask who somebody is, as there are no passwords here; then send them back with a code."""
        asked = request.query
        if asked.get("client_id") != CLIENT_ID or asked.get("code_challenge_method") != "S256":
            raise web.HTTPBadRequest
        patient = self._people.get(asked.get("as", ""))
        if patient is None:
            return web.Response(text=_choice(list(self._people.values()), dict(asked)), content_type="text/html")
        if len(self._codes) >= CODES_MAX:
            raise web.HTTPServiceUnavailable
        code = secrets.token_urlsafe(24)
        self._codes[code] = _Code(patient, asked["redirect_uri"], asked["code_challenge"], asked["nonce"])
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        code = self._codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_asked = code is not None and form.get("redirect_uri") == code.redirect_uri and code.challenge == challenge
        if code is None or not is_asked or not self._is_client(str(form.get("client_assertion"))):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now_s, patient = int(time.time()), code.patient
        claims = {
            **{"iss": self.url, "aud": CLIENT_ID, "sub": f"demo-{patient.nhs_number}", "nonce": code.nonce},
            **{"iat": now_s, "exp": now_s + TOKEN_LIFE_S, "vot": "P9.Cp.Cd", "identity_proofing_level": "P9"},
            **{"nhs_number": patient.nhs_number, "family_name": patient.family_name},
            "birthdate": patient.birth_date.isoformat(),
        }
        token = jwt.encode({"alg": _ALGORITHM, "kid": _KEY_ID}, claims, self._key, algorithms=[_ALGORITHM])
        return web.json_response({"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "id_token": token})

    def _is_client(self, assertion: str) -> bool:
        try:
            claims = jwt.decode(assertion, self._client, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError):
            return False
        return bool(claims.get("sub") == CLIENT_ID and float(claims.get("exp", 0)) > time.time())

    async def _person(self, request: web.Request) -> web.Response:
        patient = self._people.get(request.match_info["number"])
        if patient is None:
            coding = {"code": "RESOURCE_NOT_FOUND"}
            issue = {"severity": "error", "code": "not-found", "details": {"coding": [coding]}}
            return _fhir({"resourceType": "OperationOutcome", "issue": [issue]}, 404)
        status = {"url": _VERIFICATION_STATUS, "valueCodeableConcept": {"coding": [{"code": "01"}]}}
        return _fhir(
            {
                "resourceType": "Patient",
                "id": patient.nhs_number,
                "identifier": [{"system": _NHS_NUMBER, "value": patient.nhs_number, "extension": [status]}],
                "name": [{"use": "usual", "family": patient.family_name, "given": [patient.given_name]}],
                "birthDate": patient.birth_date.isoformat(),
            }
        )


def _fhir(resource: dict[str, object], status: int = 200) -> web.Response:
    return web.json_response(resource, status=status, content_type="application/fhir+json")


def _choice(people: Sequence[Patient], asked: dict[str, str]) -> str:
    """A page with a link for each of the cast."""

    def line(patient: Patient) -> str:
        address = html.escape("/authorize?" + urlencode({**asked, "as": patient.nhs_number}))
        return f'<li><a href="{address}">{html.escape(f"{patient.given_name} {patient.family_name}")}</a></li>'

    lines = "".join(map(line, people))
    return (
        '<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>A stand-in for NHS login</title></head>'
        f"<body><main><h1>A stand-in for NHS login</h1><p>Who are you?</p><ul>{lines}</ul></main></body></html>"
    )
