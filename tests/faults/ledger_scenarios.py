"""The scenario of the ledger of retrievals: frozen, delivered bit by bit, ended; by a process that may be killed.

As `storage_scenarios`. Each run begins, as a node's start does, by ending what the last one fell with.
"""

from __future__ import annotations

from functools import partial

from gateway.model.work.retrievals import Halt, InstanceState
from storage.work.ledger import SqlLedger
from tests.clock import NOON
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.storage.test_ledger import frozen, noted, retrieval

INSTANCES = [frozen(number) for number in range(5)]


async def retrievals(run: Run) -> None:
    """Five instances are frozen, three delivered, and the retrieval is ended."""
    runs = len(list(run.folder.glob("run-*")))
    (run.folder / f"run-{runs}").touch()
    name = f"r{runs}"
    async with run.store() as store:
        ledger = SqlLedger(store, "north")
        await ledger.end_unfinished(NOON)
        await run.step(f"freeze {name}", partial(ledger.freeze, retrieval(name, INSTANCES)))
        for instance in INSTANCES[:3]:
            sent = [noted(instance, InstanceState.SENT)]
            await run.step(f"sent {name} {instance.ref.sop_uid}", partial(ledger.note, name, sent))
        await run.step(f"end {name}", partial(ledger.end, name, NOON, Halt.CANCELLED))


SCENARIOS: Scenarios = {"retrievals": retrievals}

if __name__ == "__main__":
    serve(SCENARIOS)
