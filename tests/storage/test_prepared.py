"""A prepared statement gives what SQLAlchemy gives, rows and errors alike, on either engine."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Connection, MetaData, Table, Text, bindparam, insert, select
from sqlalchemy.exc import DBAPIError, MultipleResultsFound

from storage.engines import DatabaseSettings, open_engine
from storage.tables.columns import EPOCH, Instant, Json
from storage.tables.prepared import Prepared

NOON = EPOCH + timedelta(days=20_000, hours=12, microseconds=1)
thing = Table(
    "thing",
    MetaData(),
    Column("thing_id", Text, primary_key=True),
    Column("count", BigInteger),
    Column("is_true", Boolean),
    Column("at", Instant),
    Column("said", Json),
)
ROWS: list[dict[str, object]] = [
    {"thing_id": "a", "count": 2**40, "is_true": True, "at": NOON, "said": {"x": [1, None]}},
    {"thing_id": "b", "count": None, "is_true": False, "at": None, "said": None},
    {"thing_id": "ü?%s:x", "count": 0, "is_true": None, "at": NOON + timedelta(days=1), "said": []},
]
ALL = select(thing).order_by(thing.c.thing_id)
SINCE = (
    select(thing.c.thing_id, thing.c.at)
    .where(thing.c.at >= bindparam("since", type_=Instant), thing.c.at >= bindparam("since", type_=Instant))
    .where(thing.c.thing_id != "%b?", thing.c.thing_id.like(bindparam("like")))
    .order_by(thing.c.thing_id)
    .limit(bindparam("count_max"))
)
BY_ID = select(thing.c.count).where(thing.c.thing_id == bindparam("of_thing"))


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with open_engine(DatabaseSettings(url)).connect() as opened:
        thing.metadata.create_all(opened)
        opened.execute(insert(thing), ROWS)
        yield opened


def test_rows_are_those_of_the_long_way(connection: Connection) -> None:
    prepared = Prepared(ALL)
    for _ in range(2):
        assert [tuple(row) for row in prepared.rows(connection, {})] == [tuple(row) for row in connection.execute(ALL)]
    first = prepared.rows(connection, {})[0]
    assert (first.thing_id, first.at, first.said) == ("a", NOON, ROWS[0]["said"])


@pytest.mark.parametrize(("like", "count_max"), [("%", 9), ("%", 1), ("a", 9), ("' OR 1=1 --", 9), ("%s%", 9)])
def test_parameters_are_bound_as_on_the_long_way(connection: Connection, like: str, count_max: int) -> None:
    given: dict[str, object] = {"since": NOON, "like": like, "count_max": count_max}
    expected = [tuple(row) for row in connection.execute(SINCE, given)]
    assert [tuple(row) for row in Prepared(SINCE).rows(connection, given)] == expected


def test_a_value_is_that_of_the_only_row(connection: Connection) -> None:
    assert Prepared(BY_ID).value(connection, {"of_thing": "a"}) == 2**40
    assert Prepared(BY_ID).value(connection, {"of_thing": "c"}) is None
    with pytest.raises(MultipleResultsFound):
        Prepared(ALL).value(connection, {})


def test_a_missing_parameter_is_a_mistake_of_ours(connection: Connection) -> None:
    with pytest.raises(LookupError):
        Prepared(BY_ID).rows(connection, {})


def test_an_error_of_the_driver_is_met_as_on_the_long_way(connection: Connection) -> None:
    prepared = Prepared(ALL)
    prepared.rows(connection, {})
    thing.metadata.drop_all(connection)
    with pytest.raises(DBAPIError):
        prepared.rows(connection, {})


def test_a_statement_with_a_list_is_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="no lists"):
        Prepared(select(thing).where(thing.c.thing_id.in_(["a"]))).rows(connection, {})
