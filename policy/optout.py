"""The life of a patient's request to opt out of regional sharing, or to opt in again (SAF-23, SHR-09, SHR-30).

A pure state table: who may do what, when it is due, which letter goes out, and what acts meanwhile. `storage` keeps the
case and its history under these plain fields. Sharing changes at `implemented`, or for an opt-out from the moment its
sender is verified (provisional restriction). This is not the National Data Opt-Out (domain.md B5). Knows no clock:
instants, holidays and the time zone come in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from policy.facts import ImplementedChoice, SharingChoice


class CaseState(StrEnum):
    """Where a case stands. The last four are ends but for the letter that may still be due."""

    RECEIVED = "received"
    ACKNOWLEDGED = "acknowledged"
    VERIFIED = "verified"
    CONSIDERED = "considered"
    IMPLEMENTED = "implemented"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class CaseEvent(StrEnum):
    """What may happen to a case after its receipt."""

    ACKNOWLEDGE = "acknowledge"
    """The first letter has gone out."""
    VERIFY = "verify"
    """The sender is the patient, or may act for the patient (SHR-35)."""
    CONSIDER = "consider"
    """Consequences were looked at, and the patient may have been informed. There is no way to refuse."""
    IMPLEMENT = "implement"
    CONFIRM = "confirm"
    """The second letter, that the choice is implemented, has gone out."""
    REJECT = "reject"
    """The sender's identity or authority cannot be shown; the only ground there is."""
    WITHDRAW = "withdraw"
    CLOSE = "close"
    """The one closing message of a rejected or withdrawn case has gone out."""


class Role(StrEnum):
    """Who acts on a case."""

    PATIENT = "patient"
    """The patient, or a person entitled to act for the patient."""
    OFFICER = "officer"
    """Information governance staff."""
    SYSTEM = "system"
    """The gateway: letters by template, effects on confirmation of all nodes."""


class Letter(StrEnum):
    """What is still to be sent."""

    ACKNOWLEDGEMENT = "acknowledgement"
    CONFIRMATION = "confirmation"
    CLOSING = "closing"
    """Says that nothing has changed: sharing continues as before the request."""


class Refusal(StrEnum):
    """Why an event cannot happen to a case."""

    NOT_IN_THIS_STATE = "not-in-this-state"
    NOT_BY_THIS_ROLE = "not-by-this-role"
    LETTER_ALREADY_SENT = "letter-already-sent"
    ACKNOWLEDGEMENT_DUE_FIRST = "acknowledgement-due-first"


@dataclass(frozen=True, slots=True)
class Case:
    """One request. Instants are aware; None: has not happened. `sequence` orders cases that take effect together."""

    case_id: str
    sequence: int
    choice: SharingChoice
    state: CaseState
    received_at: datetime
    acknowledge_by: datetime
    implement_by: datetime
    restricts_provisionally: bool
    """Whether a verified opt-out restricts sharing until it is decided; the region's setting on receipt."""
    acknowledged_at: datetime | None = None
    verified_at: datetime | None = None
    considered_at: datetime | None = None
    implemented_at: datetime | None = None
    confirmed_at: datetime | None = None
    ended_at: datetime | None = None
    """When it was rejected or withdrawn."""
    closed_at: datetime | None = None
    """When the closing message of a rejected or withdrawn case went out."""

    @property
    def is_open(self) -> bool:
        """Neither implemented nor ended: somebody has still to act on it."""
        return self.state in _OPEN

    @property
    def letters_due(self) -> tuple[Letter, ...]:
        """The letters still to be sent, first first: the acknowledgement always, then exactly one more."""
        due = [] if self.acknowledged_at else [Letter.ACKNOWLEDGEMENT]
        if self.implemented_at and not self.confirmed_at:
            due.append(Letter.CONFIRMATION)
        if self.ended_at and not self.closed_at:
            due.append(Letter.CLOSING)
        return tuple(due)

    def overdue(self, at: datetime) -> tuple[Letter | CaseEvent, ...]:
        """The promises that are broken at `at`: the acknowledgement, and the implementation of an open case."""
        broken: list[Letter | CaseEvent] = []
        if self.acknowledged_at is None and at >= self.acknowledge_by:
            broken.append(Letter.ACKNOWLEDGEMENT)
        if self.is_open and at >= self.implement_by:
            broken.append(CaseEvent.IMPLEMENT)
        return tuple(broken)


@dataclass(frozen=True, slots=True)
class CaseTerms:
    """The region's promises, `[opt_out]`: in working days from receipt."""

    acknowledge_working_days: int = 2
    implement_working_days: int = 5
    provisional_restriction: bool = True


def receive(
    case_id: str,
    sequence: int,
    choice: SharingChoice,
    at: datetime,
    *,
    terms: CaseTerms,
    holidays: Collection[date],
    zone: tzinfo,
) -> Case:
    """Open a case for a request that arrived at `at`; its deadlines are fixed now."""
    return Case(
        case_id=case_id,
        sequence=sequence,
        choice=choice,
        state=CaseState.RECEIVED,
        received_at=at,
        acknowledge_by=end_of_working_day(at, terms.acknowledge_working_days, holidays, zone),
        implement_by=end_of_working_day(at, terms.implement_working_days, holidays, zone),
        restricts_provisionally=terms.provisional_restriction and choice is SharingChoice.OPT_OUT,
    )


