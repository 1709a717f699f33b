"""A retrieval in words: what a caller wants to have, each instance on its way to them, and how far it is.

What is delivered was permitted to this caller at that moment; whoever hands out an instance says what became of it, and
only that word makes it delivered. Nothing here knows a wire, a table or a cache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.model.imaging import Level, Source
from gateway.model.work.jobs import Lane
from gateway.model.work.transfers import InstanceRef
from policy.parties import Caller, NhsNumber, TrustId


@dataclass(frozen=True, slots=True)
class Destination:
    """An application entity that images are sent to in place of the caller, and the organisation that runs it."""

    ae_title: str
    organisation: TrustId


@dataclass(frozen=True, slots=True)
class RetrieveWish:
    """What a caller asks to have, by the unique keys of its level and of those above (PS3.4 C.4.2, PS3.18 10.4)."""

    level: Level
    patient: NhsNumber | None = None
    """Level PATIENT alone."""
    patient_id: str = ""
    """A patient id that the caller sent as it stands, to be held to what is found; empty: none."""
    study_uids: tuple[str, ...] = ()
    series_uids: tuple[str, ...] = ()
    sop_uids: tuple[str, ...] = ()
    destination: Destination | None = None
    """None: the caller itself."""
    only_trust: TrustId | None = None
    """Of this trust's archive alone (`/dicom-web/trust/{ODS}/...`)."""
    lane: Lane = Lane.INTERACTIVE
    job_id: str = ""
    """The durable job that asks in the caller's name; empty: the caller itself does."""


NOT_KEPT = "there is no room to keep it, or it cannot be kept"
"""Why an instance failed in which its holder has no part."""


class InstanceState(StrEnum):
    """Where one instance of a retrieval stands."""

    PENDING = "pending"
    CACHED = "cached"
    """It is here, and not handed out yet."""
    SENT = "sent"
    WARNING = "warning"
    """Taken with a warning, which still is delivered (PS3.4 C.4.2.1.5)."""
    FAILED = "failed"
    UNREAD = "unread"
    """Its caller asked for no bytes of it in the end: for headers alone, or for what it turned out to have."""

    @property
    def is_ended(self) -> bool:
        """Whether its sub-operation is over."""
        return self in (InstanceState.SENT, InstanceState.WARNING, InstanceState.FAILED, InstanceState.UNREAD)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sub-operations of one retrieval (PS3.7 9.1.3.1); they always add up to the frozen set.

    What nobody wanted in the end remains.
    """

    remaining: int
    completed: int
    failed: int
    warning: int

    @property
    def total(self) -> int:
        """How many instances the retrieval froze."""
        return self.remaining + self.completed + self.failed + self.warning


class Halt(StrEnum):
    """Why a retrieval stopped before its end."""

    POLICY = "policy"
    """It may not go on; the caller learns what is common to all transfer failures (SAF-02)."""
    CANCELLED = "cancelled"
    SERVICE = "service"
    """Nothing can be recorded, or a register cannot be believed: the fault is the same for every patient."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not delivered, with words that may be shown and hold nothing of a patient."""

    ref: InstanceRef
    words: str
    trust: TrustId | None = None
    """Whose archive it was to come from."""


@dataclass(frozen=True, slots=True)
class FrozenInstance:
    """An instance that a retrieval has to deliver, as it was frozen."""

    ref: InstanceRef
    source: TrustId
    """The holder that it is to come from."""
    patient_row: str
    """The internal row of the patient whose it is."""
    decision_id: str
    """Under which it may be delivered."""


@dataclass(frozen=True, slots=True)
class NewRetrieval:
    """A retrieval as the ledger is told of it, before the first instance moves."""

    retrieval_id: str
    request_id: str
    subject: str
    """Who asked, as the audit names them."""
    recipient: TrustId
    """The organisation that gets it."""
    destination: str
    """The AE title that it is sent to; empty: the caller itself."""
    frozen_at: datetime
    instances: tuple[FrozenInstance, ...]
    job_id: str = ""
    purpose: str = ""
    """For what it was asked: whoever resumes it asks for the same."""


@dataclass(frozen=True, slots=True)
class InstanceNote:
    """What became of one instance."""

    sop_uid: str
    state: InstanceState
    at: datetime
    source: TrustId
    """Where it came from in fact."""
    digest: bytes = b""
    data_bytes: int = 0
    words: str = ""


