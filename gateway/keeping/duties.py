"""The durable work that this node takes up beside the upkeep of its own keys and packs, and what each kind needs.

A duty asks archives or callers' doors, which are there only once the core stands: so they are handed to the runner one
by one when the process is put together.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.config.configuration import Configuration
from gateway.keeping.freshness import Freshness
from gateway.keeping.keeping import Keeping
from gateway.keeping.resuming import Asks, Onward, Resuming
from gateway.model.seams import Clock
from gateway.sharing.locations.sampling import Sampling
from policy.parties import Caller
from storage.store import SqlStore
from storage.work.resumption import RESUME


def of_freshness(
    configuration: Configuration, keeping: Keeping, store: SqlStore, sampling: Callable[[], Sampling], clock: Clock
) -> Freshness:
    """Compare what is kept with its holders, and tell who received what they withdrew."""
    cache, node = configuration.cache, configuration.gateway.node
    studies_max, every_s = cache.compare_studies_max, 60.0 * cache.compare_interval_minutes
    freshness = Freshness(
        store, keeping.cache, keeping.withdrawals, sampling, clock, node=node, studies_max=studies_max
    )
    for kind, handler in freshness.handlers.items():
        recurs = kind == freshness.kind and studies_max > 0
        keeping.handle(kind, handler, every_s=every_s if recurs else None)
    return freshness


def of_resuming(
    keeping: Keeping, store: SqlStore, door: Asks, onward: Callable[[Caller, str], Onward | None], clock: Clock
) -> None:
    """Go on with retrievals that ended with something missing."""
    keeping.handle(RESUME, Resuming(store, keeping.ledger, door, onward, clock))
