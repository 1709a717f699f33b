"""One patient, several numbers: a hospital's own, and NHS numbers of which one superseded the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome, text_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE, NORTHMOOR
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import Door

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORMER = "9990000123"
"""An NHS number that Anne had once; nobody else in the cast has it."""
ANNES = frozenset(study_instance_uid(plan) for plan in (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US))
[OWN] = ANNE.local_numbers[NORTHMOOR.ods_code]


@pytest_asyncio.fixture(loop_scope="session")
async def own_number(region: Region, tmp_path: Path) -> AsyncIterator[str]:
    """Anne's number at Northmoor, linked on Northmoor's word for the length of a story."""
    links = tmp_path / "links.csv"
    links.write_text(f"nhs_number,local_number,status\n{ANNE.nhs_number},{OWN},01\n", encoding="utf-8")
    await region.must("patient", "import", str(links), "--trust", NORTHMOOR.ods_code)
    yield OWN
    await region.must("patient", "forget", "--local", f"{NORTHMOOR.local_issuer}:{OWN}")


@pytest_asyncio.fixture(loop_scope="session")
async def superseded(region: Region) -> AsyncIterator[str]:
    """A merge by which Anne's former number gave way to hers, for the length of a story."""
    await region.must("patient", "add", "--patient", FORMER)
    linked = await region.must("patient", "link", "--patient", FORMER, "--survivor", ANNE.nhs_number, "--pds", "--json")
    merge = str(json.loads(linked)["merge"])
    yield merge
    await region.command("patient", "unlink", merge)


async def test_a_hospital_asks_by_its_own_number_and_is_shown_it(door: Door, own_number: str) -> None:
    answer = await door.studies(PatientID=own_number)
    assert answer.studies == ANNES
    assert {text_of(row, "00100020") for row in answer.rows} == {own_number}


async def test_a_number_of_its_own_that_nobody_linked_is_refused_in_words(door: Door) -> None:
    answer = await door.studies(PatientID=OWN)
    assert answer.outcome is Outcome.INVALID
    assert "not linked to an NHS number" in answer.told


async def test_a_former_nhs_number_finds_the_patient_until_the_two_are_parted(
    door: Door, region: Region, superseded: str
) -> None:
    answer = await door.studies(PatientID=FORMER)
    assert answer.studies == ANNES
    assert {text_of(row, "00100020") for row in answer.rows} == {ANNE.nhs_number}
    await region.must("patient", "unlink", superseded)
    assert (await door.studies(PatientID=FORMER)).outcome is Outcome.DENIED


async def test_an_issuer_tells_two_trusts_accession_numbers_apart(viewer: Viewer) -> None:
    keys = {"IssuerOfAccessionNumberSequence.LocalNamespaceEntityID": "RZ2", "AccessionNumber": "A123"}
    answer = await viewer.studies(**keys)
    assert answer.studies == {study_instance_uid(cast.GRACE_BODY_CT)}
