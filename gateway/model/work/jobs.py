"""Durable work in words: a job, its lane, its life, and what a failure of it means.

A job is a row; whoever runs it holds a lease and may lose it, so a handler may run twice and must come to the same end
(at least once). Knows no table and no task. The life:

    ready -> running -> done
      ^         |-----> failed       for good: attempts spent, or a failure that trying again cannot mend
      |---------|                    a transient failure, a lease that ended, a node that was stopped
    ready, running -> cancelled      by a person, or by whoever no longer wants it
    failed, cancelled -> ready       by a person (retry)
    running -> ready                 at its end, whichever it is, if it was asked for again since it began
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from types import MappingProxyType

from gateway.model.imaging import JsonValue


class Lane(IntEnum):
    """How urgent a job is; the lower overtakes the higher."""

    EMERGENCY = 0
    INTERACTIVE = 1
    """Somebody waits for it."""
    MEETING = 2
    BACKGROUND = 3

    @property
    def word(self) -> str:
        """As people read and type it."""
        return self.name.lower()


class JobState(StrEnum):
    """Where a job is in its life."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Whether it has still to come to its end."""
        return self in (JobState.READY, JobState.RUNNING)


class FailureKind(StrEnum):
    """What helps."""

    TRANSIENT = "transient"
    """Time: it is tried again by itself."""
    PERMANENT = "permanent"
    """A person: the job, its data or a configuration is wrong."""
    POLICY = "policy"
    """Nobody here: it may not be done. Never counted as an error."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; a total of None is not known yet."""

    instances_done: int = 0
    instances_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None

    def remaining_s(self, elapsed_s: float) -> float | None:
        """Seconds to the end at the pace so far; None while that cannot be said."""
        for done, total in ((self.bytes_done, self.bytes_total), (self.instances_done, self.instances_total)):
            if total is not None and done > 0 and elapsed_s > 0:
                return max(0, total - done) * elapsed_s / done
        return None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued."""

    kind: str
    lane: Lane
    detail: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))
    """What the handler needs: identifiers, never names or text of a patient."""
    dedupe_key: str = ""
    """Of all open jobs of one key there is one; empty: no other is like it. One that is being cancelled runs again."""
    follows_running: bool = False
    """Whether one of its key that runs is to run again: it may have looked before the reason for this one came."""
    patient_row: str = ""
    """The internal row of the patient whom it is about, so that an opt-out finds it."""
    run_at: datetime | None = None
    """Not before; None: now."""
    attempts_max: int = 8


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands."""

    job_id: str
    kind: str
    lane: Lane
    state: JobState
    detail: Mapping[str, JsonValue]
    patient_row: str
    run_at: datetime
    attempts: int
    attempts_max: int
    created_at: datetime
    owner: str = ""
    """The runner that has it, or had it last."""
    lease_until: datetime | None = None
    started_at: datetime | None = None
    """When its present or latest attempt began."""
    ended_at: datetime | None = None
    is_cancel_requested: bool = False
    failure: FailureKind | None = None
    """Of the latest attempt that failed."""
    words: str = ""
    """Why it failed or was cancelled; safe to show."""
    progress: Progress = Progress()

    @property
    def claim(self) -> Claim:
        """The right to speak for it, as long as nobody else took it."""
        return Claim(self.job_id, self.owner, self.attempts)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who runs a job, in which attempt: a runner that lost its lease speaks for an attempt that is over (fencing)."""

    job_id: str
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """What became of a job to be queued."""

    job_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class RetryTerms:
    """How long a job that failed waits: longer each time, and never longer than the longest."""

    first_s: float = 5.0
    max_s: float = 900.0

    def pause(self, attempts: int) -> timedelta:
        """The pause behind this many attempts."""
        return timedelta(seconds=min(self.max_s, self.first_s * 2.0 ** min(max(0, attempts - 1), 32)))


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many jobs one node runs at once, and how many of these places are kept for the more urgent lanes."""

    at_once_max: int = 16
    reserved: Mapping[Lane, int] = field(
        default_factory=lambda: MappingProxyType({Lane.EMERGENCY: 4, Lane.INTERACTIVE: 4, Lane.MEETING: 2})
    )

    def __post_init__(self) -> None:
        if sum(self.reserved.values()) >= self.at_once_max:
            raise ValueError("something has to be left for the last lane")

    def free(self, running: Mapping[Lane, int], lane: Lane) -> int:
        """How many more jobs of a lane may start: places that are neither taken nor kept for a more urgent one."""
        kept = sum(max(0, places - running.get(urgent, 0)) for urgent, places in self.reserved.items() if urgent < lane)
        return max(0, self.at_once_max - sum(running.values()) - kept)
