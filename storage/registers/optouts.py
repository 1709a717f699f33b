"""Opt-out and opt-in cases: where each stands, everything that happened to it, and what acts on sharing because of it.

What may happen to a case is `policy.optout`; here it is kept. `optout_event` is append-only; `optout_case` is the
present state; `optout_choice` holds the choices that act, implemented or provisional, bitemporal, and is all that a
decision reads (SHR-32). A patient without an NHS number has a case on a local identifier, and it follows when the
number is traced or the rows are joined (SHR-33).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from policy.facts import ImplementedChoice, SharingChoice
from policy.optout import Case, CaseEvent, CaseState, CaseTerms, Refusal, Role, acting, move, receive
from storage.database import Read, Tx
from storage.registers import patients
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import Instant, TableRow, belief, believed, metadata
from storage.work import jobs

REGISTER = "opt-outs"
STOPPED_WORDS = "no longer permitted"
"""Why a job of somebody who opted out is not done, for lists of jobs that are no register."""

_MILESTONES = (
    "acknowledged_at",
    "verified_at",
    "considered_at",
    "implemented_at",
    "confirmed_at",
    "ended_at",
    "closed_at",
)

optout_case = Table(
    "optout_case",
    metadata,
    Column("case_id", Text, primary_key=True),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("sequence", BigInteger, nullable=False, unique=True),
    Column("choice", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("applicant", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("acknowledge_by", Instant, nullable=False),
    Column("implement_by", Instant, nullable=False),
    Column("restricts_provisionally", Boolean(create_constraint=False), nullable=False),
    *(Column(name, Instant) for name in _MILESTONES),
    Index(None, "patient_id"),
)

optout_event = Table(
    "optout_event",
    metadata,
    Column("case_id", Text, ForeignKey("optout_case.case_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
)
"""Append-only: the receipt first, then each event with its actor."""

optout_choice = Table(
    "optout_choice",
    metadata,
    Column("row_id", Text, primary_key=True),
    Column("case_id", Text, ForeignKey("optout_case.case_id"), nullable=False),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), nullable=False),
    Column("choice", Text, nullable=False),
    Column("is_provisional", Boolean(create_constraint=False), nullable=False),
    Column("effective_at", Instant, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("valid_until", Instant),
    *belief(),
    Index(None, "patient_id"),
    Index(None, "case_id"),
)

ACTING = (
    select(
        optout_choice.c.case_id,
        optout_choice.c.choice,
        optout_choice.c.is_provisional,
        optout_choice.c.effective_at,
        optout_choice.c.sequence,
        optout_choice.c.valid_until,
    )
    .where(
        optout_choice.c.patient_id == bindparam("patient"),
        believed(optout_choice),
        optout_choice.c.effective_at <= bindparam("at", type_=Instant),
        or_(optout_choice.c.valid_until.is_(None), optout_choice.c.valid_until > bindparam("at", type_=Instant)),
    )
    .order_by(optout_choice.c.effective_at, optout_choice.c.sequence)
)
"""A patient row's choices that act at `:at` as believed at `:known`."""

