"""Drives the walk of `epochs.py` from one master key to the next, and takes up one that was interrupted.

One process walks at a time; nothing is retired that still wraps anything, whoever walks. The wrapper is asked between
transactions, never inside one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from gateway.model.errors import RegisterUnavailable
from storage.keyring import epochs, key_database, rows
from storage.keyring.epochs import NewEpoch
from storage.keyring.master_keys import MasterKeys

_BATCHES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk did."""

    patients_shredded: int = 0
    epochs_retired: int = 0
    is_log_emptied: bool = True
    """False: somebody was reading SQLite's log, which the next walk empties; nothing in it opens any more."""


async def begin_store(masters: MasterKeys, lock_wait_s: float) -> None:
    """Give a new store its first epoch."""
    async with key_database.walking(masters.database, lock_wait_s):
        if await masters.read(rows.epochs):
            return  # another process was first
        new = await masters.begin(is_first=True)
        await masters.write(partial(epochs.first, new=new))


async def walk(masters: MasterKeys, *, closed_before: datetime, is_forced: bool, batch_max: int) -> Walked:
    """Walk if anything is due, or in any case if it `is_forced`; raises `RegisterUnavailable`, `OverCapacity`.

    `closed_before`: closures at least as old are shredded.
    """
    due = await masters.read(partial(epochs.due, closed_before=closed_before))
    if not (is_forced or due.has_ended or due.has_discards or due.is_unfinished):
        return Walked()
    async with key_database.walking(masters.database, 0.0):
        due = await masters.read(partial(epochs.due, closed_before=closed_before))
        shredded = 0
        if due.has_ended and not due.has_shreds:
            await masters.write(partial(epochs.end_closures, closed_before=closed_before))  # of whom nothing is kept
        if is_forced or due.has_shreds or due.has_discards:
            shredded = await _switch(masters, closed_before)
        await _rewrap(masters, batch_max)
        return await _retire(masters, shredded)


async def _switch(masters: MasterKeys, closed_before: datetime) -> int:
    for epoch in await masters.read(rows.epochs):
        # Before anything new is begun: a wrapper that lost a key must not be led on to lose the others.
        if epoch.is_current and not await masters.load(epoch):
            raise RegisterUnavailable("the wrapper does not open the current master key")
    new: NewEpoch = await masters.begin()
    return await masters.write(partial(epochs.switch, new=new, closed_before=closed_before))


async def _rewrap(masters: MasterKeys, batch_max: int) -> None:
    body = partial(epochs.rewrap, batch_max=batch_max, random=masters.random)
    for _ in range(_BATCHES_MAX):
        if not await masters.writing(body):
            return
    raise RegisterUnavailable(f"keys are not re-wrapped in {_BATCHES_MAX} batches")


async def _retire(masters: MasterKeys, shredded: int) -> Walked:
    spent, live = await masters.read(epochs.by_use)
    if not spent:
        return Walked(shredded)
    await masters.retire(spent, live)
    await masters.write(partial(epochs.drop, spent=[each.epoch_id for each in spent]))
    is_emptied = await asyncio.to_thread(key_database.empty_log, masters.database)
    return Walked(shredded, len(spent), is_emptied)
