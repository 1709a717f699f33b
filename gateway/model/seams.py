"""The seams: what the core needs from the outside, as protocols with few methods.

A protocol stands here when the core must not import what is behind it. Every implementation passes the same contract
suite in `tests/contracts/`. `decide()` is a function, not a seam: there is nothing to fake.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.model.audit import AuditEntry, AuditRecord
from gateway.model.imaging import Attributes, JsonValue, Query
from gateway.model.locations import Knowledge, PeerStanding, Sighting, Told
from gateway.model.work.transfers import Fetcher
from policy.facts import Facts
from policy.parties import NhsNumber, PatientId, PurposeOfUse, TrustId


class Clock(Protocol):
    """Time as a value handed in. Tests own it."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; for durations and deadlines."""

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock."""


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """One question for one peer: the query in the peer's terms, and what travels with it (DEC-01)."""

    query: Query
    request_id: str
    hops: int
    matches_max: int
    asking_trust: TrustId | None = None
    """For which trust it is asked, as only another gateway is told; None: for nobody but this gateway itself."""
    purpose: PurposeOfUse = PurposeOfUse.TREAT
    """Told with the trust."""


@dataclass(frozen=True, slots=True)
class ToldByGateway:
    """What another gateway says of the trust that it was asked for, beside its rows (DEC-01)."""

    shared_modalities: frozenset[str] | None = None
    """The only modalities that it ever shows the asking trust, whoever the patient; None: any (SAF-07)."""
    has_identity_conflict: bool = False
    """Something there could not be shown because identity details differ (SAF-08)."""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """A peer's rows as it sent them, not yet believed; `is_truncated` if it, or our limit, cut them."""

    rows: Sequence[Attributes]
    is_truncated: bool = False
    told: ToldByGateway | None = None
    """Of an answer by another gateway."""


class Observer(Protocol):
    """Who counts what happens: figures by trust, rule and state, never a patient."""

    def question_answered(self, outcome: str, duration_s: float) -> None:
        """A caller's question ended: `answered`, `hidden`, `cancelled`, or the class name of the error."""

    def peer_answered(self, trust: TrustId, state: str, duration_s: float) -> None:
        """A peer's part ended in a `SourceState`."""

    def peer_sent(self, trust: TrustId, state: str, duration_s: float) -> None:
        """A peer was asked for images: `sent`, `cancelled`, or the `SourceState` that its failure comes to."""

    def decided(self, custodian: TrustId | None, rule: str, effect: str) -> None:
        """A rule found something in a decision about this trust's imaging; None: about a question as a whole."""

    def audit_appended(self, duration_s: float) -> None:
        """An audit record became durable."""

    def register_fault(self, register: str) -> None:
        """A register could not be believed."""


class PeerConnector(Fetcher, Protocol):
    """One trust's archive, over whatever protocol it speaks. Fails with `PeerError`; never retries (peers does)."""

    @property
    def trust(self) -> TrustId:
        """Whose archive this is."""

    async def find(self, request: PeerRequest) -> PeerAnswer:
        """Ask; raises `PeerError`. The deadline is the caller's `asyncio.timeout`."""

    async def close(self) -> None:
        """Give up pooled connections; idempotent."""


@dataclass(frozen=True, slots=True)
class FactsSnapshot:
    """The registers' facts for several patients and one recipient, from one snapshot of the store."""

    register_version: int
    unpinned: Facts
    """What is known when no patient is: agreements with the recipient, and faults."""
    by_patient: Mapping[NhsNumber, Facts]


@dataclass(frozen=True, slots=True)
class LinkedNumber:
    """A hospital's number of a person, and who said that it is theirs."""

    patient_id: PatientId
    source: str
    """A trust's ODS code where that trust's own feed or file said so (SAF-34); else whatever recorded it."""


@dataclass(frozen=True, slots=True)
class CrossReference:
    """Every identifier of one person, over confirmed merges (SAF-33)."""

    number: NhsNumber | None
    """The NHS number that survived the others; None while nobody knows one."""
    status: str = ""
    """How far that number is verified, `01` to `08` (domain.md C1); empty: nobody recorded it."""
    former: frozenset[NhsNumber] = frozenset()
    """NHS numbers that it superseded."""
    local: tuple[LinkedNumber, ...] = ()


STUDY_OF_TWO_PATIENTS = "study-uid-of-two-patients"
"""The kind of `QualityItem` that keeps its study from everybody until it is resolved (SAF-08)."""


RECEIVED_AND_WITHDRAWN = "received-images-withdrawn"
"""The kind of `QualityItem` that tells a trust that images which it received are no more at their source (SAF-37)."""


CONTENT_DIFFERS = "instance-content-differs"
"""The kind of `QualityItem` for one UID with two contents (SAF-35)."""


SENT_OTHERWISE = "archive-sends-otherwise"
"""The kind of `QualityItem` for an archive that lists what it does not send, or sends what nobody asked it for."""


SOLE_COPY = "sole-copy"
"""The kind of `QualityItem` for a study that its custodian's archive does not commit itself to (SAF-21)."""


@dataclass(frozen=True, slots=True)
class QualityItem:
    """Something that a custodian must put right; never shown to callers with its content (SAF-08)."""

    kind: str
    custodian: TrustId
    study_uid: str
    patient: NhsNumber | None
    detail: Mapping[str, JsonValue]
    occasion: str = ""
    """Tells it apart from other items of its kind about the same study, where each of them has to be seen."""


