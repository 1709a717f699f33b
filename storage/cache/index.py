"""The cache's index: which instances are kept, for whom, and where they lie (DEC-21).

Identifiers of studies, dates and sizes, and for the patient a keyed hash; everything else that an instance says is
sealed. Rows follow what is durable in the packs and may be made anew from them; each belongs to one place, the packs
of one node, and only the process that holds a place changes its rows. What was taken out stands in `cache_dead` until
its room was given back, so that nothing comes to life again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.work.transfers import CacheClass, CachedInstance, InstanceRef, KeyDomain, Standing
from policy.parties import TrustId
from storage.cache.entries import Kept
from storage.cache.packs.frames import Extent, decode_extents, encode_extents
from storage.database import Read, Tx
from storage.tables.columns import Instant, TableRow, metadata, micros
from storage.tables.prepared import Prepared

_IDS_AT_ONCE = 500

cache_pack = Table(
    "cache_pack",
    metadata,
    Column("pack_id", LargeBinary, primary_key=True),
    Column("place", Text, nullable=False),
)
"""The packs of which everything is indexed or gone: a start need not read them."""

cache_study = Table(
    "cache_study",
    metadata,
    Column("place", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("study_uid", Text, primary_key=True),
    Column("patient", LargeBinary, nullable=False),
    Column("cache_class", Text, nullable=False),
    Column("study_date", Text),
    Column("used_at", Instant, nullable=False),
    Column("pinned_until", Instant),
    Column("validated_at", Instant),
    Column("closed_at", Instant),
    Index(None, "patient"),
)

cache_instance = Table(
    "cache_instance",
    metadata,
    Column("object_id", LargeBinary, primary_key=True),
    Column("place", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("sop_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("transfer_syntax", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("custodian", Text, nullable=False),
    Column("patient", LargeBinary, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("plain_bytes", BigInteger, nullable=False),
    Column("sealed_bytes", BigInteger, nullable=False),
    Column("held_bytes", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("content_digest", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("standing", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("has_pixels", Boolean, nullable=False),
    Column("is_sole_copy", Boolean, nullable=False),
    Column("pack_id", LargeBinary, nullable=False),
    Column("extents", LargeBinary, nullable=False),
    Index("ix_cache_instance_study", "place", "domain", "study_uid"),
    Index(None, "pack_id"),
)

IS_SOLE: ColumnElement[bool] = literal_column("cache_instance.is_sole_copy")
"""Written as the index below has it; SQLite takes it for nothing else."""
Index(
    "ix_cache_instance_sole",
    cache_instance.c.sop_uid,
    sqlite_where=text("is_sole_copy"),
    postgresql_where=text("is_sole_copy"),
)

cache_dead = Table(
    "cache_dead",
    metadata,
    Column("object_id", LargeBinary, primary_key=True),
    Column("place", Text, nullable=False),
    Column("extents", LargeBinary, nullable=False),
)
"""Objects that were taken out and whose room is still to be given back."""

_OF = (
    (cache_instance.c.place == bindparam("of_place"))
    & (cache_instance.c.domain == bindparam("of_domain"))
    & (cache_instance.c.study_uid == bindparam("of_study"))
)
_INSTANCES = Prepared(select(cache_instance).where(_OF))
_ADD = {
    "sqlite": Prepared(sqlite.insert(cache_instance).on_conflict_do_nothing()),
    "postgresql": Prepared(postgresql.insert(cache_instance).on_conflict_do_nothing()),
}
"""May be said twice: a transaction whose outcome nobody learned is said again."""
_SUPERSEDE = Prepared(
    update(cache_instance)
    .where(
        _OF,
        cache_instance.c.sop_uid == bindparam("of_sop"),
        cache_instance.c.version < bindparam("before_version"),
        cache_instance.c.standing == Standing.CURRENT.value,
    )
    .values(standing=Standing.SUPERSEDED.value)
)
_THIS_STUDY = (
    (cache_study.c.place == bindparam("of_place"))
    & (cache_study.c.domain == bindparam("of_domain"))
    & (cache_study.c.study_uid == bindparam("of_study"))
)
_STUDY = Prepared(select(cache_study).where(_THIS_STUDY))
_KEEP_STUDY = text(
    "INSERT INTO cache_study AS known (place, domain, study_uid, patient, cache_class, study_date, used_at,"
    " pinned_until, validated_at, closed_at) VALUES (:place, :domain, :study_uid, :patient, :cache_class, :study_date,"
    " :used_at, :pinned_until, :validated_at, :closed_at) ON CONFLICT (place, domain, study_uid) DO UPDATE SET"
    " patient = excluded.patient, cache_class = excluded.cache_class,"
    " study_date = coalesce(excluded.study_date, known.study_date), used_at = excluded.used_at,"
    " pinned_until = excluded.pinned_until, validated_at = excluded.validated_at, closed_at = excluded.closed_at"
)
_SETTLE = text("INSERT INTO cache_pack (pack_id, place) VALUES (:pack_id, :place) ON CONFLICT DO NOTHING")
_BURY = text(
    "INSERT INTO cache_dead (object_id, place, extents) VALUES (:object_id, :place, :extents) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as the index knows it."""

    domain: KeyDomain
    study_uid: str
    patient: bytes
    cache_class: CacheClass
    study_date: date | None
    used_at: datetime
    pinned_until: datetime | None = None
    validated_at: datetime | None = None
    closed_at: datetime | None = None
    """Since when nothing of it opens; it may still be undone (SAF-20)."""


