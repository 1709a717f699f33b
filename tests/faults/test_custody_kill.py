"""kill -9 at each step of giving a sole copy back and answering who asks for it: nothing is lost or claimed.

Between a fall and the next start the archive has what it has; the copy here is a sole one until the archive's word is
durable, and a sender is told only what is true, perhaps twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.custody.custody_rig import content_of
from tests.faults.custody_scenarios import ONE, TRANSACTION
from tests.forked import Forks
from tests.peers.committing import CommittingArchive, Reports, committing

HANG_S = 120
POINTS = ("custody.returned", "custody.asking", "custody.heard", "commitment.taken", "commitment.telling")


LATER_MINUTES = 90
"""Longer than a lease and than an archive has to answer: what was killed is taken up, and asked again."""


async def run(forks: Forks, folder: Path, port: int, faults: str = "", minutes: float = 0) -> int:
    """Run the scenario; how it ended."""
    command = [sys.executable, "-m", "tests.faults.custody_scenarios", str(folder), str(port), str(minutes)]
    process = await forks.start(*command, env={**os.environ, "GATEWAY_FAULTS": faults})
    async with asyncio.timeout(HANG_S):
        return await process.wait()


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_any_step_loses_no_copy_and_leaves_no_question_without_a_true_answer(
    point: str, memory: Path, forks: Forks
) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)
    with committing(archive):
        assert await run(forks, memory, archive.port, f"{point}=kill@1") == -signal.SIGKILL
        assert not (memory / "sole").exists()
        assert await run(forks, memory, archive.port, minutes=LATER_MINUTES) == 0
    assert (memory / "sole").read_text() == "set()"
    assert list(archive.stored) == [ONE] and len(archive.stored[ONE]) == len(content_of(ONE))
    told = set((memory / "told").read_text().splitlines())
    assert told == {f"{TRANSACTION} ['{ONE}'] ()"}