class TraceState(StrEnum):
    """What a service of demographics or cross-references made of an identifier."""

    FOUND = "found"
    SUPERSEDED = "superseded"
    """The NHS number has given way to another, as PDS alone may say (SAF-33)."""
    UNKNOWN = "unknown"
    """It has nobody of this identifier."""
    INVALIDATED = "invalidated"
    """The NHS number was taken back, and none stands in its place (C2)."""
    FAILED = "failed"
    """It could not be asked, or its answer could not be believed: as if it had not been asked."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a service says of the person behind an identifier. Demographics are kept no longer than the cache lives."""

    state: TraceState
    number: NhsNumber | None = None
    """The person's NHS number, the surviving one."""
    surnames: frozenset[str] = frozenset()
    """As written: the present one, and those that the person had before."""
    local: tuple[PatientId, ...] = ()


class PatientLookup(Protocol):
    """A service that knows more of patients than the registers here: PDS, a PIX. Never raises: see `TraceState`."""

    @property
    def name(self) -> str:
        """Stands as the source of what it says."""

    async def trace(self, identifier: PatientId, request_id: str) -> Trace:
        """Ask for the person behind an NHS number (issuer `NHS`) or a hospital's number."""

    async def close(self) -> None:
        """Give up pooled connections; idempotent."""


class SupersessionBook(Protocol):
    """Where it is recorded that one NHS number superseded another."""

    async def supersede(self, former: NhsNumber, survivor: NhsNumber, *, source: str, request_id: str) -> None:
        """Join the two, unless they are joined already or staff has parted them; raises a `ServiceFault`."""


class Store(Protocol):
    """What the core asks of the store. One snapshot per read; a write returns only when it is durable (DEC-11)."""

    async def facts(
        self,
        recipient: TrustId,
        patients: Sequence[NhsNumber],
        *,
        at: datetime,
        known_at: datetime | None = None,
    ) -> FactsSnapshot:
        """Read the facts that may matter at `at`, as they were known at `known_at` (None: now).

        A register that cannot be read, is too old, or does not answer in time becomes a fault in `Facts.faults`, the
        same for every patient; raises `StoreUnavailable` only when nothing can be read at all.
        """

    async def cross_references(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        """The people whom these identifiers lead to, NHS numbers under the issuer `NHS`; others are left out.

        Raises `StoreUnavailable` when that cannot be read in time.
        """

    async def patient_row(self, identifier: PatientId) -> str:
        """The internal row of a patient, made if there is none yet: whose keys seal their images. Raises
        `StoreUnavailable`.
        """

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        """The internal rows of whom these identifiers lead to, over confirmed merges; none is made. Raises
        `StoreUnavailable`.
        """

    async def register_version(self) -> int:
        """The number that every register write raises (DEC-12); raises `StoreUnavailable`."""

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """Append to this node's chain; returns when durable, raises `AuditUnavailable`."""

    async def report_quality(self, items: Sequence[QualityItem], at: datetime) -> None:
        """Record data-quality items; an item that is open already is not doubled. Raises `StoreUnavailable`."""


class LocationIndex(Protocol):
    """Where a patient's imaging was seen (SAF-05). Knows much, proves nothing, and is never waited for to learn."""

    async def known(self, patient: NhsNumber) -> Knowledge:
        """What is known of a patient, by this number; raises `ServiceFault`."""

    def note(self, sightings: Sequence[Sighting]) -> None:
        """Remember, some time soon. Returns at once and never fails: what does not fit is forgotten."""


class NoticeBook(Protocol):
    """Where it is kept what trusts told of by themselves, until it is known whose it is. Raises `StoreUnavailable`."""

    async def heard(self, trust: TrustId, at: datetime, sightings: Sequence[Sighting] = ()) -> None:
        """Note that a trust's feed was heard, and what was learnt by it; returns when that is durable."""

    async def told(self, trust: TrustId, study_uid: str, at: datetime, waiting_max: int) -> None:
        """Note that it told of a study, or with an empty UID of something that could not be read; returns when durable.

        Raises `OverCapacity` where so many of the trust's studies wait already. In either of these two cases the trust
        is left unsettled (`Knowledge`) until that lapses.
        """

    async def claim(self, count_max: int, until: datetime) -> list[Told]:
        """Those that are due; nobody else is given them before `until`."""

    async def defer(self, told: Sequence[Told], until: datetime, *, is_try: bool) -> None:
        """Leave them until then; `is_try`: the trust was asked, and does not show them yet."""

    async def settle(self, told: Told, sightings: Sequence[Sighting]) -> None:
        """Write down what was learnt of one, and take it off the list, in one go."""

    async def lapse(self, before: datetime) -> int:
        """Forget what was told before then; how many those were."""

    async def waiting(self) -> Mapping[TrustId, int]:
        """How many wait, of each trust that has any."""


class SampleBook(Protocol):
    """What the choice of whom to sample hangs on. Raises `StoreUnavailable`."""

    async def feeds(self) -> Mapping[TrustId, datetime]:
        """When each trust's feed was last heard."""

    async def least_checked(
        self, trusts: Collection[TrustId], after: str, count_max: int
    ) -> tuple[list[NhsNumber], str]:
        """Whom these trusts were longest not asked for, and where to go on the next time; `after` is that place."""


class StandingBook(Protocol):
    """Where the standing of peers outlives the process (C1)."""

    def write_down(self, standing: PeerStanding) -> None:
        """Remember, some time soon; returns at once and never fails."""