_CASE = select(optout_case).where(optout_case.c.case_id == bindparam("of_case"))
_CASES = select(optout_case).order_by(optout_case.c.sequence)
_LAST_SEQUENCE = select(func.max(optout_case.c.sequence))
_EVENTS = select(optout_event).where(optout_event.c.case_id == bindparam("of_case")).order_by(optout_event.c.number)
_STATED = select(optout_choice).where(
    optout_choice.c.case_id == bindparam("of_case"), optout_choice.c.superseded_at.is_(None)
)
_CLOSE = (
    update(optout_choice)
    .where(optout_choice.c.row_id == bindparam("of_row"))
    .values(superseded_at=bindparam("believed_until", type_=Instant))
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a request came in."""

    patient_id: str
    choice: SharingChoice
    channel: str
    """`paper`, `web`, `telephone`, ..."""
    applicant: str
    """`patient`, or by what right somebody else asks (SHR-35)."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Calendar:
    """What working days depend on."""

    terms: CaseTerms
    holidays: Collection[date]
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class KeptCase:
    """A case with what storage knows of it beyond its state."""

    case: Case
    patient_id: str
    channel: str
    applicant: str


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One line of a case's history. `event` is `receive` for the first."""

    number: int
    event: str
    state: CaseState
    role: Role
    by: str
    reason: str
    at: datetime
    recorded_at: datetime


def open_case(tx: Tx, receipt: Receipt, calendar: Calendar, role: Role, author: Author) -> Case:
    """Record the receipt of a request; the case, its deadlines fixed."""
    bump_register_version(tx)
    sequence = (tx.connection.execute(_LAST_SEQUENCE).scalar_one() or 0) + 1
    case = receive(
        tx.new_id(),
        sequence,
        receipt.choice,
        receipt.at,
        terms=calendar.terms,
        holidays=calendar.holidays,
        zone=calendar.zone,
    )
    kept = {"patient_id": receipt.patient_id, "channel": receipt.channel, "applicant": receipt.applicant}
    tx.connection.execute(insert(optout_case), {**_columns(case), **kept})
    faultpoint("optouts.open.between")
    _add_event(tx, case, 1, ("receive", role, receipt.at), author)
    record_change(tx, author, REGISTER, "receive", case.case_id, {"choice": case.choice.value})
    return case


def move_case(tx: Tx, case_id: str, event: CaseEvent, role: Role, at: datetime, author: Author) -> Case:
    """Let an event happen to a case and change what acts; the case as it then stands.

    Raises `InvalidRequest` with the refusal of `policy.optout` in words.
    """
    bump_register_version(tx)
    row = tx.connection.execute(_CASE, {"of_case": case_id}).one_or_none()
    if row is None:
        raise InvalidRequest("no such opt-out case")
    before = _case(row)
    after = move(before, event, role, at)
    if isinstance(after, Refusal):
        raise InvalidRequest(f"the case cannot {event.value}: {after.value.replace('-', ' ')}")
    tx.connection.execute(update(optout_case).where(optout_case.c.case_id == case_id), _columns(after))
    faultpoint("optouts.move.between")
    number = len(tx.connection.execute(_EVENTS, {"of_case": case_id}).all()) + 1
    _add_event(tx, after, number, (event.value, role, at), author)
    _state_choices(tx, row.patient_id, _choices(before, after))
    begins = event in (CaseEvent.VERIFY, CaseEvent.IMPLEMENT) and acting(after) is not None
    if begins and after.choice is SharingChoice.OPT_OUT:
        _stop_jobs(tx, row.patient_id, case_id, author)
    record_change(tx, author, REGISTER, event.value, case_id, {"state": after.state.value})
    return after


def cases(read: Read, patient_ids: Collection[str] | None = None) -> list[KeptCase]:
    """All cases, or those of some patient rows, in order of receipt."""
    statement = _CASES if patient_ids is None else _CASES.where(optout_case.c.patient_id.in_(sorted(patient_ids)))
    return [_kept(row) for row in read.connection.execute(statement)]


def history(read: Read, case_id: str) -> list[PastEvent]:
    """Everything that happened to a case, first first."""
    return [
        PastEvent(
            row.number,
            row.event,
            CaseState(row.state),
            Role(row.role),
            row.by,
            row.reason,
            row.at,
            row.recorded_at,
        )
        for row in read.connection.execute(_EVENTS, {"of_case": case_id})
    ]


def choice(row: TableRow) -> ImplementedChoice:
    """The fact that a row states."""
    return ImplementedChoice(
        row.case_id,
        SharingChoice(row.choice),
        bool(row.is_provisional),
        row.effective_at,
        row.sequence,
        row.valid_until,
    )


def _choices(before: Case, after: Case) -> Sequence[ImplementedChoice]:
    """What acts because of a case: its choice, and behind it the restriction that acted until it was implemented."""
    earlier, now = acting(before), acting(after)
    stated = [] if now is None else [now]
    if earlier is not None and earlier.is_provisional and now is not None and not now.is_provisional:
        stated.insert(0, replace(earlier, valid_until=now.effective_at))
    return stated


def _stop_jobs(tx: Tx, patient_id: str, case_id: str, author: Author) -> None:
    """Have nothing more done of what is queued or runs for the person: in the act's own transaction (DEC-11)."""
    rows = sorted(patients.person(tx, patient_id).joined)
    stopped = sum(jobs.cancel_of_patient(tx, each, STOPPED_WORDS) for each in rows)
    if stopped:
        record_change(tx, author, jobs.REGISTER, "cancel-of-patient", case_id, {"jobs": stopped})


def _state_choices(tx: Tx, patient_id: str, stated: Sequence[ImplementedChoice]) -> None:
    """Make the choices believed of a case those `stated`; an implemented choice, once stated, stays."""
    if not stated:
        return
    believed_rows = {choice(row): row for row in tx.connection.execute(_STATED, {"of_case": stated[0].case_id})}
    for kept, row in believed_rows.items():
        if kept not in stated and kept.is_provisional and kept.valid_until is None:
            until = max(tx.now, row.recorded_at)
            tx.connection.execute(_CLOSE, {"of_row": row.row_id, "believed_until": until})
            faultpoint("optouts.choice.between")
    for new in stated:
        if new not in believed_rows:
            values = {
                "row_id": tx.new_id(),
                "case_id": new.case_id,
                "patient_id": patient_id,
                "choice": new.choice.value,
                "is_provisional": new.is_provisional,
                "effective_at": new.effective_at,
                "sequence": new.sequence,
                "valid_until": new.valid_until,
                "recorded_at": tx.now,
            }
            tx.connection.execute(insert(optout_choice), values)


def _add_event(tx: Tx, case: Case, number: int, what: tuple[str, Role, datetime], author: Author) -> None:
    event, role, at = what
    values = {
        "case_id": case.case_id,
        "number": number,
        "event": event,
        "state": case.state.value,
        "role": role.value,
        "by": author.subject,
        "reason": author.reason,
        "at": at,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(optout_event), values)


def _columns(case: Case) -> dict[str, object]:
    return {
        "case_id": case.case_id,
        "sequence": case.sequence,
        "choice": case.choice.value,
        "state": case.state.value,
        "received_at": case.received_at,
        "acknowledge_by": case.acknowledge_by,
        "implement_by": case.implement_by,
        "restricts_provisionally": case.restricts_provisionally,
        **{name: getattr(case, name) for name in _MILESTONES},
    }


def _case(row: TableRow) -> Case:
    return Case(
        row.case_id,
        row.sequence,
        SharingChoice(row.choice),
        CaseState(row.state),
        row.received_at,
        row.acknowledge_by,
        row.implement_by,
        bool(row.restricts_provisionally),
        **{name: getattr(row, name) for name in _MILESTONES},
    )


def _kept(row: TableRow) -> KeptCase:
    return KeptCase(_case(row), row.patient_id, row.channel, row.applicant)
