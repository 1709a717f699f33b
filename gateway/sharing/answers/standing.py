"""What is known of one peer between questions: how it fared, until when it is left alone, what it would do now.

After a few failures in a row a peer is left alone, longer each time. At the end of each pause one question finds out
whether it is up again, a probe's as a rule; meanwhile nobody else waits for it. Keeps no time of its own.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.model.imaging import SourceState
from gateway.model.locations import PeerStanding
from gateway.model.seams import PeerConnector
from gateway.model.settings import Limits
from policy.parties import PurposeOfUse, TrustId

_Asker = tuple[TrustId, PurposeOfUse]
_DOUBLINGS_MAX = 16


@dataclass(slots=True)
class Standing:
    """One peer's. Instants are of the monotonic clock."""

    connector: PeerConnector
    slots: asyncio.Semaphore
    failures: int = 0
    is_failing: bool = False
    """Whether it failed so often that it is left alone between two trials."""
    paused_until: float = 0.0
    trials: int = 0
    """Questions under way that find out whether it is up again."""
    last_state: SourceState = SourceState.ANSWERED
    """What it would do now with a question that it has nothing for."""
    empty_state: SourceState = SourceState.ANSWERED
    """What its latest answer without rows was: a gateway that misses one of its own trusts says so in these too."""
    heard_at: float = -math.inf
    """When its speaking to us last ended a pause."""
    written: PeerStanding | None = None
    """What was last written down."""
    extents: dict[_Asker, frozenset[str] | None] = field(default_factory=dict)
    """Of another gateway: the only modalities that it said to show each asker; None: any."""
    refused: set[TrustId] = field(default_factory=set)
    """The trusts for which another gateway lately answered nothing, whoever the patient."""

    def is_left_alone(self, now: float) -> bool:
        """Whether a caller's question is not to wait for it."""
        return self.is_failing and (self.trials > 0 or self.paused_until > now)

    def expected(self, asker: TrustId | None, now: float) -> SourceState:
        """What an empty answer of it to this asker would be now."""
        if self.is_left_alone(now):
            return SourceState.BACKING_OFF
        return SourceState.REFUSED if asker in self.refused else self.last_state

    def answered(self) -> None:
        """It answered: whatever was, it is up."""
        self.failures, self.is_failing, self.paused_until = 0, False, 0.0

    def failed(self, state: SourceState, limits: Limits, now: float) -> bool:
        """It failed; whether it is left alone from now on."""
        self.last_state = state
        if state is SourceState.REFUSED:
            # A peer that refuses us speaks to us: it is up, and backing off would not help it.
            self.answered()
            return False
        self.failures += 1
        excess = self.failures - limits.peer_failures_before_backoff
        if excess < 0:
            return False
        self.is_failing = True
        self.paused_until = now + min(
            limits.peer_backoff_first_s * 2.0 ** min(excess, _DOUBLINGS_MAX), limits.peer_backoff_max_s
        )
        return True

    def take_over(self, former: Standing) -> None:
        """Begin with what was known of the same peer before a reload."""
        self.failures, self.is_failing, self.paused_until = former.failures, former.is_failing, former.paused_until
        self.last_state, self.empty_state = former.last_state, former.empty_state
        self.heard_at, self.written = former.heard_at, former.written
        self.extents, self.refused = former.extents, former.refused

    def restore(self, kept: PeerStanding, limits: Limits, paused_until: float) -> None:
        """Begin with what was written down."""
        self.failures, self.paused_until = kept.failures, paused_until
        self.is_failing = kept.failures >= limits.peer_failures_before_backoff
        self.last_state, self.empty_state = kept.last_state, kept.empty_state
        self.written = kept

    def present(self, at: datetime, now: float) -> PeerStanding:
        """As it is written down."""
        pause_s = self.paused_until - now
        paused_until = at + timedelta(seconds=pause_s) if pause_s > 0 else None
        return PeerStanding(self.connector.trust, self.failures, paused_until, self.last_state, self.empty_state)
