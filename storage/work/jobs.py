"""The jobs table: queue, claim with a lease, renew, end, cancel, retry. The row is the truth; runners only look.

A claim is fenced by owner and attempt: a runner that lost its lease can neither end nor move on what another has taken
over. Jobs are claimed lane by lane in the order in which they are due, by an index that holds the ready ones alone, so
a hundred thousand that wait cost no more than a thousand. Queueing and ending may share a transaction with anything
else of the store (DEC-11). Knows no handler.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    false,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.errors import InvalidRequest, StoreUnavailable
from gateway.model.faults import faultpoint
from gateway.model.work.jobs import (
    Claim,
    FailureKind,
    Job,
    JobState,
    Lane,
    NewJob,
    Progress,
    RetryTerms,
    Ticket,
)
from storage.database import Read, Tx
from storage.registers.state import Author, record_change
from storage.tables.columns import Instant, Json, TableRow, among, metadata

REGISTER = "jobs"
WORDS_MAX = 500
"""Characters kept of why a job failed."""
EXPIRED_AT_ONCE_MAX = 200
"""Jobs whose lease ended that are given back in one transaction."""
LIST_MAX = 1_000
_ATTEMPTS_MAX = 3

job = Table(
    "job",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("dedupe_key", Text),
    Column("patient_row", Text, nullable=False),
    Column("detail", Json, nullable=False),
    Column("run_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("attempts_max", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until", Instant),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("is_cancel_requested", Boolean, nullable=False),
    Column("is_wanted_again", Boolean, nullable=False, server_default=false()),
    Column("failure", Text),
    Column("words", Text, nullable=False),
    Column("instances_done", BigInteger, nullable=False),
    Column("instances_total", BigInteger),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger),
)

IS_READY = job.c.state == JobState.READY.value
IS_RUNNING = job.c.state == JobState.RUNNING.value
IS_OPEN = among(job.c.state, (JobState.READY.value, JobState.RUNNING.value))

Index(
    "ix_job_ready",
    job.c.lane,
    job.c.run_at,
    job.c.job_id,
    sqlite_where=IS_READY,
    postgresql_where=IS_READY,
)
Index("ix_job_running", job.c.lease_until, sqlite_where=IS_RUNNING, postgresql_where=IS_RUNNING)
Index("uq_job_dedupe", job.c.dedupe_key, unique=True, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)
Index("ix_job_patient", job.c.patient_row, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)

_MINE = (
    (job.c.job_id == bindparam("of_job"))
    & (job.c.owner == bindparam("of_owner"))
    & (job.c.attempts == bindparam("of_attempt"))
    & IS_RUNNING
)


def enqueue(tx: Tx, new: NewJob) -> Ticket:
    """Queue a job. One that is open under the same key is made as urgent and as early as this one, never less."""
    run_at = new.run_at or tx.now
    for _ in range(_ATTEMPTS_MAX):
        found = _urged(tx, new, run_at) if new.dedupe_key else None
        if found is not None:
            return Ticket(found, False)
        job_id = tx.new_id()
        if _inserted(tx, job_id, new, run_at):
            return Ticket(job_id, True)
    raise StoreUnavailable("other processes queue the same job again and again")


def claim(
    tx: Tx, owner: str, lane: Lane, limit: int, lease: timedelta, *, kinds: Collection[str], lease_now: datetime
) -> list[Job]:
    """Take up to `limit` ready jobs of a lane that are due, the earliest first; each begins a new attempt.

    `lease_now` is the clock by which every node counts leases: the database's, where several nodes share one.
    """
    due = (
        select(job.c.job_id)
        .where(IS_READY, job.c.lane == lane.value, job.c.run_at <= tx.now, job.c.kind.in_(sorted(kinds)))
        .order_by(job.c.run_at, job.c.job_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    # Materialised, because PostgreSQL may plan a subquery with a limit anew and take more than the limit.
    picked = due.cte("picked").prefix_with("MATERIALIZED", dialect="postgresql")
    taken = (
        update(job)
        .where(job.c.job_id.in_(select(picked.c.job_id)))
        .values(
            state=JobState.RUNNING.value,
            owner=owner,
            attempts=job.c.attempts + 1,
            lease_until=lease_now + lease,
            started_at=tx.now,
            is_wanted_again=False,
        )
        .returning(job)
    )
    faultpoint("jobs.claim.before")
    return sorted(map(_job, tx.connection.execute(taken)), key=lambda each: (each.run_at, each.job_id))


def renew(tx: Tx, claims: Sequence[Claim], lease: timedelta, *, lease_now: datetime) -> dict[Claim, bool]:
    """Hold these for another lease; those that are still held, and whether each is to be cancelled."""
    if not claims:
        return {}
    held = tuple_(job.c.job_id, job.c.owner, job.c.attempts).in_(
        [(each.job_id, each.owner, each.attempt) for each in claims]
    )
    renewed = (
        update(job)
        .where(held, IS_RUNNING)
        .values(lease_until=lease_now + lease)
        .returning(job.c.job_id, job.c.owner, job.c.attempts, job.c.is_cancel_requested)
    )
    return {
        Claim(row.job_id, row.owner, row.attempts): row.is_cancel_requested for row in tx.connection.execute(renewed)
    }


def give_back_expired(tx: Tx, *, lease_now: datetime) -> int:
    """Jobs whose runner is gone become ready, those that spent all attempts failed; how many there were."""
    expired = select(job).where(IS_RUNNING, job.c.lease_until < lease_now).order_by(job.c.lease_until)
    found = tx.connection.execute(expired.limit(EXPIRED_AT_ONCE_MAX).with_for_update(skip_locked=True)).all()
    for row in found:
        lost = Claim(row.job_id, row.owner, row.attempts)
        if row.is_cancel_requested:
            _end(tx, lost, JobState.CANCELLED)
        elif row.attempts >= row.attempts_max:
            _end(tx, lost, JobState.FAILED, FailureKind.TRANSIENT, f"its runner was lost {row.attempts} times")
        else:
            _ready_again(tx, lost, tx.now, None, "its runner was lost")
    return len(found)


def advance(tx: Tx, held: Claim, progress: Progress) -> bool:
    """Write down how far it is; False if it is somebody else's by now."""
    values = {
        "instances_done": progress.instances_done,
        "instances_total": progress.instances_total,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
    }
    return tx.connection.execute(update(job).where(_MINE).values(values), _of(held)).rowcount == 1


