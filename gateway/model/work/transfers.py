"""Images on their way in words: what is wanted, what a peer sends, what the sealed cache keeps, and who keeps it.

An instance travels as the bytes of its encoded data set, without file meta information, in order and in pieces: nobody
on the road holds a whole one, and nobody parses it to pass it on. The cache answers to these seams and knows no wire,
the fetchers know no cache. Permission is asked at every hand-out, never here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from gateway.model.errors import GatewayError
from gateway.model.imaging import Level
from gateway.model.work.precedence import Urgency
from policy.parties import PurposeOfUse, TrustId


@dataclass(frozen=True, slots=True)
class Target:
    """What a caller wants: one study, some of its series, or some instances of one series."""

    level: Level
    study_uid: str
    series_uids: tuple[str, ...] = ()
    sop_uids: tuple[str, ...] = ()

    def names(self, ref: InstanceRef) -> bool:
        """Whether an instance is part of it."""
        return (
            ref.study_uid == self.study_uid
            and (not self.series_uids or ref.series_uid in self.series_uids)
            and (not self.sop_uids or ref.sop_uid in self.sop_uids)
        )


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """Which instance: its place in its study, and of what kind it is."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One errand to one trust: everything of a target, or, where `refs` are given, these instances alone."""

    trust: TrustId
    target: Target
    request_id: str
    hops: int
    refs: tuple[InstanceRef, ...] = ()
    asking_trust: TrustId | None = None
    """For which trust it is fetched, as only another gateway is told; None: for nobody but this gateway itself."""
    purpose: PurposeOfUse = PurposeOfUse.TREAT
    """Told with the trust."""
    sop_classes: frozenset[str] = frozenset()
    """Of what is wanted, as far as it is known; empty: any."""
    urgency: Urgency = field(default_factory=Urgency, compare=False)


class Taking(Protocol):
    """One instance on its way in, in the hands of whoever reads it from a wire."""

    def add(self, piece: bytes | memoryview) -> None:
        """The next bytes of the encoded data set; taken over at once. Raises `InvalidRequest` as soon as they show that
        this is not the instance that was announced. Whoever adds much awaits `drain` in between.
        """

    async def drain(self) -> None:
        """Return once little enough waits to be written; raises `StoreUnavailable`."""

    async def keep(self) -> None:
        """Every byte is there: durable when this returns. Raises `InvalidRequest`, `Conflicting`, `ServiceFault`."""


class Intake(Protocol):
    """Where instances go that come over a wire, one or several at a time."""

    def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AbstractAsyncContextManager[Taking]:
        """Take one in; leaving without `keep` leaves nothing. Raises `Unwanted` for one that nobody waits for, or what
        refuses it for other reasons (`Denied`, `OverCapacity`, `StoreUnavailable`).
        """


class Fetcher(Protocol):
    """Brings instances from one trust's archive, over whatever protocol it speaks. Never retries."""

    async def fetch(self, request: FetchRequest, intake: Intake) -> None:
        """Ask for them and put each into `intake` as it comes; returns once the archive says that it sent everything.

        What `intake` refuses is answered to the archive as a failure of that instance alone. Raises `PeerError`, also
        where the archive says that it could not send all; what came before is kept. May raise the intake's own
        `StoreUnavailable`, where going on would bring what cannot be kept. Cancelling stops what the archive still does
        for it.
        """


class KeyDomain(StrEnum):
    """For what a copy is kept. Each has keys of its own, so that an opt-out can end one without the others (SAF-20)."""

    CACHE = "cache"
    PUSH = "push"
    RELEASE = "release"


class CacheClass(StrEnum):
    """Why a study is kept, and so by which quota and how long."""

    INTERACTIVE = "interactive"
    MEETING = "meeting"
    APPOINTMENT = "appointment"
    PUSH = "push"


class Standing(StrEnum):
    """What an instance in the cache is good for."""

    CURRENT = "current"
    """It is handed out."""
    SUPERSEDED = "superseded"
    """Another header of the same content is handed out in its place (SAF-35)."""
    QUARANTINED = "quarantined"
    """Handed out to nobody: damaged, or in conflict with another of the same UID."""


@dataclass(frozen=True, slots=True)
class ReceivedHead:
    """What is known of an instance before its first byte."""

    ref: InstanceRef
    transfer_syntax: str
    source: TrustId
    custodian: TrustId
    patient_row: str
    """The patient's internal row: whose key seals it."""
    domain: KeyDomain = KeyDomain.CACHE
    cache_class: CacheClass = CacheClass.INTERACTIVE
    study_date: date | None = None
    is_sole_copy: bool = False
    """Nobody else is known to hold it (SAF-21)."""
    is_waited_for: bool = False
    """Somebody is going to read it as soon as it is kept."""


@dataclass(frozen=True, slots=True)
class Described:
    """What reading an instance on its way told of it."""

    has_pixels: bool = False
    content_digest: bytes = b""
    """Of pixels, bulk data and SR content alone: tells another header from another content (SAF-35)."""
    metadata: bytes = b""
    """Its DICOM JSON, kept sealed with it."""


UNREAD = Described()
"""Nobody read it."""


@dataclass(frozen=True, slots=True)
class CachedInstance:
    """An instance in the cache."""

    ref: InstanceRef
    transfer_syntax: str
    source: TrustId
    custodian: TrustId
    object_id: str
    plain_bytes: int
    digest: bytes
    """BLAKE2b-256 of the encoded data set."""
    version: int
    received_at: datetime
    domain: KeyDomain = KeyDomain.CACHE
    has_pixels: bool = False
    is_sole_copy: bool = False
    content_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class CachedStudy:
    """A study in the cache."""

    study_uid: str
    domain: KeyDomain
    cache_class: CacheClass
    held_bytes: int
    instances: int
    used_at: datetime
    pinned_until: datetime | None
    validated_at: datetime | None
    """When its set of instances was last compared with the holder's (SAF-37)."""


