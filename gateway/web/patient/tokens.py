"""Judge tokens of one issuer: signature, issuer, audience, times, and whom they prove; never believed in part.

ID tokens as OpenID Connect Core 3.1.3.7 says; tokens for delegated access carry the proxy in `act` (RFC 8693 4.1).
The claims are NHS login's: `nhs_number`, `identity_proofing_level`, `birthdate`, `family_name` (domain.md A9). Keys
come from `keys.KeyCache`; which algorithms count is decided here and never by a token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Protocol

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key

from gateway.model.imaging import JsonValue
from gateway.model.reporting.reading import Identity
from policy.parties import InvalidIdentifier, NhsNumber

LEEWAY_S_MAX: Final = 30
"""How far two clocks may differ, at most (threat G9)."""
TOKEN_BYTES_MAX: Final = 16 * 1024
PROVEN: Final = "P9"
"""The identity proofing level below which no clinical content is shown (domain.md A9)."""

_STAFF_CLAIMS: Final = frozenset(
    {"nhsid_nrbac_roles", "nhsid_user_orgs", "nhsid_useruid", "selected_roleid", "id_assurance_level"}
)
"""Of NHS CIS2: whoever has them signed in as a professional, and sees no patient's page, their own records apart."""
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Refusal(StrEnum):
    """Why a token, or what is done with it, is refused: for the audit; a browser is not told."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    KEY_UNKNOWN = "key-unknown"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET = "not-yet"
    TOO_OLD = "too-old"
    NONCE = "nonce"
    STAFF = "staff"
    NOT_PROVEN = "not-proven"
    """Below P9."""
    NOBODY = "nobody"
    """No NHS number, name or date of birth that can be read."""
    ACTOR = "actor"
    """It names somebody who acts for the patient, in a way that cannot be read."""


class TokenRefused(Exception):
    """A token that is not believed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had, and none that were had before may still be used."""


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """Whose tokens count, and how strictly."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS512",)
    leeway_s: int = LEEWAY_S_MAX
    age_max_s: int = 600
    """Since it was issued; an ID token is used at once."""
    is_demo: bool = False
    """Synthetic NHS numbers are somebody's in a demonstration, and there alone (DEC-05)."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a token proves."""

    subject: str
    """The issuer's own name of the account that signed in."""
    identity: Identity
    """The patient."""
    actor: str = ""
    """NHS number of a proxy; empty: the patient signed in."""


class FindsKeys(Protocol):
    """Where an issuer's keys are found."""

    async def find(self, key_id: str | None) -> Key | None:
        """The key of this name, or the only one where the token names none; raises `KeysUnavailable`."""


async def judge(token: str, terms: TokenTerms, keys: FindsKeys, now: datetime, nonce: str | None) -> Person:
    """Whom this token proves at this instant; raises `TokenRefused`, `KeysUnavailable`.

    `nonce`: what the sign-in asked for; None for a bearer token, which answers no sign-in.
    """
    claims = await _signed(token, terms, keys)
    _check_parties(claims, terms)
    _check_times(claims, terms, now.timestamp())
    if nonce is not None:
        stated = claims.get("nonce")
        if not isinstance(stated, str) or not hmac.compare_digest(stated.encode(), nonce.encode()):
            raise TokenRefused(Refusal.NONCE)
    person = _person(claims)
    if person.identity.nhs_number.is_synthetic is not terms.is_demo:
        raise TokenRefused(Refusal.NOBODY)
    return person


