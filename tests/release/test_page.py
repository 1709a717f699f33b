"""docs/report-release.md says what the code does: every rule once, its settings with their start values, its tests."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from datetime import time
from enum import Enum
from pathlib import Path

import pytest

from gateway.config.configuration import Configuration
from gateway.config.release.sections import ReleaseSection, Weekday
from policy.release.terms import AlertWindow, EmbargoStep, ReleaseTerms
from tests.settings_tree import setting_paths

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "report-release.md").read_text(encoding="utf-8")
RULES = {
    *(f"REL-{number:02}" for number in (*range(1, 13), *range(20, 28), *range(30, 47), *range(50, 57))),
    *(f"SAF-{number}" for number in (31, 32, 33, 41, 51, *range(60, 71))),
    "SAF-60a",
}
"""Every rule of release that has a number."""
CLAUSES = {"A2", "A3", "A4", "A7", "A8", "A9"}
LINES = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "`" in line
]


def start_values() -> dict[str, object]:
    """Every setting of release that the page may name, with the value that it starts with."""
    terms, window, step, section = ReleaseTerms(), AlertWindow(), EmbargoStep(), ReleaseSection()
    started: dict[str, object] = {f"release.{field.name}": getattr(terms, field.name) for field in fields(terms)}
    started |= {f"release.alert_release_window.{field.name}": getattr(window, field.name) for field in fields(window)}
    days = list(Weekday)
    started["release.alert_release_window.weekdays"] = tuple(days[number] for number in sorted(window.weekdays))
    started["release.embargo.days"] = step.days
    for name in set(ReleaseSection.model_fields) - set(ReleaseTerms.__dataclass_fields__) - {"contacts"}:
        started[f"release.{name}"] = getattr(section, name)
    return started


def written(value: object) -> str:
    """A value as the page writes it."""
    match value:
        case bool():
            return str(value).lower()
        case time():
            return value.strftime("%H:%M")
        case Enum():
            return str(value.value)
        case tuple() | frozenset():
            items = sorted(value) if isinstance(value, frozenset) else value
            return f"[{', '.join(map(written, items))}]"
        case _:
            return str(value) or '""'


def names_in(path: str) -> set[str]:
    """The tests of a file."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_rule_of_release_stands_on_the_page() -> None:
    heads = " ".join(line[0] for line in LINES)
    named = set(re.findall(r"\b(?:REL|SAF)-[0-9]{2}a?\b", heads))
    beside = set(re.findall(r"\b(?:REL|SAF)-[0-9]{2}a?\b", " ".join(line[1] for line in LINES)))
    assert sorted(RULES - named - beside) == []
    assert sorted(named - RULES) == []
    assert sorted(clause for clause in CLAUSES if clause not in heads) == []


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line[0]))
def test_every_rule_says_its_source_its_setting_and_its_tests(line: list[str]) -> None:
    *_, source, setting, tests = line
    assert set(source.split(", ")) <= {"Notice", "PEP", "Law", "Profession", "Standard", "Safety", "Default"}
    assert setting in ("fixed", "the feed's profile", "see SAF-68") or "`release." in setting
    assert re.fullmatch(r"`[\w/]+\.py::test_\w+`(, `[\w/]+\.py::test_\w+`)*", tests)


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 100
    found = {path: names_in(path) for path in {path for path, _ in named}}
    assert [f"{path}::{name}" for path, name in named if name not in found[path]] == []


def test_every_setting_that_the_page_names_is_one_and_starts_as_it_says() -> None:
    settings = {path for path in setting_paths(Configuration) if path.startswith("release.")}
    assert sorted(set(re.findall(r"`(release\.[a-z0-9_.]+)`", PAGE)) - settings) == []
    started = start_values()
    pattern = re.compile(r"`(release\.[a-z0-9_.]+)` = ([^`]+?)(?:, `|$|,$)")
    named = [each for line in LINES for each in pattern.findall(line[-2])]
    assert len(named) > 25
    for name, shown in named:
        assert shown == written(started[name]), name


def test_no_setting_of_release_is_left_out() -> None:
    settings = {path for path in setting_paths(Configuration) if path.startswith("release.")}
    assert sorted(path for path in settings if f"`{path}`" not in PAGE) == []
