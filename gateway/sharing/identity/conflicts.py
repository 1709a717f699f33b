"""Rows that do not agree on whose they are: taken out, quarantined, and told without content (SAF-08, IDN-06).

Works on the rows that answer a question, before policy has decided on them, and says which are accepted, at which
trusts something had to be taken out, and what the custodians must put right. Never a best guess. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.model.imaging import Query
from gateway.model.seams import STUDY_OF_TWO_PATIENTS, QualityItem
from gateway.sharing.identity.patients import (
    Demographics,
    Likeness,
    compare,
    confirms_birth_date,
    contradicts_question,
    is_doubtful,
    stated,
)
from gateway.sharing.merge import Candidate, conflicting_studies
from gateway.sharing.scope import Scope
from policy.parties import NhsNumber, TrustId

VARIANTS_MAX = 16
"""Different demographics under one NHS number that are still compared pair by pair."""
QUARANTINED = "study-quarantined"
_OF_NOBODY = frozenset({"nhs-number-missing", "identifiers-disagree"})


@dataclass(frozen=True, slots=True)
class Conflict:
    """Rows taken out together, for one reason."""

    kind: str
    """`nhs-number-missing`, `identifiers-disagree`, `nhs-number-not-verified`, `demographics-differ`,
    `study-uid-of-two-patients`, `study-quarantined` until that is put right; of a doubt `demographics-doubtful`.
    """
    rows: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What may go on to policy, and what was taken out."""

    accepted: tuple[Candidate, ...]
    conflicts: tuple[Conflict, ...]
    doubts: tuple[Conflict, ...] = ()
    """Of the accepted rows those that their custodians should look at (IDN-02)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the people and the studies in an answer besides what its rows say."""

    unverified: frozenset[NhsNumber] = frozenset()
    """Numbers that are not verified well enough to match by alone (C1)."""
    surnames: Mapping[NhsNumber, frozenset[str]] = field(default_factory=dict)
    """Surnames that a person is known to have had, folded (IDN-03)."""
    quarantined: frozenset[str] = frozenset()
    """Studies that were met under two patients, of which custodians have not yet said whose they are (SAF-08)."""

    def surnames_of(self, patient: NhsNumber | None) -> frozenset[str]:
        """The known surnames; none for a patient of whom nothing is known."""
        return self.surnames.get(patient, frozenset()) if patient is not None else frozenset()


NO_EVIDENCE = Evidence()


