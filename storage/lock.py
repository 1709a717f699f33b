"""One `serve` for each node: a second one on the same data folder or database refuses to start (DEC-12).

The folder is locked by a file, PostgreSQL by an advisory lock on a connection of its own; both fall with the process,
however it ends. A lock that a restart of PostgreSQL took away is not taken again: the folder's still stands, and the
chain cannot fork either way. The command line takes no lock: it writes under a chain name of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from gateway.model.errors import ConfigurationError, StoreUnavailable
from storage.engines import DatabaseSettings, open_engine

_TRY = text("SELECT pg_try_advisory_lock(:key)")


class NodeLock:
    """The right to serve as one node. A context manager; entering raises `ConfigurationError` if another has it."""

    def __init__(self, settings: DatabaseSettings, node: str, folder: Path) -> None:
        self._settings = settings
        self._node = node
        self._path = folder / f"{node}.lock"
        self._descriptor = -1
        self._connection: Connection | None = None

    def __enter__(self) -> NodeLock:
        try:
            self._lock_folder()
            self._lock_database()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _lock_folder(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError([f"gateway.node: another gateway serves as {self._node} here"]) from error
        except OSError as error:
            raise ConfigurationError([f"gateway.data_folder: cannot be locked: {error.strerror}"]) from error

    def _lock_database(self) -> None:
        try:
            engine = open_engine(self._settings)
            if engine.dialect.name != "postgresql":
                return
            self._connection = engine.connect()
            is_free = self._connection.execute(_TRY, {"key": _key(self._node)}).scalar_one()
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the database cannot be reached: {type(error).__name__}") from error
        if not is_free:
            raise ConfigurationError([f"gateway.node: another gateway serves as {self._node} on this database"])

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _key(node: str) -> int:
    return int.from_bytes(hashlib.sha256(f"gateway serve {node}".encode()).digest()[:8], "big", signed=True)
