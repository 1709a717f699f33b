"""`gateway retrieve`: what callers are having sent, how far it is, and what of it failed and why.

The ledger is the truth, so these commands need no gateway that serves. Patients stand there by internal rows, and no
name or number is shown.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.operating import jobs as job_commands
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, Why
from gateway.cli.session import Session, author, trust_of
from gateway.model.seams import RECEIVED_AND_WITHDRAWN
from gateway.model.work.jobs import Job, Progress
from gateway.model.work.retrievals import Halt, InstanceState
from storage.registers import quality
from storage.work import overview, resumption
from storage.work.ledger import LedgerRetrieval, SqlLedger

app = typer.Typer(no_args_is_help=True, help="Retrievals: how far they are, what failed.")

RetrievalId = Annotated[str, typer.Argument(help="As `gateway retrieve list` shows it.")]
CountMax = Annotated[int, typer.Option("--count-max", min=1, max=overview.RETRIEVALS_MAX, help="At most so many.")]
Open = Annotated[bool, typer.Option("--open", help="Only those under way.")]
Failed = Annotated[bool, typer.Option("--failed", help="Only those of which something failed.")]


@app.command("list")
def list_(
    open_: Open = False,
    failed: Failed = False,
    count_max: CountMax = 50,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List retrievals, the newest first."""

    async def work(opened: Session) -> None:
        read = partial(overview.recent, only_open=open_, only_failed=failed, limit=count_max)
        rows = [_row(each) for each in await opened.store.read(read)]
        console.show(rows, as_json=as_json, empty="no such retrieval")

    session.run(config, work)


