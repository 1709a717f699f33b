"""One question to one archive, as the queries that answer it (PS3.4 C.4.1.2).

Studies are one query. Series and instances are one query where the archive answers relational queries and says in each
row whose it is; else they are walked from the studies down, a few queries at a time and a bounded number in all. What a
bound cuts off is said to be missing. Knows no association: how one query is asked is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dimse.scu.exchange import Answer, Budget
from dimse.scu.questions import (
    MODALITIES,
    Question,
    Quirk,
    first_text,
    has_all_parents,
    hierarchical,
    inheriting,
    keys_until,
    one_by_one,
    relational,
    with_modalities,
)
from gateway.model.asking import with_known_parents
from gateway.model.attributes import LEVEL_UID
from gateway.model.errors import PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import MODALITIES_IN_STUDY, STUDY_UID, Attributes, Level
from gateway.model.seams import PeerAnswer, PeerRequest
from gateway.sharing.matching import Matcher
from gateway.sharing.scope import IDENTITY_TAGS

WALKERS_MAX = 4
"""Queries of one question under way at the same time."""


class Ask(Protocol):
    """Asks one query."""

    async def __call__(self, question: Question, parent: Attributes | None, rows_max: int, budget: Budget) -> Answer:
        """Ask `question`, below `parent` if there is one; raises `PeerError`."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one question may cost."""

    bytes_max: int
    queries_max: int
    modalities_timeout_s: float
    """For what the archive left out of its studies: an answer without it is better than none."""


class Search:
    """One question under way, with what it may still take."""

    def __init__(self, request: PeerRequest, ask: Ask, quirks: frozenset[Quirk], *, bounds: Bounds) -> None:
        self._query = request.query
        self._rows_max = request.matches_max
        self._ask = ask
        self._quirks = quirks
        self._budget = Budget(bounds.bytes_max)
        self._queries_left = bounds.queries_max
        self._modalities_timeout_s = bounds.modalities_timeout_s
        self._is_cut = False

    async def answer(self, *, is_relational: bool) -> PeerAnswer:
        """The rows of the query's level; raises `PeerError`."""
        if self._query.level is Level.STUDY:
            rows = await self._with_modalities(await self._walked())
        else:
            related = await self._related() if is_relational else None
            rows = related if related is not None else await self._walked()
        return PeerAnswer(rows[: self._rows_max], is_truncated=self._is_cut or len(rows) > self._rows_max)

    async def _related(self) -> list[Attributes] | None:
        """The rows by one relational query; None: they do not say whose they are, and have to be walked to."""
        found = await self._asked(relational(self._query, self._quirks))
        rows = with_known_parents(found, self._query)
        if all(has_all_parents(row, self._query.level) for row in rows):
            return rows
        self._is_cut = False
        return None

    async def _walked(self) -> list[Attributes]:
        first, *below = hierarchical(self._query, self._quirks)
        rows = await self._asked(first)
        level = first.level
        for step in below:
            groups = _by_uid(self._to_the_point(rows, level), level)
            answers: dict[int, list[Attributes]] = {}
            await self._each(step, groups, answers)
            rows, level = [row for _, answer in sorted(answers.items()) for row in answer], step.level
        return rows

    def _to_the_point(self, rows: Iterable[Attributes], level: Level) -> list[Attributes]:
        """The rows worth walking below, for archives ignore keys. Who the patient is is for the core alone to judge."""
        keys = tuple(key for key in keys_until(self._query, level) if key.path[0] not in IDENTITY_TAGS)
        matcher = Matcher(keys)
        return [row for row in rows if matcher.matches(row)]

    async def _with_modalities(self, rows: list[Attributes]) -> list[Attributes]:
        """Studies with their modalities, for policy goes by them: gathered from the series where they are left out."""
        if Quirk.MODALITIES_UNKNOWN in self._quirks:
            return rows
        lacking = _by_uid((row for row in rows if not first_text(row, MODALITIES_IN_STUDY)), Level.STUDY)
        answers: dict[int, list[Attributes]] = {}
        try:
            async with asyncio.timeout(self._modalities_timeout_s):
                await self._each(MODALITIES, lacking, answers)
        except (TimeoutError, PeerRefused, PeerTimeout, PeerUnavailable):
            # What it said of the studies stands. Some may be withheld for want of a modality, so that is said.
            self._is_cut = True
        series = {first_text(lacking[number][0], STUDY_UID): found for number, found in answers.items()}
        return [
            row
            if first_text(row, MODALITIES_IN_STUDY)
            else with_modalities(row, series.get(first_text(row, STUDY_UID), ()))
            for row in rows
        ]

    async def _asked(self, question: Question, parent: Attributes | None = None) -> list[Attributes]:
        questions = one_by_one(question) if Quirk.NO_UID_LISTS in self._quirks else iter((question,))
        rows: list[Attributes] = []
        for each in questions:
            if not self._queries_left or len(rows) > self._rows_max:
                self._is_cut = True
                break
            self._queries_left -= 1
            answer = await self._ask(each, parent, self._rows_max - len(rows), self._budget)
            self._is_cut = self._is_cut or answer.is_cut
            rows += answer.rows
        return rows

    async def _each(
        self, step: Question, groups: Sequence[Sequence[Attributes]], answers: dict[int, list[Attributes]]
    ) -> None:
        """Ask below each group of rows of one entity, a few at a time, until there are rows or queries enough."""
        left = iter(enumerate(groups))

        async def walk() -> None:
            for number, group in left:
                if not self._queries_left or sum(map(len, answers.values())) > self._rows_max:
                    self._is_cut = True
                    return
                answers[number] = self._below(group, await self._asked(step, group[0]), step.level)

        try:
            async with asyncio.TaskGroup() as walkers:
                for _ in range(min(WALKERS_MAX, len(groups))):
                    walkers.create_task(walk())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def _below(self, parents: Sequence[Attributes], rows: list[Attributes], level: Level) -> list[Attributes]:
        """What was found below an entity. One of which much is said must not multiply what lies below it."""
        rows_max = self._rows_max // len(parents) + 1
        if len(rows) > rows_max:
            self._is_cut = True
        return inheriting(parents, rows[:rows_max], level)


def _by_uid(rows: Iterable[Attributes], level: Level) -> list[list[Attributes]]:
    """The rows of each entity together, in the order of coming: an archive may say two things of one."""
    groups: dict[str, list[Attributes]] = {}
    for row in rows:
        groups.setdefault(first_text(row, LEVEL_UID[level]), []).append(row)
    return list(groups.values())
