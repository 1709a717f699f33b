"""The hazard log stays true: tests and files that it names exist, and no safety rule is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "hazards.md").read_text(encoding="utf-8")

TAKES_PART_NOW = {
    *(f"SAF-{number:02}" for number in (*range(1, 14), 20, 21, *range(23, 26), *range(30, 38), 39, 40, 41)),
    *(f"SAF-{number}" for number in range(60, 71)),
    "SAF-60a",
}
"""Rules that a question, a retrieval, a register, a report or the audit can break as the product stands."""
ALL_RULES = {
    f"SAF-{number:02}" for number in (*range(1, 14), *range(20, 26), *range(30, 43), *range(50, 54), *range(60, 71))
} | {"SAF-60a"}


def section(title: str) -> str:
    """The text under a second-level heading."""
    _, found, rest = PAGE.partition(f"\n## {title}\n")
    assert found, title
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for number, row in enumerate(cells) if not _is_rule(row) and not _heads(cells, number)]


def _is_rule(row: list[str]) -> bool:
    return all(set(cell) <= set("-:") for cell in row)


def _heads(cells: list[list[str]], number: int) -> bool:
    return number + 1 < len(cells) and _is_rule(cells[number + 1])


def names_in_tree() -> set[str]:
    """Every test function of the repository."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


def named_tests(text: str) -> list[str]:
    return re.findall(r"`(test_[a-z0-9_]+)`", text)


def test_every_test_that_the_log_names_exists() -> None:
    named = named_tests(PAGE)
    assert len(named) > 100
    assert sorted(set(named) - names_in_tree()) == []


def test_every_file_that_the_log_names_exists() -> None:
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", PAGE)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_way_to_a_harm_has_something_that_stops_it_and_a_test() -> None:
    harms = section("The worst harms")
    assert len(re.findall(r"^### HAZ-[0-9]{2} ", harms, re.MULTILINE)) >= 10
    for how, stops, tests in rows(harms):
        assert how and stops and named_tests(tests), how


def test_every_safety_rule_of_this_stage_has_its_line_and_its_tests() -> None:
    lines = rows(section("The safety rules, one by one"))
    assert {rule for rule, *_ in lines} == TAKES_PART_NOW
    for rule, stops, tests in lines:
        assert stops and named_tests(tests), rule


def test_no_safety_rule_is_forgotten() -> None:
    later = set(re.findall(r"SAF-[0-9]{2}a?", section("Rules that come with what is not built yet")))
    assert later | TAKES_PART_NOW == ALL_RULES


def test_every_residual_risk_that_is_spoken_of_is_listed() -> None:
    listed = {number for number, *_ in rows(section("Residual risks"))}
    assert set(re.findall(r"\bR-[0-9]+\b", PAGE)) == listed
