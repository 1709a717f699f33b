"""`gateway release hold | end-hold | early | retract | review | stop | restart | approve-retrospective | settle |
settle-patient`.

Until staff can sign in, somebody at the console enters what a professional decided, in that professional's name
(DEC-03). Each act says by whom, as what and why; all of it stands in the audit.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, By, Config, TrustCode
from gateway.cli.release import acting
from gateway.cli.release.acting import As, OfVersion, Reason, Release, Report, staff
from gateway.cli.session import instant
from gateway.model.errors import InvalidRequest
from gateway.release.acts import Role
from policy.release.circumstances import HoldKind

From = Annotated[str, typer.Option("--from", help="Verified then or later.")]
Until = Annotated[str, typer.Option("--until", help="Verified before.")]


def hold(
    report: Report,
    by: By,
    kind: Annotated[HoldKind, typer.Option(help="Why it is kept back. Only one of timing ends by itself.")],
    review_on: Annotated[str, typer.Option(help="When somebody looks again, like 2026-05-03.")],
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Keep a report back from its patient until its review date; clinicians see it on."""
    day = _day(review_on)
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.hold(tx, who, report_id, kind, reason, day),
    )


def end_hold(
    hold_id: Annotated[str, typer.Argument(help="As explain shows it.")],
    by: By,
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """End a hold: what fell due meanwhile goes."""

    async def work(release: Release) -> None:
        who = staff(by, role)
        found = await release.opened.store.write(lambda tx: release.acts.end_hold(tx, who, hold_id, reason))
        console.say(f"{found.report.report_id}: {found.plan.state.value}")

    acting.run(config, work)


def early(
    report: Report,
    version: OfVersion,
    by: By,
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let a report go to its patient before its time, with the same disclaimer and exclusions."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.release_early(tx, who, report_id, version, reason),
    )


def retract(
    report: Report,
    version: OfVersion,
    by: By,
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Take a released report back from every channel; clinicians see it on."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.retract(tx, who, report_id, version, reason),
    )


def review(
    report: Report,
    version: OfVersion,
    by: By,
    reason: Reason,
    role: As = Role.CLINICIAN,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let the report of a child go, once a professional has read it."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.review(tx, who, report_id, version, reason),
    )


def settle_patient(
    report: Report,
    version: OfVersion,
    by: By,
    reason: Reason,
    role: As = Role.GOVERNANCE,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say that a report is of the patient whom its standing version names, though others were named before."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.settle_patient(tx, who, report_id, version, reason),
    )


def stop(
    trust: TrustCode,
    by: By,
    review_at: Annotated[str, typer.Option(help="When somebody looks again, like 2026-05-03T14:30.")],
    reason: Reason,
    role: As = Role.GOVERNANCE,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let nothing of a trust go to patients until it is restarted. Loud until then."""

    async def work(release: Release) -> None:
        who, custodian, looked_at = staff(by, role), release.opened.trust(trust), instant(review_at)
        if looked_at is None:
            raise InvalidRequest("say when somebody looks again: --review-at")
        changed = await release.opened.store.write(lambda tx: release.acts.stop(tx, who, custodian, reason, looked_at))
        console.say(f"{custodian}: {'stopped' if changed else 'was stopped already'}")

    acting.run(config, work)


def restart(
    trust: TrustCode, by: By, reason: Reason, role: As = Role.GOVERNANCE, config: Config = DEFAULT_CONFIG
) -> None:
    """Let a trust's release go on: what fell due meanwhile goes."""

    async def work(release: Release) -> None:
        who, custodian = staff(by, role), release.opened.trust(trust)
        changed = await release.opened.store.write(lambda tx: release.acts.restart(tx, who, custodian, reason))
        console.say(f"{custodian}: {'goes on' if changed else 'was not stopped'}")

    acting.run(config, work)


def approve_retrospective(
    trust: TrustCode,
    by: By,
    begins: From,
    ends: Until,
    reason: Reason,
    expected: Annotated[int, typer.Option("--reports", help="As many as the preview said.")] = -1,
    role: As = Role.GOVERNANCE,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Preview how many reports from before go-live would go, or, with --reports, let exactly so many go."""

    async def work(release: Release) -> None:
        who, custodian = staff(by, role), release.opened.trust(trust)
        since, until = instant(begins), instant(ends)
        if since is None or until is None:
            raise InvalidRequest("say which: --from and --until")
        store = release.opened.store
        if expected < 0:
            count = await store.read(lambda read: release.acts.retrospective(read, custodian, since, until))
            console.say(f"{custodian}: {count} reports would go; with --reports {count} they do")
            return
        count = await store.write(
            lambda tx: release.acts.approve_retrospective(tx, who, custodian, (since, until), expected, reason)
        )
        console.say(f"{custodian}: {count} reports may go")

    acting.run(config, work)


def settle(
    report: Report,
    channel: Annotated[str, typer.Option(help="Name of the channel.")],
    document: Annotated[str, typer.Option(help="Document key, as explain --json shows it.")],
    by: By,
    reason: Reason,
    is_there: Annotated[bool, typer.Option("--there/--not-there", help="Whether the patient can see it there.")],
    role: As = Role.GOVERNANCE,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say what became of a document of which nobody knew: it is there, or it is not and is given again (SAF-67)."""
    acting.act(
        config,
        report,
        by,
        role,
        lambda release, tx, who, report_id: release.acts.settle_delivery(
            tx, who, report_id, channel, document, reason, is_there=is_there
        ),
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("a day is written like 2026-05-03") from error
