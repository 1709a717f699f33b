"""Faults of all kinds on the ways to all archives at once, chosen by a seed: whatever comes, no answer is untrue.

Held to the data of the region, for every answer: each row shown is a true one; each row that is not shown has every
holder of it named as missing, or as one whose identity details differ; nothing is ever our mistake (500, C001). After
the faults everybody is heard again, and the audit is whole.

Two things no gateway could see without TLS, and plain ways are for loopback alone: on those a question may be garbled
into another one, and a row into somebody else's, which may put its study into quarantine. So the absence of a trust
whose plain way garbled something is excused here, and of a study in quarantine; what is shown never is.

The seed stands in the test's name, and is all that a run needs to be told again: `pytest -m "" -k "seeds and 1042"`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.callers.answer import Answer, Outcome, text_of
from gateway.demo.callers.viewer import WebAnswer
from gateway.demo.callers.workstation import FindAnswer
from gateway.demo.cast import ANNE, BEN, EVE, FAITH, Patient
from gateway.demo.images import study_instance_uid
from tests.federation.conftest import until_all_are_heard
from tests.federation.filing import FOREIGN, TRUTH, found
from tests.federation.mixed import MixedRegion
from tests.peers.faults import Fault, seeded
from tests.stories.conftest import Door, FindDoor, QidoDoor
from tests.stories.quality import put_right

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]

QUESTIONS = 24
AT_ONCE = 4
HANG_S = 120.0
DESCRIPTORS_MAX = 128
"""Open in the gateway, after however many seeds: some for itself, and a few idle connections to each archive."""
IN_CI = (1, 2, 3)
OUT_OF_CI = range(1_000, 1_100)
HARMLESS_SHARES = (0.5, 0.8, 0.3)
"""How much goes well, seed by seed: with little, nobody is left to answer; with much, connections live on."""

STUDY_UID, SERIES_UID, PATIENT_ID, STUDY_DATE = "0020000D", "0020000E", "00100020", "00080020"
PLAIN = frozenset(trust.ods_code for trust in FOREIGN)
PLANS = {study_instance_uid(plan): plan for plan in cast.STUDIES}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what every trust truly has for it."""

    keys: Mapping[str, str]
    truth: Mapping[str, frozenset[str]]
    """By ODS code, the unique keys of the rows."""
    series_of: str = ""
    """The study whose series are asked for; empty: studies are."""

    async def put(self, door: Door) -> Answer:
        """Ask it."""
        return await (door.series(self.series_of) if self.series_of else door.studies(**self.keys))

    @property
    def level_uid(self) -> str:
        """The unique key of its rows."""
        return SERIES_UID if self.series_of else STUDY_UID


def about(patient: Patient) -> Question:
    """Everything of a patient."""
    return Question({"PatientID": patient.nhs_number}, TRUTH[patient.nhs_number])


def holders(study_uid: str) -> list[str]:
    """Who shares a study with Northmoor."""
    return [code for held in TRUTH.values() for code, uids in held.items() if study_uid in uids]


def questions(seed: int, mixed: MixedRegion) -> Iterator[Question]:
    """The questions of a seed."""
    draw = random.Random(f"{seed}/questions")
    study_uids = sorted(found(ANNE) | found(EVE))
    head_ct = study_instance_uid(cast.ANNE_HEAD_CT)
    head_cts = frozenset(
        series.series_instance_uid for study in mixed.made if study.plan is cast.ANNE_HEAD_CT for series in study.series
    )
    in_series = Question({}, dict.fromkeys(holders(head_ct), head_cts), series_of=head_ct)
    for _ in range(QUESTIONS):
        uid = draw.choice(study_uids)
        by_uid = Question({"StudyInstanceUID": uid}, dict.fromkeys(holders(uid), frozenset((uid,))))
        kinds = [about(ANNE), about(EVE), about(BEN), about(FAITH), by_uid, in_series]
        yield draw.choices(kinds, weights=(8, 4, 1, 1, 4, 2))[0]


def is_true(row: Mapping[str, Mapping[str, object]], question: Question) -> bool:
    """Whether some trust that shares it has this very row."""
    uid = text_of(row, question.level_uid)
    if not any(uid in held for held in question.truth.values()):
        return False
    if question.series_of:
        return text_of(row, STUDY_UID) in ("", question.series_of)
    patient = next(number for number, held in TRUTH.items() if any(uid in uids for uids in held.values()))
    plan = PLANS.get(uid)
    dated = plan is None or text_of(row, STUDY_DATE) == f"{plan.study_date:%Y%m%d}"
    return text_of(row, PATIENT_ID) == patient and dated


