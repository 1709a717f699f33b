"""Whether absence can be told from a withheld answer by the clock on the wall: it must not (SAF-06).

Nothing here asserts how long an answer takes, only that two kinds of answer cannot be told apart by it.
"""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from gateway.demo import cast
from gateway.demo.answer import Outcome
from gateway.demo.cast import BEN, FAITH
from gateway.demo.images import study_instance_uid
from tests.stories.conftest import Door

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(300)]

TIMINGS = 2_000
AT_ONCE = 4
AUC_ERROR_MAX = 0.05
WARM_UP = 200


def area_under_curve(ones: list[float], others: list[float]) -> float:
    """The chance that a random one of `ones` is greater than a random one of `others`; 0.5: no telling."""
    ranked = sorted([(value, 1) for value in ones] + [(value, 0) for value in others])
    rank_sum, position = 0.0, 0
    while position < len(ranked):
        end = position
        while end < len(ranked) and ranked[end][0] == ranked[position][0]:
            end += 1
        middle = (position + end + 1) / 2
        rank_sum += middle * sum(kind for _, kind in ranked[position:end])
        position = end
    return (rank_sum - len(ones) * (len(ones) + 1) / 2) / (len(ones) * len(others))


async def timings(door: Door, kinds: dict[str, dict[str, str]]) -> dict[str, list[float]]:
    """Time answers to these questions in random order, a few at once."""
    order = [kind for kind in kinds for _ in range(TIMINGS // len(kinds))]
    random.Random(6).shuffle(order)
    await door.studies(PatientID=FAITH.nhs_number)
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    queue = iter([*random.Random(7).choices(list(kinds), k=WARM_UP), *order])
    warm_up = WARM_UP

    async def ask() -> None:
        nonlocal warm_up
        for kind in queue:
            began = time.perf_counter()
            answer = await door.studies(**kinds[kind])
            duration = time.perf_counter() - began
            assert answer.outcome is Outcome.ANSWERED
            assert not answer.rows
            warm_up -= 1
            if warm_up < 0:
                taken[kind].append(duration)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(ask())
    return taken


async def test_the_measure_itself_tells_what_differs_and_what_does_not() -> None:
    draw = random.Random(1)
    same = [draw.gauss(5, 1) for _ in range(TIMINGS)]
    slower = [draw.gauss(5.5, 1) for _ in range(TIMINGS)]
    assert abs(area_under_curve(same[: TIMINGS // 2], same[TIMINGS // 2 :]) - 0.5) <= AUC_ERROR_MAX
    assert abs(area_under_curve(same, slower) - 0.5) > AUC_ERROR_MAX


async def test_an_opted_out_patient_cannot_be_told_by_time(door: Door) -> None:
    taken = await timings(door, {"hidden": {"PatientID": BEN.nhs_number}, "absent": {"PatientID": FAITH.nhs_number}})
    assert abs(area_under_curve(taken["hidden"], taken["absent"]) - 0.5) <= AUC_ERROR_MAX


async def test_a_study_that_may_not_be_seen_cannot_be_told_by_time(door: Door) -> None:
    taken = await timings(
        door,
        {
            "hidden": {"StudyInstanceUID": study_instance_uid(cast.BEN_BODY_CT)},
            "absent": {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.3"},
        },
    )
    assert abs(area_under_curve(taken["hidden"], taken["absent"]) - 0.5) <= AUC_ERROR_MAX
