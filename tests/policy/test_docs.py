"""docs/policy.md says what the code does: every rule with its tests, every code, every setting, every text told."""

import ast
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from policy.access import Access, Resource
from policy.facts import Facts, Register
from policy.parties import PurposeOfUse
from policy.rules import RULES, rule_name
from policy.settings import Settings
from tests.policy.examples import (
    ANNE,
    ANYTHING_WITH_ANYBODY,
    BY_CLINICIAN,
    CLAIM,
    EASTVALE,
    FIND_ANNE,
    HEAD_CT,
    KNOWN,
    NO_RELATIONSHIP,
    NOON,
    OPT_OUT,
    REFERRAL,
    SAFEGUARDING,
    SEE_HEAD_CT,
    codes,
    judged,
    told,
)
from tests.policy.test_oracle import CODES
from tests.policy.worlds import worlds

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "policy.md").read_text()
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def _tests() -> set[str]:
    return {
        node.name
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_rule_has_its_section_and_no_other_stands_there() -> None:
    assert list(SECTIONS) == [rule_name(rule) for rule in RULES]


@pytest.mark.parametrize("rule", SECTIONS)
def test_a_rules_section_says_source_setting_telling_and_tests(rule: str) -> None:
    for line in ("- Source: ", "- Setting: ", "- Told: ", "- Test: `test_"):
        assert line in SECTIONS[rule]


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40 and named <= _tests()


def test_every_code_and_every_setting_is_named() -> None:
    for name in (*CODES, "no-permit", "rule-failed", *(field.name for field in fields(Settings))):
        assert f"`{name}`" in PAGE


def test_the_words_told_are_those_of_the_page() -> None:
    table = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|$", PAGE, re.MULTILINE))
    told = {
        reason.code: reason.text
        for world in worlds(300, 20_000)
        for reason in judged(world.access, world.facts, world.settings).told
    }
    assert {code: table.get(code) for code in told} == told
    assert len(told) == len([code for code in CODES if code in table])


def test_the_start_values_are_those_of_the_page() -> None:
    start = Settings()
    assert f"| {start.relationship_max_life_days} | the life of an open-ended relationship |" in PAGE
    assert start.opt_out_register_age_max_minutes == 0 and "| 0: kept here |" in PAGE
    assert f"| `{start.pacs_user_assurance}` |" in PAGE and f"| `{start.mode}` |" in PAGE


EASTVALE_SHARES = replace(KNOWN, agreements=(replace(ANYTHING_WITH_ANYBODY, modalities=frozenset({"CT", "CR"})),))
LIVER_MR = replace(SEE_HEAD_CT, resource=replace(HEAD_CT, modalities=frozenset({"MR"})))
EXPIRED = replace(KNOWN, relationships=(replace(REFERRAL, valid_until=NOON),))
BY_UID = replace(SEE_HEAD_CT, patient_named=False)
BEN_OPTED_OUT = replace(KNOWN, choices=(OPT_OUT,))
AT_EASTVALE = replace(BY_CLINICIAN, caller_trust=EASTVALE, recipient=EASTVALE)
LABELLED = replace(KNOWN, labels=(SAFEGUARDING,))
REFERRED_TO_ONCOLOGY = replace(KNOWN, relationships=(replace(REFERRAL, team="oncology"),))
HOLLIS_GRANTED = replace(REFERRED_TO_ONCOLOGY, grants=(replace(CLAIM, subject="dr-hollis"),))
UNREADABLE = replace(KNOWN, faults=frozenset({Register.OPT_OUTS}))


@pytest.mark.parametrize(
    ("access", "facts", "reasons", "words"),
    [
        (FIND_ANNE, EASTVALE_SHARES, ["care-relationship"], []),
        (SEE_HEAD_CT, EASTVALE_SHARES, ["care-relationship"], []),
        (LIVER_MR, EASTVALE_SHARES, ["not-shared", "care-relationship"], []),
        (FIND_ANNE, EXPIRED, ["no-care-relationship"], ["no-care-relationship"]),
        (BY_UID, EXPIRED, ["no-care-relationship"], []),
        (FIND_ANNE, BEN_OPTED_OUT, ["opted-out", "care-relationship"], []),
        (
            FIND_ANNE,
            replace(BEN_OPTED_OUT, relationships=()),
            ["no-care-relationship", "opted-out"],
            ["no-care-relationship"],
        ),
        (replace(AT_EASTVALE, resource=Resource(ANNE, EASTVALE)), BEN_OPTED_OUT, ["own-images"], []),
        (SEE_HEAD_CT, LABELLED, ["sensitive", "care-relationship"], []),
        (replace(SEE_HEAD_CT, purpose=PurposeOfUse.ETREAT), LABELLED, ["care-relationship"], []),
        (
            replace(BY_CLINICIAN, action=FIND_ANNE.action),
            REFERRED_TO_ONCOLOGY,
            ["team-not-involved"],
            ["team-not-involved"],
        ),
        (BY_CLINICIAN, HOLLIS_GRANTED, ["granted"], []),
        (FIND_ANNE, UNREADABLE, ["register-unavailable", "care-relationship"], []),
        (FIND_ANNE, NO_RELATIONSHIP, ["no-care-relationship"], ["no-care-relationship"]),
    ],
)
def test_the_worked_examples_come_out_as_the_page_says(
    access: Access, facts: Facts, reasons: list[str], words: list[str]
) -> None:
    decision = judged(access, facts)
    assert (codes(decision), told(decision)) == (reasons, words)
