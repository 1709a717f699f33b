"""The scenarios of the study cache in a bucket, run in a process that may be killed at any moment.

As `cache_scenarios`. A folder that names no bucket gets one of its own for as long as the run lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults import cache_scenarios
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.peers.s3 import s3
from tests.storage.cache_rig import bucket_of, in_bucket


async def _in_bucket(run: Run, name: str) -> None:
    with _bucket(run.folder):
        await cache_scenarios.SCENARIOS[name](run)


@contextmanager
def _bucket(folder: Path) -> Iterator[None]:
    if bucket_of(folder) is not None:
        yield
        return
    with s3(folder / "server.log") as server:
        in_bucket(folder, server.bucket().settings())
        yield


SCENARIOS: Scenarios = {f"bucket {name}": partial(_in_bucket, name=name) for name in cache_scenarios.SCENARIOS}

if __name__ == "__main__":
    serve(SCENARIOS)