@dataclass(frozen=True, slots=True)
class SoleStudy:
    """A study that holds what nobody else is known to have."""

    sources: frozenset[TrustId]
    """The trusts that sent it."""
    change: int
    """Another number once more of it came."""


class Writing(Protocol):
    """One instance on its way into the cache."""

    def add(self, piece: bytes | memoryview) -> None:
        """The next bytes; they are sealed at once. Whoever adds much awaits `drain` in between."""

    async def drain(self) -> None:
        """Return once little enough waits to be written; raises `StoreUnavailable` when it cannot be."""

    def finish(self) -> bytes:
        """Its digest, now that every byte is there; nothing is kept yet, and nothing can be added any more."""

    async def commit(self, described: Described = UNREAD, standing: Standing = Standing.CURRENT) -> CachedInstance:
        """Keep it; durable when this returns. One that is there already, byte for byte, is returned as it stands.

        `CURRENT` takes the place of one with other bytes, which is superseded. Raises `StoreUnavailable` when it could
        not be kept (disk full or failed, key withdrawn), `InvalidRequest` for a study that is another patient's.
        """


class StudyCache(Protocol):
    """Studies at rest, sealed. Knows no permission: whoever opens an instance was allowed to."""

    def put(self, head: ReceivedHead) -> AbstractAsyncContextManager[Writing]:
        """Take an instance in; leaving without a commit leaves nothing."""

    async def instances(self, study_uid: str, domain: KeyDomain = KeyDomain.CACHE) -> Sequence[CachedInstance]:
        """What is handed out of a study, by series and instance; empty for one that is not kept or whose key closed."""

    async def instance(
        self, study_uid: str, sop_uid: str, domain: KeyDomain = KeyDomain.CACHE
    ) -> CachedInstance | None:
        """The one of this UID that is handed out; None: none is."""

    async def stand(self, instance: CachedInstance, standing: Standing, why: str) -> None:
        """It is good for something else from now on; what was `CURRENT` is superseded by one that becomes so."""

    def open(
        self, instance: CachedInstance, first: int = 0, last: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Its bytes from `first` to `last`, both included. Raises `Damaged`; then it is quarantined.

        Verified by segments: whoever stops early has verified what was read.
        """

    async def read(
        self, instances: Sequence[CachedInstance], *, beginnings: bool = False
    ) -> Sequence[tuple[bytes, ...] | GatewayError]:
        """All bytes of each, in pieces, all opened together: for a few that are small. Or the `beginnings` alone, a
        quarter of a megabyte. What does not open stands there as what `open` would raise, and is quarantined where it
        is damaged.
        """

    async def metadata(self, instances: Sequence[CachedInstance]) -> Sequence[bytes]:
        """Their DICOM JSON in the same order, as it was given at the commit. Raises `Damaged`."""

    def using(self, study_uid: str) -> AbstractAsyncContextManager[None]:
        """As long as this is open, nothing of the study is evicted."""

    async def study(self, study_uid: str, domain: KeyDomain = KeyDomain.CACHE) -> CachedStudy | None:
        """What is known of a kept study."""

    async def validated(self, study_uid: str, at: datetime) -> None:
        """Note that its set of instances was the holder's at this instant."""

    def sole_studies(self) -> Mapping[str, SoleStudy]:
        """The studies that hold what nobody else is known to have (SAF-21), by UID; some may be closed. From memory: no
        question waits for it.
        """

    def sole_studies_of(self, patient_rows: Collection[str]) -> Sequence[str]:
        """Those of these patients, by UID."""

    async def unread_sources(self) -> frozenset[TrustId]:
        """The trusts of which it has such studies and can say nothing, because it is not open; for every patient alike.
        Raises nothing.
        """

    async def forget(self, study_uid: str, why: str) -> None:
        """Give a study up in all domains, except sole copies; `why` is for the log, without patient data."""

    async def shred(self, patient_row: str, domain: KeyDomain) -> None:
        """Nothing of a patient in this domain opens from now on; sole copies are kept for their custodian (SAF-21)."""


class StudyKeys(Protocol):
    """Where the keys of studies come from."""

    async def data_key(self, study_uid: str, patient_row: str, domain: KeyDomain) -> tuple[bytes, bytes]:
        """The id and the key that seal a patient's study in a domain, made if there is none yet."""

    async def key(self, key_id: bytes) -> bytes:
        """The key of this id; raises `KeyClosed` for one that is closed, destroyed or unknown."""

    async def key_even_closed(self, key_id: bytes) -> bytes:
        """The key of this id while there is one, so that what is kept is known; nothing is handed out by it.

        Raises `KeyClosed` for one that was destroyed, `Damaged` for one that was never made here or does not open.
        """

    async def close_patient(self, patient_row: str, domain: KeyDomain) -> None:
        """Withdraw a patient's keys of a domain: in every process, nothing of them opens any more."""

    async def keep_for_custodian(self, key_id: bytes, custodian: TrustId) -> None:
        """Let a key outlive its patient's, for the custodian of a sole copy alone (SAF-21)."""

    async def custodians_key(self, key_id: bytes, custodian: TrustId) -> bytes:
        """The key that is kept for this custodian; raises as `key`."""

    async def discard_kept(self, key_id: bytes) -> None:
        """Give up what was kept for a custodian, once it has its images back."""
