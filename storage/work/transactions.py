"""Requests of trusts to answer for what they sent here: taken in, decided, told (PS3.4 J.3).

A row for each of a caller's transactions; asked again it is answered again, and asked with other instances meanwhile it
is refused. To decide one and to queue the job that tells of it is one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Column, Index, Table, Text, and_, delete, func, select, update

from gateway.model.errors import InvalidRequest, OverCapacity
from gateway.model.imaging import JsonValue
from gateway.model.work.commitments import (
    CommitmentReport,
    CommitmentRequest,
    Kept,
    KeptInstance,
    Reference,
    Transaction,
)
from gateway.model.work.jobs import Lane, NewJob
from gateway.model.work.transfers import Standing
from policy.parties import TrustId
from storage.cache.index import IS_SOLE, cache_instance
from storage.database import Read, Tx
from storage.tables.columns import Instant, Json, TableRow, metadata
from storage.work import jobs
from storage.work.commitments import commitment

TELL = "commitment-tell"
"""The kind of job that tells of a decided transaction."""
TELL_ATTEMPTS_MAX = 110
"""About a day, at the longest pause between two attempts."""
OPEN_MAX = 10_000
"""Transactions that are looked at together."""
FORGOTTEN_AT_ONCE_MAX = 500
_UIDS_AT_ONCE = 500

transaction = Table(
    "commitment_transaction",
    metadata,
    Column("transaction_id", Text, primary_key=True),
    Column("caller", Text, nullable=False),
    Column("trust", Text, nullable=False),
    Column("ae_title", Text, nullable=False),
    Column("transaction_uid", Text, nullable=False),
    Column("instances", Json, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("decided_at", Instant),
    Column("failed", Json),
    Column("told_at", Instant),
)
_IS_OPEN = transaction.c.told_at.is_(None)

Index("uq_commitment_transaction_caller", transaction.c.caller, transaction.c.transaction_uid, unique=True)
Index(
    "ix_commitment_transaction_open",
    transaction.c.received_at,
    sqlite_where=_IS_OPEN,
    postgresql_where=_IS_OPEN,
)


def take(tx: Tx, caller: str, trust: TrustId, ae_title: str, request: CommitmentRequest, waiting_max: int) -> str:
    """Take a request in; its id. One that is taken already is the same, and is answered once more if it was before.

    Raises `InvalidRequest` where it names other instances than before, `OverCapacity`.
    """
    instances: JsonValue = [[each.sop_class_uid, each.sop_uid] for each in request.instances]
    of = and_(transaction.c.caller == caller, transaction.c.transaction_uid == request.transaction_uid)
    found = tx.connection.execute(select(transaction).where(of).with_for_update()).one_or_none()
    if found is not None:
        if found.instances != instances:
            raise InvalidRequest("the transaction is in use for other instances")
        again: dict[str, object] = {"ae_title": ae_title}
        if found.told_at is not None:
            again |= {"received_at": tx.now, "decided_at": None, "failed": None, "told_at": None}
        tx.connection.execute(update(transaction).where(of).values(again))
        if found.told_at is None and found.decided_at is not None:
            jobs.enqueue(tx, _telling(found.transaction_id))
        return str(found.transaction_id)
    waiting = select(func.count()).select_from(transaction).where(transaction.c.caller == caller, _IS_OPEN)
    if int(tx.connection.execute(waiting).scalar_one()) >= waiting_max:
        raise OverCapacity("too many requests of this caller are not answered yet")
    transaction_id = tx.new_id()
    values = {
        "transaction_id": transaction_id,
        "caller": caller,
        "trust": trust.code,
        "ae_title": ae_title,
        "transaction_uid": request.transaction_uid,
        "instances": instances,
        "received_at": tx.now,
    }
    tx.connection.execute(transaction.insert().values(values))
    return transaction_id


def undecided(read: Read) -> list[Transaction]:
    """Those that wait, the oldest first."""
    waiting = select(transaction).where(_IS_OPEN, transaction.c.decided_at.is_(None))
    ordered = waiting.order_by(transaction.c.received_at, transaction.c.transaction_id).limit(OPEN_MAX)
    return [_transaction(row) for row in read.connection.execute(ordered)]


def known(read: Read, trust: TrustId, request: CommitmentRequest) -> Mapping[str, KeptInstance]:
    """What is known of the instances of a request that this trust itself has sent here, by SOP Instance UID."""
    found: dict[str, KeptInstance] = {}
    uids = sorted({each.sop_uid for each in request.instances})
    for at in range(0, len(uids), _UIDS_AT_ONCE):
        found |= _known(read, trust, uids[at : at + _UIDS_AT_ONCE])
    return found


def decide(tx: Tx, transaction_id: str, report: CommitmentReport) -> None:
    """Write the answer down, and have it told."""
    failed = {reference.sop_uid: reason for reference, reason in report.failed}
    of = and_(transaction.c.transaction_id == transaction_id, transaction.c.decided_at.is_(None), _IS_OPEN)
    if tx.connection.execute(update(transaction).where(of).values(decided_at=tx.now, failed=failed)).rowcount:
        jobs.enqueue(tx, _telling(transaction_id))


def to_tell(read: Read, transaction_id: str) -> tuple[Transaction, CommitmentReport] | None:
    """What is to be told, and to whom; None: it was told, or is not decided yet."""
    of = and_(transaction.c.transaction_id == transaction_id, _IS_OPEN, transaction.c.decided_at.is_not(None))
    row = read.connection.execute(select(transaction).where(of)).one_or_none()
    if row is None:
        return None
    asked, failed = _transaction(row), row.failed
    committed = tuple(each for each in asked.request.instances if each.sop_uid not in failed)
    not_committed = tuple(
        (each, int(failed[each.sop_uid])) for each in asked.request.instances if each.sop_uid in failed
    )
    return asked, CommitmentReport(asked.request.transaction_uid, committed, not_committed)


def told(tx: Tx, transaction_id: str) -> None:
    """Whoever asked has taken the answer."""
    of = transaction.c.transaction_id == transaction_id
    tx.connection.execute(update(transaction).where(of).values(told_at=tx.now))


def forget(tx: Tx, before: datetime) -> int:
    """Delete transactions of before an instant, told or not, so many at a time; how many were."""
    old = select(transaction.c.transaction_id).where(transaction.c.received_at < before)
    limited = old.order_by(transaction.c.received_at).limit(FORGOTTEN_AT_ONCE_MAX)
    gone = delete(transaction).where(transaction.c.transaction_id.in_(limited))
    return tx.connection.execute(gone).rowcount


def _known(read: Read, trust: TrustId, sop_uids: Sequence[str]) -> dict[str, KeptInstance]:
    of, said = cache_instance.c, commitment.c
    by_archive = select(said.sop_uid, said.digest, said.sop_class_uid).where(
        said.archive == trust.code, said.sop_uid.in_(sop_uids)
    )
    found: dict[str, KeptInstance] = {}
    committed = set()
    for row in read.connection.execute(by_archive):
        found[row.sop_uid] = KeptInstance(row.sop_class_uid, Kept.COMMITTED)
        committed.add((row.sop_uid, bytes(row.digest)))
    # Of what is no sole copy the archive speaks for itself: what is only cached here, nobody answers for.
    sole = select(of.sop_uid, of.sop_class_uid, of.digest, of.standing).where(
        IS_SOLE,
        of.sop_uid.in_(sop_uids),
        of.source == trust.code,
        of.custodian == trust.code,
        of.standing != Standing.SUPERSEDED.value,
    )
    for kept in read.connection.execute(sole):
        is_withheld = kept.standing == Standing.QUARANTINED.value
        if is_withheld or (kept.sop_uid, bytes(kept.digest)) not in committed:
            found[kept.sop_uid] = KeptInstance(kept.sop_class_uid, Kept.WITHHELD if is_withheld else Kept.AWAITED)
    return found


def _telling(transaction_id: str) -> NewJob:
    detail: dict[str, JsonValue] = {"transaction": transaction_id}
    key = f"{TELL}/{transaction_id}"
    return NewJob(TELL, Lane.INTERACTIVE, detail, dedupe_key=key, attempts_max=TELL_ATTEMPTS_MAX)


def _transaction(row: TableRow) -> Transaction:
    instances = tuple(Reference(str(sop_class), str(sop_uid)) for sop_class, sop_uid in row.instances)
    return Transaction(
        row.transaction_id,
        row.caller,
        TrustId(row.trust),
        row.ae_title,
        CommitmentRequest(row.transaction_uid, instances),
        row.received_at,
    )
