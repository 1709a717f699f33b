"""Going on with a retrieval that ended with something missing: the jobs that do it, and what is still missing.

A job for each patient of it, so that an opt-out stops that patient's alone. What an attempt delivered stands in the
ledger under its job, so the next one, in this process or another, begins behind it.
"""

from __future__ import annotations

from sqlalchemy import select

from gateway.model.errors import InvalidRequest
from gateway.model.work.jobs import Job, Lane, NewJob, Ticket
from gateway.model.work.retrievals import InstanceState
from storage.database import Read, Tx
from storage.registers.state import Author, record_change
from storage.work import jobs
from storage.work.jobs import job
from storage.work.ledger import LedgerInstance, LedgerRetrieval, retrieval, retrieval_instance

RESUME = "retrieve-resume"
"""The kind of these jobs."""
ATTEMPTS_MAX = 50
"""Pauses grow to a quarter of an hour: half a day, for an archive that is away."""
_DELIVERED = (InstanceState.SENT, InstanceState.WARNING)


def begin(tx: Tx, found: LedgerRetrieval, author: Author) -> list[Ticket]:
    """Queue what goes on with it; one that is open already is the same. Raises `InvalidRequest` for nothing to do."""
    if found.ended_at is None:
        raise InvalidRequest("the retrieval is still under way")
    left = missing(tx, found)
    if not left:
        is_whole = all(each.state is not InstanceState.UNREAD for each in found.instances)
        what = "everything of the retrieval was delivered" if is_whole else "its caller wanted no more of the retrieval"
        raise InvalidRequest(what)
    tickets = [
        jobs.enqueue(
            tx,
            NewJob(
                RESUME,
                Lane.INTERACTIVE,
                {"retrieval": found.retrieval_id},
                dedupe_key=_key(found.retrieval_id, patient_row),
                patient_row=patient_row,
                attempts_max=ATTEMPTS_MAX,
            ),
        )
        for patient_row in sorted({each.frozen.patient_row for each in left})
    ]
    record_change(tx, author, "retrievals", "resume", found.retrieval_id, {"instances": len(left)})
    return tickets


def missing(read: Read, found: LedgerRetrieval, patient_row: str = "") -> list[LedgerInstance]:
    """Its instances, or a patient's of it, that neither it nor what went on with it has delivered, in its order."""
    of = retrieval_instance.c
    later = (
        select(of.sop_uid)
        .join_from(retrieval_instance, retrieval, of.retrieval_id == retrieval.c.retrieval_id)
        .where(
            retrieval.c.frozen_at >= found.frozen_at,
            retrieval.c.job_id.in_([each.job_id for each in jobs_of(read, found.retrieval_id)]),
            of.state.in_([state.value for state in _DELIVERED]),
        )
    )
    delivered = set(read.connection.execute(later).scalars())
    return [
        each
        for each in found.instances
        if each.state not in (*_DELIVERED, InstanceState.UNREAD)
        and each.frozen.ref.sop_uid not in delivered
        and patient_row in ("", each.frozen.patient_row)
    ]


def jobs_of(read: Read, retrieval_id: str) -> list[Job]:
    """The jobs that went or go on with a retrieval, the oldest first."""
    of = select(job.c.job_id).where(
        job.c.kind == RESUME, job.c.dedupe_key.startswith(_key(retrieval_id, ""), autoescape=True)
    )
    ids = read.connection.execute(of.order_by(job.c.created_at, job.c.job_id).limit(jobs.LIST_MAX)).scalars()
    return [jobs.get(read, job_id) for job_id in list(ids)]


def _key(retrieval_id: str, patient_row: str) -> str:
    return f"{RESUME}/{retrieval_id}/{patient_row}"
