"""The guard at the one door: facts, decision, durable attempt, [work], durable outcome.

Nothing is asked of a peer and nothing is shown before the attempt is on disk, and no answer leaves before its outcome
is. Every row is decided again after the peers have answered, under the registers as they then stand, so that an opt-out
implemented meanwhile holds (DEC-34, SHR-36). What a caller is told is SAF-01 and SAF-02; the audit keeps every reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import (
    AuditUnavailable,
    Denied,
    GatewayError,
    NotIdentified,
    RegisterUnavailable,
    ServiceFault,
    StoreUnavailable,
)
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock, FactsSnapshot, Observer, QualityItem, Store
from gateway.sharing.answers.tally import Tally, Verdict
from gateway.sharing.directory import Directory
from gateway.sharing.identity.conflicts import Conflict, Judgement
from gateway.sharing.identity.patients import age_years
from gateway.sharing.merge import Candidate, modalities_of
from gateway.sharing.refusals import Refusals
from policy import record
from policy.access import Access, Action, Decision, Effect, Obligation, Resource
from policy.agreements import Coverage, coverage
from policy.engine import decide_for_studies, shows_fault
from policy.facts import Facts, Register, standing_opt_outs
from policy.identity import Evidence
from policy.parties import Caller, NhsNumber, PrincipalKind, TrustId
from policy.settings import Settings

log = structlog.get_logger(__name__)

FACTS_AGE_MAX = timedelta(seconds=1)
ASKING_TRUST_CHARS_MAX = 20  # of what an unproven caller says of a trust, so much is recorded


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked at the door: by whom, of which patient if one is named, and of which trust if only one."""

    caller: Caller
    patient: NhsNumber | None
    only_trust: TrustId | None
    question: Mapping[str, JsonValue]
    """The question as the audit keeps it."""


Settle = Callable[[], Awaitable[Wish]]
"""Finds out who the patient of a wish is, and says it again; raises `GatewayError`."""


