"""Open what lies in packs, some segments at a time, verified as they open (DEC-23); what has just come need not be.

Opening blocks, and is for a pool's threads; `Fresh` belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

from gateway.model.errors import Damaged, GatewayError
from storage.cache.entries import Kept, context
from storage.cache.packs.port import Objects
from storage.cache.sealed import HEAD_BYTES, PREAMBLE_BYTES, SEGMENT_BYTES, Opener

FRESH_BYTES_MAX = 1024 * 1024
"""A longer instance is read back by whoever waits for it."""
FRESH_HELD_BYTES_MAX = 16 * 1024 * 1024
"""Of all that is held open; what came first goes first."""
FRESH_S = 10.0
"""Whoever waits asks at once; what nobody has asked for after as long, or twice as long, is let go."""


class Fresh:
    """What has just been sealed while somebody waits for it, still open: the first who asks need not read it back."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()
        self._held_bytes = 0
        self._old: tuple[bytes, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, object_id: bytes, plain: tuple[bytes, ...]) -> None:
        """Hold it for whoever waits."""
        self._held[object_id] = plain
        self._held_bytes += sum(map(len, plain))
        while self._held_bytes > FRESH_HELD_BYTES_MAX:
            self.take(next(iter(self._held)))
        self._timer = self._timer or asyncio.get_running_loop().call_later(FRESH_S, self._age)

    def take(self, object_id: bytes) -> tuple[bytes, ...] | None:
        """All of it, once."""
        plain = self._held.pop(object_id, None)
        self._held_bytes -= sum(map(len, plain or ()))
        return plain

    def clear(self) -> None:
        """Let go of everything."""
        self._held.clear()
        self._held_bytes = 0

    def _age(self) -> None:
        for object_id in self._old:
            self.take(object_id)
        self._old = tuple(self._held)
        self._timer = asyncio.get_running_loop().call_later(FRESH_S, self._age) if self._held else None


def opener(objects: Objects, kept: Kept, key: bytes) -> Opener:
    """What opens an object's segments. Blocks; raises `Damaged`."""
    return _opener(kept, key, objects.read(kept.chunks, 0, HEAD_BYTES))


def opened(objects: Objects, kept: Kept, opening: Opener, numbers: range) -> bytes:
    """The plain bytes of neighbouring segments. Blocks; raises `Damaged`."""
    spans = [opening.span(number) for number in numbers]
    begins = spans[0].sealed_at
    sealed = memoryview(objects.read(kept.chunks, begins, spans[-1].sealed_at + spans[-1].sealed_bytes - begins))
    return b"".join(opening.open(span.number, sealed[span.sealed_at - begins :][: span.sealed_bytes]) for span in spans)


def first_opened(objects: Objects, kept: Kept, key: bytes, first: int, last: int | None) -> tuple[Opener, int, bytes]:
    """What opens an object, where the first of the segments begins that hold these bytes, and the first few of them.

    Blocks; raises `Damaged`, or `ValueError` for bytes that it does not have.
    """
    opening = opener(objects, kept, key)
    numbers = opening.spans(first, last)[: objects.segments_at_once]
    return opening, opening.span(numbers[0]).plain_at, opened(objects, kept, opening, numbers)


def wholes(
    objects: Objects, wanted: Sequence[tuple[Kept, bytes] | GatewayError], beginnings: bool
) -> list[tuple[bytes, ...] | GatewayError]:
    """All plain bytes of each object, segment by segment, each object in one read, or the first segment alone; what
    cannot be had as its error. Blocks.
    """
    found: list[tuple[bytes, ...] | GatewayError] = []
    for asked in wanted:
        if isinstance(asked, GatewayError):
            found.append(asked)
            continue
        kept, key = asked
        try:
            length = min(kept.sealed_bytes, PREAMBLE_BYTES + SEGMENT_BYTES) if beginnings else kept.sealed_bytes
            sealed = memoryview(objects.read(kept.chunks, 0, length))
            opening = _opener(kept, key, bytes(sealed[:HEAD_BYTES]))
            spans = [opening.span(number) for number in range(1 if beginnings else opening.segments)]
            found.append(
                tuple(opening.open(each.number, sealed[each.sealed_at :][: each.sealed_bytes]) for each in spans)
            )
        except GatewayError as error:
            found.append(error)
    return found


def is_whole(objects: Objects, kept: Kept, key: bytes) -> bool:
    """Whether an object opens from end to end and has the digest that was taken when it came. Blocks."""
    try:
        opening = opener(objects, kept, key)
        digest = sha256()
        for first in range(0, opening.segments, objects.segments_at_once):
            numbers = range(first, min(first + objects.segments_at_once, opening.segments))
            digest.update(opened(objects, kept, opening, numbers))
    except Damaged:
        return False
    return digest.digest() == kept.instance.digest


def _opener(kept: Kept, key: bytes, head: bytes) -> Opener:
    instance = kept.instance
    return Opener(key, context(instance.ref, instance.domain, kept.object_id), head, kept.sealed_bytes)
