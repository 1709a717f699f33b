"""The algebra of decisions: what may only narrow, what makes no difference, and that every decision says why."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from policy.access import Access, Decision, Effect, Obligation, Reason, Resource, Telling
from policy.engine import RULE_SET, decide, decide_for_studies, shows_fault
from policy.facts import Facts, Register, SharingChoice
from policy.rules import RULES, Rule, rule_name
from policy.settings import Settings
from tests.policy.examples import (
    DEMO,
    FIND_ANNE,
    KNOWN,
    NO_RELATIONSHIP,
    SAFEGUARDING,
    SEE_HEAD_CT,
    judged,
    told,
)
from tests.policy.worlds import Draw, World, worlds

COUNT = 3_000


def _judged(world: World, facts: Facts | None = None) -> Decision:
    return judged(world.access, world.facts if facts is None else facts, world.settings)


def _changed(seed: int) -> Iterator[tuple[World, Draw]]:
    """Worlds, with a source of changes to them."""
    draw = Draw(Random(seed))
    return ((world, draw) for world in worlds(seed + 1, COUNT))


def test_adding_an_opt_out_never_widens() -> None:
    for world, draw in _changed(10):
        added = replace(draw.choice(), choice=SharingChoice.OPT_OUT)
        after = _judged(world, replace(world.facts, choices=(*world.facts.choices, added)))
        assert _judged(world).is_permitted or not after.is_permitted


def test_adding_a_label_never_widens() -> None:
    for world, draw in _changed(20):
        after = _judged(world, replace(world.facts, labels=(*world.facts.labels, draw.label())))
        assert _judged(world).is_permitted or not after.is_permitted


def test_a_register_at_fault_never_widens() -> None:
    for world, draw in _changed(30):
        faults = world.facts.faults | {draw.one_of(tuple(Register))}
        assert not _judged(world, replace(world.facts, faults=faults)).is_permitted


@pytest.mark.parametrize("field", ["relationships", "grants", "agreements", "organisations"])
def test_removing_what_allows_never_widens(field: str) -> None:
    for world, draw in _changed(40):
        entries: tuple[object, ...] = getattr(world.facts, field)
        if entries:
            less = replace(world.facts, **{field: draw.without_one(entries)})  # type: ignore[arg-type]  # by name
            assert _judged(world).is_permitted or not _judged(world, less).is_permitted


def test_proving_less_never_widens() -> None:
    for world, draw in _changed(50):
        proven = tuple(sorted(world.access.proven_by - {"dimse", "https"}))
        door = world.access.proven_by & {"dimse", "https"}
        less = replace(world.access, proven_by=door | frozenset(draw.without_one(proven)) if proven else door)
        assert _judged(world).is_permitted or not judged(less, world.facts, world.settings).is_permitted


def test_what_is_told_never_depends_on_opt_outs_labels_or_agreements() -> None:
    for world, draw in _changed(60):
        other = draw.facts()
        swapped = replace(world.facts, choices=other.choices, labels=other.labels, agreements=other.agreements)
        assert _judged(world).told == _judged(world, swapped).told


def test_what_is_told_of_a_row_that_nobody_named_never_depends_on_the_patient() -> None:
    for world, draw in _changed(70):
        unnamed = replace(world.access, patient_named=False)
        other = replace(draw.facts(), organisations=world.facts.organisations)
        resource = replace(draw.resource(), custodian=unnamed.resource.custodian)
        here = judged(unnamed, world.facts, world.settings)
        there = judged(replace(unnamed, resource=resource), other, world.settings)
        assert here.told == there.told


def test_the_order_of_rules_makes_no_difference() -> None:
    for world, draw in _changed(80):
        turned = decide(world.access, world.facts, world.settings, "d-1", rules=draw.shuffled(RULES))
        assert turned == _judged(world)


def test_the_order_of_stored_choices_relationships_and_clauses_makes_no_difference_to_the_outcome() -> None:
    for world, draw in _changed(90):
        facts = replace(
            world.facts,
            **{  # type: ignore[arg-type]  # by name
                name: tuple(draw.shuffled(getattr(world.facts, name)))
                for name in ("choices", "relationships", "agreements", "labels", "grants", "organisations")
            },
        )
        here, there = _judged(world), _judged(world, facts)
        assert (here.effect, told(here), here.obligations) == (there.effect, told(there), there.obligations)


def test_every_decision_has_a_reason_and_only_a_permit_has_obligations() -> None:
    for world in worlds(100, COUNT):
        decision = _judged(world)
        assert any(reason.effect is decision.effect for reason in decision.reasons)
        assert decision.is_permitted or not decision.obligations
        assert decision.is_permitted == all(reason.effect is Effect.PERMIT for reason in decision.reasons)


def test_each_denial_is_told_in_words_or_hidden_and_a_permit_is_neither() -> None:
    for world in worlds(110, COUNT):
        decision = _judged(world)
        assert [decision.is_permitted, bool(decision.told), decision.is_hidden].count(True) == 1


def test_the_words_told_are_one_text_for_a_code_and_name_nobody() -> None:
    texts: dict[str, set[str]] = {}
    for world in worlds(120, COUNT):
        for reason in _judged(world).told:
            texts.setdefault(reason.code, set()).add(reason.text)
            assert reason.evidence == ""
    assert all(len(words) == 1 for words in texts.values())
    words = " ".join(text for each in texts.values() for text in each)
    assert not any(hint in words for hint in ("opt", "image exist", "label", "restrict", "stud", "hidden"))
    assert not any(character.isdigit() for character in words)


def test_what_is_decided_for_all_studies_is_what_each_of_them_would_get() -> None:
    shared = 0
    for world in worlds(150, COUNT):
        decision, is_for_all = decide_for_studies(world.access, world.facts, world.settings, "d-1")
        assert decision == _judged(world)
        if is_for_all:
            shared += 1
            for study in ("", "2.25.7", "2.25.8", "2.25.9"):
                other = replace(world.access, resource=replace(world.access.resource, study_uid=study))
                assert judged(other, world.facts, world.settings) == decision
    assert COUNT // 4 < shared < COUNT


def test_a_label_in_question_is_decided_study_by_study() -> None:
    labelled = replace(KNOWN, labels=(SAFEGUARDING,))
    assert decide_for_studies(SEE_HEAD_CT, KNOWN, DEMO, "d-1")[1]
    assert not decide_for_studies(SEE_HEAD_CT, labelled, DEMO, "d-1")[1]


def test_equal_questions_get_equal_answers() -> None:
    for world in worlds(130, 300):
        assert _judged(world) == _judged(world)


# The engine by itself


def _permits(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    obligations = frozenset({Obligation.RECORD_DETAIL})
    return Reason("permits", Effect.PERMIT, "yes", "yes", obligations=obligations)


def _forbids(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    return Reason("forbids", Effect.FORBID, "no", "no", Telling.CALLER)


def _is_silent(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    return None


def _fails(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    raise LookupError("a fault of ours")


@pytest.mark.parametrize(
    ("rules", "effect", "names"),
    [
        ([], Effect.FORBID, ["no-permit"]),
        ([_is_silent], Effect.FORBID, ["no-permit"]),
        ([_permits], Effect.PERMIT, ["permits"]),
        ([_permits, _is_silent], Effect.PERMIT, ["permits"]),
        ([_permits, _forbids], Effect.FORBID, ["forbids", "permits"]),
        ([_permits, _fails], Effect.FORBID, ["-fails", "permits"]),
        ([_fails], Effect.FORBID, ["-fails"]),
    ],
)
def test_any_forbid_wins_nothing_permits_by_default_and_a_failing_rule_forbids(
    rules: list[Rule], effect: Effect, names: list[str]
) -> None:
    decision = decide(SEE_HEAD_CT, KNOWN, DEMO, "d-1", rules=rules)
    assert decision.effect is effect and [reason.rule for reason in decision.reasons] == names


@pytest.mark.parametrize(
    "look",
    [
        lambda resource: resource.study_uid,
        lambda resource: resource == SEE_HEAD_CT.resource,
        lambda resource: resource in {SEE_HEAD_CT.resource},
        lambda resource: replace(resource, age_years=None),
    ],
)
def test_a_rule_that_looks_at_the_study_in_any_way_decides_for_that_study_alone(
    look: Callable[[Resource], object],
) -> None:
    def looks(access: Access, facts: Facts, settings: Settings) -> Reason | None:
        return _permits(access, facts, settings) if look(access.resource) else None

    assert decide_for_studies(SEE_HEAD_CT, KNOWN, DEMO, "d-1", rules=[_permits])[1]
    assert not decide_for_studies(SEE_HEAD_CT, KNOWN, DEMO, "d-1", rules=[looks])[1]


def test_a_rule_that_fails_is_hidden_from_the_caller() -> None:
    decision = decide(SEE_HEAD_CT, KNOWN, DEMO, "d-1", rules=[*RULES, _fails])
    assert decision.is_hidden and decision.reasons[0].code == "rule-failed"


def test_a_decision_carries_its_id_and_the_versions_of_rules_and_settings() -> None:
    assert judged().decision_id == "d-1"
    assert judged().rule_set == f"{RULE_SET}/{DEMO.version}"


def test_the_rule_set_has_one_name_in_every_process() -> None:
    command = [sys.executable, "-c", "from policy.engine import RULE_SET; print(RULE_SET)"]
    other = subprocess.run(command, capture_output=True, check=True, text=True, env={"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == RULE_SET


def test_every_rule_stands_once_and_names_itself_in_its_reasons() -> None:
    names = [rule_name(rule) for rule in RULES]
    assert len(set(names)) == len(names)
    for world in worlds(140, COUNT):
        for rule in RULES:
            reason = rule(world.access, world.facts, world.settings)
            assert reason is None or reason.rule == rule_name(rule)


# The fault of SAF-01 and what is told before it


@pytest.mark.parametrize(
    ("faults", "facts", "is_fault"),
    [
        (set(), KNOWN, False),
        (set(), NO_RELATIONSHIP, False),
        ({Register.OPT_OUTS}, KNOWN, True),
        ({Register.OPT_OUTS}, NO_RELATIONSHIP, False),
        ({Register.OPT_OUTS}, replace(KNOWN, organisations=()), False),
        ({Register.RELATIONSHIPS}, KNOWN, True),
        ({Register.RELATIONSHIPS}, replace(KNOWN, organisations=()), True),
        ({Register.PATIENTS, Register.OPT_OUTS}, replace(KNOWN, organisations=()), True),
        ({Register.GRANTS}, NO_RELATIONSHIP, True),
    ],
)
def test_a_told_reason_comes_before_the_fault_while_relationships_are_readable(
    faults: set[Register], facts: Facts, is_fault: bool
) -> None:
    faulty = replace(facts, faults=frozenset(faults))
    assert shows_fault(judged(FIND_ANNE, faulty), faulty) == is_fault
