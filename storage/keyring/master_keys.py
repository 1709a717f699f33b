"""Master keys in memory, and the transactions that need them: what is missing is unwrapped outside, then run again.

A wrapper may be a service far away, so it is never asked while the key store is locked, and never twice at once for
one key. Translates what the store and the wrapper do into the errors that the core knows: a key store that cannot be
read is a register that cannot be read (SAF-01).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from gateway.model.errors import Damaged, OverCapacity, RegisterUnavailable, StoreUnavailable
from storage.database import Database, Read, Tx
from storage.keyring.epochs import NewEpoch, master_context
from storage.keyring.rows import EpochRow, MasterWanted
from storage.keyring.wrapping import KEY_BYTES, KeyWrapper, Random, WrapRefused

T = TypeVar("T")

_TRIES_MAX = 5
"""How often a transaction is run for want of a master key: there are two live ones, and one may retire meanwhile."""
_EPOCH_ID_BYTES = 8


class MasterKeys:
    """The master keys of one store."""

    def __init__(self, database: Database, wrapper: KeyWrapper, store_id: str, random: Random) -> None:
        self.database = database
        self.random = random
        self._wrapper = wrapper
        self._store_id = store_id
        self._keys: dict[str, bytes] = {}
        self._unwrapping = asyncio.Lock()

    async def read(self, body: Callable[[Read], T]) -> T:
        """Run `body` on a snapshot; raises `RegisterUnavailable`, or what `body` raises."""
        try:
            return await self.database.read(body)
        except (StoreUnavailable, OverCapacity) as error:
            raise RegisterUnavailable("the key store cannot be read") from error

    async def write(self, body: Callable[[Tx], T]) -> T:
        """Run `body` in a transaction; raises as `read`."""
        try:
            return await self.database.write(body)
        except (StoreUnavailable, OverCapacity) as error:
            raise RegisterUnavailable("the key store cannot be written") from error

    async def reading(self, body: Callable[..., T]) -> T:
        """Run `body(read, masters=...)` on a snapshot; raises as `read`, and `Damaged` if a key does not open."""
        return await self._given(self.read, body)

    async def writing(self, body: Callable[..., T]) -> T:
        """Run `body(tx, masters=...)` in a transaction; raises as `reading`."""
        return await self._given(self.write, body)

    def keep_only(self, epochs: Collection[str]) -> None:
        """Forget the master keys of all other epochs."""
        self._keys = {epoch: key for epoch, key in self._keys.items() if epoch in epochs}

    async def begin(self, *, is_first: bool = False) -> NewEpoch:
        """Make a master key under a new epoch of the wrapper's; it is nowhere yet but there and in memory."""
        wrapper_epoch = await asyncio.to_thread(self._wrapper.begin_epoch, self._store_id, is_first=is_first)
        epoch_id, master = self.random(_EPOCH_ID_BYTES).hex(), self.random(KEY_BYTES)
        wrapped = await asyncio.to_thread(self._wrapper.wrap, wrapper_epoch, master, master_context(epoch_id))
        self._keys[epoch_id] = master
        return NewEpoch(epoch_id, wrapper_epoch, wrapped)

    async def load(self, epoch: EpochRow) -> bool:
        """Have a master key in memory; False if the wrapper does not open it (any more)."""
        async with self._unwrapping:
            if epoch.epoch_id in self._keys:
                return True
            bound_to = master_context(epoch.epoch_id)
            try:
                self._keys[epoch.epoch_id] = await asyncio.to_thread(
                    self._wrapper.unwrap, epoch.wrapper_epoch, epoch.wrapped_master, bound_to
                )
            except WrapRefused:
                return False
        return True

    async def retire(self, spent: Sequence[EpochRow], live: Sequence[EpochRow]) -> None:
        """Have the wrapper destroy what guarded the spent epochs, and forget their master keys."""
        await asyncio.to_thread(
            self._wrapper.retire, [each.wrapper_epoch for each in spent], [each.wrapper_epoch for each in live]
        )
        self.keep_only({each.epoch_id for each in live})

    async def _given(self, run: Callable[[Callable[..., T]], Awaitable[T]], body: Callable[..., T]) -> T:
        for _ in range(_TRIES_MAX):
            try:
                return await run(partial(body, masters=dict(self._keys)))
            except MasterWanted as wanted:
                await self.load(wanted.epoch)  # if it was retired meanwhile, the next snapshot wants another
            except WrapRefused as error:
                raise Damaged("a wrapped key is not as it was wrapped") from error
        raise RegisterUnavailable("no master key opens the key store")
