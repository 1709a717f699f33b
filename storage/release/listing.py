"""What governance looks at each day: reports by state and by what keeps them, and how much every feed brought (SAF-32).

From the rows alone: nothing that a report says is opened, and nobody but staff is named. Lists are bounded, counts are
of everything; an empty trust means all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, Text, case, func, or_, select, true, type_coerce

from gateway.model.reporting.seams import MessageState
from policy.parties import TrustId
from policy.release.circumstances import Flag, HoldKind, ReleaseState
from policy.release.reports import Problem
from storage.database import Read
from storage.release.reports import LIST_MAX, KeptReport, kept_of
from storage.release.tables import IS_DEAD, feed_message, report

UNSURE_WHOSE = frozenset({HoldKind.IDENTITY.value, HoldKind.WRONG_PATIENT.value, Problem.PATIENT_CHANGED.value})
"""What keeps a report of which it is not certain whose it is."""
_ENDED = (ReleaseState.CANCELLED.value, ReleaseState.WITHDRAWN.value)
_OVERDUE = (Flag.HOLD_OVERDUE.value, Flag.HOLD_TO_CALDICOTT.value, Flag.NOT_VERIFIED_AGAIN.value)
_WAITING = (ReleaseState.EMBARGOED.value, ReleaseState.DUE.value)
_IS_OPEN = report.c.state.not_in(_ENDED)
_IS_UNMATCHED = or_(report.c.patient_id.is_(None), ~report.c.is_linked & report.c.accession.is_(None))
"""A number of the trust's own is enough to know of which examination it is, whether or not its images are held."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many reports stand how."""

    by_state: dict[ReleaseState, int]
    unlinked: int
    """Of which no study is known, and that have not ended: mostly their images are held by their trust alone."""
    unmatched: int
    """That lead to no patient, or to neither study nor order, and have not ended: a person's work."""
    identity_changed: int
    unacknowledged: int
    overdue_review: int
    """Held, or taken back to be corrected, for longer than somebody should have let it be."""
    dead_letters: int


@dataclass(frozen=True, slots=True)
class FeedCount:
    """How many messages a feed brought in some time, by what became of them."""

    trust: TrustId
    feed: str
    state: MessageState
    messages: int


def in_states(
    read: Read, states: Collection[ReleaseState] = (), trust: TrustId | None = None, limit: int = LIST_MAX
) -> Sequence[KeptReport]:
    """Reports in these states (none named: all), the first due first, then the oldest."""
    statement = _of(trust)
    if states:
        statement = statement.where(report.c.state.in_(sorted(state.value for state in states)))
    return _listed(read, statement.order_by(report.c.due_at.is_(None), report.c.due_at, report.c.created_at), limit)


def due_until(read: Read, until: datetime, trust: TrustId | None = None, limit: int = LIST_MAX) -> Sequence[KeptReport]:
    """Reports that go out by themselves before an instant, the first due first."""
    waiting = _of(trust).where(report.c.state.in_(_WAITING), report.c.due_at < until)
    return _listed(read, waiting.order_by(report.c.due_at), limit)


def held_for(
    read: Read, reasons: Collection[str], trust: TrustId | None = None, limit: int = LIST_MAX
) -> Sequence[KeptReport]:
    """Reports kept back for one of these reasons, changed longest ago first."""
    return _listed(read, _of(trust).where(_names(report.c.held_for, reasons)).order_by(report.c.changed_at), limit)


def flagged(read: Read, flag: Flag, trust: TrustId | None = None, limit: int = LIST_MAX) -> Sequence[KeptReport]:
    """Reports of which a person should know this, changed longest ago first."""
    return _listed(read, _of(trust).where(_names(report.c.flags, [flag.value])).order_by(report.c.changed_at), limit)


def unmatched(read: Read, trust: TrustId | None = None, limit: int = LIST_MAX) -> Sequence[KeptReport]:
    """Reports that lead to no patient, or to neither study nor order, the oldest first: a person's work."""
    return _listed(read, _of(trust).where(_IS_OPEN, _IS_UNMATCHED).order_by(report.c.created_at), limit)


def counts(read: Read, trust: TrustId | None = None) -> Counts:
    """How many stand how."""
    columns = [
        _counted(_IS_OPEN & ~report.c.is_linked, "unlinked"),
        _counted(_IS_OPEN & _IS_UNMATCHED, "unmatched"),
        _counted(_names(report.c.held_for, UNSURE_WHOSE), "identity_changed"),
        _counted(_names(report.c.flags, [Flag.UNACKNOWLEDGED.value]), "unacknowledged"),
        _counted(_names(report.c.flags, _OVERDUE), "overdue_review"),
    ]
    of_trust = true() if trust is None else report.c.trust == trust.code
    grouped = select(report.c.state, func.count().label("all"), *columns).where(of_trust).group_by(report.c.state)
    rows = read.connection.execute(grouped).all()
    dead = select(func.count()).select_from(feed_message).where(IS_DEAD)
    if trust is not None:
        dead = dead.where(feed_message.c.trust == trust.code)
    return Counts(
        by_state={ReleaseState(row.state): int(row.all) for row in rows},
        unlinked=sum(int(row.unlinked) for row in rows),
        unmatched=sum(int(row.unmatched) for row in rows),
        identity_changed=sum(int(row.identity_changed) for row in rows),
        unacknowledged=sum(int(row.unacknowledged) for row in rows),
        overdue_review=sum(int(row.overdue_review) for row in rows),
        dead_letters=int(read.connection.execute(dead).scalar_one()),
    )


def brought(read: Read, since: datetime, until: datetime, trust: TrustId | None = None) -> Sequence[FeedCount]:
    """How many messages each feed brought in `[since, until)`: to be compared with what the RIS says that it sent."""
    within = (feed_message.c.received_at >= since) & (feed_message.c.received_at < until)
    if trust is not None:
        within &= feed_message.c.trust == trust.code
    place = (feed_message.c.trust, feed_message.c.feed, feed_message.c.state)
    grouped = select(*place, func.count().label("messages")).where(within).group_by(*place).order_by(*place)
    return [
        FeedCount(TrustId(row.trust), row.feed, MessageState(row.state), int(row.messages))
        for row in read.connection.execute(grouped)
    ]


def _of(trust: TrustId | None) -> Select[*tuple[object, ...]]:
    return select(report) if trust is None else select(report).where(report.c.trust == trust.code)


def _names(column: ColumnElement[object], words: Collection[str]) -> ColumnElement[bool]:
    """Whether a list of words holds one of these."""
    return or_(*(type_coerce(column, Text).contains(f'"{word}"', autoescape=True) for word in sorted(words)))


def _counted(condition: ColumnElement[bool], name: str) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0).label(name)


def _listed(read: Read, statement: Select[*tuple[object, ...]], limit: int) -> Sequence[KeptReport]:
    return [kept_of(row) for row in read.connection.execute(statement.limit(min(limit, LIST_MAX)))]
