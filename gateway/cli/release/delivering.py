"""`gateway release undeliverable | told | pause | prolong-hold`: what waits for a person to see what became of it.

What nobody can know is neither repeated nor dropped (SAF-67): it stands in a list until somebody says what is so.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.release import acting
from gateway.cli.release.acting import As, OfVersion, Reason, Release, Report, london, staff
from gateway.model.errors import InvalidRequest
from gateway.release.acts import Role
from storage.database import Read
from storage.release import deliveries, releases


def undeliverable(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List documents and notices of which nobody knows what became, or that a channel refused, the oldest first."""

    async def work(release: Release) -> None:
        console.show(await release.opened.store.read(_waiting), as_json=as_json, empty="nothing waits for a person")

    acting.run(config, work)


def told(
    report: Report,
    version: OfVersion,
    by: By,
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say that a patient knows of a report, or need not be told, where the telling failed or nobody knows."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.settle_notice(tx, who, report_id, version, reason),
    )


def pause(
    report: Report,
    by: By,
    reason: Reason,
    is_paused: Annotated[bool, typer.Option("--pause/--resume", help="Whether access is paused.")] = True,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Pause the access of a report's patient to the patient's page, or let it go on (REL-22, REL-55)."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.pause_access(tx, who, report_id, reason, is_paused=is_paused),
    )


def prolong_hold(
    hold_id: Annotated[str, typer.Argument(help="As explain shows it.")],
    by: By,
    review_on: Annotated[str, typer.Option(help="When somebody looks again, like 2026-05-03.")],
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Keep a hold that somebody has looked at, until another review date."""
    try:
        day = date.fromisoformat(review_on)
    except ValueError as error:
        raise InvalidRequest("a day is written like 2026-05-03") from error

    async def work(release: Release) -> None:
        who = staff(by, role)
        found = await release.opened.store.write(lambda tx: release.acts.prolong_hold(tx, who, hold_id, reason, day))
        console.say(f"{found.report.report_id}: {found.plan.state.value}")

    acting.run(config, work)


def _waiting(read: Read) -> list[console.Row]:
    rows: list[console.Row] = [
        {
            "report": each.report_id,
            "channel": each.channel,
            "document": each.document_key,
            "what": each.state.value,
            "since": london(each.tried_at),
            "words": each.words,
        }
        for each in deliveries.undeliverable(read)
    ]
    rows += [
        {
            "report": each.report_id,
            "channel": each.channel,
            "document": each.document_key,
            "what": f"notice {each.state.value}",
            "since": london(each.begun_at),
            "words": each.words,
        }
        for each in releases.open_notices(read)
    ]
    return rows
