"""The ledger of retrievals: what each froze, and what became of every instance of it (`TransferLedger`).

Counters, progress, resume and partial answers are read from here, and so is what a patient's officer asks: who got
which of the images, and when. A retrieval that its node could not end (a fall) is ended by that node's next start.
Patients stand here by their internal rows. Knows no cache and no wire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.faults import faultpoint
from gateway.model.work.retrievals import Counts, FrozenInstance, Halt, InstanceNote, InstanceState, NewRetrieval
from gateway.model.work.transfers import InstanceRef
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.store import SqlStore
from storage.tables.columns import Instant, TableRow, metadata
from storage.tables.prepared import Prepared

NOT_DELIVERED = "the retrieval ended before it was delivered"
WORDS_MAX = 500
"""Characters kept of why an instance failed."""
UNFINISHED_MAX = 10_000
FORGOTTEN_AT_ONCE_MAX = 20
"""Retrievals deleted in one transaction: each may have thousands of instances."""

retrieval = Table(
    "retrieval",
    metadata,
    Column("retrieval_id", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("frozen_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("halted", Text),
    Column("purpose", Text, nullable=False, server_default=""),
    Index(None, "frozen_at"),
)
_IS_UNDER_WAY = retrieval.c.ended_at.is_(None)
Index("ix_retrieval_under_way", retrieval.c.node, sqlite_where=_IS_UNDER_WAY, postgresql_where=_IS_UNDER_WAY)

retrieval_instance = Table(
    "retrieval_instance",
    metadata,
    Column("retrieval_id", Text, ForeignKey("retrieval.retrieval_id"), primary_key=True),
    Column("sop_uid", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("patient_row", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("source", Text),
    Column("noted_at", Instant),
    Column("digest", LargeBinary),
    Column("data_bytes", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
    Index("ix_retrieval_instance_patient", "patient_row", "retrieval_id"),
)

_HAS_NOT_ENDED = and_(
    *(retrieval_instance.c.state != literal_column(f"'{state.value}'") for state in InstanceState if state.is_ended)
)
_ENGINES = {"sqlite": sqlite, "postgresql": postgresql}
_ADD = {name: Prepared(engine.insert(retrieval).on_conflict_do_nothing()) for name, engine in _ENGINES.items()}
_ADD_INSTANCE = {
    name: Prepared(engine.insert(retrieval_instance).on_conflict_do_nothing()) for name, engine in _ENGINES.items()
}
"""May be said twice: a transaction whose outcome nobody learned is said again."""
_GROW = Prepared(
    update(retrieval)
    .where(retrieval.c.retrieval_id == bindparam("of_retrieval"), retrieval.c.instances < bindparam("to_instances"))
    .values(instances=bindparam("to_instances"))
)
_THIS_INSTANCE = (retrieval_instance.c.retrieval_id == bindparam("of_retrieval")) & (
    retrieval_instance.c.sop_uid == bindparam("of_sop")
)
_NOTE = Prepared(
    update(retrieval_instance)
    .where(_THIS_INSTANCE, _HAS_NOT_ENDED)
    .values(
        state=bindparam("to_state"),
        source=bindparam("to_source"),
        noted_at=bindparam("to_noted_at", type_=Instant),
        digest=bindparam("to_digest"),
        data_bytes=bindparam("to_data_bytes"),
        words=bindparam("to_words"),
    )
)
_INSTANCES = (
    select(retrieval_instance)
    .where(retrieval_instance.c.retrieval_id == bindparam("of_retrieval"))
    .order_by(retrieval_instance.c.position)
)


@dataclass(frozen=True, slots=True)
class LedgerInstance:
    """One instance of a retrieval, as it was frozen and as it stands."""

    frozen: FrozenInstance
    state: InstanceState
    source: TrustId | None
    """Where it came from in fact; None: it has not come."""
    noted_at: datetime | None
    digest: bytes
    data_bytes: int
    words: str


@dataclass(frozen=True, slots=True)
class LedgerRetrieval:
    """A retrieval as the ledger has it."""

    retrieval_id: str
    node: str
    request_id: str
    job_id: str
    subject: str
    recipient: TrustId
    destination: str
    frozen_at: datetime
    ended_at: datetime | None
    halted: Halt | None
    instances: tuple[LedgerInstance, ...]
    """In the order in which they were frozen."""
    purpose: str = ""

    @property
    def counts(self) -> Counts:
        """Its sub-operations; they add up to the frozen set."""
        of = Counter(each.state for each in self.instances)
        completed, failed, warning = of[InstanceState.SENT], of[InstanceState.FAILED], of[InstanceState.WARNING]
        return Counts(len(self.instances) - completed - failed - warning, completed, failed, warning)


Frozen = Callable[[Tx, Sequence[FrozenInstance]], None]
"""Is told what is about to be handed out."""


class SqlLedger:
    """See `TransferLedger`. One node writes down what it retrieves; every node can read all of it."""

    def __init__(self, store: SqlStore, node: str) -> None:
        self._store = store
        self._node = node
        self._also: list[Frozen] = []

    def also(self, frozen: Frozen) -> None:
        """Have something else done in each transaction that freezes instances."""
        self._also.append(frozen)

    async def freeze(self, new: NewRetrieval) -> None:
        """See `TransferLedger`. Raises `InvalidRequest` for a set that names an instance twice."""
        if len({frozen.ref.sop_uid for frozen in new.instances}) < len(new.instances):
            raise InvalidRequest("an instance is named twice")

        def body(tx: Tx) -> None:
            _freeze(tx, self._node, new)
            self._follow(tx, new.instances)

        await self._store.write(body)

    async def add(self, retrieval_id: str, first: int, instances: Sequence[FrozenInstance]) -> None:
        """See `TransferLedger`."""
        if not instances:
            return

        def body(tx: Tx) -> None:
            _add(tx, retrieval_id, first, instances)
            self._follow(tx, instances)

        await self._store.write(body)

    async def note(self, retrieval_id: str, notes: Sequence[InstanceNote]) -> None:
        """See `TransferLedger`."""
        if notes:
            await self._store.write(partial(_note, retrieval_id=retrieval_id, notes=notes))

    async def end(self, retrieval_id: str, at: datetime, halted: Halt | None) -> None:
        """See `TransferLedger`. One that has ended stays as it is."""
        await self._store.write(partial(_end, retrieval_id=retrieval_id, at=at, halted=halted))

    async def unfinished(self) -> list[str]:
        """The retrievals of this node that have not ended, the oldest first: at its start those that it fell with."""
        return await self._store.read(partial(_unfinished, node=self._node))

    async def end_unfinished(self, at: datetime) -> int:
        """End what this node's last process could not; how many that were. Before this one begins any."""
        found = await self.unfinished()
        for retrieval_id in found:
            await self.end(retrieval_id, at, Halt.SERVICE)
        return len(found)

    async def show(self, retrieval_id: str) -> LedgerRetrieval:
        """A retrieval with all its instances; raises `NotFound`."""
        return await self._store.read(partial(_show, retrieval_id=retrieval_id))

    async def forget(self, before: datetime) -> int:
        """Delete retrievals that were frozen before an instant and have ended, a few at a time; how many were."""
        return await self._store.write(partial(_forget, before=before))

    def _follow(self, tx: Tx, instances: Sequence[FrozenInstance]) -> None:
        for each in self._also:
            each(tx, instances)


