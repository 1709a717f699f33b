"""The mixed region for all its stories, and the two doors that each story is told over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.demo.callers.answer import Outcome
from gateway.demo.cast import ANNE
from gateway.demo.configuration import VIEWER
from tests.federation.mixed import MixedRegion
from tests.forked import Forks
from tests.stories.conftest import Door, FindDoor, QidoDoor

HEARD_AGAIN_S = 60.0
"""A hang guard: an archive that failed is left alone for a second at most."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mixed(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[MixedRegion]:
    """The running region. A story that changes it changes it back."""
    async with MixedRegion(tmp_path_factory.mktemp("mixed"), forks.start) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def honest(mixed: MixedRegion) -> AsyncIterator[QidoDoor]:
    """Everybody is honest and heard at the story's begin, as a door by QIDO-RS has shown."""
    async with AsyncExitStack() as stack:
        qido = QidoDoor(mixed, stack)
        await mixed.be_honest()
        await until_all_are_heard(qido)
        yield qido


@pytest_asyncio.fixture(loop_scope="session", params=["qido", "c-find"])
async def door(mixed: MixedRegion, honest: QidoDoor, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """A door into the region's gateway, by either protocol."""
    async with AsyncExitStack() as stack:
        yield honest if request.param == "qido" else FindDoor(mixed, stack)


async def until_all_are_heard(door: QidoDoor) -> None:
    """Wait until no trust is left alone any more for what an earlier story made of it."""
    viewer = await door.viewer(VIEWER)
    answer = None
    try:
        async with asyncio.timeout(HEARD_AGAIN_S):
            while True:
                answer = await viewer.studies(PatientID=ANNE.nhs_number)
                if answer.outcome is Outcome.ANSWERED and not answer.missing:
                    return
    except TimeoutError:
        raise AssertionError(
            "still not heard: " + (f"{answer.outcome}, {answer.missing}, {answer.notices}" if answer else "no answer")
        ) from None
