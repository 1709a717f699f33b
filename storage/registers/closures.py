"""Whose keys the opt-out register wants closed: the rows of every person whose latest implemented choice is an opt-out.

A verified case that only restricts provisionally closes nothing, nor does a merge that nobody confirmed: a closing ends
in the destruction of keys (SAF-20, SAF-33). Open again is who the register knows to be opted out no more; of whom it
knows nothing, as after the restore of an old backup, nothing is opened. Read as a whole, because what follows from it
is compared as a whole, whatever failed before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, union

from policy.facts import SharingChoice
from storage.database import Read
from storage.registers.optouts import optout_choice
from storage.registers.patients import patient_merge
from storage.tables.columns import TableRow

_IMPLEMENTED = optout_choice.c.superseded_at.is_(None) & ~optout_choice.c.is_provisional
_JOINED = select(patient_merge.c.patient_id, patient_merge.c.survivor_id).where(
    patient_merge.c.superseded_at.is_(None), patient_merge.c.is_confirmed
)
_EVER = union(
    select(optout_choice.c.patient_id).where(~optout_choice.c.is_provisional),
    select(patient_merge.c.patient_id),
    select(patient_merge.c.survivor_id),
)
_TRACES = [
    select(func.count(), func.max(table.c.recorded_at), func.max(table.c.superseded_at)).select_from(table)
    for table in (optout_choice, patient_merge)
]


@dataclass(frozen=True, slots=True)
class OptedOut:
    """What the register says."""

    rows: frozenset[str]
    """Of the patients who are opted out."""
    released: frozenset[str]
    """Of those who are not, and of whom a choice or a merge is known, of now or of old: they may have been."""
    changes_at: datetime | None
    """When the next choice takes effect by itself; None: there is none ahead."""


def trace(read: Read) -> tuple[object, ...]:
    """Something that changes with whatever `opted_out` is read from, and that costs little to read."""
    return tuple(tuple(read.connection.execute(each).one()) for each in _TRACES)


def opted_out(read: Read) -> OptedOut:
    """Everybody whose keys are to be closed at this instant."""
    together = _persons(read.connection.execute(_JOINED))
    known = frozenset(read.connection.execute(_EVER).scalars())
    acting = (
        select(optout_choice.c.patient_id, optout_choice.c.choice)
        .where(_IMPLEMENTED, optout_choice.c.effective_at <= read.now)
        .order_by(optout_choice.c.effective_at, optout_choice.c.sequence)
    )
    latest: dict[str, str] = {}
    for patient_id, choice in read.connection.execute(acting):
        for each in together.get(patient_id, (patient_id,)):
            latest[each] = choice
    rows = frozenset(each for each, choice in latest.items() if choice == SharingChoice.OPT_OUT.value)
    ahead = select(func.min(optout_choice.c.effective_at)).where(_IMPLEMENTED, optout_choice.c.effective_at > read.now)
    return OptedOut(rows, known - rows, read.connection.execute(ahead).scalar_one())


def _persons(joined: Iterable[TableRow]) -> dict[str, frozenset[str]]:
    """For each row that is joined to others: all rows of its person."""
    neighbours: defaultdict[str, set[str]] = defaultdict(set)
    for merge in joined:
        neighbours[merge.patient_id].add(merge.survivor_id)
        neighbours[merge.survivor_id].add(merge.patient_id)
    persons: dict[str, frozenset[str]] = {}
    for start in neighbours:
        if start in persons:
            continue
        found, to_visit = {start}, [start]
        while to_visit:
            strangers = neighbours[to_visit.pop()] - found
            found |= strangers
            to_visit += strangers
        persons |= dict.fromkeys(found, frozenset(found))
    return persons
