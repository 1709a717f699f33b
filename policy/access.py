"""The question and the answer: `Access`, `Decision`, the reasons in it, and what each reason may tell the caller.

A `Decision` keeps every reason for the audit; `told` and `is_hidden` say what SAF-02 lets a caller see. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse, TrustId


class Action(StrEnum):
    """What the caller wishes to do. QUERY is asked before anybody is asked; the others once per row that is found."""

    QUERY = "query"
    SEE = "see"
    """Know that it exists, and what its row says."""
    RETRIEVE = "retrieve"
    """Have the images."""
    STORE = "store"
    """Have the caller's own images kept here, for whoever may have them later."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What the wish is about. QUERY knows at most the patient; the others know the custodian's study as well.

    `custodian` None means "every trust of the region"; `modalities` empty means "not known".
    """

    patient: NhsNumber | None
    custodian: TrustId | None = None
    study_uid: str = ""
    modalities: frozenset[str] = frozenset()
    age_years: int | None = None
    """The patient's age at the time of asking, in whole years; None: not known."""
    beside: frozenset[str] = field(default=frozenset(), metadata={"since": 3})
    """Of what only accompanies images, a report among it: their modalities; empty: not known."""


@dataclass(frozen=True, slots=True)
class Access:
    """One wish, at one instant. `recipient` is the organisation that would hold the answer (DEC-04)."""

    subject: str
    kind: PrincipalKind
    caller_trust: TrustId
    proven_by: frozenset[str]
    recipient: TrustId
    person: str
    teams: frozenset[str]
    purpose: PurposeOfUse
    action: Action
    resource: Resource
    at: datetime
    patient_named: bool
    """Whether the question itself named the patient: only then may a missing relationship be told (SAF-02)."""

    @property
    def is_own_images(self) -> bool:
        """A trust's use of its own images, never subject to the sharing rules on the patient (SAF-12)."""
        custodian = self.resource.custodian
        return custodian is not None and custodian.code == self.recipient.code

    def of(self, resource: Resource, action: Action) -> Access:
        """The wish for one row that was found, of the same caller at the same instant."""
        # Asked of every row: spelled out, because `dataclasses.replace` takes four times as long.
        return Access(
            self.subject,
            self.kind,
            self.caller_trust,
            self.proven_by,
            self.recipient,
            self.person,
            self.teams,
            self.purpose,
            action,
            resource,
            self.at,
            self.patient_named,
        )


class Effect(StrEnum):
    """What one rule says, and what all of them together come to."""

    PERMIT = "permit"
    FORBID = "forbid"


class Telling(StrEnum):
    """Who may be told of a reason (SAF-02, SAF-07)."""

    CALLER = "caller"
    """Depends on caller and question alone: the caller is told in words."""
    COVERAGE = "coverage"
    """An agreement's refusal that does not depend on the patient: shown as coverage, never row by row."""
    NOBODY = "nobody"
    """Depends on a register entry or on what exists: the answer is that of absence. Audit only."""


class Obligation(StrEnum):
    """What must be done if the permit is used. A closed set: one the broker cannot discharge is a denial."""

    RECORD_DETAIL = "record-detail"
    """The audit names each row disclosed, not only their number."""
    ALERT_PRIVACY_OFFICERS = "alert-privacy-officers"
    """The access stands on a grant: the privacy officers of both trusts are alerted (SHR-26)."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule's finding: a permit, or a forbid with what may be told."""

    rule: str
    effect: Effect
    code: str
    text: str
    telling: Telling = Telling.NOBODY
    evidence: str = ""
    """Id of the register row that decided; for the audit and `explain`, never shown to a caller."""
    obligations: frozenset[Obligation] = frozenset()
    """What this permit demands of whoever uses it; empty for a forbid."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one `Access`, with every reason found and the version of the rules that found them."""

    decision_id: str
    effect: Effect
    reasons: tuple[Reason, ...]
    rule_set: str
    obligations: frozenset[Obligation] = frozenset()

    @property
    def is_permitted(self) -> bool:
        """Whether the access may go on."""
        return self.effect is Effect.PERMIT

    @property
    def told(self) -> tuple[Reason, ...]:
        """The forbids that the caller is told, whatever the registers say (SAF-02)."""
        return tuple(r for r in self.reasons if r.effect is Effect.FORBID and r.telling is Telling.CALLER)

    @property
    def is_hidden(self) -> bool:
        """Denied, and nothing may be told: the caller gets the answer of absence."""
        return not self.is_permitted and not self.told
