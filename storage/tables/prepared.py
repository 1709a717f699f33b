"""Statements compiled once and run on the driver's own cursor: for the few that stand in every question's way.

Executing a statement costs SQLAlchemy some fifty microseconds, of which SQLite works three; a question runs a dozen
(docs/performance.md). The statement stays what it is, built with Core; its rows keep their names, its errors are those
of SQLAlchemy, with a lost connection told from a bad table. Only the way to the driver is shorter.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, Dialect, Insert, Select, Update
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError, MultipleResultsFound
from sqlalchemy.sql.elements import BindParameter

from storage.tables.columns import TableRow

Convert = Callable[[object], object]
Bound = tuple[object, ...] | dict[str, object]


class Prepared:
    """A statement whose parameters are plain values (no lists), for either engine. Raises what SQLAlchemy raises."""

    def __init__(self, statement: Select[*tuple[object, ...]] | Insert | Update) -> None:
        self._statement = statement
        self._plans: dict[str, _Plan] = {}

    def rows(self, connection: Connection, parameters: Mapping[str, object]) -> Sequence[TableRow]:
        """All rows of a SELECT."""
        plan = self._plan(connection.dialect)
        with _cursor(connection, plan) as cursor:
            cursor.execute(plan.text, plan.bound(parameters))
            found = cursor.fetchall()
        return cast("Sequence[TableRow]", [plan.row(values) for values in found])

    def value(self, connection: Connection, parameters: Mapping[str, object]) -> object:
        """The first column of the only row; None if there is none. Raises `MultipleResultsFound` for a second."""
        rows = self.rows(connection, parameters)
        if len(rows) > 1:
            raise MultipleResultsFound("one row was expected")
        return rows[0][0] if rows else None

    def run(self, connection: Connection, parameters: Sequence[Mapping[str, object]]) -> None:
        """Run an INSERT or UPDATE once for each set of parameters."""
        plan = self._plan(connection.dialect)
        with _cursor(connection, plan) as cursor:
            if len(parameters) == 1:
                cursor.execute(plan.text, plan.bound(parameters[0]))
            else:
                cursor.executemany(plan.text, [plan.bound(each) for each in parameters])  # type: ignore[arg-type]  # of one kind

    def _plan(self, dialect: Dialect) -> _Plan:
        plan = self._plans.get(dialect.name)
        if plan is None:
            plan = self._plans[dialect.name] = _compiled(self._statement, dialect)
        return plan


@dataclass(frozen=True, slots=True)
class _Plan:
    """A statement in one engine's words."""

    text: str
    binds: tuple[_Bind, ...]
    """In the order of the text."""
    is_positional: bool
    columns: tuple[tuple[int, Convert], ...]
    """The columns whose values are converted."""
    make_row: Callable[..., object]
    error: type[Exception]
    """The root of the driver's errors."""

    def bound(self, parameters: Mapping[str, object]) -> Bound:
        if self.is_positional:
            return tuple([bind.value(parameters) for bind in self.binds])
        return {bind.name: bind.value(parameters) for bind in self.binds}

    def row(self, values: Sequence[object]) -> object:
        if not self.columns:
            return self.make_row(*values)
        changed = list(values)
        for place, convert in self.columns:
            changed[place] = convert(changed[place])
        return self.make_row(*changed)


@dataclass(frozen=True, slots=True)
class _Bind:
    """One parameter of a statement."""

    name: str
    """In the text."""
    key: str | None
    """In what is given for each execution; None: the statement itself holds the value."""
    held: object
    convert: Convert | None

    def value(self, parameters: Mapping[str, object]) -> object:
        value = self.held if self.key is None else parameters[self.key]
        return value if self.convert is None else self.convert(value)


@contextmanager
def _cursor(connection: Connection, plan: _Plan) -> Iterator[DBAPICursor]:
    cursor = connection.connection.cursor()
    try:
        yield cursor
    except plan.error as error:
        is_lost = connection.dialect.is_disconnect(error, connection.connection.driver_connection, cursor)  # type: ignore[arg-type]  # both are what the dialect expects
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            plan.text,
            None,
            error,
            plan.error,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=connection.dialect,
        ) from error
    finally:
        cursor.close()


def _compiled(statement: Select[*tuple[object, ...]] | Insert | Update, dialect: Dialect) -> _Plan:
    compiled = statement.compile(dialect=dialect)
    names = compiled.positiontup if compiled.positiontup is not None else list(compiled.params)
    columns = list(statement.selected_columns) if isinstance(statement, Select) else []
    converts = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    row_type = namedtuple("row_type", [str(column.key) for column in columns])  # type: ignore[misc]  # named by the statement
    return _Plan(
        text=str(compiled),
        binds=tuple(_bind(name, compiled.binds[name], dialect) for name in names),
        is_positional=compiled.positiontup is not None,
        columns=tuple((place, convert) for place, convert in enumerate(converts) if convert is not None),
        make_row=row_type,
        error=dialect.loaded_dbapi.Error,
    )


def _bind(name: str, bind: BindParameter[object], dialect: Dialect) -> _Bind:
    if bind.expanding:
        raise ValueError("a prepared statement takes no lists")
    key, held = (bind.key, None) if bind.required else (None, bind.effective_value)
    return _Bind(name, key, held, bind.type.dialect_impl(dialect).bind_processor(dialect))
