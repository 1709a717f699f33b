"""One FHIR R4 server, asked by GET over TLS, and its answer read with limits.

Follows no redirect, reads no proxy setting, keeps no cookies, retries nothing. Addresses hold patients' numbers: none
is ever logged or put into an error. Knows nothing of what is asked.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import orjson
from yarl import URL

from gateway.model.imaging import JsonValue

BODY_BYTES_MAX = 256 * 1024
NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
"""FHIR system of the NHS number (C1)."""

_JSON_TYPES = frozenset({"application/fhir+json", "application/json"})
_CHUNK_BYTES = 16 * 1024

Resource = Mapping[str, JsonValue]


class NotBelieved(Exception):
    """No answer, or none that could be read. The message says nothing of the patient."""


@dataclass(frozen=True, slots=True)
class FhirServer:
    """Where a server is, and what it is shown."""

    url: str
    """Base address, without a slash at the end."""
    tls: ssl.SSLContext | None = None
    token: str = ""
    """Bearer token; empty: none."""
    connections_max: int = 8


@dataclass(frozen=True, slots=True)
class FhirAnswer:
    """A status and the resource that came with it."""

    status: int
    resource: Resource

    @property
    def issue_codes(self) -> frozenset[str]:
        """The detail codes of an OperationOutcome."""
        return frozenset(
            text(coding, "code")
            for issue in items(self.resource, "issue")
            for coding in items(child(issue, "details"), "coding")
        )


class FhirClient:
    """Asks one server. Opened at the first question, because its session belongs to the running loop."""

    def __init__(self, server: FhirServer) -> None:
        self._server = server
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: Sequence[str], query: Mapping[str, str], request_id: str) -> FhirAnswer:
        """GET a resource; raises `NotBelieved`. The deadline is the caller's."""
        url = URL(self._server.url).joinpath(*path).with_query(query)
        headers = {"Accept": "application/fhir+json", "Accept-Encoding": "identity", "X-Request-ID": request_id}
        if self._server.token:
            headers["Authorization"] = f"Bearer {self._server.token}"
        try:
            async with self._opened().get(url, headers=headers, allow_redirects=False) as response:
                return await _read(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Without its cause: library errors quote addresses, and these hold patients' numbers.
            raise NotBelieved(f"no answer: {type(error).__name__}") from None

    async def close(self) -> None:
        """Give up pooled connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._server.connections_max, ssl=self._server.tls if self._server.tls is not None else True
                ),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": "image-sharing-gateway"},
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> FhirAnswer:
    if response.content_type not in _JSON_TYPES:
        raise NotBelieved("the answer is not FHIR JSON")
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise NotBelieved(f"the answer is longer than {BODY_BYTES_MAX} bytes")
    try:
        resource = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotBelieved("the answer is not JSON") from error
    if not isinstance(resource, dict):
        raise NotBelieved("the answer is no resource")
    return FhirAnswer(response.status, resource)


def text(resource: Resource, name: str) -> str:
    """A string member; empty if there is none."""
    value = resource.get(name)
    return value if isinstance(value, str) else ""


def child(resource: Resource, name: str) -> Resource:
    """A member that is an object; an empty one if there is none."""
    value = resource.get(name)
    return value if isinstance(value, dict) else {}


def items(resource: Resource, name: str) -> list[Resource]:
    """The objects in a list member."""
    value = resource.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
