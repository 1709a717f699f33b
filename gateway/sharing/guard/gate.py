"""The guard at the one door: facts, decision, durable attempt, [work], durable outcome.

Nothing is asked of a peer and nothing is shown before the attempt is on disk, and no answer leaves before its outcome
is. Every row is decided again after the peers have answered, under the registers as they then stand, so that an opt-out
implemented meanwhile holds (DEC-34, SHR-36). What a caller is told is SAF-01 and SAF-02; the audit keeps every reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

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
from gateway.model.seams import Clock, Observer, QualityItem, Store
from gateway.sharing.directory import Directory
from gateway.sharing.guard.passage import Passage, Wish
from gateway.sharing.guard.refusals import Refusals
from policy import record
from policy.access import Access, Action, Decision, Effect, Obligation, Resource
from policy.engine import decide_for_studies, shows_fault
from policy.facts import Facts, Register, standing_opt_outs
from policy.identity import Evidence
from policy.parties import Caller, NhsNumber, PrincipalKind, TrustId
from policy.settings import Settings

log = structlog.get_logger(__name__)

ASKING_TRUST_CHARS_MAX = 20  # of what an unproven caller says of a trust, so much is recorded

_ATTEMPTS = {
    Action.SEE: AuditEvent.QUERY_ATTEMPT,
    Action.RETRIEVE: AuditEvent.RETRIEVE_ATTEMPT,
    Action.STORE: AuditEvent.STORE_ATTEMPT,
}
_OUTCOMES = {
    Action.SEE: AuditEvent.QUERY_OUTCOME,
    Action.RETRIEVE: AuditEvent.RETRIEVE_OUTCOME,
    Action.STORE: AuditEvent.STORE_OUTCOME,
}

Reserve = Callable[[AuditEntry], Awaitable[None]]
"""Makes an entry durable where the audit cannot; raises `AuditUnavailable` when it is full or failed too."""
Settle = Callable[[], Awaitable[Wish]]
"""Finds out who the patient of a wish is, and says it again; raises `GatewayError`."""


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
        reserve: Reserve | None = None,
    ) -> None:
        """`reserve` takes the outcome of what has moved already where the audit has failed since (SAF-30)."""
        self.store = store
        self.clock = clock
        self.custodians = tuple(sorted(custodians))
        self._directory = directory
        self._settings = settings
        self._observer = observer
        self._new_id = new_id
        self._reserve = reserve
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
            await asyncio.shield(self._end(wish, passage, result))
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

    async def destination_refused(self, caller: Caller, ae_title: str, *, is_known: bool) -> None:
        """Record that a proven caller would have images sent where it may not (at most so often a minute; SAF-13)."""
        who = caller.principal
        body: dict[str, JsonValue] = {
            "caller": who.subject,
            "trust": who.trust.code,
            "destination": ae_title,
            "is_known": is_known,
        }
        await self._refusals.note(AuditEvent.RETRIEVE_REFUSED, caller.request_id, body)

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
        await self._append(_ATTEMPTS[wish.action], wish.caller.request_id, body)
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
            recipient=wish.recipient or principal.trust,
            person=principal.subject if principal.kind is PrincipalKind.CLINICIAN else "",
            teams=principal.teams,
            purpose=wish.caller.purpose,
            action=Action.STORE if wish.action is Action.STORE else Action.QUERY,
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
            **({"transfers": tally.transfers} if tally.transfers is not None else {}),
        }

    async def _end(self, wish: Wish, passage: Passage, result: str) -> None:
        """Make the outcome durable. Of a transfer whose images are with somebody by now the reserve takes it, if need
        be: its beginning is on record, and what became of it must be too.
        """
        event, request_id, body = _OUTCOMES[wish.action], wish.caller.request_id, self._outcome(passage, result)
        try:
            await self._append(event, request_id, body)
        except AuditUnavailable:
            if self._reserve is None or passage.tally.transfers is None:
                raise
            await self._reserve(AuditEntry(event, self.clock.now(), request_id, body))
            log.warning("outcome in the audit reserve", request=request_id)

    async def _append(self, event: AuditEvent, request_id: str, body: Mapping[str, JsonValue]) -> None:
        began = self.clock.monotonic()
        try:
            await self.store.append_audit(AuditEntry(event, self.clock.now(), request_id, body))
        except StoreUnavailable as error:
            raise AuditUnavailable("not recorded") from error
        self._observer.audit_appended(self.clock.monotonic() - began)
