"""What one node is to `serve` and to commands alike: its version, its database, its store, its clock's and ids' source.

Free of HTTP and of DICOM, so that a command on a register starts quickly.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

from gateway import program_version
from gateway.config.configuration import Configuration
from gateway.model.seams import Clock
from storage.engines import DatabaseSettings
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import pseudonyms
from storage.store import SqlStore, StoreSettings

release = program_version
"""The version of the installed package."""


class SystemClock:
    """Real time, as the core knows it (`gateway.model.seams.Clock`)."""

    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await asyncio.sleep(delay_s)


def new_id() -> str:
    """A random identifier for a request, a decision or a row."""
    return uuid4().hex


def new_uid() -> str:
    """A UID that nobody else has, made of a random UUID (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


def command_node(configuration: Configuration) -> str:
    """The name under which this node's commands keep their own audit chain, beside the gateway's (DEC-12)."""
    return f"{configuration.gateway.node}-cli"


def database_settings(configuration: Configuration) -> DatabaseSettings:
    """Where the database is; holds its password."""
    return DatabaseSettings(configuration.store_url, readers=configuration.storage.readers)


def open_store(configuration: Configuration, clock: Clock, *, node: str) -> SqlStore:
    """The store of this configuration, not entered yet, for the chain of `node`."""
    settings = StoreSettings(
        register_read_timeout_s=configuration.limits.register_read_timeout_s,
        audit_append_timeout_s=configuration.limits.audit_append_timeout_s,
        opt_out_register_age_max_minutes=configuration.policy.opt_out_register_age_max_minutes,
    )
    return SqlStore(database_settings(configuration), node=node, clock=clock, settings=settings)


def open_notebook(configuration: Configuration, store: SqlStore, clock: Clock) -> Notebook:
    """The location index and the standings of peers; makes their key at the first start (`ConfigurationError`)."""
    stand_ins = pseudonyms(configuration.storage.location_key)
    return Notebook(store, clock, stand_ins, max_age_days=configuration.sharing.location_max_age_days)
