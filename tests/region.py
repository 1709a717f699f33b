"""A region in one process: the real store, gate, broker and peers, and archives that answer from memory.

Reads like a sentence: `region.trust("RZ2").with_study("1.2.3", of=ANNE).stalled()`, then
`await region.refer(ANNE, to="RZ1")` and `await region.find(asking_for(ANNE), by="RZ1")`. Time is a `FakeClock`, which
`find` moves on whenever nothing else can happen; ids are counted. Every trust is an enrolled NHS hospital trust and
shares everything until a test says other.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import orjson
from sqlalchemy import text

from gateway.model.audit import AuditEntry, AuditRecord
from gateway.model.errors import (
    AuditUnavailable,
    StoreUnavailable,
)
from gateway.model.imaging import (
    Attributes,
    JsonValue,
    Matches,
    Query,
)
from gateway.model.seams import (
    CrossReference,
    FactsSnapshot,
    LocationIndex,
    PatientLookup,
    QualityItem,
    Store,
    ToldByGateway,
)
from gateway.model.settings import IdentitySettings, Limits, SharingSettings
from gateway.sharing.absence import AbsenceDelays
from gateway.sharing.broker import Broker
from gateway.sharing.directory import Directory, PatientIdAsked, TrustEntry
from gateway.sharing.guard.gate import Gate, Reserve
from gateway.sharing.hearing import Witness
from gateway.sharing.identity.people import People
from gateway.sharing.identity.tracing import Tracing
from gateway.sharing.locations.sampling import Sampling
from gateway.sharing.peers import Peers
from policy.facts import OrganisationKind, RelationshipKind, SharingChoice
from policy.identity import CallerBinding
from policy.optout import CaseEvent, CaseTerms, Role
from policy.parties import Caller, NhsNumber, PatientId, Principal, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Settings
from policy.trusts import Roll
from storage import audit_log
from storage.registers import agreements, labels, merges, optouts, patients, relationships
from storage.registers.agreements import Clause
from storage.registers.merges import MergeBasis
from storage.registers.quality import open_items
from storage.registers.state import Author
from storage.store import SqlStore
from tests.clock import NOON, FakeClock, settle
from tests.memory_archive import Archive
from tests.sharing.rows import row

BEFORE = NOON - timedelta(days=30)
CLERK = Author("clerk", "request-of-the-clerk", "as the test says")
OFFICER = Author("officer", "request-of-the-officer", "as the test says")
EVERYTHING = Clause()

T = TypeVar("T")


class StrainedStore:
    """A store in front of the real one that can be made to fail; everything else passes through."""

    def __init__(self, behind: Store) -> None:
        self._behind = behind
        self._under_way = 0
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self.appends = 0
        self.failing_appends: range = range(0)
        """The appends, counted from 1, that fail as a full disk would make them."""
        self.failing_error: Exception = AuditUnavailable("the disk is full")
        self.is_down = False
        """Whether the registers' database is gone."""
        self.quality_error: Exception | None = None

    def is_busy(self) -> bool:
        """Whether the store has still to answer somebody."""
        return self._under_way > 0

    async def facts(
        self, recipient: TrustId, patients: Sequence[NhsNumber], *, at: datetime, known_at: datetime | None = None
    ) -> FactsSnapshot:
        """See `Store`."""
        self._check()
        return await self._waiting_for(self._behind.facts(recipient, patients, at=at, known_at=known_at))

    async def cross_references(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        """See `Store`."""
        self._check()
        return await self._waiting_for(self._behind.cross_references(identifiers))

    async def patient_row(self, identifier: PatientId) -> str:
        """See `Store`."""
        self._check()
        return await self._waiting_for(self._behind.patient_row(identifier))

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        """See `Store`."""
        self._check()
        return await self._waiting_for(self._behind.patient_rows(identifiers))

    async def register_version(self) -> int:
        """See `Store`."""
        self._check()
        return await self._waiting_for(self._behind.register_version())

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """See `Store`."""
        self.appends += 1
        if self.appends in self.failing_appends:
            raise self.failing_error
        return await self._waiting_for(self._behind.append_audit(entry))

    async def report_quality(self, items: Sequence[QualityItem], at: datetime) -> None:
        """See `Store`."""
        if self.quality_error is not None:
            raise self.quality_error
        await self._waiting_for(self._behind.report_quality(items, at))

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the database is gone")

    async def _waiting_for(self, work: Awaitable[T]) -> T:
        self._under_way += 1
        self.is_idle.clear()
        try:
            return await work
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.is_idle.set()


@dataclass
class Sights:
    """An `Observer` that keeps what it was told."""

    outcomes: list[str] = field(default_factory=list)
    peers: list[tuple[TrustId, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def question_answered(self, outcome: str, duration_s: float) -> None:
        """See `Observer`."""
        self.outcomes.append(outcome)

    def peer_answered(self, trust: TrustId, state: str, duration_s: float) -> None:
        """See `Observer`."""
        self.peers.append((trust, state))

    def peer_sent(self, trust: TrustId, state: str, duration_s: float) -> None:
        """See `Observer`."""

    def decided(self, custodian: TrustId | None, rule: str, effect: str) -> None:
        """See `Observer`."""

    def audit_appended(self, duration_s: float) -> None:
        """See `Observer`."""

    def register_fault(self, register: str) -> None:
        """See `Observer`."""
        self.faults.append(register)


class TrustBuilder:
    """A trust while a test describes it."""

    def __init__(self, entry: TrustEntry, archive: Archive | None, clauses: Sequence[Clause]) -> None:
        self.entry = entry
        self.archive = archive
        self.clauses = tuple(clauses)

    @property
    def pacs(self) -> Archive:
        """Its archive."""
        assert self.archive is not None, "this trust has none"
        return self.archive

    def with_study(self, study: str, *, of: NhsNumber | None, **attributes: JsonValue) -> TrustBuilder:
        """Hold a study of a patient, with attributes as `tests.sharing.rows` names them."""
        self.pacs.with_row(row(study, of, **attributes))
        return self

    def with_row(self, *rows: Attributes) -> TrustBuilder:
        """Hold these rows."""
        self.pacs.with_row(*rows)
        return self

    def down(self) -> TrustBuilder:
        """Have an archive that refuses connections."""
        self.pacs.down()
        return self

    def stalled(self) -> TrustBuilder:
        """Have an archive that never answers."""
        self.pacs.stalled()
        return self

    def lying(self, *rows: Attributes) -> TrustBuilder:
        """Have an archive that answers these rows, whatever is asked."""
        self.pacs.lying(*rows)
        return self

    def sharing(self, *clauses: Clause) -> TrustBuilder:
        """Agree to share by these clauses alone; none: nothing."""
        self.clauses = clauses
        return self

    def without_archive(self) -> TrustBuilder:
        """Only ask, never be asked."""
        self.archive = None
        return self

    def of_kind(self, kind: OrganisationKind, *, is_enrolled: bool = True) -> TrustBuilder:
        """Be another kind of organisation."""
        self.entry = replace(self.entry, kind=kind, is_enrolled=is_enrolled)
        return self

    def behind_gateway(self, told: ToldByGateway | None = None) -> TrustBuilder:
        """Be asked through another gateway, which says this of it."""
        self.entry = replace(self.entry, is_behind_gateway=True)
        self.pacs.telling(told or ToldByGateway())
        return self

    def issuing(self, issuer: str) -> TrustBuilder:
        """Issue accession numbers under this name."""
        self.entry = replace(self.entry, accession_issuer=issuer)
        return self

    def filing_under(self, issuer: str, *, asked_by: PatientIdAsked = PatientIdAsked.NHS_NUMBER) -> TrustBuilder:
        """Mean this by a Patient ID without an issuer, and be asked by those of a patient's numbers."""
        self.entry = replace(self.entry, patient_id_issuer=issuer, patient_id_asked=asked_by)
        return self


class Region:
    """The region of one test. Describe trusts first; the first question builds the gateway."""

    def __init__(
        self,
        behind: Store,
        clock: FakeClock,
        *,
        limits: Limits | None = None,
        sharing: SharingSettings | None = None,
        policy: Settings | None = None,
        identity: IdentitySettings | None = None,
        seed: int = 1,
    ) -> None:
        self.clock = clock
        self.store = StrainedStore(behind)
        self.limits = limits or Limits()
        self.sharing = sharing or SharingSettings(absence_timing=False)
        self.policy = policy or Settings(mode=Mode.DEMO)
        self.identity = identity or IdentitySettings()
        self.tracing: Tracing | None = None
        self.sights = Sights()
        self.callers: list[CallerBinding] = []
        self.delays = AbsenceDelays(random.Random(seed).choice)
        self.roll = Roll()
        """What the register says of the trusts' standing."""
        self.locations: LocationIndex | None = None
        """The location index, for tests that want one."""
        self.witness: Witness | None = None
        """What keeps images, for tests that want it."""
        self.reserve: Reserve | None = None
        """What takes outcomes of transfers while the audit is down, for tests that want it."""
        self._sql = behind
        self._trusts: dict[str, TrustBuilder] = {}
        self._numbers = itertools.count(1)
        self._built: tuple[Gate, Peers, Broker] | None = None
        self._is_prepared = False

    def trust(self, code: str) -> TrustBuilder:
        """A trust, new or known."""
        if code not in self._trusts:
            assert self._built is None, "describe every trust before the first question"
            trust = TrustId(code)
            entry = TrustEntry(
                trust,
                f"Trust {code}",
                OrganisationKind.NHS_HOSPITAL_TRUST,
                True,
                f"0300 {code}",
                patient_id_issuer="NHS",
            )
            self._trusts[code] = TrustBuilder(entry, Archive(trust, self.clock), (EVERYTHING,))
        return self._trusts[code]

    def looking_up(self, *lookups: PatientLookup) -> Region:
        """Ask these services of patients before every question."""
        self.tracing = Tracing(lookups, self.sql, self.identity, self.clock)
        return self

    @property
    def broker(self) -> Broker:
        """The door."""
        return self._build()[2]

    @property
    def peers(self) -> Peers:
        """Those who are asked."""
        return self._build()[1]

    @property
    def gate(self) -> Gate:
        """The guard."""
        return self._build()[0]

    @property
    def sampling(self) -> Sampling:
        """Who asks for the location index alone."""
        assert self.locations is not None, "this region has no location index"
        gate, peers, _ = self._build()
        people = People(gate.store, self._directory(), self.identity, self.tracing)
        return Sampling(gate, peers, people, self.locations, self.limits)

    def new_id(self) -> str:
        """The next number of a series, as an id."""
        return f"id-{next(self._numbers)}"

    def caller(
        self,
        code: str,
        *,
        purpose: PurposeOfUse = PurposeOfUse.TREAT,
        kind: PrincipalKind = PrincipalKind.SYSTEM,
        teams: Iterable[str] = (),
        hops: int = 0,
    ) -> Caller:
        """A proven caller of a trust."""
        proofs = frozenset({"https", "certificate"})
        principal = Principal(f"{code.lower()}-pacs", kind, TrustId(code), frozenset(teams), proofs)
        return Caller(principal, purpose, self.new_id(), hops)

    async def find(self, query: Query, *, by: str | Caller = "RZ1", snapshot: str = "") -> Matches:
        """Ask, and let time pass as far as the answer needs it."""
        caller = self.caller(by) if isinstance(by, str) else by
        await self.prepare()
        return await self.clock.run(self.broker.find(caller, query, snapshot), is_busy=self.store.is_busy)

    def asking(self, query: Query, *, by: str | Caller = "RZ1", snapshot: str = "") -> asyncio.Task[Matches]:
        """Ask in a task of its own; the test moves the clock."""
        caller = self.caller(by) if isinstance(by, str) else by
        return asyncio.create_task(self.broker.find(caller, query, snapshot))

    async def at_the_peers(self, code: str = "RZ2") -> None:
        """Wait until a question has reached this trust's archive."""
        await self.trust(code).pacs.is_asked.wait()
        await settle()

    async def until_idle(self) -> None:
        """Wait until the store owes nobody an answer."""
        await settle()
        while self.store.is_busy():  # whoever was answered may ask again
            await self.store.is_idle.wait()
            await settle()

    def rebuilt(self) -> Region:
        """The same region with a gateway that is built anew, from trusts as they are described by then."""
        self._built = None
        return self

    # --- the registers, as an officer changes them ---

    async def prepare(self) -> None:
        """Record every trust's agreement; `find` does it, once."""
        if not self._is_prepared:
            self._is_prepared = True
            for code, builder in self._trusts.items():
                await self.agree(code, *builder.clauses)

    async def agree(self, custodian: str, *clauses: Clause) -> None:
        """Let a custodian's next version take effect."""
        at = BEFORE if self.clock.monotonic() == 0 else self.clock.now()
        await self.sql.write(lambda tx: agreements.import_version(tx, TrustId(custodian), clauses, at, CLERK))

    async def refer(
        self, patient: NhsNumber, *, to: str, team: str = "", since: datetime = BEFORE, until: datetime | None = None
    ) -> str:
        """Refer a patient to a trust, since a month ago unless it says other; the relationship's id."""
        row = await self._row_of(patient)
        claim = relationships.NewRelationship(
            row, TrustId(to), RelationshipKind.REFERRAL, "letter", "test", since, until, team
        )
        return await self.sql.write(lambda tx: relationships.add(tx, claim, CLERK))

    async def end(self, relationship_id: str) -> None:
        """End a relationship now."""
        await self.sql.write(lambda tx: relationships.end(tx, relationship_id, self.clock.now(), CLERK))

    async def number(self, patient: NhsNumber, *, status: str) -> None:
        """Make a patient's NHS number known with how far it is verified."""
        await self.sql.write(lambda tx: patients.ensure(tx, patients.nhs(patient), CLERK, source="test", status=status))

    async def link(self, patient: NhsNumber, issuer: str, value: str, *, source: str = "cli") -> PatientId:
        """Record a hospital's number of a patient, on the word of `source`."""
        row, local = await self._row_of(patient), PatientId(issuer, value)
        await self.sql.write(lambda tx: patients.add_identifier(tx, row, local, CLERK, source=source))
        return local

    async def unlink(self, local: PatientId) -> None:
        """Stop believing in a hospital's number."""
        await self.sql.write(lambda tx: patients.remove_identifier(tx, local, OFFICER))

    async def register_local(self, issuer: str, value: str) -> None:
        """Make a patient known by a hospital's number alone."""
        await self.sql.write(lambda tx: patients.ensure(tx, PatientId(issuer, value), CLERK, source="test"))

    async def supersede(self, patient: NhsNumber, *, by: NhsNumber) -> str:
        """Let PDS say that one number supersedes another; the merge."""
        leaving, staying = await self._row_of(patient), await self._row_of(by)
        return await self.sql.write(lambda tx: merges.merge(tx, leaving, staying, MergeBasis.PDS_SUPERSESSION, CLERK))

    async def claim_one(self, patient: NhsNumber, *, survivor: NhsNumber) -> str:
        """Let one person say that two numbers are one person's; the merge, which awaits a second person."""
        leaving, staying = await self._row_of(patient), await self._row_of(survivor)
        return await self.sql.write(lambda tx: merges.merge(tx, leaving, staying, MergeBasis.TWO_PEOPLE, CLERK))

    async def confirm(self, merge: str) -> None:
        """Let a second person confirm a merge."""
        await self.sql.write(lambda tx: merges.confirm_merge(tx, merge, OFFICER))

    async def part(self, merge: str) -> None:
        """Part two patients again."""
        await self.sql.write(lambda tx: merges.undo_merge(tx, merge, OFFICER))

    async def opt_out(self, patient: NhsNumber, *, only_verified: bool = False, only_received: bool = False) -> str:
        """Implement a patient's opt-out now, or only come as far as the provisional restriction; the case."""
        steps = 1 if only_received else 2 if only_verified else None
        return await self._case(patient, SharingChoice.OPT_OUT, steps)

    async def opt_in(self, patient: NhsNumber) -> str:
        """Implement a patient's opt-in now."""
        return await self._case(patient, SharingChoice.OPT_IN)

    async def label(
        self,
        patient: NhsNumber,
        custodian: str,
        study: str = "",
        *,
        visible_to: Iterable[PurposeOfUse] = (),
        teams: Iterable[str] = (),
        since: datetime = BEFORE,
    ) -> str:
        """Mark a study, or all of a patient's at a trust, as sensitive, since then or from then on."""
        row = await self._row_of(patient)
        shown = frozenset(visible_to), frozenset(teams)
        new = labels.NewLabel(row, TrustId(custodian), "safeguarding", study, *shown, since)
        return await self.sql.write(lambda tx: labels.add_label(tx, new, CLERK))

    async def grant(
        self, patient: NhsNumber, *, to: str, subject: str = "", since: datetime | None = None, hours: float = 8
    ) -> str:
        """Let a trust, or one person of it, break the glass for some hours from now."""
        row, begins = await self._row_of(patient), since or self.clock.now()
        ends = begins + timedelta(hours=hours)
        new = labels.NewGrant(row, TrustId(to), subject, "unconscious on arrival", begins, ends)
        return await self.sql.write(lambda tx: labels.add_grant(tx, new, CLERK))

    async def lose(self, table: str) -> None:
        """Make a register's table unreadable."""
        await self.sql.write(lambda tx: tx.connection.execute(text(f"ALTER TABLE {table} RENAME TO lost_{table}")))

    # --- what was recorded ---

    async def records(self, *events: str) -> list[dict[str, JsonValue]]:
        """The audit's entries of these kinds (all if none is named), oldest first, each as its JSON object."""
        encoded: list[AuditRecord] = []
        while page := await self.sql.read(lambda read: audit_log.page(read, self.sql.node, len(encoded))):
            encoded.extend(page)
        entries: list[dict[str, JsonValue]] = [orjson.loads(each.encoded) for each in encoded]
        return [entry for entry in entries if not events or entry["event"] in events]

    async def quality(self) -> list[QualityItem]:
        """The open data-quality items."""
        return [each.item for each in await self.sql.read(open_items)]

    @property
    def sql(self) -> SqlStore:
        """The real store behind."""
        assert isinstance(self._sql, SqlStore)
        return self._sql

    async def _row_of(self, patient: NhsNumber) -> str:
        return await self.sql.write(lambda tx: patients.ensure(tx, patients.nhs(patient), CLERK, source="test"))

    async def _case(self, patient: NhsNumber, choice: SharingChoice, steps_taken: int | None = None) -> str:
        row, at = await self._row_of(patient), self.clock.now()
        receipt = optouts.Receipt(row, choice, "paper", "patient", at)
        calendar = optouts.Calendar(CaseTerms(), (), UTC)
        case = await self.sql.write(lambda tx: optouts.open_case(tx, receipt, calendar, Role.OFFICER, CLERK))
        steps = [CaseEvent.ACKNOWLEDGE, CaseEvent.VERIFY, CaseEvent.CONSIDER, CaseEvent.IMPLEMENT]
        for step in steps[:steps_taken]:
            await self._move(case.case_id, step, at)
        return case.case_id

    async def _move(self, case_id: str, step: CaseEvent, at: datetime) -> None:
        await self.sql.write(lambda tx: optouts.move_case(tx, case_id, step, Role.OFFICER, at, CLERK))

    @property
    def directory(self) -> Directory:
        """The organisations."""
        return self._directory()

    def _directory(self) -> Directory:
        return Directory([each.entry for each in self._trusts.values()], self.callers, lambda: self.roll)

    def _build(self) -> tuple[Gate, Peers, Broker]:
        if self._built is None:
            directory = self._directory()
            archives = [each.archive for each in self._trusts.values() if each.archive is not None]
            peers = Peers(
                archives,
                self.limits,
                self.clock,
                self.sights,
                on_empty=self.delays.peer_was_empty,
                beyond=directory.behind_gateways,
                asking=lambda: directory.asking,
            )
            gate = Gate(
                self.store,
                directory,
                self.policy,
                self.clock,
                self.sights,
                new_id=self.new_id,
                custodians={entry.trust for entry in directory.trusts} | peers.trusts,
                reserve=self.reserve,
            )
            broker = Broker(
                gate,
                peers,
                directory,
                self.delays,
                self.limits,
                self.sharing,
                self.clock,
                new_token=self.new_id,
                locations=self.locations,
                identity=self.identity,
                tracing=self.tracing,
                witness=self.witness,
            )
            self._built = gate, peers, broker
        return self._built
