"""`/fhir` at the machines' door: DiagnosticReport read and searched, and what can be asked (FHIR R4 3.1.0).

Who asks is proved by certificate as at every door there, and what may be read is decided behind `ReadsReports`; nothing
is looked up or filtered for permission here. Found by id, unknown and withheld leave by the same lines of code. An
address never repeats a patient's number: further pages are asked for by a token that names the question, and hold what
no page before told as it now stands.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

import orjson
from aiohttp import web

from gateway.model.errors import GatewayError, InvalidRequest, RequestTooLarge
from gateway.model.seams import Clock
from gateway.sharing.reading.reports import ReadReport, ReadReports
from gateway.web.fhir.parameters import Search, parse
from gateway.web.fhir.resources import Resource, capability, diagnostic_report, outcome, searchset, status_of
from policy.parties import Caller, NhsNumber

PREFIX = "/fhir"
CONTENT_TYPE = "application/fhir+json"
FORM_BYTES_MAX = 16 * 1024
PAGES_MAX = 1_000
PAGE_LIVES_S = 300.0
_ID = re.compile(r"[0-9a-f]{40}")
_NOT_FOUND = "nothing is available through sharing at this address"


class ReadsReports(Protocol):
    """The one door for reports; raises `GatewayError`."""

    async def of_patient(self, caller: Caller, patient: NhsNumber) -> ReadReports:
        """What this caller may have of a patient's."""

    async def of_id(self, caller: Caller, report_id: str) -> ReadReport | None:
        """The report, if this caller may have it."""

    async def whole(self, report: ReadReport) -> ReadReport:
        """The same with its documents whole."""


@dataclass(frozen=True, slots=True)
class Told:
    """An error as HTTP tells it."""

    status: int
    words: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind `/fhir`."""

    reports: Callable[[], ReadsReports]
    """The reports of this moment; raises a `ServiceFault`."""
    identified: Callable[[web.Request], Awaitable[Caller]]
    told: Callable[[GatewayError], Told]
    public_url: str
    version: str
    clock: Clock


_AsItStood = tuple[str, str]
"""A report as a page told it: its id, and how it stood. Once corrected it is told anew."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A question, and what its pages told so far."""

    subject: str
    search: Search
    told: Set[_AsItStood]
    kept_at: float


class Pages:
    """Questions of which there are more pages; the oldest are forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, _Page] = OrderedDict()

    def keep(self, caller: Caller, search: Search, told: Set[_AsItStood]) -> str:
        """A token for the page after what was told."""
        token = secrets.token_urlsafe(24)
        self._kept[token] = _Page(caller.principal.subject, search, told, self._clock.monotonic())
        if len(self._kept) > PAGES_MAX:
            self._kept.popitem(last=False)
        return token

    def find(self, caller: Caller, token: str) -> _Page:
        """The page of a token of this caller's; raises `InvalidRequest`."""
        page = self._kept.get(token)
        is_over = page is None or self._clock.monotonic() - page.kept_at > PAGE_LIVES_S
        if page is None or is_over or page.subject != caller.principal.subject:
            raise InvalidRequest("this page is not kept any more: search again")
        return page


def routes(behind: Behind) -> list[web.RouteDef]:
    """Everything below `/fhir`."""
    service = _Service(behind)
    return [
        web.get(f"{PREFIX}/metadata", service.metadata),
        web.get(f"{PREFIX}/DiagnosticReport", service.searched),
        web.post(f"{PREFIX}/DiagnosticReport/_search", service.posted),
        web.get(f"{PREFIX}/DiagnosticReport/{{id}}", service.read),
    ]


class _Service:
    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._base = behind.public_url.rstrip("/") + PREFIX
        self._pages = Pages(behind.clock)

    async def metadata(self, request: web.Request) -> web.Response:
        await self._behind.identified(request)
        return _answer(capability(version=self._behind.version, base_url=self._base, at=self._behind.clock.now()))

    async def read(self, request: web.Request) -> web.Response:
        try:
            caller = await self._behind.identified(request)
            report_id = request.match_info["id"]
            found = None
            if _ID.fullmatch(report_id):
                reports = self._behind.reports()
                found = await reports.of_id(caller, report_id)
                found = found and await reports.whole(found)
        except GatewayError as error:
            return self._refused(error)
        if found is None:
            return _answer(outcome([("error", "not-found", _NOT_FOUND)]), status=404)
        response = _answer(diagnostic_report(found))
        response.headers["ETag"] = f'W/"{found.standing}"'
        return response

    async def searched(self, request: web.Request) -> web.Response:
        try:
            caller = await self._behind.identified(request)
            token = request.query.get("_page")
            if token is not None:
                page = self._pages.find(caller, token)
                return await self._found(caller, page.search, page.told)
            return await self._found(caller, parse(request.query.items()))
        except GatewayError as error:
            return self._refused(error)

    async def posted(self, request: web.Request) -> web.Response:
        try:
            caller = await self._behind.identified(request)
            if (request.content_length or 0) > FORM_BYTES_MAX:
                raise RequestTooLarge(f"a search has at most {FORM_BYTES_MAX:,} bytes")
            if request.content_type != "application/x-www-form-urlencoded":
                raise InvalidRequest("a search is posted as application/x-www-form-urlencoded")
            form = await request.post()
            pairs = [*request.query.items(), *((name, value) for name, value in form.items() if isinstance(value, str))]
            return await self._found(caller, parse(pairs))
        except GatewayError as error:
            return self._refused(error)

    async def _found(self, caller: Caller, search: Search, told: Set[_AsItStood] = frozenset()) -> web.Response:
        desk = self._behind.reports()
        reports = await desk.of_patient(caller, search.patient)
        wanted = [each for each in reports.found if _is_wanted(each, search)]
        # Told by what was given, not by a place in the list: a correction moves its report to the front of it.
        to_tell = [each for each in wanted if (each.report_id, each.standing) not in told]
        page = to_tell[: search.count]
        told = told | {(each.report_id, each.standing) for each in page}
        token = self._pages.keep(caller, search, told) if len(to_tell) > len(page) else ""
        notes = [f"not known here and ignored: {name[:40]}" for name in search.ignored]
        if reports.is_cut:
            notes.append("Some reports could not be read at this moment.")
        bundle = searchset(
            [await desk.whole(each) for each in page],
            total=len(wanted),
            notes=notes,
            self_url=f"{self._base}/DiagnosticReport?_count={search.count}",
            base_url=self._base,
            next_url=f"{self._base}/DiagnosticReport?_page={token}" if token else "",
        )
        return _answer(bundle)

    def _refused(self, error: GatewayError) -> web.Response:
        told = self._behind.told(error)
        response = _answer(outcome([("error", _issue(told.status), told.words)]), status=told.status)
        response.headers.update(told.headers)
        return response


def _is_wanted(report: ReadReport, search: Search) -> bool:
    examined = report.documents[0].content.exam.at
    is_dated = all(each.takes(examined) for each in search.dates)
    return is_dated and (not search.statuses or status_of(report.documents) in search.statuses)


def _issue(status: int) -> str:
    match status:
        case 401:
            return "login"
        case 403:
            return "forbidden"
        case 404:
            return "not-found"
        case 400 | 406 | 413:
            return "invalid"
        case _:
            return "transient"


def _answer(resource: Resource, *, status: int = 200) -> web.Response:
    response = web.Response(status=status, body=orjson.dumps(resource), content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response
