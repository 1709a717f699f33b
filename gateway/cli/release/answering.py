"""`gateway reports acknowledge | follow-up | dispatch`: what a referrer, or a switchboard for one, says of a report.

An entry names who read it and when, beside whoever enters it (SAF-51). Several reports are acknowledged together but
those that are coded as alerts: each of them is to be read for itself (SAF-68).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, By, Config
from gateway.cli.release import acting
from gateway.cli.release.acting import OfVersion, Reason, Release, Report
from gateway.cli.session import author, instant
from gateway.model.errors import InvalidRequest
from gateway.release.referrers.referring import Answer, Referring
from gateway.release.staff.answering import acknowledged, noted
from storage.database import Tx
from storage.registers.state import Author

Reports = Annotated[list[str], typer.Argument(help="Ids, or codes of trusts and numbers: ODS:NUMBER.")]
Name = Annotated[str, typer.Option("--name", help="The professional who read it, or has seen to the patient.")]
At = Annotated[str, typer.Option("--at", help="When that was. Default: now.")]
OfVersions = Annotated[
    list[str], typer.Option("--version", help="The version that was read: once for each report, in their order.")
]
Say = Callable[[Referring, Tx, str, Answer], bool]


def acknowledge(
    reports: Reports, version: OfVersions, name: Name, by: By, at: At = "", config: Config = DEFAULT_CONFIG
) -> None:
    """Note who has read reports and will act on them: they are chased no more, an alert until its follow-up."""
    who = author(by, f"read by {name}")
    if len(reports) != len(version):
        raise InvalidRequest("name the version that was read of each report: --version, in their order")
    if len(reports) == 1:
        answer = partial(Answer, version[0], name)
        _note(config, reports[0], who, at, answer, lambda said, tx, of, told: said.acknowledge(tx, of, told, who))
        return

    async def work(release: Release) -> None:
        when = instant(at) or release.opened.now
        ids = [await release.report_id(each) for each in reports]
        read = [(report_id, Answer(each, name, when)) for report_id, each in zip(ids, version, strict=True)]
        done = await release.opened.store.write(
            lambda tx: acknowledged(tx, release.planner, release.referring, read, who)
        )
        noted = [each for each in ids if each not in (*done.acknowledged, *done.left_out)]
        console.say(
            *(f"{each}: acknowledged" for each in done.acknowledged),
            *(f"{each}: it was noted already" for each in noted),
            *(f"{each}: left out: {why}" for each, why in done.left_out.items()),
        )

    acting.run(config, work)


def follow_up(
    report: Report,
    version: OfVersion,
    name: Name,
    reason: Reason,
    by: By,
    at: At = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Note that the patient was seen to: ends the chase of an alert, and of a contact after a correction."""
    who, answer = author(by, reason), partial(Answer, version, name)
    _note(config, report, who, at, answer, lambda said, tx, of, told: said.record_follow_up(tx, of, told, who))


def dispatch(
    report: Report,
    version: OfVersion,
    reference: Annotated[str, typer.Option(help="Control ID and positive answer, or the RIS's own word.")],
    by: By,
    at: At = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Note what proves that the referrer was sent the report: the disclaimer tells the patient so."""
    who, answer = author(by, reference), partial(Answer, version, reference)
    _note(config, report, who, at, answer, lambda said, tx, of, told: said.prove_dispatch(tx, of, told, who))


def _note(config: Path, report: str, who: Author, at: str, answer: Callable[[datetime], Answer], say: Say) -> None:
    async def work(release: Release) -> None:
        told = answer(instant(at) or release.opened.now)
        report_id = await release.report_id(report)
        _, changed = await release.opened.store.write(
            lambda tx: noted(
                tx, release.planner, report_id, who, lambda tx: say(release.referring, tx, report_id, told)
            )
        )
        console.say(f"{report_id}: {'noted' if changed else 'it was noted already'}")

    acting.run(config, work)