def _freeze(tx: Tx, node: str, new: NewRetrieval) -> None:
    head = {
        "retrieval_id": new.retrieval_id,
        "node": node,
        "request_id": new.request_id,
        "job_id": new.job_id,
        "subject": new.subject,
        "recipient": new.recipient.code,
        "destination": new.destination,
        "instances": len(new.instances),
        "frozen_at": new.frozen_at,
        "ended_at": None,
        "halted": None,
        "purpose": new.purpose,
    }
    _ADD[tx.connection.dialect.name].run(tx.connection, [head])
    faultpoint("ledger.freeze.between")
    _add_instances(tx, new.retrieval_id, 0, new.instances)


def _add(tx: Tx, retrieval_id: str, first: int, instances: Sequence[FrozenInstance]) -> None:
    total = first + len(instances)
    _GROW.run(tx.connection, [{"of_retrieval": retrieval_id, "to_instances": total}])
    _add_instances(tx, retrieval_id, first, instances)


def _add_instances(tx: Tx, retrieval_id: str, first: int, instances: Sequence[FrozenInstance]) -> None:
    if instances:
        rows = [_frozen_values(retrieval_id, *placed) for placed in enumerate(instances, first)]
        _ADD_INSTANCE[tx.connection.dialect.name].run(tx.connection, rows)