@app.command()
def show(retrieval: RetrievalId, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show a retrieval study by study, every instance that failed, with why, and what went before policy stopped it."""

    async def work(opened: Session) -> None:
        found = await SqlLedger(opened.store, opened.store.node).show(retrieval)
        read = partial(resumption.jobs_of, retrieval_id=found.retrieval_id)
        resumed = [_resumed(each) for each in await opened.store.read(read)]
        head = {**_head(found), **_progress(found, opened.now)}
        if as_json:
            lists = {"studies": _studies(found), "failures": _failures(found), "delivered": _delivered(found)}
            console.show_json({**head, **lists, "resumed": resumed})
            return
        console.show_one(head, as_json=False)
        console.say("")
        console.show(_studies(found), as_json=False, empty="no instances")
        if _failures(found):
            console.say("")
            console.show(_failures(found), as_json=False, empty="")
        if _delivered(found):
            console.say("")
            console.show(_delivered(found), as_json=False, empty="")
        if resumed:
            console.say("")
            console.show(resumed, as_json=False, empty="")

    session.run(config, work)


@app.command()
def resume(
    retrieval: RetrievalId, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Have what is missing of a retrieval sent to where it was going, or, where its caller fetched it, kept at hand.

    In the caller's name and by what may be had now. A gateway that serves does it; `retrieve show` says how far it is.
    """

    async def work(opened: Session) -> None:
        who = author(by, reason)
        found = await SqlLedger(opened.store, opened.store.node).show(retrieval)
        tickets = await opened.store.write(lambda tx: resumption.begin(tx, found, who))
        rows: list[console.Row] = [
            {"job": ticket.job_id, "is": "queued" if ticket.is_new else "queued before"} for ticket in tickets
        ]
        console.show(rows, as_json=as_json, empty="")
        job_commands.is_begun_soon(opened, tickets[0].job_id)

    session.run(config, work)


@app.command()
def told(
    trust: Annotated[str, typer.Option(help="Only what this trust received, by ODS code.")] = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List who has images that are no more at their source. Closed by `gateway quality resolve`."""

    async def work(opened: Session) -> None:
        recipient = trust_of(trust) if trust else None
        found = await opened.store.read(lambda read: quality.open_items(read, recipient))
        rows = [_told(each) for each in found if each.item.kind == RECEIVED_AND_WITHDRAWN]
        console.show(rows, as_json=as_json, empty="nobody has images that were withdrawn")

    session.run(config, work)


def _told(each: quality.OpenItem) -> dict[str, console.Cell]:
    detail = each.item.detail
    source, why, instances, retrievals = (detail.get(name) for name in ("source", "why", "instances", "retrievals"))
    return {
        "item": each.item_id,
        "trust": each.item.custodian.code,
        "study": each.item.study_uid,
        "withdrawn_at": str(source),
        "why": why if isinstance(why, str) else "",
        "instances": instances if isinstance(instances, int) else None,
        "since": each.opened_at,
        "retrievals": ", ".join(map(str, retrievals)) if isinstance(retrievals, list) else "",
    }


def _row(each: overview.Glance) -> dict[str, console.Cell]:
    counts = each.counts
    return {
        "retrieval": each.retrieval_id,
        "caller": each.subject,
        "for": each.recipient.code,
        "to": each.destination,
        "begun_at": each.frozen_at,
        "state": each.halted or ("under way" if each.ended_at is None else "ended"),
        "instances": f"{counts.completed + counts.warning:,} of {counts.total:,}",
        "failed": counts.failed,
        "megabytes": round(each.data_bytes / 1e6, 1),
    }


def _head(found: LedgerRetrieval) -> dict[str, object]:
    counts = found.counts
    return {
        "retrieval": found.retrieval_id,
        "request": found.request_id,
        "node": found.node,
        "caller": found.subject,
        "for": found.recipient.code,
        "to": found.destination,
        "begun_at": found.frozen_at,
        "ended_at": found.ended_at,
        "stopped": found.halted.value if found.halted is not None else "",
        "sent": counts.completed,
        "with_warning": counts.warning,
        "failed": counts.failed,
        "remaining": counts.remaining,
    }


def _progress(found: LedgerRetrieval, now: datetime) -> dict[str, object]:
    """How far it is, and how long it takes still at the pace so far."""
    counts = found.counts
    sent_bytes = sum(each.data_bytes for each in found.instances if each.state.is_ended)
    progress = Progress(counts.total - counts.remaining, counts.total, sent_bytes)
    remaining_s = progress.remaining_s((now - found.frozen_at).total_seconds()) if found.ended_at is None else None
    return {"bytes": sent_bytes, "seconds_left": None if remaining_s is None else round(remaining_s)}


def _resumed(job: Job) -> dict[str, console.Cell]:
    progress = job.progress
    total = "" if progress.instances_total is None else f" of {progress.instances_total:,}"
    return {
        "resumed_by": job.job_id,
        "state": job.state,
        "instances": f"{progress.instances_done:,}{total}",
        "attempts": job.attempts,
        "words": job.words,
    }


def _studies(found: LedgerRetrieval) -> list[dict[str, console.Cell]]:
    counted: Counter[tuple[str, str, InstanceState]] = Counter()
    for each in found.instances:
        source = each.source or each.frozen.source
        counted[each.frozen.ref.study_uid, source.code, each.state] += 1
    return [
        {"study": study, "from": source, "state": state.value, "instances": count}
        for (study, source, state), count in sorted(counted.items())
    ]


def _failures(found: LedgerRetrieval) -> list[dict[str, console.Cell]]:
    return [
        {"instance": each.frozen.ref.sop_uid, "from": (each.source or each.frozen.source).code, "words": each.words}
        for each in found.instances
        if each.state is InstanceState.FAILED
    ]


def _delivered(found: LedgerRetrieval) -> list[dict[str, console.Cell]]:
    """What went before policy stopped the rest: somebody may have to ask for it back."""
    if found.halted is not Halt.POLICY:
        return []
    return [
        {"instance": each.frozen.ref.sop_uid, "from": (each.source or each.frozen.source).code, "at": each.noted_at}
        for each in found.instances
        if each.state in (InstanceState.SENT, InstanceState.WARNING)
    ]
