"""CSV files for bulk acts: every faulty row is named at once, and then nothing is done.

The first line names the columns. Errors name the row as a spreadsheet counts it and never repeat a cell, for cells hold
patients' numbers. Rows that pass are written in batches, each a transaction; a file that was stopped half way may be
given again, because what is there already is not added twice.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.cli import console
from gateway.cli.session import Session
from gateway.model.errors import InvalidRequest
from storage.database import Tx

T = TypeVar("T")

ROWS_MAX = 1_000_000
ERRORS_SHOWN_MAX = 200
BATCH_ROWS = 500


def parsed(
    path: Path, required: Sequence[str], optional: Sequence[str], parse: Callable[[Mapping[str, str]], T]
) -> list[T]:
    """Parse every row; raises `InvalidRequest` with all faulty rows."""
    rows = _rows(path, required, optional)
    entries: list[T] = []
    errors: list[str] = []
    for number, row in enumerate(rows, start=2):
        try:
            entries.append(parse(row))
        except (InvalidRequest, ValueError) as error:
            errors.append(f"row {number}: {error}")
    if errors:
        shown, more = errors[:ERRORS_SHOWN_MAX], len(errors) - ERRORS_SHOWN_MAX
        rest = [f"... and {more} more"] * (more > 0)
        raise InvalidRequest("\n".join([f"{path}: nothing was imported", *shown, *rest]))
    return entries


async def written(opened: Session, what: str, entries: Sequence[T], write: Callable[[Tx, T], bool]) -> int:
    """Write the entries in batches with progress; how many were new (`write` says whether it was)."""
    progress = console.Progress(what, len(entries))
    new = 0
    for start in range(0, len(entries), BATCH_ROWS):
        batch = entries[start : start + BATCH_ROWS]
        new += await opened.store.write(lambda tx, batch=batch: sum(write(tx, entry) for entry in batch))  # type: ignore[misc]  # mypy does not infer a lambda with a default
        progress.at(start + len(batch))
    progress.end(len(entries))
    return new


def _rows(path: Path, required: Sequence[str], optional: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            heads = [head.strip().lower() for head in reader.fieldnames or ()]
            _check_heads(path, heads, required, optional)
            reader.fieldnames = heads
            rows: list[dict[str, str]] = []
            for row in reader:
                if None in row or None in row.values():
                    raise InvalidRequest(f"{path}: row {len(rows) + 2} has not as many cells as the first line")
                rows.append({head: cell.strip() for head, cell in row.items()})
                if len(rows) > ROWS_MAX:
                    raise InvalidRequest(f"{path}: has more than {ROWS_MAX:,} rows: split it")
            return rows
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{path}: is not a CSV file in UTF-8") from error


def _check_heads(path: Path, heads: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> None:
    problems = [f"lacks the column {head}" for head in required if head not in heads]
    problems += [f"has an unknown column {head!r}" for head in heads if head not in (*required, *optional)]
    if len(set(heads)) != len(heads):
        problems.append("has a column twice")
    if problems:
        raise InvalidRequest("\n".join(f"{path}: {problem}" for problem in problems))