def judge(
    query: Query,
    scope: Scope,
    candidates: Sequence[Candidate],
    *,
    asker: TrustId | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Judgement:
    """Sort the rows that answer the question into accepted ones and conflicts.

    Rows of another patient than the one pinned are simply no answer, unless they file a study under two patients. Each
    such study, and each patient whose rows disagree, is a conflict of its own.
    """
    of_patient = [c for c in candidates if scope.patient in (None, c.patient)]
    contradicting = _contradicting(query, of_patient, evidence) if scope.patient is not None else set()
    # A row that contradicts the question says nothing against those that do not.
    contradicting |= _disagreeing([row for row in of_patient if row not in contradicting], evidence)
    unproven = _unproven(query, of_patient, evidence)
    of_two = conflicting_studies(candidates) | _contradicted_by_nameless(candidates)
    accepted: list[Candidate] = []
    taken_out: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for row in candidates:
        if row.study_uid in of_two:
            taken_out[STUDY_OF_TWO_PATIENTS, row.study_uid].append(row)
        elif row.study_uid in evidence.quarantined and row.trust != asker:
            # Whoever puts it right has to look at the own copy; nobody else sees one, though the other trust is silent.
            taken_out[QUARANTINED, row.study_uid].append(row)
        elif row.patient is None:
            if row.identity.is_contradicted:
                taken_out["identifiers-disagree", ""].append(row)
            elif scope.patient is not None:
                taken_out["nhs-number-missing", ""].append(row)
            elif row.trust == asker:
                # Patients without an NHS number stay inside their trust until linked (D10): no answer to another one.
                accepted.append(row)
        elif scope.patient in (None, row.patient):
            if row in contradicting:
                taken_out["demographics-differ", row.patient.digits].append(row)
            elif row in unproven:
                taken_out["nhs-number-not-verified", row.patient.digits].append(row)
            else:
                accepted.append(row)
    conflicts = [
        Conflict(kind, tuple(sorted(rows, key=lambda row: (row.trust, row.uids))))
        for (kind, _), rows in sorted(taken_out.items(), key=lambda item: item[0])
        if scope.patient is None or kind in _OF_NOBODY or any(row.patient == scope.patient for row in rows)
    ]
    return Judgement(tuple(accepted), tuple(conflicts), tuple(_doubts(query, scope, accepted, evidence)))


def quality_items(conflict: Conflict) -> list[QualityItem]:
    """One item for each custodian and study concerned; its content is for that custodian alone.

    None for a study in quarantine: its items are open, or one of them was resolved and another one not yet.
    """
    if conflict.kind == QUARANTINED:
        return []
    others = sorted({row.trust.code for row in conflict.rows})
    concerned: dict[tuple[TrustId, str], set[NhsNumber]] = defaultdict(set)
    for row in conflict.rows:
        concerned[row.trust, row.study_uid].update([row.patient] if row.patient is not None else [])
    return [
        QualityItem(conflict.kind, trust, study_uid, min(patients, default=None), {"trusts": list(others)})
        for (trust, study_uid), patients in sorted(concerned.items(), key=lambda item: item[0])
    ]


def _contradicting(query: Query, rows: Sequence[Candidate], evidence: Evidence) -> set[Candidate]:
    """Rows that what the question says of its patient contradicts."""
    return {
        row
        for alike in _by_identity(rows)
        if contradicts_question(query, alike[0].row, evidence.surnames_of(alike[0].patient))
        for row in alike
    }


def _unproven(query: Query, rows: Sequence[Candidate], evidence: Evidence) -> set[Candidate]:
    """Rows under a number that is not verified, without a linked number and without a birth date that agrees (C1)."""
    return {
        row
        for alike in _by_identity([row for row in rows if row.patient in evidence.unverified])
        if alike[0].identity.linked_by is None and not confirms_birth_date(query, alike[0].row)
        for row in alike
    }


def _doubts(query: Query, scope: Scope, accepted: Sequence[Candidate], evidence: Evidence) -> list[Conflict]:
    """Accepted rows whose demographics say something else than the question, or than another row of the patient."""
    of_patient: dict[NhsNumber, dict[Demographics, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for alike in _by_identity(accepted):
        if alike[0].patient is not None:
            of_patient[alike[0].patient][alike[0].identity.demographics] += alike
    doubts = []
    asked = stated(query) if scope.patient is not None else Demographics()
    for patient, variants in sorted(of_patient.items()):
        surnames = evidence.surnames_of(patient)
        doubtful = [
            row
            for one, rows in variants.items()
            if any(is_doubtful(one, other, surnames) for other in (asked, *variants))
            for row in rows
        ]
        if doubtful:
            rows = tuple(sorted(doubtful, key=lambda row: (row.trust, row.uids)))
            doubts.append(Conflict("demographics-doubtful", rows))
    return doubts


def _by_identity(rows: Iterable[Candidate]) -> Iterable[list[Candidate]]:
    """Rows that share an identity (see `patients.Identities`): what holds for the patient of one holds for all."""
    groups: dict[int, list[Candidate]] = {}
    for row in rows:
        groups.setdefault(id(row.identity), []).append(row)
    return groups.values()


def _contradicted_by_nameless(candidates: Sequence[Candidate]) -> frozenset[str]:
    """Studies of which one copy has an NHS number and another, without one, is of somebody else by its demographics."""
    named: dict[str, set[Demographics]] = defaultdict(set)
    for found in candidates:
        if found.patient is not None:
            named[found.study_uid].add(found.identity.demographics)
    return frozenset(
        nameless.study_uid
        for nameless in candidates
        if nameless.patient is None
        and nameless.study_uid
        and (
            len(named[nameless.study_uid]) > VARIANTS_MAX
            or any(
                compare(nameless.identity.demographics, other) is Likeness.CONFLICT
                for other in named[nameless.study_uid]
            )
        )
    )


def _disagreeing(rows: Sequence[Candidate], evidence: Evidence) -> set[Candidate]:
    """Rows of one NHS number whose demographics contradict those of another row; both sides (IDN-06)."""
    people: dict[NhsNumber, dict[Demographics, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for alike in _by_identity(rows):
        if alike[0].patient is not None:
            people[alike[0].patient][alike[0].identity.demographics] += alike
    disagreeing: set[Candidate] = set()
    for patient, variants in people.items():
        surnames = evidence.surnames_of(patient)
        # Nobody has this many true spellings: a source that sends them is not believed, and takes no other with it.
        flooding = _flooding(variants)
        believed = {
            one: kept
            for one, rows_of_one in variants.items()
            if (kept := [row for row in rows_of_one if row.trust not in flooding])
        }
        disagreeing.update(row for rows_of_one in variants.values() for row in rows_of_one if row.trust in flooding)
        is_flood = len(believed) > VARIANTS_MAX
        for one, rows_of_one in believed.items():
            if is_flood or any(
                compare(one, other, surnames) is Likeness.CONFLICT for other in variants if other != one
            ):
                disagreeing.update(rows_of_one)
    return disagreeing


def _flooding(variants: Mapping[Demographics, Sequence[Candidate]]) -> frozenset[TrustId]:
    """The trusts that each send more spellings of one person than are compared."""
    if len(variants) <= VARIANTS_MAX:
        return frozenset()
    spellings = Counter(trust for rows in variants.values() for trust in {row.trust for row in rows})
    return frozenset(trust for trust, count in spellings.items() if count > VARIANTS_MAX)
