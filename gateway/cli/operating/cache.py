"""`gateway cache`: how full the study cache of this node is; have it looked through, or emptied.

What it says is read from the index. What it does is queued as a job for the gateway of this node, which alone may
touch its packs; the command waits for that, and says so if no such gateway serves.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.operating import jobs as job_commands
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, Why
from gateway.cli.session import Session, author
from gateway.config.keeping import ObjectStore
from gateway.keeping.cache import Room
from gateway.keeping.objects import bucket_fault
from gateway.keeping.work import EVICT, VERIFY, kind_of
from gateway.model.errors import InvalidRequest, StoreUnavailable
from gateway.model.imaging import JsonValue
from gateway.model.work.commitments import Custody
from gateway.model.work.jobs import Job, JobState, Lane, NewJob
from storage.cache import census
from storage.database import Tx
from storage.observations.pseudonyms import pseudonyms
from storage.registers.state import record_change
from storage.work import commitments, jobs

app = typer.Typer(no_args_is_help=True, help="The sealed cache of studies of this node.")

NEEDED = frozenset({"cache", "jobs"})
POLL_S = 0.25
UNTAKEN_S = 10.0
"""A job that nobody has begun for so long waits for a gateway."""
UNTAKEN_UNHEARD_S = 4.0
"""The same where no gateway answers: it may run all the same, and be out of this command's reach."""

Everything = Annotated[bool, typer.Option("--all", help="Everything, but sole copies.")]


