"""`gateway keys`: what there is in the key store, and following the master key by a new one.

Works on the key store itself, beside a gateway that serves or without one; no key is ever shown. What a rotation does
and what it is worth stands in docs/keys.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, Why
from gateway.cli.session import Session, author
from gateway.keeping.keys import key_store_file, open_keyring
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.node import command_node
from storage.keyring.keyring import Keyring
from storage.registers.state import record_change

app = typer.Typer(no_args_is_help=True, help="The keys of images at rest.")

NEEDED = frozenset({"keys"})
OVERDUE = timedelta(hours=1)
"""A closing that waits so much longer than it should has to be looked at."""


@app.command()
def status(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show what keys there are and what waits; exit 1 if the wrapper does not open them, or something is overdue."""
    is_well: list[bool] = []

    async def work(opened: Session) -> None:
        section = opened.configuration.keys
        async with _keyring(opened) as keyring:
            census = await keyring.status()
            fault = await _fault(keyring)
        due_after = timedelta(hours=section.shred_after_hours)
        is_overdue = census.closed_since is not None and opened.now - census.closed_since > due_after + OVERDUE
        row = {
            "wrapper": section.wrapper.value,
            "opens": not fault,
            "fault": fault,
            "master_key_since": census.epoch_began_at,
            "epochs_live": census.epochs_live,
            "patient_keys": census.patient_keys,
            "study_keys": census.study_keys,
            "kept_for_custodians": census.kept_keys,
            "closed": census.closed,
            "closed_since": census.closed_since,
            "destruction_overdue": is_overdue,
            "walk_due": census.is_walk_due,
        }
        console.show_one(row, as_json=as_json)
        is_well.append(not fault and not is_overdue)

    session.run(config, work, NEEDED)
    if is_well != [True]:
        raise typer.Exit(1)


@app.command()
def rotate(by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Follow the master key by a new one, re-wrap all keys and destroy the old; nothing is out of reach meanwhile."""

    async def work(opened: Session) -> None:
        who = author(by, reason)
        async with _keyring(opened) as keyring:
            walked = await keyring.rotate()
            census = await keyring.status()
        detail = {"epochs_retired": walked.epochs_retired}
        await opened.store.write(lambda tx: record_change(tx, who, "keys", "rotate", "master-key", {**detail}))
        row = {
            **detail,
            "master_key_since": census.epoch_began_at,
            "epochs_live": census.epochs_live,
            "log_emptied": walked.is_log_emptied,
        }
        console.show_one(row, as_json=as_json)
        if not as_json:
            console.say("copies of the key file and of the key store from before open nothing any more: replace them")

    session.run(config, work, NEEDED)


@asynccontextmanager
async def _keyring(opened: Session) -> AsyncIterator[Keyring]:
    file = key_store_file(opened.configuration)
    if file is not None and not file.exists():
        raise InvalidRequest("there is no key store yet: gateway serve makes it at its first start")
    node = command_node(opened.configuration)
    async with open_keyring(opened.configuration, opened.clock, node=node) as keyring:
        yield keyring


async def _fault(keyring: Keyring) -> str:
    """Why the wrapper does not open the master key; empty if it does."""
    try:
        await keyring.check()
    except GatewayError as error:
        return str(error)
    return ""
