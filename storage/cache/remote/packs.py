"""Packs as objects of a bucket: each is put once, whole, and durable when the bucket has acknowledged it (DEC-36).

What fits one request shares a pack with whatever else is committed while earlier puts are under way, as commits share
a disk's sync; what is larger has a pack of its own, put part by part as it comes, so that no instance is ever in memory
whole. Lives on one loop; `packs`, `frames` and `read` block and are for a pool's threads.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from gateway.model.errors import Damaged, OverCapacity, StoreUnavailable
from storage.cache.packs.frames import HEAD_BYTES, ID_BYTES, Extent, Frame, FrameKind, head, part, read_head
from storage.cache.packs.port import Buffer, Placed, SealsEntry
from storage.cache.remote.bucket import Bucket

log = structlog.get_logger(__name__)

WAITING_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of all writers together that wait for the bucket; beyond it `OverCapacity`."""
GAP_BYTES_MAX = 64 * 1024
"""What may lie between two wanted ranges of a pack that are read together."""
WALKED_WHOLE_BYTES_MAX = 16 * 1024 * 1024
"""A pack so small is walked in one request."""


@dataclass(slots=True, eq=False)
class _Parcel:
    """A pack that is being made."""

    pack_id: bytes
    is_shared: bool
    buffers: list[Buffer] = field(default_factory=list)
    """What nobody has taken to the bucket yet."""
    held_bytes: int = 0
    length: int = 0
    committed: list[asyncio.Future[None]] = field(default_factory=list)
    appended: list[asyncio.Future[None]] = field(default_factory=list)
    """Whoever waits until its bytes were taken."""
    is_whole: bool = False
    is_given_up: bool = False
    is_begun: bool = False
    failure: StoreUnavailable | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)


class _GivenUp(Exception):
    """Nobody wants the rest: ends an upload so that the bucket forgets its parts."""


