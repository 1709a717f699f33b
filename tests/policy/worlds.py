"""Random worlds: an access, what is known for it, and the region's settings, from a seed.

Few values of each thing, so that they meet, and instants on and beside every edge. Half of what matters is near the
allowed case: a world drawn evenly is nearly always denied for five reasons at once, and proves little. Fast: a hundred
thousand worlds take seconds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from policy.access import Access, Action, Resource
from policy.facts import (
    Agreement,
    CareRelationship,
    Facts,
    Grant,
    ImplementedChoice,
    Organisation,
    OrganisationKind,
    Register,
    RelationshipKind,
    SensitiveLabel,
    SharingChoice,
)
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Proof, Settings
from tests.policy.examples import ANNE, EASTVALE, NOON, NORTHMOOR, SOUTHBRIDGE

T = TypeVar("T")

REAL = NhsNumber("9434765919")
TRUSTS = (NORTHMOOR, EASTVALE, SOUTHBRIDGE)
TEAMS = ("neurology", "paediatrics")
MODALITIES = ("CT", "MR", "SR")
CT = frozenset({"CT"})
STUDIES = ("2.25.7", "2.25.8")
PURPOSES = (PurposeOfUse.TREAT, PurposeOfUse.ETREAT, PurposeOfUse.BTG, PurposeOfUse.COC, PurposeOfUse.HRESCH)
PROOFS = (
    ({"https", "certificate"}, 12),
    ({"https", "certificate", "address"}, 4),
    ({"dimse", "certificate", "ae-title"}, 4),
    ({"https", "loopback"}, 1),
    ({"dimse", "ae-title"}, 1),
    ({"dimse", "certificate"}, 1),
    ({"https"}, 1),
)
YEAR = timedelta(days=365)
BEFORE = tuple(NOON - gap for gap in (timedelta(0), timedelta(microseconds=1), timedelta(hours=1), YEAR, YEAR * 2))
STARTS = (*BEFORE, NOON + timedelta(microseconds=1), NOON - YEAR + timedelta(microseconds=1))
ENDS = (None, NOON + timedelta(hours=1), NOON + timedelta(microseconds=1), NOON, NOON - timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class World:
    """One question and all that it is judged by."""

    access: Access
    facts: Facts
    settings: Settings


def worlds(seed: int, count: int) -> Iterator[World]:
    """Make `count` worlds; the same seed makes the same ones."""
    draw = Draw(Random(seed))
    for _ in range(count):
        yield draw.world()


class Draw:
    """Draws values from one source of chance; also used to add to a world."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def world(self) -> World:
        return World(self.access(), self.facts(), self.settings())

    def settings(self) -> Settings:
        return Settings(
            mode=self._one((Mode.DEMO,) * 9 + (Mode.PRODUCTION,)),
            proof_https=self._one(
                (frozenset({Proof.CERTIFICATE}),) * 5 + (frozenset({Proof.CERTIFICATE, Proof.ADDRESS}),)
            ),
            whole_trust_relationship_admits_clinicians=self._happens(0.3),
            relationship_max_life_days=self._one((365, 365, 365, 30)),
            break_glass_lifts_opt_out=self._happens(0.3),
        )

    def access(self) -> Access:
        recipient = self._mostly(NORTHMOOR, TRUSTS, 0.9)
        proofs, weights = zip(*PROOFS, strict=True)
        kind = self._one(
            (PrincipalKind.SYSTEM,) * 10
            + (PrincipalKind.CLINICIAN,) * 8
            + (PrincipalKind.OFFICER, PrincipalKind.SERVICE)
        )
        subject = self._one(("pacs", "dr-hollis"))
        resource = self.resource()
        return Access(
            subject=subject,
            kind=kind,
            caller_trust=self._mostly(recipient, TRUSTS, 0.95),
            proven_by=frozenset(self._chance.choices(proofs, weights)[0]),
            recipient=recipient,
            person=subject if kind is PrincipalKind.CLINICIAN else "",
            teams=frozenset(team for team in TEAMS if self._happens(0.5)),
            purpose=self._mostly(PurposeOfUse.TREAT, PURPOSES, 0.5),
            action=self._one((Action.SEE,) * 4 + (Action.QUERY,) * 3 + (Action.RETRIEVE,) * 2 + (Action.STORE,)),
            resource=resource,
            at=NOON,
            patient_named=resource.patient is not None and self._happens(0.6),
        )

    def resource(self) -> Resource:
        return Resource(
            patient=self._one((ANNE,) * 14 + (REAL, None, None)),
            custodian=self._one((EASTVALE,) * 10 + (SOUTHBRIDGE, NORTHMOOR, NORTHMOOR, None)),
            study_uid=self._one((*STUDIES, *STUDIES, "")),
            modalities=self._one(
                (
                    frozenset({"CT"}),
                    frozenset({"CT"}),
                    frozenset({"CT", "SR"}),
                    frozenset({"CT", "MR"}),
                    self._some(MODALITIES),
                )
            ),
            age_years=self._one((None, 9, 10, 11, 40, 40)),
            beside=self._one((frozenset(), frozenset(), CT, self._some(MODALITIES))),
        )

    def facts(self) -> Facts:
        return Facts(
            register_version=1,
            patient=self._one((ANNE, ANNE, None)),
            organisations=tuple(self._organisation(trust) for trust in TRUSTS if self._happens(0.97)),
            relationships=self._several(self.relationship, (1, 1, 1, 0, 2, 3)),
            choices=self._several(self.choice, (0, 0, 0, 1, 2, 3)),
            agreements=self._several(self.agreement, (1, 1, 2, 3, 0)),
            labels=self._several(self.label, (0, 0, 0, 1, 2)),
            grants=self._several(self.grant, (0, 0, 1, 2)),
            faults=frozenset({self._one(tuple(Register))}) if self._happens(0.05) else frozenset(),
        )

    def relationship(self) -> CareRelationship:
        return CareRelationship(
            relationship_id=self._id("r"),
            trust=self._mostly(NORTHMOOR, TRUSTS, 0.9),
            kind=self._one(tuple(RelationshipKind)),
            team=self._one(("", "neurology", "neurology", "paediatrics")),
            evidence="",
            valid_from=self._start(),
            valid_until=self._one(ENDS),
        )

    def choice(self) -> ImplementedChoice:
        return ImplementedChoice(
            case_id=self._id("c"),
            choice=self._one((SharingChoice.OPT_OUT, SharingChoice.OPT_IN)),
            is_provisional=self._happens(0.3),
            effective_at=self._start(),
            sequence=self._one((1, 2, 3)),
            valid_until=self._mostly(None, ENDS, 0.7),
        )

    def agreement(self) -> Agreement:
        limited = self._happens(0.3)
        return Agreement(
            agreement_id=self._id("a"),
            version=1,
            custodian=self._mostly(EASTVALE, TRUSTS, 0.85),
            recipients=self._mostly(frozenset(), (frozenset({NORTHMOOR}), frozenset({SOUTHBRIDGE})), 0.6),
            modalities=self._mostly(frozenset(), (self._some(MODALITIES),), 0.4),
            purposes=self._mostly(frozenset(), (self._some(PURPOSES),), 0.7),
            age_min_years=self._one((None, 10)) if limited else None,
            age_max_years=self._one((None, 10)) if limited else None,
            valid_from=self._start(),
            valid_until=self._mostly(None, ENDS, 0.7),
        )

    def label(self) -> SensitiveLabel:
        return SensitiveLabel(
            label_id=self._id("l"),
            custodian=self._mostly(EASTVALE, TRUSTS, 0.7),
            kind="safeguarding",
            study_uid=self._one((*STUDIES, "")),
            visible_to=self._some(PURPOSES),
            teams=self._some(("RZ1:paediatrics", "RZ2:paediatrics", "paediatrics")),
            valid_from=self._start(),
            valid_until=self._one(ENDS),
        )

    def grant(self) -> Grant:
        return Grant(
            grant_id=self._id("g"),
            trust=self._mostly(NORTHMOOR, TRUSTS, 0.9),
            subject=self._one(("", "pacs", "dr-hollis")),
            reason="unconscious",
            valid_from=self._start(),
            valid_until=self._one(tuple(end for end in ENDS if end is not None)),
        )

    def one_of(self, values: Sequence[T]) -> T:
        return self._chance.choice(values)

    def without_one(self, values: tuple[T, ...]) -> tuple[T, ...]:
        """Leave out one of the values."""
        left_out = self._chance.randrange(len(values))
        return values[:left_out] + values[left_out + 1 :]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        return self._chance.sample(values, len(values))

    def _organisation(self, trust: TrustId) -> Organisation:
        kind = self._mostly(OrganisationKind.NHS_HOSPITAL_TRUST, tuple(OrganisationKind), 0.97)
        return Organisation(trust, kind, self._happens(0.97), self._happens(0.95), self._happens(0.8))

    def _start(self) -> datetime:
        return self._one(BEFORE) if self._happens(0.6) else self._one(STARTS)

    def _id(self, letter: str) -> str:
        return f"{letter}-{self._chance.randrange(100)}"

    def _several(self, make: Callable[[], T], counts: tuple[int, ...]) -> tuple[T, ...]:
        return tuple(make() for _ in range(self._one(counts)))

    def _some(self, values: Sequence[T]) -> frozenset[T]:
        return frozenset(value for value in values if self._happens(0.5))

    def _mostly(self, usual: T, others: Sequence[T], probability: float) -> T:
        return usual if self._happens(probability) else self._one(others)

    def _one(self, values: Sequence[T]) -> T:
        return values[int(self._chance.random() * len(values))]

    def _happens(self, probability: float) -> bool:
        return self._chance.random() < probability
