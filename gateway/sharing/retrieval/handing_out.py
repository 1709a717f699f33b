"""One cached instance as one caller gets it: the bytes of its archive, with the caller's patient identifiers in them.

Only what identifies the patient is written anew, and only where it differs; everything else is handed out bit for bit
(D4, SAF-34). The first bytes are read once, for the identifiers stand there, and are the first that are handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gateway.instances import coercion
from gateway.instances.coercion import Changes, Coercion
from gateway.instances.header import ISSUER_OF_PATIENT_ID as ISSUER
from gateway.instances.header import PATIENT_ID as NUMBER
from gateway.instances.header import Header, HeaderReader
from gateway.model.errors import Damaged, GatewayError
from gateway.model.imaging import ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_ID, Attributes, Element
from gateway.model.work.transfers import CachedInstance, InstanceRef, StudyCache
from gateway.sharing.merge import SOURCE_IDENTITY
from gateway.sharing.retrieval.descriptions import Descriptions
from policy.parties import TrustId

FIRST_BYTES = 64 * 1024
"""Looked at first: nearly every header."""
_BEGINNING_BYTES = 8 * 1024
"""Looked at first for the identifiers alone."""
HEAD_BYTES = 1024 * 1024
"""Read first of what was not read whole, so that most instances are opened once."""
_IDENTIFIERS = frozenset((NUMBER, ISSUER))


class HandedOut:
    """An instance in the cache for one caller (`gateway.model.work.retrievals.Item`). Made by `prepare`."""

    def __init__(
        self,
        cache: StudyCache,
        cached: CachedInstance,
        begun: tuple[bytes, ...],
        plan: Coercion,
        mark: str,
        descriptions: Descriptions,
    ) -> None:
        self.cached = cached
        self._cache = cache
        self._begun = begun
        self._plan = plan
        self._mark = mark
        self._descriptions = descriptions

    @classmethod
    async def prepare(
        cls,
        cache: StudyCache,
        cached: CachedInstance,
        shown: Attributes,
        descriptions: Descriptions,
        begun: tuple[bytes, ...] = (),
    ) -> HandedOut:
        """See what has to be written anew in its beginning, of which `begun` was read already.

        Raises `Damaged`, `NotFound`, `InvalidRequest`.
        """
        begun = begun or await _begun(cache, cached)
        head = begun[0][:_BEGINNING_BYTES]
        while True:
            is_whole = len(head) >= cached.plain_bytes
            header = _header(head, cached.transfer_syntax, is_whole=is_whole)
            changes = _changes(header, shown) if header is not None else None
            plan = (
                coercion.plan(head, cached.transfer_syntax, changes, is_whole=is_whole) if changes is not None else None
            )
            if changes is not None and plan is not None:
                return cls(cache, cached, begun, plan, _mark(changes) if changes else "", descriptions)
            if is_whole:
                raise Damaged("the instance cannot be read")
            begun, head = await _longer(cache, cached, begun, head)

    @property
    def ref(self) -> InstanceRef:
        """See `Item`."""
        return self.cached.ref

    @property
    def transfer_syntax(self) -> str:
        """See `Item`."""
        return self.cached.transfer_syntax

    @property
    def data_bytes(self) -> int:
        """See `Item`."""
        return self._plan.data_bytes(self.cached.plain_bytes)

    @property
    def source(self) -> TrustId:
        """See `Item`."""
        return self.cached.source

    @property
    def etag(self) -> str:
        """See `Item`."""
        return self.cached.digest[:16].hex() + self._mark

    @asynccontextmanager
    async def open(self, first: int = 0, last: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Item`."""
        yield self._pieces(first, self.data_bytes - 1 if last is None else last)

    async def metadata(self) -> bytes:
        """See `Item`."""
        plan, describer = self._plan, self._descriptions.describer(self.transfer_syntax)
        head = self._begun[0][:FIRST_BYTES]
        while True:
            is_whole = len(head) >= self.cached.plain_bytes
            if len(head) >= plan.replaces:
                described = describer.describe(plan.prefix + head[plan.replaces :], is_whole=is_whole)
                if described is not None:
                    return described.json
            if is_whole:
                raise Damaged("the instance cannot be read")
            self._begun, head = await _longer(self._cache, self.cached, self._begun, head)

    async def _pieces(self, first: int, last: int) -> AsyncIterator[bytes]:
        prefix, shift = self._plan.prefix, self._plan.replaces - len(self._plan.prefix)
        if first < len(prefix):
            yield prefix[first : last + 1]
        at, ends, begins = max(first + shift, self._plan.replaces), last + shift, 0
        for piece in self._begun:
            if at <= ends and begins <= at < begins + len(piece):
                # All of a piece is the piece itself: nothing is copied.
                yield piece[at - begins : ends + 1 - begins]
                at = begins + len(piece)
            begins += len(piece)
        if at <= ends:
            async with self._cache.open(self.cached, at, ends) as pieces:
                async for piece in pieces:
                    yield piece


def _changes(header: Header, shown: Attributes) -> Changes:
    """What has to be written anew for the instance to name its patient as the caller's rows do; mostly nothing."""
    said = (header.text(NUMBER), header.text(ISSUER))
    wanted = (_first(shown.get(PATIENT_ID)), _first(shown.get(ISSUER_OF_PATIENT_ID)))
    if not wanted[0] or (said[0] == wanted[0] and said[1] in ("", wanted[1])):
        return {}
    changes: dict[str, Element | None] = dict.fromkeys(SOURCE_IDENTITY)
    identity: Mapping[str, Element] = shown
    for tag in (PATIENT_ID, ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS):
        if tag in identity:
            changes[tag] = identity[tag]
    return changes


def _mark(changes: Changes) -> str:
    return hashlib.blake2b(repr(sorted(changes.items())).encode(), digest_size=8).hexdigest()


def _first(element: Element | None) -> str:
    values = element.get("Value") if element is not None else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _header(head: bytes, transfer_syntax: str, *, is_whole: bool) -> Header | None:
    reader = HeaderReader(transfer_syntax, wanted=_IDENTIFIERS)
    if reader.feed(head):
        return reader.header
    if is_whole:
        reader.end()
        return reader.header
    return None


async def _begun(cache: StudyCache, cached: CachedInstance) -> tuple[bytes, ...]:
    """All of a small instance, segment by segment; else its beginning."""
    if cached.plain_bytes > HEAD_BYTES:
        return (await _read(cache, cached, HEAD_BYTES),)
    (found,) = await cache.read([cached])
    if isinstance(found, GatewayError):
        raise found
    return found


async def _longer(
    cache: StudyCache, cached: CachedInstance, begun: tuple[bytes, ...], head: bytes
) -> tuple[tuple[bytes, ...], bytes]:
    """What was read of it, and a longer beginning than `head`: more of the first piece, all of what was read, or four
    times as much.
    """
    if len(head) < len(begun[0]):
        return begun, begun[0][: 8 * len(head)]
    held = sum(map(len, begun))
    joined = b"".join(begun) if len(head) < held else await _read(cache, cached, 4 * len(head))
    return (joined,), joined


async def _read(cache: StudyCache, cached: CachedInstance, count: int) -> bytes:
    wanted = min(count, cached.plain_bytes)
    async with cache.open(cached, 0, wanted - 1) as pieces:
        return b"".join([piece async for piece in pieces])
