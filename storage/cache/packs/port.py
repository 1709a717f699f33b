"""Where sealed bytes lie, as the cache knows it: packs of frames that only grow, each durable before it is believed.

Two kinds answer to it: pack files on a local disk (`storage.cache.packs.objects`), and packs in a bucket with a local
disk for what a bucket out of reach cannot take (`storage.cache.remote`). Every byte is sealed before it comes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from storage.cache.packs.frames import Extent, Frame

Buffer = bytes | memoryview
Placed = tuple[tuple[Extent, ...], asyncio.Future[None]]
"""Where all of an object lies so far, and when that is so."""
SealsEntry = Callable[[Sequence[Extent]], bytes]
"""Makes an object's entry from where its bytes lie."""


class Objects(Protocol):
    """The packs of one place; one process at a time adds to them."""

    segments_at_once: int
    """Neighbouring segments that are best read together."""
    reads_at_once: int
    """Reads that are best under way together; 1: one after the other costs no more."""

    @property
    def syncs(self) -> int:
        """How often something was made durable: a disk's syncs, a bucket's puts."""

    @property
    def fault(self) -> str:
        """Why what is kept cannot be had now, or be kept, in words for an operator; empty while it can."""

    def append(
        self, object_id: bytes, before: Sequence[Extent], buffers: list[Buffer], *, must_last: bool = False
    ) -> Placed:
        """Put more bytes of an object, that has `before`, behind all others.

        `must_last`: nobody could send it again. Raises `OverCapacity`; the future is done once little enough waits, not
        durable, or fails with `StoreUnavailable`. Whoever appends calls `release` in the end.
        """

    def commit(
        self,
        object_id: bytes,
        before: Sequence[Extent],
        rest: list[Buffer],
        entry: SealsEntry,
        *,
        must_last: bool = False,
    ) -> Placed:
        """Put the object's last bytes and its entry, which lies last.

        The future is done once all of it is durable, or fails with `StoreUnavailable`: then nothing of it is there.
        """

    def drop(self, extents: Sequence[Extent] = (), packs: Sequence[bytes] = ()) -> asyncio.Future[None]:
        """Give the room of these back, behind everything that waits; nobody may read them any more."""

    def release(self, extents: Sequence[Extent]) -> None:
        """Nothing more will come of an object with these extents: it is indexed, or given up."""

    def settled(self) -> list[bytes]:
        """The packs that were added to and of which nothing more will come; each is told once."""

    def goes_whole(self, pack_id: bytes) -> bool:
        """Whether the room of a pack comes back only when all of it goes."""

    def is_at_hand(self, extents: Sequence[Extent]) -> bool:
        """Whether these can be read now, as far as is known without trying."""

    def packs(self) -> dict[bytes, int]:
        """Every pack and its length. Blocks; raises `StoreUnavailable`."""

    def frames(self, pack_id: bytes) -> Iterator[Frame]:
        """The frames of a pack in their order, up to where none was ever written. Blocks; raises `StoreUnavailable`."""

    def read(self, extents: Sequence[Extent], at: int, length: int) -> bytes:
        """Bytes of an object that lies in these extents. Blocks; raises `Damaged` for what is not there."""
