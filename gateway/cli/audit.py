"""`gateway audit`: verify the chains, read records, export them, bear witness, accept a restore.

Reading the audit is itself recorded (PS3.15 A.5, Audit Log Used). `verify` names the first broken record of each chain.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated

import orjson
import typer

from gateway import guards
from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.session import Session, author, instant
from gateway.model.audit import AuditEntry, AuditEvent, AuditRecord, ChainHead
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import JsonValue
from storage import audit_log
from storage.checkpoints import accept_restore, check_rollback
from storage.checkpoints import checkpoint as bear_witness

RECORDS_SHOWN_MAX = 1_000

app = typer.Typer(no_args_is_help=True, help="The audit: verify, read, export.")


@app.command()
def verify(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Walk every chain and compare it with the second place; exit 1 and name the first broken record, if any is."""

    async def work(opened: Session) -> bool:
        anchors, problems = await _witness(opened)
        progress = console.Progress("audit records verified")
        found = await audit_log.verify(opened.store.database, anchors, progress.at)
        if not as_json:
            progress.end(found.records)
        rows: list[console.Row] = [
            {"node": head.node, "records": head.sequence, "state": "whole", "first_broken": None, "problem": ""}
            for head in found.heads
        ]
        rows += [
            {
                "node": broken.node,
                "records": None,
                "state": "BROKEN",
                "first_broken": broken.sequence,
                "problem": broken.problem,
            }
            for broken in found.breaks
        ]
        is_whole = found.is_whole and not problems
        if as_json:
            whole = {"whole": is_whole, "records": found.records, "witnessed": len(anchors)}
            console.show_one({**whole, "chains": rows, "problems": problems}, as_json=True)
        else:
            console.show(rows, as_json=False, empty="the audit is empty")
            console.say(*(f"second place: {problem}" for problem in problems))
            console.say(f"{'whole' if is_whole else 'NOT WHOLE'}; {len(anchors)} chain ends are witnessed to elsewhere")
        return is_whole

    if not session.run(config, work):
        raise typer.Exit(1)


@app.command()
def show(
    by: By,
    since: Annotated[str, typer.Option(help="From then on. Default: an hour ago.")] = "",
    until: Annotated[str, typer.Option(help="Before then. Default: now.")] = "",
    request: Annotated[str, typer.Option(help="Instead: all records of one request.")] = "",
    event: Annotated[AuditEvent | None, typer.Option(help="Of a period: this kind of entry alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=RECORDS_SHOWN_MAX)] = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show records: of a period, or of a request. That they were read is recorded."""

    async def work(opened: Session) -> None:
        begins = instant(since) or opened.now - timedelta(hours=1)
        ends = instant(until) or opened.now
        asked: dict[str, JsonValue] = (
            {"request": request} if request else {"since": begins.isoformat(), "until": ends.isoformat()}
        )
        if event is not None:
            asked["event"] = event.value
        await _record_reading(opened, by, asked)
        if request:
            found = await opened.store.read(lambda read: audit_log.of_request(read, request))
        else:
            found = await opened.store.read(lambda read: audit_log.between(read, begins, ends, limit, event))
        if as_json:
            console.show_json([_whole(entry) for entry in found[:limit]])
        else:
            console.show([_line(entry) for entry in found[:limit]], as_json=False, empty="no record")

    session.run(config, work)


@app.command()
def export(
    by: By,
    node: Annotated[str, typer.Option(help="Only this chain. Default: all, one after the other.")] = "",
    after: Annotated[int, typer.Option(min=0, help="With --node: continue behind this record.")] = 0,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write whole records to standard output, one JSON line each, in the order of their chains."""
    if after and not node:
        raise InvalidRequest("--after continues one chain: name it by --node")

    async def work(opened: Session) -> None:
        await _record_reading(opened, by, {"export": node or "all", "after": after})
        chains = [node] if node else await opened.store.read(audit_log.nodes)
        progress, done = console.Progress("audit records exported"), 0
        for chain in chains:
            last = after
            while page := await opened.store.read(partial(audit_log.page, node=chain, after=last)):
                for entry in page:
                    sys.stdout.buffer.write(orjson.dumps(_whole(entry)) + b"\n")
                done, last = done + len(page), page[-1].sequence
                progress.at(done)
        sys.stdout.buffer.flush()
        progress.end(done)

    session.run(config, work)


@app.command()
def checkpoint(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Bear witness now to the ends of all chains, in the database and in the second place."""

    async def work(opened: Session) -> None:
        configuration = opened.configuration
        key = guards.signing_key(configuration)
        await guards.refuse_roll_back(configuration, opened.store, key)
        made = await bear_witness(opened.store.database, guards.anchor_file(configuration), key)
        ends = [f"{head.node} {head.sequence}" for head in made.heads]
        console.show_one(
            {"checkpoint": made.number, "at": made.at, "chains": ends, "key": made.key_id}, as_json=as_json
        )

    session.run(config, work)


@app.command("accept-restore")
def accept_restore_(
    by: By,
    reason: Annotated[str, typer.Option(help="Why the database was put back: stands in the audit.")],
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say that a rolled-back database is a wanted restore; the gateway starts again after that."""

    async def work(opened: Session) -> None:
        configuration = opened.configuration
        key, anchors = guards.signing_key(configuration), guards.anchor_file(configuration)
        found = await accept_restore(opened.store.database, anchors, key, author(by, reason))
        lost = {
            "register_writes_lost": found.register_versions_lost,
            "opt_out_events_lost": found.opt_out_events_lost,
            "last_witness_at": found.last_witness_at,
        }
        console.show_one({"accepted": True, **lost}, as_json=as_json)
        if found.opt_out_events_lost and not as_json:
            console.say("enter the lost opt-out events again before the gateway serves (SAF-25)")

    session.run(config, work)


async def _witness(opened: Session) -> tuple[Sequence[ChainHead], list[str]]:
    """The chain ends that the second place bears witness to, and what is wrong with it."""
    configuration = opened.configuration
    if not configuration.audit.signing_key.exists() and not configuration.audit.anchor_path.exists():
        return (), []  # nothing was ever signed here
    key, anchors = guards.verifying_key(configuration), guards.anchor_file(configuration)
    witness = await asyncio.to_thread(anchors.read, key)
    rolled_back = await check_rollback(opened.store.database, anchors, key)
    problems = [*witness.problems, *(rolled_back.problems if rolled_back is not None else ())]
    return witness.anchors(), list(dict.fromkeys(problems))


async def _record_reading(opened: Session, by: str, body: dict[str, JsonValue]) -> None:
    who = author(by)
    entry = AuditEntry(AuditEvent.AUDIT_READ, opened.now, who.request_id, {**body, "by": who.subject})
    await opened.store.append_audit(entry)


def _line(entry: AuditRecord) -> console.Row:
    said = audit_log.contents(entry)
    body = said.get("body")
    summary = body if isinstance(body, dict) else {}
    words = ("result", "act", "register", "alert", "reason", "by", "returned", "withheld", "read", "replayed")
    told = [f"{word}={summary[word]}" for word in words if summary.get(word) not in (None, "")]
    return {
        "node": entry.node,
        "record": entry.sequence,
        "at": str(said.get("at", "")),
        "event": str(said.get("event", "")),
        "request": str(said.get("request", "")),
        "says": " ".join(told),
    }


def _whole(entry: AuditRecord) -> dict[str, object]:
    return {
        "node": entry.node,
        "record": entry.sequence,
        "hash": entry.hash,
        "previous": entry.previous,
        "said": audit_log.contents(entry),
    }
