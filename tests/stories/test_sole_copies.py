"""What a trust has sent here, and its archive has not, is found by whoever may see it, over either protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from io import BytesIO

import pytest
import pytest_asyncio
from pydicom import dcmread
from pydicom.uid import generate_uid

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome, text_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import ANNE, CLARA, DAVID, FAITH, KATE, NORTHMOOR, SOUTHBRIDGE, TRUSTS, Patient
from gateway.demo.configuration import AE_TITLES, ALIASES, PACS_CALLER, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.forked import Forks
from tests.stories.conftest import NOWHERE, Door, QidoDoor
from tests.stories.fetching import kept_at
from tests.stories.test_changing_registers import opt_out_case

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACCESSION, DESCRIPTION = "S-261121-1", "CT thorax, from the scanner"


@dataclass(frozen=True, slots=True)
class Sent:
    """A study of two series and three images that Southbridge has sent, and its archive does not have."""

    study_uid: str
    series_uids: tuple[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    """A region of its own: what is sent stays."""
    async with Region(tmp_path_factory.mktemp("sole"), start=forks.start) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sent(region: Region) -> dict[str, Sent]:
    """One study of each of these patients, by NHS number."""
    return {each.nhs_number: await send(region, each) for each in (ANNE, CLARA, DAVID, KATE)}


async def send(region: Region, patient: Patient) -> Sent:
    found = Sent(generate_uid(), (generate_uid(), generate_uid()))
    picture = next(iter(kept_at(region, "RZ2", cast.ANNE_BODY_CT).values())).file
    files = []
    for series_uid in (found.series_uids[0], *found.series_uids):
        dataset = dcmread(BytesIO(picture))
        dataset.PatientID, dataset.IssuerOfPatientID = patient.nhs_number, cast.NHS_NUMBER_ISSUER
        dataset.PatientName, dataset.PatientSex = patient.dicom_name, patient.sex
        dataset.PatientBirthDate = f"{patient.birth_date:%Y%m%d}"
        del dataset.OtherPatientIDsSequence
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = found.study_uid, series_uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyDescription, dataset.StudyDate = DESCRIPTION, f"{date(2026, 11, 21):%Y%m%d}"
        dataset.AccessionNumber = f"{ACCESSION}-{patient.nhs_number[-3:]}"
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        files.append(file.getvalue())
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        status, answer = await viewer.store(*files)
    assert status == 200, answer
    return found


async def test_it_is_found_among_the_patients_studies_and_can_be_opened(
    door: Door, region: Region, sent: dict[str, Sent]
) -> None:
    study_uid = sent[ANNE.nhs_number].study_uid
    answer = await door.studies(PatientID=ANNE.nhs_number)
    archives = {study_instance_uid(plan) for plan in (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US)}
    assert answer.outcome is Outcome.ANSWERED and answer.studies == {study_uid, *archives} and not answer.missing
    async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
        received = await viewer.retrieve(f"studies/{study_uid}")
    assert received.is_whole and len(received.images) == 3


async def test_it_is_listed_as_its_archive_would_list_it(door: Door, sent: dict[str, Sent]) -> None:
    study = sent[ANNE.nhs_number]
    for keys in ({"StudyInstanceUID": study.study_uid}, {"AccessionNumber": f"{ACCESSION}-018"}):
        answer = await door.studies(**keys, StudyDescription="*thorax*")
        assert answer.studies == {study.study_uid}
        [row] = answer.rows
        assert text_of(row, "00100010") == ANNE.dicom_name and text_of(row, "00081030") == DESCRIPTION
        assert row["00201206"]["Value"] == [2] and row["00201208"]["Value"] == [3]
        assert row["00080061"]["Value"] == ["CT"] and row["00080056"]["Value"] == ["ONLINE"]
    series = await door.series(study.study_uid)
    assert {text_of(row, "0020000E") for row in series.rows} == {*study.series_uids}
    assert len((await door.images(study.study_uid, study.series_uids[0])).rows) == 2


async def test_a_silent_archive_is_named_and_what_it_sent_is_found(
    door: Door, region: Region, sent: dict[str, Sent]
) -> None:
    await region.archives[SOUTHBRIDGE.ods_code].behave(dead="closed")
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert sent[ANNE.nhs_number].study_uid in answer.studies and answer.missing == {SOUTHBRIDGE.ods_code}
    for trust in TRUSTS:
        await region.archives[trust.ods_code].behave(dead="closed")
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.studies == {sent[ANNE.nhs_number].study_uid} and SOUTHBRIDGE.ods_code in answer.missing


async def test_once_its_archive_lists_it_too_it_is_one_study_and_nothing_is_added(door: Door, region: Region) -> None:
    plan = cast.ANNE_HEART_US
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        status, answer = await viewer.store(*(image.file for image in kept_at(region, "RZ3", plan).values()))
    assert status == 200, answer
    found = await door.studies(StudyInstanceUID=study_instance_uid(plan))
    [row] = found.rows
    assert row["00201208"]["Value"] == [len(kept_at(region, "RZ3", plan))]
    assert row["00080056"]["Value"] == ["NEARLINE"]


async def test_who_does_not_care_for_the_patient_is_answered_as_if_there_were_none(
    door: Door, sent: dict[str, Sent]
) -> None:
    hidden = await door.studies(StudyInstanceUID=sent[CLARA.nhs_number].study_uid)
    absent = await door.studies(StudyInstanceUID=NOWHERE)
    assert hidden.comparable == absent.comparable and not hidden.rows


async def test_the_trust_that_sent_it_finds_it_among_its_own(region: Region, sent: dict[str, Sent]) -> None:
    study_uid, pair = sent[CLARA.nhs_number].study_uid, region.key_pair(PACS_CALLER)
    async with Viewer(region.machines_url, region.authority, pair) as viewer:
        answer = await viewer.search("studies", trust=SOUTHBRIDGE.ods_code, StudyInstanceUID=study_uid)
    assert answer.studies == {study_uid}
    title = ALIASES[SOUTHBRIDGE.ods_code]
    async with Workstation(region.dimse_port, title, AE_TITLES[PACS_CALLER], region.authority, pair) as workstation:
        assert (await workstation.studies(PatientID=CLARA.nhs_number)).studies >= {study_uid}


async def test_a_patient_who_opts_out_is_answered_as_one_without_imaging(
    door: Door, region: Region, sent: dict[str, Sent]
) -> None:
    number = (KATE if isinstance(door, QidoDoor) else DAVID).nhs_number
    study_uid = sent[number].study_uid
    assert study_uid in (await door.studies(PatientID=number)).studies
    await opt_out_case(region, "optout", number, "acknowledge", "verify", "consider", "implement", "confirm")
    hidden, absent = await door.studies(PatientID=number), await door.studies(PatientID=FAITH.nhs_number)
    assert hidden.comparable == absent.comparable and not hidden.rows
    hidden, absent = await door.studies(StudyInstanceUID=study_uid), await door.studies(StudyInstanceUID=NOWHERE)
    assert hidden.comparable == absent.comparable and not hidden.rows
    assert NORTHMOOR.ods_code not in hidden.missing
