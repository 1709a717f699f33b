"""What commands share: work on the store of a configuration, and the values that they are given as words.

A command works under a node name of its own, "<node>-cli", so that it never waits for the gateway's chain and runs
beside it (DEC-12). It needs only the settings of the store: a listener's missing certificate must not hold up an
opt-out (SAF-25).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import typer

from gateway import logs
from gateway.cli import console
from gateway.config.configuration import Configuration
from gateway.config.reading import read
from gateway.model.errors import ConfigurationError, InvalidRequest
from gateway.node import SystemClock, command_node, database_settings, new_id, open_store
from policy.parties import InvalidIdentifier, NhsNumber, PatientId, TrustId
from policy.settings import Mode
from storage import migrate
from storage.database import Tx
from storage.registers import patients
from storage.registers.state import Author
from storage.store import SqlStore

T = TypeVar("T")

INTERRUPTED = 130
LONDON = ZoneInfo("Europe/London")
NEEDED_SECTIONS = frozenset({"gateway", "storage", "audit", "policy", "limits", "opt_out"})
"""A command on the registers needs these to be right, and no others."""


@dataclass(frozen=True, slots=True)
class Session:
    """An open store with its configuration."""

    configuration: Configuration
    store: SqlStore
    clock: SystemClock

    @property
    def now(self) -> datetime:
        """The present instant."""
        return self.clock.now()

    def trust(self, code: str) -> TrustId:
        """A trust of the region; raises `InvalidRequest` for another code."""
        trust = trust_of(code)
        if trust not in {entry.ods for entry in self.configuration.trust}:
            raise InvalidRequest(f"no [[trust]] of the configuration has the code {trust}")
        return trust


def run(config: Path, work: Callable[[Session], Awaitable[T]], needs: frozenset[str] = frozenset()) -> T:
    """Open the store, do the work, close it. Ctrl-C stops between two steps and exits with 130.

    `needs`: sections that have to be right besides those of the store.
    """
    configuration = configuration_of(config, needs)
    logs.configure("warning", as_json=False)
    try:
        return asyncio.run(_with_store(configuration, work))
    except KeyboardInterrupt:
        console.complain("stopped: what was reported as done is done, nothing else is")
        raise typer.Exit(INTERRUPTED) from None


def change(config: Path, by: str, reason: str, act: Callable[[Tx, Author], T]) -> T:
    """Open the store for one change, made in whose name `by` says; what it gave."""

    async def work(opened: Session) -> T:
        who = author(by, reason)
        return await opened.store.write(lambda tx: act(tx, who))

    return run(config, work)


def configuration_of(config: Path, needs: frozenset[str] = frozenset()) -> Configuration:
    """The configuration as far as store and `needs` go; raises `ConfigurationError` for what is wrong with that."""
    reading = read(config)
    if reading.configuration is None or reading.broken & (NEEDED_SECTIONS | needs):
        raise ConfigurationError(reading.problems)
    return reading.configuration


def author(by: str, reason: str = "") -> Author:
    """Who acts, under a request id of this command's own; raises `InvalidRequest` if nobody does."""
    if not by.strip():
        raise InvalidRequest("say who acts: --by NAME")
    return Author(by.strip(), new_id(), reason.strip())


def trust_of(code: str) -> TrustId:
    """An ODS code; raises `InvalidRequest`."""
    try:
        return TrustId.parse(code)
    except InvalidIdentifier as error:
        raise InvalidRequest(str(error)) from error


def nhs_number(number: str, file: str, mode: Mode) -> NhsNumber:
    """The NHS number from the option or the file; raises `InvalidRequest` without repeating it."""
    if bool(number) == bool(file):
        raise InvalidRequest("name the patient by --patient or by --patient-file, one of the two")
    return parse_number(number or _first_line(file), mode)


def parse_number(text: str, mode: Mode) -> NhsNumber:
    """An NHS number of this gateway's mode (DEC-05); raises `InvalidRequest` without repeating it."""
    try:
        number = NhsNumber.parse(text.strip())
    except InvalidIdentifier as error:
        raise InvalidRequest(str(error)) from error
    if number.is_synthetic is not (mode is Mode.DEMO):
        kind = "synthetic numbers (999...)" if mode is Mode.DEMO else "numbers of real persons"
        raise InvalidRequest(f"a gateway in {mode.value} mode takes only {kind}")
    return number


def local_identifier(text: str) -> PatientId:
    """`ISSUER:NUMBER` as a hospital's own identifier; raises `InvalidRequest`."""
    issuer, separator, value = text.partition(":")
    if not separator or not issuer.strip() or not value.strip():
        raise InvalidRequest("a local identifier is written ISSUER:NUMBER")
    if issuer.strip() == "NHS":
        raise InvalidRequest("an NHS number is given by --patient")
    return PatientId(issuer.strip(), value.strip())


def instant(text: str) -> datetime | None:
    """An ISO 8601 date or time; without a zone it is London's. None for an empty one; raises `InvalidRequest`."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("a time is written like 2026-05-03T14:30 or 2026-05-03") from error
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=LONDON)).astimezone(UTC)


async def patient_row(session: Session, number: NhsNumber) -> str:
    """The internal row of a patient; raises `InvalidRequest` if there is none."""
    row = await session.store.read(lambda read: patients.find(read, patients.nhs(number)))
    if row is None:
        raise InvalidRequest("no patient of this number is known: gateway patient add")
    return row


def _first_line(file: str) -> str:
    if file == "-":
        return sys.stdin.readline()
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read") from error


async def _with_store(configuration: Configuration, work: Callable[[Session], Awaitable[T]]) -> T:
    settings = database_settings(configuration)
    configuration.gateway.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    revision = migrate.current(settings)
    if revision is None:
        migrate.upgrade(settings)
    elif revision != migrate.newest():
        problem = f"storage.url: the database has schema {revision}, this version needs {migrate.newest()}"
        raise ConfigurationError([problem, "start the gateway of this version once: it brings the schema up to date"])
    clock = SystemClock()
    async with open_store(configuration, clock, node=command_node(configuration)) as store:
        return await work(Session(configuration, store, clock))
