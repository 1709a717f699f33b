"""How long and how often: what a whole run and a quick run differ in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[[str], None]
"""Where a benchmark tells of its progress."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The size of a run. Rounds are interleaved between contenders; a figure is the median of its rounds."""

    rounds: int
    slice_s: float
    """One contender's turn in one round."""
    large_archive_studies: int
    """Orthanc once more with so many studies; 0: left out."""
    queries_before: int
    queries_after: int
    """When the gateway's memory is read."""


WHOLE = Effort(rounds=7, slice_s=3.0, large_archive_studies=10_000, queries_before=1_000, queries_after=10_000)
QUICK = Effort(rounds=5, slice_s=0.5, large_archive_studies=0, queries_before=1_000, queries_after=2_500)
TINY = Effort(rounds=5, slice_s=0.02, large_archive_studies=0, queries_before=20, queries_after=40)
"""Only to show that a benchmark runs; its figures mean nothing."""
