"""What governance looks at each day: reports by state and by what keeps them, and how much every feed brought (SAF-32).

From the rows alone: nothing that a report says is opened, and nobody but staff is named. Lists are bounded, counts are
of everything; an empty trust means all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Column, ColumnElement, Select, Text, func, or_, select, true, type_coerce

from gateway.model.reporting.seams import MessageState
from policy.parties import TrustId
from policy.release.circumstances import Flag, HoldKind, ReleaseState
from policy.release.reports import Problem
from storage.database import Read
from storage.release.reports import LIST_MAX, KeptReport, kept_of
from storage.release.tables import IS_DEAD, IS_UNMATCHED, feed_message, report
from storage.tables.columns import TableRow, strings, unindexed

UNSURE_WHOSE = frozenset({HoldKind.IDENTITY.value, HoldKind.WRONG_PATIENT.value, Problem.PATIENT_CHANGED.value})
"""What keeps a report of which it is not certain whose it is."""
_ENDED = (ReleaseState.CANCELLED.value, ReleaseState.WITHDRAWN.value)
_OVERDUE = (Flag.HOLD_OVERDUE.value, Flag.HOLD_TO_CALDICOTT.value, Flag.NOT_VERIFIED_AGAIN.value)
_WAITING = (ReleaseState.EMBARGOED.value, ReleaseState.DUE.value)
_IS_OPEN = report.c.state.not_in(_ENDED)


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
    held_by_rule: int
    """Kept back by a rule for a working day, and nobody on the staff has taken it up."""
    dead_letters: int

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            by_state={
                state: self.by_state.get(state, 0) + other.by_state.get(state, 0)
                for state in self.by_state.keys() | other.by_state.keys()
            },
            unlinked=self.unlinked + other.unlinked,
            unmatched=self.unmatched + other.unmatched,
            identity_changed=self.identity_changed + other.identity_changed,
            unacknowledged=self.unacknowledged + other.unacknowledged,
            overdue_review=self.overdue_review + other.overdue_review,
            held_by_rule=self.held_by_rule + other.held_by_rule,
            dead_letters=self.dead_letters + other.dead_letters,
        )


NONE = Counts({}, 0, 0, 0, 0, 0, 0, 0)


def in_states(
    read: Read, states: Collection[ReleaseState] = (), trust: TrustId | None = None, limit: int = LIST_MAX
) -> Sequence[KeptReport]:
    """Reports in these states (none named: all), the first due first, then the oldest."""
    statement = _of(trust)
    if states:
        statement = statement.where(report.c.state.in_(sorted(state.value for state in states)))
    return _listed(read, statement.order_by(report.c.due_at.is_(None), report.c.due_at, report.c.created_at), limit)


def due_until(
    read: Read,
    until: datetime,
    trust: TrustId | None = None,
    limit: int = LIST_MAX,
    *,
    state: ReleaseState | None = None,
) -> Sequence[KeptReport]:
    """Reports that go out by themselves before an instant, the first due first; only those in a state, if named."""
    waiting = _of(trust).where(report.c.state.in_(_WAITING), report.c.due_at < until)
    if state is not None:
        waiting = waiting.where(report.c.state == state.value)
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
    return _listed(read, _of(trust).where(_IS_OPEN, IS_UNMATCHED).order_by(report.c.created_at), limit)


def counts(read: Read, trust: TrustId | None = None) -> Counts:
    """How many stand how."""
    found = _counted(read, trust)
    return found.get(trust, NONE) if trust is not None else sum(found.values(), NONE)


def counts_by_trust(read: Read) -> Mapping[TrustId, Counts]:
    """The same for every trust of which there is anything, in one go: for whoever shows all of them each minute."""
    return _counted(read, None)


def brought(read: Read, trust: TrustId, feed: str, since: datetime, until: datetime) -> Mapping[MessageState, int]:
    """How many messages a feed brought in `[since, until)`: to be compared with what the RIS says that it sent."""
    of = feed_message.c
    within = (of.received_at >= since) & (of.received_at < until)
    counted = select(of.state, func.count().label("messages")).where(of.trust == trust.code, of.feed == feed, within)
    rows = read.connection.execute(counted.group_by(of.state))
    return {MessageState(row.state): int(row.messages) for row in rows}


def _counted(read: Read, trust: TrustId | None) -> dict[TrustId, Counts]:
    """By how reports stand, of which there are few kinds: the index holds all that is asked for."""
    place = (report.c.trust, report.c.state, report.c.is_linked, report.c.held_for, report.c.flags)
    found: defaultdict[TrustId, Counts] = defaultdict(lambda: NONE)
    for row in read.connection.execute(_grouped(place, trust, true())):
        found[TrustId(row.trust)] += _standing_so(row)
    for row in read.connection.execute(_grouped((report.c.trust,), trust, _IS_OPEN & IS_UNMATCHED)):
        found[TrustId(row.trust)] += replace(NONE, unmatched=row.all)
    of = unindexed(feed_message.c.trust)
    dead = select(of.label("trust"), func.count().label("all")).where(IS_DEAD).group_by(of)
    for row in read.connection.execute(dead if trust is None else dead.where(of == trust.code)):
        found[TrustId(row.trust)] += replace(NONE, dead_letters=row.all)
    return dict(found)


def _grouped(
    place: Sequence[Column[object]], trust: TrustId | None, which: ColumnElement[bool]
) -> Select[*tuple[object, ...]]:
    statement = select(*place, func.count().label("all")).where(which).group_by(*place)
    return statement if trust is None else statement.where(report.c.trust == trust.code)


def _standing_so(row: TableRow) -> Counts:
    """Some reports of one kind."""
    count, held_for, flags = int(row.all), strings(row.held_for), strings(row.flags)
    return Counts(
        by_state={ReleaseState(row.state): count},
        unlinked=count if row.state not in _ENDED and not row.is_linked else 0,
        unmatched=0,
        identity_changed=0 if held_for.isdisjoint(UNSURE_WHOSE) else count,
        unacknowledged=count if Flag.UNACKNOWLEDGED.value in flags else 0,
        overdue_review=0 if flags.isdisjoint(_OVERDUE) else count,
        held_by_rule=count if Flag.HELD_BY_RULE.value in flags else 0,
        dead_letters=0,
    )


def _of(trust: TrustId | None) -> Select[*tuple[object, ...]]:
    return select(report) if trust is None else select(report).where(report.c.trust == trust.code)


def _names(column: ColumnElement[object], words: Collection[str]) -> ColumnElement[bool]:
    """Whether a list of words holds one of these."""
    return or_(*(type_coerce(column, Text).contains(f'"{word}"', autoescape=True) for word in sorted(words)))


def _listed(read: Read, statement: Select[*tuple[object, ...]], limit: int) -> Sequence[KeptReport]:
    # One more than a list may hold, so that whoever asks for the longest one learns that it is cut.
    return [kept_of(row) for row in read.connection.execute(statement.limit(min(limit, LIST_MAX + 1)))]
