"""What every HTTP request passes before a handler sees it, and every answer on its way out.

Gives the request its id, refuses what no GET of ours may carry, answers browsers' preflights, turns errors into problem
bodies and sets the headers that keep answers out of caches. An answer that is an error never says more than
`dicomweb.problem` lets it. Knows nothing of DICOM; accepting sockets is the business of whoever serves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypedDict

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from dicomweb.accept import accepts_gzip
from dicomweb.bodies.outgoing import Outgoing, ReaderGone
from dicomweb.notices import NOTICE_HEADER, SNAPSHOT_HEADER, SOURCES_HEADER
from dicomweb.problem import http_problem, problem_of
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.settings import Limits

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""Where handlers find the id under which the request is audited, logged and sent to peers."""

OUTGOING: web.RequestKey[Outgoing] = web.RequestKey("outgoing", Outgoing)
"""By which a handler begins an answer that is too long to be made first; else it returns one."""

CORRELATION_HEADER = "Gateway-Correlation"
HOPS_HEADER = "Gateway-Hops"
PURPOSE_HEADER = "Gateway-Purpose"
ASKING_TRUST_HEADER = "Gateway-Asking-Trust"
"""By which another gateway says for which of its trusts it asks; from anybody else a reason not to be believed."""

GZIP_BYTES_MIN = 1_024
"""Smaller bodies are sent as they are."""

CORRELATION_CHARS_MAX = 100
"""Of an asker's own id of a request; a longer one is not taken."""

HEADER_LINES_MAX = 64
"""Headers of one request. Real viewers and proxies send fewer than 30."""

LINGER_S = 2.0
"""How long the rest of a refused body is read, so that its sender sees the refusal."""

_GZIP_LEVEL = 1
_GZIP_BYTES_AT_ONCE = 256 * 1024
_CORRELATION = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:/-]{{0,{CORRELATION_CHARS_MAX - 1}}}")
_REQUEST_HEADERS = ", ".join(
    (
        "Accept",
        "Content-Type",
        "If-None-Match",
        "If-Range",
        "Range",
        CORRELATION_HEADER,
        PURPOSE_HEADER,
        SNAPSHOT_HEADER,
    )
)
_EXPOSED_HEADERS = ", ".join(
    (
        "Accept-Ranges",
        "Content-Range",
        "ETag",
        "Warning",
        "Retry-After",
        NOTICE_HEADER,
        SOURCES_HEADER,
        SNAPSHOT_HEADER,
        CORRELATION_HEADER,
    )
)
_PREFLIGHT_MAX_AGE_S = 600

log = structlog.get_logger(__name__)


class ServerOptions(TypedDict):
    """Arguments of `web.AppRunner`."""

    access_log: None
    logger: logging.Logger
    handler_cancellation: bool
    keepalive_timeout: float
    lingering_time: float
    max_field_size: int
    max_line_size: int
    max_headers: int


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
    """The outermost middleware of a listener. `under_way` is held until the answer has left.

    A reader that takes none of its answer for `keepalive_timeout_s` is cut off: it is idle.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request_ids(new_id(), request.headers.get(CORRELATION_HEADER, ""))
        # Whatever is logged on the way, by peers and gate too, bears the request's id.
        with under_way(request), structlog.contextvars.bound_contextvars(request=request_id):
            began = time.monotonic()
            request[REQUEST_ID] = request_id
            dress = partial(_set_headers, request, request_id=request_id, cors_origins=cors_origins)
            outgoing = request[OUTGOING] = Outgoing(request, dress, stall_timeout_s=limits.keepalive_timeout_s)
            response = await _answered(request, handler, request_id, limits, cors_origins)
            if outgoing.response is None:
                dress(response)
                await _compress(request, response)
                is_taken = await _sent(request, response, limits.keepalive_timeout_s)
            else:
                if not outgoing.is_whole:
                    # What went wrong behind its first byte can be told in no other way.
                    outgoing.cut()
                response, is_taken = outgoing.response, outgoing.is_whole
            log.info(
                "request answered",
                method=request.method if request.method in hdrs.METH_ALL else "other",
                route=_route(request),
                status=response.status,
                taken=is_taken,
                duration_ms=round((time.monotonic() - began) * 1000, 2),
            )
            return response

    return middleware


def server_options(limits: Limits) -> ServerOptions:
    """What `web.AppRunner` is told for every listener: aiohttp's own limits, and silence about requests."""
    return {
        "access_log": None,
        "logger": _ParserLog("dicomweb.http"),
        "handler_cancellation": True,
        "keepalive_timeout": limits.keepalive_timeout_s,
        "lingering_time": LINGER_S,
        "max_field_size": limits.request_head_bytes_max,
        "max_line_size": limits.request_head_bytes_max,
        "max_headers": HEADER_LINES_MAX,
    }


