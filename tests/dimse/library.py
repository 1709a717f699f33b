"""Images in memory behind the DIMSE door: a `Retrievals` that delivers as a test says, and an `Intake` that keeps."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from gateway.model.errors import GatewayError, ServiceFault
from gateway.model.imaging import Level, Source
from gateway.model.work.retrievals import (
    Counts,
    Delivery,
    Failure,
    Given,
    Halt,
    InstanceState,
    Item,
    RetrieveWish,
    Written,
)
from gateway.model.work.transfers import InstanceRef, Taking
from policy.parties import Caller
from tests.dimse.items import MemoryItem

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def images(count: int, *, study: str = "1.2.3", data_bytes: int = 1_000) -> list[MemoryItem]:
    """So many CT images of no meaning, in two series."""
    return [
        MemoryItem(
            InstanceRef(study, f"{study}.{number % 2}", f"{study}.{number % 2}.{number}", CT),
            EXPLICIT,
            bytes([number % 251]) * data_bytes,
        )
        for number in range(1, count + 1)
    ]


class Loan:
    """A `Delivery` that keeps account of what the door says."""

    def __init__(self, library: Library, items: Sequence[MemoryItem]) -> None:
        self._library = library
        self._items = items
        self._is_cancelled = asyncio.Event()
        self.states = {item.ref.sop_uid: InstanceState.PENDING for item in items}
        self.failures: list[Failure] = []
        self.halted: Halt | None = None
        self.retrieval_id = "retrieval-1"
        self.etag = "version-1"

    @property
    def refs(self) -> Sequence[InstanceRef]:
        """See `Delivery`."""
        return [item.ref for item in self._items]

    @property
    def sources(self) -> Sequence[Source]:
        """See `Delivery`."""
        return self._library.sources

    @property
    def counts(self) -> Counts:
        """See `Delivery`."""
        of = Counter(self.states.values())
        sent, warned, failed = (of[each] for each in (InstanceState.SENT, InstanceState.WARNING, InstanceState.FAILED))
        return Counts(len(self.states) - sent - warned - failed, sent, failed, warned)

    @property
    def sent_uids(self) -> list[str]:
        """What counts as delivered."""
        return [uid for uid, state in self.states.items() if state in (InstanceState.SENT, InstanceState.WARNING)]

    def __aiter__(self) -> AsyncIterator[Item]:
        """See `Delivery`."""
        return self._given()

    async def described(self) -> AsyncIterator[Written]:
        """See `Delivery`."""
        async for item in self._given():
            yield Written(item.ref, await item.metadata())

    def sent(self, item: Given, warning: str = "") -> None:
        """See `Delivery`."""
        self.states[item.ref.sop_uid] = InstanceState.WARNING if warning else InstanceState.SENT

    def failed(self, item: Given, words: str) -> None:
        """See `Delivery`."""
        self._fail(item.ref, words)

    def cancel(self) -> None:
        """See `Delivery`."""
        self._is_cancelled.set()

    def spare(self) -> None:
        """See `Delivery`."""
        self.cancel()

    def end(self) -> None:
        """What is not said to be delivered has failed."""
        for item in self._items:
            if not self.states[item.ref.sop_uid].is_ended:
                self._fail(item.ref, "it was not sent")

    def _fail(self, ref: InstanceRef, words: str) -> None:
        self.states[ref.sop_uid] = InstanceState.FAILED
        self.failures.append(Failure(ref, words))

    async def _given(self) -> AsyncIterator[Item]:
        library = self._library
        for number, item in enumerate(self._items):
            await self._gate(number)
            if self._is_cancelled.is_set():
                self.halted = Halt.CANCELLED
                return
            if library.halts_after == number:
                self.halted = library.halts_as
                return
            if library.fault_after == number:
                raise library.fault
            if item.ref.sop_uid in library.lost:
                self._fail(item.ref, "its archive did not send it")
            else:
                yield item

    async def _gate(self, number: int) -> None:
        """Wait for an archive that is slow at this image, or for a cancel."""
        gate = self._library.gates.get(number)
        if gate is None:
            return
        self._library.is_waiting.set()
        async with asyncio.TaskGroup() as waits:
            waiting = [waits.create_task(event.wait()) for event in (gate, self._is_cancelled)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()


@dataclass
class Library:
    """A `Retrievals`: what one caller may have, and what becomes of it on the way."""

    items: Sequence[MemoryItem] = ()
    sources: Sequence[Source] = ()
    error: Exception | None = None
    """Raised instead of a delivery."""
    opens: asyncio.Event | None = None
    """Found only once this is set."""
    lost: Collection[str] = ()
    """SOP Instance UIDs that their archive never sends."""
    halts_after: int | None = None
    halts_as: Halt = Halt.POLICY
    fault_after: int | None = None
    fault: GatewayError = field(default_factory=lambda: ServiceFault("the disk is full"))
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    """By number, what an image waits for before it is there."""
    is_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether somebody waits for such an image."""
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[Caller, RetrieveWish]] = field(default_factory=list)
    loans: list[Loan] = field(default_factory=list)

    def retrieve(self, caller: Caller, wish: RetrieveWish) -> AbstractAsyncContextManager[Delivery]:
        """See `Retrievals`."""
        return self._lent(caller, wish)

    @property
    def loan(self) -> Loan:
        """The latest."""
        return self.loans[-1]

    @contextlib.asynccontextmanager
    async def _lent(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Delivery]:
        self.asked.append((caller, wish))
        self.is_asked.set()
        try:
            if self.opens is not None:
                await self.opens.wait()
            if self.error is not None:
                raise self.error
            loan = Loan(self, [item for item in self.items if _names(wish, item.ref)])
            self.loans.append(loan)
            try:
                yield loan
            finally:
                loan.end()
        finally:
            self.is_over.set()


