"""Trusts that are down, slow or lying: named in the answer, never believed, and no harm to the others."""

import asyncio
from pathlib import Path

import pytest

from gateway.demo import cast
from gateway.demo.callers.answer import Answer, Outcome, text_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE, EASTVALE, FAITH, SOUTHBRIDGE, Trust
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import Door
from tests.stories.quality import custodians_told, put_right

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_GUARD_S = 30

EASTVALES = frozenset(study_instance_uid(plan) for plan in (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT))
SOUTHBRIDGES = frozenset(study_instance_uid(plan) for plan in (cast.ANNE_HEAD_CT, cast.ANNE_HEART_US))

NOT_BELIEVED = [
    {"lies": ["endless"]},
    {"lies": ["huge"]},
    {"lies": ["server-error"]},
    {"lies": ["garbled"]},
    {"lies": ["truncated"]},
    {"lies": ["dripping"]},
    {"lies": ["not-a-list"]},
    {"lies": ["wrong-types"]},
    {"lies": ["deep-nesting"]},
    {"lies": ["wrong-content-type"]},
    {"lies": ["redirect"]},
    {"dead": "closed"},
    {"dead": "silent"},
    {"slow_s": 20},
]


NOT_BELIEVED_BY_C_FIND = [
    {"lies": ["endless"]},
    {"lies": ["huge"]},
    {"lies": ["server-error"]},
    {"dead": "closed"},
    {"dead": "silent"},
    {"slow_s": 20},
]


async def until_nobody_is_missing(door: Door) -> Answer:
    """Ask until every trust has answered: one that failed in the story before is left alone for a while."""
    async with asyncio.timeout(HANG_GUARD_S):
        while (answer := await door.studies(PatientID=ANNE.nhs_number)).missing:
            pass  # each answer takes its own time
    return answer


@pytest.mark.parametrize("behaviour", NOT_BELIEVED, ids=str)
async def test_a_trust_that_fails_is_named_and_the_other_answers(
    door: Door, region: Region, behaviour: dict[str, object]
) -> None:
    await until_nobody_is_missing(door)
    await region.archives[SOUTHBRIDGE.ods_code].behave(**behaviour)
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.outcome is Outcome.ANSWERED
    assert answer.studies == EASTVALES
    assert any(SOUTHBRIDGE.ods_code in text and "ring 0300 555 0120" in text for text in answer.notices)
    assert answer.missing == {SOUTHBRIDGE.ods_code}


@pytest.mark.parametrize("behaviour", NOT_BELIEVED_BY_C_FIND, ids=str)
async def test_a_trust_that_fails_by_c_find_is_named_and_the_other_answers(
    door: Door, region: Region, behaviour: dict[str, object]
) -> None:
    await until_nobody_is_missing(door)
    await region.archives[EASTVALE.ods_code].behave(**behaviour)
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.outcome is Outcome.ANSWERED
    assert answer.studies == SOUTHBRIDGES
    assert any(EASTVALE.ods_code in text and "ring 0300 555 0110" in text for text in answer.notices)
    assert answer.missing == {EASTVALE.ods_code}


async def test_a_trust_that_is_back_is_asked_again(door: Door, region: Region) -> None:
    archive = region.archives[SOUTHBRIDGE.ods_code]
    await archive.behave(dead="closed")
    for _ in range(4):
        await door.studies(PatientID=ANNE.nhs_number)
    await archive.behave()
    answer = await until_nobody_is_missing(door)
    assert answer.studies == EASTVALES | SOUTHBRIDGES


@pytest.mark.parametrize("lie", ["ignores-keys", "wrong-patient", "identity-differs", "no-nhs-number", "bad-uids"])
@pytest.mark.parametrize(
    ("liar", "others"), [(SOUTHBRIDGE, EASTVALES), (EASTVALE, SOUTHBRIDGES)], ids=["by QIDO", "by C-FIND"]
)
async def test_rows_of_anybody_else_are_never_shown(
    door: Door, region: Region, lie: str, liar: Trust, others: frozenset[str]
) -> None:
    await until_nobody_is_missing(door)
    await region.archives[liar.ods_code].behave(lies=[lie])
    answer = await door.studies(PatientID=ANNE.nhs_number, PatientBirthDate=f"{ANNE.birth_date:%Y%m%d}")
    assert answer.studies <= EASTVALES | SOUTHBRIDGES
    assert answer.studies >= others
    for row in answer.rows:
        assert text_of(row, "00100020") == ANNE.nhs_number


async def test_duplicates_are_one(door: Door, region: Region) -> None:
    for trust in (SOUTHBRIDGE, EASTVALE):
        await region.archives[trust.ods_code].behave(lies=["duplicates"])
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert len(answer.rows) == len(EASTVALES | SOUTHBRIDGES)


async def test_a_study_filed_under_two_patients_is_withheld_at_both_and_told(
    door: Door, region: Region, tmp_path: Path
) -> None:
    study = study_instance_uid(cast.ANNE_HEAD_CT)
    liar = region.archives[SOUTHBRIDGE.ods_code]
    await liar.behave(lies=["same-uid-other-patient"])
    answer = await door.studies(StudyInstanceUID=study)
    assert answer.outcome is Outcome.ANSWERED
    assert not answer.rows
    assert await custodians_told(region, study) == {EASTVALE.ods_code, SOUTHBRIDGE.ods_code}
    # It stays withheld by the patient's number as well until both have put it right.
    await liar.behave()
    assert study not in (await door.studies(PatientID=ANNE.nhs_number)).studies
    await put_right(region, study, tmp_path)
    async with asyncio.timeout(HANG_GUARD_S):
        while study not in (await door.studies(PatientID=ANNE.nhs_number)).studies:
            pass  # each answer takes its own time


async def test_the_source_of_an_image_never_shows_its_address(viewer: Viewer, region: Region) -> None:
    await region.archives[SOUTHBRIDGE.ods_code].behave(lies=["foreign-retrieve-url"])
    answer = await viewer.studies(PatientID=ANNE.nhs_number)
    assert answer.rows
    for row in answer.rows:
        assert text_of(row, "00081190").startswith(region.machines_url)


async def test_all_trusts_down_is_an_error_not_an_empty_list(door: Door, region: Region) -> None:
    for code in (EASTVALE.ods_code, SOUTHBRIDGE.ods_code):
        await region.archives[code].behave(dead="closed")
    for patient in (ANNE, FAITH):
        assert (await door.studies(PatientID=patient.nhs_number)).outcome is Outcome.UNREACHED
