"""A FHIR R4 portal, or an aggregator as the NHS App has them: a `Channel` that may be repeated.

Follows no redirect, reads no proxy setting, and says nothing of what the portal's answers say: an OperationOutcome may
repeat a patient. What was refused is not tried again, what may have arrived is unknown and is put again by its key. A
document is put only after the account was looked up in the same call, for one that is not proven gets nothing (P9).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import aiohttp
import orjson
from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.channels import fhir_resources
from gateway.channels.fhir_resources import NHS_NUMBER_SYSTEM, Resource
from gateway.model.errors import StoreUnavailable
from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Receipt, Rendering
from gateway.model.reporting.notices import Notice
from policy.parties import InvalidIdentifier, NhsNumber
from policy.release.terms import LONG_AGO

ANSWER_BYTES_MAX = 1024 * 1024
PROVEN = "P9"
"""Code of a tag of the portal's Patient that says how the account was proven."""

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE = timedelta(minutes=4)
_TOKEN_MARGIN = timedelta(seconds=30)
_FAILED_STATUSES = frozenset({401, 408, 409, 423, 425, 429})
"""Answers that say "not now": the same request may pass later."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where tokens are had: OAuth 2.0 client credentials, the client proven by a signed assertion (RFC 7523)."""

    url: str
    client_id: str
    key: RSAKey = field(repr=False)
    key_id: str = ""
    algorithm: str = "RS512"
    scope: str = ""


@dataclass(frozen=True, slots=True)
class FhirPortal:
    """A portal, and what it is shown."""

    name: str
    url: str
    timeout_s: float
    tls: ssl.SSLContext | None = None
    tokens: TokenSource | None = None
    accounts_are_proven: bool = False
    """Whether it has no account below P9, by contract."""
    checks_proxies: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Mapping[str, object]


class _NotDone(Exception):
    """No answer that can be believed; whether the portal may have done what it was asked."""

    def __init__(self, receipt: Receipt, words: str) -> None:
        super().__init__(words)
        self.outcome = Outcome(receipt, words)


