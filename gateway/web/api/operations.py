"""Every operation of the API once: its path, what it takes and gives, who may call it, and what it asks of the desk.

Routes and the OpenAPI description are both made from this table. GET never changes anything: an acknowledgement is an
act of its own, not the opening of a link (SAF-51).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.model.reporting.views import Board, Done, Explained
from gateway.web.api import desk as bodies
from gateway.web.api.desk import Desk
from policy.parties import Caller, PrincipalKind

B = TypeVar("B")

PREFIX: Final = "/api/release"
PEOPLE: Final = frozenset({PrincipalKind.CLINICIAN, PrincipalKind.OFFICER})
CLINICIANS: Final = frozenset({PrincipalKind.CLINICIAN})
OFFICERS: Final = frozenset({PrincipalKind.OFFICER})
STAFF_AND_SYSTEMS: Final = PEOPLE | {PrincipalKind.SYSTEM}
"""A trust's RIS says itself what it has sent."""

Act = Callable[[Desk, Caller, Mapping[str, str], object], Awaitable[object]]
"""Asked with the values of the path, and with the body or the query; None where there is neither."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation."""

    name: str
    method: str
    path: str
    summary: str
    who: frozenset[PrincipalKind]
    gives: type[object]
    act: Act
    body: type[object] | None = None
    query: type[object] | None = None


def _taking(kind: type[B], act: Callable[[Desk, Caller, Mapping[str, str], B], Awaitable[object]]) -> Act:
    def asked(desk: Desk, caller: Caller, path: Mapping[str, str], value: object) -> Awaitable[object]:
        assert isinstance(value, kind)
        return act(desk, caller, path, value)

    return asked


def _view(name: str, path: str, summary: str, gives: type[object], act: Act) -> Operation:
    return Operation(name, "GET", PREFIX + path, summary, PEOPLE, gives, act)


def _asked(
    name: str,
    path: str,
    summary: str,
    gives: type[object],
    query: type[B],
    act: Callable[[Desk, Caller, Mapping[str, str], B], Awaitable[object]],
    who: frozenset[PrincipalKind] = PEOPLE,
) -> Operation:
    return Operation(name, "GET", PREFIX + path, summary, who, gives, _taking(query, act), query=query)


def _act(
    name: str,
    path: str,
    summary: str,
    body: type[B],
    act: Callable[[Desk, Caller, Mapping[str, str], B], Awaitable[object]],
    *,
    who: frozenset[PrincipalKind],
    gives: type[object] = Done,
) -> Operation:
    return Operation(name, "POST", PREFIX + path, summary, who, gives, _taking(body, act), body=body)


_REPORT = "/reports/{report_id}"

