"""The store as the core knows it (`gateway.model.seams.Store`), over one database.

`write(body)` and `read(body)` run functions of the registers and of the audit in transactions (see
`storage.database`); the seam's methods are such functions with time limits and the core's errors around them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import uuid4

from gateway.model.audit import AuditEntry, AuditRecord
from gateway.model.errors import AuditUnavailable, ServiceFault, StoreUnavailable
from gateway.model.seams import Clock, CrossReference, FactsSnapshot, QualityItem
from policy.facts import Register
from policy.parties import NhsNumber, PatientId, TrustId
from storage.database import Database, NewId, Read, Tx
from storage.engines import DatabaseSettings
from storage.facts import Question, RegisterFault, nothing_readable, read_facts
from storage.registers import merges, patients, quality
from storage.registers.cross_references import read_cross_references
from storage.registers.state import Author, version

T = TypeVar("T")

_NOBODY = TrustId("ZZZ")
"""Stands in for a recipient when the registers are probed."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How the store behaves beyond its database."""

    register_read_timeout_s: float = 2.0
    """A register that does not answer in this time is a fault (SAF-01)."""
    audit_append_timeout_s: float = 5.0
    """A record that is not durable in this time is an audit that is down (SAF-30)."""
    opt_out_register_age_max_minutes: int = 0
    """A replica of the opt-out register not confirmed for longer is a fault; 0: the register is kept here."""


def new_id() -> str:
    """A random identifier for a row."""
    return uuid4().hex


class SqlStore:
    """Registers and audit of one node. `async with`: its threads live in between."""

    def __init__(
        self,
        database: DatabaseSettings,
        *,
        node: str,
        clock: Clock,
        settings: StoreSettings | None = None,
        new_id: NewId = new_id,
    ) -> None:
        self.node = node
        self.clock = clock
        self.settings = settings or StoreSettings()
        self.database = Database(database, node, clock.now, new_id)
        self._version_seen = 0

    async def __aenter__(self) -> SqlStore:
        await self.database.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.database.__aexit__(*exception)

    async def write(self, body: Callable[[Tx], T]) -> T:
        """Run `body` in a transaction shared with others, and return once it is durable.

        Raises `StoreUnavailable`, `OverCapacity`, or what `body` raises; the body may be run again after a conflict.
        """
        return await self.database.write(body)

    async def read(self, body: Callable[[Read], T]) -> T:
        """Run `body` on one snapshot; raises as `write` does."""
        return await self.database.read(body)

    async def facts(
        self,
        recipient: TrustId,
        patients: Sequence[NhsNumber],
        *,
        at: datetime,
        known_at: datetime | None = None,
    ) -> FactsSnapshot:
        """See `gateway.model.seams.Store`."""
        age_max_minutes = self.settings.opt_out_register_age_max_minutes
        age_max = timedelta(minutes=age_max_minutes) if age_max_minutes else None
        question = Question(recipient, tuple(dict.fromkeys(patients)), at, known_at, age_max)
        try:
            async with asyncio.timeout(self.settings.register_read_timeout_s):
                snapshot = await self._facts(question)
        except TimeoutError:
            return nothing_readable(question, self._version_seen)
        self._version_seen = max(self._version_seen, snapshot.register_version)
        return snapshot

    async def cross_references(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        """See `gateway.model.seams.Store`."""
        body = partial(read_cross_references, identifiers=tuple(identifiers))
        try:
            async with asyncio.timeout(self.settings.register_read_timeout_s):
                return await self.database.read(body)
        except TimeoutError as error:
            raise StoreUnavailable("the patients could not be read in time") from error

    async def supersede(self, former: NhsNumber, survivor: NhsNumber, *, source: str, request_id: str) -> None:
        """See `gateway.model.seams.SupersessionBook`."""
        author = Author(source, request_id, "the one number superseded the other")
        await self.database.write(lambda tx: merges.supersede(tx, former, survivor, author))

    async def probe(self) -> frozenset[Register]:
        """The registers that could not be believed at this moment; all of them if nothing can be read."""
        try:
            snapshot = await self.facts(_NOBODY, (), at=self.clock.now())
        except ServiceFault:
            return frozenset(Register)
        return snapshot.unpinned.faults

    async def patient_row(self, identifier: PatientId) -> str:
        """See `gateway.model.seams.Store`."""
        found = await self.database.read(lambda read: patients.find(read, identifier))
        if found is not None:
            return found
        author = Author("gateway", "", "images are kept under the patient's keys")
        return await self.database.write(lambda tx: patients.ensure(tx, identifier, author, source="images"))

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        """See `gateway.model.seams.Store`."""
        try:
            async with asyncio.timeout(self.settings.register_read_timeout_s):
                return await self.database.read(lambda read: patients.rows_of(read, identifiers))
        except TimeoutError as error:
            raise StoreUnavailable("the patients could not be read in time") from error

    async def register_version(self) -> int:
        """See `gateway.model.seams.Store`."""
        return await self.database.read(version)

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """See `gateway.model.seams.Store`."""
        try:
            async with asyncio.timeout(self.settings.audit_append_timeout_s):
                return await self.database.write(lambda tx: tx.chain.append(entry), appends_only=True)
        except TimeoutError as error:
            raise AuditUnavailable("the audit did not become durable in time") from error
        except ServiceFault as error:
            raise AuditUnavailable(str(error)) from error

    async def report_quality(self, items: Sequence[QualityItem], at: datetime) -> None:
        """See `gateway.model.seams.Store`."""
        if items:
            await self.database.write(lambda tx: quality.report(tx, items, at))

    async def _facts(self, question: Question) -> FactsSnapshot:
        faults: frozenset[Register] = frozenset()
        while True:
            try:
                return await self.database.read(partial(read_facts, question=question, faults=faults))
            except RegisterFault as fault:
                faults |= {fault.register}
