"""The keyring: what seals a study at rest, and how it is closed, rotated and destroyed (DEC-20, SAF-20, SAF-21).

`data_key` and `key` are what the cache needs. `close_patient` is durable when it returns: this process opens nothing of
the patient any more, every other within `watch_s`; `shred_due` destroys the keys once the time to undo is over.
Whatever cannot be read for certain is `RegisterUnavailable`, never an old answer (SAF-01): a key in memory counts only
while the store has been looked at within `watch_s`. A stream that has its key already goes on: whoever hands out
decides again in flight. Keys in memory are bounded and forgotten, which Python can ask for and not enforce.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from gateway.model.errors import RegisterUnavailable
from gateway.model.seams import Clock
from gateway.model.work.transfers import KeyDomain
from policy.parties import TrustId
from storage.database import Read
from storage.engines import DatabaseSettings
from storage.keyring import epochs, keeping, key_database, rows
from storage.keyring.epochs import Census
from storage.keyring.keeping import KeptKey
from storage.keyring.master_keys import MasterKeys
from storage.keyring.rows import Owner, StudyKey
from storage.keyring.walk import Walked, begin_store, walk
from storage.keyring.wrapping import KeyWrapper, Random
from storage.store import new_id
from storage.tables.columns import EPOCH

T = TypeVar("T")
Place = bytes | tuple[str, Owner]
"""Under which a key is remembered: its id, or whose study it seals."""

_TRIES_MAX = 5
"""How often a question is asked again because the store changed under it."""
KEPT_MAX = 10_000
"""How many kept keys are listed."""


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """Where the key store is, and how it behaves."""

    database: DatabaseSettings
    shred_after_hours: float = 24.0
    """From closing a patient's keys until they are destroyed: the time to undo a mistaken case (SAF-20)."""
    watch_s: float = 0.5
    """For how long keys in memory are believed without a look at the store."""
    cached_keys_max: int = 4_096
    """Data keys in memory."""
    rewrap_batch_max: int = 500
    """Keys re-wrapped in one transaction."""
    lock_wait_s: float = 10.0
    """How long the first start waits for another process's."""


