"""A desk that keeps what it was asked, of one trust with one report; and the API served with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from aiohttp import web
from aiohttp.test_utils import TestServer

from dicomweb.listener import REQUEST_ID, edge
from gateway.model.errors import NotFound, NotIdentified
from gateway.model.reporting.views import (
    Board,
    DeadLetterLine,
    DeliveryLine,
    Done,
    Explained,
    HoldLine,
    Medians,
    ReasonLine,
    ReportLine,
    VersionLine,
)
from gateway.model.settings import Limits
from gateway.web.api.desk import (
    Acknowledged,
    Acknowledgement,
    Acknowledgements,
    Approval,
    Asked,
    Counted,
    DeadLetters,
    Dispatch,
    FollowUp,
    LeftOut,
    Named,
    NewHold,
    NewLink,
    NewStop,
    Numbered,
    OfVersion,
    Reasoned,
    Reports,
    Settlement,
    Span,
    Switched,
    WrongLink,
)
from gateway.web.api.service import routes
from policy.parties import Caller, Principal, PrincipalKind, PurposeOfUse, TrustId
from policy.release.circumstances import HoldKind, ReleaseState
from policy.release.reports import Said, Standing

RZ1 = TrustId.parse("RZ1")
RZ2 = TrustId.parse("RZ2")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
REPORT = "report-1"
WHO = "X-Who"
"""Stands in for a certificate: `clinician RZ1`."""
LINE = ReportLine(
    report_id=REPORT,
    trust="RZ1",
    report_number="F1",
    version_id="v1",
    state=ReleaseState.HELD,
    standing=Standing.VERIFIED,
    due_at=None,
    look_at=NOON,
    held_for=("timing",),
    flags=("unacknowledged",),
    is_linked=True,
    changed_at=NOON,
)
EXPLAINED = Explained(
    report=LINE,
    will_be_released_at=NOON,
    looked_at_again=None,
    reasons=(ReasonLine("REL-43", "a clinician wants to speak with the patient first"),),
    study_uids=("1.2.3",),
    versions=(VersionLine("v1", Said.VERIFIED, NOON, NOON, NOON, ("cancer",), True, True, None),),
    holds=(HoldLine("h1", REPORT, HoldKind.TIMING, "dr-a", "clinician", "speaks first", NOON, date(2026, 6, 9)),),
    deliveries=(DeliveryLine("portal", "d1", "failed", NOON, None, None, 3, "refused the connection"),),
    is_acknowledged=False,
    is_dispatch_proven=True,
)


@dataclass
class OneReport:
    """A desk with one report of one trust; keeps each act with its actor."""

    acts: list[tuple[str, str, object]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)

    async def refused(self, staff: Caller, operation: str, report_id: str, why: str) -> None:
        self.refusals.append((operation, report_id))

    async def board(self, staff: Caller) -> Board:
        return Board(NOON, staff.principal.trust.code, 1, 2, 3, 4, 0, 5, 6, 0, 7, 8, 9, 10, False, Medians(1.5, None))

    async def reports(self, staff: Caller, asked: Asked) -> Reports:
        is_listed = staff.principal.trust == RZ1 and asked.state in (None, LINE.state)
        return Reports((LINE,) if is_listed else (), True)

    async def explained(self, staff: Caller, report_id: str) -> Explained:
        self._known(staff, report_id)
        return EXPLAINED

    async def named(self, staff: Caller, numbered: Numbered) -> Named:
        return Named(REPORT, "v1")

    async def dead_letters(self, staff: Caller) -> DeadLetters:
        return DeadLetters((DeadLetterLine("m1", "RZ1", "ris", "ORU^R01", "no report number", NOON),), is_whole=True)

    async def hold(self, staff: Caller, report_id: str, body: NewHold) -> Done:
        return self._done("hold", staff, report_id, body)

    async def end_hold(self, staff: Caller, report_id: str, hold_id: str, body: Reasoned) -> Done:
        if hold_id != "h1":
            raise NotFound("no such hold")
        return self._done("end_hold", staff, report_id, body)

    async def release_early(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        return self._done("release_early", staff, report_id, body)

    async def retract(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        return self._done("retract", staff, report_id, body)

    async def review(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        return self._done("review", staff, report_id, body)

    async def settle_patient(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        return self._done("settle_patient", staff, report_id, body)

    async def settle_delivery(self, staff: Caller, report_id: str, body: Settlement) -> Done:
        return self._done("settle_delivery", staff, report_id, body)

    async def acknowledge(self, staff: Caller, report_id: str, body: Acknowledgement) -> Done:
        return self._done("acknowledge", staff, report_id, body)

    async def acknowledge_many(self, staff: Caller, body: Acknowledgements) -> Acknowledged:
        self._known(staff, REPORT)
        self.acts.append(("acknowledge_many", staff.principal.subject, body))
        return Acknowledged((), (LeftOut(REPORT, "it is coded as an alert"),))

    async def follow_up(self, staff: Caller, report_id: str, body: FollowUp) -> Done:
        return self._done("follow_up", staff, report_id, body)

    async def prove_dispatch(self, staff: Caller, report_id: str, body: Dispatch) -> Done:
        return self._done("prove_dispatch", staff, report_id, body)

    async def link(self, staff: Caller, report_id: str, body: NewLink) -> Done:
        return self._done("link", staff, report_id, body)

    async def unlink(self, staff: Caller, report_id: str, body: WrongLink) -> Done:
        return self._done("unlink", staff, report_id, body)

    async def stop(self, staff: Caller, body: NewStop) -> Switched:
        self.acts.append(("stop", staff.principal.subject, body))
        return Switched(True, True)

    async def restart(self, staff: Caller, body: Reasoned) -> Switched:
        self.acts.append(("restart", staff.principal.subject, body))
        return Switched(False, True)

    async def retrospective(self, staff: Caller, span: Span) -> Counted:
        return Counted(7)

    async def approve_retrospective(self, staff: Caller, body: Approval) -> Counted:
        self.acts.append(("approve", staff.principal.subject, body))
        return Counted(body.reports)

    def _known(self, staff: Caller, report_id: str) -> None:
        if report_id != REPORT or staff.principal.trust != RZ1:
            raise NotFound("no such report")

    def _done(self, act: str, staff: Caller, report_id: str, body: object) -> Done:
        self._known(staff, report_id)
        self.acts.append((act, staff.principal.subject, body))
        return Done(report_id, ReleaseState.HELD, None, True)


async def identified(request: web.Request) -> Caller:
    """Whom the header names: the place of a certificate."""
    kind, _, trust = request.headers.get(WHO, "").partition(" ")
    if not trust:
        raise NotIdentified("no certificate")
    principal = Principal(f"{kind}-of-{trust}", PrincipalKind(kind), TrustId.parse(trust))
    return Caller(principal, PurposeOfUse.TREAT, request[REQUEST_ID])


@asynccontextmanager
async def served(desk: OneReport) -> AsyncIterator[TestServer]:
    """The API behind the edge of the machines' door."""
    limits = Limits()
    application = web.Application(
        middlewares=[edge(limits, new_id=lambda: "r1")], client_max_size=limits.request_body_bytes_max
    )
    application.add_routes(routes(desk, identified, "1.2.3"))
    server = TestServer(application)
    async with server:
        yield server
