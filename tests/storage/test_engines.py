"""Engines, their settings, the schema, and the column types that both share."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, insert, select

from gateway.model.errors import ConfigurationError, StoreUnavailable
from storage import migrate
from storage.engines import DatabaseSettings, open_engine, sqlite_path
from storage.lock import NodeLock
from storage.tables.columns import Instant, Json, instant_of, micros, strings
from storage.tables.schema import metadata
from tests.peers.postgres import Postgres

INSTANTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))


@given(INSTANTS)
def test_an_instant_comes_back_to_the_microsecond_in_utc(instant: datetime) -> None:
    back = instant_of(micros(instant))
    assert back == instant and back.tzinfo is UTC


@given(INSTANTS, INSTANTS)
def test_instants_keep_their_order(one: datetime, other: datetime) -> None:
    assert (one < other) == (micros(one) < micros(other))


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        micros(datetime(2026, 11, 21, 12))  # noqa: DTZ001  # on purpose


def test_columns_keep_instants_and_json_on_both_engines(url: str) -> None:
    table = Table("sample", MetaData(), Column("at", Instant), Column("value", Json))
    far = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    value = {"b": [1, "ä", None], "a": {"deep": True}}
    with open_engine(DatabaseSettings(url)).connect() as connection:
        table.create(connection)
        connection.execute(insert(table), [{"at": far, "value": value}, {"at": None, "value": None}])
        assert [tuple(row) for row in connection.execute(select(table))] == [(far, value), (None, None)]


@pytest.mark.parametrize("value", [None, "text", ["a", 1], {"a": 1}])
def test_a_column_that_is_no_list_of_strings_is_an_error(value: str | list[object] | dict[str, object] | None) -> None:
    with pytest.raises(ValueError, match="list of strings"):
        strings(value)  # type: ignore[arg-type]  # on purpose


def test_the_migrated_schema_is_the_one_that_the_code_declares(url: str) -> None:
    settings = DatabaseSettings(url)
    assert migrate.current(settings) == migrate.newest() and migrate.is_current(settings)
    with open_engine(settings).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_every_table_has_a_primary_key() -> None:
    assert [table.name for table in metadata.tables.values() if not table.primary_key.columns] == []


def test_upgrading_twice_changes_nothing(url: str) -> None:
    migrate.upgrade(DatabaseSettings(url))
    assert migrate.is_current(DatabaseSettings(url))


def test_an_upgrade_that_fails_half_way_leaves_an_empty_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DatabaseSettings(f"sqlite:///{tmp_path / 'gateway.db'}")
    monkeypatch.setenv("GATEWAY_FAULTS", "migrate.commit.before=raise")
    with pytest.raises(StoreUnavailable):
        migrate.upgrade(settings)
    monkeypatch.delenv("GATEWAY_FAULTS")
    assert migrate.current(settings) is None
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []
    migrate.upgrade(settings)
    assert migrate.is_current(settings)


def test_the_revisions_travel_in_the_package() -> None:
    assert {"env.py", "script.py.mako", "versions"} <= set(os.listdir(Path(migrate.__file__).parent / "migrations"))
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert migrate.revisions() == {script.revision for script in scripts.walk_revisions()}
    assert migrate.newest() == scripts.get_current_head()


def test_sqlite_syncs_every_commit_in_a_file_that_only_we_may_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gateway.db"
    with open_engine(DatabaseSettings(f"sqlite:///{path}")).connect() as connection:
        seen = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in PRAGMAS}
        connection.exec_driver_sql("CREATE TABLE x (y)")
        modes = {name: os.stat(path.parent / name).st_mode & 0o777 for name in os.listdir(path.parent)}
    assert seen == PRAGMAS
    assert set(modes.values()) == {0o600} and "gateway.db-wal" in modes


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://host/name", "mysql is not supported"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_configuration_error(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_engine(DatabaseSettings(url))


def test_a_database_out_of_reach_is_unavailable() -> None:
    settings = DatabaseSettings("postgresql://nobody@127.0.0.1:1/none")
    for act in (migrate.current, migrate.upgrade):
        with pytest.raises(StoreUnavailable):
            act(settings)
    assert sqlite_path(settings.url) is None


def test_a_second_server_of_one_node_is_refused_until_the_first_is_gone(url: str, tmp_path: Path) -> None:
    settings = DatabaseSettings(url)
    with NodeLock(settings, "north", tmp_path):
        with (
            pytest.raises(ConfigurationError, match="another gateway serves as north"),
            NodeLock(settings, "north", tmp_path),
        ):
            pass
        with NodeLock(settings, "south", tmp_path):
            pass
    with NodeLock(settings, "north", tmp_path):
        pass


def test_on_a_shared_database_another_folder_does_not_help(postgres_url: str, tmp_path: Path) -> None:
    settings = DatabaseSettings(postgres_url)
    with (
        NodeLock(settings, "north", tmp_path / "one"),
        pytest.raises(ConfigurationError, match="on this database"),
        NodeLock(settings, "north", tmp_path / "other"),
    ):
        pass


def test_a_lock_needs_its_database(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreUnavailable),
        NodeLock(DatabaseSettings("postgresql://nobody@127.0.0.1:1/none"), "north", tmp_path),
    ):
        pass


def test_passwords_and_parameters_stay_out_of_error_texts(postgres: Postgres) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        migrate.current(DatabaseSettings("postgresql://nobody:opensesame@127.0.0.1:1/none"))
    assert "opensesame" not in f"{caught.value}{caught.value.__cause__}"
