"""`gateway jobs`: durable work, what is queued, what runs and how far it is, what failed and why.

The table is the truth, so these commands need no gateway that serves: one that does takes over within a moment what
is cancelled or tried again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.operating import status
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, Why
from gateway.cli.session import Session, author
from gateway.model.work.jobs import Job, JobState
from storage.work import jobs

app = typer.Typer(no_args_is_help=True, help="Durable work: queued, running, done, failed, cancelled.")

JobId = Annotated[str, typer.Argument(help="As `gateway jobs list` shows it.")]
States = Annotated[list[JobState] | None, typer.Option("--state", help="Only these; may be given again.")]
Kind = Annotated[str, typer.Option(help="Only jobs of this kind.")]
CountMax = Annotated[int, typer.Option("--count-max", min=1, max=jobs.LIST_MAX, help="At most so many.")]


@app.command("list")
def list_(
    state: States = None,
    kind: Kind = "",
    count_max: CountMax = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List jobs, the most urgent and earliest first: those that are queued or run, unless --state says otherwise."""

    async def work(opened: Session) -> None:
        states: Sequence[JobState] = state or [each for each in JobState if each.is_open or each is JobState.FAILED]
        found = await opened.store.read(partial(jobs.listed, states=states, kind=kind, limit=count_max))
        console.show([_row(job, opened.now) for job in found], as_json=as_json, empty="no such job")

    session.run(config, work)


@app.command()
def show(job: JobId, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show a job with how far it is and, if it failed, why."""

    async def work(opened: Session) -> None:
        found = await opened.store.read(partial(jobs.get, job_id=job))
        console.show_one(details(found, opened.now), as_json=as_json)

    session.run(config, work)


@app.command()
def cancel(job: JobId, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Have a job not done: at once if nobody runs it, else as soon as its runner can stop."""

    async def work(opened: Session) -> None:
        who = author(by, reason)
        found = await opened.store.write(lambda tx: jobs.cancel(tx, job, who))
        console.show_one(details(found, opened.now), as_json=as_json)

    session.run(config, work)


@app.command()
def retry(job: JobId, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Have a job done that failed or was cancelled, with all its attempts."""

    async def work(opened: Session) -> None:
        who = author(by, reason)
        found = await opened.store.write(lambda tx: jobs.retry(tx, job, who))
        console.show_one(details(found, opened.now), as_json=as_json)
        is_begun_soon(opened, job)

    session.run(config, work)


def is_begun_soon(opened: Session, job_id: str) -> bool:
    """Whether this node's gateway answers, which begins what was queued; complains at once if it does not."""
    if status.asked(opened.configuration.listen.people) is not None:
        return True
    waits = "this node's gateway does not answer, and the job is queued until it runs"
    console.complain(f"{waits}: gateway jobs show {job_id}")
    return False


def details(job: Job, now: datetime) -> dict[str, object]:
    """A job with everything that may be shown of it: its detail holds identifiers, never text of a patient."""
    progress = job.progress
    return {
        **_row(job, now),
        "attempts": f"{job.attempts} of {job.attempts_max}",
        "queued_at": job.created_at,
        "not_before": job.run_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "runner": job.owner,
        "lease_until": job.lease_until,
        "cancel_requested": job.is_cancel_requested,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        **{f"of_{name}": value for name, value in sorted(job.detail.items())},
    }


def _row(job: Job, now: datetime) -> dict[str, console.Cell]:
    progress, elapsed_s = job.progress, 0.0
    if job.state is JobState.RUNNING and job.started_at is not None:
        elapsed_s = (now - job.started_at).total_seconds()
    remaining_s = progress.remaining_s(elapsed_s)
    total = "" if progress.instances_total is None else f" of {progress.instances_total:,}"
    return {
        "job": job.job_id,
        "kind": job.kind,
        "lane": job.lane.word,
        "state": job.state,
        "instances": f"{progress.instances_done:,}{total}",
        "seconds_left": None if remaining_s is None else round(remaining_s),
        "failure": job.failure,
        "words": job.words,
    }