def finish(tx: Tx, held: Claim) -> bool:
    """It is done; False if it is somebody else's by now."""
    faultpoint("jobs.finish.before")
    return _end(tx, held, JobState.DONE)


def fail(tx: Tx, held: Claim, kind: FailureKind, words: str, terms: RetryTerms) -> bool:
    """Its attempt failed: it waits for another one if time may help and one is left.

    False if it is somebody else's by now.
    """
    found = tx.connection.execute(select(job).where(_MINE).with_for_update(), _of(held)).one_or_none()
    if found is None:
        return False
    if found.is_cancel_requested:
        return _end(tx, held, JobState.CANCELLED)
    if kind is FailureKind.TRANSIENT and found.attempts < found.attempts_max:
        return _ready_again(tx, held, tx.now + terms.pause(found.attempts), kind, words)
    return _end(tx, held, JobState.FAILED, kind, words)


def give_back(tx: Tx, held: Claim) -> bool:
    """Its runner stops in order: the attempt does not count. False if it is somebody else's by now."""
    asked = select(job.c.is_cancel_requested).where(_MINE).with_for_update()
    if tx.connection.execute(asked, _of(held)).scalar_one_or_none():
        return _end(tx, held, JobState.CANCELLED)
    values = {"state": JobState.READY.value, "lease_until": None, "attempts": job.c.attempts - 1}
    return tx.connection.execute(update(job).where(_MINE).values(values), _of(held)).rowcount == 1


