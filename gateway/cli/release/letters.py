"""`gateway reports dead-letters | letter | replay | dismiss`: what feeds brought that nobody could read.

A letter is shown once it is recorded who looks and why. It is read anew by what its feed's profile says now, so that a
mended profile files what it could not file before.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.release import acting, looking
from gateway.cli.release.acting import Reason, Release
from gateway.cli.session import author
from gateway.config.release.senders import feeds_of
from gateway.feeds.replaying import reader
from gateway.model.reporting.seams import MessageState
from gateway.node import new_id
from gateway.release.clinicians import telling
from gateway.release.intake import Intake
from gateway.release.letters import Letters
from gateway.release.staff import views
from storage.database import Tx

Message = Annotated[str, typer.Argument(help="As dead-letters shows it.")]


def dead_letters(trust: looking.OfTrust = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List messages that could not be read or filed, the oldest first."""

    async def work(release: Release) -> None:
        of = looking.trust_or_all(trust)
        found = await release.opened.store.read(lambda read: views.dead_letters(read, of))
        rows: list[console.Row] = [
            {
                "message": each.row_id,
                "trust": each.trust,
                "feed": each.feed,
                "kind": each.kind,
                "received": each.received_at,
                "problem": each.problem,
            }
            for each in found
        ]
        console.show(rows, as_json=as_json, empty="no message waits")

    acting.run(config, work)


def letter(message: Message, by: By, reason: Reason, config: Config = DEFAULT_CONFIG) -> None:
    """Read what stood in a message; who reads it, and why, is recorded first."""

    async def work(release: Release) -> None:
        async with _letters(release) as letters:
            raw = await letters.show(message, author(by, reason))
        console.say(*raw.decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\r", "\n").split("\n"))

    acting.run(config, work)


def replay(message: Message, by: By, reason: Reason, config: Config = DEFAULT_CONFIG) -> None:
    """Read a message anew, by what its feed's profile says now, and file what it says."""

    async def work(release: Release) -> None:
        async with _letters(release) as letters:
            taken = await letters.replay(message, author(by, reason))
        if taken.state is MessageState.DEAD:
            console.say(f"{message}: the running gateway reads the stored object anew; it waits until that succeeds")
            return
        console.say(f"{message}: {taken.state.value}", *(f"  {report_id}" for report_id in taken.report_ids))

    acting.run(config, work)


def dismiss(message: Message, by: By, reason: Reason, config: Config = DEFAULT_CONFIG) -> None:
    """Say that nothing is to come of a message."""

    async def work(release: Release) -> None:
        async with _letters(release) as letters:
            await letters.dismiss(message, author(by, reason))
        console.say(f"{message}: dismissed")

    acting.run(config, work)


@asynccontextmanager
async def _letters(release: Release) -> AsyncIterator[Letters]:
    opened = release.opened
    feeds = feeds_of(opened.configuration)

    def filed(tx: Tx, report_id: str) -> None:
        release.planner.filed(tx, report_id)
        telling.queue(tx, report_id)

    async with acting.keyring(opened) as keys:
        intake = Intake(
            opened.store,
            keys,
            filed,
            random=secrets.token_bytes,
            new_id=new_id,
            elsewhere=asyncio.to_thread,
        )
        yield Letters(opened.store, keys, intake, reader(lambda: feeds))
