"""Coverage: what an answer's header says of a trust's agreement, the same for every patient (SAF-07)."""

from dataclasses import replace

import pytest

from policy.access import Action, Telling
from policy.agreements import Coverage, coverage
from policy.facts import Agreement, Facts, Organisation, OrganisationKind, Register
from policy.parties import PurposeOfUse
from tests.policy.examples import (
    ANYTHING_WITH_ANYBODY,
    EASTVALE,
    KNOWN,
    NOON,
    NORTHMOOR,
    SOUTHBRIDGE,
    judged,
)
from tests.policy.worlds import worlds

CT_AND_CR = replace(ANYTHING_WITH_ANYBODY, modalities=frozenset({"CT", "CR"}))
MR_TOO = replace(ANYTHING_WITH_ANYBODY, modalities=frozenset({"MR"}))
NOTHING, EVERYTHING = Coverage(frozenset()), Coverage(None)


def _covered(*clauses: Agreement, facts: Facts = KNOWN) -> Coverage:
    return coverage(replace(facts, agreements=clauses), NORTHMOOR, PurposeOfUse.TREAT, EASTVALE, NOON)


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [
        ([], NOTHING),
        ([ANYTHING_WITH_ANYBODY], EVERYTHING),
        ([CT_AND_CR], Coverage(frozenset({"CT", "CR"}))),
        ([CT_AND_CR, MR_TOO], Coverage(frozenset({"CT", "CR", "MR"}))),
        ([CT_AND_CR, ANYTHING_WITH_ANYBODY], EVERYTHING),
        ([replace(ANYTHING_WITH_ANYBODY, recipients=frozenset({SOUTHBRIDGE}))], NOTHING),
        ([replace(ANYTHING_WITH_ANYBODY, purposes=frozenset({PurposeOfUse.ETREAT}))], NOTHING),
        ([replace(ANYTHING_WITH_ANYBODY, custodian=SOUTHBRIDGE)], NOTHING),
        ([replace(ANYTHING_WITH_ANYBODY, valid_until=NOON)], NOTHING),
        ([replace(ANYTHING_WITH_ANYBODY, age_min_years=16)], EVERYTHING),  # which patients is not said
    ],
)
def test_coverage_is_what_the_clauses_in_force_can_ever_show(clauses: list[Agreement], expected: Coverage) -> None:
    assert _covered(*clauses) == expected


def test_a_trust_that_is_not_enrolled_covers_nothing() -> None:
    left = Organisation(EASTVALE, OrganisationKind.NHS_HOSPITAL_TRUST, False)
    assert _covered(ANYTHING_WITH_ANYBODY, facts=replace(KNOWN, organisations=(left,))) == NOTHING


def test_a_trusts_own_images_are_covered_whole() -> None:
    assert coverage(replace(KNOWN, agreements=()), EASTVALE, PurposeOfUse.TREAT, EASTVALE, NOON) == EVERYTHING


def test_coverage_can_be_put_both_ways() -> None:
    some = _covered(CT_AND_CR)
    assert some.modalities == frozenset({"CT", "CR"}) and not some.is_nothing
    assert some.never_shown({"MR", "CT", "US"}) == ("MR", "US")
    assert NOTHING.is_nothing and NOTHING.never_shown({"CT"}) == ("CT",)
    assert EVERYTHING.modalities is None and EVERYTHING.never_shown({"CT"}) == ()


def test_agreements_at_fault_say_nothing_about_coverage() -> None:
    with pytest.raises(AssertionError):
        _covered(facts=replace(KNOWN, faults=frozenset({Register.AGREEMENTS})))


def test_what_coverage_leaves_out_is_exactly_what_agreements_refuse_whoever_the_patient() -> None:
    for world in worlds(7, 3_000):
        access, resource = world.access, world.access.resource
        if resource.custodian is None or access.action is not Action.SEE or world.facts.faults:
            continue
        covered = coverage(world.facts, access.recipient, access.purpose, resource.custodian, access.at)
        for modality in ("CT", "MR"):
            row = replace(access, resource=replace(resource, modalities=frozenset({modality})))
            decision = judged(row, world.facts, world.settings)
            refused = any(reason.telling is Telling.COVERAGE for reason in decision.reasons)
            assert refused == bool(covered.never_shown({modality}))
