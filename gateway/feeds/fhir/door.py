"""Where FHIR R4 reports are sent: `POST` of a DiagnosticReport or a Bundle, and `PUT` of one by its id (R4 3.1.0).

Answers once the report is kept, with an OperationOutcome that repeats nothing of it: 201 for a new one, 200 for one
that is known, 422 for what can never be read (and is kept for a person), 503 for what cannot be kept now. Who sends is
told by the certificate, and whose reports they are by the feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import orjson
import structlog
from aiohttp import web

from gateway.feeds.fhir.reading import read_message
from gateway.feeds.fhir.resources import NotAReport
from gateway.feeds.hl7.receiving import CountsMessages
from gateway.feeds.profile import Feed
from gateway.model.errors import GatewayError, ServiceFault
from gateway.model.imaging import JsonValue
from gateway.model.reporting.seams import FeedMessage, MessageState, ReportIntake
from gateway.model.seams import Clock

log = structlog.get_logger(__name__)

PATH = "/fhir/in"
CONTENT_TYPE = "application/fhir+json"
BODY_BYTES_MAX = 10_000_000
READ_HERE_BYTES_MAX = 32_768
_CHUNK_BYTES = 65_536
_JSON_TYPES = frozenset({CONTENT_TYPE, "application/json"})


class FhirDoor:
    """Takes reports from the feeds of kind `fhir`."""

    def __init__(
        self,
        sender_of: Callable[[web.Request], Feed | None],
        intake: ReportIntake,
        clock: Clock,
        figures: CountsMessages,
        *,
        pool: Executor | None = None,
    ) -> None:
        self._sender_of = sender_of
        self._intake = intake
        self._clock = clock
        self._figures = figures
        self._pool = pool

    def routes(self) -> list[web.RouteDef]:
        """What is served below `PATH`."""
        return [
            web.post(PATH, self.take),
            web.post(f"{PATH}/DiagnosticReport", self.take),
            web.put(f"{PATH}/DiagnosticReport/{{id}}", self.take),
        ]

    async def take(self, request: web.Request) -> web.Response:
        """Take what was sent."""
        feed = self._sender_of(request)
        if feed is None:
            return _outcome(403, "forbidden", "no feed of reports is known by this certificate")
        if request.content_type not in _JSON_TYPES:
            return _outcome(415, "not-supported", f"reports are taken as {CONTENT_TYPE}")
        raw = await _body(request)
        if raw is None:
            return _outcome(413, "too-long", f"the body is longer than {BODY_BYTES_MAX} bytes")
        received_at = self._clock.now()
        if len(raw) <= READ_HERE_BYTES_MAX:
            message, wrong = read_message(raw, feed, received_at)
        else:
            loop = asyncio.get_running_loop()
            message, wrong = await loop.run_in_executor(self._pool, read_message, raw, feed, received_at)
        if wrong is None and (expected := request.match_info.get("id")) is not None and not _is_of(raw, expected):
            return _outcome(400, "invalid", "the resource's id is not that of the address")
        return await self._keep(message, wrong)

    async def _keep(self, message: FeedMessage, wrong: NotAReport | None) -> web.Response:
        began = self._clock.monotonic()
        try:
            taken = await self._intake.take(message)
            if wrong is not None:
                # Whoever sends what nobody can read is not silent.
                await self._intake.heard_from(message.trust, message.feed, message.received_at)
        except ServiceFault as error:
            self._figures.message_taken(message.feed, "failed", self._clock.monotonic() - began)
            log.error("message not kept", alarm=True, feed=message.feed, reason=str(error))
            answer = _outcome(503, "transient", "the report cannot be kept now: send it again")
            answer.headers["Retry-After"] = str(error.retry_after_s)
            return answer
        except GatewayError as error:
            self._figures.message_taken(message.feed, "failed", self._clock.monotonic() - began)
            log.error("message not taken", alarm=True, feed=message.feed, error=type(error).__name__)
            return _outcome(422, "processing", "the report cannot be taken")
        self._figures.message_taken(message.feed, taken.state.value, self._clock.monotonic() - began)
        if wrong is not None:
            log.warning("message not read", feed=message.feed, kind=message.kind, reason=message.problem)
            return _outcome(422, wrong.code, str(wrong))
        if taken.state is MessageState.DEAD:
            return _outcome(422, "processing", "the report was kept and cannot be filed")
        return _outcome(201 if taken.is_new else 200, "informational", "kept", severity="information")


async def _body(request: web.Request) -> bytes | None:
    """What was sent; None where it is longer than allowed. Read here, for other doors take much less."""
    if (request.content_length or 0) > BODY_BYTES_MAX:
        return None
    body = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


def _is_of(raw: bytes, expected: str) -> bool:
    whole = orjson.loads(raw)
    return isinstance(whole, dict) and whole.get("resourceType") == "DiagnosticReport" and whole.get("id") == expected


def _outcome(status: int, code: str, words: str, *, severity: str = "error") -> web.Response:
    issue: dict[str, JsonValue] = {"severity": severity, "code": code, "diagnostics": words}
    body: dict[str, JsonValue] = {"resourceType": "OperationOutcome", "issue": [issue]}
    return web.Response(status=status, body=orjson.dumps(body), content_type=CONTENT_TYPE)
