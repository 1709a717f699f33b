"""How long absence takes, so that an answer withheld by a register cannot be told from it (SAF-06).

Remembers how long recent empty answers took, by what each trust did in them, and draws from them. Every answer without
rows, real or withheld, then leaves on a coarse grid of milliseconds, so that the few microseconds by which the two
paths differ do not show. Bounded in samples and sets; randomness and time are handed in.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from gateway.model.imaging import SourceState
from policy.parties import TrustId

SAMPLES_MAX = 32
"""Few, so that a machine that turns slower or faster is followed within as many answers."""
PROFILES_MAX = 256
LATENESS_SAMPLES_MAX = 32
SAMPLES_WANTED = 8
"""With fewer samples of the very profile than this, each trust's own samples are drawn and the slowest taken."""

Profile = frozenset[tuple[TrustId, SourceState]]
"""What every trust asked did in one question: those that were late make absence slow, those left alone do not."""


class AbsenceDelays:
    """Recent durations of empty answers, in seconds."""

    def __init__(self, choose: Callable[[Sequence[float]], float]) -> None:
        self._choose = choose
        self._samples: OrderedDict[Profile, deque[float]] = OrderedDict()
        self._lateness: deque[float] = deque(maxlen=LATENESS_SAMPLES_MAX)

    def question_was_empty(self, profile: Profile, duration_s: float) -> None:
        """A whole question in which the trusts did this came back without rows after `duration_s`."""
        self._remember(profile, duration_s)

    def peer_was_empty(self, trust: TrustId, state: SourceState, duration_s: float) -> None:
        """One trust had no rows, or failed so, after `duration_s`; in answer to a caller or to a probe."""
        self._remember(frozenset({(trust, state)}), duration_s)

    def timer_was_late(self, lateness_s: float) -> None:
        """A sleep for the sake of absence ended so much after its time."""
        self._lateness.append(lateness_s)

    def draw(self, profile: Profile) -> float:
        """How long to sleep for what an empty answer with this profile takes; 0 when nothing is known of it.

        A busy loop wakes sleepers late, as it hears answers late: that is in the samples already, so it is taken off.
        """
        late_s = statistics.median(self._lateness) if self._lateness else 0.0
        return max(0.0, self._draw(profile) - late_s)

    def _draw(self, profile: Profile) -> float:
        whole = self._samples.get(profile)
        if whole is not None and len(whole) >= SAMPLES_WANTED:
            return self._choose(whole)
        parts = [self._samples.get(frozenset({part})) for part in profile]
        return max((self._choose(samples) for samples in parts if samples), default=0.0)

    def _remember(self, profile: Profile, duration_s: float) -> None:
        samples = self._samples.get(profile)
        if samples is None:
            samples = self._samples[profile] = deque(maxlen=SAMPLES_MAX)
            if len(self._samples) > PROFILES_MAX:
                self._samples.popitem(last=False)
        samples.append(duration_s)
        self._samples.move_to_end(profile)


def next_on_grid(elapsed_s: float, grid_ms: int) -> float:
    """Seconds still to wait until the next multiple of the grid after `elapsed_s`."""
    grid_s = grid_ms / 1000
    return math.ceil(elapsed_s / grid_s) * grid_s - elapsed_s if grid_ms > 0 else 0.0
