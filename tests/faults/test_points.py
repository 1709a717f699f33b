"""No fault point is there for nothing: a scenario is killed at each, or a test of its own names it.

Storage's points are learned by running its scenarios; the others' owners name theirs in a test of this folder.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import house_rules
from tests.faults import (
    bucket_scenarios,
    cache_scenarios,
    keyring_scenarios,
    ledger_scenarios,
    release_scenarios,
    report_scenarios,
    storage_scenarios,
)
from tests.faults.storage_scenarios import Zygote

ROOT = Path(__file__).parent.parent.parent
SCENARIOS = (
    storage_scenarios,
    keyring_scenarios,
    cache_scenarios,
    bucket_scenarios,
    ledger_scenarios,
    report_scenarios,
    release_scenarios,
)
"""The modules whose scenarios pass storage's points."""
PACKAGES = ("dicomweb", "dimse", "gateway", "policy", "storage")


def points() -> Iterator[tuple[str, Path]]:
    """Every fault point of the tree, as a regular expression of its name, and the module it stands in."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for call in house_rules.calls_of(ast.parse(path.read_text(encoding="utf-8")), "faultpoint"):
                yield _pattern(call.args[0]), path.relative_to(ROOT)


def _pattern(name: ast.expr) -> str:
    match name:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z-]+" for part in parts
            )
        case _:
            pytest.fail(f"a fault point without a name: {ast.unparse(name)}")


@pytest.fixture(scope="module")
def passed(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the points that storage's scenarios pass."""
    folder = tmp_path_factory.mktemp("points")
    for module in SCENARIOS:
        with Zygote(module.__name__) as zygote:
            for scenario in module.SCENARIOS:
                run = folder / scenario
                run.mkdir()
                shutil.copyfile(migrated_file, run / "gateway.db")
                assert zygote.run(scenario, run, GATEWAY_FAULTS_LOG=str(folder / "log"))[0] == 0
    return set((folder / "log").read_text().splitlines())


def test_no_fault_point_is_never_passed(passed: set[str]) -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "faults").glob("test_*.py"))
    found = list(points())
    assert len(found) > 30
    never = [
        (pattern, str(path))
        for pattern, path in found
        if not any(re.fullmatch(pattern, name) for name in passed)
        and (
            path.parts[0] == "storage"
            or not re.search(pattern.removesuffix(r"\.before").removesuffix(r"\.after"), tests)
        )
    ]
    assert never == []


def test_every_register_is_read_at_a_point_of_its_own(passed: set[str]) -> None:
    assert {name for name in passed if name.startswith("facts.")} == {
        f"facts.{register}.read"
        for register in ("patients", "relationships", "opt-outs", "agreements", "labels", "grants")
    }
