"""What the outcome record says of one question, gathered while it is answered: sources, decisions, what was disclosed.

A decision stands there with the studies that it holds for, so that it replays; what lies beyond the page is not
disclosed, and taken out again. Writes nothing: the gate appends the record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.model.imaging import JsonValue, Match
from gateway.sharing.identity.conflicts import Judgement
from gateway.sharing.merge import Part
from policy import record
from policy.access import Decision, Resource
from policy.parties import TrustId


@dataclass(slots=True)
class Verdict:
    """One decision on rows of an answer: on one study, or on all of those that it holds for alike."""

    decision: Decision
    resource: Resource
    """With the first of the studies; the decision replays with any of them."""
    at: datetime
    studies: dict[str, None] = field(default_factory=dict)
    """Study UIDs in the order of the rows."""
    disclosed: list[JsonValue] = field(default_factory=list)
    """The rows that were shown under it, each by the UID of its own level."""

    def to_json(self) -> JsonValue:
        """Its part of the outcome record."""
        return {
            "decision": record.decision_to_json(self.decision),
            "resource": record.resource_to_json(self.resource),
            "at": self.at.isoformat(),
            "studies": list(self.studies),
            "disclosed": self.disclosed,
        }


@dataclass(slots=True)
class Tally:
    """What the outcome record says; filled while the work goes on."""

    sources: list[JsonValue] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    returned: int = 0
    withheld: int = 0
    facts: JsonValue = "attempt"
    transfers: JsonValue = None
    """Of a retrieval: what became of its instances."""
    alerted: set[str] = field(default_factory=set)
    """Custodians of whom the privacy officers know by now that this question stands on a grant."""

    def disclose_only(self, page: Sequence[Match]) -> None:
        """Take out of the record what lies beyond the page: it was not disclosed."""
        uids = {match.sop_uid or match.series_uid or match.study_uid for match in page}
        for verdict in self.verdicts:
            verdict.disclosed = [uid for uid in verdict.disclosed if uid in uids]

    def disclose_only_series(self, uids: Collection[str]) -> None:
        """Take out of a retrieval's record the series of which nothing was asked."""
        for verdict in self.verdicts:
            verdict.disclosed = [uid for uid in verdict.disclosed if uid in uids]


def source_record(parts: Sequence[Part], judgement: Judgement, page: Sequence[Match]) -> list[JsonValue]:
    """What became of every trust, as the audit keeps it."""
    conflicts = Counter(row.trust for conflict in judgement.conflicts for row in conflict.rows)
    in_copies = [match for match in page if match.study_uid and (match.versions or len(match.holders) > 1)]
    return [
        {
            "trust": part.trust.code,
            "state": part.state.value,
            "rows": part.rows,
            "conflicts": conflicts[part.trust],
            "duration_ms": round(part.duration_s * 1000, 1),
            **({"reason": part.reason.value} if part.reason is not None else {}),
            **_copies(part.trust, in_copies),
        }
        for part in parts
    ]


def _copies(trust: TrustId, in_copies: Sequence[Match]) -> dict[str, JsonValue]:
    """Of the studies that came in copies: those shown as here, and those of which the header here differs (SAF-35)."""
    shown = dict.fromkeys(match.study_uid for match in in_copies if match.shown_from == trust)
    versions = dict.fromkeys(match.study_uid for match in in_copies if trust in match.versions)
    return {key: list(uids) for key, uids in (("shown", shown), ("versions", versions)) if uids}
