"""Statements compiled once and run on the driver's own cursor: for the few reads that stand in every question's way.

Executing a statement costs SQLAlchemy some forty microseconds, of which SQLite works three; a question reads eight
registers (docs/performance.md). The statement stays what it is, built with Core, and its rows keep their names; only
the way to the driver is shorter. An error of the driver is met again on the long way, by SQLAlchemy, which knows a
lost connection from a bad table.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.sql.elements import BindParameter

from storage.tables.columns import TableRow

Convert = Callable[[object], object]
Bound = tuple[object, ...] | dict[str, object]


class Prepared:
    """A SELECT whose parameters are plain values (no lists), for either engine."""

    def __init__(self, statement: Select[*tuple[object, ...]]) -> None:
        self.statement = statement
        self._plans: dict[str, _Plan] = {}

    def rows(self, connection: Connection, parameters: Mapping[str, object]) -> Sequence[TableRow]:
        """All rows; raises what SQLAlchemy raises."""
        plan = self._plans.get(connection.dialect.name)
        if plan is None:
            plan = self._plans[connection.dialect.name] = _plan(self.statement, connection.dialect)
        bound = plan.bound(parameters)
        try:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(plan.text, bound)
                found = cursor.fetchall()
            finally:
                cursor.close()
        except plan.errors:
            return connection.execute(self.statement, dict(parameters)).all()
        return cast("Sequence[TableRow]", [plan.row(values) for values in found])

    def value(self, connection: Connection, parameters: Mapping[str, object]) -> object:
        """The first column of the one row; None if there is none."""
        rows = self.rows(connection, parameters)
        return rows[0][0] if rows else None


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
    errors: tuple[type[Exception], ...]

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


def _plan(statement: Select[*tuple[object, ...]], dialect: Dialect) -> _Plan:
    compiled = statement.compile(dialect=dialect)
    names = compiled.positiontup if compiled.positiontup is not None else list(compiled.params)
    columns = list(statement.selected_columns)
    converts = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    row_type = namedtuple("row_type", [str(column.key) for column in columns])  # type: ignore[misc]  # named by the statement
    return _Plan(
        text=str(compiled),
        binds=tuple(_bind(name, compiled.binds[name], dialect) for name in names),
        is_positional=compiled.positiontup is not None,
        columns=tuple((place, convert) for place, convert in enumerate(converts) if convert is not None),
        make_row=row_type,
        errors=(dialect.dbapi.Error,) if dialect.dbapi is not None else (),
    )


def _bind(name: str, bind: BindParameter[object], dialect: Dialect) -> _Bind:
    if bind.expanding:
        raise ValueError("a prepared statement takes no lists")
    key, held = (bind.key, None) if bind.required else (None, bind.effective_value)
    return _Bind(name, key, held, bind.type.dialect_impl(dialect).bind_processor(dialect))
