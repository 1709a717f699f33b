"""SIGKILL between the arrival of a stored report and its filing: what its sender was told is kept is filed, once."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from storage import audit_log
from storage.release import messages
from tests.faults import arrival_scenarios
from tests.faults.arrival_scenarios import opened
from tests.faults.storage_scenarios import Run, Zygote
from tests.faults.test_storage_kill import fresh


@pytest.mark.timeout(300)
async def test_a_stored_report_is_filed_once_wherever_a_process_falls(migrated_file: Path, memory: Path) -> None:
    begun = fresh(memory / "begun", migrated_file)
    async with opened(Run(begun)):
        pass  # the making of a cache has its own test
    has_fallen_between = False
    with Zygote(arrival_scenarios.__name__) as zygote:
        for point, passage in zygote.passages("arrives", copied(begun, memory / "run")):
            run = Run(copied(begun, memory / "run"))
            where = f"{point}=kill@{passage}"
            status, acknowledged = zygote.run("arrives", run.folder, GATEWAY_FAULTS=where)
            assert status == -signal.SIGKILL, where
            is_stored = "stored" in acknowledged
            has_fallen_between |= is_stored and "filed" not in acknowledged
            again, _ = zygote.run("arrives", run.folder, IS_STORED="1" if is_stored else "")
            assert again == 0, where
            async with opened(run, minutes=10) as door:
                assert await door.text() == ["Findings: No lesion."], where
                assert await door.store.read(messages.dead_letters) == (), where
                assert (await audit_log.verify(door.store.database, ())).is_whole, where
    assert has_fallen_between


def copied(begun: Path, to: Path) -> Path:
    """A folder with an empty store and an empty cache."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(begun, to)
    return to
