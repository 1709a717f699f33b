"""Which embargo counted from when on, trust by trust: kept, so that no later file can shorten one that runs.

A row is a mark of `release_mark` with the step in its name. Steps that have begun are never changed; one that is still
to come may be taken away again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from policy.parties import TrustId
from storage.database import Read, Tx
from storage.release.standing import release_mark

_PREFIX = "embargo"


@dataclass(frozen=True, slots=True, order=True)
class KeptStep:
    """An embargo, and the instant from which it really counts: never before it was first seen."""

    counts_from: datetime
    from_at: datetime
    """As the file has it."""
    days: int


def kept(read: Read) -> Mapping[TrustId, tuple[KeptStep, ...]]:
    """Every trust's steps, the oldest first."""
    found: dict[TrustId, list[KeptStep]] = {}
    statement = select(release_mark.c.name).where(release_mark.c.name.startswith(f"{_PREFIX}/"))
    for name in read.connection.execute(statement).scalars():
        _, trust, counts_from, from_at, days = str(name).split("/")
        step = KeptStep(datetime.fromisoformat(counts_from), datetime.fromisoformat(from_at), int(days))
        found.setdefault(TrustId(trust), []).append(step)
    return {trust: tuple(sorted(steps)) for trust, steps in found.items()}


def keep(tx: Tx, trust: TrustId, steps: Collection[KeptStep], gone: Collection[KeptStep]) -> None:
    """Write down a trust's steps, and take away those that never began; what is there already stays as it is."""
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    for step in steps:
        values = {"name": _name(trust, step), "at": step.counts_from}
        tx.connection.execute(engine.insert(release_mark).values(values).on_conflict_do_nothing())
    names = [_name(trust, step) for step in gone]
    if names:
        tx.connection.execute(delete(release_mark).where(release_mark.c.name.in_(names)))


def _name(trust: TrustId, step: KeptStep) -> str:
    return "/".join((_PREFIX, trust.code, step.counts_from.isoformat(), step.from_at.isoformat(), str(step.days)))
