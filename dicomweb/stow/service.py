"""STOW-RS: instances of any study, or of one, sent in a request's body (PS3.18 10.5).

Whether a caller may store here, and what is kept, is decided behind `Receives`. An answer is sent once everything that
it calls stored is durable; to send the same again is as good as once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from aiohttp import hdrs, web

from dicomweb.accept import json_type
from dicomweb.credentials import Callers
from dicomweb.parameters import uid_from_path
from dicomweb.qido import PREFIX
from dicomweb.stow.outcome import answer_of, status_of
from dicomweb.stow.receiving import Receiving
from dicomweb.wado.images import accept_of
from dicomweb.wado.negotiation import DICOM, MULTIPART
from dicomweb.wado.parts import media_type
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.settings import Limits
from gateway.model.work.transfers import Intake
from policy.parties import Caller

PATHS = ("/studies", "/studies/{study}")


class Receives(Protocol):
    """Who takes in what a caller sends of its own accord."""

    def reception(self, caller: Caller) -> Intake:
        """Where this caller's instances go. Raises `Denied`, a `ServiceFault`."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What stands behind the service."""

    receives: Receives
    callers: Callers
    limits: Limits
    public_url: str


def routes(desk: Desk) -> list[web.RouteDef]:
    """Storing instances of any study, and of one."""
    return [web.post(PREFIX + path, partial(_store, desk)) for path in PATHS]


async def _store(desk: Desk, request: web.Request) -> web.StreamResponse:
    caller = await desk.callers.caller_of(request)
    study_uid = uid_from_path(request.match_info["study"]) if "study" in request.match_info else ""
    # Before anything is stored: an answer that the caller cannot read would hide what became of it.
    answer_type = json_type(accept_of(request), request.query.get("accept"))
    content = media_type(request.headers.get(hdrs.CONTENT_TYPE, ""))
    inner = content.parameters.get("type", DICOM).lower() if content is not None else ""
    is_multipart = content is not None and content.name == MULTIPART and inner == DICOM
    is_file = content is not None and content.name == DICOM
    if content is None or not (is_multipart or is_file) or _is_encoded(request):
        raise web.HTTPUnsupportedMediaType
    receiving = Receiving(desk.receives.reception(caller), study_uid, desk.limits.stow_instances_max)
    body = _body(request, desk.limits)
    if is_multipart:
        await receiving.take_parts(body, content.parameters.get("boundary", ""))
    else:
        await receiving.take_file(body)
    if not receiving.outcomes:
        raise InvalidRequest("the request holds no instances")
    response = web.Response(
        status=status_of(receiving.outcomes, is_full=receiving.is_full),
        body=answer_of(receiving.outcomes, desk.public_url.rstrip("/")),
    )
    response.content_type = answer_type
    return response


def _is_encoded(request: web.Request) -> bool:
    """Whether the body is compressed: what is small on the way may be anything once unpacked."""
    return request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in ("identity", "")


async def _body(request: web.Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it comes, as long and as slow as may be. Raises `RequestTooLarge`."""
    too_large = f"more than {limits.stow_body_bytes_max} bytes in one request"
    if (request.content_length or 0) > limits.stow_body_bytes_max:
        raise RequestTooLarge(too_large)
    received = 0
    while True:
        try:
            async with asyncio.timeout(limits.keepalive_timeout_s):
                piece = await request.content.readany()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error
        if not piece:
            return
        received += len(piece)
        if received > limits.stow_body_bytes_max:
            raise RequestTooLarge(too_large)
        yield piece
