"""Every situation of the cross-trust tables, asked through the real doors: each gets what the tables say (goal G19).

Where the answer is absence, it is the same to the last byte as every other absence that this caller gets by this door
and kind of question: opted out, labelled, not shared, nowhere (SAF-02).
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from storage.engines import DatabaseSettings
from storage.store import SqlStore
from tests.attacks.cross_trust.table import ASKERS, ROLES, SAID, Asker, Cell, Door, Expected, Refused, cells, expected
from tests.attacks.cross_trust.world import Answer, World
from tests.clock import FakeClock
from tests.region import Region

CELLS_MIN = 2_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The region of the tables, open at both doors; no cell changes it."""
    path = tmp_path_factory.mktemp("cross-trust") / "gateway.db"
    shutil.copyfile(migrated_file, path)
    clock = FakeClock()
    settings = DatabaseSettings(f"sqlite:///{path}")
    async with SqlStore(settings, node="north", clock=clock) as store, World(Region(store, clock)).open() as opened:
        yield opened


def test_the_tables_make_as_many_cells_as_the_goal_wants() -> None:
    every = list(cells())
    assert len(set(map(str, every))) == len(every) >= CELLS_MIN
    outcomes = [expected(cell) for cell in every]
    assert sum(bool(each.shown) for each in outcomes) > 500
    assert sum(each == Expected() for each in outcomes) > 500
    assert set(Refused) == {refused for each in outcomes for refused in each.refused}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("door", Door)
@pytest.mark.parametrize("asker", ASKERS, ids=lambda asker: asker.name)
async def test_every_caller_of_a_trust_gets_what_the_tables_say(world: World, asker: Asker, door: Door) -> None:
    own = [cell for cell in cells() if cell.asker == asker and cell.door is door]
    answers: dict[Cell, Answer] = {}

    async def ask_all(of_role: list[Cell]) -> None:
        for cell in of_role:
            answers[cell] = await world.ask(cell)

    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        for role in ROLES:
            tasks.create_task(ask_all([cell for cell in own if cell.role == role]))
    assert len(answers) == len(own) > 0
    wrong = [
        (str(cell), expected(cell), answer) for cell, answer in answers.items() if not is_right(world, cell, answer)
    ]
    assert wrong == []
    absences = defaultdict(list)
    for cell, answer in answers.items():
        if expected(cell) == Expected() and not cell.relation.is_told_of_conflict:
            absences[cell.role.name, cell.question].append((answer.comparable, str(cell)))
    assert [
        (first, each) for alike in absences.values() for first in alike[:1] for each in alike if each[0] != first[0]
    ] == []


def is_right(world: World, cell: Cell, answer: Answer) -> bool:
    """Whether an answer is what the tables say: refused in these words, or these studies and no other."""
    wanted = expected(cell)
    if not wanted.refused:
        uids = world.study_uids(cell.relation)
        return not answer.is_refused and answer.studies == {uids[place] for place in wanted.shown}
    if not answer.is_refused:
        return False
    in_full, short = zip(*(SAID[refused] for refused in Refused if refused in wanted.refused), strict=True)
    if cell.door is Door.C_FIND:
        return answer.words.startswith(short[0])
    others = [text for refused, (text, _) in SAID.items() if refused not in wanted.refused]
    return all(text in answer.words for text in in_full) and not any(text in answer.words for text in others)
