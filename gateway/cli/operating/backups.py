"""`gateway backup` and `gateway restore`: the whole store while it serves, and back into an empty place (DEC-20).

The signing key and the second place are not in a backup: keep them apart. A restored database is noticed at the next
start, and somebody accepts it with a reason.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway import guards
from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.cli.session import Session, configuration_of
from gateway.node import database_settings
from storage import backup as backups
from storage.lock import NodeLock

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]


def backup(folder: Folder, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Write a signed backup into a new folder; the gateway may go on serving."""

    async def work(opened: Session) -> None:
        progress = console.Progress("parts of the database copied")
        key = guards.signing_key(opened.configuration)
        made = await backups.backup(opened.store.database, folder, key, lambda done, _of: progress.at(done))
        _show(folder, made, as_json=as_json)

    session.run(config, work)


def restore(folder: Folder, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check a backup and bring it into an empty database; the gateway must be stopped."""
    configuration = configuration_of(config)
    settings, node = database_settings(configuration), configuration.gateway.node
    progress = console.Progress("parts of the database copied")
    with NodeLock(settings, node, configuration.gateway.data_folder):
        made = asyncio.run(
            backups.restore(folder, settings, guards.verifying_key(configuration), lambda done, _of: progress.at(done))
        )
    _show(folder, made, as_json=as_json)
    if not as_json:
        console.say("now: gateway audit verify, then gateway audit accept-restore --reason WHY")


def _show(folder: Path, made: backups.Manifest, *, as_json: bool) -> None:
    row = {
        "folder": str(folder),
        "engine": made.engine,
        "schema": made.schema,
        "at": made.at,
        "chains": [f"{head.node} {head.sequence}" for head in made.heads],
        "sha256": made.sha256,
    }
    console.show_one(row, as_json=as_json)
