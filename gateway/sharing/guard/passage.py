"""One guarded wish, from its permit to its recorded outcome: what may be shown of what was found, decided row by row.

Every row is decided under the registers as they stand at that moment, so that an opt-out implemented meanwhile holds
(DEC-34, SHR-36). What it decides is kept for the record; the gate writes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gateway.model.errors import RegisterUnavailable, StoreUnavailable
from gateway.model.imaging import JsonValue
from gateway.model.seams import FactsSnapshot
from gateway.sharing.answers.tally import Tally, Verdict
from gateway.sharing.identity.conflicts import Conflict, Judgement
from gateway.sharing.identity.patients import age_years
from gateway.sharing.identity.reports import images_beside
from gateway.sharing.merge import Candidate, modalities_of
from policy import record
from policy.access import Access, Action, Decision, Effect, Resource
from policy.agreements import Coverage, coverage
from policy.facts import Facts
from policy.parties import Caller, NhsNumber, TrustId

if TYPE_CHECKING:
    from gateway.sharing.guard.gate import Gate

FACTS_AGE_MAX = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked at the door: by whom, of which patient if one is named, and of which trust if only one."""

    caller: Caller
    patient: NhsNumber | None
    only_trust: TrustId | None
    question: Mapping[str, JsonValue]
    """The question as the audit keeps it."""
    action: Action = Action.SEE
    """What is decided of each row that is found."""
    recipient: TrustId | None = None
    """The organisation that gets it; None: the caller's own."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A permit that does not stand any more, with what it was judged on."""

    decision: Decision
    resource: Resource
    facts: Facts
    at: datetime

    def to_json(self) -> dict[str, JsonValue]:
        """Its part of the record."""
        return {
            "decision": record.decision_to_json(self.decision),
            "resource": record.resource_to_json(self.resource),
            "facts": record.facts_to_json(self.facts),
            "at": self.at.isoformat(),
        }


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
        beside_of = images_beside(candidates)
        for candidate in candidates:
            modalities, beside = modalities_of(candidate.row), beside_of(candidate)
            # Rows of one patient of a trust share an identity, see `patients.Identities`.
            alike = (id(candidate.identity), candidate.trust.code, tuple(modalities), beside)
            verdict = verdicts.get(alike) or verdicts.get((*alike, candidate.study_uid))
            if verdict is None:
                decision_id = f"{self._decision.decision_id}.{len(self.tally.verdicts) + 1}"
                verdict, is_for_all = await self._verdict(self._resource(candidate, modalities, beside), decision_id)
                verdicts[alike if is_for_all else (*alike, candidate.study_uid)] = verdict
            verdict.studies[candidate.study_uid] = None
            if verdict.decision.is_permitted:
                visible.append(candidate)
                self._disclose(verdict, candidate)
        self.tally.withheld += len(candidates) - len(visible)
        return visible

    def _disclose(self, verdict: Verdict, row: Candidate) -> None:
        """Note the row by the UID of its level; of images their series, for which of them went is in the ledger."""
        if self._wish.action is Action.SEE:
            verdict.disclosed.append(row.sop_uid or row.series_uid or row.study_uid)
        elif not verdict.disclosed or verdict.disclosed[-1] != row.series_uid:
            verdict.disclosed.append(row.series_uid)

    async def withdrawn(self, rows: Sequence[Candidate], since: datetime, grace: timedelta) -> Withdrawn | None:
        """Whether what was permitted may not go on, by the registers as they stand now; None: all of it may.

        A care relationship that ends does not stop what began while it stood, for so long (SAF-36). Permits are not
        recorded again; what stops a retrieval is, with the facts that stopped it. Raises `RegisterUnavailable`.
        """
        at = self._gate.clock.now()
        patients = sorted({row.patient for row in rows if row.patient is not None})
        try:
            snapshot = await self._gate.store.facts(self._access.recipient, patients, at=at)
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error
        if snapshot.unpinned.faults:
            self._gate.fault(snapshot.unpinned.faults)
        access = replace(self._access, at=at)
        beside_of = images_beside(rows)
        alike = {
            (id(row.identity), row.trust.code, row.study_uid, tuple(modalities_of(row.row)), beside_of(row)): row
            for row in rows
        }
        for (_, _, _, modalities, beside), row in alike.items():
            known = snapshot.by_patient.get(row.patient) if row.patient is not None else None
            trusts = (access.recipient, *self._gate.custodians)
            facts = self._gate.with_organisations(known or snapshot.unpinned, trusts)
            resource = self._resource(row, modalities, beside)
            decision_id = f"{self._decision.decision_id}.later"
            decision = self._gate.decide(access.of(resource, self._wish.action), facts, decision_id)
            if not decision.is_permitted and not (at - since < grace and _is_end_of_care(decision)):
                return Withdrawn(decision, resource, facts, at)
        return None

    @property
    def decision_id(self) -> str:
        """Of the decision that let it through."""
        return self._decision.decision_id

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
            access, facts = self._access.of(resource, self._wish.action), self._facts(resource.patient)
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

    def _resource(
        self, candidate: Candidate, modalities: Sequence[str], beside: frozenset[str] = frozenset()
    ) -> Resource:
        age = age_years(candidate.identity.demographics.birth_date, self._access.at.date())
        return Resource(candidate.patient, candidate.trust, candidate.study_uid, frozenset(modalities), age, beside)

    async def _verdict(self, resource: Resource, decision_id: str) -> tuple[Verdict, bool]:
        """Decide on a row, discharge what that obliges to, and begin its part of the record."""
        access = self._access.of(resource, self._wish.action)
        decision, is_for_all = self._gate.decide_for_studies(access, self._facts(resource.patient), decision_id)
        await self._gate.discharge(decision, self._wish, resource, self.tally.alerted)
        verdict = Verdict(decision, resource, self._access.at)
        self.tally.verdicts.append(verdict)
        return verdict, is_for_all


def _is_end_of_care(decision: Decision) -> bool:
    forbids = {reason.rule for reason in decision.reasons if reason.effect is Effect.FORBID}
    return forbids == {"require-care-relationship"}
