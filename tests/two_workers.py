"""Share the tests out to two processes: what starts a region stays together, and the longest begins first.

`make test` runs them by pytest-xdist, for most of them wait for other processes. A file is never divided, nor is a
folder whose tests share a running region. What measures time by the clock is marked `alone` and runs behind the others.
A pytest plug-in, loaded by name in pyproject.toml.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
SHARED_REGIONS = ("stories", "federation", "attacks", "faults", "storage")
"""Folders whose tests share something that takes long to start or to fill, the longest first."""


def pytest_configure() -> None:
    """Let the processes that tests start find our modules compiled, whatever this shell asks for."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


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
    folder = item.path.relative_to(ROOT).parts[0]
    return SHARED_REGIONS.index(folder) if folder in SHARED_REGIONS else len(SHARED_REGIONS)
