"""`gateway reports acknowledge | follow-up | dispatch`: what a referrer, or a switchboard for one, says of a report.

An entry names who read it and when, beside whoever enters it (SAF-51). Several reports are acknowledged together but
those that are coded as alerts: each of them is to be read for itself (SAF-68).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, By, Config
from gateway.cli.release import acting
from gateway.cli.release.acting import Reason, Release, Report
from gateway.cli.session import author, instant
from gateway.release.referrers.referring import Referring
from storage.database import Tx
from storage.registers.state import Author

Reports = Annotated[list[str], typer.Argument(help="Ids, or codes of trusts and numbers: ODS:NUMBER.")]
Name = Annotated[str, typer.Option("--name", help="The professional who read it, or has seen to the patient.")]
At = Annotated[str, typer.Option("--at", help="When that was. Default: now.")]
Say = Callable[[Referring, Tx, str, datetime], bool]


def acknowledge(reports: Reports, name: Name, by: By, at: At = "", config: Config = DEFAULT_CONFIG) -> None:
    """Note who has read reports and will act on them: they are chased no more, an alert until its follow-up."""
    who = author(by, f"read by {name}")
    if len(reports) == 1:
        _note(config, reports[0], who, at, lambda said, tx, of, when: said.acknowledge(tx, of, name, when, who))
        return

    async def work(release: Release) -> None:
        when = instant(at) or release.opened.now
        ids = [await release.report_id(each) for each in reports]

        def body(tx: Tx) -> list[str]:
            for report_id in ids:
                release.planner.replan(tx, report_id, who)
            done = release.referring.acknowledge_many(tx, ids, name, when, who)
            for report_id in done.acknowledged:
                release.planner.replan(tx, report_id, who)
            noted = [each for each in ids if each not in (*done.acknowledged, *done.left_out)]
            return [
                *(f"{each}: acknowledged" for each in done.acknowledged),
                *(f"{each}: it was noted already" for each in noted),
                *(f"{each}: left out, it is to be read for itself" for each in done.left_out),
            ]

        console.say(*await release.opened.store.write(body))

    acting.run(config, work)


def follow_up(report: Report, name: Name, reason: Reason, by: By, at: At = "", config: Config = DEFAULT_CONFIG) -> None:
    """Note that the patient was seen to: ends the chase of an alert, and of a contact after a correction."""
    who = author(by, reason)
    _note(config, report, who, at, lambda said, tx, of, when: said.record_follow_up(tx, of, name, when, who))


def dispatch(
    report: Report,
    reference: Annotated[str, typer.Option(help="Control ID and positive answer, or the RIS's own word.")],
    by: By,
    at: At = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Note what proves that the referrer was sent the report: the disclaimer tells the patient so."""
    who = author(by, reference)
    _note(config, report, who, at, lambda said, tx, of, when: said.prove_dispatch(tx, of, reference, when, who))


def _note(config: Path, report: str, who: Author, at: str, say: Say) -> None:
    """Plan the report, so that its chase is there; note what was said; plan it by that."""

    async def work(release: Release) -> None:
        when = instant(at) or release.opened.now
        report_id = await release.report_id(report)

        def body(tx: Tx) -> bool:
            release.planner.replan(tx, report_id, who)
            changed = say(release.referring, tx, report_id, when)
            release.planner.replan(tx, report_id, who)
            return changed

        changed = await release.opened.store.write(body)
        console.say(f"{report_id}: {'noted' if changed else 'it was noted already'}")

    acting.run(config, work)
