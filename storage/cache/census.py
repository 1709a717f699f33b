"""How full a cache is, and what stands in it, for operators and for whoever walks through all of it.

Read from the index alone, so any process can ask, also while another one holds the place. No patient is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, or_, select

from gateway.model.work.transfers import CacheClass, CachedInstance, KeyDomain, Standing
from policy.parties import TrustId
from storage.cache.index import IS_SOLE, cache_instance, cache_study, kept_of
from storage.database import Read
from storage.tables.columns import unindexed

_JOINED = and_(
    cache_instance.c.place == cache_study.c.place,
    cache_instance.c.domain == cache_study.c.domain,
    cache_instance.c.study_uid == cache_study.c.study_uid,
)


@dataclass(frozen=True, slots=True)
class ClassCensus:
    """What is kept of one class."""

    cache_class: CacheClass
    studies: int
    closed_studies: int
    """Whose patient's keys are closed; given up when that can be undone no more."""
    instances: int
    quarantined: int
    sole_copies: int
    """Of which no other holder is known: never evicted (SAF-21)."""
    oldest_sole_copy_at: datetime | None
    held_bytes: int


def whose(read: Read, place: str, study_uid: str) -> frozenset[tuple[TrustId, bytes]]:
    """The custodians of a study's images here, and what stands for their patients; none where no image is kept."""
    of = cache_instance.c
    is_image = (of.place == place) & (of.domain == KeyDomain.CACHE.value) & (of.study_uid == study_uid) & of.has_pixels
    found = select(of.custodian, of.patient).where(is_image).distinct()
    return frozenset((TrustId(row.custodian), bytes(row.patient)) for row in read.connection.execute(found))


def by_class(read: Read, place: str) -> list[ClassCensus]:
    """What a place keeps, class by class; a class of which nothing is kept counts nothing."""
    is_sole = cache_instance.c.is_sole_copy
    counted = (
        select(
            cache_study.c.cache_class,
            func.count(cache_instance.c.study_uid.distinct()).label("studies"),
            func.count(case((cache_study.c.closed_at.is_not(None), cache_study.c.study_uid)).distinct()).label(
                "closed"
            ),
            func.count().label("instances"),
            func.count(case((cache_instance.c.standing == Standing.QUARANTINED.value, 1))).label("quarantined"),
            func.count(case((is_sole, 1))).label("sole"),
            func.min(case((is_sole, cache_instance.c.received_at))).label("oldest_sole"),
            func.sum(cache_instance.c.held_bytes).label("held"),
        )
        .join_from(cache_study, cache_instance, _JOINED)
        .where(cache_study.c.place == place)
        .group_by(cache_study.c.cache_class)
    )
    found = {
        CacheClass(row.cache_class): ClassCensus(
            CacheClass(row.cache_class),
            row.studies,
            row.closed,
            row.instances,
            row.quarantined,
            row.sole,
            row.oldest_sole,
            int(row.held),
        )
        for row in read.connection.execute(counted)
    }
    return [found.get(each, ClassCensus(each, 0, 0, 0, 0, 0, None, 0)) for each in CacheClass]


def following(read: Read, place: str, after: bytes, count_max: int) -> Sequence[CachedInstance]:
    """The instances behind an object id, in the order of these ids."""
    of_place = unindexed(cache_instance.c.place) == place
    behind = select(cache_instance).where(of_place, cache_instance.c.object_id > after)
    ordered = behind.order_by(cache_instance.c.object_id).limit(count_max)
    return [kept_of(row).instance for row in read.connection.execute(ordered)]


def count(read: Read, place: str) -> int:
    """How many instances a place keeps."""
    counted = select(func.count()).select_from(cache_instance).where(cache_instance.c.place == place)
    return int(read.connection.execute(counted).scalar_one())


def sole_studies(read: Read, place: str, *, is_open: bool = False) -> list[tuple[str, bytes, TrustId]]:
    """The studies of which something is handed out that nobody else is known to have, what stands for their patients,
    and who sent them; those alone that are not closed if `is_open`.
    """
    kept = cache_instance.c
    of = (unindexed(kept.place) == place) & (unindexed(kept.domain) == KeyDomain.CACHE.value)
    found = (
        select(cache_study.c.study_uid, cache_study.c.patient, cache_instance.c.source)
        .join_from(
            cache_study,
            cache_instance,
            (cache_instance.c.place == cache_study.c.place)
            & (cache_instance.c.domain == cache_study.c.domain)
            & (cache_instance.c.study_uid == cache_study.c.study_uid),
        )
        .where(
            of, unindexed(cache_instance.c.place) == place, cache_instance.c.standing == Standing.CURRENT.value, IS_SOLE
        )
        .distinct()
    )
    if is_open:
        found = found.where(cache_study.c.closed_at.is_(None))
    return [(row.study_uid, bytes(row.patient), TrustId(row.source)) for row in read.connection.execute(found)]


def uncompared(read: Read, place: str, before: datetime, count_max: int) -> list[str]:
    """Studies whose set of instances was not compared with their holders' since then, so many, drawn by lot.

    In any order by age those of an archive that is away would stand first for as long as it is.
    """
    at = cache_study.c.validated_at
    found = select(cache_study.c.study_uid).where(
        cache_study.c.place == place,
        cache_study.c.domain == KeyDomain.CACHE.value,
        cache_study.c.closed_at.is_(None),
        or_(at.is_(None), at < before),
    )
    return list(read.connection.execute(found.order_by(func.random()).limit(count_max)).scalars())


def sole_sources(read: Read, place: str) -> frozenset[TrustId]:
    """The trusts of which something is handed out that nobody else is known to have."""
    return frozenset(source for _, _, source in sole_studies(read, place, is_open=True))


def study_uids(read: Read, place: str) -> list[str]:
    """Every study of which something is kept."""
    found = select(cache_study.c.study_uid).where(cache_study.c.place == place).distinct()
    return list(read.connection.execute(found.order_by(cache_study.c.study_uid)).scalars())
