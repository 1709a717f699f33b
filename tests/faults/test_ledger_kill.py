"""SIGKILL between any two durable steps of a retrieval: nothing acknowledged is lost, and it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gateway.model.errors import NotFound
from gateway.model.work.retrievals import Halt, InstanceState
from storage.work.ledger import LedgerRetrieval, SqlLedger
from tests.clock import NOON
from tests.faults import ledger_scenarios
from tests.faults.ledger_scenarios import INSTANCES
from tests.faults.storage_scenarios import Run, Zygote
from tests.faults.test_storage_kill import fresh


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["kill", "raise"])
async def test_a_retrieval_is_whole_in_the_ledger_after_any_fault(
    migrated_file: Path, memory: Path, fault: str
) -> None:
    with Zygote(ledger_scenarios.__name__) as zygote:
        for point, passage in zygote.passages("retrievals", fresh(memory / "run", migrated_file)):
            run = Run(fresh(memory / "run", migrated_file))
            where = f"{point}={fault}@{passage}"
            status, acknowledged = zygote.run("retrievals", run.folder, GATEWAY_FAULTS=where)
            assert status == (-signal.SIGKILL if fault == "kill" else 0), where
            check(await shown(run, "r0"), acknowledged, where)
            assert zygote.run("retrievals", run.folder)[0] == 0, where
            first, second = await shown(run, "r0"), await shown(run, "r1")
            assert second is not None and second.halted is Halt.CANCELLED, where
            assert first is None or first.ended_at is not None, f"{where}: it is open for ever"


async def shown(run: Run, name: str) -> LedgerRetrieval | None:
    """A retrieval as the ledger has it."""
    async with run.store() as store:
        try:
            return await SqlLedger(store, "north").show(name)
        except NotFound:
            return None


def check(found: LedgerRetrieval | None, acknowledged: list[str], where: str) -> None:
    """What must hold of a retrieval after any fault."""
    if found is None:
        assert acknowledged == [], where
        return
    assert [each.frozen for each in found.instances] == INSTANCES, where
    sent = {each.frozen.ref.sop_uid for each in found.instances if each.state is InstanceState.SENT}
    assert {step.split()[2] for step in acknowledged if step.startswith("sent")} <= sent, where
    if "end r0" in acknowledged or found.ended_at is not None:
        assert (found.ended_at, found.counts.remaining, found.counts.failed) == (NOON, 0, 2), where
