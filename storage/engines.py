"""Engines: SQLite and PostgreSQL set up so that we begin and end every transaction ourselves.

SQLite runs with WAL, `synchronous=FULL`, foreign keys and a busy time-out, in a file that only we may read (DEC-10).
PostgreSQL is reached by psycopg 3, an optional dependency. Error texts never show parameters: they are patient data.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the database is and how much may wait for it."""

    url: str
    """`sqlite:////var/lib/gateway/gateway.db` or `postgresql://user@host/name`."""
    readers: int = 2
    """Threads that read, each with its own connection."""
    waiting_max: int = 4_096
    """Bodies that wait for a reader, and as many for the writer; beyond it `OverCapacity`."""
    group_max: int = 256
    """Bodies that share one commit."""
    busy_timeout_s: float = 10.0
    """How long SQLite waits for another process's write transaction."""
    statement_timeout_s: float = 30.0
    """PostgreSQL's limit for one statement."""
    read_lock_timeout_s: float = 2.0
    """How long a reader waits in PostgreSQL for a table that somebody alters."""
    connect_timeout_s: float = 5.0
    """Time to reach PostgreSQL."""


def open_engine(settings: DatabaseSettings) -> Engine:
    """An engine whose transactions we begin and end ourselves; raises `ConfigurationError` for a URL it cannot use.

    Parameters never appear in error texts: they are patient data.
    """
    try:
        url = make_url(settings.url)
    except ArgumentError as error:
        raise ConfigurationError(["storage.url: not a database URL"]) from error
    match url.get_backend_name():
        case "sqlite":
            return _sqlite_engine(url, settings)
        case "postgresql":
            return _postgresql_engine(url, settings)
        case other:
            raise ConfigurationError([f"storage.url: {other} is not supported: use sqlite or postgresql"])


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL; None for another engine."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _sqlite_engine(url: URL, settings: DatabaseSettings) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(["storage.url: SQLite needs a file"])
    path = Path(url.database)
    engine = create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"timeout": settings.busy_timeout_s, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def create_private(*_: object) -> None:
        # Never open a file that is there: closing it again would drop every lock that this process holds on it
        # (POSIX), and another process would delete the log under our feet. SQLite alone opens its files.
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(settings.busy_timeout_s * 1000)}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def _postgresql_engine(url: URL, settings: DatabaseSettings) -> Engine:
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(2, int(settings.connect_timeout_s)),
                # Said here it wins over a role's or database's own defaults: a commit answered is a commit on disk.
                "options": "-c timezone=UTC -c synchronous_commit=on"
                f" -c statement_timeout={int(settings.statement_timeout_s * 1000)}",
                # A server that vanished without a word is noticed in seconds, not hours.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            },
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(["storage.url: PostgreSQL needs the extra [postgres]"]) from error
