"""One instance of a frozen set: what it is, who has it, what is kept of it, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.model.imaging import Attributes
from gateway.model.work.retrievals import FrozenInstance, InstanceState
from gateway.model.work.transfers import CachedInstance
from gateway.sharing.merge import Candidate
from gateway.sharing.retrieval.acquiring import Wanted
from policy.parties import TrustId


@dataclass(slots=True, eq=False)
class Entry:
    """One instance of the frozen set."""

    wanted: Wanted
    shown: Attributes
    """The identity that the caller is shown."""
    copies: tuple[Candidate, ...]
    cached: CachedInstance | None = None
    state: InstanceState = InstanceState.PENDING
    words: str = ""

    @property
    def source(self) -> TrustId:
        """Where it came from; as long as it has not come, where it is to come from."""
        return self.cached.source if self.cached is not None else self.wanted.holdings[0].trust

    @property
    def data_bytes(self) -> int:
        """How long it is, once it is kept."""
        return self.cached.plain_bytes if self.cached is not None else 0


def if_may_be_had(cached: CachedInstance | None, wanted: Wanted) -> CachedInstance | None:
    """What came from a holder whose copy this caller may not have is fetched from one of theirs."""
    return cached if cached is not None and any(cached.source == each.trust for each in wanted.holdings) else None


def frozen_of(entries: Sequence[Entry], decision_id: str) -> list[FrozenInstance]:
    """What the ledger is told of them."""
    return [FrozenInstance(entry.wanted.ref, entry.source, entry.wanted.patient_row, decision_id) for entry in entries]
