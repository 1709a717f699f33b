"""`gateway reports`: what feeds brought, whose and of which study it is, and the messages that nobody could read.

What a report or a message says is shown once it is recorded who looks and why; everything else names nobody.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.release import acting, answering, letters, looking
from gateway.cli.release.acting import Reason, Release, Report
from gateway.cli.session import author
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.release.contents import Contents
from gateway.release.linking import Images, Link, linked_by_person, unlinked_by_person
from gateway.release.staff import views
from storage.observations.pseudonyms import pseudonyms
from storage.release import listing

app = typer.Typer(no_args_is_help=True, help="Reports as feeds brought them, and messages that nobody could read.")


@app.command()
def show(
    report: Report,
    by: By,
    reason: Reason,
    version: Annotated[str, typer.Option(help="The version to read. Default: the newest.")] = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Read what a version of a report says; who reads it, and why, is recorded first."""

    async def work(release: Release) -> None:
        who = author(by, reason)
        if not who.reason:
            raise InvalidRequest("say why it is read: --reason")
        report_id = await release.report_id(report)
        store = release.opened.store
        found = await store.read(lambda read: views.explained(read, release.planner, report_id, None))
        known = {each.version_id: each for each in found.versions}
        chosen = version or [*known][-1]
        if chosen not in known:
            raise InvalidRequest("the report has no such version")
        told = {"act": "show-report", "by": who.subject, "report": report_id, "version": chosen, "reason": who.reason}
        await store.append_audit(AuditEntry(AuditEvent.REPORT_READ, release.opened.now, who.request_id, {**told}))
        async with acting.keyring(release.opened) as keys:
            said = await Contents(store, keys).open(chosen)
        stands = "stands" if known[chosen].stands else f"does not stand: {found.report.version_id or 'none'} does"
        console.say(f"version {chosen}: {stands}", "", *said.content.text.split("\n"))
        if said.content.pdf:
            console.say("", f"with a document of {len(said.content.pdf)} bytes")

    acting.run(config, work)


@app.command()
def unmatched(
    trust: looking.OfTrust = "",
    limit: looking.Limit = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List reports that lead to no patient, or to neither study nor order, the oldest first."""

    async def work(release: Release) -> None:
        of = looking.trust_or_all(trust)
        found = await release.opened.store.read(
            lambda read: views.lines_of(read, listing.unmatched(read, of, limit + 1))
        )
        looking.show_lines(found, limit, as_json=as_json, empty="every report is matched")

    acting.run(config, work)


@app.command()
def link(
    report: Report,
    by: By,
    study: Annotated[str, typer.Option(help="Study Instance UID.")],
    reason: Reason,
    is_of_another_trust: Annotated[
        bool, typer.Option("--of-another-trust", help="The images are another trust's, and the report is of them.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say of which study a report is; one of another patient is refused."""

    async def work(release: Release) -> None:
        who, named = author(by, reason), Link(await release.report_id(report), study)
        configuration = release.opened.configuration
        images = Images(configuration.gateway.node, pseudonyms(configuration.storage.location_key).of_row)
        changed = await release.opened.store.write(
            lambda tx: linked_by_person(tx, named, who, images, is_of_another_trust=is_of_another_trust)
        )
        console.say(f"{named.report_id}: {'linked' if changed else 'was linked to it already'}")

    acting.run(config, work)


@app.command()
def unlink(
    report: Report,
    by: By,
    study: Annotated[str, typer.Option(help="Study Instance UID, as explain shows it.")],
    reason: Reason,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say of which study a report is not: no message and no number links the two again."""

    async def work(release: Release) -> None:
        who, named = author(by, reason), Link(await release.report_id(report), study)
        changed = await release.opened.store.write(lambda tx: unlinked_by_person(tx, named, who))
        console.say(f"{named.report_id}: {'unlinked' if changed else 'is not linked to it'}")

    acting.run(config, work)


app.command("dead-letters")(letters.dead_letters)
app.command()(letters.letter)
app.command()(letters.replay)
app.command()(letters.dismiss)
app.command()(answering.acknowledge)
app.command("follow-up")(answering.follow_up)
app.command()(answering.dispatch)
