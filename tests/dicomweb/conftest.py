"""One simulated archive for all tests of a module; honest again before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.demo.cast import EASTVALE
from gateway.demo.images import MadeTrust, make_trust
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeTrust:
    return make_trust(EASTVALE, tmp_path_factory.mktemp("region"))


@pytest.fixture(scope="module")
def archive(made: MadeTrust) -> Iterator[SimulatedPacs]:
    with running_pacs(made.folder) as pacs:
        yield pacs


@pytest.fixture
def eastvale(archive: SimulatedPacs) -> SimulatedPacs:
    archive.reset()
    return archive
