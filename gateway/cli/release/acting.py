"""What the commands on reports share: the rules of the configuration, who acts and as what, and how reports are named.

A command at a node's own console speaks for whoever runs the region, so no trust's report is hidden from it; as what
somebody acts is said with each act and stands in the audit beside their name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from gateway.cli import console, session
from gateway.cli.session import Session, trust_of
from gateway.config.release.terms import all_terms, calendar_of, terms_of
from gateway.keeping.keys import open_keyring
from gateway.model.errors import InvalidRequest, NotFound
from gateway.node import command_node, new_id
from gateway.release.acts import Acts, Role, Staff
from gateway.release.planner import Planner, Rules, Situation
from gateway.release.referrers.referring import Referring
from gateway.release.staff import views
from gateway.release.upkeep.embargoes import Embargoes
from policy.parties import TrustId
from policy.release.terms import ReleaseTerms
from storage.database import Read, Tx
from storage.keyring.keyring import Keyring
from storage.release import reports

LONDON = ZoneInfo("Europe/London")
NEEDS = frozenset({"release", "trust", "keys", "report_feed"})
Report = Annotated[str, typer.Argument(help="Its id, or its trust's code and number: ODS:NUMBER.")]
As = Annotated[Role, typer.Option("--as", help="As what somebody acts.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: stands in the audit. No patient's details here.")]
OfVersion = Annotated[str, typer.Option("--version", help="The version that was read, as explain and show name it.")]


@dataclass(frozen=True, slots=True)
class Release:
    """An open store with the rules of release."""

    opened: Session
    planner: Planner
    acts: Acts
    referring: Referring

    async def report_id(self, name: str) -> str:
        """The id of a report that is named by id or number; raises `NotFound`."""
        return await self.opened.store.read(lambda read: _named(read, name))


def run(config: Path, work: Callable[[Release], Awaitable[None]]) -> None:
    """Open the store with the rules, do the work, close it."""

    async def with_rules(opened: Session) -> None:
        configuration = opened.configuration
        embargoes = Embargoes(opened.store)
        await embargoes.read()
        embargoes.follow(all_terms(configuration), opened.now)

        def terms(trust: TrustId) -> ReleaseTerms:
            return embargoes.over(trust, terms_of(configuration, trust))

        plain = Rules(terms, calendar_of(configuration), opened.clock.now)
        referring = Referring(lambda: plain)
        rules = replace(plain, referred=referring.referred, noted=referring.noted)
        planner = Planner(lambda: rules)
        await work(Release(opened, planner, Acts(planner, new_id), referring))

    session.run(config, with_rules, NEEDS)


def act(config: Path, report: str, by: str, role: Role, decide: Callable[[Release, Tx, Staff, str], Situation]) -> None:
    """Decide something about one report, and say what has become of it."""

    async def work(release: Release) -> None:
        who = staff(by, role)
        report_id = await release.report_id(report)
        done = views.done_of(await release.opened.store.write(lambda tx: decide(release, tx, who, report_id)))
        due = "" if done.due_at is None else f", due {london(done.due_at)}"
        console.say(f"{done.report_id}: {done.state.value}{due}")

    run(config, work)


@asynccontextmanager
async def keyring(opened: Session) -> AsyncIterator[Keyring]:
    """The keys that open what reports and messages say."""
    node = command_node(opened.configuration)
    async with open_keyring(opened.configuration, opened.clock, node=node) as keys:
        yield keys


def staff(by: str, role: Role) -> Staff:
    """Who acts; raises `InvalidRequest` if nobody does."""
    if not by.strip():
        raise InvalidRequest("say who acts: --by NAME")
    return Staff(by.strip(), None, role, new_id())


def london(at: object) -> str:
    """An instant as people in the trusts read it."""
    return f"{at.astimezone(LONDON):%a %d %b %Y %H:%M %Z}" if isinstance(at, datetime) else "-"


def _named(read: Read, name: str) -> str:
    code, separator, number = name.partition(":")
    if not separator:
        return views.of_trust(read, name, None).report_id
    found = reports.find(read, trust_of(code), number)
    if found is None:
        raise NotFound("no such report")
    return found.report_id
