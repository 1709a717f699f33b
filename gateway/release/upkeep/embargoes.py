"""From when on an embargo counts: not before it was first seen, whatever the file says (domain.md A3).

A change of the embargo concerns reports that are verified from then on. What counted once is kept, so that neither a
step that is written down late, nor one that is changed or taken out of the file, shortens an embargo that runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from policy.parties import TrustId
from policy.release.terms import EmbargoStep, ReleaseTerms
from storage.release.upkeep import embargoes
from storage.release.upkeep.embargoes import KeptStep
from storage.store import SqlStore


def settled(known: Sequence[KeptStep], steps: Sequence[EmbargoStep], now: datetime) -> tuple[KeptStep, ...]:
    """What has counted, and what is to come by the file of now. A trust that is new begins as its file says."""
    if not known:
        return tuple(KeptStep(step.from_at, step.from_at, step.days) for step in steps)
    written = {(step.days, step.from_at) for step in steps}
    found = [each for each in known if each.counts_from <= now or (each.days, each.from_at) in written]
    there = {(each.days, each.from_at) for each in found}
    found += [
        KeptStep(step.from_at, step.from_at, step.days)
        for step in steps
        if step.from_at > now and (step.days, step.from_at) not in there
    ]
    wanted = [step for step in steps if step.from_at <= now or step is steps[0]][-1]
    current = max(each for each in found if each.counts_from <= now)
    if current.days != wanted.days:
        found.append(KeptStep(now, now, wanted.days))
    return tuple(sorted(found))


class Embargoes:
    """The steps of every trust, as they count."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._known: dict[TrustId, tuple[KeptStep, ...]] = {}
        self._gone: dict[TrustId, frozenset[KeptStep]] = {}

    async def read(self) -> None:
        """What counted until now; raises a `ServiceFault`."""
        self._known = dict(await self._store.read(embargoes.kept))

    def follow(self, terms: Mapping[TrustId, ReleaseTerms], now: datetime) -> None:
        """Let the steps of a file count that is in force from now on."""
        for trust, each in terms.items():
            known = self._known.get(trust, ())
            self._known[trust] = settled(known, each.embargo, now)
            gone = frozenset(known).difference(self._known[trust])
            self._gone[trust] = self._gone.get(trust, frozenset()) | gone

    async def keep(self) -> None:
        """Write down what counts; raises a `ServiceFault`."""
        for trust, steps in self._known.items():
            gone = self._gone.pop(trust, frozenset()).difference(steps)
            await self._store.write(partial(embargoes.keep, trust=trust, steps=steps, gone=gone))

    def over(self, trust: TrustId, terms: ReleaseTerms) -> ReleaseTerms:
        """The terms of a trust, with its embargoes as they count."""
        steps = self._known.get(trust)
        if steps is None:
            return terms
        return replace(terms, embargo=tuple(EmbargoStep(step.days, step.counts_from) for step in steps))
