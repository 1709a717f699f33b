"""The life of a trust in the region: enrolled, suspended, retired; its stage of joining, its downtimes, its successor.

What the region's own register says goes before the configuration, whose `enrolled` is only where a trust starts. A
trust in stage `test` takes part for its labelled test patients alone, as if it were not there for anybody else. A
retired code leads to its successor for access; what is on record keeps the old one (domain.md C3). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from policy.parties import NhsNumber, TrustId

SUCCESSIONS_MAX = 8
"""Mergers followed from one code: more is a circle."""


class Standing(StrEnum):
    """Whether a trust takes part."""

    ENROLLED = "enrolled"
    SUSPENDED = "suspended"
    """Neither asked nor answered, until it is resumed."""
    RETIRED = "retired"
    """The organisation is no more."""


class Stage(StrEnum):
    """How far a trust has come in joining, in this order; each step is signed off by two named people."""

    TEST = "test"
    """Answers, and is answered, for its labelled test patients alone."""
    QUERY = "query"
    RETRIEVE = "retrieve"
    PUSH = "push"

    @property
    def next(self) -> Stage | None:
        """The stage after this one; None after the last."""
        stages = list(Stage)
        place = stages.index(self) + 1
        return stages[place] if place < len(stages) else None


@dataclass(frozen=True, slots=True)
class TrustStanding:
    """What the register says of one trust."""

    trust: TrustId
    standing: Standing
    stage: Stage = Stage.PUSH
    successor: TrustId | None = None
    reason: str = ""
    """Of the last change, for other people who run the region."""


@dataclass(frozen=True, slots=True)
class Downtime:
    """A planned time, half-open, in which a trust's archive is not asked."""

    downtime_id: str
    trust: TrustId
    begins: datetime
    ends: datetime
    reason: str
    """Shown to every caller: nothing of a patient."""


@dataclass(frozen=True, slots=True)
class Roll:
    """What the registers say of the whole region at one version: every trust's standing, and what is quarantined."""

    standings: Mapping[TrustId, TrustStanding] = field(default_factory=lambda: MappingProxyType({}))
    downtimes: tuple[Downtime, ...] = ()
    test_patients: Mapping[TrustId, frozenset[NhsNumber]] = field(default_factory=lambda: MappingProxyType({}))
    quarantined: frozenset[str] = frozenset()
    """UIDs of the studies that are filed under two patients, until their custodians have put that right (SAF-08)."""

    def takes_part(self, trust: TrustId, *, starts_enrolled: bool, patient: NhsNumber | None) -> bool:
        """Whether a trust is enrolled at this moment, for a question of this patient (None: of nobody in particular).

        Without an entry in the register it is as the configuration starts it.
        """
        entry = self.standings.get(trust)
        if entry is None:
            return starts_enrolled
        if entry.standing is not Standing.ENROLLED:
            return False
        return entry.stage is not Stage.TEST or (
            patient is not None and patient in self.test_patients.get(trust, frozenset())
        )

    def retrieves(self, trust: TrustId) -> bool:
        """Whether images may be had from a trust, and by it; one that is tried with test patients tries this too."""
        entry = self.standings.get(trust)
        return entry is None or entry.stage is not Stage.QUERY

    def pushes(self, trust: TrustId) -> bool:
        """Whether a trust may send images by itself."""
        entry = self.standings.get(trust)
        return entry is None or entry.stage in (Stage.TEST, Stage.PUSH)

    def is_retired(self, trust: TrustId) -> bool:
        """Whether the organisation is no more."""
        entry = self.standings.get(trust)
        return entry is not None and entry.standing is Standing.RETIRED

    def downtime(self, trust: TrustId, at: datetime) -> Downtime | None:
        """The planned downtime that a trust is in, the one that ends last if there are several."""
        current = (each for each in self.downtimes if each.trust == trust and each.begins <= at < each.ends)
        return max(current, key=lambda each: (each.ends, each.downtime_id), default=None)

    def present(self, trust: TrustId) -> TrustId:
        """The code that a code leads to for access: itself, or its last successor."""
        for _ in range(SUCCESSIONS_MAX):
            entry = self.standings.get(trust)
            if entry is None or entry.standing is not Standing.RETIRED or entry.successor is None:
                break
            trust = entry.successor
        return trust

    def predecessors(self, trust: TrustId) -> frozenset[TrustId]:
        """The retired codes that lead to this one."""
        retired = (code for code, entry in self.standings.items() if entry.standing is Standing.RETIRED)
        return frozenset(code for code in retired if code != trust and self.present(code) == trust)
