"""Read again and again how much is kept here and how much work waits, for whoever watches the figures.

What the figures cannot say (which job, which study) is `gateway jobs` and `gateway cache`. Reads the index and the jobs
table alone; a database that is gone leaves the figures as they were, and is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog

from gateway.model.errors import ServiceFault
from gateway.model.seams import Clock
from gateway.model.work.jobs import Lane
from gateway.model.work.transfers import CacheClass
from storage.cache import eviction
from storage.store import SqlStore
from storage.work import standing
from storage.work.standing import LaneStanding

log = structlog.get_logger(__name__)

WATCH_INTERVAL_S = 30.0


class ShowsWork(Protocol):
    """Who keeps the figures."""

    def lane(self, lane: Lane, ready: int, running: int, oldest_due_s: float) -> None:
        """What is open in a lane of all nodes, and how long the longest due job has waited."""

    def held(self, cache_class: CacheClass, held_bytes: int) -> None:
        """The room that a class takes here."""


async def watch(store: SqlStore, node: str, figures: ShowsWork, clock: Clock) -> None:
    """Show how it stands, for ever."""
    while True:
        try:
            lanes = await store.read(standing.by_lane)
            held = await store.read(partial(eviction.held_by_class, place=node))
            show(lanes, held, figures, clock.now())
        except ServiceFault as error:
            log.info("figures of work not read", error=type(error).__name__)
        await clock.sleep(WATCH_INTERVAL_S)


def show(lanes: Mapping[Lane, LaneStanding], held: Mapping[CacheClass, int], figures: ShowsWork, now: datetime) -> None:
    """Show what was read."""
    for lane, each in lanes.items():
        due_s = (now - each.oldest_due_at).total_seconds() if each.oldest_due_at is not None else 0.0
        figures.lane(lane, each.ready, each.running, max(0.0, due_s))
    for cache_class in CacheClass:
        figures.held(cache_class, held.get(cache_class, 0))
