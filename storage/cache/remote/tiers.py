"""The bucket, and the node's own disk for what goes on while the bucket is out of reach.

What is on its way to somebody still goes through the cache then: it is sealed into packs on the disk, and stays there
until it is evicted. What nobody could send again is refused instead, because it is not called kept before the bucket
has it. An object lies whole in one of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.model.seams import Clock
from storage.cache.packs.frames import Extent, Frame
from storage.cache.packs.objects import LocalObjects
from storage.cache.packs.port import Buffer, Objects, Placed, SealsEntry
from storage.cache.remote.bucket import Bucket
from storage.cache.remote.packs import BucketPacks
from storage.cache.remote.reach import Reach
from storage.cache.remote.settings import BucketSettings


class TieredObjects:
    """See `storage.cache.packs.port.Objects`. Both parts are open for as long as this is used."""

    def __init__(
        self, bucket: BucketPacks, disk: LocalObjects, reach: Reach, check_room: Callable[[], None] = lambda: None
    ) -> None:
        """`check_room` raises `StoreFull` where the disk may take nothing more."""
        self._bucket = bucket
        self._disk = disk
        self._reach = reach
        self._check_room = check_room
        self._on_disk: set[bytes] = set()
        self.segments_at_once = bucket.segments_at_once
        self.reads_at_once = bucket.reads_at_once

    @property
    def fault(self) -> str:
        """See `Objects`."""
        words = self._reach.words
        return f"{words} (images come from their archives alone, and what must last is refused)" if words else ""

    @property
    def syncs(self) -> int:
        """See `Objects`."""
        return self._bucket.syncs + self._disk.syncs

    def append(
        self, object_id: bytes, before: Sequence[Extent], buffers: list[Buffer], *, must_last: bool = False
    ) -> Placed:
        """See `Objects`. Raises `OutOfReach` for what must last and cannot be put now."""
        where = self._chosen(before, must_last=must_last)
        return self._noted(where, where.append(object_id, before, buffers))

    def commit(
        self,
        object_id: bytes,
        before: Sequence[Extent],
        rest: list[Buffer],
        entry: SealsEntry,
        *,
        must_last: bool = False,
    ) -> Placed:
        """See `Objects`. Raises `OutOfReach` likewise."""
        where = self._chosen(before, must_last=must_last)
        return self._noted(where, where.commit(object_id, before, rest, entry))

    def drop(self, extents: Sequence[Extent] = (), packs: Sequence[bytes] = ()) -> asyncio.Future[None]:
        """See `Objects`."""
        on_disk = [pack_id for pack_id in packs if pack_id in self._on_disk]
        in_bucket = [pack_id for pack_id in packs if pack_id not in self._on_disk]
        extents_on_disk, extents_in_bucket = self._parted(extents)
        dropping = [self._disk.drop(extents_on_disk, on_disk), self._bucket.drop(extents_in_bucket, in_bucket)]
        return asyncio.ensure_future(_both(dropping))

    def release(self, extents: Sequence[Extent]) -> None:
        """See `Objects`."""
        on_disk, in_bucket = self._parted(extents)
        self._disk.release(on_disk)
        self._bucket.release(in_bucket)

    def settled(self) -> list[bytes]:
        """See `Objects`."""
        return [*self._disk.settled(), *self._bucket.settled()]

    def goes_whole(self, pack_id: bytes) -> bool:
        """See `Objects`."""
        return self._where(pack_id).goes_whole(pack_id)

    def is_at_hand(self, extents: Sequence[Extent]) -> bool:
        """See `Objects`."""
        return not self._reach.words or not self._parted(extents)[1]

    def packs(self) -> dict[bytes, int]:
        """See `Objects`."""
        on_disk = self._disk.packs()
        self._on_disk |= on_disk.keys()
        return {**self._bucket.packs(), **on_disk}

    def frames(self, pack_id: bytes) -> Iterator[Frame]:
        """See `Objects`."""
        return self._where(pack_id).frames(pack_id)

    def read(self, extents: Sequence[Extent], at: int, length: int) -> bytes:
        """See `Objects`."""
        return (self._where(extents[0].pack_id) if extents else self._disk).read(extents, at, length)

    def _chosen(self, before: Sequence[Extent], *, must_last: bool) -> Objects:
        if before:
            return self._where(before[0].pack_id)
        if self._reach.words and not must_last:
            self._check_room()
            return self._disk
        return self._bucket

    def _noted(self, where: Objects, placed: Placed) -> Placed:
        if where is self._disk:
            self._on_disk |= {extent.pack_id for extent in placed[0]}
        return placed

    def _where(self, pack_id: bytes) -> Objects:
        return self._disk if pack_id in self._on_disk else self._bucket

    def _parted(self, extents: Sequence[Extent]) -> tuple[list[Extent], list[Extent]]:
        on_disk: list[Extent] = []
        in_bucket: list[Extent] = []
        for extent in extents:
            (on_disk if extent.pack_id in self._on_disk else in_bucket).append(extent)
        return on_disk, in_bucket


@asynccontextmanager
async def tiered(
    settings: BucketSettings,
    mark: bytes,
    folder: Path,
    clock: Clock,
    random: Callable[[int], bytes],
    check_room: Callable[[], None] = lambda: None,
) -> AsyncIterator[TieredObjects]:
    """Both parts, open; `folder` is the disk's. Raises `ConfigurationError`, or `OutOfReach` without the bucket."""
    reach = Reach(clock)
    async with (
        LocalObjects(folder, random) as disk,
        BucketPacks(Bucket(settings, mark, reach), random) as bucket,
    ):
        yield TieredObjects(bucket, disk, reach, check_room)


async def _both(dropping: Sequence[asyncio.Future[None]]) -> None:
    """Wait for all of it, whatever fails; then raise what failed."""
    await asyncio.wait(dropping)
    for each in dropping:
        each.result()
