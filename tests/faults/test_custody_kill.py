"""kill -9 at each step of giving a sole copy back and answering who asks for it: nothing is lost or claimed.

Between a fall and the next start the archive has what it has; the copy here is a sole one until the archive's word is
durable, and a sender is told only what is true, perhaps twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.custody.custody_rig import content_of
from tests.faults.custody_scenarios import ONE, TRANSACTION
from tests.peers.committing import CommittingArchive, Reports, committing

HANG_S = 120
POINTS = ("custody.returned", "custody.asking", "custody.heard", "commitment.taken", "commitment.telling")


LATER_MINUTES = 90
"""Longer than a lease and than an archive has to answer: what was killed is taken up, and asked again."""


def run(folder: Path, port: int, faults: str = "", minutes: float = 0) -> int:
    """Run the scenario; how it ended."""
    command = [sys.executable, "-m", "tests.faults.custody_scenarios", str(folder), str(port), str(minutes)]
    environment = {**os.environ, "GATEWAY_FAULTS": faults, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, env=environment, timeout=HANG_S, check=False).returncode


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_loses_no_copy_and_leaves_no_question_without_a_true_answer(
    point: str, tmp_path: Path
) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)
    with committing(archive):
        assert run(tmp_path, archive.port, f"{point}=kill@1") == -signal.SIGKILL
        assert not (tmp_path / "sole").exists()
        assert run(tmp_path, archive.port, minutes=LATER_MINUTES) == 0
    assert (tmp_path / "sole").read_text() == "set()"
    assert list(archive.stored) == [ONE] and len(archive.stored[ONE]) == len(content_of(ONE))
    told = set((tmp_path / "told").read_text().splitlines())
    assert told == {f"{TRANSACTION} ['{ONE}'] ()"}
