"""Share the tests out to two processes: what starts a region stays together, and the longest begins first.

`make test` runs them by pytest-xdist, for most of them wait for other processes. A file is never divided, nor is a
folder whose tests share a running region. What measures time by the clock is marked `alone` and runs behind the others.
A pytest plug-in, loaded by name in pyproject.toml.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
SHARED_REGIONS = frozenset({"stories", "federation", "attacks", "storage"})
"""Folders whose tests share something that takes long to start or to fill."""
LONGEST_FIRST = (
    *("faults", "stories", "federation", "test_bench_images.py", "test_bench.py"),
    *("attacks", "gateway", "storage", "dimse", "dicomweb"),
)
"""Folders and files whose tests take minutes: what is long and begins late leaves one worker alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """Have our order kept, and let processes that tests start find our modules compiled, whatever this shell says."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = (
            False  # pytest-xdist would begin with the group of most tests, often a short one
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group, and order the groups."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_place)


def _group(item: pytest.Item) -> str:
    parts = item.path.relative_to(ROOT).parts
    return parts[0] if parts[0] in SHARED_REGIONS else "/".join(parts)


def _place(item: pytest.Item) -> int:
    part = item.path.relative_to(ROOT).parts[0]
    return LONGEST_FIRST.index(part) if part in LONGEST_FIRST else len(LONGEST_FIRST)
