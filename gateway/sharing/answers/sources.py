"""What an answer says of every trust: its state and desk, what agreements cover, why it was not asked (SAF-07, SAF-09).

Found, none and withheld come this way alike: nothing here hangs on what exists, nor on a register's entry of a patient
(SAF-02). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.model.errors import PeerError
from gateway.model.imaging import NotAskedReason, Source, SourceState
from gateway.sharing.directory import Directory
from gateway.sharing.merge import Candidate, Part
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.scope import Scope
from policy.agreements import Coverage
from policy.parties import TrustId

DESKS_NAMED_MAX = 10
"""Desks named in one refusal."""

_HEARD = frozenset({SourceState.ANSWERED, SourceState.TRUNCATED})


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a question reaches."""

    coverage: Mapping[TrustId, Coverage]
    """Every trust that the question is for, with what it ever shows the caller."""
    connected: frozenset[TrustId]
    """The trusts that have an archive behind a connector."""
    down: Mapping[TrustId, str] = field(default_factory=dict)
    """The trusts that are down by plan, with their words."""
    beyond: frozenset[TrustId] = frozenset()
    """The trusts behind another gateway, where the question came from one: each answers for its own alone (DEC-01)."""

    @property
    def sharing(self) -> frozenset[TrustId]:
        """The trusts that share anything with the caller."""
        return frozenset(trust for trust, extent in self.coverage.items() if not extent.is_nothing)

    @property
    def askable(self) -> frozenset[TrustId]:
        """Those of them that can be asked."""
        return (self.sharing & self.connected) - self.down.keys() - self.beyond

    def not_asked(self, asked: frozenset[TrustId]) -> tuple[Part, ...]:
        """The trusts that would share and are not asked: down by plan, another gateway's, no archive, no number."""
        return tuple(
            Part(trust, SourceState.NOT_ASKED, reason=self._reason(trust)) for trust in sorted(self.sharing - asked)
        )

    def _reason(self, trust: TrustId) -> NotAskedReason:
        if trust in self.down:
            return NotAskedReason.PLANNED_DOWNTIME
        if trust in self.beyond:
            return NotAskedReason.BEHIND_GATEWAY
        return NotAskedReason.NO_LINKED_NUMBER if trust in self.connected else NotAskedReason.NO_ARCHIVE


def sources_of(
    directory: Directory,
    reach: Reach,
    parts: Sequence[Part],
    conflicting: Collection[TrustId],
    extents: Mapping[TrustId, frozenset[str] | None],
    held: Collection[TrustId] = (),
) -> tuple[Source, ...]:
    """Every trust's part, by ODS code. `extents`: what the gateways in front of trusts say to show the caller's.

    `held` are the trusts of which something is shown that this gateway holds in their stead.
    """
    told = {part.trust: part for part in parts}
    sources = []
    for trust, coverage in sorted(reach.coverage.items()):
        entry, part = directory.trust(trust), told.get(trust, Part(trust, SourceState.NOT_SHARED))
        shared, state = _both(coverage.modalities, extents.get(trust)), part.state
        if shared is not None and not shared and state is SourceState.ANSWERED:
            state = SourceState.NOT_SHARED
        modalities = None if shared is None else tuple(sorted(shared))
        told_of = (modalities, trust in conflicting, part.reason, reach.down.get(trust, ""), trust in held)
        sources.append(Source(trust, entry.name, state, entry.desk_phone, *told_of))
    return tuple(sources)


def as_shown(
    parts: Sequence[Part], if_empty: Sequence[Part], scope: Scope, shown: Collection[Candidate]
) -> tuple[Part, ...]:
    """The parts as a caller may see them; `if_empty` are those of an answer without rows.

    A cut in the rows of one study that is hidden says that there is such a study, so the trust looks as it does when it
    has nothing. A cut behind rows that were not asked for is told: what was asked for may lie behind it.
    """
    if scope.patient is not None or len(scope.study_uids) != 1:
        return tuple(parts)
    seen = {row.trust for row in shown}
    states = {part.trust: part.state for part in if_empty}
    return tuple(
        replace(part, state=states.get(part.trust, part.state))
        if part.state is SourceState.TRUNCATED and part.is_all_to_the_point and part.trust not in seen
        else part
        for part in parts
    )


def in_part(parts: Iterable[Part], unread: Collection[TrustId]) -> tuple[Part, ...]:
    """The parts, where this gateway holds something of these trusts that it cannot look at: no answer of theirs is
    whole then, whoever was asked for."""
    return tuple(
        replace(part, state=SourceState.TRUNCATED)
        if part.trust in unread and part.state is SourceState.ANSWERED
        else part
        for part in parts
    )


def check_somebody_answered(directory: Directory, parts: Sequence[Part], sources: tuple[Source, ...]) -> None:
    """Nobody answered although somebody was asked: no list at all is better than an empty one. Raises `PeerError`."""
    if parts and not any(part.state in _HEARD for part in parts):
        raise _failure(directory, parts, tuple(source for source in sources if source.state.is_missing))


def _failure(directory: Directory, parts: Sequence[Part], missing: tuple[Source, ...]) -> PeerError:
    first = parts[0]
    # Asking again cannot help: the asking gateway has to ask the other one itself.
    is_refused = first.reason is NotAskedReason.BEHIND_GATEWAY
    desks = "; ".join(directory.desk(part.trust) for part in parts[:DESKS_NAMED_MAX])
    answer = TrustAnswer(first.trust, SourceState.REFUSED if is_refused else first.state)
    return answer.failure(f"no trust that was asked could answer; ring {desks}", missing)


def _both(ours: frozenset[str] | None, theirs: frozenset[str] | None) -> frozenset[str] | None:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    return ours & theirs
