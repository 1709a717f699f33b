"""What commands print: tables for eyes, JSON for programs, progress and complaints on standard error.

Nothing printed can move a terminal's cursor: text from peers and registers is shown with its control characters
escaped. A table is never cut to the width of a window, because a script may read it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum

import orjson

Cell = str | int | float | bool | datetime | Enum | None
Row = Mapping[str, Cell | Sequence[str]]

PROGRESS_INTERVAL_S = 0.5


def show(rows: Iterable[Row], *, as_json: bool, empty: str) -> None:
    """Print rows as a table with the keys of the first as heads, or as a JSON list; `empty` if there are none."""
    listed = [dict(row) for row in rows]
    if as_json:
        show_json(listed)
    elif not listed:
        say(empty)
    else:
        _print_table(listed)


def show_one(row: Mapping[str, object], *, as_json: bool) -> None:
    """Print one thing as lines `key: value`, or as a JSON object."""
    if as_json:
        show_json(row)
        return
    width = max(map(len, row))
    for key, value in row.items():
        say(f"{_head(key):<{width + 1}} {_text(value)}")


def show_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


def say(*lines: str) -> None:
    """Print lines for eyes."""
    for line in lines:
        sys.stdout.write(_printable(line) + "\n")
    sys.stdout.flush()


def complain(*lines: str) -> None:
    """Print lines to standard error."""
    for line in lines:
        sys.stderr.write(_printable(line) + "\n")
    sys.stderr.flush()


class Progress:
    """Says how far a long work has come, on standard error: now and then on a terminal, once at the end elsewhere."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()

    def at(self, done: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if self._is_terminal and now - self._shown_at >= PROGRESS_INTERVAL_S:
            self._shown_at = now
            sys.stderr.write(f"\r{self._line(done)}\x1b[K")
            sys.stderr.flush()

    def end(self, done: int) -> None:
        """It is over, with so many done."""
        sys.stderr.write(f"\r{self._line(done)}\x1b[K\n" if self._is_terminal else f"{self._line(done)}\n")
        sys.stderr.flush()

    def _line(self, done: int) -> str:
        return f"{self._what}: {done:,}" + (f" of {self._total:,}" if self._total is not None else "")


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return str(value)


def _print_table(rows: Sequence[Mapping[str, object]]) -> None:
    heads = list(rows[0])
    cells = [[_text(row.get(head)) for head in heads] for row in rows]
    widths = [max(len(head), *(len(line[index]) for line in cells)) for index, head in enumerate(heads)]
    for line in ([_head(head) for head in heads], *cells):
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _head(key: str) -> str:
    return key.replace("_", " ")


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case Enum():
            return str(value.value)
        case str():
            return _printable(value) or "-"
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(_text, sorted(value) if isinstance(value, set | frozenset) else value)) or "-"
        case _:
            return _printable(str(value))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