class TransferLedger(Protocol):
    """Where retrievals are written down; everything raises `StoreUnavailable`."""

    async def freeze(self, retrieval: NewRetrieval) -> None:
        """Write down the frozen set, durably, all instances pending."""

    async def add(self, retrieval_id: str, first: int, instances: Sequence[FrozenInstance]) -> None:
        """Write down further instances of a set that grows, durably, all pending; `first` were in it before."""

    async def note(self, retrieval_id: str, notes: Sequence[InstanceNote]) -> None:
        """Write down what became of instances; an instance that has ended stays as it is."""

    async def end(self, retrieval_id: str, at: datetime, halted: Halt | None) -> None:
        """It is over: what has not ended until now has failed."""


class Item(Protocol):
    """One instance that may be handed out now, already in the cache."""

    @property
    def ref(self) -> InstanceRef:
        """Which it is."""

    @property
    def transfer_syntax(self) -> str:
        """As it is kept, and so as `open` gives it."""

    @property
    def data_bytes(self) -> int:
        """How long what `open` gives is: the encoded data set, without preamble and file meta information."""

    @property
    def source(self) -> TrustId:
        """Whose archive it came from."""

    @property
    def etag(self) -> str:
        """Changes with every byte that `open` would give."""

    def open(self, first: int = 0, last: int | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The encoded data set from byte `first` to `last`, both included, in pieces of about a megabyte; the caller's
        patient identifiers already in it (SAF-34). Raises `Damaged`, `NotFound`.
        """

    async def metadata(self) -> bytes:
        """Its attributes in the DICOM JSON model, as `open` would give them, bulk data by relative `BulkDataURI`."""


class Given(Protocol):
    """What an instance is told by when it was given."""

    @property
    def ref(self) -> InstanceRef:
        """Which it is."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one instance says of itself, which may be given now."""

    ref: InstanceRef
    json: bytes
    """As `Item.metadata` gives it; empty: it cannot be had."""
    words: str = ""
    """Why not."""


class Delivery(Protocol):
    """A retrieval under way, in the hands of the door that was asked. Iterate, hand out, say what became of it."""

    @property
    def retrieval_id(self) -> str:
        """Under which the ledger has it."""

    @property
    def refs(self) -> Sequence[InstanceRef]:
        """The frozen set, by study, series and instance number."""

    @property
    def sources(self) -> Sequence[Source]:
        """Every trust's part in finding the set: one that is missing may have had more (SAF-09)."""

    @property
    def counts(self) -> Counts:
        """How far it is at this moment."""

    @property
    def failures(self) -> Sequence[Failure]:
        """What failed so far; at the end everything that was not delivered."""

    @property
    def halted(self) -> Halt | None:
        """Why iteration ended early, if it did."""

    @property
    def etag(self) -> str:
        """Of the frozen set: changes whenever an instance of it is added, removed or replaced. Empty as long as
        something of it is not here, for nobody knows it before it has come.
        """

    def __aiter__(self) -> AsyncIterator[Item]:
        """Instances as they can be handed out: those in the cache first, then the others as they come.

        Before each, what hangs on registers and time is checked (E11). Ends when nothing more comes; raises nothing but
        `ServiceFault`: what could not be had is in `failures`.
        """

    def described(self) -> AsyncIterator[Written]:
        """In place of iterating: what the instances say of themselves, checked alike; their pixels are not read."""

    def sent(self, item: Given, warning: str = "") -> None:
        """It arrived, durably as far as its receiver says. Never before the receiver said so."""

    def failed(self, item: Given, words: str) -> None:
        """It did not arrive."""

    def cancel(self) -> None:
        """Stop before the next instance: the caller said so (C-CANCEL), or went away."""

    def spare(self) -> None:
        """Stop so too, for the caller wants no more than was said already: nothing has failed by that."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a wish that is to be at hand, and handed out to nobody yet."""

    kept: int
    failed: int
    """Of what may be had."""
    sources: Sequence[Source]
    """Every trust's part."""


class Retrievals(Protocol):
    """What the doors ask for images."""

    def retrieve(self, caller: Caller, wish: RetrieveWish) -> AbstractAsyncContextManager[Delivery]:
        """Pass the guard, find what the wish names, freeze it and begin to fetch it. Leaving ends the retrieval: what
        is not said to be delivered then has failed, and the outcome is durable.

        Nothing that may be had gives a delivery of no instances, whatever the reason (SAF-02: 404, or 0000 with no
        sub-operations). Raises `Denied` with what may be told, `InvalidRequest`, a `ServiceFault`, or a `PeerError`
        where everybody who was asked failed.
        """
