"""Bring a database to the schema of this version, by one line of alembic revisions for both engines.

Nothing is created on the side: an empty database gets its tables by walking the same revisions as an old one. The
revisions travel inside the package.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.model.errors import StoreUnavailable
from gateway.model.faults import faultpoint
from storage.engines import DatabaseSettings, open_engine

_SCRIPTS = Path(__file__).parent / "migrations"


def newest() -> str:
    """The revision that this version needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise LookupError("the package holds no schema revisions")
    return revision


def revisions() -> frozenset[str]:
    """Every revision that this version knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def current(settings: DatabaseSettings) -> str | None:
    """The revision that the database is at; None for an empty one. Raises `StoreUnavailable`."""
    try:
        engine = open_engine(settings)
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"the schema revision could not be read: {type(error).__name__}") from error


def is_current(settings: DatabaseSettings) -> bool:
    """Whether the database has the schema that this version needs."""
    return current(settings) == newest()


def upgrade(settings: DatabaseSettings) -> None:
    """Walk the database to the newest revision, all or nothing; raises `StoreUnavailable`."""
    try:
        engine = open_engine(settings)
        with engine.connect() as connection:
            _begin(connection)
            try:
                command.upgrade(_config(connection), "head")
                faultpoint("migrate.commit.before")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
            faultpoint("migrate.commit.after")
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailable(f"the schema could not be upgraded: {type(error).__name__}") from error


def _begin(connection: Connection) -> None:
    """One upgrade at a time; a second process waits, then finds nothing to do."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305142601)")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
