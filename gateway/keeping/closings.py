"""Close the keys of whoever the opt-out register says is opted out, in this process and every other (SAF-20, SAF-25).

What is to be closed is read from the register as a whole and compared with what is closed, so it does not matter who
changed the register, in which process, or what failed in between: the register's transaction is the act, and every
node brings its keys and its cache after it, at its start before the doors open and then within a second. Until then
the policy stands before every copy, and nothing new is taken in for such a patient. Sole copies are kept for their
custodian (SAF-21). Somebody who is opted out no more is opened again; what was destroyed stays destroyed (SAF-24). A
closing of which the register knows nothing (an old backup was restored, an erasure) is left as it is, and told.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from gateway.model.errors import GatewayError, ServiceFault
from gateway.model.seams import Clock
from gateway.model.work.transfers import KeyDomain
from storage.cache.cache import SealedCache
from storage.keyring.keyring import Keyring
from storage.registers import closures
from storage.store import SqlStore

log = structlog.get_logger(__name__)

CLOSED_AT_ONCE_MAX = 5_000
"""Patients whose keys are closed in one transaction."""
ALARM_INTERVAL_S = 60.0
_DOMAIN = KeyDomain.CACHE
"""An opt-out touches the shared cache alone (SAF-20)."""


class Closings:
    """Follows the register. One at a time in a process."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._version = -1
        self._trace: tuple[object, ...] = ()
        self._changes_at: datetime | None = None
        self._alarmed_at_s = float("-inf")
        self._released: frozenset[str] = frozenset()
        self.opted_out: frozenset[str] = frozenset()
        """The internal rows of everybody whose keys are to be closed, as the register was last read."""

    async def read(self) -> bool:
        """Read the register if it changed; whether anything follows from it. Raises a `ServiceFault`."""
        version = await self._store.register_version()
        is_due = self._changes_at is not None and self._clock.now() >= self._changes_at
        if version == self._version and not is_due:
            return False
        trace = await self._store.read(closures.trace)
        is_changed = trace != self._trace or is_due
        if is_changed:
            found = await self._store.read(closures.opted_out)
            self.opted_out, self._released, self._changes_at = found.rows, found.released, found.changes_at
        self._trace, self._version = trace, version
        return is_changed

    async def apply(self, keyring: Keyring, cache: SealedCache | None) -> bool:
        """Bring keys and cache after the register; False if something of it failed and is to be tried again.

        Without a cache the keys alone are closed, which is enough that nothing opens. Raises a `ServiceFault` where
        nothing could be done.
        """
        closed = await keyring.closed_patients(_DOMAIN)
        to_close = sorted(self.opted_out - closed.keys())
        for at in range(0, len(to_close), CLOSED_AT_ONCE_MAX):
            await keyring.close_patients(to_close[at : at + CLOSED_AT_ONCE_MAX], _DOMAIN)
        if to_close:
            log.info("keys closed", patients=len(to_close))
        to_open = sorted(closed.keys() & self._released)
        if strange := len(closed.keys() - self.opted_out - self._released):
            log.error("keys closed without an entry in the register", alarm=True, patients=strange)
        if cache is None:
            return not to_open  # they wait for it, for their studies are hidden
        failed = 0
        for patient_row in await cache.kept_open(self.opted_out, _DOMAIN):
            failed += not await _is_hidden(cache, patient_row)
        for patient_row in to_open:
            failed += not await _is_opened(keyring, cache, patient_row, is_destroyed=closed[patient_row])
        return not failed

    def alarm(self, reason: str) -> None:
        """Say that keys are not closed that should be, once a minute."""
        if self._clock.monotonic() - self._alarmed_at_s >= ALARM_INTERVAL_S:
            self._alarmed_at_s = self._clock.monotonic()
            log.error("keys not closed", alarm=True, patients=len(self.opted_out), reason=reason)


async def _is_hidden(cache: SealedCache, patient_row: str) -> bool:
    try:
        await cache.shred(patient_row, _DOMAIN)
    except GatewayError as error:  # one patient's must not keep others' copies open
        log.warning("studies not closed", reason=type(error).__name__)
        return False
    return True


async def _is_opened(keyring: Keyring, cache: SealedCache, patient_row: str, *, is_destroyed: bool) -> bool:
    """Whether a patient's keys and studies are open. The studies first: the keys say that there is something to do."""
    try:
        await (cache.give_up(patient_row, _DOMAIN) if is_destroyed else cache.reopen(patient_row, _DOMAIN))
        if not await keyring.reopen_patient(patient_row, _DOMAIN) and not is_destroyed:
            await cache.give_up(patient_row, _DOMAIN)  # destroyed in this moment
    except ServiceFault as error:
        log.warning("studies not reopened", reason=type(error).__name__)
        return False
    log.info("keys reopened", destroyed=is_destroyed)
    return True
