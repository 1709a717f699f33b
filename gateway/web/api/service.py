"""The API at the machines' door: routes made from the table of operations, each asked by one proven caller.

Errors leave as they are: the door's edge turns them into problem bodies. What a proven caller may not have or do is
recorded first. A body is JSON of its own content type, which no page of another origin can send with a browser's
certificate unasked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import orjson
from aiohttp import hdrs, web

from gateway.model.errors import InvalidRequest, NotFound, RequestTooLarge
from gateway.web.api.desk import Desk, Id
from gateway.web.api.document import PATH, description
from gateway.web.api.operations import OPERATIONS, Operation
from gateway.web.api.shapes import json_of, parsed, parsed_words, text_of
from policy.parties import Caller

BODY_BYTES_MAX: Final = 64 * 1024
"""An act is a few hundred bytes."""

Identified = Callable[[web.Request], Awaitable[Caller]]
"""The one caller whom a request's connection proves; raises `NotIdentified`."""


def routes(desk: Desk, identified: Identified, version: str) -> list[web.RouteDef]:
    """Every operation, and the description of them all."""
    body = orjson.dumps(description(version))
    described = partial(_describe, identified, body)
    operations = [
        web.route(operation.method, operation.path, partial(_operate, operation, desk, identified))
        for operation in OPERATIONS
    ]
    return [web.get(PATH, described, allow_head=False), *operations]


async def _describe(identified: Identified, body: bytes, request: web.Request) -> web.Response:
    await identified(request)
    return web.Response(body=body, content_type="application/json")


async def _operate(operation: Operation, desk: Desk, identified: Identified, request: web.Request) -> web.Response:
    caller = await identified(request)
    if caller.principal.kind not in operation.who:
        await desk.refused(caller, operation.name, "", "not for a caller of this kind")
        raise web.HTTPForbidden
    path = {name: _id(value) for name, value in request.match_info.items()}
    value: object = None
    if operation.query is not None:
        value = parsed_words(operation.query, _once(request))
    elif request.query:
        raise InvalidRequest("takes no parameters")
    if operation.body is not None:
        value = parsed(operation.body, await _json(request))
    try:
        answer = await operation.act(desk, caller, path, value)
    except (InvalidRequest, NotFound) as error:
        await desk.refused(caller, operation.name, path.get("report_id", ""), str(error))
        raise
    return web.Response(body=orjson.dumps(json_of(answer)), content_type="application/json")


def _id(value: str) -> str:
    try:
        return text_of(Id, value)
    except InvalidRequest as error:
        # A path that cannot name anything names nothing.
        raise NotFound("nothing has this id") from error


def _once(request: web.Request) -> dict[str, str]:
    words = dict(request.query)
    if len(words) != len(request.query):
        raise InvalidRequest("a parameter stands twice")
    return words


async def _json(request: web.Request) -> object:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise RequestTooLarge(f"a body has {BODY_BYTES_MAX} bytes at most")
    body = await request.content.read(BODY_BYTES_MAX + 1)
    while len(body) <= BODY_BYTES_MAX and not request.content.at_eof():
        body += await request.content.read(BODY_BYTES_MAX + 1 - len(body))
    if len(body) > BODY_BYTES_MAX:
        raise RequestTooLarge(f"a body has {BODY_BYTES_MAX} bytes at most")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise web.HTTPUnsupportedMediaType
    try:
        read: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("the body is not JSON") from error
    return read
