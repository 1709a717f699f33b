"""Fixtures of every folder: migrated databases on both engines, and stores over them. A pytest plug-in."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage import migrate
from storage.engines import DatabaseSettings
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.peers.postgres import Postgres, running_postgres

BOTH_ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.peer))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the newest schema and nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "gateway.db"
    migrate.upgrade(DatabaseSettings(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A fresh SQLite database."""
    path = tmp_path / "db" / "gateway.db"
    path.parent.mkdir()
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def migrated_database(postgres: Postgres) -> str:
    """A PostgreSQL database with the newest schema and nothing in it, to be copied."""
    url = postgres.create_database()
    migrate.upgrade(DatabaseSettings(url))
    return url


@pytest.fixture
def postgres_url(postgres: Postgres, migrated_database: str) -> Iterator[str]:
    """A fresh PostgreSQL database."""
    url = postgres.create_database(migrated_database)
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=BOTH_ENGINES)
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database on each engine in turn."""
    made: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return made


@pytest.fixture
def clock() -> FakeClock:
    """Time that a test moves."""
    return FakeClock()


@pytest.fixture
async def store(url: str, clock: FakeClock) -> AsyncIterator[SqlStore]:
    """An open store on each engine in turn."""
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock) as opened:
        yield opened
