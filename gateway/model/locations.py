"""What the gateway knows of where a patient's imaging is, and of how its peers fare, as plain values (SAF-05, C1, C7).

Knowledge of the region, never a fact of a register: no decision about access reads it, and losing all of it costs only
questions. What follows from it is `gateway.sharing.locate`; where it is kept is behind `gateway.model.seams`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gateway.model.imaging import SourceState
from policy.parties import NhsNumber, TrustId


class SeenBy(StrEnum):
    """How something became known."""

    ANSWER = "answer"
    """A peer's answer to somebody's question."""
    NOTIFICATION = "notification"
    """The trust said so by itself (Instance Availability Notification, PS3.4 R)."""
    SAMPLE = "sample"
    """We asked for the sake of knowing."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was learnt of one patient at one trust."""

    patient: NhsNumber
    trust: TrustId
    at: datetime
    by: SeenBy
    has_imaging: bool | None
    """None: nothing was learnt, it is only a check (below)."""
    is_check: bool
    """Whether from here on the trust counts as lately asked.

    That never hangs on what exists or on what a register says, only on what was asked: see `gateway.sharing.locate`.
    """


@dataclass(frozen=True, slots=True)
class Notice:
    """What a trust's system tells of a study by itself (PS3.4 R). It names no patient."""

    study_uid: str
    instances: int
    """Of which it tells."""
    is_available: bool
    """Whether any of them can be had, now or after a while."""


@dataclass(frozen=True, slots=True)
class Told:
    """A study that a trust told of, and of which it is not known yet whose it is."""

    trust: TrustId
    study_uid: str
    told_at: datetime
    tries: int = 0
    """How often the trust was asked and did not show it."""


@dataclass(frozen=True, slots=True)
class Location:
    """What is known of one patient at one trust, whenever it was learnt."""

    present_at: datetime | None = None
    present_by: SeenBy | None = None
    absent_at: datetime | None = None
    absent_by: SeenBy | None = None
    checked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of one patient, and which trusts have lately been heard to tell of news."""

    locations: Mapping[TrustId, Location] = field(default_factory=dict)
    feeds: Mapping[TrustId, datetime] = field(default_factory=dict)
    """When each trust's feed was last heard, by a notification or a heartbeat."""
    unsettled: frozenset[TrustId] = frozenset()
    """Trusts that told of a study of which nobody knows yet whose it is: it may be this patient's."""
    identity_changed_at: datetime | None = None
    """When the patient was last merged, parted, or given or denied a hospital's number: what is older was asked for by
    other numbers than now, or of half a person."""


@dataclass(frozen=True, slots=True)
class PeerStanding:
    """How a peer fares, to be remembered beyond the process (C1)."""

    trust: TrustId
    failures: int
    """In a row."""
    paused_until: datetime | None
    last_state: SourceState
    empty_state: SourceState
