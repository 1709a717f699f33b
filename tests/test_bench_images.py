"""Show that each benchmark of images runs to its end and has its goals. What the figures say is no test's business."""

from pathlib import Path

import pytest

from tests.forked import Forks
from tests.test_bench import figures_of

pytestmark = [pytest.mark.peer, pytest.mark.slow]


async def goals_of(forks: Forks, benchmark: str, folder: Path) -> dict[str, object]:
    """The goal of each figure of a tiny run."""
    return {str(figure["name"]): figure["goal"] for figure in await figures_of(forks, benchmark, folder / "lines")}


async def test_images_are_kept_beside_orthanc_and_dcmtk(tmp_path: Path, forks: Forks) -> None:
    goals = await goals_of(forks, "ingest", tmp_path)
    for kind, one, four in (("CT", 2.2, 1.6), ("small", 2, 1.3)):
        for senders, bound in ((1, one), (4, four)):
            name = f"ingest, {kind}, durable, {senders} at once: instances a second, beside Orthanc"
            assert goals[name] == f"ratio >= {bound:g}"
    for senders in (1, 4):
        for peer, bound in (("Orthanc", 1.3), ("storescp", 1), ("storescp +B", 0.7)):
            name = f"ingest, CT, nothing synced, {senders} at once: instances a second, beside {peer}"
            assert goals[name] == f"ratio >= {bound:g}"
    for senders in (1, 4, 16):
        assert f"ingest, CT, durable, {senders} at once: syncs an instance" in goals


async def test_kept_images_are_sent_beside_dcmtk_and_pynetdicom(tmp_path: Path, forks: Forks) -> None:
    goals = await goals_of(forks, "warm", tmp_path)
    for way in ("C-MOVE to storescp", "C-GET to getscu"):
        name = f"warm, CT by {way}: instances a second"
        assert goals[f"{name}, beside storescu"] == "ratio >= 1"
        assert goals[f"{name}, beside pynetdicom"] == "ratio >= 6"
    assert goals["warm, CT by C-MOVE into Orthanc: instances a second, beside storescu"] == "ratio >= 4"


async def test_kept_images_are_served_beside_orthanc(tmp_path: Path, forks: Forks) -> None:
    goals = await goals_of(forks, "web", tmp_path)
    assert goals["warm, CT study by WADO-RS, 1 at once: MB a second"] == "ratio >= 1.3"
    assert goals["warm, CT study by WADO-RS, 4 at once: MB a second"] == "ratio >= 0.7"
    assert goals["warm, CT study by WADO-RS, 1 at once: time to first byte"] == "ratio <= 0.25"
    assert goals["warm, metadata of 8 instances: answers a second"] == "ratio >= 50"
    assert goals["warm, one frame, 16 at once: answers a second"] == "ratio >= 8"
    assert "loopback, one connection, pieces of 1 MB: MB a second" in goals


async def test_images_that_are_not_kept_are_fetched_beside_asking_the_archive_itself(
    tmp_path: Path, forks: Forks
) -> None:
    goals = await goals_of(forks, "cold", tmp_path)
    for theirs in ("Orthanc", "an archive behind 1 Gbit a second"):
        assert goals[f"cold, CT study from {theirs}: all of it"] == "ratio <= 1.2"
        assert goals[f"cold, CT study from {theirs}: the first instance"] == "ratio <= 2"
    assert goals["cold, CT study from an archive in memory: all of it"] is None


async def test_one_that_waits_is_measured_beside_eight_in_the_background(tmp_path: Path, forks: Forks) -> None:
    goals = await goals_of(forks, "beside", tmp_path)
    for kept in ("kept", "not kept"):
        assert goals[f"beside 8 in the background, a study that is {kept}: the first instance"] == "ratio <= 2"


async def test_memory_and_processor_time_are_measured_beside_smaller_studies(tmp_path: Path, forks: Forks) -> None:
    goals = await goals_of(forks, "growing", tmp_path)
    assert list(goals.values()) == ["ratio <= 1.1: constant"] * 3 + ["ratio <= 1.2: linear"] * 2


async def test_jobs_are_claimed_beside_a_short_queue_on_both_databases(tmp_path: Path, forks: Forks) -> None:
    goals = await goals_of(forks, "jobs", tmp_path)
    assert goals == {
        f"jobs, {database}, {at_work}, 2,000 queued: a job claimed and ended": "ratio <= 1.1: no dearer"
        for database in ("SQLite", "PostgreSQL")
        for at_work in ("1 process", "4 processes")
    }
