"""Bring a database to the schema of this version, by one line of alembic revisions for both engines.

Nothing is created on the side: an empty database gets its tables by walking the same revisions as an old one. The
revisions travel inside the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import SQLAlchemyError

from gateway.model.errors import StoreUnavailable
from gateway.model.faults import faultpoint
from storage.engines import DatabaseSettings, open_engine

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = Path(__file__).parent / "migrations"


def newest() -> str:
    """The revision that this version needs."""
    return max(revisions())


def revisions() -> frozenset[str]:
    """Every revision that this version knows: the scripts' names begin with them, in their order."""
    return frozenset(script.name.partition("_")[0] for script in (_SCRIPTS / "versions").glob("[0-9]*_*.py"))


def current(settings: DatabaseSettings) -> str | None:
    """The revision that the database is at; None for an empty one. Raises `StoreUnavailable`."""
    try:
        engine = open_engine(settings)
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            return None if found is None else str(found)
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"the schema revision could not be read: {type(error).__name__}") from error


def is_current(settings: DatabaseSettings) -> bool:
    """Whether the database has the schema that this version needs."""
    return current(settings) == newest()


def upgrade(settings: DatabaseSettings) -> None:
    """Walk the database to the newest revision, all or nothing; raises `StoreUnavailable`."""
    if current(settings) == newest():
        return
    from alembic import command  # noqa: PLC0415  # a quarter of a command's start, needed once in a version's life

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


def _config(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
