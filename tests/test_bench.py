"""Show that each benchmark runs to its end and writes well-formed lines. What the figures say is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import LATEST, Figure, machine, more_by_at_most, quantile, ratio_at_least, ratio_at_most, write
from bench.rig.wire import Inbound, answer

ROOT = Path(__file__).parent.parent
FIELDS = ["name", "ours", "peer", "unit", "ratio", "goal", "met", "about"]


def _figures_of(benchmark: str, results: Path) -> list[dict[str, object]]:
    command = (sys.executable, "-m", "bench", "--tiny", "--only", benchmark, "--results", str(results))
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert outcome.returncode == 0, outcome.stderr
    head, *figures = (json.loads(line) for line in results.read_text(encoding="utf-8").splitlines())
    assert outcome.stdout.splitlines()[1:] == [json.dumps(figure) for figure in figures]
    assert {"machine", "run", "date", "revision", "versions"} <= head.keys()
    for figure in figures:
        assert list(figure) == FIELDS
        assert figure["ours"] > 0
        assert (figure["ratio"] is None) is (figure["peer"] is None)
        assert (figure["met"] is None) is (figure["goal"] is None)
    return figures


def test_decisions_are_counted(tmp_path: Path) -> None:
    names = [figure["name"] for figure in _figures_of("decisions", tmp_path / "lines")]
    assert "decisions a second, 100 rows of one question" in names


@pytest.mark.peer
@pytest.mark.slow
def test_audit_appends_are_counted_on_both_databases(tmp_path: Path) -> None:
    figures = _figures_of("audit", tmp_path / "lines")
    assert [figure["name"] for figure in figures] == [
        f"audit, {database}, {callers} callers: appends a second"
        for database in ("SQLite", "PostgreSQL")
        for callers in (1, 8, 64)
    ]
    assert all(figure["peer"] for figure in figures)


@pytest.mark.peer
@pytest.mark.slow
def test_questions_are_answered_beside_orthanc_and_the_archive_itself(tmp_path: Path) -> None:
    figures = {figure["name"]: figure for figure in _figures_of("qido", tmp_path / "lines")}
    for matches in ("1 match", "100 matches"):
        for callers in (1, 16):
            name = f"qido, {matches}, {callers} at once"
            for quantity in ("answers a second", "p99", "median"):
                assert figures[f"{name}: {quantity}"]["peer"]
                assert figures[f"{name}: {quantity}"]["goal"]


@pytest.mark.slow
def test_memory_is_read_before_and_after_questions(tmp_path: Path) -> None:
    (figure,) = _figures_of("memory", tmp_path / "lines")
    assert figure["goal"] == "ratio <= 1.05"


@pytest.mark.parametrize(("ours", "peer", "met"), [(100.0, 10.0, True), (99.9, 10.0, False), (100.0, None, False)])
def test_a_rate_is_met_from_its_bound_on(ours: float, peer: float | None, met: bool) -> None:
    assert Figure("x", ours, peer, "1/s", ratio_at_least(10)).is_met is met


@pytest.mark.parametrize(("ours", "met"), [(2.0, True), (2.1, False)])
def test_a_tail_is_met_up_to_its_bound(ours: float, met: bool) -> None:
    assert Figure("x", ours, 10.0, "ms", ratio_at_most(0.2)).is_met is met


@pytest.mark.parametrize(("ours", "met"), [(6.5, True), (6.6, False)])
def test_added_time_is_reckoned_against_the_peer(ours: float, met: bool) -> None:
    assert Figure("x", ours, 1.5, "ms", more_by_at_most(5, "ms")).is_met is met


def test_a_file_of_results_begins_with_the_machine_in_words(tmp_path: Path) -> None:
    write(tmp_path / "lines", machine("whole run"), [Figure("x", 1.23456, None, "us")])
    head, line = (json.loads(text) for text in (tmp_path / "lines").read_text(encoding="utf-8").splitlines())
    assert "GiB" in head["machine"] and head["run"] == "whole run"
    assert line == dict.fromkeys(FIELDS) | {"name": "x", "ours": 1.235, "unit": "us", "about": {}}


def test_the_committed_results_are_of_a_whole_run_with_every_goal_stated() -> None:
    head, *figures = (json.loads(line) for line in LATEST.read_text(encoding="utf-8").splitlines())
    assert head["run"].startswith("whole run")
    assert sum(figure["goal"] is not None for figure in figures) == 13


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_an_answer_is_whole_when_its_last_byte_came_however_it_is_cut(step: int) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2;x=y\r\n2]\r\n0\r\n\r\n"
    for message, size in ((answer(b"[1,2]"), 5), (chunked, 5), (b"HTTP/1.1 204 No Content\r\n\r\n", 0)):
        inbound = Inbound()
        for start in range(0, len(message), step):
            assert not inbound.is_whole
            inbound.feed(message[start : start + step])
        assert (inbound.is_whole, inbound.body_bytes) == (True, size)


def test_the_tail_of_few_values_is_an_upper_one() -> None:
    assert quantile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert quantile(list(map(float, range(1, 101))), 0.5) == 51.0
