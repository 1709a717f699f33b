"""The release of one node, put together: what it shows of itself, what it alarms, and what it does without a lookup."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway.metrics import Figures
from gateway.model.reporting.incoming import Exam
from gateway.model.reporting.views import Board
from gateway.node import new_id
from gateway.release.acts import Role, Staff
from gateway.release.module import Outside, ReleaseModule
from policy.release.circumstances import ReleaseState
from storage.release import reports
from tests.clock import FakeClock
from tests.gateway.keeping_rig import Kept, Place
from tests.release.incoming import NORTH, message
from tests.release.portal import Portal
from tests.release.release_rig import DUE_AT, MONDAY, render, verified

REGION = """
[release]
go_live_at = 2026-01-01T00:00:00Z
channels = ["portal"]
[[trust]]
ods = "RZ1"
name = "North Trust"
"""
LEAD = Staff("R Lead", NORTH, Role.GOVERNANCE, "request-1")


class Node:
    """A node whose keeping is open, with its release over one portal."""

    def __init__(self, place: Place, kept: Kept, clock: FakeClock) -> None:
        self.clock = clock
        self.store = kept.store
        self.figures = Figures()
        self.portal = Portal()
        self.boards: Sequence[Board] = ()
        outside = Outside(render, lambda exam: exam.name, {"portal": self.portal}, self._show, new_id)
        self.configuration = place.configuration()
        self.module = ReleaseModule(self.configuration, kept.store, kept.keeping, clock, outside)

    def _show(self, boards: Sequence[Board]) -> None:
        self.boards = boards
        self.figures.release.show(boards)

    async def state(self, report_id: str) -> ReleaseState:
        """Where a report is."""
        found = await self.store.read(lambda read: reports.get(read, report_id))
        assert found is not None
        return found.state

    def figure(self, name: str, **labels: str) -> float:
        """One figure as it is exposed."""
        for family in text_string_to_metric_families(self.figures.exposition().decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        raise AssertionError(f"no figure {name} {labels}")


@asynccontextmanager
async def node(folder: Path, clock: FakeClock) -> AsyncIterator[Node]:
    """A node that has begun."""
    place = Place(folder, clock)
    place.more = [REGION]
    async with place.open() as kept:
        made = Node(place, kept, clock)
        await made.module.begin()
        yield made
        await made.module.close()


async def test_what_came_in_shows_on_the_board_and_in_the_figures(tmp_path: Path) -> None:
    async with node(tmp_path, FakeClock(MONDAY + timedelta(minutes=2))) as north:
        await north.module.intake.take(message(verified()))
        await north.module.show()
        [board] = north.boards
        assert (board.trust, board.waiting, board.due) == ("RZ1", 1, 0)
        assert north.figure("gateway_release_reports", trust="RZ1", standing="waiting") == 1
        assert north.figure("gateway_release_stopped", trust="RZ1") == 0


async def test_a_stopped_trust_is_loud_until_it_goes_on(tmp_path: Path) -> None:
    async with node(tmp_path, FakeClock(MONDAY)) as north:
        stop = partial(north.module.acts.stop, staff=LEAD, trust=NORTH, reason="the RIS sends nonsense")
        await north.store.write(partial(stop, review_at=MONDAY + timedelta(days=1)))
        with capture_logs() as logs:
            await north.module.show()
            await north.module.show()
            await north.clock.advance(3_600)
            await north.module.show()
        loud = [each for each in logs if each["event"] == "release stands still"]
        assert [(each["trust"], each["alarm"]) for each in loud] == [("RZ1", True)] * 2
        assert north.figure("gateway_release_stopped", trust="RZ1") == 1


async def test_without_a_lookup_nothing_is_released_and_that_is_loud(tmp_path: Path) -> None:
    async with node(tmp_path, FakeClock(MONDAY + timedelta(minutes=2))) as north:
        taken = await north.module.intake.take(message(verified()))
        await north.clock.advance((DUE_AT - north.clock.now()).total_seconds())
        assert await north.module.looking.look() == 1
        with capture_logs() as logs:
            await north.module.tending.tend(taken.report_ids[0])
        assert "nobody to trace patients by" in [each["event"] for each in logs]
        assert north.portal.put_count == 0


async def test_what_came_before_the_file_named_its_go_live_is_looked_at_once_it_does(tmp_path: Path) -> None:
    async with node(tmp_path, FakeClock(MONDAY + timedelta(minutes=2))) as north:
        live = north.configuration
        off = live.release.model_copy(update={"go_live_at": None})
        north.module.follow(live.model_copy(update={"release": off}))
        [report_id] = (await north.module.intake.take(message(verified()))).report_ids
        assert await north.state(report_id) is ReleaseState.NOT_FOR_RELEASE
        north.module.follow(live)
        await north.module.show()
        await north.module.looking.look()
        assert await north.state(report_id) is ReleaseState.EMBARGOED


@pytest.mark.parametrize("before_go_live", [False, True], ids=["since go-live", "approved from before it"])
async def test_a_code_that_was_excluded_by_mistake_is_lifted_by_the_file(tmp_path: Path, before_go_live: bool) -> None:
    """Nobody lets a single report of an excluded exam go (REL-56): a mistyped code is taken out of the list."""
    async with node(tmp_path, FakeClock(MONDAY + timedelta(minutes=2))) as north:
        right = north.configuration
        mistyped = right.release.model_copy(update={"excluded_codes": frozenset({"XCHES"})})
        north.module.follow(right.model_copy(update={"release": mistyped}))
        at = datetime(2025, 12, 1, 10, tzinfo=UTC) if before_go_live else MONDAY
        [report_id] = (await north.module.intake.take(message(verified(at, exam=Exam(codes=("XCHES",)))))).report_ids
        span = (at, at + timedelta(days=1))
        if before_go_live:
            approve = partial(north.module.acts.approve_retrospective, staff=LEAD, trust=NORTH, span=span)
            await north.store.write(partial(approve, expected=1, reason="agreed by the board"))
            await north.module.looking.look()
        assert await north.state(report_id) is ReleaseState.NOT_FOR_RELEASE
        north.module.follow(right)
        await north.module.show()
        await north.module.looking.look()
        assert await north.state(report_id) is (ReleaseState.DUE if before_go_live else ReleaseState.EMBARGOED)


async def test_a_reload_changes_the_terms_of_what_waits(tmp_path: Path) -> None:
    async with node(tmp_path, FakeClock(MONDAY + timedelta(minutes=2))) as north:
        assert north.module.planner.terms_of(NORTH).channels == ("portal",)
        configuration = north.configuration
        release = configuration.release.model_copy(update={"channels": ("portal", "app")})
        north.module.follow(configuration.model_copy(update={"release": release}))
        assert north.module.planner.terms_of(NORTH).channels == ("portal", "app")
