"""The rules against a second, naive evaluator, over generated worlds (threats.md G14)."""

from collections import Counter
from pathlib import Path

import pytest

from policy.access import Effect, Obligation
from policy.engine import decide
from policy.rules import RULES, Rule, rule_name
from tests.policy.oracle import Expected, expected
from tests.policy.worlds import World, worlds

WORLDS_IN_CI = 100_000
WORLDS_IN_SOAK = 5_000_000
CODES = {  # all but "no-permit": with these rules every denial has a reason of its own
    "age-not-shared",
    "break-glass-without-grant",
    "care-relationship",
    "custodian-not-enrolled",
    "custodian-unknown",
    "destination-of-another-trust",
    "each-row-decides",
    "granted",
    "identity-not-proven",
    "kind-receives-no-images",
    "nhs-number-of-other-mode",
    "no-care-relationship",
    "not-shared",
    "opted-out",
    "own-images",
    "purpose-not-direct-care",
    "push-not-signed-off",
    "recipient-not-enrolled",
    "register-unavailable",
    "restricted-until-decided",
    "retrieving-not-signed-off",
    "row-without-nhs-number",
    "sensitive",
    "team-not-involved",
}


def _found(world: World, rules: tuple[Rule, ...] = RULES) -> Expected:
    decision = decide(world.access, world.facts, world.settings, "d", rules=rules)
    alerted = Obligation.ALERT_PRIVACY_OFFICERS in decision.obligations
    return Expected(decision.is_permitted, frozenset(reason.code for reason in decision.told), alerted)


def _disagreements(seed: int, count: int) -> list[World]:
    return [
        world for world in worlds(seed, count) if _found(world) != expected(world.access, world.facts, world.settings)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_the_rules_agree_with_the_naive_evaluator(seed: int) -> None:
    assert _disagreements(seed, WORLDS_IN_CI // 4) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1_000, 1_010))
def test_the_rules_agree_with_the_naive_evaluator_for_long(seed: int) -> None:
    assert _disagreements(seed, WORLDS_IN_SOAK // 10) == []


@pytest.mark.parametrize("left_out", RULES, ids=rule_name)
def test_a_missing_rule_would_be_noticed(left_out: Rule) -> None:
    rest = tuple(rule for rule in RULES if rule is not left_out)
    assert any(_is_noticed(world, rest) for world in worlds(5, 20_000))


def _is_noticed(world: World, rules: tuple[Rule, ...]) -> bool:
    """Another outcome, or a denial that no rule can give a reason for."""
    decision = decide(world.access, world.facts, world.settings, "d", rules=rules)
    wanted = expected(world.access, world.facts, world.settings)
    return _found(world, rules) != wanted or decision.reasons[0].rule == "no-permit"


def test_the_worlds_meet_every_reason_and_are_permitted_often_enough_to_prove_something() -> None:
    found: Counter[str] = Counter()
    permitted = alone = 0
    for world in worlds(6, 20_000):
        decision = decide(world.access, world.facts, world.settings, "d")
        found.update(reason.code for reason in decision.reasons)
        permitted += decision.is_permitted
        alone += sum(reason.effect is Effect.FORBID for reason in decision.reasons) == 1
    assert {code for code, count in found.items() if count >= 5} == CODES
    assert permitted > 2_000 and alone > 4_000


def test_the_naive_evaluator_stays_naive() -> None:
    source = (Path(__file__).parent / "oracle.py").read_text()
    assert source.count("\n") <= 165
    assert "policy.rules" not in source.split('"""')[2] and "policy.engine" not in source.split('"""')[2]
