"""The demonstration's story of reports, told of a region of its own: what a patient sees, and when."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.cli.demo import lines_to_try
from gateway.demo.region import Region
from gateway.demo.reports import walk
from tests.forked import Forks

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    async with Region(tmp_path_factory.mktemp("release"), start=forks.start, with_reports=True) as running:
        yield running


@pytest.mark.parametrize("chapter", [chapter for _, chapter in walk.CHAPTERS], ids=lambda chapter: chapter.__name__)
async def test_the_chapter_ends_as_it_should(region: Region, chapter: walk.Chapter) -> None:
    assert await chapter(region)


async def test_what_is_printed_of_reports_works_as_it_stands(region: Region) -> None:
    await walk.send_some(region)
    lines = [line.strip() for line in lines_to_try(region) if re.search(r" release (list|explain|hold) ", line)]
    assert len(lines) == 3
    for line in lines:
        # Behind the program's own name, and before where its configuration lies.
        assert await region.must(*shlex.split(line)[1:-2])