def study_row(read: Read, place: str, domain: KeyDomain, study_uid: str) -> StudyRow | None:
    """What is known of a study."""
    rows = _STUDY.rows(read.connection, _of(place, domain, study_uid))
    return _study(rows[0]) if rows else None


def instances(read: Read, place: str, domain: KeyDomain, study_uid: str) -> list[Kept]:
    """Every instance of a study, whatever it is good for."""
    return [kept_of(row) for row in _INSTANCES.rows(read.connection, _of(place, domain, study_uid))]


def add(tx: Tx, place: str, kept: Kept) -> None:
    """Index an object; a current one takes the place of the earlier versions."""
    instance = kept.instance
    # A first version takes nobody's place, and to look for one would cost a walk through its study.
    if kept.standing is Standing.CURRENT and instance.version > 1:
        of = _of(place, instance.domain, instance.ref.study_uid)
        _SUPERSEDE.run(tx.connection, [{**of, "of_sop": instance.ref.sop_uid, "before_version": instance.version}])
    _ADD[tx.connection.dialect.name].run(tx.connection, [_values(place, kept)])


def keep_study(tx: Tx, place: str, row: StudyRow) -> None:
    """Write down what is known of a study."""
    tx.connection.execute(
        _KEEP_STUDY,
        {
            "place": place,
            "domain": row.domain.value,
            "study_uid": row.study_uid,
            "patient": row.patient,
            "cache_class": row.cache_class.value,
            "study_date": row.study_date.isoformat() if row.study_date else None,
            "used_at": micros(row.used_at),
            "pinned_until": _stored(row.pinned_until),
            "validated_at": _stored(row.validated_at),
            "closed_at": _stored(row.closed_at),
        },
    )


def take_out(tx: Tx, place: str, gone: Sequence[Kept]) -> None:
    """Forget objects, and note that their room is to be given back; a study without any is forgotten as well."""
    for kept in gone:
        tx.connection.execute(delete(cache_instance).where(cache_instance.c.object_id == kept.object_id))
        buried = {"object_id": kept.object_id, "place": place, "extents": encode_extents(kept.extents)}
        tx.connection.execute(_BURY, buried)
    for domain, study_uid in {(kept.instance.domain, kept.instance.ref.study_uid) for kept in gone}:
        of = _of(place, domain, study_uid)
        if not _INSTANCES.rows(tx.connection, of):
            tx.connection.execute(delete(cache_study).where(_THIS_STUDY), of)


def set_standing(tx: Tx, object_id: bytes, standing: Standing, why: str) -> None:
    """What an object is good for from now on."""
    changed = update(cache_instance).where(cache_instance.c.object_id == object_id)
    tx.connection.execute(changed.values(standing=standing.value, why=why))


def confirm_elsewhere(tx: Tx, object_ids: Collection[bytes]) -> None:
    """These are no sole copies."""
    changed = update(cache_instance).where(cache_instance.c.object_id.in_(sorted(object_ids)))
    tx.connection.execute(changed.values(is_sole_copy=False))


def dead(read: Read, place: str) -> list[tuple[bytes, tuple[Extent, ...]]]:
    """Objects whose room is still to be given back."""
    found = select(cache_dead.c.object_id, cache_dead.c.extents).where(cache_dead.c.place == place)
    return [(bytes(row.object_id), decode_extents(bytes(row.extents))) for row in read.connection.execute(found)]


def given_back(tx: Tx, object_ids: Collection[bytes]) -> None:
    """Their room was given back."""
    tx.connection.execute(delete(cache_dead).where(cache_dead.c.object_id.in_(sorted(object_ids))))


def settle(tx: Tx, place: str, packs: Iterable[bytes]) -> None:
    """Everything of these packs is indexed or gone."""
    for pack_id in packs:
        tx.connection.execute(_SETTLE, {"pack_id": pack_id, "place": place})


def unsettle(tx: Tx, packs: Collection[bytes]) -> None:
    """These packs are no more."""
    tx.connection.execute(delete(cache_pack).where(cache_pack.c.pack_id.in_(sorted(packs))))


def settled(read: Read, place: str) -> set[bytes]:
    """The packs of which everything is indexed or gone."""
    return {
        bytes(found)
        for found in read.connection.execute(select(cache_pack.c.pack_id).where(cache_pack.c.place == place)).scalars()
    }