def stopped(tx: Tx, held: Claim) -> bool:
    """It was stopped as was asked; False if it is somebody else's by now."""
    return _end(tx, held, JobState.CANCELLED)


def cancel(tx: Tx, job_id: str, author: Author) -> Job:
    """Have a job not done: at once if nobody runs it, else as soon as its runner can stop.

    Raises `InvalidRequest` for one that is unknown or has ended.
    """
    found = get(tx, job_id)
    if not found.state.is_open:
        raise InvalidRequest(f"the job is {found.state.value} already")
    _cancel(tx, [job_id], author.reason or "by a person")
    record_change(tx, author, REGISTER, "cancel", job_id)
    return get(tx, job_id)


def cancel_of_patient(tx: Tx, patient_row: str, words: str) -> int:
    """Have nothing more done for a patient, in the transaction that says why; how many jobs that is."""
    found = select(job.c.job_id).where(job.c.patient_row == patient_row, IS_OPEN)
    ids = list(tx.connection.execute(found).scalars())
    _cancel(tx, ids, words)
    return len(ids)


def retry(tx: Tx, job_id: str, author: Author) -> Job:
    """Have a job done that failed or was cancelled, with all its attempts. Raises `InvalidRequest`."""
    found = tx.connection.execute(select(job).where(job.c.job_id == job_id)).one_or_none()
    if found is None:
        raise InvalidRequest("no such job")
    if JobState(found.state) not in (JobState.FAILED, JobState.CANCELLED):
        raise InvalidRequest(f"the job is {found.state}: only one that failed or was cancelled is tried again")
    if found.dedupe_key:
        same = select(job.c.job_id).where(job.c.dedupe_key == found.dedupe_key, IS_OPEN)
        other = tx.connection.execute(same).scalar_one_or_none()
        if other is not None:
            raise InvalidRequest(f"job {other} does the same already")
    values = {
        "state": JobState.READY.value,
        "run_at": tx.now,
        "attempts": 0,
        "ended_at": None,
        "failure": None,
        "words": "",
        "is_cancel_requested": False,
    }
    tx.connection.execute(update(job).where(job.c.job_id == job_id).values(values))
    record_change(tx, author, REGISTER, "retry", job_id)
    return get(tx, job_id)


def get(read: Read, job_id: str) -> Job:
    """One job; raises `InvalidRequest` for one that is unknown."""
    found = read.connection.execute(select(job).where(job.c.job_id == job_id)).one_or_none()
    if found is None:
        raise InvalidRequest("no such job")
    return _job(found)


def listed(read: Read, states: Collection[JobState] = (), kind: str = "", limit: int = LIST_MAX) -> list[Job]:
    """Jobs in these states (none named: all), the most urgent and earliest first."""
    statement = select(job).order_by(job.c.lane, job.c.run_at, job.c.job_id).limit(min(limit, LIST_MAX))
    if states:
        statement = statement.where(job.c.state.in_(sorted(state.value for state in states)))
    if kind:
        statement = statement.where(job.c.kind == kind)
    return [_job(row) for row in read.connection.execute(statement)]


def _urged(tx: Tx, new: NewJob, run_at: datetime) -> str | None:
    """The open job of the same key, made as urgent and as early as the new one, or to be run again as that one is."""
    same = select(job).where(job.c.dedupe_key == new.dedupe_key, IS_OPEN)
    found = tx.connection.execute(same.with_for_update()).one_or_none()
    if found is None:
        return None
    sooner = {"lane": min(found.lane, new.lane.value), "run_at": min(found.run_at, run_at)}
    is_ending = found.is_cancel_requested or new.follows_running
    if found.state == JobState.RUNNING.value and is_ending and not found.is_wanted_again:
        # Its attempts go on counting, because a claim is told from an earlier one by their number.
        sooner |= {"run_at": run_at, "is_wanted_again": True, "attempts_max": found.attempts + new.attempts_max}
    tx.connection.execute(update(job).where(job.c.job_id == found.job_id, IS_OPEN).values(sooner))
    return str(found.job_id)