class FhirChannel:
    """A `Channel`."""

    def __init__(self, portal: FhirPortal, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._portal = portal
        self._now = now
        self._new_id = new_id
        self._session: aiohttp.ClientSession | None = None
        self._token = ("", LONG_AGO)

    @property
    def name(self) -> str:
        """See `Channel`."""
        return self._portal.name

    @property
    def is_idempotent(self) -> bool:
        """See `Channel`: everything is put by its key."""
        return True

    @property
    def checks_proxies(self) -> bool:
        """See `Channel`."""
        return self._portal.checks_proxies

    @property
    def notifies(self) -> bool:
        """See `Channel`: by a Communication."""
        return True

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`: `put` looks again, and gives nothing where this could not be told."""
        try:
            return await self._account(addressee)
        except _NotDone:
            return Account(True, True, addressee.nhs_number, addressee.family_name, addressee.birth_date)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        try:
            account = await self._account(report.addressee)
            if not (account.is_there and account.is_proven):
                return Outcome(Receipt.NO_ACCOUNT)
            if _is_another(account, report.addressee):
                return Outcome(Receipt.REFUSED, "the account is somebody else's")
            return _transacted(await self._post("", fhir_resources.putting(report, rendering)))
        except _NotDone as error:
            return error.outcome

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`."""
        none_yet = {"If-None-Exist": f"identifier={fhir_resources.KEY_SYSTEM}|{report.document_key}"}
        try:
            answer = await self._post("/Communication", fhir_resources.notifying(report), none_yet)
        except _NotDone as error:
            return error.outcome
        return _by_status(answer.status) or Outcome(Receipt.CONFIRMED)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        try:
            bundle = fhir_resources.withdrawing(document_key, addressee, words, self._now())
            return _transacted(await self._post("", bundle))
        except _NotDone as error:
            return error.outcome

    async def tell(self, notice: Notice) -> str:
        """See `gateway.model.reporting.notices.Notifier`: a Communication to staff, created once by its key."""
        none_yet = {"If-None-Exist": f"identifier={fhir_resources.KEY_SYSTEM}|{notice.key}"}
        try:
            answer = await self._post("/Communication", fhir_resources.telling(notice, self._now()), none_yet)
        except _NotDone as error:
            raise StoreUnavailable(f"the notice was not taken: {error}") from None
        refused = _by_status(answer.status)
        if refused is not None:
            raise StoreUnavailable(f"the notice was not taken: {refused.words}")
        named = str(answer.body.get("id") or notice.key)[:64]
        return f"{self._portal.name}: Communication {named}, status {answer.status}"

    async def close(self) -> None:
        """See `Channel`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _account(self, addressee: Addressee) -> Account:
        # By POST: an address stands in the logs of every proxy on the way.
        form = {"identifier": f"{NHS_NUMBER_SYSTEM}|{addressee.nhs_number.digits}", "_count": "2"}
        try:
            answer = await self._send("/Patient/_search", form, await self._headers())
        except _NotDone as error:
            raise _NotDone(Receipt.FAILED, f"the account could not be looked up: {error}") from error
        if answer.status != 200:
            raise _NotDone(Receipt.FAILED, f"the account could not be looked up: status {answer.status}")
        found = [each.get("resource") for each in _objects(answer.body.get("entry"))]
        people = [each for each in found if isinstance(each, dict) and each.get("resourceType") == "Patient"]
        if len(people) > 1:
            raise _NotDone(Receipt.REFUSED, "several accounts have the patient's number")
        return _account_of(people[0], self._portal.accounts_are_proven) if people else Account(False)

    async def _post(self, path: str, resource: Resource, more: Mapping[str, str] | None = None) -> _Answer:
        headers = {**await self._headers(), "Content-Type": "application/fhir+json", **(more or {})}
        return await self._send(path, orjson.dumps(resource), headers)

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/fhir+json", "X-Request-ID": self._new_id()}
        source = self._portal.tokens
        if source is None:
            return headers
        token, until = self._token
        if not token or self._now() >= until:
            token = await self._new_token(source)
        return {**headers, "Authorization": f"Bearer {token}"}

    async def _new_token(self, source: TokenSource) -> str:
        now = self._now()
        head = {"alg": source.algorithm, "typ": "JWT", **({"kid": source.key_id} if source.key_id else {})}
        claims = {"iss": source.client_id, "sub": source.client_id, "aud": source.url, "jti": self._new_id()}
        until = int((now + _ASSERTION_LIFE).timestamp())
        assertion = jwt.encode(head, {**claims, "exp": until}, source.key, algorithms=[source.algorithm])
        form = {"grant_type": "client_credentials", "client_assertion_type": _ASSERTION, "client_assertion": assertion}
        if source.scope:
            form["scope"] = source.scope
        try:
            answer = await self._send(source.url, form, {"Accept": "application/json"})
        except _NotDone as error:
            raise _NotDone(Receipt.FAILED, f"no token: {error}") from error
        token, life_s = answer.body.get("access_token"), answer.body.get("expires_in", 60)
        if answer.status != 200 or not isinstance(token, str) or not isinstance(life_s, int):
            raise _NotDone(Receipt.FAILED, f"no token: status {answer.status}")
        life = timedelta(seconds=min(max(life_s, 0), 3_600)) - _TOKEN_MARGIN
        self._token = (token, now + life)
        return token

    async def _send(self, path: str, body: bytes | Mapping[str, str], headers: Mapping[str, str]) -> _Answer:
        url = path if "://" in path else self._portal.url.rstrip("/") + path
        try:
            async with self._opened().post(url, data=body, headers=headers, allow_redirects=False) as response:
                if response.status == 401:
                    self._token = ("", LONG_AGO)
                return _Answer(response.status, await _read(response))
        except aiohttp.ClientConnectorError:
            raise _NotDone(Receipt.FAILED, "no connection") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Without its cause: libraries quote what was sent.
            raise _NotDone(Receipt.UNKNOWN, f"no answer: {type(error).__name__}") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._portal.tls
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=8, ssl=tls if tls is not None else True),
                timeout=aiohttp.ClientTimeout(total=self._portal.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "image-sharing-gateway"},
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> Mapping[str, object]:
    body = bytearray()
    async for chunk in response.content.iter_chunked(16 * 1024):
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise _NotDone(Receipt.UNKNOWN, f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


def _by_status(status: int) -> Outcome | None:
    if status in (200, 201):
        return None
    if status >= 500:
        # A proxy answers so when it has waited for long enough: what is behind it may have done it all the same.
        return Outcome(Receipt.UNKNOWN, f"status {status}")
    if status in _FAILED_STATUSES:
        return Outcome(Receipt.FAILED, f"status {status}")
    return Outcome(Receipt.REFUSED, f"status {status}")


def _transacted(answer: _Answer) -> Outcome:
    if (outcome := _by_status(answer.status)) is not None:
        return outcome
    answers = [each.get("response") for each in _objects(answer.body.get("entry"))]
    done = [each for each in answers if isinstance(each, dict) and str(each.get("status", "")).startswith("2")]
    if answer.body.get("type") != "transaction-response" or not done or len(done) != len(answers):
        return Outcome(Receipt.UNKNOWN, "the answer does not say that the transaction was done")
    return Outcome(Receipt.CONFIRMED, reference=str(done[0].get("location", ""))[:200])


def _account_of(person: Mapping[str, object], is_proven: bool) -> Account:
    meta = person.get("meta")
    tags = _objects(meta.get("tag")) if isinstance(meta, dict) else []
    family = next((str(each.get("family", "")) for each in _objects(person.get("name"))), "")
    try:
        birth_date = date.fromisoformat(str(person.get("birthDate")))
    except ValueError:
        birth_date = None
    proven = is_proven or any(tag.get("code") == PROVEN for tag in tags)
    return Account(True, proven, _number(person.get("identifier")), family, birth_date)


def _is_another(account: Account, addressee: Addressee) -> bool:
    other_number = account.nhs_number is not None and account.nhs_number != addressee.nhs_number
    return other_number or (account.birth_date is not None and account.birth_date != addressee.birth_date)


def _number(identifiers: object) -> NhsNumber | None:
    for each in _objects(identifiers):
        if each.get("system") == NHS_NUMBER_SYSTEM:
            try:
                return NhsNumber.parse(str(each.get("value", "")))
            except InvalidIdentifier:
                return None
    return None


def _objects(value: object) -> list[dict[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
