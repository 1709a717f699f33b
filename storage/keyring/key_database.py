"""The key store's database: opened with what was deleted overwritten, made if it is not there, walked by one at a time.

SQLite by default, a file of its own (`keys.db`); PostgreSQL by a URL of its own where nodes share it. Two processes may
use it at once; who walks holds a lock that falls with its process. Knows no keys.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.model.errors import ConfigurationError, OverCapacity, RegisterUnavailable
from gateway.model.faults import faultpoint
from storage.database import Database, NewId, Now
from storage.engines import DatabaseSettings, sqlite_path
from storage.keyring.tables import FORMAT, key_store, metadata
from storage.tables.commits import commit_mark

_LOCK = 7305142602
"""PostgreSQL's advisory lock of whoever walks."""
_LOCK_POLL_S = 0.05
_TRY = text("SELECT pg_try_advisory_lock(:key)")
_GIVE_UP = text("SELECT pg_advisory_unlock(:key)")


def open_database(settings: DatabaseSettings, node: str, now: Now, new_id: NewId) -> Database:
    """The threads over the key store's engine, not entered yet; raises `ConfigurationError`."""
    try:
        database = Database(settings, node, now, new_id)
    except ConfigurationError as error:
        raise ConfigurationError([each.replace("storage.url", "keys.url") for each in error.problems]) from error
    if database.is_sqlite:

        @event.listens_for(database.engine, "connect")
        def overwrite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA secure_delete=ON")
            cursor.close()

    return database


def prepare(database: Database) -> str:
    """Make the tables if there are none; the store's id. Blocks; raises `RegisterUnavailable`, `ConfigurationError`."""
    try:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if database.is_sqlite else "BEGIN")
            try:
                found = _prepare(connection, database)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            faultpoint("keyring.prepare.before")
            connection.exec_driver_sql("COMMIT")
            faultpoint("keyring.prepare.after")
    except (SQLAlchemyError, OSError) as error:
        raise RegisterUnavailable(f"the key store cannot be opened: {type(error).__name__}") from error
    return found


def empty_log(database: Database) -> bool:
    """Bring SQLite's log into its file and cut it to nothing; False if a reader was in the way. Blocks."""
    if not database.is_sqlite:
        return True
    try:
        with database.engine.connect() as connection:
            is_busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
            faultpoint("keyring.log.after")
    except (SQLAlchemyError, OSError) as error:
        raise RegisterUnavailable(f"the key store's log cannot be emptied: {type(error).__name__}") from error
    return not is_busy


@asynccontextmanager
async def walking(database: Database, wait_s: float) -> AsyncIterator[None]:
    """The right to begin, re-wrap and retire epochs; raises `OverCapacity` if another process has it for so long."""
    path = sqlite_path(database.settings.url)
    held = ExitStack()
    await asyncio.to_thread(
        held.enter_context, _file_lock(path, wait_s) if path is not None else _server_lock(database, wait_s)
    )
    try:
        yield
    finally:
        await asyncio.to_thread(held.close)


@contextmanager
def _file_lock(path: Path, wait_s: float) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file beside the database, never the database itself: closing that would drop SQLite's own locks.
        descriptor = os.open(path.with_name(path.name + ".walk"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RegisterUnavailable(f"the key store cannot be locked: {error.strerror}") from error
    try:
        _await(lambda: _is_locked(descriptor), wait_s)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _server_lock(database: Database, wait_s: float) -> Iterator[None]:
    try:
        with database.engine.connect() as connection:
            _await(lambda: bool(connection.execute(_TRY, {"key": _LOCK}).scalar_one()), wait_s)
            try:
                yield
            finally:
                # Said, because a server notices only after a while that a connection was closed.
                connection.execute(_GIVE_UP, {"key": _LOCK})
    except SQLAlchemyError as error:
        raise RegisterUnavailable(f"the key store cannot be locked: {type(error).__name__}") from error


def _await(take: Callable[[], bool], wait_s: float) -> None:
    until_s = time.monotonic() + wait_s
    while not take():
        if time.monotonic() >= until_s:
            raise OverCapacity("another process is re-wrapping the keys")
        time.sleep(_LOCK_POLL_S)


def _prepare(connection: Connection, database: Database) -> str:
    if not database.is_sqlite:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK + 1})")
        commit_mark.create(connection, checkfirst=True)
    metadata.create_all(connection)
    row = connection.execute(select(key_store)).one_or_none()
    if row is None:
        store_id = database.new_id()
        values = {"store_id": store_id, "format": FORMAT, "generation": 0, "is_walk_due": False}
        connection.execute(insert(key_store), values)
        return store_id
    if row.format != FORMAT:
        raise ConfigurationError(["keys.url: the key store was made by another version of the gateway"])
    return str(row.store_id)