def by_ids(read: Read, object_ids: Collection[bytes]) -> list[Kept]:
    """These objects, as far as they are indexed."""
    found: list[Kept] = []
    wanted = sorted(object_ids)
    for first in range(0, len(wanted), _IDS_AT_ONCE):
        of = cache_instance.c.object_id.in_(wanted[first : first + _IDS_AT_ONCE])
        found += [kept_of(row) for row in read.connection.execute(select(cache_instance).where(of))]
    return found


def where_all_lie(read: Read, place: str) -> dict[bytes, tuple[Extent, ...]]:
    """Every object of a place, and where it lies."""
    found = select(cache_instance.c.object_id, cache_instance.c.extents).where(cache_instance.c.place == place)
    return {bytes(row.object_id): decode_extents(bytes(row.extents)) for row in read.connection.execute(found)}


def of_patient(read: Read, place: str, patient: bytes, domain: KeyDomain) -> list[str]:
    """The studies that are kept of a patient in a domain."""
    of = (cache_study.c.place == place) & (cache_study.c.patient == patient) & (cache_study.c.domain == domain.value)
    return list(read.connection.execute(select(cache_study.c.study_uid).where(of)).scalars())


def patients_open(read: Read, place: str, domain: KeyDomain) -> frozenset[bytes]:
    """What stands for each patient of whom a study is kept in a domain that is not closed."""
    of = (cache_study.c.place == place) & (cache_study.c.domain == domain.value) & cache_study.c.closed_at.is_(None)
    return frozenset(bytes(each) for each in read.connection.execute(select(cache_study.c.patient).where(of)).scalars())


def closed_before(read: Read, place: str, before: datetime) -> list[tuple[KeyDomain, str]]:
    """The studies that were closed before an instant."""
    of = (cache_study.c.place == place) & (cache_study.c.closed_at < before)
    found = select(cache_study.c.domain, cache_study.c.study_uid).where(of)
    return [(KeyDomain(row.domain), row.study_uid) for row in read.connection.execute(found)]


def _of(place: str, domain: KeyDomain, study_uid: str) -> dict[str, object]:
    return {"of_place": place, "of_domain": domain.value, "of_study": study_uid}


def _stored(at: datetime | None) -> int | None:
    return micros(at) if at is not None else None


def _study(row: TableRow) -> StudyRow:
    return StudyRow(
        KeyDomain(row.domain),
        row.study_uid,
        bytes(row.patient),
        CacheClass(row.cache_class),
        date.fromisoformat(row.study_date) if row.study_date else None,
        row.used_at,
        row.pinned_until,
        row.validated_at,
        row.closed_at,
    )


def _values(place: str, kept: Kept) -> dict[str, object]:
    instance = kept.instance
    return {
        "object_id": kept.object_id,
        "place": place,
        "domain": instance.domain.value,
        "study_uid": instance.ref.study_uid,
        "series_uid": instance.ref.series_uid,
        "sop_uid": instance.ref.sop_uid,
        "sop_class_uid": instance.ref.sop_class_uid,
        "transfer_syntax": instance.transfer_syntax,
        "source": instance.source.code,
        "custodian": instance.custodian.code,
        "patient": kept.patient,
        "key_id": kept.key_id,
        "plain_bytes": instance.plain_bytes,
        "sealed_bytes": kept.sealed_bytes,
        "held_bytes": kept.held_bytes,
        "digest": instance.digest,
        "content_digest": instance.content_digest,
        "version": instance.version,
        "standing": kept.standing.value,
        "why": "",
        "received_at": instance.received_at,
        "has_pixels": instance.has_pixels,
        "is_sole_copy": instance.is_sole_copy,
        "pack_id": kept.extents[-1].pack_id,
        "extents": encode_extents(kept.extents),
    }


def kept_of(row: TableRow) -> Kept:
    """A row as the object that it tells of."""
    instance = CachedInstance(
        ref=InstanceRef(row.study_uid, row.series_uid, row.sop_uid, row.sop_class_uid),
        transfer_syntax=row.transfer_syntax,
        source=TrustId(row.source),
        custodian=TrustId(row.custodian),
        object_id=bytes(row.object_id).hex(),
        plain_bytes=row.plain_bytes,
        digest=bytes(row.digest),
        version=row.version,
        received_at=row.received_at,
        domain=KeyDomain(row.domain),
        has_pixels=bool(row.has_pixels),
        is_sole_copy=bool(row.is_sole_copy),
        content_digest=bytes(row.content_digest),
    )
    return Kept(
        instance=instance,
        patient=bytes(row.patient),
        key_id=bytes(row.key_id),
        sealed_bytes=row.sealed_bytes,
        extents=decode_extents(bytes(row.extents)),
        standing=Standing(row.standing),
    )
