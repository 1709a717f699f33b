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
from gateway.model.imaging import PATIENT_ID, JsonValue, Source
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.precedence import Hurry
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
from gateway.model.work.transfers import InstanceRef, StudyCache
from gateway.sharing.broker import Survey
from gateway.sharing.freshness.rejections import REJECTED, LateNotes
from gateway.sharing.retrieval.account import Account
from gateway.sharing.retrieval.acquiring import Got, Rider, Wanted
from gateway.sharing.retrieval.descriptions import Descriptions
from gateway.sharing.retrieval.entries import Entry
from gateway.sharing.retrieval.handing_out import HandedOut

log = structlog.get_logger(__name__)

SMALL_BYTES = 1024 * 1024
"""Kept instances of at most so many bytes are read whole, several at once."""
GROUP_BYTES, GROUP_INSTANCES = 2 * 1024 * 1024, 64
"""So much is read at once."""
GROUPS_AHEAD = 2
"""Read, or being read, while one is handed out: threads that read often wait for their turn at the interpreter."""
DESCRIBED_AT_ONCE = 64
STOPPED: Mapping[Halt, str] = dict.fromkeys(Halt, "the transfer was stopped")
"""The same for every reason: which of them it was is nobody's business but the record's (SAF-02)."""
IDENTITY_CHANGED = "an image is no longer taken for this patient's"
NOT_ENDED = "it was not handed out"
UNREADABLE = "what was kept of it cannot be read"
Bring = Callable[[Sequence[Wanted]], AbstractAsyncContextManager[Rider]]
"""Fetches instances from their holders."""


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
        hurry: Hurry | None = None,
        decided_at_s: float | None = None,
        descriptions: Descriptions | None = None,
        freezing: asyncio.Task[None] | None = None,
        late: LateNotes | None = None,
        version: int | None = None,
    ) -> None:
        """`decided_at_s` is when it was decided, and by which `version` of the registers, where that is not now;
        `freezing` makes the set durable. `late` are the notes in it that are still to be read.
        """
        self._hurry, self._freezing, self._late = hurry, freezing, late
        self._account = account
        self._survey = survey
        self._sources = tuple(sources)
        self._entries = {entry.wanted.ref.sop_uid: entry for entry in entries}
        self._rider, self._means, self._bring = rider, means, bring
        self._ended: Counter[InstanceState] = Counter()
        self._halted: Halt | None = None
        self._stopped_by: JsonValue = None
        self._unwanted = InstanceState.FAILED
        self._began_at = means.clock.now()
        self._checked = means.clock.monotonic() if decided_at_s is None else decided_at_s
        self._version = means.register_version() if version is None else version
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
        kept = [(uid, each.cached) for uid, each in self._entries.items() if each.cached is not None]
        if len(kept) < len(self._entries):
            return ""  # what an archive will send is not known: its header may have been corrected
        marks = sorted(f"{uid} {cached.digest.hex()}" for uid, cached in kept)
        shown = next((repr(each.shown.get(PATIENT_ID)) for each in self._entries.values()), "")
        return hashlib.blake2b("\n".join((*marks, shown)).encode(), digest_size=16).hexdigest()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """See `Delivery`. Of what is kept the next are read while these are handed out; each is judged in its turn."""
        kept = deque(entry for entry in self._entries.values() if entry.cached is not None)
        ahead: deque[tuple[list[Entry], asyncio.Task[list[HandedOut | None]]]] = deque()
        try:
            if kept:
                ahead.append(self._begin_reading(kept, 1))
            while ahead:
                group, reading = ahead[0]
                prepared = await reading
                # Only now: nothing is read beside the first that its reader waits for.
                while kept and len(ahead) <= GROUPS_AHEAD:
                    ahead.append(self._begin_reading(kept, GROUP_INSTANCES))
                for entry, ready in zip(group, prepared, strict=True):
                    if await self._may_go(entry) and (item := await self._readable(entry, ready)) is not None:
                        yield item
                    if self._halted is not None:
                        return
                ahead.popleft()
                await self._keep_up()
        finally:
            for _, reading in ahead:
                reading.cancel()
            await asyncio.gather(*(reading for _, reading in ahead), return_exceptions=True)
        while (come := await self._next()) is not None:
            ready = await self._prepared(come)
            if await self._may_go(come) and (item := await self._readable(come, ready)) is not None:
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
                yield Written(entry.wanted.ref, b"", REJECTED) if await self._is_rejected(entry) else written
            await self._keep_up()
        while (come := await self._next()) is not None:
            written = await self._written(come, await self._prepared(come))
            if not await self._may_go(come):
                return
            yield Written(come.wanted.ref, b"", REJECTED) if await self._is_rejected(come) else written
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

    def spare(self) -> None:
        """See `Delivery`."""
        self._unwanted = InstanceState.UNREAD
        self.cancel()

    def leave(self) -> None:
        """It is over: whatever was not handed out has failed, unless its caller wanted no more."""
        words = NOT_ENDED if self._halted is None else STOPPED[self._halted]
        for uid, entry in self._entries.items():
            if not entry.state.is_ended:
                self._end(uid, self._unwanted, entry.words or words)
        if self._account is not None:
            self._account.halt(self._halted, self._stopped_by)

    def _begin_reading(
        self, kept: deque[Entry], count_max: int
    ) -> tuple[list[Entry], asyncio.Task[list[HandedOut | None]]]:
        """Begin with the next few small ones, or with one that is not small."""
        group: list[Entry] = []
        room = GROUP_BYTES
        while kept and len(group) < count_max:
            data_bytes = kept[0].data_bytes
            room -= data_bytes
            if group and (room < 0 or data_bytes > SMALL_BYTES):
                break
            group.append(kept.popleft())
            if data_bytes > SMALL_BYTES:
                break
        return group, asyncio.create_task(self._read(group))

    async def _read(self, group: Sequence[Entry]) -> list[HandedOut | None]:
        if any(entry.data_bytes > SMALL_BYTES for entry in group):
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
        """Whether this one may be given away, as far as that hangs on registers and time; once it is in the ledger."""
        if self._freezing is not None:
            await asyncio.shield(self._freezing)
            self._freezing = None
        if self._hurry is not None:
            await self._hurry.stand_back()
        await self._look_again(entry)
        return self._halted is None

    async def _readable(self, entry: Entry, item: HandedOut | None) -> HandedOut | None:
        """The entry's item; what is rejected or cannot be read has failed. The door may have several on their way at
        once, and what it says nothing of has failed when it leaves.
        """
        item, words = (None, REJECTED) if await self._is_rejected(entry) else (item, UNREADABLE)
        if item is None:
            self._end(entry.wanted.ref.sop_uid, InstanceState.FAILED, words)
        return item

    async def _is_rejected(self, entry: Entry) -> bool:
        return self._late is not None and await self._late.name(entry.wanted.ref, entry.source)

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
        if self._hurry is not None:
            self._hurry.over()
        if self._account is None or self._account.has_ended(sop_uid):
            return
        self._account.note(
            entry.wanted.ref.study_uid,
            InstanceNote(
                sop_uid,
                state,
                self._means.clock.now(),
                entry.source,
                entry.cached.digest if entry.cached is not None else b"",
                entry.data_bytes,
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
