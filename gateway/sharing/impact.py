"""Who would gain or lose access if an agreement or a setting changed: the same `decide`, asked before and after.

Every patient, recipient and custodian, with every kind of study that could make a difference: each modality named by a
clause and one that is named by none, each side of every age limit, each purpose that a clause names. So the comparison
leaves out nothing that a clause can tell apart, although ages and modalities of real studies are not kept. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product

from policy.access import Access, Action, Resource
from policy.agreements import COMPANIONS
from policy.engine import decide
from policy.facts import Agreement, Facts
from policy.parties import DIRECT_CARE, NhsNumber, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Proof, Settings

OTHER_MODALITY = "OT"
"""Stands for every modality that no clause names; a clause that names it is told apart all the same."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of study and of question that clauses may tell apart."""

    modality: str
    age_years: int | None
    purpose: PurposeOfUse


@dataclass(frozen=True, slots=True)
class World:
    """What is known of one patient for one recipient, as it is and as it would be."""

    patient: NhsNumber
    recipient: TrustId
    before: Facts
    after: Facts


@dataclass(frozen=True, slots=True)
class Change:
    """One recipient's access to one patient's studies of one kind at one custodian, where it would differ."""

    patient: NhsNumber
    recipient: TrustId
    custodian: TrustId
    kind: Kind
    is_gain: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """How to ask: which custodians, kinds and settings, and when."""

    custodians: Sequence[TrustId]
    kinds: Sequence[Kind]
    settings_before: Settings
    settings_after: Settings
    at: datetime


def kinds_of(before: Collection[Agreement], after: Collection[Agreement]) -> tuple[Kind, ...]:
    """The kinds of study and question that any of these clauses could tell apart."""
    clauses = [*before, *after]
    named = {modality for clause in clauses for modality in clause.modalities}
    modalities = sorted(named | {_unnamed(named)})
    limits = {
        limit
        for clause in clauses
        for limit in (clause.age_min_years, _next(clause.age_max_years))
        if limit is not None and limit > 0
    }
    # A clause from birth on limits nothing but what has no age, which no clause with ages admits.
    has_ages = any(clause.age_min_years is not None or clause.age_max_years is not None for clause in clauses)
    ages: list[int | None] = [None, *sorted({0, *limits})] if has_ages else [None]
    purposes = sorted(DIRECT_CARE) if any(clause.purposes for clause in clauses) else [PurposeOfUse.TREAT]
    return tuple(Kind(modality, age, purpose) for modality, age, purpose in product(modalities, ages, purposes))


def changes(worlds: Iterable[World], comparison: Comparison) -> Iterator[Change]:
    """Every difference, in the order of the worlds."""
    for world in worlds:
        for purpose in dict.fromkeys(kind.purpose for kind in comparison.kinds):
            # Who may not even ask sees nothing of anybody: most pairs of patient and trust end here.
            question = _access(world, purpose, Action.QUERY, Resource(world.patient), comparison.at)
            if any(_both(question, world, comparison)):
                yield from _seen(world, purpose, comparison)


def totals(found: Iterable[Change]) -> Counter[tuple[TrustId, TrustId, Kind, bool]]:
    """How many patients, by recipient, custodian, kind, and whether access is gained."""
    return Counter((change.recipient, change.custodian, change.kind, change.is_gain) for change in found)


def _seen(world: World, purpose: PurposeOfUse, comparison: Comparison) -> Iterator[Change]:
    for custodian, kind in product(comparison.custodians, comparison.kinds):
        if kind.purpose is not purpose or custodian == world.recipient:
            continue
        resource = Resource(world.patient, custodian, modalities=frozenset({kind.modality}), age_years=kind.age_years)
        access = _access(world, purpose, Action.SEE, resource, comparison.at)
        before, after = _both(access, world, comparison)
        if before is not after:
            yield Change(world.patient, world.recipient, custodian, kind, after)


def _both(access: Access, world: World, comparison: Comparison) -> tuple[bool, bool]:
    return (
        decide(access, world.before, comparison.settings_before, "").is_permitted,
        decide(access, world.after, comparison.settings_after, "").is_permitted,
    )


def _access(world: World, purpose: PurposeOfUse, action: Action, resource: Resource, at: datetime) -> Access:
    """A question of the recipient's own system, proven in every way: what remains is what registers and rules say."""
    return Access(
        subject="",
        kind=PrincipalKind.SYSTEM,
        caller_trust=world.recipient,
        proven_by=frozenset(proof.value for proof in Proof if proof not in (Proof.DIMSE, Proof.LOOPBACK)),
        recipient=world.recipient,
        person="",
        teams=frozenset(),
        purpose=purpose,
        action=action,
        resource=resource,
        at=at,
        patient_named=True,
    )


def with_agreements(facts: Facts, custodian: TrustId, clauses: Collection[Agreement], recipient: TrustId) -> Facts:
    """The facts as they would be with these clauses in place of the custodian's own."""
    theirs = [clause for clause in clauses if not clause.recipients or recipient in clause.recipients]
    others = [clause for clause in facts.agreements if clause.custodian != custodian]
    return replace(facts, agreements=(*others, *theirs))


def _unnamed(named: Collection[str]) -> str:
    candidates = (OTHER_MODALITY, *(f"{OTHER_MODALITY}{number}" for number in range(len(named) + 1)))
    return next(name for name in candidates if name not in named and name not in COMPANIONS)


def _next(age_years: int | None) -> int | None:
    return None if age_years is None else age_years + 1
