"""Sole copies in the cache: what nobody else is known to have, and how it gets back to its custodian (SAF-21).

They outlast everything, also an opt-out: then they are sealed to their custodian, whom they are given back to and who
alone they are opened for. Once the custodian's archive has committed itself to one, it is a copy like others, and what
was kept for the custodian's sake is given up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager

from gateway.model.errors import Damaged, KeyClosed, NotFound
from gateway.model.work.transfers import CachedInstance, KeyDomain, Standing, StudyKeys
from policy.parties import TrustId
from storage.cache.entries import Kept
from storage.cache.shelves import Shelf
from storage.cache.upkeep import Upkeep

Pieces = Callable[[Shelf, Kept, bytes, int, int | None], AsyncGenerator[bytes]]
"""Reads an object piece by piece."""


class SoleCopies:
    """The sole copies of one node's cache."""

    def __init__(self, upkeep: Upkeep, keys: StudyKeys, pieces: Pieces) -> None:
        self._upkeep = upkeep
        self._keys = keys
        self._pieces = pieces

    async def of(self, study_uid: str, custodian: TrustId) -> Sequence[CachedInstance]:
        """What of a study is to be given back to this custodian, by series and instance."""
        found: list[CachedInstance] = []
        for domain in KeyDomain:
            async with self._upkeep.shelves.using(domain, study_uid) as shelf:
                found += [kept.instance for kept in shelf.current.values() if kept.instance.is_sole_copy]
        of_custodian = [each for each in found if each.custodian == custodian]
        return sorted(of_custodian, key=lambda each: (each.ref.series_uid, each.ref.sop_uid))

    @asynccontextmanager
    async def open(
        self, instance: CachedInstance, first: int = 0, last: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Its bytes, for its custodian alone, also where they are closed to everybody else. Raises `Damaged`."""
        async with self._upkeep.shelves.using(instance.domain, instance.ref.study_uid) as shelf:
            kept = shelf.objects.get(bytes.fromhex(instance.object_id))
            if kept is None or kept.standing is Standing.QUARANTINED:
                raise Damaged("the instance is not kept any more")
            key = await self._key(kept)
            async with aclosing(self._pieces(shelf, kept, key, first, last)) as pieces:
                yield pieces

    async def confirm(self, study_uid: str, object_ids: Collection[str]) -> None:
        """Note that the custodian's archive has committed these: they are no sole copies any more.

        Named by object, because another version of the same instance may have come meanwhile.
        """
        for domain in KeyDomain:
            async with self._upkeep.shelves.using(domain, study_uid) as shelf:
                sole = [kept for kept in shelf.objects.values() if kept.instance.is_sole_copy]
                confirmed = [kept for kept in sole if kept.instance.object_id in object_ids]
                self._upkeep.confirm_elsewhere(shelf, confirmed)
                needed = {kept.key_id for kept in shelf.objects.values() if kept.instance.is_sole_copy}
                is_closed = shelf.row is not None and shelf.row.closed_at is not None
                for key_id in {kept.key_id for kept in confirmed} - needed if is_closed else ():
                    await self._keys.discard_kept(key_id)
        await self._upkeep.write()

    async def indexed(self) -> None:
        """Return once the index knows everything that is kept; raises `StoreUnavailable`."""
        await self._upkeep.write()

    async def _key(self, kept: Kept) -> bytes:
        try:
            return await self._keys.key(kept.key_id)
        except (KeyClosed, NotFound):
            return await self._keys.custodians_key(kept.key_id, kept.instance.custodian)