class BucketPacks:
    """See `storage.cache.packs.port.Objects`. `async with`."""

    segments_at_once = 16

    def __init__(self, bucket: Bucket, random: Callable[[int], bytes], *, is_shared: bool = True) -> None:
        """`is_shared=False` measures what sharing packs is worth."""
        self._bucket = bucket
        self._random = random
        self._part_bytes = bucket.settings.part_bytes
        self._at_once_max = bucket.settings.puts_in_flight_max
        self._is_shared = is_shared
        self._gathering: _Parcel | None = None
        self._ready: dict[bool, deque[_Parcel]] = {True: deque(), False: deque()}
        """By whether they are shared: a slow large instance must not keep small ones waiting."""
        self._flying: Counter[bool] = Counter()
        self._parcels: dict[bytes, _Parcel] = {}
        self._used: Counter[bytes] = Counter()
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.puts = 0
        self.reads_at_once = bucket.settings.reads_in_flight_max

    async def __aenter__(self) -> BucketPacks:
        """Make sure that the node's part is ours; raises `OutOfReach` or `ConfigurationError`."""
        await asyncio.to_thread(self._bucket.take)
        self._prober = asyncio.create_task(self._bucket.reach.probe(self._bucket.look))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Put what was committed; give up what was not."""
        self._is_closed = True
        self._go_on()
        for parcel in list(self._parcels.values()):
            if not parcel.is_shared and not parcel.is_whole:
                self._give_up(parcel)
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._prober.cancel()
        with suppress(asyncio.CancelledError):
            await self._prober

    @property
    def fault(self) -> str:
        """See `Objects`."""
        return self._bucket.reach.words

    @property
    def syncs(self) -> int:
        """See `Objects`."""
        return self.puts

    def append(
        self, object_id: bytes, before: Sequence[Extent], buffers: list[Buffer], *, must_last: bool = False
    ) -> Placed:
        """See `Objects`. Raises `OutOfReach`."""
        self._admit(sum(map(len, buffers)))
        parcel = self._own(before)
        extent = self._place(parcel, object_id, buffers)
        appended = asyncio.get_running_loop().create_future()
        if parcel.failure is not None:
            _fail(appended, parcel.failure)
        elif parcel.held_bytes < self._part_bytes:
            appended.set_result(None)
        else:
            parcel.appended.append(appended)
            self._hurry(parcel)
        return (*before, extent), appended

    def commit(
        self,
        object_id: bytes,
        before: Sequence[Extent],
        rest: list[Buffer],
        entry: SealsEntry,
        *,
        must_last: bool = False,
    ) -> Placed:
        """See `Objects`. Raises `OutOfReach`."""
        self._admit(sum(map(len, rest)))
        parcel = self._own(before) if before else self._shared()
        chunk = self._place(parcel, object_id, rest)
        extents = (*before, chunk)
        told = entry(extents)
        place = Extent(parcel.pack_id, parcel.length + HEAD_BYTES, len(told))
        self._take_in(parcel, [head(FrameKind.ENTRY, object_id, place), told])
        committed = asyncio.get_running_loop().create_future()
        if parcel.failure is not None:
            _fail(committed, parcel.failure)
            return (*extents, place), committed
        parcel.committed.append(committed)
        if not parcel.is_shared:
            parcel.is_whole = True
            self._hurry(parcel)
        elif parcel.length >= self._part_bytes or not self._is_shared:
            self._close_gathering()
        # In a turn of its own, so that what is committed in this one goes along.
        asyncio.get_running_loop().call_soon(self._go_on)
        return (*extents, place), committed

    def drop(self, extents: Sequence[Extent] = (), packs: Sequence[bytes] = ()) -> asyncio.Future[None]:
        """See `Objects`. An object's room comes back with its pack's; one that is still coming is given up."""
        for pack_id in {extent.pack_id for extent in extents}:
            parcel = self._parcels.get(pack_id)
            if parcel is not None and not parcel.is_shared and not parcel.is_whole:
                self._give_up(parcel)
        return asyncio.ensure_future(self._bucket.delete(packs))

    def release(self, extents: Sequence[Extent]) -> None:
        """See `Objects`."""
        for pack_id in {extent.pack_id for extent in extents}:
            self._used[pack_id] -= 1

    def settled(self) -> list[bytes]:
        """See `Objects`. A pack that failed is among them: whatever of it reached the bucket after all can go."""
        found = [pack_id for pack_id, users in self._used.items() if not users and pack_id not in self._parcels]
        for pack_id in found:
            del self._used[pack_id]
        return found

    def goes_whole(self, pack_id: bytes) -> bool:
        """See `Objects`."""
        return True

    def is_at_hand(self, extents: Sequence[Extent]) -> bool:
        """See `Objects`."""
        return not self._bucket.reach.words

    def packs(self) -> dict[bytes, int]:
        """See `Objects`."""
        return dict(self._bucket.packs())

    def frames(self, pack_id: bytes) -> Iterator[Frame]:
        """See `Objects`."""
        at, length = 0, self._bucket.length(pack_id)
        whole = self._bucket.read(pack_id, 0, length) if length <= WALKED_WHOLE_BYTES_MAX else b""
        while at < length:
            found = whole[at : at + HEAD_BYTES] or self._bucket.read(pack_id, at, HEAD_BYTES)
            frame = read_head(pack_id, at, found)
            if frame is None or frame.payload.at + frame.payload.length > length:
                return
            yield frame
            at = frame.payload.at + frame.payload.length

    def read(self, extents: Sequence[Extent], at: int, length: int) -> bytes:
        """See `Objects`. What lies near each other is read in one request."""
        found: list[bytes] = []
        for run in _runs(list(part(extents, at, length))):
            begins, ends = run[0].at, run[-1].at + run[-1].length
            read = self._bucket.read(run[0].pack_id, begins, ends - begins)
            if len(read) != ends - begins:
                raise Damaged("a pack ends before what it should hold")
            found += [read[extent.at - begins :][: extent.length] for extent in run] if len(run) > 1 else [read]
        return found[0] if len(found) == 1 else b"".join(found)

    def _admit(self, length: int) -> None:
        if self._is_closed:
            raise StoreUnavailable("the study cache is closed")
        self._bucket.reach.check()
        if self._waiting_bytes + length > WAITING_BYTES_MAX:
            raise OverCapacity("too many bytes wait for the bucket of the study cache")

    def _own(self, before: Sequence[Extent]) -> _Parcel:
        """The pack of a large object: begun with its first bytes."""
        if not before:
            return self._begun(is_shared=False)
        parcel = self._parcels.get(before[0].pack_id)
        if parcel is None:
            raise StoreUnavailable("the bucket did not take what came before")
        return parcel

    def _shared(self) -> _Parcel:
        if self._gathering is None:
            self._gathering = self._begun(is_shared=True)
        return self._gathering

    def _begun(self, *, is_shared: bool) -> _Parcel:
        parcel = _Parcel(self._random(ID_BYTES), is_shared)
        self._parcels[parcel.pack_id] = parcel
        return parcel

    def _place(self, parcel: _Parcel, object_id: bytes, buffers: Sequence[Buffer]) -> Extent:
        extent = Extent(parcel.pack_id, parcel.length + HEAD_BYTES, sum(map(len, buffers)))
        if parcel.is_shared or not parcel.length:
            self._used[parcel.pack_id] += 1
        self._take_in(parcel, [head(FrameKind.CHUNK, object_id, extent), *buffers])
        return extent

    def _take_in(self, parcel: _Parcel, buffers: Sequence[Buffer]) -> None:
        length = sum(map(len, buffers))
        parcel.length += length
        if parcel.failure is None:
            parcel.buffers += buffers
            parcel.held_bytes += length
            self._waiting_bytes += length

    def _hurry(self, parcel: _Parcel) -> None:
        """Have a pack of one object put: from now on, or on."""
        parcel.news.set()
        if not parcel.is_begun:
            parcel.is_begun = True
            self._ready[False].append(parcel)
            self._go_on()

    def _close_gathering(self) -> None:
        parcel, self._gathering = self._gathering, None
        if parcel is not None:
            parcel.is_whole = parcel.is_begun = True
            self._ready[True].append(parcel)

    def _go_on(self) -> None:
        for is_shared, ready in self._ready.items():
            while self._flying[is_shared] < self._at_once_max:
                if is_shared and not ready:
                    self._close_gathering()
                if not ready:
                    break
                self._flying[is_shared] += 1
                task = asyncio.create_task(self._send(ready.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _send(self, parcel: _Parcel) -> None:
        fault: StoreUnavailable | None = None
        try:
            self.puts += 1
            if parcel.is_whole:
                await self._bucket.put(parcel.pack_id, self._taken(parcel))
            else:
                await self._bucket.put_parts(parcel.pack_id, self._coming(parcel))
        except _GivenUp:
            fault = StoreUnavailable("the instance was given up")
        except StoreUnavailable as unavailable:
            fault = unavailable
        except Exception as error:  # noqa: BLE001  # outermost frame of one put: a bug is its failure alone
            log.error("pack not put", alarm=True, error=type(error).__name__)
            fault = StoreUnavailable("the pack could not be put")
        self._flying[parcel.is_shared] -= 1
        self._end(parcel, fault)
        self._go_on()

    async def _coming(self, parcel: _Parcel) -> AsyncGenerator[Buffer]:
        """The bytes of a pack as they come, a part at a time."""
        while True:
            parcel.news.clear()
            if parcel.is_given_up:
                raise _GivenUp
            if parcel.held_bytes >= self._part_bytes or parcel.is_whole:
                is_last = parcel.is_whole
                for piece in self._taken(parcel):
                    yield piece
                if is_last:
                    return
            else:
                await parcel.news.wait()

    def _taken(self, parcel: _Parcel) -> list[Buffer]:
        buffers, parcel.buffers = parcel.buffers, []
        self._waiting_bytes -= parcel.held_bytes
        parcel.held_bytes = 0
        appended, parcel.appended = parcel.appended, []
        for future in appended:
            if not future.done():
                future.set_result(None)
        return buffers

    def _give_up(self, parcel: _Parcel) -> None:
        parcel.is_given_up = True
        parcel.news.set()
        if not parcel.is_begun:
            self._end(parcel, StoreUnavailable("the instance was given up"))

    def _end(self, parcel: _Parcel, fault: StoreUnavailable | None) -> None:
        parcel.failure = fault
        del self._parcels[parcel.pack_id]
        waiting, parcel.appended = [*parcel.appended, *parcel.committed], []
        self._taken(parcel)
        for future in waiting:
            if not future.done() and fault is None:
                future.set_result(None)
            elif not future.done() and fault is not None:
                _fail(future, fault)


def _runs(extents: Sequence[Extent]) -> list[list[Extent]]:
    """Extents in runs of one pack each, in which little lies between neighbours."""
    runs: list[list[Extent]] = []
    for extent in extents:
        last = runs[-1][-1] if runs else None
        gap = extent.at - last.at - last.length if last is not None and last.pack_id == extent.pack_id else -1
        if 0 <= gap <= GAP_BYTES_MAX:
            runs[-1].append(extent)
        else:
            runs.append([extent])
    return runs


def _fail(future: asyncio.Future[None], fault: StoreUnavailable) -> None:
    future.set_exception(fault)
    future.exception()  # whoever gave up waiting need not hear of it
