"""Whether the gateway answers questions: registers readable, audit writable, not starting, not draining.

Probes the registers well within the minute of SAF-01, says every change as an alarm, and repeats an alarm that lasts.
`WatchedStore` stands between the gate and the store and sees when a record could not be written; then the probe itself
tries to record that recording works again, for without readiness nobody would send a question. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from gateway.metrics import Figures
from gateway.model.audit import AuditEntry, AuditEvent, AuditRecord
from gateway.model.errors import AuditUnavailable, ServiceFault
from gateway.model.seams import Clock, CrossReference, FactsSnapshot, QualityItem, Store
from policy.facts import Register
from policy.parties import NhsNumber, PatientId, TrustId

log = structlog.get_logger(__name__)

PROBE_INTERVAL_S = 10.0
"""Twice this and a register's time-out make less than the minute of SAF-01."""
ALARM_INTERVAL_S = 60.0
"""An alarm that lasts is repeated so often."""


class ProbedStore(Store, Protocol):
    """A store that can say which registers cannot be believed at this moment."""

    async def probe(self) -> frozenset[Register]:
        """The registers at fault; raises nothing."""


class Health:
    """The one answer to "does it work?", for probes, figures and the log."""

    def __init__(self, store: ProbedStore, figures: Figures, clock: Clock, new_id: Callable[[], str]) -> None:
        self._store = store
        self._figures = figures
        self._clock = clock
        self._new_id = new_id
        self._faults: frozenset[Register] = frozenset()
        self._is_open = False
        self._is_audit_down = False
        self._alarmed: tuple[str, ...] = ()
        self._alarmed_at = 0.0
        self._images_alarmed_at = 0.0
        self._images_fault = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why questions are not answered now; empty while they are. The same for every patient."""
        reasons = [] if self._is_open else ["not accepting questions"]
        reasons += [f"register unreadable: {register.value}" for register in sorted(self._faults)]
        return (*reasons, *["audit cannot be written"] * self._is_audit_down)

    @property
    def is_ready(self) -> bool:
        """Whether questions are answered now."""
        return not self.reasons

    def open(self) -> None:
        """Questions are accepted from now on."""
        self._is_open = True
        self._show()

    def drain(self) -> None:
        """No new questions are wanted: the gateway is stopping."""
        self._is_open = False
        self._show()

    def audit_failed(self) -> None:
        """A record could not be made durable."""
        self._is_audit_down = True
        self._show()

    def images_are(self, fault: str) -> None:
        """Why images cannot be had now, or nothing if they can. Questions are answered either way: readiness stays."""
        now = self._clock.monotonic()
        is_new = fault != self._images_fault
        if fault and (is_new or now - self._images_alarmed_at >= ALARM_INTERVAL_S):
            log.error("images not available", alarm=True, reason=fault)
            self._images_alarmed_at = now
        if self._images_fault and not fault:
            log.warning("images available again", alarm=False)
        self._images_fault = fault
        self._figures.images.probed(fault)

    def audit_works(self) -> None:
        """A record became durable."""
        if self._is_audit_down:
            self._is_audit_down = False
            self._show()

    async def watch(self) -> None:
        """Probe for ever, at intervals of the clock."""
        while True:
            await self.probe()
            await self._clock.sleep(PROBE_INTERVAL_S)

    async def probe(self) -> None:
        """Look once: which registers can be believed, and whether a failed audit works again."""
        faults = await self._store.probe()
        for register in faults - self._faults:
            self._figures.register_fault(register.value)
        self._faults = faults
        if self._is_audit_down:
            await self._try_audit()
        self._show()

    async def _try_audit(self) -> None:
        body = {"alert": "recording-resumed"}
        entry = AuditEntry(AuditEvent.SECURITY_ALERT, self._clock.now(), self._new_id(), body)
        try:
            await self._store.append_audit(entry)
        except ServiceFault:
            return
        self._is_audit_down = False

    def _show(self) -> None:
        self._figures.probed(self._faults, self.is_ready)
        alarms = self.reasons if self._is_open else ()
        now = self._clock.monotonic()
        if alarms and (alarms != self._alarmed or now - self._alarmed_at >= ALARM_INTERVAL_S):
            log.error("not ready", alarm=True, reasons=list(alarms))
            self._alarmed_at = now
        if self._alarmed and not alarms and self._is_open:
            log.warning("ready again", alarm=False, reasons=list(self._alarmed))
        self._alarmed = alarms


class WatchedStore:
    """A store whose audit failures are known to `Health`, and whose facts bring the roll of trusts up to date."""

    def __init__(self, store: Store, health: Health, follow: Callable[[int], Awaitable[None]]) -> None:
        """`follow` returns when what is told of trusts and studies is no older than that version of the registers."""
        self._store = store
        self._health = health
        self._follow = follow

    async def facts(
        self, recipient: TrustId, patients: Sequence[NhsNumber], *, at: datetime, known_at: datetime | None = None
    ) -> FactsSnapshot:
        """See `gateway.model.seams.Store`."""
        found = await self._store.facts(recipient, patients, at=at, known_at=known_at)
        await self._follow(found.register_version)
        return found

    async def cross_references(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        """See `gateway.model.seams.Store`."""
        return await self._store.cross_references(identifiers)

    async def patient_row(self, identifier: PatientId) -> str:
        """See `gateway.model.seams.Store`."""
        return await self._store.patient_row(identifier)

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        """See `gateway.model.seams.Store`."""
        return await self._store.patient_rows(identifiers)

    async def register_version(self) -> int:
        """See `gateway.model.seams.Store`."""
        return await self._store.register_version()

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """See `gateway.model.seams.Store`."""
        try:
            record = await self._store.append_audit(entry)
        except AuditUnavailable:
            self._health.audit_failed()
            raise
        self._health.audit_works()
        return record

    async def report_quality(self, items: Sequence[QualityItem], at: datetime) -> None:
        """See `gateway.model.seams.Store`."""
        await self._store.report_quality(items, at)