class _ParserLog(logging.Logger):
    """Where aiohttp reports what its parser refused: the event is kept, the text is not, for it quotes the request."""

    def _log(self, level: int, msg: object, *_args: object, **_kwargs: object) -> None:
        if level >= logging.WARNING:
            log.warning("request refused by the parser")


async def _sent(request: web.Request, response: web.StreamResponse, timeout_s: float) -> bool:
    """Send the whole answer; False if its reader took none of it in time, and was cut off."""
    try:
        async with asyncio.timeout(timeout_s):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        return False
    except ConnectionError:
        return False
    return True


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
        headers = (("Allow", _methods(error)),) if isinstance(error, web.HTTPMethodNotAllowed) else ()
        return http_problem(error.status, "", request_id, headers).response()
    except ReaderGone:
        # Nobody is there any more to read a status.
        return web.Response(status=400)
    except Exception:  # a bug: logged with the request's id, shown to nobody
        log.exception("request failed", route=_route(request))
        return problem_of(RuntimeError(), request_id).response()


def _refused_head(request: web.Request, limits: Limits, request_id: str) -> web.Response | None:
    head_bytes = len(request.method) + len(request.raw_path) + sum(len(n) + len(v) + 4 for n, v in request.raw_headers)
    if head_bytes > limits.request_head_bytes_max:
        response = http_problem(431, "the request line and headers are longer than their limit", request_id).response()
    elif request.method in (hdrs.METH_GET, hdrs.METH_HEAD) and _has_body(request):
        response = problem_of(InvalidRequest("a search carries no body"), request_id).response()
    else:
        return None
    response.force_close()
    return response


def _has_body(request: web.Request) -> bool:
    """Whether a body is announced, be it an empty one: an intermediary may frame it otherwise than we do."""
    return hdrs.TRANSFER_ENCODING in request.headers or request.headers.get(hdrs.CONTENT_LENGTH, "0") != "0"


def _methods(error: web.HTTPMethodNotAllowed) -> str:
    return ", ".join(sorted(error.allowed_methods | {hdrs.METH_OPTIONS}))


def _options(request: web.Request, cors_origins: frozenset[str]) -> web.Response:
    refused = request.match_info.http_exception
    if not isinstance(refused, web.HTTPMethodNotAllowed):
        raise web.HTTPNotFound
    methods = _methods(refused)
    response = web.Response(status=204, headers={"Allow": methods})
    if request.headers.get(hdrs.ORIGIN) in cors_origins and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _REQUEST_HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_MAX_AGE_S)
    return response


def _set_headers(
    request: web.Request, response: web.StreamResponse, *, request_id: str, cors_origins: frozenset[str]
) -> None:
    is_taken = request.match_info.http_exception is None and response.status < 400 and request.content.is_eof()
    if (_has_body(request) and not is_taken) or hdrs.UPGRADE in request.headers:
        # No answer of ours changes protocol; nothing that follows a body that was not taken is taken for a request.
        response.force_close()
    headers = response.headers
    headers[CORRELATION_HEADER] = request_id
    # Answers hold patient data, and a decision is never cached (DEC-34); what is a program says so itself.
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers[hdrs.SERVER] = "image-sharing-gateway"
    headers[hdrs.VARY] = "Accept, Accept-Encoding, Origin"
    origin = request.headers.get(hdrs.ORIGIN)
    if origin in cors_origins and origin is not None:
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS


async def _compress(request: web.Request, response: web.StreamResponse) -> None:
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return
    if not response.content_type.endswith("json") and not response.content_type.startswith("text/"):
        # Images are compressed in ways of their own.
        return
    if len(response.body) < GZIP_BYTES_MIN or not accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING)):
        return
    # Level 1: 0.5 ms for 70 kB of DICOM JSON, a ninth of its size.
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    pieces = []
    for start in range(0, len(response.body), _GZIP_BYTES_AT_ONCE):
        pieces.append(compressor.compress(response.body[start : start + _GZIP_BYTES_AT_ONCE]))
        await asyncio.sleep(0)
    response.body = b"".join([*pieces, compressor.flush()])
    response.headers[hdrs.CONTENT_ENCODING] = "gzip"


def _route(request: web.Request) -> str:
    """The pattern of the path; never the path, which may hold whatever a caller put there."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
