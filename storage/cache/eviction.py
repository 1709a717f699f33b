"""Which studies give way when a class of them takes more room than its quota, the least lately used first.

Never one with a sole copy (SAF-21), never one that is pinned, never one that somebody reads or writes. Whole studies: a
study that misses some instances has to be fetched again in any case. The choice is pure; what it is made from is read
from the index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select

from gateway.model.work.transfers import CacheClass, KeyDomain
from storage.cache.index import cache_instance, cache_study
from storage.database import Read

STUDIES_AT_ONCE_MAX = 200
"""Studies that are looked at before the next ones are read."""

_JOINED = (
    (cache_instance.c.place == cache_study.c.place)
    & (cache_instance.c.domain == cache_study.c.domain)
    & (cache_instance.c.study_uid == cache_study.c.study_uid)
)


@dataclass(frozen=True, slots=True)
class Held:
    """A study in the eyes of whoever makes room."""

    domain: KeyDomain
    study_uid: str
    held_bytes: int


def choose(least_used: Sequence[Held], too_much_bytes: int, is_in_use: Callable[[str], bool]) -> list[Held]:
    """The first that may go, until so many bytes are free; fewer where there are no more."""
    chosen: list[Held] = []
    for held in least_used:
        if too_much_bytes <= 0:
            break
        if not is_in_use(held.study_uid):
            chosen.append(held)
            too_much_bytes -= held.held_bytes
    return chosen


def held_by_class(read: Read, place: str) -> dict[CacheClass, int]:
    """The room that each class takes."""
    found = (
        select(cache_study.c.cache_class, func.sum(cache_instance.c.held_bytes).label("held"))
        .join_from(cache_study, cache_instance, _JOINED)
        .where(cache_study.c.place == place)
        .group_by(cache_study.c.cache_class)
    )
    return {CacheClass(row.cache_class): int(row.held) for row in read.connection.execute(found)}


def least_used(read: Read, place: str, cache_class: CacheClass) -> list[Held]:
    """Studies of a class that may go, the least lately used first: none that is pinned, or has a sole copy."""
    sole = select(cache_instance.c.object_id).where(_JOINED, cache_instance.c.is_sole_copy)
    found = (
        select(
            cache_study.c.domain,
            cache_study.c.study_uid,
            func.sum(cache_instance.c.held_bytes).label("held"),
        )
        .join_from(cache_study, cache_instance, _JOINED)
        .where(
            cache_study.c.place == place,
            cache_study.c.cache_class == cache_class.value,
            or_(cache_study.c.pinned_until.is_(None), cache_study.c.pinned_until <= read.now),
            ~sole.correlate(cache_study).exists(),
        )
        .group_by(cache_study.c.domain, cache_study.c.study_uid, cache_study.c.used_at)
        .order_by(cache_study.c.used_at, cache_study.c.study_uid)
        .limit(STUDIES_AT_ONCE_MAX)
    )
    return [Held(KeyDomain(row.domain), row.study_uid, int(row.held)) for row in read.connection.execute(found)]
