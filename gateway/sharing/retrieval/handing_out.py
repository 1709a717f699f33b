"""One cached instance as one caller gets it: the bytes of its archive, with the caller's patient identifiers in them.

Only what identifies the patient is written anew, and only where it differs; everything else is handed out bit for bit
(D4, SAF-34). The first bytes are read once, for the identifiers stand there, and are the first that are handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gateway.instances import coercion, description
from gateway.instances.coercion import Changes, Coercion
from gateway.instances.header import ISSUER_OF_PATIENT_ID as ISSUER
from gateway.instances.header import PATIENT_ID as NUMBER
from gateway.instances.header import Header, HeaderReader
from gateway.model.errors import Damaged
from gateway.model.imaging import ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_ID, Attributes, Element
from gateway.model.work.transfers import CachedInstance, InstanceRef, StudyCache
from gateway.sharing.merge import SOURCE_IDENTITY
from policy.parties import TrustId

HEAD_BYTES = 1024 * 1024
"""Read first: nearly every header, and the whole of most instances, so that these are opened once."""


class HandedOut:
    """An instance in the cache for one caller (`gateway.model.work.retrievals.Item`). Made by `prepare`."""

    def __init__(self, cache: StudyCache, cached: CachedInstance, head: bytes, plan: Coercion, mark: str) -> None:
        self.cached = cached
        self._cache = cache
        self._head = head
        self._plan = plan
        self._mark = mark

    @classmethod
    async def prepare(cls, cache: StudyCache, cached: CachedInstance, shown: Attributes) -> HandedOut:
        """Read its beginning, and see what has to be written anew. Raises `Damaged`, `NotFound`, `InvalidRequest`."""
        head = await _read(cache, cached, HEAD_BYTES)
        while True:
            is_whole = len(head) >= cached.plain_bytes
            header = _header(head, cached.transfer_syntax, is_whole=is_whole)
            changes = _changes(header, shown) if header is not None else None
            plan = (
                coercion.plan(head, cached.transfer_syntax, changes, is_whole=is_whole) if changes is not None else None
            )
            if changes is not None and plan is not None:
                mark = hashlib.blake2b(repr(sorted(changes.items())).encode(), digest_size=8).hexdigest()
                return cls(cache, cached, head, plan, mark if changes else "")
            if is_whole:
                raise Damaged("the instance cannot be read")
            head = await _read(cache, cached, 4 * len(head))

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
        read, syntax = len(self._head), self.transfer_syntax
        while True:
            head = self._plan.prefix + self._head[self._plan.replaces :]
            is_whole = len(self._head) >= self.cached.plain_bytes
            described = description.describe(head, syntax, is_whole=is_whole)
            if described is not None:
                return described.json
            if is_whole:
                raise Damaged("the instance cannot be read")
            read *= 4
            self._head = await _read(self._cache, self.cached, read)

    async def _pieces(self, first: int, last: int) -> AsyncIterator[bytes]:
        prefix, shift = self._plan.prefix, self._plan.replaces - len(self._plan.prefix)
        if first < len(prefix):
            yield prefix[first : last + 1]
        at, ends = max(first + shift, self._plan.replaces), last + shift
        if at <= ends and at < len(self._head):
            yield self._head[at : ends + 1]
            at = len(self._head)
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


def _first(element: Element | None) -> str:
    values = element.get("Value") if element is not None else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _header(head: bytes, transfer_syntax: str, *, is_whole: bool) -> Header | None:
    reader = HeaderReader(transfer_syntax)
    if reader.feed(head):
        return reader.header
    if is_whole:
        reader.end()
        return reader.header
    return None


async def _read(cache: StudyCache, cached: CachedInstance, count: int) -> bytes:
    wanted = min(count, cached.plain_bytes)
    async with cache.open(cached, 0, wanted - 1) as pieces:
        return b"".join([piece async for piece in pieces])
