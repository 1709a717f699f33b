"""Archives of several makers, asked by either protocol, and one answer."""

from __future__ import annotations

import pytest

from gateway.demo.callers.answer import Outcome, text_of
from gateway.demo.cast import ANNE, EVE
from tests.federation.filing import found
from tests.stories.conftest import Door

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]


async def test_all_archives_are_heard_in_one_answer(door: Door) -> None:
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.outcome is Outcome.ANSWERED and not answer.missing
    assert answer.studies == found(ANNE)
    assert len(answer.rows) == len(found(ANNE))
    assert {text_of(row, "00100020") for row in answer.rows} == {ANNE.nhs_number}


async def test_latin_1_that_nothing_declares_arrives_as_it_was_meant(door: Door) -> None:
    answer = await door.studies(PatientID=EVE.nhs_number)
    assert answer.studies == found(EVE)
    assert {text_of(row, "00100010") for row in answer.rows} == {EVE.dicom_name}
