"""Whether absence can be told from a withheld answer by the clock on the wall: it must not (SAF-06, goal G15).

Nothing here asserts how long an answer takes, only that two kinds of answer cannot be told apart by it. At each door
n = 2,000 answers are timed in one run, in random order and a few at once, so that whatever the machine does meanwhile
it does to all: 1,000 to questions by NHS number, half of them for a patient who opted out, and 1,000 by study UID, half
of them for a study that is withheld. The figure is the mean of the two areas under the curve (each compares like
questions alone): chance gives 0.5 with a standard error of 0.013, so that the bound of 0.05 lies 3.9 errors away and
one run in ten thousand is a false alarm; each area by itself stays within 0.08, 4.4 of its errors of 0.018. What would
shift the mean by 0.09 is missed once in a thousand runs.

An answer without rows leaves on a grid of 200 ms here: that is where the time goes, two thousand times, so eight are
under way at once. More would queue for two processors, and then time tells of the machine alone. For the same reason
C-FIND is asked by the gateway's own light codec and not by the workstation, whose threads would take a processor.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import pytest

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome
from gateway.demo.cast import BEN, FAITH
from gateway.demo.configuration import AE_TITLES, GATEWAY_AE_TITLE, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.dimse.door import Client, client, identifier, proposal
from tests.stories.conftest import Door, FindDoor

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

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


Line = Callable[[Mapping[str, str]], Awaitable[None]]
"""One connection: asks something of which nothing may be found, and returns with the answer."""


def by_qido(door: Door) -> Line:
    async def ask(keys: Mapping[str, str]) -> None:
        answer = await door.studies(**keys)
        assert answer.outcome is Outcome.ANSWERED and not answer.rows

    return ask


def by_c_find(association: Client) -> Line:
    async def ask(keys: Mapping[str, str]) -> None:
        answer = await association.find(identifier("STUDY", **{"PatientID": None, "StudyInstanceUID": None, **keys}))
        # Rows that stand for trusts (SAF-04, SAF-07) are the same in all of them.
        assert answer.end[0] == 0x0000 and WITHHELD_STUDY not in {str(row.StudyInstanceUID) for row in answer.rows}

    return ask


async def timings(lines: Sequence[Line]) -> dict[tuple[str, str], list[float]]:
    """Time answers to all questions in random order, one at a time on each line; the first ones are not counted."""
    order = [kind for kind in QUESTIONS for _ in range(TIMINGS // len(QUESTIONS))]
    random.Random(6).shuffle(order)
    warming = random.Random(7).choices(list(QUESTIONS), k=WARM_UP)
    taken: dict[tuple[str, str], list[float]] = {kind: [] for kind in QUESTIONS}
    queue = iter([(kind, False) for kind in warming] + [(kind, True) for kind in order])

    async def ask(line: Line) -> None:
        for kind, is_counted in queue:
            began = time.perf_counter()
            await line(QUESTIONS[kind])
            duration = time.perf_counter() - began
            if is_counted:
                taken[kind].append(duration)

    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(ask(line))
    return taken


async def test_the_measure_itself_tells_what_differs_and_what_does_not() -> None:
    draw = random.Random(1)
    same = [draw.gauss(5, 1) for _ in range(TIMINGS)]
    slower = [draw.gauss(5.5, 1) for _ in range(TIMINGS)]
    assert abs(area_under_curve(same[: TIMINGS // 2], same[TIMINGS // 2 :]) - 0.5) <= AUC_ERROR_MAX
    assert abs(area_under_curve(same, slower) - 0.5) > AUC_ERROR_MAX


async def test_what_is_withheld_cannot_be_told_by_time(door: Door, region: Region) -> None:
    async with AsyncExitStack() as stack:
        lines = [by_qido(door)] * AT_ONCE
        if isinstance(door, FindDoor):
            pair = region.key_pair(VIEWER)
            secure = ssl.create_default_context(cafile=str(region.authority))
            secure.load_cert_chain(pair.certificate, pair.private_key)
            request = proposal(calling=AE_TITLES[VIEWER], called=GATEWAY_AE_TITLE)
            opened = [client(region.dimse_port, request, secure) for _ in range(AT_ONCE)]
            lines = [by_c_find(await stack.enter_async_context(each)) for each in opened]
        taken = await timings(lines)
    errors = {
        about: area_under_curve(taken[about, "hidden"], taken[about, "absent"]) - 0.5 for about in ("patient", "study")
    }
    assert sum(map(len, taken.values())) == TIMINGS
    assert all(abs(error) <= AUC_ERROR_OF_ONE_KIND_MAX for error in errors.values()), errors
    assert abs(sum(errors.values()) / len(errors)) <= AUC_ERROR_MAX, errors
