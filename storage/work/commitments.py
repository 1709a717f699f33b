"""What archives have committed themselves to, and what they were asked: the tables that end a sole copy (SAF-21).

A commitment is to one content of one instance, named by its digest: another version that came meanwhile is a sole copy
still. An archive is believed in what it was asked alone, and may answer twice, late, or by another node's door. What
was committed is remembered behind the copy's end, for whoever sent it may ask then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Index, LargeBinary, Table, Text, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.work.commitments import Asking, CommitmentReport, Custody, Reference, SoleCopies
from gateway.model.work.transfers import Standing
from policy.parties import TrustId
from storage.cache.index import IS_SOLE, cache_instance
from storage.database import Read, Tx
from storage.tables.columns import Instant, Json, metadata, unindexed

FORGOTTEN_AT_ONCE_MAX = 500
REASONS_TOLD_MAX = 3

commitment = Table(
    "commitment",
    metadata,
    Column("archive", Text, primary_key=True),
    Column("sop_uid", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("study_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("basis", Text, nullable=False),
    Column("committed_at", Instant, nullable=False),
    Index(None, "committed_at"),
)
"""Which trust's archive has which content, by its own word."""

commitment_asked = Table(
    "commitment_asked",
    metadata,
    Column("transaction_uid", Text, primary_key=True),
    Column("place", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("archive", Text, nullable=False),
    Column("instances", Json, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("answered_at", Instant),
    Column("words", Text, nullable=False),
    Index(None, "study_uid"),
)
"""What archives were asked to commit themselves to: for each instance its class, its UID and its digest."""

_IS_OF_ARCHIVE = and_(
    commitment.c.archive == cache_instance.c.custodian, commitment.c.sop_uid == cache_instance.c.sop_uid
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One instance as it was sent to an archive."""

    reference: Reference
    digest: bytes


def ask(tx: Tx, transaction_uid: str, place: str, study_uid: str, archive: TrustId, sent: Sequence[Sent]) -> None:
    """Write down what an archive is about to be asked, so that its answer is known whenever it comes."""
    instances = [[each.reference.sop_class_uid, each.reference.sop_uid, each.digest.hex()] for each in sent]
    values = {
        "transaction_uid": transaction_uid,
        "place": place,
        "study_uid": study_uid,
        "archive": archive.code,
        "instances": instances,
        "asked_at": tx.now,
        "words": "",
    }
    tx.connection.execute(commitment_asked.insert().values(values))


def hear(tx: Tx, archive: TrustId, report: CommitmentReport) -> bool:
    """Write down what an archive answers; False where it was never asked that. May be said twice."""
    of = and_(commitment_asked.c.transaction_uid == report.transaction_uid, commitment_asked.c.archive == archive.code)
    row = tx.connection.execute(select(commitment_asked).where(of).with_for_update()).one_or_none()
    if row is None:
        return False
    asked = {(str(sop_class), str(sop_uid)): bytes.fromhex(digest) for sop_class, sop_uid, digest in row.instances}
    sent = [
        Sent(reference, asked[key])
        for reference in report.committed
        if (key := (reference.sop_class_uid, reference.sop_uid)) in asked
    ]
    _commit(tx, archive, row.study_uid, sent, Custody.COMMITMENT)
    words = _words(len(sent), len(asked), [reason for _, reason in report.failed])
    tx.connection.execute(update(commitment_asked).where(of).values(answered_at=tx.now, words=words))
    return True


def refused(tx: Tx, transaction_uid: str, words: str) -> None:
    """It could not be asked, or did not take the request."""
    of = and_(commitment_asked.c.transaction_uid == transaction_uid, commitment_asked.c.answered_at.is_(None))
    tx.connection.execute(update(commitment_asked).where(of).values(answered_at=tx.now, words=words))


def stored(tx: Tx, archive: TrustId, study_uid: str, sent: Sequence[Sent]) -> None:
    """An archive whose word on C-STORE is trusted has stored these."""
    _commit(tx, archive, study_uid, sent, Custody.STORED)


def confirmed(read: Read, place: str) -> Mapping[str, Sequence[str]]:
    """The sole copies of a place that are none any more, their object ids by study.

    What a committed version has superseded goes with it: it is another header of the same content.
    """
    is_committed = exists().where(
        _IS_OF_ARCHIVE,
        or_(commitment.c.digest == cache_instance.c.digest, cache_instance.c.standing == Standing.SUPERSEDED.value),
    )
    found = select(cache_instance.c.study_uid, cache_instance.c.object_id).where(
        unindexed(cache_instance.c.place) == place, IS_SOLE, is_committed
    )
    by_study: dict[str, list[str]] = {}
    for row in read.connection.execute(found):
        by_study.setdefault(row.study_uid, []).append(bytes(row.object_id).hex())
    return by_study


def sole_copies(read: Read, place: str) -> list[SoleCopies]:
    """What a place keeps that nobody else is known to have, by study and custodian, the oldest first."""
    of = cache_instance.c
    is_withheld = of.standing == Standing.QUARANTINED.value
    oldest = func.min(of.received_at).label("oldest_at")
    counted = (
        select(
            of.study_uid,
            of.custodian,
            func.count().label("instances"),
            func.sum(of.held_bytes).label("held_bytes"),
            oldest,
            func.max(of.received_at).label("newest_at"),
            func.count(case((is_withheld, 1))).label("in_quarantine"),
        )
        .where(unindexed(of.place) == place, IS_SOLE)
        .group_by(of.study_uid, of.custodian)
        .order_by(oldest, of.study_uid)
    )
    return [
        SoleCopies(
            row.study_uid,
            TrustId(row.custodian),
            row.instances,
            int(row.held_bytes),
            row.oldest_at,
            row.newest_at,
            row.in_quarantine,
        )
        for row in read.connection.execute(counted)
    ]


def awaited(read: Read, place: str, study_uid: str, archive: TrustId, since: datetime) -> set[tuple[str, bytes]]:
    """What of a study the archive was asked since an instant and has not answered, each by its UID and digest."""
    of = commitment_asked.c
    waiting = select(of.instances).where(
        of.place == place,
        of.study_uid == study_uid,
        of.archive == archive.code,
        of.answered_at.is_(None),
        of.asked_at > since,
    )
    found = read.connection.execute(waiting).scalars()
    return {(str(sop_uid), bytes.fromhex(digest)) for each in found for _, sop_uid, digest in each}


def askings(read: Read, place: str) -> Mapping[tuple[str, TrustId], Asking]:
    """How the asking stands for every study that has sole copies and whose archive was asked."""
    of = commitment_asked.c
    kept = cache_instance.c
    is_sole = of.study_uid.in_(select(kept.study_uid).where(unindexed(kept.place) == place, IS_SOLE))
    found = select(of.study_uid, of.archive, of.asked_at, of.answered_at, of.words)
    standing: dict[tuple[str, TrustId], Asking] = {}
    for row in read.connection.execute(found.where(of.place == place, is_sole).order_by(of.asked_at)):
        key = row.study_uid, TrustId(row.archive)
        before = standing.get(key)
        is_success = row.answered_at is not None and not row.words
        tries = 0 if is_success else 1 + (before.tries if before is not None else 0)
        standing[key] = Asking(tries, row.asked_at, row.answered_at, row.words)
    return standing


def forget(tx: Tx, before: datetime) -> int:
    """Delete what was committed and asked before an instant, so many at a time; how many were."""
    count = 0
    for table, key, at in (
        (commitment_asked, commitment_asked.c.transaction_uid, commitment_asked.c.asked_at),
        (commitment, commitment.c.sop_uid, commitment.c.committed_at),
    ):
        old = select(key).where(at < before).order_by(at).limit(FORGOTTEN_AT_ONCE_MAX)
        count += tx.connection.execute(delete(table).where(key.in_(old), at < before)).rowcount
    return count


def _commit(tx: Tx, archive: TrustId, study_uid: str, sent: Iterable[Sent], basis: Custody) -> None:
    rows = [
        {
            "archive": archive.code,
            "sop_uid": each.reference.sop_uid,
            "digest": each.digest,
            "study_uid": study_uid,
            "sop_class_uid": each.reference.sop_class_uid,
            "basis": basis.value,
            "committed_at": tx.now,
        }
        for each in sent
    ]
    if rows:
        engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
        tx.connection.execute(engine.insert(commitment).on_conflict_do_nothing(), rows)


def _words(committed: int, asked: int, reasons: Sequence[int]) -> str:
    """What was not committed, and why; empty: all was."""
    if committed == asked:
        return ""
    told = ", ".join(f"{reason:04X}" for reason in sorted(set(reasons))[:REASONS_TOLD_MAX])
    return f"{asked - committed} of {asked} instances not committed" + (f": {told}" if told else "")
