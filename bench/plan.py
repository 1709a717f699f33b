"""How long and how often: what a whole run and a quick run differ in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Say = Callable[[str], None]
"""Where a benchmark tells of its progress."""

_Measured = TypeVar("_Measured")


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
    instances: int
    """C-STORE: how many CT instances, or small ones, go out in one turn."""
    few_instances: int
    """The same for contenders that are slower by tens."""
    idle_associations: int
    located_patients: int
    """In the location index."""
    fan_out: tuple[int, int, int]
    """How many trusts are asked: few, some, many."""
    fan_out_questions: int
    """To each gateway in one turn."""
    opening_s: float
    """How long a gateway that has just met a stalled trust is watched."""
    merged_rows: int
    cached_objects: int
    """In the study cache when it opens."""
    queued_jobs: int
    claimed_jobs: int
    """In one turn, by all processes together."""
    passing_instances: int
    """Of 8 MB, in the large study that passes; and frames, in the large instance."""
    growing: tuple[int, ...]
    """Instances of studies whose cost is compared."""


WHOLE = Effort(
    rounds=7,
    slice_s=3.0,
    large_archive_studies=10_000,
    queries_before=1_000,
    queries_after=10_000,
    instances=500,
    few_instances=60,
    idle_associations=300,
    located_patients=5_000_000,
    fan_out=(3, 30, 100),
    fan_out_questions=8,
    opening_s=60.0,
    merged_rows=10_000,
    cached_objects=100_000,
    queued_jobs=100_000,
    claimed_jobs=400,
    passing_instances=240,
    growing=(10, 100, 1_000, 10_000),
)
QUICK = Effort(
    rounds=5,
    slice_s=0.5,
    large_archive_studies=0,
    queries_before=1_000,
    queries_after=2_500,
    instances=200,
    few_instances=40,
    idle_associations=300,
    located_patients=200_000,
    fan_out=(3, 30, 100),
    fan_out_questions=4,
    opening_s=20.0,
    merged_rows=10_000,
    cached_objects=20_000,
    queued_jobs=100_000,
    claimed_jobs=200,
    passing_instances=60,
    growing=(10, 100, 1_000, 10_000),
)
TINY = Effort(
    rounds=1,
    slice_s=0.02,
    large_archive_studies=0,
    queries_before=20,
    queries_after=40,
    instances=8,
    few_instances=4,
    idle_associations=10,
    located_patients=1_200,
    fan_out=(2, 8, 24),
    fan_out_questions=2,
    opening_s=0.0,
    merged_rows=1_000,
    cached_objects=200,
    queued_jobs=2_000,
    claimed_jobs=8,
    passing_instances=2,
    growing=(2, 4, 8, 16),
)
"""Only to show that a benchmark runs; its figures mean nothing."""


def in_turns(turns: Mapping[str, Callable[[], _Measured]], rounds: int) -> dict[str, list[_Measured]]:
    """What each contender's turns came to. The first round warms up and is dropped.

    The order moves on by one each round, so that a burst of other work on the machine meets all alike.
    """
    names = list(turns)
    measured: dict[str, list[_Measured]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            outcome = turns[name]()
            if number:
                measured[name].append(outcome)
    return measured