@dataclass
class Stack:
    """An `Intake` that keeps what comes, by SOP Instance UID; `keep` may be held up, refused, or both."""

    kept: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    """Class, transfer syntax and data set."""
    refusal: Exception | None = None
    """Raised by `keep`."""
    refuses: Exception | None = None
    """Raised by `take`."""
    may_keep: asyncio.Event = field(default_factory=asyncio.Event)
    is_asked_to_keep: asyncio.Event = field(default_factory=asyncio.Event)
    is_left: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether an instance was left, kept or not."""
    lost: int = 0
    """Instances left without being kept."""

    def __post_init__(self) -> None:
        self.may_keep.set()

    @contextlib.asynccontextmanager
    async def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AsyncIterator[Taking]:
        """See `Intake`."""
        if self.refuses is not None:
            raise self.refuses
        taking = _Taking(self, (sop_class_uid, sop_uid, transfer_syntax))
        try:
            yield taking
        finally:
            self.lost += not taking.is_kept
            self.is_left.set()


class _Taking:
    def __init__(self, stack: Stack, head: tuple[str, str, str]) -> None:
        self._stack = stack
        self._head = head
        self._content = bytearray()
        self.is_kept = False

    def add(self, piece: bytes | memoryview) -> None:
        """See `Taking`."""
        self._content += piece

    async def drain(self) -> None:
        """See `Taking`."""
        await asyncio.sleep(0)

    async def keep(self) -> None:
        """See `Taking`."""
        self._stack.is_asked_to_keep.set()
        await self._stack.may_keep.wait()
        if self._stack.refusal is not None:
            raise self._stack.refusal
        sop_class_uid, sop_uid, transfer_syntax = self._head
        self._stack.kept[sop_uid] = (sop_class_uid, transfer_syntax, bytes(self._content))
        self.is_kept = True


def _names(wish: RetrieveWish, ref: InstanceRef) -> bool:
    if wish.level is Level.PATIENT:
        return True
    return all(
        not wanted or uid in wanted
        for wanted, uid in (
            (wish.study_uids, ref.study_uid),
            (wish.series_uids, ref.series_uid),
            (wish.sop_uids, ref.sop_uid),
        )
    )


def refused(error: GatewayError) -> Library:
    """A library that lends nothing."""
    return Library(error=error)
