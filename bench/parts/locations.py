"""The location index with the patients of a whole region: what a lookup costs, what a second's news cost, its size.

Beside it stands the same index with a thousand patients: what a lookup costs must hardly hang on how many there are. On
SQLite, with the hand-over between threads, its transactions of some rows each, and the disk's own syncs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.figures import Figure, middle, ratio_at_most, spread
from bench.plan import Effort, Say
from gateway.model.locations import SeenBy, Sighting
from gateway.node import SystemClock
from policy.parties import NhsNumber, TrustId
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.migrate import upgrade
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import KEY_BYTES, Pseudonyms
from storage.store import SqlStore

FEW_PATIENTS = 1_000
TRUSTS = tuple(TrustId(f"RZ{number}") for number in range(1, 9))
NEWS = 1_000
"""Sightings written down one after the other: a second of a busy region."""
LOOKUPS = 500
"""In one round."""

_STAND_INS = Pseudonyms(b"b" * KEY_BYTES)
_SEEN_AT = datetime(2026, 1, 1, tzinfo=UTC)
_FILL = "INSERT INTO patient_location (pseudonym, trust, present_at, present_by, checked_at) VALUES (?, ?, ?, ?, ?)"
_FILLED_AT_ONCE = 50_000


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    yield from asyncio.run(_measured(effort, folder, say))


async def _measured(effort: Effort, folder: Path, say: Say) -> list[Figure]:
    clock, many = SystemClock(), effort.located_patients
    urls = [f"sqlite:///{folder / name}.db" for name in ("many", "few")]
    for url in urls:
        upgrade(DatabaseSettings(url))
    empty_bytes = _bytes_of(folder, "many")
    async with (
        SqlStore(DatabaseSettings(urls[0]), node="bench-1", clock=clock) as large,
        SqlStore(DatabaseSettings(urls[1]), node="bench-1", clock=clock) as small,
    ):
        say(f"filling an index of {many:,} patients")
        rows = await _fill(large, many)
        await _fill(small, FEW_PATIENTS)
        full_bytes = _bytes_of(folder, "many") - empty_bytes
        ours, few = (Notebook(store, clock, _STAND_INS, max_age_days=1_000) for store in (large, small))
        say("looking up, and writing news down")
        lookups: list[tuple[float, float]] = []
        news: list[tuple[float, float]] = []
        for number in range(effort.rounds + 1):
            chance = random.Random(number)
            lookup = (await _lookup_us(ours, many, chance), await _lookup_us(few, FEW_PATIENTS, chance))
            writing = (await _writing_us(ours, many, chance), await _writing_us(few, FEW_PATIENTS, chance))
            if number:
                lookups.append(lookup)
                news.append(writing)
    return [
        _beside("look up one patient", "us", lookups, many, bound=2.0),
        _beside(f"write {NEWS:,} sightings down, each", "us", news, many, bound=None),
        Figure(f"location index, {many:,} patients: size on disk", full_bytes / 1e6, None, "MB", about={"rows": rows}),
        Figure(f"location index, {many:,} patients: bytes a row", full_bytes / rows, None, "B"),
    ]


async def _fill(store: SqlStore, patients: int) -> int:
    """Every patient at one to three trusts; how many rows those are."""
    chance = random.Random(1)
    at = int((_SEEN_AT - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000
    # In the order of the key, as a table that is years old has it but for its newest rows.
    stand_ins = sorted(_STAND_INS.of(_number(index)) for index in range(patients))
    rows: list[tuple[bytes, str, int, str, int]] = []
    count = 0
    for stand_in in stand_ins:
        trusts = chance.sample(TRUSTS, chance.choice((1, 1, 1, 2, 3)))
        rows += [(stand_in, trust.code, at, SeenBy.ANSWER.value, at) for trust in trusts]
        if len(rows) >= _FILLED_AT_ONCE:
            count += await _insert(store, rows)
            rows = []
    return count + await _insert(store, rows)


async def _insert(store: SqlStore, rows: Sequence[tuple[bytes, str, int, str, int]]) -> int:
    def body(tx: Tx) -> None:
        tx.connection.exec_driver_sql(_FILL, list(rows))

    if rows:
        await store.write(body)
    return len(rows)


async def _lookup_us(notebook: Notebook, patients: int, chance: random.Random) -> float:
    """The mean of lookups one after the other, a tenth of them of nobody known."""
    numbers = [_number(chance.randrange(patients * 10 // 9)) for _ in range(LOOKUPS)]
    began = time.perf_counter()
    for number in numbers:
        await notebook.known(number)
    return (time.perf_counter() - began) / LOOKUPS * 1e6


async def _writing_us(notebook: Notebook, patients: int, chance: random.Random) -> float:
    """What one sighting costs from being noted to being durable, with the others of its second."""
    at = _SEEN_AT + timedelta(days=1, seconds=chance.randrange(10**6))
    numbers = [_number(index) for index in chance.sample(range(patients), min(NEWS, patients))]
    began = time.perf_counter()
    notebook.note([Sighting(number, TRUSTS[0], at, SeenBy.ANSWER, True, True) for number in numbers])
    await notebook.write()
    return (time.perf_counter() - began) / len(numbers) * 1e6


def _beside(name: str, unit: str, rounds: Sequence[tuple[float, float]], many: int, *, bound: float | None) -> Figure:
    ours, few = [our for our, _ in rounds], [theirs for _, theirs in rounds]
    return Figure(
        f"location index, {many:,} patients: {name}",
        middle(ours),
        middle(few),
        unit,
        ratio_at_most(bound) if bound is not None else None,
        {"peer": f"the same with {FEW_PATIENTS:,} patients", "ours": spread(ours), "theirs": spread(few)},
    )


def _number(index: int) -> NhsNumber:
    return NhsNumber(f"{9_990_000_000 - index:010}")


def _bytes_of(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{name}.db*"))
