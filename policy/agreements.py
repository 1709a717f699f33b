"""What custodian trusts have agreed to share, with whom: the reading of `Agreement` clauses.

Clauses are an allow-list: a trust with no clause in force shares nothing, and a refusal that is the same for every
patient is shown as coverage, "this trust shares only CT and CR with you" (SAF-07). Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from policy.facts import Agreement, Facts, OrganisationKind, Register, in_force
from policy.parties import PurposeOfUse, TrustId

COMPANIONS = frozenset({"SR", "PR", "KO", "DOC"})
"""Dose and other structured reports, presentation states, key objects, documents: they accompany images.

Nearly every CT study holds a dose report. A clause for CT means such studies too: companions do not hide the study they
lie in, and the report of a CT is shared with its images (SAF-63). Where nobody knows which images they accompany, they
are shared only where a clause names them.
"""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one custodian can ever show one recipient for one purpose, whoever the patient (SAF-07)."""

    modalities: frozenset[str] | None
    """The only modalities shared; None: any; empty: nothing is shared at all."""

    @property
    def is_nothing(self) -> bool:
        """The custodian shares nothing with this recipient for this purpose."""
        return self.modalities is not None and not self.modalities

    def never_shown(self, of: Collection[str]) -> tuple[str, ...]:
        """Those of the modalities `of` (such as those a question names) that are never shown, sorted."""
        return () if self.modalities is None else tuple(sorted(set(of) - self.modalities))


def coverage(facts: Facts, recipient: TrustId, purpose: PurposeOfUse, custodian: TrustId, at: datetime) -> Coverage:
    """Say what `custodian` shares with `recipient` for `purpose` at `at`; depends on no patient.

    Ages stay out: whether they matter depends on the patient. Not to be asked of facts whose agreements are at fault.
    """
    assert Register.AGREEMENTS not in facts.faults, "a register at fault says nothing about coverage"
    if custodian == recipient:
        return Coverage(None)
    if not is_enrolled_trust(facts, custodian):
        return Coverage(frozenset())
    clauses = clauses_for(facts, recipient, purpose, custodian, at)
    if any(not clause.modalities for clause in clauses):
        return Coverage(None)
    return Coverage(frozenset().union(*(clause.modalities for clause in clauses)))


def clauses_for(
    facts: Facts, recipient: TrustId, purpose: PurposeOfUse, custodian: TrustId, at: datetime
) -> list[Agreement]:
    """The custodian's clauses in force that admit this recipient and purpose."""
    code = custodian.code
    return [
        clause
        for clause in facts.agreements
        if clause.custodian.code == code
        and (not clause.recipients or recipient in clause.recipients)
        and (not clause.purposes or purpose in clause.purposes)
        and in_force(clause.valid_from, clause.valid_until, at)
    ]


def admits_age(clause: Agreement, age_years: int | None) -> bool:
    """Whether the clause admits a patient of this age; an unknown age passes no limit."""
    if clause.age_min_years is None and clause.age_max_years is None:
        return True
    if age_years is None:
        return False
    return (clause.age_min_years is None or clause.age_min_years <= age_years) and (
        clause.age_max_years is None or age_years <= clause.age_max_years
    )


def share(clauses: Collection[Agreement], modalities: frozenset[str], beside: frozenset[str] = frozenset()) -> bool:
    """Whether the clauses together share every modality; unknown ones (empty) only if any modality is shared.

    What only accompanies images is shared with those that it lies `beside`.
    """
    if any(not clause.modalities for clause in clauses):
        return True
    named = frozenset[str]().union(*(clause.modalities for clause in clauses))
    if imaging := modalities - COMPANIONS:
        return imaging <= named
    images = beside - COMPANIONS
    return bool(modalities) and (modalities <= named or (bool(images) and images <= named))


def retrieves(facts: Facts, trust: TrustId) -> bool:
    """Whether a trust was signed off for retrieving; an organisation that nobody knows was not."""
    entry = facts.organisation(trust)
    return entry is not None and entry.retrieves


def is_enrolled_trust(facts: Facts, trust: TrustId) -> bool:
    """Whether the directory has this code as an enrolled NHS hospital trust (SHR-01, SAF-10)."""
    entry = facts.organisation(trust)
    return entry is not None and entry.is_enrolled and entry.kind is OrganisationKind.NHS_HOSPITAL_TRUST