def _inserted(tx: Tx, job_id: str, new: NewJob, run_at: datetime) -> bool:
    """Whether the row is there now; False where another process has put in an open job of the same key."""
    values = {
        "job_id": job_id,
        "kind": new.kind,
        "lane": new.lane.value,
        "state": JobState.READY.value,
        "dedupe_key": new.dedupe_key or None,
        "patient_row": new.patient_row,
        "detail": dict(new.detail),
        "run_at": run_at,
        "attempts": 0,
        "attempts_max": new.attempts_max,
        "owner": "",
        "created_at": tx.now,
        "is_cancel_requested": False,
        "words": "",
        "instances_done": 0,
        "bytes_done": 0,
    }
    engine = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    statement = engine.insert(job).values(values).on_conflict_do_nothing().returning(job.c.job_id)
    return tx.connection.execute(statement).one_or_none() is not None


def _cancel(tx: Tx, job_ids: Sequence[str], words: str) -> None:
    told = {"is_cancel_requested": True, "is_wanted_again": False, "words": words[:WORDS_MAX]}
    tx.connection.execute(update(job).where(job.c.job_id.in_(job_ids), IS_RUNNING).values(told))
    ended = {**told, "state": JobState.CANCELLED.value, "ended_at": tx.now}
    tx.connection.execute(update(job).where(job.c.job_id.in_(job_ids), IS_READY).values(ended))


def _end(tx: Tx, held: Claim, state: JobState, failure: FailureKind | None = None, words: str = "") -> bool:
    """It comes to its end, but one that was asked for again since it began: that is ready for its next run."""
    values: dict[str, object] = {"state": state.value, "lease_until": None, "ended_at": tx.now}
    if state is not JobState.CANCELLED:  # whoever cancelled it has said why
        values |= {"failure": failure.value if failure is not None else None, "words": words[:WORDS_MAX]}
    ended = update(job).where(_MINE, ~job.c.is_wanted_again).values(values)
    if tx.connection.execute(ended, _of(held)).rowcount == 1:
        return True
    again = {
        "state": JobState.READY.value,
        "lease_until": None,
        "is_cancel_requested": False,
        "is_wanted_again": False,
        "failure": None,
        "words": "",
    }
    return tx.connection.execute(update(job).where(_MINE).values(again), _of(held)).rowcount == 1


def _ready_again(tx: Tx, held: Claim, run_at: datetime, failure: FailureKind | None, words: str) -> bool:
    values = {
        "state": JobState.READY.value,
        "lease_until": None,
        "run_at": run_at,
        "failure": failure.value if failure is not None else None,
        "words": words[:WORDS_MAX],
    }
    return tx.connection.execute(update(job).where(_MINE).values(values), _of(held)).rowcount == 1


def _of(held: Claim) -> dict[str, object]:
    return {"of_job": held.job_id, "of_owner": held.owner, "of_attempt": held.attempt}


def _job(row: TableRow) -> Job:
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        lane=Lane(row.lane),
        state=JobState(row.state),
        detail=row.detail,
        patient_row=row.patient_row,
        run_at=row.run_at,
        attempts=row.attempts,
        attempts_max=row.attempts_max,
        created_at=row.created_at,
        owner=row.owner,
        lease_until=row.lease_until,
        started_at=row.started_at,
        ended_at=row.ended_at,
        is_cancel_requested=row.is_cancel_requested,
        failure=FailureKind(row.failure) if row.failure else None,
        words=row.words,
        progress=Progress(row.instances_done, row.instances_total, row.bytes_done, row.bytes_total),
    )
