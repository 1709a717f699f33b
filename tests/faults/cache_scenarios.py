"""Scenarios of the study cache, each a row of durable steps, run in a process that may be killed at any moment.

A process that serves them is `Zygote`'s (`storage_scenarios`); `put` and `going` name what it acknowledged.
"""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.model.work.transfers import CacheClass, Standing
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.storage.cache_rig import Rig, body, head, opened, put

_LENGTHS = {"1.2.1": 100, "1.2.2": 300_000, "1.2.3": 2_500_000, "1.3.1": 90_000, "1.3.2": 1_200_000, "1.4.1": 40_000}
CONTENTS = {name: body(length, seed) for seed, (name, length) in enumerate(_LENGTHS.items())}
"""What each instance holds."""
TOGETHER = ("1.2.3", "1.3.1", "1.3.2", "1.4.1")
_PACK_BYTES_MAX = 1_000_000


async def puts(run: Run) -> None:
    """Instances one after the other, then several at once, and one once more."""
    async with opened(run.folder, pack_bytes_max=_PACK_BYTES_MAX, is_running=True) as rig:
        for name in ("1.2.1", "1.2.2"):
            await _put(run, rig, name)
        await asyncio.gather(*(_put(run, rig, name) for name in TOGETHER))
        await _put(run, rig, "1.2.2")
        async with rig.cache.put(head(study="1.9", sop="1.9.1")) as writing:
            writing.add(CONTENTS["1.2.3"])  # and its sender goes away


async def goings(run: Run) -> None:
    """Studies given up, evicted and replaced, over two starts; from "going" and "settling" on they may be gone."""
    quota = {CacheClass.INTERACTIVE: 2_000_000}
    async with opened(run.folder, pack_bytes_max=_PACK_BYTES_MAX, quota_bytes=quota) as rig:
        for name in CONTENTS:
            await _put(run, rig, name)
        await run.step("going 1.3", lambda: rig.cache.instances("1.0"))
        await run.step("gone 1.3", lambda: rig.cache.forget("1.3", "for the test"))
        await run.step("settling", lambda: rig.cache.instances("1.0"))
        await run.step("settled", rig.cache.settle)
    async with opened(run.folder, pack_bytes_max=_PACK_BYTES_MAX) as rig:
        await _put(run, rig, "1.4.1")
        conflict = head(study="1.4", sop="1.4.1", patient_row="row-of-ben")
        await run.step("conflict", lambda: put(rig.cache, conflict, b"other", standing=Standing.QUARANTINED))
        await run.step("going 1.2", lambda: rig.cache.instances("1.0"))
        await run.step("gone 1.2", lambda: rig.cache.forget("1.2", "for the test"))
        await run.step("settled", rig.cache.settle)


async def _put(run: Run, rig: Rig, name: str) -> None:
    wanted = head(study=name[:3], sop=name)
    await run.step(f"put {name}", partial(put, rig.cache, wanted, CONTENTS[name]))


SCENARIOS: Scenarios = {scenario.__name__: scenario for scenario in (puts, goings)}

if __name__ == "__main__":
    serve(SCENARIOS)
