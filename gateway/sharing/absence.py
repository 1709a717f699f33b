"""How long absence takes, so that an answer withheld by a register cannot be told from it (SAF-06).

Remembers how long recent empty answers took, by what each trust did in them, and draws from them. Every answer without
rows, real or withheld, then leaves on a coarse grid of milliseconds, so that the few microseconds by which the two
paths differ do not show. Bounded in samples and sets; randomness and time are handed in.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence

from gateway.model.imaging import SourceState
from policy.parties import TrustId

SAMPLES_MAX = 32
"""Few, so that a machine that turns slower or faster is followed within as many answers."""
PROFILES_MAX = 256
LATENESS_SAMPLES_MAX = 32
SAMPLES_WANTED = 8
"""With fewer samples of the very profile than this, each trust's own samples are drawn and the slowest taken."""

TURN_FACTOR = 4.0
TURN_S_MIN = 0.1
"""A sample so many times longer or shorter than all remembered, and by so much, shows that the trust has turned."""

Profile = frozenset[tuple[TrustId, SourceState]]
"""What every trust asked did in one question: those that were late make absence slow, those left alone do not."""


class _Samples:
    """The durations of late, in seconds, and those of before the latest turn while it may still be a hiccup."""

    __slots__ = ("former", "recent")

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=SAMPLES_MAX)
        self.former: deque[float] = deque(maxlen=SAMPLES_MAX)

    def add(self, duration_s: float) -> bool:
        """Add a sample; whether it shows a turn. One that turns back shows that both are to be expected."""
        is_turn = _is_beyond(self.recent, duration_s)
        if is_turn and self.former and not _is_beyond(self.former, duration_s):
            self.recent = deque([*self.former, *self.recent], maxlen=SAMPLES_MAX)
            self.former.clear()
        elif is_turn:
            self.forget()
        self.recent.append(duration_s)
        if len(self.recent) >= SAMPLES_WANTED:
            self.former.clear()
        return is_turn

    def forget(self) -> None:
        """What was known is no longer so."""
        self.former, self.recent = self.recent, deque(maxlen=SAMPLES_MAX)


class AbsenceDelays:
    """Recent durations of empty answers, in seconds.

    A trust that turns slow or quick shows it to whoever asks for nothing; then what was remembered would tell the
    hidden from the absent, so it is laid aside at the first sign, a probe's included.
    """

    def __init__(self, choose: Callable[[Sequence[float]], float]) -> None:
        self._choose = choose
        self._samples: OrderedDict[Profile, _Samples] = OrderedDict()
        self._lateness: deque[float] = deque(maxlen=LATENESS_SAMPLES_MAX)

    def question_was_empty(self, profile: Profile, duration_s: float) -> None:
        """A whole question in which the trusts did this came back without rows after `duration_s`."""
        self._remember(profile, duration_s)

    def peer_was_empty(self, trust: TrustId, state: SourceState, duration_s: float) -> None:
        """One trust had no rows, or failed so, after `duration_s`; in answer to a caller or to a probe."""
        part = frozenset({(trust, state)})
        if self._remember(part, duration_s):
            for profile, samples in self._samples.items():
                if part < profile:
                    samples.forget()

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
        if whole is not None and len(whole.recent) >= SAMPLES_WANTED:
            return self._choose(whole.recent)
        parts = [self._samples.get(frozenset({part})) for part in profile]
        return max((self._choose(samples.recent) for samples in parts if samples and samples.recent), default=0.0)

    def _remember(self, profile: Profile, duration_s: float) -> bool:
        samples = self._samples.get(profile)
        if samples is None:
            samples = self._samples[profile] = _Samples()
            if len(self._samples) > PROFILES_MAX:
                self._samples.popitem(last=False)
        self._samples.move_to_end(profile)
        return samples.add(duration_s)


def _is_beyond(samples: Collection[float], duration_s: float) -> bool:
    if not samples:
        return False
    shortest_s, longest_s = min(samples), max(samples)
    return (duration_s > TURN_FACTOR * longest_s and duration_s - longest_s > TURN_S_MIN) or (
        duration_s * TURN_FACTOR < shortest_s and shortest_s - duration_s > TURN_S_MIN
    )


def next_on_grid(elapsed_s: float, grid_ms: int) -> float:
    """Seconds still to wait until the next multiple of the grid after `elapsed_s`."""
    grid_s = grid_ms / 1000
    return max(0.0, math.ceil(elapsed_s / grid_s) * grid_s - elapsed_s) if grid_ms > 0 else 0.0