def gaps(question: Question, answer: Answer, excused: frozenset[str]) -> set[str]:
    """Hold one answer to the truth; the studies of which something is missing that nobody was named for."""
    if isinstance(answer, WebAnswer):
        assert answer.status in (200, 502, 504), answer.status
        is_answered = answer.status == 200
    else:
        assert isinstance(answer, FindAnswer)
        assert answer.outcome in (Outcome.ANSWERED, Outcome.UNREACHED), hex(answer.status)
        is_answered = answer.outcome is Outcome.ANSWERED
    untrue = [row for row in answer.rows if not is_true(row, question)]
    assert not untrue
    shown = {text_of(row, question.level_uid) for row in answer.rows}
    assert len(shown) == len(answer.rows)
    if not is_answered:
        assert not shown
        return set()
    differs = " ".join(text for text in answer.notices if "identity details differ" in text.lower())
    unnamed = {
        uid
        for code, uids in question.truth.items()
        for uid in uids - shown
        if not (code in answer.missing or code in excused or code in differs)
    }
    return {question.series_of} if question.series_of and unnamed else unnamed


@pytest_asyncio.fixture(loop_scope="session")
async def doors(mixed: MixedRegion) -> AsyncIterator[tuple[QidoDoor, FindDoor]]:
    """Both doors, everybody honest and heard at the begin and at the end."""
    async with AsyncExitStack() as stack:
        both = QidoDoor(mixed, stack), FindDoor(mixed, stack)
        await mixed.be_honest()
        await until_all_are_heard(both[0])
        yield both


async def under_fire(seed: int, mixed: MixedRegion, doors: tuple[QidoDoor, FindDoor]) -> set[str]:
    """Put the questions of a seed under its faults, a few at once and by either door in turn; all gaps in answers."""
    found_gaps: set[str] = set()
    for code, proxy in mixed.proxies.items():
        proxy.met.clear()
        await proxy.behave(seeded(seed, code, HARMLESS_SHARES[seed % len(HARMLESS_SHARES)]))
    waiting = iter(enumerate(questions(seed, mixed)))

    async def ask() -> None:
        for number, question in waiting:
            answer = await question.put(doors[number % 2])
            excused = frozenset(code for code in PLAIN if mixed.proxies[code].met[Fault.GARBLE])
            found_gaps.update(gaps(question, answer, excused))

    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(ask())
    return found_gaps


async def out_of_quarantine(mixed: MixedRegion, folder: Path) -> set[str]:
    """The studies that garbling made look like two people's, which are withheld everywhere; shown again after this."""
    listed = json.loads(await mixed.must("quality", "list", "--json"))
    studies = {str(item["study"]) for item in listed if item["kind"] == "study-uid-of-two-patients"}
    for study_uid in studies:
        await put_right(mixed, study_uid, folder)
    return studies


async def whole_again(door: Door, patient: Patient) -> None:
    """Ask until nobody is missing and nothing is withheld any more; a busy machine may be late once more."""
    async with asyncio.timeout(HANG_S):
        while (answer := await door.studies(PatientID=patient.nhs_number)).missing or answer.studies != found(patient):
            assert answer.studies <= found(patient)


async def no_answer_is_untrue(seed: int, mixed: MixedRegion, doors: tuple[QidoDoor, FindDoor], folder: Path) -> None:
    """The whole of one seed's run."""
    assert mixed.gateway is not None
    process = mixed.gateway.pid
    found_gaps = await under_fire(seed, mixed, doors)
    assert any(proxy.met for proxy in mixed.proxies.values())
    has_garbled = any(mixed.proxies[code].met[Fault.GARBLE] for code in PLAIN)
    await mixed.be_honest()
    quarantined = await out_of_quarantine(mixed, folder)
    assert has_garbled or not quarantined
    assert found_gaps <= quarantined
    await until_all_are_heard(doors[0])
    for door in doors:
        for patient in (ANNE, EVE, BEN, FAITH):
            await whole_again(door, patient)
    assert (mixed.gateway.pid, mixed.gateway.returncode) == (process, None)
    assert len(os.listdir(f"/proc/{process}/fd")) <= DESCRIPTORS_MAX
    verified = await mixed.command("audit", "verify")
    assert verified.status == 0, verified.output + verified.errors
    assert "failed unexpectedly" not in (mixed.folder / "gateway.log").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("seed", IN_CI)
async def test_under_seeded_faults_no_answer_is_untrue(
    seed: int, mixed: MixedRegion, doors: tuple[QidoDoor, FindDoor], tmp_path: Path
) -> None:
    await no_answer_is_untrue(seed, mixed, doors, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", OUT_OF_CI)
async def test_under_many_seeds_no_answer_is_untrue(
    seed: int, mixed: MixedRegion, doors: tuple[QidoDoor, FindDoor], tmp_path: Path
) -> None:
    await no_answer_is_untrue(seed, mixed, doors, tmp_path)
