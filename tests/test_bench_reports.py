"""Show that each benchmark of reports runs to its end and has its goals. What the figures say is no test's business."""

from pathlib import Path

import pytest

from tests.forked import Forks
from tests.test_bench import figures_of


@pytest.mark.slow
async def test_reports_are_taken_in_beside_a_door_that_only_commits(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "reports", tmp_path / "lines")}
    for patients in ("known", "new"):
        for connections in (1, 8):
            name = f"reports, ORU of {patients} patients, {connections} connections"
            assert figures[f"{name}: messages a second, each durable"]["peer"]
            assert figures[f"{name}: to the answer"]["goal"] == "<= 100 ms"
    assert figures["reports, resident after 40 messages beside 20"]["goal"] == "ratio <= 1.05"


@pytest.mark.slow
async def test_a_morning_on_which_many_reports_are_due_is_measured(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "due", tmp_path / "lines")}
    assert figures["reports, 2,000 under embargo: a scan that finds none due"]["goal"] == "ratio <= 3"
    assert figures["reports, 2,000 under embargo: 8 released, the channel at 50 ms"]["goal"] == "<= 3600 s"