class Passage:
    """One guarded question, from its permit to its recorded outcome."""

    def __init__(self, gate: Gate, wish: Wish, access: Access, snapshot: FactsSnapshot, decision: Decision) -> None:
        self._gate = gate
        self._wish = wish
        self._access = access
        self._snapshot = snapshot
        self._decision = decision
        self._complete: dict[NhsNumber | None, Facts] = {}
        # Whether a trust that is being tried takes part hangs on the patient's label, and on nothing else of them.
        trusts = (access.recipient, *gate.custodians)
        self._shared = gate.with_organisations(snapshot.unpinned, trusts, wish.patient)
        self.tally = Tally()

    @property
    def is_hidden(self) -> bool:
        """Denied without a word: nobody is asked, and the answer is that of absence."""
        return not self._decision.is_permitted

    def coverage(self, custodian: TrustId) -> Coverage:
        """What this custodian ever shows this caller, whoever the patient (SAF-07)."""
        return coverage(self._shared, self._access.recipient, self._access.purpose, custodian, self._access.at)

    async def refresh(self, judgement: Judgement) -> None:
        """Read the registers again if they moved, or if no patient is named (SAF-06); raises `RegisterUnavailable`."""
        rows = (*judgement.accepted, *(row for conflict in judgement.conflicts for row in conflict.rows))
        patients = {row.patient for row in rows if row.patient is not None}
        known, store, at = set(self._snapshot.by_patient), self._gate.store, self._gate.clock.now()
        try:
            version = await store.register_version()
            is_stale = version != self._snapshot.register_version or at - self._access.at > FACTS_AGE_MAX
            if is_stale or not known or not patients <= known:
                self._snapshot = await store.facts(self._access.recipient, sorted(patients | known), at=at)
                self._complete.clear()
                self.tally.facts = {
                    "none" if patient is None else patient.digits: record.facts_to_json(self._facts(patient))
                    for patient in (None, *sorted(self._snapshot.by_patient))
                }
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error
        self._access = replace(self._access, at=at)
        if self._snapshot.unpinned.faults:
            self._gate.fault(self._snapshot.unpinned.faults)

    async def visible(self, candidates: Collection[Candidate]) -> list[Candidate]:
        """The rows that may be shown, each decided.

        Rows of one study share a decision, and so do studies that differ in nothing that any rule looked at.
        """
        verdicts: dict[object, Verdict] = {}
        visible = []
        for candidate in candidates:
            modalities = modalities_of(candidate.row)
            # Rows of one patient of a trust share an identity, see `patients.Identities`.
            alike = (id(candidate.identity), candidate.trust.code, tuple(modalities))
            verdict = verdicts.get(alike) or verdicts.get((*alike, candidate.study_uid))
            if verdict is None:
                decision_id = f"{self._decision.decision_id}.{len(self.tally.verdicts) + 1}"
                verdict, is_for_all = await self._verdict(self._resource(candidate, modalities), decision_id)
                verdicts[alike if is_for_all else (*alike, candidate.study_uid)] = verdict
            verdict.studies[candidate.study_uid] = None
            if verdict.decision.is_permitted:
                visible.append(candidate)
                verdict.disclosed.append(candidate.sop_uid or candidate.series_uid or candidate.study_uid)
        self.tally.withheld += len(candidates) - len(visible)
        return visible

    def told_at(self, conflict: Conflict, pinned: NhsNumber | None) -> frozenset[TrustId]:
        """The trusts at which a conflict is told: those with a row that policy would show but for it (SAF-08).

        So a patient who opted out, or a labelled study, is not betrayed by its trust's name; and whoever is in conflict
        with such a row does not vanish without a word. A row without an NHS number is judged as the patient asked for.
        """
        resources = {self._resource(row, modalities_of(row.row)) for row in conflict.rows}
        return self._told_of(
            replace(resource, patient=pinned) if resource.patient is None else resource for resource in resources
        )

    def told_by_gateways(self, trusts: Iterable[TrustId], pinned: NhsNumber | None) -> frozenset[TrustId]:
        """Those of these trusts of which another gateway's notice of a conflict is passed on: none unless the question
        names its patient, for nobody else here can say whose item it is."""
        return self._told_of(
            Resource(pinned, trust, modalities=self.coverage(trust).modalities or frozenset()) for trust in trusts
        )

    def _told_of(self, resources: Iterable[Resource]) -> frozenset[TrustId]:
        told = set()
        for resource in dict.fromkeys(resources):
            access, facts = self._access.to_see(resource), self._facts(resource.patient)
            decision = self._gate.decide(access, facts, f"{self._decision.decision_id}.conflict")
            if decision.is_permitted and resource.custodian is not None:
                told.add(resource.custodian)
        return frozenset(told)

    def _facts(self, patient: NhsNumber | None) -> Facts:
        facts = self._complete.get(patient)
        if facts is None:
            known = self._snapshot.by_patient.get(patient) if patient is not None else None
            trusts = (self._access.recipient, *self._gate.custodians)
            facts = self._gate.with_organisations(known if known is not None else self._snapshot.unpinned, trusts)
            self._complete[patient] = facts
        return facts

    def _resource(self, candidate: Candidate, modalities: Sequence[str]) -> Resource:
        age = age_years(candidate.identity.demographics.birth_date, self._access.at.date())
        return Resource(candidate.patient, candidate.trust, candidate.study_uid, frozenset(modalities), age)

    async def _verdict(self, resource: Resource, decision_id: str) -> tuple[Verdict, bool]:
        """Decide on a row, discharge what that obliges to, and begin its part of the record."""
        access = self._access.to_see(resource)
        decision, is_for_all = self._gate.decide_for_studies(access, self._facts(resource.patient), decision_id)
        await self._gate.discharge(decision, self._wish, resource, self.tally.alerted)
        verdict = Verdict(decision, resource, self._access.at)
        self.tally.verdicts.append(verdict)
        return verdict, is_for_all