async def _signed(token: str, terms: TokenTerms, keys: FindsKeys) -> Mapping[str, JsonValue]:
    if not token.isascii() or len(token) > TOKEN_BYTES_MAX or token.count(".") != 2:
        raise TokenRefused(Refusal.MALFORMED)
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError, TypeError) as error:
        raise TokenRefused(Refusal.MALFORMED) from error
    # Decided before any key is looked for: "none", and a public key taken for a shared secret, end here.
    if header.get("alg") not in terms.algorithms:
        raise TokenRefused(Refusal.ALGORITHM)
    key_id = header.get("kid")
    if key_id is not None and (not isinstance(key_id, str) or len(key_id) > 200):
        raise TokenRefused(Refusal.MALFORMED)
    key = await keys.find(key_id)
    if key is None:
        raise TokenRefused(Refusal.KEY_UNKNOWN)
    try:
        claims = jwt.decode(token, key, algorithms=list(terms.algorithms)).claims
    except (JoseError, ValueError, TypeError) as error:
        # Also a header that the library does not know (`crit`), or a key of another kind than the algorithm's.
        raise TokenRefused(Refusal.SIGNATURE) from error
    return claims


def _check_parties(claims: Mapping[str, JsonValue], terms: TokenTerms) -> None:
    if claims.get("iss") != terms.issuer:
        raise TokenRefused(Refusal.ISSUER)
    stated = claims.get("aud")
    audiences: Sequence[JsonValue] = stated if isinstance(stated, list) else [stated]
    authorised = claims.get("azp")
    if terms.audience not in audiences or (len(audiences) > 1 and authorised is None):
        raise TokenRefused(Refusal.AUDIENCE)
    if authorised is not None and authorised != terms.audience:
        raise TokenRefused(Refusal.AUDIENCE)


def _check_times(claims: Mapping[str, JsonValue], terms: TokenTerms, now_s: float) -> None:
    leeway_s = min(terms.leeway_s, LEEWAY_S_MAX)
    issued_s, expires_s = _instant(claims, "iat"), _instant(claims, "exp")
    if issued_s is None or expires_s is None:
        raise TokenRefused(Refusal.MALFORMED)
    starts_s = _instant(claims, "nbf") if "nbf" in claims else issued_s
    if starts_s is None:
        raise TokenRefused(Refusal.MALFORMED)
    if now_s >= expires_s + leeway_s:
        raise TokenRefused(Refusal.EXPIRED)
    if max(issued_s, starts_s) > now_s + leeway_s:
        raise TokenRefused(Refusal.NOT_YET)
    if now_s - issued_s > terms.age_max_s + leeway_s:
        raise TokenRefused(Refusal.TOO_OLD)


def _instant(claims: Mapping[str, JsonValue], name: str) -> float | None:
    value = claims.get(name)
    is_instant = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**40
    return float(value) if is_instant else None  # type: ignore[arg-type]  # it is one, and no other kind of value


def _person(claims: Mapping[str, JsonValue]) -> Person:
    if _STAFF_CLAIMS & claims.keys():
        raise TokenRefused(Refusal.STAFF)
    if claims.get("identity_proofing_level") != PROVEN:
        raise TokenRefused(Refusal.NOT_PROVEN)
    subject, family_name = claims.get("sub"), claims.get("family_name")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise TokenRefused(Refusal.NOBODY)
    if not isinstance(family_name, str) or not 0 < len(family_name.strip()) <= 200:
        raise TokenRefused(Refusal.NOBODY)
    number, born = _number(claims.get("nhs_number")), _date(claims.get("birthdate"))
    if number is None or born is None:
        raise TokenRefused(Refusal.NOBODY)
    return Person(subject, Identity(number, family_name.strip(), born), _actor(claims, number))


def _actor(claims: Mapping[str, JsonValue], patient: NhsNumber) -> str:
    """NHS number of whoever acts for the patient. One that cannot be read is not taken for the patient themself."""
    if "act" not in claims:
        return ""
    actor = claims["act"]
    if not isinstance(actor, dict) or "act" in actor:  # A chain of proxies is nobody's to judge here.
        raise TokenRefused(Refusal.ACTOR)
    number = _number(actor["nhs_number"] if "nhs_number" in actor else actor.get("sub"))
    if number is None or number == patient:
        raise TokenRefused(Refusal.ACTOR)
    return number.digits


def _number(value: JsonValue) -> NhsNumber | None:
    try:
        return NhsNumber.parse(value) if isinstance(value, str) else None
    except InvalidIdentifier:
        return None


def _date(value: JsonValue) -> date | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None