@app.command()
def status(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show what each class keeps, how much room it may take, and how much the disk has left."""

    async def work(opened: Session) -> None:
        configuration = opened.configuration
        found = await opened.store.read(partial(census.by_class, place=configuration.gateway.node))
        quota_bytes = configuration.cache.quota_bytes
        rows: list[console.Row] = [
            {
                "class": each.cache_class,
                "studies": each.studies,
                "instances": each.instances,
                "bytes": each.held_bytes,
                "bytes_max": quota_bytes[each.cache_class],
                "closed_studies": each.closed_studies,
                "quarantined": each.quarantined,
                "sole_copies": each.sole_copies,
                "oldest_sole_copy": each.oldest_sole_copy_at,
            }
            for each in found
        ]
        folder, reserve_bytes = configuration.cache_folder, configuration.cache.disk_reserve_bytes
        free_bytes = _free_bytes(Room(folder, reserve_bytes, opened.clock))
        bucket = configuration.cache.s3 if configuration.cache.store is ObjectStore.S3 else None
        fault = await _bucket_fault(opened) if bucket is not None else ""
        if as_json:
            disk = {"folder": str(folder), "free_bytes": free_bytes, "reserve_bytes": reserve_bytes}
            store = None if bucket is None else {"name": bucket.bucket, "fault": fault}
            console.show_json({"node": configuration.gateway.node, "classes": rows, "disk": disk, "bucket": store})
            return
        console.show(rows, as_json=False, empty="")
        if bucket is not None:
            console.say(f"bucket {bucket.bucket}: {fault or 'in reach'}")
        if free_bytes is None:
            console.say(f"{folder}: nothing is there: the gateway makes it at its first start")
        else:
            is_short = " (nothing more is taken in)" if free_bytes < reserve_bytes else ""
            console.say(f"{folder}: {free_bytes:,} bytes free, of which {reserve_bytes:,} are kept free{is_short}")

    session.run(config, work, NEEDED)


@app.command()
def sole(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the studies with images that nobody else is known to have, the oldest first, and what keeps them so."""

    async def work(opened: Session) -> None:
        node = opened.configuration.gateway.node
        found = await opened.store.read(partial(commitments.sole_copies, place=node))
        standing = await opened.store.read(partial(commitments.askings, place=node))
        taking = {entry.trust for entry in opened.configuration.destination if entry.custody is not Custody.NONE}
        rows: list[console.Row] = []
        for each in found:
            asking = standing.get((each.study_uid, each.custodian))
            why = "no [[destination]] with custody"
            if each.custodian in taking:
                why = "not asked yet" if asking is None else asking.words or "no answer yet"
            rows.append(
                {
                    "study": each.study_uid,
                    "custodian": each.custodian.code,
                    "instances": each.instances,
                    "quarantined": each.in_quarantine,
                    "bytes": each.held_bytes,
                    "oldest": each.oldest_at,
                    "tries": asking.tries if asking is not None else 0,
                    "asked": asking.asked_at if asking is not None else None,
                    "why": why,
                }
            )
        console.show(rows, as_json=as_json, empty="everything that is kept here is elsewhere as well")

    session.run(config, work, NEEDED | {"destination"})


@app.command()
def verify(
    by: By,
    study: Annotated[str, typer.Argument(help="A study by its UID. Default: everything.")] = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Open every instance from end to end, and put what does not open into quarantine; exit 1 if any did not."""
    detail: dict[str, JsonValue] = {"study": study} if study else {"everything": True}
    _have_done(config, VERIFY, detail, (by, ""), as_json=as_json)


@app.command()
def evict(
    by: By,
    study: Annotated[str, typer.Argument(help="A study by its UID.")] = "",
    everything: Everything = False,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Give a study up, or everything; it is fetched again when it is wanted. Sole copies stay (SAF-21)."""
    if bool(study) == everything:
        raise InvalidRequest("name a study, or say --all")
    detail: dict[str, JsonValue] = {"study": study} if study else {"everything": True}
    _have_done(config, EVICT, detail, (by, reason), as_json=as_json)


def _have_done(config: Config, what: str, detail: dict[str, JsonValue], why: tuple[str, str], *, as_json: bool) -> None:
    """Queue a job for this node's gateway, and wait for it."""
    ended: list[Job] = []

    async def work(opened: Session) -> None:
        who = author(*why)
        # Of its own key, so that it is not taken for the slice that is looked at every hour.
        new = NewJob(kind_of(what, opened.configuration.gateway.node), Lane.MEETING, detail, attempts_max=3)

        def queue(tx: Tx) -> str:
            job_id = jobs.enqueue(tx, new).job_id
            record_change(tx, who, "cache", what, job_id, dict(detail))
            return job_id

        job_id = await opened.store.write(queue)
        is_begun_soon = job_commands.is_begun_soon(opened, job_id)
        job = await _awaited(opened, job_id, UNTAKEN_S if is_begun_soon else UNTAKEN_UNHEARD_S)
        ended.append(job)
        console.show_one(job_commands.details(job, opened.now), as_json=as_json)
        if job.state is JobState.READY and is_begun_soon:
            console.complain(f"no gateway has begun it: gateway jobs show {job_id}")

    session.run(config, work, NEEDED)
    if ended and ended[0].state in (JobState.FAILED, JobState.CANCELLED):
        raise typer.Exit(1)


async def _awaited(opened: Session, job_id: str, untaken_s: float) -> Job:
    """The job at its end, or as it stands if nobody begins it in so many seconds."""
    progress, waiting_s = console.Progress("instances"), 0.0
    while True:
        job = await opened.store.read(partial(jobs.get, job_id=job_id))
        if not job.state.is_open or waiting_s >= untaken_s:
            break
        waiting_s = waiting_s + POLL_S if job.state is JobState.READY else 0.0
        progress.at(job.progress.instances_done)
        await asyncio.sleep(POLL_S)
    if job.progress.instances_done:
        progress.end(job.progress.instances_done)
    return job


async def _bucket_fault(opened: Session) -> str:
    stand_ins = pseudonyms(opened.configuration.storage.location_key)
    return await bucket_fault(opened.configuration, stand_ins, opened.clock)


def _free_bytes(room: Room) -> int | None:
    try:
        return room.free_bytes()
    except StoreUnavailable:
        return None