class Gate:
    """Decides, records, and lets through. One for the process."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        settings: Settings,
        clock: Clock,
        observer: Observer,
        *,
        new_id: Callable[[], str],
        custodians: Collection[TrustId],
        alerts_per_minute_max: int = 60,
    ) -> None:
        self.store = store
        self.clock = clock
        self.custodians = tuple(sorted(custodians))
        self._directory = directory
        self._settings = settings
        self._observer = observer
        self._new_id = new_id
        self._refusals = Refusals(self._append, clock, alerts_per_minute_max)

    @contextlib.asynccontextmanager
    async def guard(self, wish: Wish, settle: Settle | None = None) -> AsyncIterator[Passage]:
        """Let a question through, or refuse it.

        `settle` finds out elsewhere who the patient is, behind the record and the reasons that hang on no patient: for
        somebody else the question is judged and recorded again.
        Raises `Denied` with what may be told, `RegisterUnavailable` (SAF-01), `AuditUnavailable` (SAF-30). A denial
        that must not be told gives a passage that `is_hidden`. On leaving, the outcome is durable, whatever happened.
        """
        passage, snapshot_facts = await self._admit(wish)
        began, result = self.clock.monotonic(), "error"
        try:
            if settle is not None:
                self._refuse_for_anybody(passage, snapshot_facts)
                settled = await settle()
                if settled.patient != wish.patient:
                    passage, snapshot_facts = await self._admit(settled, passage._decision.decision_id)
            self._refuse(passage, snapshot_facts)
            yield passage
            result = "hidden" if passage.is_hidden else "answered"
        except (asyncio.CancelledError, GatewayError) as error:
            result = type(error).__name__ if isinstance(error, GatewayError) else "cancelled"
            raise
        finally:
            self._observer.question_answered(result, self.clock.monotonic() - began)
            faultpoint("question.outcome.before")
            outcome = self._append(AuditEvent.QUERY_OUTCOME, wish.caller.request_id, self._outcome(passage, result))
            await asyncio.shield(outcome)
            faultpoint("question.outcome.after")

    async def identified(
        self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0, asking_trust: str = ""
    ) -> Caller:
        """Who asks. An unproven one raises `NotIdentified`, after a security alert (at most so many a minute)."""
        try:
            return self._directory.identify(evidence, purpose, request_id, hops, asking_trust)
        except NotIdentified as error:
            body: dict[str, JsonValue] = {
                "alert": "node-authentication",
                "reason": str(error),
                "channel": evidence.channel.value,
                "address": evidence.address,
                "certificate": evidence.certificate_sha256,
                "ae_title": evidence.ae_title,
                "stated_identity": evidence.stated_identity,
                "asking_trust": asking_trust[:ASKING_TRUST_CHARS_MAX],
            }
            await self._refusals.note(AuditEvent.SECURITY_ALERT, request_id, body)
            self._observer.question_answered(type(error).__name__, 0.0)
            log.warning("caller not identified", reason=str(error), address=evidence.address)
            raise

    async def too_broad(self, caller: Caller, question: Mapping[str, JsonValue]) -> None:
        """Record that a proven caller asked for more than one may ask at a time (at most so often a minute)."""
        who = caller.principal
        body: dict[str, JsonValue] = {"caller": who.subject, "trust": who.trust.code, "question": dict(question)}
        await self._refusals.note(AuditEvent.QUERY_REFUSED, caller.request_id, body)

    def decide(self, access: Access, facts: Facts, decision_id: str) -> Decision:
        """Decide and count."""
        return self.decide_for_studies(access, facts, decision_id)[0]

    def decide_for_studies(self, access: Access, facts: Facts, decision_id: str) -> tuple[Decision, bool]:
        """Decide and count, and say whether it holds for every study like this one."""
        decision, is_for_all = decide_for_studies(access, facts, self._settings, decision_id)
        for reason in decision.reasons:
            self._observer.decided(access.resource.custodian, reason.rule, reason.effect.value)
        return decision, is_for_all

    def with_organisations(self, facts: Facts, trusts: Iterable[TrustId], patient: NhsNumber | None = None) -> Facts:
        """The facts with the directory's entries of these trusts, for the facts' patient or for this one."""
        return replace(facts, organisations=self._directory.organisations(trusts, patient or facts.patient))

    def fault(self, registers: frozenset[Register]) -> None:
        """Count and raise the fault of SAF-01."""
        for register in sorted(registers):
            self._observer.register_fault(register.value)
        raise RegisterUnavailable("sharing not checked")

    async def discharge(self, decision: Decision, wish: Wish, resource: Resource, alerted: set[str]) -> None:
        """Do what a permit obliges to, before anything is shown under it; once for each custodian of an answer."""
        custodian = resource.custodian.code if resource.custodian is not None else ""
        if Obligation.ALERT_PRIVACY_OFFICERS not in decision.obligations or custodian in alerted:
            return
        body: dict[str, JsonValue] = {
            "alert": "emergency-override",
            "decision": decision.decision_id,
            "custodian": custodian,
            "recipient": wish.caller.principal.trust.code,
            "grants": [r.evidence for r in decision.reasons if r.effect is Effect.PERMIT and r.evidence],
        }
        await self._append(AuditEvent.SECURITY_ALERT, wish.caller.request_id, body)
        alerted.add(custodian)
        log.warning("emergency access used", decision=decision.decision_id, custodian=custodian)

    async def opted_out(self, patients: Sequence[NhsNumber]) -> frozenset[NhsNumber]:
        """Those of whom an opt-out stands, now or soon, which is the same whoever asks; raises a `ServiceFault`."""
        at = self.clock.now()
        snapshot = await self.store.facts(self.custodians[0], patients, at=at)
        if snapshot.unpinned.faults:
            self.fault(snapshot.unpinned.faults)
        known = snapshot.by_patient.items()
        return frozenset(number for number, facts in known if standing_opt_outs(facts.choices, at))

    async def report(self, items: Collection[QualityItem]) -> None:
        """Tell custodians what they must put right; an answer never fails because that could not be recorded."""
        try:
            await self.store.report_quality(list(items), self.clock.now())
        except ServiceFault:
            log.error("quality items not recorded", items=len(items))

    async def _admit(self, wish: Wish, first_asked: str = "") -> tuple[Passage, Facts]:
        access = self._question(wish)
        patients = [wish.patient] if wish.patient is not None else []
        try:
            snapshot = await self.store.facts(access.recipient, patients, at=access.at)
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error
        facts = snapshot.by_patient[wish.patient] if wish.patient is not None else snapshot.unpinned
        facts = self.with_organisations(facts, (access.recipient, *self.custodians))
        decision = self.decide(access, facts, self._new_id())
        body: dict[str, JsonValue] = {
            "question": dict(wish.question),
            "access": record.access_to_json(access),
            "facts": record.facts_to_json(facts),
            "settings": self._settings.version,
            "decision": record.decision_to_json(decision),
            "hops": wish.caller.hops,
            "stated_identity": wish.caller.stated_identity,
            **({"first_asked": first_asked} if first_asked else {}),
        }
        faultpoint("question.attempt.before")
        await self._append(AuditEvent.QUERY_ATTEMPT, wish.caller.request_id, body)
        faultpoint("question.attempt.after")
        return Passage(self, wish, access, snapshot, decision), facts

    def _refuse_for_anybody(self, passage: Passage, facts: Facts) -> None:
        """Refuse what would be refused whoever the patient is, before anybody elsewhere learns of whom it was asked."""
        if facts.faults:
            self._refuse(passage, facts)
        access = replace(passage._access, resource=Resource(None, passage._wish.only_trust), patient_named=False)
        decision_id = f"{passage._decision.decision_id}.anybody"
        self._deny(decide_for_studies(access, passage._shared, self._settings, decision_id)[0], passage._wish)

    def _refuse(self, passage: Passage, facts: Facts) -> None:
        if shows_fault(passage._decision, facts):
            self.fault(facts.faults)
        self._deny(passage._decision, passage._wish)

    def _deny(self, decision: Decision, wish: Wish) -> None:
        if decision.told:
            trust = wish.only_trust or wish.caller.principal.trust
            desk = self._directory.desk(trust)
            raise Denied(decision, f"if this is wrong, ring the PACS desk of {desk}", self._directory.phone(trust))

    def _question(self, wish: Wish) -> Access:
        principal = wish.caller.principal
        return Access(
            subject=principal.subject,
            kind=principal.kind,
            caller_trust=principal.trust,
            proven_by=principal.proven_by,
            recipient=principal.trust,
            person=principal.subject if principal.kind is PrincipalKind.CLINICIAN else "",
            teams=principal.teams,
            purpose=wish.caller.purpose,
            action=Action.QUERY,
            resource=Resource(wish.patient, custodian=wish.only_trust),
            at=self.clock.now(),
            patient_named=wish.patient is not None,
        )

    def _outcome(self, passage: Passage, result: str) -> dict[str, JsonValue]:
        tally = passage.tally
        return {
            "attempt": passage._decision.decision_id,
            "result": result,
            "sources": tally.sources,
            "decisions": [verdict.to_json() for verdict in tally.verdicts],
            "returned": tally.returned,
            "withheld": tally.withheld,
            "facts": tally.facts,
            "settings": self._settings.version,
        }

    async def _append(self, event: AuditEvent, request_id: str, body: Mapping[str, JsonValue]) -> None:
        began = self.clock.monotonic()
        try:
            await self.store.append_audit(AuditEntry(event, self.clock.now(), request_id, body))
        except StoreUnavailable as error:
            raise AuditUnavailable("not recorded") from error
        self._observer.audit_appended(self.clock.monotonic() - began)
