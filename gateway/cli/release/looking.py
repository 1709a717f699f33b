"""`gateway release explain | due | list | board`: what will happen to reports, when and why, and how release stands.

Looking acknowledges nothing and changes nothing (SAF-51). Nobody is named but staff.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.cli.release import acting
from gateway.cli.release.acting import Release, Report, london
from gateway.cli.session import trust_of
from gateway.model.reporting.views import Board, Explained, ReportLine
from gateway.release.staff import views
from gateway.web.api.shapes import json_of
from policy.parties import TrustId
from policy.release.circumstances import ReleaseState
from storage.release import listing

LIMIT_MAX = 1_000
OfTrust = Annotated[str, typer.Option("--trust", help="Only this trust's, by ODS code.")]
Limit = Annotated[int, typer.Option(help="At most so many.", min=1, max=LIMIT_MAX)]


def explain(report: Report, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say what will happen to a report, when, and why, with the rule behind each reason."""

    async def work(release: Release) -> None:
        report_id = await release.report_id(report)
        found = await release.opened.store.read(lambda read: views.explained(read, release.planner, report_id, None))
        if as_json:
            console.show_json(json_of(found))
        else:
            _explain(found)

    acting.run(config, work)


def due(
    days: Annotated[int, typer.Option(help="Within so many days.", min=0, max=366)] = 7,
    trust: OfTrust = "",
    limit: Limit = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List reports that go to their patients by themselves within some days, the first first."""

    async def work(release: Release) -> None:
        until, of = release.planner.now() + timedelta(days=days), trust_or_all(trust)
        found = await release.opened.store.read(
            lambda read: views.lines_of(read, listing.due_until(read, until, of, limit + 1))
        )
        show_lines(found, limit, as_json=as_json, empty=f"nothing is due within {days} days")

    acting.run(config, work)


def list_(
    state: Annotated[ReleaseState | None, typer.Option(help="Only those in this state.")] = None,
    trust: OfTrust = "",
    limit: Limit = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List reports, the first due first."""

    async def work(release: Release) -> None:
        states, of = (() if state is None else (state,)), trust_or_all(trust)
        found = await release.opened.store.read(
            lambda read: views.lines_of(read, listing.in_states(read, states, of, limit + 1))
        )
        show_lines(found, limit, as_json=as_json, empty="no report")

    acting.run(config, work)


def board(trust: OfTrust = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show how release stands: what is due, held, overdue, unacknowledged, undeliverable, unmatched; medians."""

    async def work(release: Release) -> None:
        of = trust_or_all(trust)
        found = await release.opened.store.read(lambda read: views.board(read, release.planner, of))
        if as_json:
            console.show_json(json_of(found))
        else:
            _board(found)

    acting.run(config, work)


def trust_or_all(code: str) -> TrustId | None:
    """The trust that is meant; None: all."""
    return trust_of(code) if code else None


def show_lines(found: Sequence[ReportLine], limit: int, *, as_json: bool, empty: str) -> None:
    """Print at most so many reports, one to a line, and say where more were found."""
    lines = found[:limit]
    if len(found) > limit:
        console.complain(f"these are the first {limit:,}: there are more")
    if as_json:
        console.show_json([json_of(each) for each in lines])
        return
    rows: list[console.Row] = [
        {
            "report": each.report_id,
            "trust": each.trust,
            "number": each.report_number,
            "version": each.version_id or "-",
            "state": each.state,
            "due": london(each.due_at),
            "held_for": list(each.held_for),
            "flags": list(each.flags),
        }
        for each in lines
    ]
    console.show(rows, as_json=False, empty=empty)


def _explain(found: Explained) -> None:
    report = found.report
    console.show_one(
        {
            "report": report.report_id,
            "trust": report.trust,
            "number": report.report_number,
            "version_to_name": report.version_id or "-",
            "state": report.state,
            "goes_to_its_patient": london(found.will_be_released_at)
            if found.will_be_released_at is not None
            else "at no time by itself"
            if report.state is not ReleaseState.RELEASED
            else "it has gone",
            "held_for": list(report.held_for),
            "flags": list(report.flags),
            "acknowledged": found.is_acknowledged,
            "dispatch_proven": found.is_dispatch_proven,
            "studies": list(found.study_uids),
        },
        as_json=False,
    )
    console.say("", "why:", *(f"  {each.rule}: {each.words}" for each in found.reasons))
    console.say("", "versions:")
    for version in found.versions:
        verified = "not verified" if version.verified_at is None else f"verified {london(version.verified_at)}"
        shown = "" if version.released_at is None else f", released {london(version.released_at)}"
        console.say(f"  {version.version_id}: {version.said.value}, {verified}{shown}{', stands' * version.stands}")
    if found.holds:
        console.say("", "holds:")
    for hold in found.holds:
        console.say(f"  {hold.hold_id}: {hold.kind.value} by {hold.by} ({hold.role}), review on {hold.review_on}")
    if found.deliveries:
        console.say("", "channels:")
    for each in found.deliveries:
        released = "" if each.released_at is None else f", released {london(each.released_at)}"
        console.say(f"  {each.channel}: {each.state}{released}{f' ({each.words})' if each.words else ''}")


def _board(found: Board) -> None:
    medians = found.medians
    console.show_one(
        {
            "as_of": london(found.at),
            "trust": found.trust or "all",
            "stopped": found.is_stopped,
            "under_embargo": found.waiting,
            "due": found.due,
            "held": found.held,
            "overdue_for_review": found.overdue_review,
            "held_by_rule": found.held_by_rule,
            "unacknowledged": found.unacknowledged,
            "undeliverable": found.undeliverable,
            "retried": found.retried,
            "unmatched": found.unmatched,
            "identity_changed": found.identity_changed,
            "dead_letters": found.dead_letters,
            "released_today": found.released_today,
            "median_from_due_to_released": _duration(medians.due_to_released_s),
            "median_from_verified_to_acknowledged": _duration(medians.verified_to_acknowledged_s),
        },
        as_json=False,
    )


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
