"""A retrieval under way: the frozen set, what of it has come, what has been handed out, and whether it may go on.

Every instance ends exactly once: handed out, or failed with words. Before each one is given away, what hangs on
registers and time is looked at again: at once when a register moves, at each new series, and every few seconds (E11).
Its account hears of each; it is told what became of the rest when the retrieval is left.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from gateway.model.errors import Damaged, InvalidRequest, NotFound, OutOfReach, ServiceFault
from gateway.model.imaging import PATIENT_ID, Attributes, JsonValue, Source
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.retrievals import (
    Counts,
    Failure,
    Given,
    Halt,
    InstanceNote,
    InstanceState,
    Item,
    TransferLedger,
    Written,
)
from gateway.model.work.transfers import CachedInstance, InstanceRef, StudyCache
from gateway.sharing.broker import Survey
from gateway.sharing.merge import Candidate
from gateway.sharing.retrieval.account import Account
from gateway.sharing.retrieval.acquiring import Got, Rider, Wanted
from gateway.sharing.retrieval.descriptions import Descriptions
from gateway.sharing.retrieval.handing_out import HandedOut
from policy.parties import TrustId

log = structlog.get_logger(__name__)

SMALL_BYTES = 1024 * 1024
"""Kept instances of at most so many bytes are read whole, several at once."""
GROUP_BYTES, GROUP_INSTANCES = 2 * 1024 * 1024, 64
"""So much is read at once, while as much that was read before is handed out."""
DESCRIBED_AT_ONCE = 64
STOPPED: Mapping[Halt, str] = {
    Halt.POLICY: "the transfer was stopped",
    Halt.CANCELLED: "the transfer was stopped",
    Halt.SERVICE: "the transfer was stopped",
}
"""The same for every reason: which of them it was is nobody's business but the record's (SAF-02)."""
IDENTITY_CHANGED = "an image is no longer taken for this patient's"
NOT_ENDED = "it was not handed out"
UNREADABLE = "what was kept of it cannot be read"
Bring = Callable[[Sequence[Wanted]], AbstractAsyncContextManager[Rider]]
"""Fetches instances from their holders."""


@dataclass(slots=True, eq=False)
class Entry:
    """One instance of the frozen set."""

    wanted: Wanted
    shown: Attributes
    """The identity that the caller is shown."""
    copies: tuple[Candidate, ...]
    cached: CachedInstance | None = None
    state: InstanceState = InstanceState.PENDING
    words: str = ""

    @property
    def source(self) -> TrustId:
        """Where it came from; as long as it has not come, where it is to come from."""
        return self.cached.source if self.cached is not None else self.wanted.holdings[0].trust


class Delivery:
    """See `gateway.model.work.retrievals.Delivery`. Made and left by the road."""

    def __init__(
        self,
        account: Account | None,
        survey: Survey | None,
        sources: Sequence[Source],
        entries: Sequence[Entry],
        rider: Rider,
        means: Means,
        bring: Bring | None,
        decided_at_s: float | None = None,
        descriptions: Descriptions | None = None,
    ) -> None:
        """`decided_at_s` is when it was decided that it may be had, where that is not now."""
        self._account = account
        self._survey = survey
        self._sources = tuple(sources)
        self._entries = {entry.wanted.ref.sop_uid: entry for entry in entries}
        self._rider = rider
        self._means = means
        self._bring = bring
        self._ended: Counter[InstanceState] = Counter()
        self._halted: Halt | None = None
        self._stopped_by: JsonValue = None
        self._began_at = means.clock.now()
        self._checked = means.clock.monotonic() if decided_at_s is None else decided_at_s
        self._version = means.register_version()
        # Of the first series it was decided just now.
        self._series = entries[0].wanted.ref.series_uid if entries else ""
        self._cancelled = asyncio.Event()
        self._descriptions = descriptions or Descriptions()

    @property
    def retrieval_id(self) -> str:
        """See `Delivery`."""
        return self._account.retrieval_id if self._account is not None else ""

    @property
    def refs(self) -> Sequence[InstanceRef]:
        """See `Delivery`."""
        return tuple(entry.wanted.ref for entry in self._entries.values())

    @property
    def sources(self) -> Sequence[Source]:
        """See `Delivery`."""
        return self._sources

    @property
    def counts(self) -> Counts:
        """See `Delivery`."""
        ended = self._ended
        completed, failed = ended[InstanceState.SENT], ended[InstanceState.FAILED]
        warning = ended[InstanceState.WARNING]
        return Counts(len(self._entries) - completed - failed - warning, completed, failed, warning)

    @property
    def failures(self) -> Sequence[Failure]:
        """See `Delivery`."""
        failed = (entry for entry in self._entries.values() if entry.state is InstanceState.FAILED)
        return tuple(Failure(entry.wanted.ref, entry.words, entry.source) for entry in failed)

    @property
    def halted(self) -> Halt | None:
        """See `Delivery`."""
        return self._halted

    @property
    def etag(self) -> str:
        """See `Delivery`."""
        marks = sorted((uid, entry.cached.digest.hex() if entry.cached else "") for uid, entry in self._entries.items())
        shown = [entry.shown.get(PATIENT_ID) for entry in self._entries.values()][:1]
        return hashlib.blake2b(repr((marks, shown)).encode(), digest_size=16).hexdigest()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """See `Delivery`. Of what is kept the next is read while this is handed out; each is judged in its turn."""
        kept = deque(entry for entry in self._entries.values() if entry.cached is not None)
        group, reading = self._begin_reading(kept, 1)
        try:
            while group:
                prepared = await reading
                coming, reading = self._begin_reading(kept, GROUP_INSTANCES)
                for entry, ready in zip(group, prepared, strict=True):
                    if await self._may_go(entry) and (item := self._readable(entry, ready)) is not None:
                        yield item
                    if self._halted is not None:
                        return
                await self._keep_up()
                group = coming
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        while (come := await self._next()) is not None:
            ready = await self._prepared(come)
            if await self._may_go(come) and (item := self._readable(come, ready)) is not None:
                yield item
            if self._halted is not None:
                return
            await self._keep_up()

    async def described(self) -> AsyncIterator[Written]:
        """See `Delivery`."""
        kept = [entry for entry in self._entries.values() if entry.cached is not None]
        for at in range(0, len(kept), DESCRIBED_AT_ONCE):
            group = kept[at : at + DESCRIBED_AT_ONCE]
            for entry, written in zip(group, await self._written_of(group), strict=True):
                if not await self._may_go(entry):
                    return
                yield written
            await self._keep_up()
        while (come := await self._next()) is not None:
            written = await self._written(come, await self._prepared(come))
            if not await self._may_go(come):
                return
            yield written
            await self._keep_up()

    def sent(self, item: Given, warning: str = "") -> None:
        """See `Delivery`."""
        self._end(item.ref.sop_uid, InstanceState.WARNING if warning else InstanceState.SENT, warning)

    def failed(self, item: Given, words: str) -> None:
        """See `Delivery`."""
        self._end(item.ref.sop_uid, InstanceState.FAILED, words)

    def cancel(self) -> None:
        """See `Delivery`."""
        self._halted = self._halted or Halt.CANCELLED
        self._cancelled.set()

    def leave(self) -> None:
        """It is over: whatever was not handed out has failed."""
        words = NOT_ENDED if self._halted is None else STOPPED[self._halted]
        for uid, entry in self._entries.items():
            if not entry.state.is_ended:
                self._end(uid, InstanceState.FAILED, entry.words or words)
        if self._account is not None:
            self._account.halt(self._halted, self._stopped_by)

    def _begin_reading(
        self, kept: deque[Entry], count_max: int
    ) -> tuple[list[Entry], asyncio.Task[list[HandedOut | None]]]:
        """Begin with the next few small ones, or with one that is not small; nothing once none is left."""
        group: list[Entry] = []
        room = GROUP_BYTES
        while kept and len(group) < count_max:
            data_bytes = _data_bytes(kept[0])
            room -= data_bytes
            if group and (room < 0 or data_bytes > SMALL_BYTES):
                break
            group.append(kept.popleft())
            if data_bytes > SMALL_BYTES:
                break
        return group, asyncio.create_task(self._read(group))

    async def _read(self, group: Sequence[Entry]) -> list[HandedOut | None]:
        if any(_data_bytes(entry) > SMALL_BYTES for entry in group):
            return [await self._prepared(entry) for entry in group]
        found = await self._means.cache.read([entry.cached for entry in group if entry.cached is not None])
        return [
            await self._prepared(entry, begun if isinstance(begun, tuple) else ())
            for entry, begun in zip(group, found, strict=True)
        ]

    async def _written_of(self, group: Sequence[Entry]) -> list[Written]:
        """What they say of themselves; of those of which it is not remembered the beginnings are read."""
        found = [(entry, self._remembered(entry)) for entry in group]
        lacking = [entry for entry, json in found if not json]
        reading = [entry.cached for entry in lacking if entry.cached is not None]
        read = await self._means.cache.read(reading, beginnings=True) if reading else ()
        described: dict[str, Written] = {}
        for entry, begun in zip(lacking, read, strict=True):
            item = await self._prepared(entry, begun if isinstance(begun, tuple) else ())
            described[entry.wanted.ref.sop_uid] = await self._written(entry, item)
            # Describing a group takes longer than others should wait.
            await asyncio.sleep(0)
        return [
            Written(entry.wanted.ref, json) if json else described[entry.wanted.ref.sop_uid] for entry, json in found
        ]

    def _remembered(self, entry: Entry) -> bytes:
        return self._descriptions.find(entry.cached.object_id, entry.shown) if entry.cached is not None else b""

    async def _written(self, entry: Entry, item: HandedOut | None) -> Written:
        if item is None:
            return Written(entry.wanted.ref, b"", UNREADABLE)
        try:
            json = await item.metadata()
        except (Damaged, InvalidRequest, NotFound) as error:
            return Written(item.ref, b"", str(error))
        self._descriptions.keep(item.cached.object_id, entry.shown, json)
        return Written(item.ref, json)

    async def _may_go(self, entry: Entry) -> bool:
        """Whether this one may be given away, as far as that hangs on registers and time."""
        await self._look_again(entry)
        return self._halted is None

    def _readable(self, entry: Entry, item: HandedOut | None) -> HandedOut | None:
        """The entry's item; what cannot be read has failed. The door may have several on their way at once, and what
        it says nothing of has failed when it leaves.
        """
        if item is None:
            self._end(entry.wanted.ref.sop_uid, InstanceState.FAILED, UNREADABLE)
        return item

    async def _keep_up(self) -> None:
        if self._account is not None:
            await self._account.keep_up()

    async def _prepared(self, entry: Entry, begun: tuple[bytes, ...] = ()) -> HandedOut | None:
        """The entry's item, of which `begun` is read; what cannot be read now is fetched once more.

        None: it is not to be had.
        """
        for is_last in (False, True):
            assert entry.cached is not None
            try:
                return await HandedOut.prepare(self._means.cache, entry.cached, entry.shown, self._descriptions, begun)
            except (Damaged, NotFound, InvalidRequest, OutOfReach) as error:
                log.warning("instance not handed out", retrieval=self.retrieval_id, reason=type(error).__name__)
                if is_last or self._bring is None or not isinstance(error, Damaged | OutOfReach):
                    return None
            async with self._bring([entry.wanted]) as rider:
                got = await rider.next()
            if got is None or got.cached is None:
                return None
            entry.cached, begun = got.cached, ()
        return None

    async def _next(self) -> Entry | None:
        """The next one that came into the cache; what cannot come has failed."""
        while self._halted is None:
            got = self._rider.got.popleft() if self._rider.got else await self._waited_for()
            if got is None:
                return None
            entry = self._entries[got.sop_uid]
            if got.cached is not None:
                entry.cached, entry.state = got.cached, InstanceState.CACHED
                return entry
            self._end(got.sop_uid, InstanceState.FAILED, got.words)
        return None

    async def _waited_for(self) -> Got | None:
        coming, cancelled = asyncio.ensure_future(self._rider.next()), asyncio.ensure_future(self._cancelled.wait())
        try:
            await asyncio.wait({coming, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            cancelled.cancel()
            coming.cancel()

    async def _look_again(self, entry: Entry) -> None:
        means, now, version = self._means, self._means.clock.monotonic(), self._means.register_version()
        series, self._series = self._series, entry.wanted.ref.series_uid
        has_moved = version != self._version
        is_due = has_moved or now - self._checked >= means.limits.retrieve_recheck_s
        if self._survey is None or not (is_due or self._series != series):
            return
        self._version, self._checked = version, now
        rows = [row for each in self._entries.values() if not each.state.is_ended for row in each.copies]
        grace = timedelta(minutes=means.limits.end_grace_minutes)
        try:
            withdrawn = await self._survey.passage.withdrawn(rows, self._began_at, grace)
            ask = self._survey.still_theirs if has_moved else None
            is_theirs = ask is None or await ask(rows)
        except ServiceFault:
            self._halted = self._halted or Halt.SERVICE
            return
        if withdrawn is not None or not is_theirs:
            log.info("retrieval stopped", retrieval=self.retrieval_id)
            self._halted = self._halted or Halt.POLICY
            self._stopped_by = withdrawn.to_json() if withdrawn is not None else IDENTITY_CHANGED

    def _end(self, sop_uid: str, state: InstanceState, words: str) -> None:
        entry = self._entries[sop_uid]
        if entry.state.is_ended:
            return
        entry.state, entry.words = state, words
        self._ended[state] += 1
        cached = entry.cached
        if self._account is None or self._account.has_ended(sop_uid):
            return
        self._account.note(
            entry.wanted.ref.study_uid,
            InstanceNote(
                sop_uid,
                state,
                self._means.clock.now(),
                entry.source,
                cached.digest if cached is not None else b"",
                cached.plain_bytes if cached is not None else 0,
                words,
            ),
        )


@dataclass(frozen=True, slots=True)
class Means:
    """What every delivery of this process works with."""

    cache: StudyCache
    ledger: TransferLedger
    clock: Clock
    limits: Limits
    register_version: Callable[[], int]
    """The version of the registers as it was last seen, a second old at most (DEC-12)."""


def _data_bytes(entry: Entry) -> int:
    return entry.cached.plain_bytes if entry.cached is not None else 0
