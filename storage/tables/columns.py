"""The schema's common ground: one `MetaData`, names of constraints, and the column types both engines share.

An instant is stored as whole microseconds since 1970 in UTC: the same order and the same value on SQLite and
PostgreSQL, no zone to normalise. A naive datetime is refused rather than guessed. JSON is text written by orjson.
Nearly every register table is bitemporal: `valid_from`/`valid_until` say when a thing is true, `recorded_at`/
`superseded_at` when it was believed; rows are never changed but for closing `superseded_at` (DEC-13).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    MetaData,
    Row,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    literal_column,
    or_,
)

from gateway.model.imaging import JsonValue

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every table of the store."""

TableRow = Row[*tuple[object, ...]]
"""A row as it comes from a statement; its columns are attributes."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WORD = re.compile(r"[a-z][a-z-]*")

STILL_BELIEVED = datetime.max.replace(tzinfo=UTC)
"""As `known_at`: what is believed now, whatever the clock of the node that recorded it said."""


def micros(instant: datetime) -> int:
    """The stored form of an instant; raises `ValueError` for one without a zone."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return (instant - EPOCH) // _MICROSECOND


def instant_of(value: int) -> datetime:
    """The instant, UTC, whose stored form is `value`."""
    return EPOCH + value * _MICROSECOND


class Instant(TypeDecorator[datetime]):
    """An aware datetime as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else instant_of(value)


class Json(TypeDecorator[JsonValue]):
    """A JSON value as canonical text, keys sorted."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        return None if value is None else _json(value)


def _json(text: str) -> JsonValue:
    value: JsonValue = orjson.loads(text)
    return value


def strings(value: JsonValue) -> frozenset[str]:
    """The set of strings that a JSON column holds as a list; anything else in it is a `ValueError`."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("the column should hold a list of strings")
    return frozenset(str(item) for item in value)


def among(column: ColumnElement[str], words: Iterable[str]) -> ColumnElement[bool]:
    """The condition that a column holds one of these words of ours, with the words in the statement itself.

    SQLite takes an index with a condition `IN` for nothing else, and for no other order of the words. Raises
    `ValueError` for what is no such word.
    """
    written = list(words)
    if not all(_WORD.fullmatch(word) for word in written):
        raise ValueError("only words of our own may stand in a statement")
    return column.in_([literal_column(f"'{word}'") for word in written])


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """A column's value as an expression, so that no index of the column is taken.

    Where a column says little, as a trust does among its own reports, SQLite takes its index all the same and walks
    through nearly everything; what says more stands beside it.
    """
    return column.concat("")


def period() -> Sequence[Column[datetime]]:
    """Columns of when a row is true: half-open, an absent end is open."""
    return Column("valid_from", Instant, nullable=False), Column("valid_until", Instant)


def belief() -> Sequence[Column[datetime]]:
    """Columns of when a row was believed: half-open, an absent end means that it still is."""
    return Column("recorded_at", Instant, nullable=False), Column("superseded_at", Instant)


def believed(table: Table) -> ColumnElement[bool]:
    """The condition that a row was believed at the bound instant `:known`."""
    known = bindparam("known", type_=Instant)
    superseded = table.c.superseded_at
    return (table.c.recorded_at <= known) & or_(superseded.is_(None), superseded > known)


def in_force(table: Table) -> ColumnElement[bool]:
    """The condition that a row is true at the bound instant `:at`."""
    at = bindparam("at", type_=Instant)
    return (table.c.valid_from <= at) & or_(table.c.valid_until.is_(None), table.c.valid_until > at)