def _note(tx: Tx, retrieval_id: str, notes: Sequence[InstanceNote]) -> None:
    faultpoint("ledger.note.before")
    values = [
        {
            "of_retrieval": retrieval_id,
            "of_sop": note.sop_uid,
            "to_state": note.state.value,
            "to_source": note.source.code,
            "to_noted_at": note.at,
            "to_digest": note.digest,
            "to_data_bytes": note.data_bytes,
            "to_words": note.words[:WORDS_MAX],
        }
        for note in notes
    ]
    _NOTE.run(tx.connection, values)


def _end(tx: Tx, retrieval_id: str, at: datetime, halted: Halt | None) -> None:
    is_this = retrieval.c.retrieval_id == retrieval_id
    ended = {"ended_at": at, "halted": halted.value if halted is not None else None}
    if tx.connection.execute(update(retrieval).where(is_this, _IS_UNDER_WAY).values(ended)).rowcount == 0:
        return
    faultpoint("ledger.end.between")
    left = (retrieval_instance.c.retrieval_id == retrieval_id) & _HAS_NOT_ENDED
    failed = {"state": InstanceState.FAILED.value, "noted_at": at, "words": NOT_DELIVERED}
    tx.connection.execute(update(retrieval_instance).where(left).values(failed))


def _unfinished(read: Read, node: str) -> list[str]:
    found = select(retrieval.c.retrieval_id).where(retrieval.c.node == node, _IS_UNDER_WAY)
    ordered = found.order_by(retrieval.c.frozen_at, retrieval.c.retrieval_id).limit(UNFINISHED_MAX)
    return list(read.connection.execute(ordered).scalars())


def _show(read: Read, retrieval_id: str) -> LedgerRetrieval:
    head = read.connection.execute(select(retrieval).where(retrieval.c.retrieval_id == retrieval_id)).one_or_none()
    if head is None:
        raise NotFound("no such retrieval")
    rows = read.connection.execute(_INSTANCES, {"of_retrieval": retrieval_id})
    return LedgerRetrieval(
        retrieval_id=head.retrieval_id,
        node=head.node,
        request_id=head.request_id,
        job_id=head.job_id,
        subject=head.subject,
        recipient=TrustId(head.recipient),
        destination=head.destination,
        frozen_at=head.frozen_at,
        ended_at=head.ended_at,
        halted=Halt(head.halted) if head.halted else None,
        instances=tuple(map(_instance, rows)),
        purpose=head.purpose,
    )


def _forget(tx: Tx, before: datetime) -> int:
    old = select(retrieval.c.retrieval_id).where(retrieval.c.frozen_at < before, ~_IS_UNDER_WAY)
    ids = list(tx.connection.execute(old.order_by(retrieval.c.frozen_at).limit(FORGOTTEN_AT_ONCE_MAX)).scalars())
    tx.connection.execute(delete(retrieval_instance).where(retrieval_instance.c.retrieval_id.in_(ids)))
    tx.connection.execute(delete(retrieval).where(retrieval.c.retrieval_id.in_(ids)))
    return len(ids)


def _frozen_values(retrieval_id: str, position: int, frozen: FrozenInstance) -> dict[str, object]:
    return {
        "retrieval_id": retrieval_id,
        "sop_uid": frozen.ref.sop_uid,
        "position": position,
        "study_uid": frozen.ref.study_uid,
        "series_uid": frozen.ref.series_uid,
        "sop_class_uid": frozen.ref.sop_class_uid,
        "patient_row": frozen.patient_row,
        "decision_id": frozen.decision_id,
        "holder": frozen.source.code,
        "state": InstanceState.PENDING.value,
        "source": None,
        "noted_at": None,
        "digest": None,
        "data_bytes": 0,
        "words": "",
    }


def _instance(row: TableRow) -> LedgerInstance:
    ref = InstanceRef(row.study_uid, row.series_uid, row.sop_uid, row.sop_class_uid)
    return LedgerInstance(
        frozen=FrozenInstance(ref, TrustId(row.holder), row.patient_row, row.decision_id),
        state=InstanceState(row.state),
        source=TrustId(row.source) if row.source else None,
        noted_at=row.noted_at,
        digest=bytes(row.digest) if row.digest else b"",
        data_bytes=row.data_bytes,
        words=row.words,
    )