OPERATIONS: Final[tuple[Operation, ...]] = (
    _view("board", "/board", "How release stands.", Board, lambda desk, who, path, _: desk.board(who)),
    _asked(
        "reports",
        "/reports",
        "Reports of the trust, the soonest due first.",
        bodies.Reports,
        bodies.Asked,
        lambda desk, who, path, asked: desk.reports(who, asked),
    ),
    _asked(
        "named",
        "/named",
        "Which report a trust's number means, and which version of it acts name.",
        bodies.Named,
        bodies.Numbered,
        lambda desk, who, path, numbered: desk.named(who, numbered),
        STAFF_AND_SYSTEMS,
    ),
    _view(
        "explained",
        _REPORT,
        "What will happen to a report, when, and why. Looking is no acknowledgement.",
        Explained,
        lambda desk, who, path, _: desk.explained(who, path["report_id"]),
    ),
    _view(
        "deadLetters",
        "/dead-letters",
        "Messages of the trust's feeds that could not be read or filed.",
        bodies.DeadLetters,
        lambda desk, who, path, _: desk.dead_letters(who),
    ),
    _act(
        "hold",
        f"{_REPORT}/holds",
        "Keep a report back until its review date. Any member of staff may stop a report of the wrong patient.",
        bodies.NewHold,
        lambda desk, who, path, body: desk.hold(who, path["report_id"], body),
        who=STAFF_AND_SYSTEMS,
    ),
    _act(
        "endHold",
        f"{_REPORT}/holds/{{hold_id}}/end",
        "End a hold.",
        bodies.Reasoned,
        lambda desk, who, path, body: desk.end_hold(who, path["report_id"], path["hold_id"], body),
        who=PEOPLE,
    ),
    _act(
        "releaseEarly",
        f"{_REPORT}/early-release",
        "Let a version go before its time, with the same disclaimer and exclusions.",
        bodies.OfVersion,
        lambda desk, who, path, body: desk.release_early(who, path["report_id"], body),
        who=CLINICIANS,
    ),
    _act(
        "retract",
        f"{_REPORT}/retraction",
        "Take a released version back from every channel; clinicians see it on.",
        bodies.OfVersion,
        lambda desk, who, path, body: desk.retract(who, path["report_id"], body),
        who=CLINICIANS,
    ),
    _act(
        "review",
        f"{_REPORT}/review",
        "Let the report of a child go after review.",
        bodies.OfVersion,
        lambda desk, who, path, body: desk.review(who, path["report_id"], body),
        who=CLINICIANS,
    ),
    _act(
        "settlePatient",
        f"{_REPORT}/patient",
        "Say that a report is of the patient whom its standing version names, though others were named before.",
        bodies.OfVersion,
        lambda desk, who, path, body: desk.settle_patient(who, path["report_id"], body),
        who=PEOPLE,
    ),
    _act(
        "settleDelivery",
        f"{_REPORT}/deliveries/settlement",
        "Say what became of a document of which nobody knew: it is there, or it is not and is given again.",
        bodies.Settlement,
        lambda desk, who, path, body: desk.settle_delivery(who, path["report_id"], body),
        who=PEOPLE,
    ),
    _act(
        "acknowledge",
        f"{_REPORT}/acknowledgement",
        "Note who has read a version of a report and will act on it.",
        bodies.Acknowledgement,
        lambda desk, who, path, body: desk.acknowledge(who, path["report_id"], body),
        who=STAFF_AND_SYSTEMS,
    ),
    _act(
        "acknowledgeMany",
        "/acknowledgements",
        "Note who has read reports and will act on them; those that are coded as alerts are left out.",
        bodies.Acknowledgements,
        lambda desk, who, path, body: desk.acknowledge_many(who, body),
        who=STAFF_AND_SYSTEMS,
        gives=bodies.Acknowledged,
    ),
    _act(
        "followUp",
        f"{_REPORT}/follow-up",
        "Note what was done for the patient of an alerted report.",
        bodies.FollowUp,
        lambda desk, who, path, body: desk.follow_up(who, path["report_id"], body),
        who=STAFF_AND_SYSTEMS,
    ),
    _act(
        "proveDispatch",
        f"{_REPORT}/dispatch",
        "Prove that the referrer was sent a version of a report.",
        bodies.Dispatch,
        lambda desk, who, path, body: desk.prove_dispatch(who, path["report_id"], body),
        who=STAFF_AND_SYSTEMS,
    ),
    _act(
        "link",
        f"{_REPORT}/link",
        "Say of which study a report is. One of another patient is refused.",
        bodies.NewLink,
        lambda desk, who, path, body: desk.link(who, path["report_id"], body),
        who=PEOPLE,
    ),
    _act(
        "unlink",
        f"{_REPORT}/link/end",
        "Say of which study a report is not: no message and no number links the two again.",
        bodies.WrongLink,
        lambda desk, who, path, body: desk.unlink(who, path["report_id"], body),
        who=PEOPLE,
    ),
    _act(
        "stop",
        "/stop",
        "Let nothing of the trust go out to patients.",
        bodies.NewStop,
        lambda desk, who, path, body: desk.stop(who, body),
        who=STAFF_AND_SYSTEMS,
        gives=bodies.Switched,
    ),
    _act(
        "restart",
        "/restart",
        "Let the trust's release go on.",
        bodies.Reasoned,
        lambda desk, who, path, body: desk.restart(who, body),
        who=OFFICERS,
        gives=bodies.Switched,
    ),
    _asked(
        "retrospective",
        "/retrospective",
        "How many reports from before go-live an approval would let go.",
        bodies.Counted,
        bodies.Span,
        lambda desk, who, path, span: desk.retrospective(who, span),
    ),
    _act(
        "approveRetrospective",
        "/retrospective",
        "Let reports from before go-live go, as many as the preview gave.",
        bodies.Approval,
        lambda desk, who, path, body: desk.approve_retrospective(who, body),
        who=OFFICERS,
        gives=bodies.Counted,
    ),
)