def move(case: Case, event: CaseEvent, by: Role, at: datetime) -> Case | Refusal:
    """Apply one event; the case as it then stands, or why it cannot happen.

    A clock that ran back must not hold up an opt-out (SAF-25): an earlier instant counts as that of the last event.
    """
    if by not in _MAY[event]:
        return Refusal.NOT_BY_THIS_ROLE
    sent_at = {CaseEvent.ACKNOWLEDGE: case.acknowledged_at, CaseEvent.CLOSE: case.closed_at}.get(event)
    if sent_at is not None:
        return Refusal.LETTER_ALREADY_SENT
    if case.state not in _FROM[event]:
        return Refusal.NOT_IN_THIS_STATE
    at = max(at, _last_event(case))
    match event:
        case CaseEvent.ACKNOWLEDGE:
            # Whoever verifies before the letter is out does not lose the letter: the state stays ahead.
            state = CaseState.ACKNOWLEDGED if case.state is CaseState.RECEIVED else case.state
            return replace(case, state=state, acknowledged_at=at)
        case CaseEvent.VERIFY:
            return replace(case, state=CaseState.VERIFIED, verified_at=at)
        case CaseEvent.CONSIDER:
            return replace(case, state=CaseState.CONSIDERED, considered_at=at)
        case CaseEvent.IMPLEMENT:
            return replace(case, state=CaseState.IMPLEMENTED, implemented_at=at)
        case CaseEvent.CONFIRM | CaseEvent.CLOSE if case.acknowledged_at is None:
            return Refusal.ACKNOWLEDGEMENT_DUE_FIRST
        case CaseEvent.CONFIRM:
            return replace(case, state=CaseState.CONFIRMED, confirmed_at=at)
        case CaseEvent.REJECT:
            return replace(case, state=CaseState.REJECTED, ended_at=at)
        case CaseEvent.WITHDRAW:
            return replace(case, state=CaseState.WITHDRAWN, ended_at=at)
        case CaseEvent.CLOSE:
            return replace(case, closed_at=at)


def acting(case: Case) -> ImplementedChoice | None:
    """What the case does to sharing: its choice once implemented, a provisional restriction before, else nothing.

    The restriction of a case that ended keeps its period, so that a past decision can still be explained.
    """
    if case.implemented_at is not None:
        return ImplementedChoice(case.case_id, case.choice, False, case.implemented_at, case.sequence, None)
    if case.restricts_provisionally and case.verified_at is not None:
        return ImplementedChoice(case.case_id, case.choice, True, case.verified_at, case.sequence, case.ended_at)
    return None


def end_of_working_day(at: datetime, nth: int, holidays: Collection[date], zone: tzinfo) -> datetime:
    """The end, in UTC, of the nth working day after the day of `at` in `zone`: the midnight that closes it (SAF-23).

    Working days are Monday to Friday without `holidays`. The day of receipt is never counted.
    """
    day = at.astimezone(zone).date()
    for _ in range(nth):
        day += timedelta(days=1)
        while day.weekday() >= _SATURDAY or day in holidays:
            day += timedelta(days=1)
    return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)


_SATURDAY = 5
_OPEN = frozenset({CaseState.RECEIVED, CaseState.ACKNOWLEDGED, CaseState.VERIFIED, CaseState.CONSIDERED})
_STAFF = frozenset({Role.OFFICER})
_STAFF_OR_SYSTEM = frozenset({Role.OFFICER, Role.SYSTEM})

# The state table: from which states an event may happen, and who may bring it about. An opt-out can be implemented as
# soon as its sender is verified: consideration informs, and never holds it up (SAF-25).
_FROM: Mapping[CaseEvent, frozenset[CaseState]] = {
    CaseEvent.ACKNOWLEDGE: frozenset(CaseState) - {CaseState.ACKNOWLEDGED, CaseState.CONFIRMED},
    CaseEvent.VERIFY: frozenset({CaseState.RECEIVED, CaseState.ACKNOWLEDGED}),
    CaseEvent.CONSIDER: frozenset({CaseState.VERIFIED}),
    CaseEvent.IMPLEMENT: frozenset({CaseState.VERIFIED, CaseState.CONSIDERED}),
    CaseEvent.CONFIRM: frozenset({CaseState.IMPLEMENTED}),
    CaseEvent.REJECT: _OPEN,
    CaseEvent.WITHDRAW: _OPEN,
    CaseEvent.CLOSE: frozenset({CaseState.REJECTED, CaseState.WITHDRAWN}),
}
_MAY: Mapping[CaseEvent, frozenset[Role]] = {
    CaseEvent.ACKNOWLEDGE: _STAFF_OR_SYSTEM,
    CaseEvent.VERIFY: _STAFF,
    CaseEvent.CONSIDER: _STAFF,
    CaseEvent.IMPLEMENT: _STAFF_OR_SYSTEM,
    CaseEvent.CONFIRM: _STAFF_OR_SYSTEM,
    CaseEvent.REJECT: _STAFF,
    CaseEvent.WITHDRAW: frozenset({Role.PATIENT, Role.OFFICER}),
    CaseEvent.CLOSE: _STAFF_OR_SYSTEM,
}


def _last_event(case: Case) -> datetime:
    happened = (
        case.received_at,
        case.acknowledged_at,
        case.verified_at,
        case.considered_at,
        case.implemented_at,
        case.confirmed_at,
        case.ended_at,
        case.closed_at,
    )
    return max(instant for instant in happened if instant is not None)
