"""docs/failures.md stays true: its tests exist, those said to be told over both doors are, and no row is left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
ROWS_MIN, ROWS_OF_IMAGES_MIN = 27, 25
QUESTION_CELLS, IMAGE_CELLS = 4, 3
OF_ONE_PROTOCOL = ("by a caller that nobody knows", "at an AE title that is not ours")
"""Who is asking shows itself in another way by each protocol."""


def functions_of_the_tree() -> dict[str, set[str]]:
    """Every test function, and the names of its arguments."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, set()).update(argument.arg for argument in node.args.args)
    return found


def rows(width: int) -> Iterator[list[str]]:
    """The cells of the tables of so many columns, headings and rules left out."""
    lines = PAGE.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        is_row = line.startswith("|") and not after.startswith("|---") and not line.startswith("|---")
        if is_row and len(cells) == width:
            yield cells


def named(text: str) -> list[str]:
    return re.findall(r"`(test_[a-z0-9_]+)`", text)


def test_every_test_that_the_page_names_exists() -> None:
    assert set(named(PAGE)) - functions_of_the_tree().keys() == set()


def test_every_failure_is_told_and_shown_over_both_doors() -> None:
    known, count = functions_of_the_tree(), 0
    for what, told, over_both, in_parts in rows(QUESTION_CELLS):
        count += 1
        assert told and named(over_both + in_parts), what
        assert named(over_both) or what in OF_ONE_PROTOCOL, what
        doorless = [name for name in named(over_both) if not {"door", "doors"} & known[name]]
        assert doorless == [], what
    assert count >= ROWS_MIN


def test_every_failure_on_an_images_way_is_told_and_shown() -> None:
    found = list(rows(IMAGE_CELLS))
    assert [what for what, told, shown in found if not told or not named(shown)] == []
    assert len(found) >= ROWS_OF_IMAGES_MIN
