"""What every HTTP request passes before a handler sees it, and every answer on its way out.

Gives the request its id, refuses what no GET of ours may carry, answers browsers' preflights, turns errors into problem
bodies and sets the headers that keep answers out of caches. An answer that is an error never says more than
`dicomweb.problem` lets it. Knows nothing of DICOM; sockets are the business of `dicomweb.connections`.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from dicomweb.accept import accepts_gzip
from dicomweb.notices import NOTICE_HEADER, SNAPSHOT_HEADER, SOURCES_HEADER
from dicomweb.problem import http_problem, problem_of
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.settings import Limits

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""Where handlers find the id under which the request is audited, logged and sent to peers."""

CORRELATION_HEADER = "Gateway-Correlation"
HOPS_HEADER = "Gateway-Hops"
PURPOSE_HEADER = "Gateway-Purpose"

GZIP_BYTES_MIN = 1_024
"""Smaller bodies are sent as they are."""

_GZIP_LEVEL = 1
_CORRELATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
_METHODS = "GET, HEAD, OPTIONS"
_REQUEST_HEADERS = ", ".join(("Accept", CORRELATION_HEADER, PURPOSE_HEADER, SNAPSHOT_HEADER))
_EXPOSED_HEADERS = ", ".join(
    ("Warning", "Retry-After", NOTICE_HEADER, SOURCES_HEADER, SNAPSHOT_HEADER, CORRELATION_HEADER)
)
_PREFLIGHT_MAX_AGE_S = 600

log = structlog.get_logger(__name__)


def request_ids(own: str, correlation: str) -> str:
    """The id of a request: ours, behind the asker's correlation id if that is well formed (DEC-01)."""
    return f"{correlation}/{own}" if _CORRELATION.fullmatch(correlation) else own


def edge(
    limits: Limits,
    *,
    new_id: Callable[[], str],
    cors_origins: frozenset[str] = frozenset(),
    under_way: Callable[[web.Request], AbstractContextManager[None]] = lambda _request: nullcontext(),
) -> Middleware:
    """The outermost middleware of a listener. `under_way` is held while a request is handled."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        with under_way(request):
            began = time.monotonic()
            request_id = request_ids(new_id(), request.headers.get(CORRELATION_HEADER, ""))
            request[REQUEST_ID] = request_id
            response = await _answered(request, handler, request_id, limits, cors_origins)
            _set_headers(request, response, request_id, cors_origins)
            log.info(
                "request answered",
                request=request_id,
                method=request.method if request.method in hdrs.METH_ALL else "other",
                route=_route(request),
                status=response.status,
                duration_ms=round((time.monotonic() - began) * 1000, 2),
            )
            return response

    return middleware


async def _answered(
    request: web.Request, handler: Handler, request_id: str, limits: Limits, cors_origins: frozenset[str]
) -> web.StreamResponse:
    """The handler's answer or a problem body; the outermost frame of a request, so nothing but a cancel leaves it."""
    try:
        refusal = _refused_head(request, limits, request_id)
        if refusal is not None:
            return refusal
        if request.method == hdrs.METH_OPTIONS and request.match_info.http_exception is not None:
            return _options(request, cors_origins)
        return await handler(request)
    except GatewayError as error:
        return problem_of(error, request_id).response()
    except web.HTTPException as error:
        allow = error.headers.get("Allow")
        headers = (("Allow", _METHODS),) if allow is not None else ()
        return http_problem(error.status, "", request_id, headers).response()
    except Exception:  # a bug: logged with the request's id, shown to nobody
        log.exception("request failed", request=request_id, route=_route(request))
        return problem_of(RuntimeError(), request_id).response()


def _refused_head(request: web.Request, limits: Limits, request_id: str) -> web.Response | None:
    head_bytes = len(request.method) + len(request.raw_path) + sum(len(n) + len(v) + 4 for n, v in request.raw_headers)
    if head_bytes > limits.request_head_bytes_max:
        response = http_problem(431, "the request line and headers are longer than their limit", request_id).response()
    elif request.method in (hdrs.METH_GET, hdrs.METH_HEAD) and _has_body(request):
        response = problem_of(InvalidRequest("a search carries no body"), request_id).response()
    elif len(request.headers.getall(hdrs.HOST, ())) != 1 and request.version >= (1, 1):
        response = problem_of(InvalidRequest("a request names exactly one host"), request_id).response()
    else:
        return None
    # What follows on this connection cannot be told apart from the rest of what was refused.
    response.force_close()
    return response


def _has_body(request: web.Request) -> bool:
    return request.can_read_body or request.headers.get(hdrs.CONTENT_LENGTH, "0") != "0"


def _options(request: web.Request, cors_origins: frozenset[str]) -> web.Response:
    if request.match_info.http_exception is not None and request.match_info.http_exception.status == 404:
        raise web.HTTPNotFound
    response = web.Response(status=204, headers={"Allow": _METHODS})
    if request.headers.get(hdrs.ORIGIN) in cors_origins and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _REQUEST_HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_MAX_AGE_S)
    return response


def _set_headers(
    request: web.Request, response: web.StreamResponse, request_id: str, cors_origins: frozenset[str]
) -> None:
    headers = response.headers
    headers[CORRELATION_HEADER] = request_id
    # Answers hold patient data, and a decision is never cached (DEC-34).
    headers[hdrs.CACHE_CONTROL] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers[hdrs.SERVER] = "image-sharing-gateway"
    headers[hdrs.VARY] = "Accept, Accept-Encoding, Origin"
    origin = request.headers.get(hdrs.ORIGIN)
    if origin in cors_origins and origin is not None:
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
    _compress(request, response)


def _compress(request: web.Request, response: web.StreamResponse) -> None:
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return
    if len(response.body) < GZIP_BYTES_MIN or not accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING)):
        return
    # Level 1: 0.5 ms for 70 kB of DICOM JSON, a ninth of its size.
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    response.body = compressor.compress(response.body) + compressor.flush()
    response.headers[hdrs.CONTENT_ENCODING] = "gzip"


def _route(request: web.Request) -> str:
    """The pattern of the path; never the path, which may hold whatever a caller put there."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
