"""Whether absence can be told from a withheld answer by the clock on the wall: it must not (SAF-06, goal G15).

Nothing here asserts how long an answer takes, only that two kinds of answer cannot be told apart by it. At each door
n = 2,000 answers are timed in one run, in random order and a few at once, so that whatever the machine does meanwhile
it does to all: 1,000 to questions by NHS number, half of them for a patient who opted out, and 1,000 by study UID, half
of them for a study that is withheld. The figure is the mean of the two areas under the curve (each compares like
questions alone): chance gives 0.5 with a standard error of 0.013, so that the bound of 0.05 lies 3.9 errors away and
one run in ten thousand is a false alarm; each area by itself stays within 0.08, 4.4 of its errors of 0.018. What would
shift the mean by 0.09 is missed once in a thousand runs.

An answer without rows leaves on a grid of 200 ms here: that is where the time goes, two thousand times, so eight are
under way at once. More would queue for two processors, and then time tells of the machine alone.
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
AT_ONCE = 8
AUC_ERROR_MAX = 0.05
AUC_ERROR_OF_ONE_KIND_MAX = 0.08
WARM_UP = 200

WITHHELD_STUDY, NO_STUDY = study_instance_uid(cast.BEN_BODY_CT), "1.2.826.0.1.3680043.8.498.3"
QUESTIONS = {
    ("patient", "hidden"): {"PatientID": BEN.nhs_number},
    ("patient", "absent"): {"PatientID": FAITH.nhs_number},
    ("study", "hidden"): {"StudyInstanceUID": WITHHELD_STUDY},
    ("study", "absent"): {"StudyInstanceUID": NO_STUDY},
}


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


async def timings(door: Door) -> dict[tuple[str, str], list[float]]:
    """Time answers to all questions in random order, a few at once; the first ones are not counted."""
    order = [kind for kind in QUESTIONS for _ in range(TIMINGS // len(QUESTIONS))]
    random.Random(6).shuffle(order)
    warming = random.Random(7).choices(list(QUESTIONS), k=WARM_UP)
    taken: dict[tuple[str, str], list[float]] = {kind: [] for kind in QUESTIONS}
    queue = iter([(kind, False) for kind in warming] + [(kind, True) for kind in order])

    async def ask() -> None:
        for kind, is_counted in queue:
            began = time.perf_counter()
            answer = await door.studies(**QUESTIONS[kind])
            duration = time.perf_counter() - began
            assert answer.outcome is Outcome.ANSWERED
            assert not answer.rows
            if is_counted:
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


async def test_what_is_withheld_cannot_be_told_by_time(door: Door) -> None:
    taken = await timings(door)
    errors = {
        about: area_under_curve(taken[about, "hidden"], taken[about, "absent"]) - 0.5 for about in ("patient", "study")
    }
    assert sum(map(len, taken.values())) == TIMINGS
    assert all(abs(error) <= AUC_ERROR_OF_ONE_KIND_MAX for error in errors.values()), errors
    assert abs(sum(errors.values()) / len(errors)) <= AUC_ERROR_MAX, errors
