"""The patient's page as routes at the people's door: sign in and out, the list, a report in three forms, choices.

Who is not signed in learns nothing; who may not see a report gets the answer of one that does not exist; below P9 there
is no session at all. Every view is judged anew, every refusal is written down (SAF-65, SAF-66). What is changed is
changed by a form of the session's own pages (CSRF), and no address of a request is ever gone on to (no open redirect).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.model.errors import ServiceFault
from gateway.model.reporting.reading import Choices, DocumentForm, LetterOffer, Looking, PatientReading
from gateway.model.seams import Clock
from gateway.web.patient.oidc import CodeRefused, Provider, ProviderUnavailable, SignIns
from gateway.web.patient.refusals import Refusals, may_look
from gateway.web.patient.sessions import Session, Sessions, is_form_token
from gateway.web.patient.tokens import KeysUnavailable, Person, Refusal, TokenRefused
from gateway.web.patient.views import Views

SESSION_COOKIE: Final = "__Host-patient"
SIGN_IN_COOKIE: Final = "__Host-sign-in"
FORM_BYTES_MAX: Final = 4_096
FORM_FIELDS_MAX: Final = 8
PARAMETER_CHARS_MAX: Final = 2_048
_FORM_TYPE: Final = "application/x-www-form-urlencoded"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the page."""

    provider: Provider
    sign_ins: SignIns
    sessions: Sessions
    reading: PatientReading
    refusals: Refusals
    views: Views
    clock: Clock
    new_id: Callable[[], str]
    public_url: str
    """Scheme and authority under which patients know this door."""
    sign_in_life_s: int = 600


@dataclass(frozen=True, slots=True)
class _Visit:
    """Whoever asks, proved."""

    looking: Looking
    session: Session | None
    """None: they came with a bearer token."""

    @property
    def form_token(self) -> str:
        return self.session.form_token if self.session is not None else ""


def routes(behind: Behind) -> list[web.RouteDef]:
    """The page's routes; each answers in HTML, whatever happens."""
    page = _Page(behind)
    table: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
        ("GET", "/sign-in", page.sign_in),
        ("GET", "/sign-in/start", page.start),
        ("GET", "/sign-in/return", page.come_back),
        ("POST", "/sign-out", page.sign_out),
        ("GET", "/reports", page.reports),
        ("GET", r"/reports/{key:[A-Za-z0-9_-]{1,128}}", page.document),
        ("GET", r"/reports/{key:[A-Za-z0-9_-]{1,128}}.{form:pdf|txt}", page.document),
        ("GET", "/reports/{rest:.*}", page.nothing),
        ("GET", "/choices", page.choices),
        ("POST", "/choices", page.choose),
        ("GET", "/patient.css", page.style_sheet),
    )
    return [web.RouteDef(method, path, _told(behind.views, path, handler), {}) for method, path, handler in table]


