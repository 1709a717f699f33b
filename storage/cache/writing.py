"""One instance on its way into the cache: sealed as it comes, in a bounded window of memory, durable at its commit.

What was not committed leaves nothing but room, which is given back. A commit once begun goes to its end whatever
becomes of its caller. Knows one shelf, the packs and one key; who may store what was decided before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256

from gateway.model.errors import InvalidRequest, OverCapacity, StoreUnavailable
from gateway.model.work.transfers import UNREAD, CachedInstance, Described, KeyDomain, ReceivedHead, Standing
from storage.cache.entries import Entry, Kept, context, seal_entry
from storage.cache.packs.frames import Extent
from storage.cache.packs.port import Objects
from storage.cache.reading import FRESH_BYTES_MAX, Fresh
from storage.cache.sealed import Sealer
from storage.cache.shelves import Shelf

WINDOW_BYTES = 1024 * 1024
"""Sealed bytes that are gathered before they go to the disk."""
UNDRAINED_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one instance that wait for the disk; whoever adds more without draining gets `OverCapacity`."""


@dataclass(frozen=True, slots=True)
class Means:
    """What an instance is written with."""

    objects: Objects
    random: Callable[[int], bytes]
    now: Callable[[], datetime]
    check_key: Callable[[bytes], Awaitable[bytes]]
    """Raises for a key that was closed meanwhile."""
    keep: Callable[[Shelf, Entry], None]
    """Told of each object that became durable."""
    fresh: Fresh


@dataclass(frozen=True, slots=True)
class SealedFor:
    """Whose an instance is, and the key that seals it."""

    patient: bytes
    key_id: bytes
    key: bytes


class SealedWriting:
    """See `gateway.model.work.transfers.Writing`."""

    def __init__(self, means: Means, head: ReceivedHead, shelf: Shelf, owner: SealedFor, object_id: bytes) -> None:
        self._means = means
        self._head = head
        self._shelf = shelf
        self._owner = owner
        self._object_id = object_id
        sealed_as = context(head.ref, head.domain, object_id)
        self._must_last = head.is_sole_copy or head.domain is not KeyDomain.CACHE
        self._plain: list[bytes] | None = [] if head.is_waited_for else None
        self._sealer = Sealer(owner.key_id, owner.key, sealed_as, means.random, self._plain)
        self._hash = sha256()
        self._window: list[bytes | memoryview] = [self._sealer.head]
        self._window_bytes = len(self._sealer.head)
        self._extents: tuple[Extent, ...] = ()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._plain_bytes = 0
        self._digest = b""
        self._is_committing = False

    def add(self, piece: bytes | memoryview) -> None:
        """See `Writing`."""
        self._hash.update(piece)
        self._plain_bytes += len(piece)
        self._gather(self._sealer.add(piece))
        if self._plain is not None and self._plain_bytes > FRESH_BYTES_MAX:
            self._plain.clear()
        if self._window_bytes >= WINDOW_BYTES:
            self._waiting = [(count, future) for count, future in self._waiting if not _went_well(future)]
            if sum(count for count, _ in self._waiting) > UNDRAINED_BYTES_MAX:
                raise OverCapacity("an instance came faster than the disk of the study cache takes it")
            self._extents, future = self._means.objects.append(
                self._object_id, self._extents, self._window, must_last=self._must_last
            )
            self._waiting.append((self._window_bytes, future))
            self._window, self._window_bytes = [], 0

    async def drain(self) -> None:
        """See `Writing`."""
        while len(self._waiting) > 1:
            _, future = self._waiting.pop(0)
            await future

    def finish(self) -> bytes:
        """See `Writing`."""
        if not self._digest:
            self._gather([self._sealer.finish()])
            self._digest = self._hash.digest()
        return self._digest

    async def commit(self, described: Described = UNREAD, standing: Standing = Standing.CURRENT) -> CachedInstance:
        """See `Writing`."""
        self.finish()
        await self._means.check_key(self._owner.key_id)
        sop_uid, shelf = self._head.ref.sop_uid, self._shelf
        if standing is Standing.CURRENT:
            while (other := shelf.committing.get(sop_uid)) is not None:
                await asyncio.wait([other])
            same = shelf.current.get(sop_uid)
            if same is not None and self._is_same(same.instance) and self._means.objects.is_at_hand(same.extents):
                return same.instance
            if shelf.current and shelf.row is not None and shelf.row.patient != self._owner.patient:
                raise InvalidRequest("the study is kept for another patient")
        kept, future = self._enqueue(described, standing)
        if standing is Standing.CURRENT:
            shelf.committing[sop_uid] = future
        await asyncio.shield(future)
        return kept.instance

    def leave(self) -> None:
        """Give back the room of what was not committed."""
        if not self._is_committing:
            self._give_back(self._extents)

    def _give_back(self, extents: Sequence[Extent]) -> None:
        if extents:
            self._means.objects.release(extents)
            with suppress(StoreUnavailable):  # closed: the next start finds them
                self._means.objects.drop(extents)

    def _gather(self, sealed: Sequence[bytes]) -> None:
        self._window += sealed
        self._window_bytes += sum(map(len, sealed))

    def _is_same(self, other: CachedInstance) -> bool:
        return other.digest == self._digest and other.transfer_syntax == self._head.transfer_syntax

    def _enqueue(self, described: Described, standing: Standing) -> tuple[Kept, asyncio.Future[None]]:
        entry = self._entry(described, standing)
        seal = partial(seal_entry, entry, key=self._owner.key, random=self._means.random)
        extents, future = self._means.objects.commit(
            self._object_id, self._extents, self._window, seal, must_last=self._must_last
        )
        self._window = []
        self._is_committing = True
        entry = replace(entry, kept=replace(entry.kept, extents=extents), metadata=b"")
        future.add_done_callback(partial(self._ended, entry))
        return entry.kept, future

    def _ended(self, entry: Entry, future: asyncio.Future[None]) -> None:
        if self._shelf.committing.get(self._head.ref.sop_uid) is future:
            del self._shelf.committing[self._head.ref.sop_uid]
        if _went_well(future):
            if self._plain is not None and self._plain_bytes <= FRESH_BYTES_MAX:
                self._means.fresh.put(entry.kept.object_id, tuple(self._plain))
            self._means.keep(self._shelf, entry)
        else:
            self._give_back(entry.kept.extents)

    def _entry(self, described: Described, standing: Standing) -> Entry:
        head = self._head
        instance = CachedInstance(
            ref=head.ref,
            transfer_syntax=head.transfer_syntax,
            source=head.source,
            custodian=head.custodian,
            object_id=self._object_id.hex(),
            plain_bytes=self._plain_bytes,
            digest=self._digest,
            version=self._shelf.next_version(head.ref.sop_uid),
            received_at=self._means.now(),
            domain=head.domain,
            has_pixels=described.has_pixels,
            is_sole_copy=head.is_sole_copy,
            content_digest=described.content_digest,
        )
        sealed_bytes = self._window_bytes + sum(extent.length for extent in self._extents)
        kept = Kept(instance, self._owner.patient, self._owner.key_id, sealed_bytes, (), standing)
        return Entry(kept, head.cache_class, head.study_date, described.metadata)


def _went_well(future: asyncio.Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
