"""A region of one shelf: the DICOMweb edge on loopback over rows in memory, judged by our own matcher."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

from dicomweb.listener import edge, server_options
from dicomweb.qido import routes
from gateway.model.errors import NotIdentified
from gateway.model.imaging import Element, JsonValue, Level, Match, Matches, Query, Source, SourceState
from gateway.model.settings import Limits, QidoEmpty
from gateway.sharing.matching import Matcher
from policy.identity import Evidence
from policy.parties import Caller, NhsNumber, Principal, PrincipalKind, PurposeOfUse, TrustId

ANNE = NhsNumber.parse("9990000018")
ST_ELSEWHERE = TrustId("RJ1")
OURS = TrustId("RYJ")
PUBLIC_URL = "https://gateway.example/dicom-web"


def element(vr: str, *values: JsonValue) -> Element:
    """One attribute; without values, an empty one."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def study(number: int, **more: Element) -> Match:
    """A study of Anne's. Keywords `t00081030=element(...)` add attributes."""
    uid = f"1.2.826.0.1.{number}"
    row: dict[str, Element] = {
        "00080020": element("DA", f"202501{number % 28 + 1:02}"),
        "00080030": element("TM", "101500"),
        "00080050": element("SH", f"ACC{number:05}"),
        "00080061": element("CS", "CT"),
        "00100010": element("PN", {"Alphabetic": "ONE^ANNE"}),
        "00100020": element("LO", ANNE.digits),
        "00100030": element("DA", "19700101"),
        "00100040": element("CS", "F"),
        "0020000D": element("UI", uid),
        "00200010": element("SH", str(number)),
        "00201206": element("IS", 1),
        "00201208": element("IS", 20),
    }
    row.update({name[1:].upper(): value for name, value in more.items()})
    return Match(Level.STUDY, ANNE, uid, "", "", (ST_ELSEWHERE,), row)


def series(number: int, **more: Element) -> Match:
    """A series of study 1."""
    of = study(1)
    uid = f"{of.study_uid}.{number}"
    row = {
        **of.attributes,
        "00080060": element("CS", "CT"),
        "0008103E": element("LO", "Thorax"),
        "0020000E": element("UI", uid),
        "00200011": element("IS", number),
        "00201209": element("IS", 20),
    }
    row.update({name[1:].upper(): value for name, value in more.items()})
    return Match(Level.SERIES, ANNE, of.study_uid, uid, "", (ST_ELSEWHERE,), row)


def instance(number: int, **more: Element) -> Match:
    """An instance of series 1 of study 1."""
    of = series(1)
    uid = f"{of.series_uid}.{number}"
    row = {
        **of.attributes,
        "00080016": element("UI", "1.2.840.10008.5.1.4.1.1.2"),
        "00080018": element("UI", uid),
        "00200013": element("IS", number),
        "00280010": element("US", 512),
        "00280011": element("US", 512),
        "00280100": element("US", 16),
    }
    row.update({name[1:].upper(): value for name, value in more.items()})
    return Match(Level.IMAGE, ANNE, of.study_uid, of.series_uid, uid, (ST_ELSEWHERE,), row)


def source(
    state: SourceState = SourceState.ANSWERED,
    *,
    code: str = "RJ1",
    name: str = "St Elsewhere",
    phone: str = "020 7946 0000",
    shared: tuple[str, ...] | None = None,
    conflict: bool = False,
) -> Source:
    """A trust's part in an answer."""
    return Source(TrustId(code), name, state, phone, shared, conflict)


@dataclass
class Shelf:
    """Answers from memory: rows that match, in the order given, paged as asked."""

    matches: Sequence[Match] = ()
    sources: Sequence[Source] = (source(),)
    error: BaseException | None = None
    snapshot: str = ""
    questions: list[tuple[Caller, Query, str]] = field(default_factory=list)

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        self.questions.append((caller, query, snapshot))
        if self.error is not None:
            raise self.error
        matcher = Matcher(query.keys)
        found = [m for m in self.matches if m.level is query.level and matcher.matches(m.attributes)]
        page = found[query.offset :][: query.limit]
        remaining = max(0, len(found) - query.offset - len(page))
        unsupported = tuple(sorted(matcher.unsupported))
        return Matches(
            tuple(page), tuple(self.sources), remaining, None, unsupported, self.snapshot if remaining else ""
        )

    @property
    def asked(self) -> Query:
        """The latest query."""
        return self.questions[-1][1]

    @property
    def caller(self) -> Caller:
        """The latest caller."""
        return self.questions[-1][0]


@dataclass
class Reception:
    """Knows everybody, unless told to know nobody."""

    knows_nobody: bool = False
    seen: list[Evidence] = field(default_factory=list)

    async def identified(
        self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0, asking_trust: str = ""
    ) -> Caller:
        self.seen.append(evidence)
        if self.knows_nobody:
            raise NotIdentified("no-certificate")
        stated = PurposeOfUse(purpose) if purpose else PurposeOfUse.TREAT
        return Caller(Principal("viewer", PrincipalKind.SYSTEM, OURS), stated, request_id, hops)


def application(
    shelf: Shelf,
    *,
    reception: Reception | None = None,
    limits: Limits | None = None,
    empty: QidoEmpty = QidoEmpty.OK,
    cors_origins: Iterable[str] = (),
) -> web.Application:
    """The edge as the gateway builds it."""
    numbers = count(1)
    known_limits = limits or Limits()
    app = web.Application(
        middlewares=[
            edge(known_limits, new_id=lambda: f"request-{next(numbers)}", cors_origins=frozenset(cors_origins))
        ]
    )
    app.add_routes(routes(shelf, reception or Reception(), known_limits, public_url=PUBLIC_URL, empty=empty))
    return app


@asynccontextmanager
async def served(app: web.Application, limits: Limits | None = None) -> AsyncIterator[str]:
    """Serve on a free port of loopback; gives the origin."""
    runner = web.AppRunner(app, **server_options(limits or Limits()), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving(shelf: Shelf, **options: object) -> AsyncIterator[str]:
    """Serve a shelf; gives the address of its DICOMweb service."""
    async with served(application(shelf, **options)) as origin:  # type: ignore[arg-type]  # passed through
        yield f"{origin}/dicom-web"


@dataclass(frozen=True)
class Answer:
    """What a caller got."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def rows(self) -> list[dict[str, dict[str, object]]]:
        """The rows of a search."""
        found: list[dict[str, dict[str, object]]] = orjson.loads(self.body)
        return found

    @property
    def problem(self) -> dict[str, object]:
        """The problem body of a refusal."""
        assert self.headers["Content-Type"] == "application/problem+json"
        found: dict[str, object] = orjson.loads(self.body)
        return found


async def ask(
    shelf: Shelf,
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    data: object = None,
    **options: object,
) -> Answer:
    """Ask a shelf one thing over HTTP; the path is sent as it stands."""
    sent = {"Accept-Encoding": "identity"} | (headers or {})
    async with (
        serving(shelf, **options) as base,
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, URL(base + path, encoded=True), headers=sent, data=data) as response,
    ):
        return Answer(response.status, response.headers, await response.read())
