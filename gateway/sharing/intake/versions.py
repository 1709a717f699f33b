"""Two instances of one UID: another version of the same content, or a conflict (SAF-35).

Only pixels, bulk data and the content of reports are compared; a header that differs makes a version, and the
custodian's wins. Other content is nobody's to choose from: none of it is handed out until the custodian has put it
right. Compared only where bytes differ at all, for it means reading both.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from gateway.instances.content import Content, ContentDigest
from gateway.model.errors import Conflicting
from gateway.model.work.transfers import CachedInstance, Described, InstanceRef, Standing, StudyCache, Writing


class Versions:
    """Keeps instances, one at a time of each UID."""

    def __init__(self, cache: StudyCache) -> None:
        self._cache = cache
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def keep(
        self, ref: InstanceRef, writing: Writing, described: Described, *, is_custodians: bool
    ) -> CachedInstance:
        """Keep what was written; what is handed out of this UID from now on. Raises `Conflicting`, a `ServiceFault`."""
        digest = writing.finish()
        lock = self._locks.setdefault(ref.sop_uid, asyncio.Lock())
        async with lock:
            kept = await self._cache.instance(ref.study_uid, ref.sop_uid)
            if kept is None or kept.digest == digest:
                return await writing.commit(described)
            new = await writing.commit(described, Standing.SUPERSEDED)
            before, after = await self._content(kept), await self._content(new)
            if before.can_be_compared(after) and before.digest != after.digest:
                for each in (kept, new):
                    await self._cache.stand(each, Standing.QUARANTINED, "two contents of one UID")
                raise Conflicting("another instance of this UID is kept", kept_from=kept.source)
            # Pixels that were compressed anew cannot be compared: whose word counts decides alone.
            if not is_custodians:
                return kept
            await self._cache.stand(new, Standing.CURRENT, "another header of the same content")
            return new

    async def _content(self, cached: CachedInstance) -> Content:
        content = ContentDigest(cached.transfer_syntax)
        async with self._cache.open(cached) as pieces:
            async for piece in pieces:
                content.add(piece)
        return content.finish()
