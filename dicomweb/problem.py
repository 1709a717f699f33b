"""Errors become `application/problem+json` (RFC 9457): one table, walked by a test so that no class is forgotten.

Details are the errors' own words, which are made to be shown; a fault without words of its own (a bug) shows none. A
denial whose reasons may not be told never looks like one (SAF-02): it takes the form of absence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

import orjson
from aiohttp import web

from gateway.model import errors

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:image-sharing-gateway:problem:"


@dataclass(frozen=True, slots=True)
class Form:
    """How one class of error looks. `detail` None: the error's own words."""

    status: int
    slug: str
    title: str
    detail: str | None = None


FORMS: Mapping[type[errors.GatewayError], Form] = MappingProxyType(
    {
        errors.GatewayError: Form(500, "internal", "The gateway failed", ""),
        errors.InvalidRequest: Form(400, "invalid-request", "The request cannot be understood"),
        errors.QueryTooBroad: Form(400, "query-too-broad", "The question is too broad"),
        errors.NotAcceptable: Form(406, "not-acceptable", "None of the accepted media types can be made"),
        errors.Conflicting: Form(409, "conflicting", "Another instance of this UID is kept"),
        errors.Unwanted: Form(409, "unwanted", "Nobody waits for this instance"),
        errors.RequestTooLarge: Form(413, "request-too-large", "The request is larger than its limit"),
        errors.NotIdentified: Form(401, "not-identified", "The caller is not identified", ""),
        errors.Denied: Form(403, "denied", "Sharing is not permitted"),
        errors.NotFound: Form(404, "not-found", "There is nothing at this address"),
        errors.KeyClosed: Form(404, "not-found", "There is nothing at this address"),
        errors.ServiceFault: Form(503, "service-fault", "The gateway cannot work at this moment", ""),
        errors.RegisterUnavailable: Form(503, "sharing-not-checked", "Sharing not checked", "sharing not checked"),
        errors.AuditUnavailable: Form(503, "not-recorded", "Not recorded", "not recorded"),
        errors.StoreUnavailable: Form(503, "store-unavailable", "The gateway cannot work at this moment", ""),
        errors.OutOfReach: Form(503, "store-unavailable", "The gateway cannot work at this moment", ""),
        errors.StoreFull: Form(507, "store-full", "There is no room to keep this", ""),
        errors.Damaged: Form(503, "damaged", "The gateway cannot work at this moment", ""),
        errors.OverCapacity: Form(503, "over-capacity", "The gateway is busy"),
        errors.PeerError: Form(502, "peer-failed", "The trust asked could not answer"),
        errors.PeerUnavailable: Form(504, "peer-unavailable", "The trust asked cannot be reached"),
        errors.PeerTimeout: Form(504, "peer-timeout", "The trust asked did not answer in time"),
        errors.PeerRefused: Form(502, "peer-refused", "The trust asked refused to answer"),
        errors.PeerProtocolError: Form(502, "peer-protocol", "The trust asked gave an answer that cannot be believed"),
        errors.ConfigurationError: Form(500, "internal", "The gateway failed", ""),
    }
)
"""Every class of error, and the errors table of docs/architecture.md for HTTP."""

_ABSENT = FORMS[errors.NotFound]
_BUG = FORMS[errors.GatewayError]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem body with its status and headers, before it is an HTTP response."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> web.Response:
        """The response to send."""
        response = web.Response(status=self.status, body=self.body, content_type=CONTENT_TYPE)
        for name, value in self.headers:
            response.headers.add(name, value)
        return response


def problem_of(error: BaseException, request_id: str) -> Problem:
    """The problem that an error is shown as; anything but a `GatewayError` is a bug and shows nothing of itself."""
    form = _form(error)
    detail = str(error) if form.detail is None else form.detail
    headers: list[tuple[str, str]] = []
    match error:
        case errors.Denied() if form is not _ABSENT:
            detail = f"{detail}: {error.advice}" if error.advice else detail
        case errors.Denied():
            detail = ""
        case errors.PeerError():
            detail = f"{error.trust}: {detail}"
        case errors.ServiceFault():
            headers.append(("Retry-After", str(error.retry_after_s)))
        case errors.NotIdentified():
            # RFC 9110 asks for a challenge; there is no registered scheme for certificates of the TLS layer.
            headers.append(("WWW-Authenticate", "TLS-Client-Certificate"))
        case _:
            pass
    return Problem(form.status, _body(form, detail, request_id), tuple(headers))


def http_problem(status: int, detail: str, request_id: str, headers: tuple[tuple[str, str], ...] = ()) -> Problem:
    """The problem for a plain HTTP refusal (no such path, method not allowed, head too large)."""
    title = HTTPStatus(status).phrase
    form = Form(status, title.lower().replace(" ", "-"), title)
    return Problem(status, _body(form, detail, request_id), headers)


def _form(error: BaseException) -> Form:
    if isinstance(error, errors.Denied) and not error.decision.told:
        return _ABSENT
    for kind in type(error).__mro__:
        if (form := FORMS.get(kind)) is not None:
            return form
    return _BUG


def _body(form: Form, detail: str, request_id: str) -> bytes:
    content = {"type": TYPE_PREFIX + form.slug, "title": form.title, "status": form.status}
    if detail:
        content["detail"] = detail
    return orjson.dumps(content | {"requestId": request_id})