class Keyring:
    """The keys of one store, over one wrapper. `async with`; safe with other processes on the same store."""

    def __init__(
        self,
        settings: KeyringSettings,
        wrapper: KeyWrapper,
        *,
        node: str,
        clock: Clock,
        random: Random = secrets.token_bytes,
    ) -> None:
        self.settings = settings
        self._wrapper = wrapper
        self._clock = clock
        self._random = random
        self._database = key_database.open_database(settings.database, node, clock.now, new_id)
        self._opened: MasterKeys | None = None
        self._held: OrderedDict[Place, StudyKey] = OrderedDict()
        self._forgotten = 0
        """Counts how often `_held` was emptied: a question that was under way meanwhile is asked again."""
        self._generation = -1
        self._looked_at_s = float("-inf")
        self._looking = asyncio.Lock()

    async def __aenter__(self) -> Keyring:
        """Open the store, made with its first epoch if new; raises `RegisterUnavailable`, `ConfigurationError`."""
        store_id = await asyncio.to_thread(key_database.prepare, self._database)
        await self._database.__aenter__()
        try:
            masters = MasterKeys(self._database, self._wrapper, store_id, self._random)
            if not await masters.read(rows.epochs):
                await begin_store(masters, self.settings.lock_wait_s)
        except BaseException:
            await self._database.__aexit__()
            raise
        self._opened = masters
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._forget()
        self._opened = None
        await self._database.__aexit__(*exception)

    async def data_key(self, study_uid: str, patient_row: str, domain: KeyDomain) -> tuple[bytes, bytes]:
        """The id and the key that seal this study, made if there is none; durable when it returns.

        Raises `KeyClosed` if the patient's keys are closed, `RegisterUnavailable`, `Damaged`.
        """
        owner = Owner(patient_row, domain)
        place = (study_uid, owner)
        found = await self._remembered(place, partial(rows.find_study_key, study_uid=study_uid, owner=owner))
        if found is None:
            made = partial(rows.make_study_key, study_uid=study_uid, owner=owner, random=self._random)
            found = await self._masters.writing(made)
        return found.key_id, found.key

    async def key(self, key_id: bytes) -> bytes:
        """The key of this id; raises `KeyClosed` (closed, destroyed, unknown), `RegisterUnavailable`, `Damaged`."""
        found = await self._remembered(key_id, partial(rows.open_study_key, key_id=key_id))
        return found.key

    async def key_even_closed(self, key_id: bytes) -> bytes:
        """The key of this id while there is one, for whoever makes an index anew; kept in no memory.

        Raises `KeyClosed` if it was destroyed, `RegisterUnavailable`, `Damaged` (altered, or never made here).
        """
        opened = await self._masters.reading(partial(keeping.open_even_closed, key_id=key_id))
        return opened.key

    async def close_patient(self, patient_row: str, domain: KeyDomain) -> None:
        """Open nothing of the patient in this domain any more, and make no key; asks no wrapper. May be repeated."""
        try:
            await self._masters.write(partial(rows.close, owner=Owner(patient_row, domain)))
        finally:
            self._forget()  # also where the outcome is not known

    async def close_patients(self, patient_rows: Collection[str], domain: KeyDomain) -> None:
        """Close several patients at once: all of them, or none. May be repeated."""
        try:
            await self._masters.write(partial(rows.close_all, patient_rows=patient_rows, domain=domain))
        finally:
            self._forget()

    async def closed_patients(self, domain: KeyDomain) -> Mapping[str, bool]:
        """The internal rows of the patients whose keys of a domain are closed, and whether they are destroyed."""
        return await self._masters.read(partial(rows.closed, domain=domain))

    async def reopen_patient(self, patient_row: str, domain: KeyDomain) -> bool:
        """Undo a closing; False if the keys of before are destroyed, so that only new copies can be made."""
        is_whole = await self._masters.write(partial(rows.reopen, owner=Owner(patient_row, domain)))
        self._forget()
        return is_whole

    async def keep_for_custodian(self, key_id: bytes, custodian: TrustId) -> None:
        """Let a data key outlive its patient's, for its custodian alone; possible until it is shredded (SAF-21).

        The whole study's key is kept: what else it seals is to be deleted by whoever holds the objects.
        """
        kept = partial(keeping.keep_for, key_id=key_id, custodian=custodian, random=self._random)
        await self._masters.writing(kept)

    async def custodians_key(self, key_id: bytes, custodian: TrustId) -> bytes:
        """The key that is kept for this custodian; raises as `key`."""
        opened = await self._masters.reading(partial(keeping.open_kept, key_id=key_id, custodian=custodian))
        return opened.key

    async def kept_keys(self) -> Sequence[KeptKey]:
        """What is in custodians' keeping, up to `KEPT_MAX`."""
        return await self._masters.read(partial(keeping.kept, limit=KEPT_MAX))

    async def discard_kept(self, key_id: bytes) -> None:
        """Give up what was kept, once the custodian has it back; the next `shred_due` destroys it."""
        await self._masters.write(partial(keeping.discard_kept, key_id=key_id))

    async def rotate(self) -> Walked:
        """Follow the master key by a new one and destroy it; raises `OverCapacity` if another process is at it."""
        return await self._walk(closed_before=EPOCH, is_forced=True)

    async def shred_due(self, now: datetime) -> Walked:
        """Destroy the keys that were closed `shred_after_hours` ago, and end what was begun before.

        Raises `OverCapacity` if another process is at it. `now` is a time that is trusted: a clock that jumped ahead
        takes away the time to undo (SAF-31).
        """
        return await self._walk(closed_before=now - timedelta(hours=self.settings.shred_after_hours), is_forced=False)

    async def resume(self) -> Walked:
        """End a walk that a killed process began; before the doors open."""
        return await self._walk(closed_before=EPOCH, is_forced=False)

    async def check(self) -> None:
        """Read the store, and have the wrapper open the current master key if it is not in memory.

        Raises `RegisterUnavailable`, `ConfigurationError`.
        """
        for epoch in await self._masters.read(rows.epochs):
            if epoch.is_current and not await self._masters.load(epoch):
                raise RegisterUnavailable("the wrapper does not open the current master key")

    async def status(self) -> Census:
        """How many keys of what kind there are, and what waits."""
        return await self._masters.read(epochs.census)

    async def _walk(self, *, closed_before: datetime, is_forced: bool) -> Walked:
        walked = await walk(
            self._masters,
            closed_before=closed_before,
            is_forced=is_forced,
            batch_max=self.settings.rewrap_batch_max,
        )
        if walked.patients_shredded:
            self._forget()
        return walked

    @property
    def _masters(self) -> MasterKeys:
        if self._opened is None:
            raise RegisterUnavailable("the key store is closed")
        return self._opened

    async def _remembered(self, place: Place, question: Callable[..., T]) -> T | StudyKey:
        """The key that is in memory, else what the store answers, which then is."""
        for _ in range(_TRIES_MAX):
            await self._look()
            if (held := self._held.get(place)) is not None:
                self._held.move_to_end(place)
                return held
            forgotten = self._forgotten
            found = await self._masters.reading(question)
            if forgotten != self._forgotten:
                continue  # somebody closed a patient meanwhile: whose, the store says
            if isinstance(found, StudyKey):
                self._held[place] = found
                if len(self._held) > self.settings.cached_keys_max:
                    self._held.popitem(last=False)
            return found
        raise RegisterUnavailable("the key store changes faster than it can be read")

    async def _look(self) -> None:
        """Forget the keys in memory if the store changed; looks at most every `watch_s`."""
        if self._is_fresh():
            return
        async with self._looking:
            if self._is_fresh():
                return
            begun_s = self._clock.monotonic()
            generation, live = await self._masters.read(_seen)
            if generation != self._generation:
                self._forget()
                self._masters.keep_only(live)
            self._generation = generation
            self._looked_at_s = begun_s

    def _is_fresh(self) -> bool:
        return self._clock.monotonic() - self._looked_at_s < self.settings.watch_s

    def _forget(self) -> None:
        self._held.clear()
        self._forgotten += 1


def _seen(read: Read) -> tuple[int, frozenset[str]]:
    return rows.generation(read), frozenset(each.epoch_id for each in rows.epochs(read))