def _told(views: Views, route: str, handler: Handler) -> Handler:
    """Answer a page, too, where nothing can be told now."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (ServiceFault, ProviderUnavailable, KeysUnavailable) as error:
            log.warning("patient page cannot answer", reason=type(error).__name__)
            return views.unavailable()
        except web.HTTPException:
            raise
        except Exception:  # a bug: logged with the route, shown to nobody
            log.exception("patient page failed", route=route)
            return views.failed()

    return answer


class _Page:
    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        return self._behind.views.sign_in()

    async def start(self, request: web.Request) -> web.StreamResponse:
        cookie, sign_in = self._behind.sign_ins.begin(self._behind.clock.now())
        response = _see_other(await self._behind.provider.address(sign_in))
        _set(response, SIGN_IN_COOKIE, cookie, self._behind.sign_in_life_s)
        return response

    async def come_back(self, request: web.Request) -> web.StreamResponse:
        """The browser comes back from the provider, with a code or without."""
        behind, request_id = self._behind, self._behind.new_id()
        code, state = (_parameter(request, name) for name in ("code", "state"))
        sign_in = behind.sign_ins.again(request.cookies.get(SIGN_IN_COOKIE, ""), state, behind.clock.now())
        if sign_in is None or not code:
            # The patient said no at the provider, or somebody else's code was put into this browser.
            await behind.refusals.of_nobody(request_id, "A9", "state" if sign_in is None else "no-code")
            return _without_sign_in(behind.views.refused())
        try:
            person = await behind.provider.exchange(code, sign_in)
        except CodeRefused:
            await behind.refusals.of_nobody(request_id, "A9", "code")
            return _without_sign_in(behind.views.refused())
        except TokenRefused as error:
            return _without_sign_in(await self._refuse_token(request_id, error.refusal))
        looking = _looking(person, request_id)
        if may_look(looking, behind.clock.now()):
            # A proxy who may see nothing gives a child of 13 no account of their own (SAF-65).
            await behind.reading.signed_in(looking)
        await behind.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
        value = await behind.sessions.begin(person)
        if value is None:
            log.warning("patient page cannot answer", reason="sessions_max", alarm=True)
            return _without_sign_in(behind.views.unavailable())
        response = _see_other("/reports")
        _set(response, SESSION_COOKIE, value, None)
        return _without_sign_in(response)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        visit = await self._visit(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        if await self._form(request, visit) is None:
            return self._behind.views.refused()
        await self._behind.sessions.end(request.cookies[SESSION_COOKIE])
        response = self._behind.views.signed_out()
        _clear(response, SESSION_COOKIE)
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    async def reports(self, request: web.Request) -> web.StreamResponse:
        visit = await self._visit(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        looking = visit.looking
        if await self._may_look(looking):
            listed = await self._behind.reading.listed(looking)
        else:
            listed = ()
        choices, _ = await self._behind.reading.choices(looking)
        return self._behind.views.reports(
            listed, is_proxy=looking.is_proxy, form_token=visit.form_token, large_print=choices.large_print
        )

    async def document(self, request: web.Request) -> web.StreamResponse:
        visit = await self._visit(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        if not await self._may_look(visit.looking):
            return self._behind.views.not_found()
        form = DocumentForm(request.match_info.get("form", DocumentForm.HTML.value))
        shown = await self._behind.reading.document(visit.looking, request.match_info["key"], form)
        if shown is None:
            await self._behind.refusals.of_looking(visit.looking, "SAF-66", "no-such-report")
            return self._behind.views.not_found()
        choices, _ = await self._behind.reading.choices(visit.looking)
        return self._behind.views.document(shown, form, large_print=choices.large_print)

    async def nothing(self, request: web.Request) -> web.StreamResponse:
        """A path below the list that is no document's."""
        visit = await self._visit(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        await self._behind.refusals.of_looking(visit.looking, "SAF-66", "no-such-report")
        return self._behind.views.not_found()

    async def choices(self, request: web.Request) -> web.StreamResponse:
        visit = await self._choosing(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        choices, letter = await self._behind.reading.choices(visit.looking)
        is_saved = request.query_string == "saved"
        return self._behind.views.choices(choices, letter, visit.form_token, is_saved=is_saved)

    async def choose(self, request: web.Request) -> web.StreamResponse:
        visit = await self._choosing(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        form = await self._form(request, visit)
        if form is None:
            return self._behind.views.refused()
        _, letter = await self._behind.reading.choices(visit.looking)
        choices = Choices(
            not_now=form.get("not-now") == "yes",
            letter=form.get("letter") == "yes" and letter is LetterOffer.OFFERED,
            large_print=form.get("large-print") == "yes",
        )
        await self._behind.reading.choose(visit.looking, choices)
        return _see_other("/choices?saved")

    async def style_sheet(self, request: web.Request) -> web.StreamResponse:
        return self._behind.views.style_sheet()

    async def _visit(self, request: web.Request) -> _Visit | web.StreamResponse:
        """Whoever asks; or what they are told because they prove nothing."""
        behind, request_id = self._behind, self._behind.new_id()
        stated = request.headers.getall("Authorization", [])
        if stated:
            return await self._bearer(request, request_id, stated)
        session = await behind.sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        if session is not None:
            return _Visit(_looking(session.person, request_id), session)
        if request.method != "GET":
            await behind.refusals.of_nobody(request_id, "A9", "no-session")
            return behind.views.refused()
        return _see_other("/sign-in")

    async def _bearer(self, request: web.Request, request_id: str, stated: list[str]) -> _Visit | web.StreamResponse:
        """Judge a token of delegated access: for reading alone, for nothing here is changed but by a form."""
        scheme, _, token = stated[0].partition(" ")
        is_taken = self._behind.provider.takes_bearer_tokens and request.method == "GET"
        if not is_taken or len(stated) > 1 or scheme.lower() != "bearer":
            await self._behind.refusals.of_nobody(request_id, "A9", "bearer-not-taken")
            return _unauthorised(self._behind.views.refused())
        try:
            person = await self._behind.provider.judge_bearer(token.strip(" "))
        except TokenRefused as error:
            return _unauthorised(await self._refuse_token(request_id, error.refusal))
        return _Visit(_looking(person, request_id), None)

    async def _choosing(self, request: web.Request) -> _Visit | web.StreamResponse:
        """Whoever may choose: the patient in a session of their own, and nobody for them."""
        visit = await self._visit(request)
        if isinstance(visit, web.StreamResponse):
            return visit
        if visit.looking.is_proxy or visit.session is None:
            await self._behind.refusals.of_looking(visit.looking, "SAF-65", "choice-not-theirs")
            return self._behind.views.not_found()
        return visit

    async def _may_look(self, looking: Looking) -> bool:
        if may_look(looking, self._behind.clock.now()):
            return True
        await self._behind.refusals.of_looking(looking, "SAF-65", "proxy")
        return False

    async def _refuse_token(self, request_id: str, refusal: Refusal) -> web.Response:
        rule = "SAF-66" if refusal is Refusal.NOT_PROVEN else "A9"
        await self._behind.refusals.of_nobody(request_id, rule, refusal.value)
        views = self._behind.views
        return views.not_proven() if refusal is Refusal.NOT_PROVEN else views.refused()

    async def _form(self, request: web.Request, visit: _Visit) -> dict[str, str] | None:
        """The fields of a form of this session; None: it is not one, which is written down."""
        fields = await _fields(request)
        origin = request.headers.get("Origin", self._behind.public_url)
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        session = visit.session
        is_own = origin == self._behind.public_url and site == "same-origin"
        if is_own and session is not None and is_form_token(session, fields.get("form", "")):
            return fields
        await self._behind.refusals.of_looking(visit.looking, "A9", "form")
        return None


def _looking(person: Person, request_id: str) -> Looking:
    return Looking(person.identity, request_id, person.actor)


def _parameter(request: web.Request, name: str) -> str:
    """The one value of a parameter; empty where there is none, or several, or it is longer than any provider's."""
    values = request.query.getall(name, [])
    return values[0] if len(values) == 1 and len(values[0]) <= PARAMETER_CHARS_MAX else ""


async def _fields(request: web.Request) -> dict[str, str]:
    """The fields of a small form; none where it is no form, or a large one."""
    if request.content_type != _FORM_TYPE:
        return {}
    body = bytearray()
    # Read by hand: the door's own limit of bodies is that of pages, which take none.
    async for chunk in request.content.iter_chunked(FORM_BYTES_MAX):
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            return {}
    try:
        stated = parse_qs(body.decode("ascii"), max_num_fields=FORM_FIELDS_MAX, strict_parsing=True)
    except ValueError:
        return {}
    return {name: values[0] for name, values in stated.items() if len(values) == 1}


def _see_other(address: str) -> web.Response:
    return web.Response(
        status=303,
        headers={"Location": address, "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"},
    )


def _unauthorised(response: web.Response) -> web.Response:
    response.set_status(401)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _without_sign_in(response: web.Response) -> web.Response:
    """A sign-in is over at its first return, however it ended."""
    _clear(response, SIGN_IN_COOKIE)
    return response


def _set(response: web.Response, name: str, value: str, max_age_s: int | None) -> None:
    # Lax: the browser comes back from the provider by a link of another site, and is to be known then.
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="Lax")


def _clear(response: web.Response, name: str) -> None:
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")
