"""A real foreign archive: Orthanc, holding the demo region's images, asked by our connector.

This Orthanc matches Patient ID alone, so the images are filed there under their NHS numbers, as a region would agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.demo.cast import ANNE
from gateway.demo.images import MadeStudy, MadeTrust
from gateway.model.errors import PeerUnavailable
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Key,
    Level,
    Query,
)
from tests.dicomweb.asking import ANNES, ANNES_STUDIES, find, values
from tests.peers.orthanc import Orthanc, running_orthanc

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def orthanc(made: MadeTrust, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    files = list(_filed_under_nhs_numbers(made, tmp_path_factory.mktemp("images")))
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        assert archive.store(files) == len(files)
        yield archive


def _filed_under_nhs_numbers(made: MadeTrust, folder: Path) -> Iterator[Path]:
    for study in made.studies:
        for series in study.series:
            for path in series.files:
                dataset = dcmread(path)
                dataset.PatientID, dataset.IssuerOfPatientID = study.plan.patient.nhs_number, "NHS"
                dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm")
                yield folder / f"{dataset.SOPInstanceUID}.dcm"


@pytest.fixture
def of_anne(made: MadeTrust) -> list[MadeStudy]:
    return [study for study in made.studies if study.plan.patient == ANNE]


def uid_key(tag: str, *uids: str) -> Key:
    return Key((tag,), "UI", uids)


async def test_a_patients_studies_are_found_with_their_identity(orthanc: Orthanc, of_anne: list[MadeStudy]) -> None:
    answer = await find(orthanc.url)
    assert values(answer, STUDY_UID) == {study.study_instance_uid for study in of_anne} and not answer.is_truncated
    assert values(answer, PATIENT_ID) == {ANNE.nhs_number} and values(answer, ISSUER_OF_PATIENT_ID) == {"NHS"}
    assert all(row.keys() >= {PATIENT_NAME, PATIENT_BIRTH_DATE, MODALITIES_IN_STUDY} for row in answer.rows)
    assert not any("00081190" in row for row in answer.rows)


async def test_text_in_latin_1_files_arrives_whole(orthanc: Orthanc) -> None:
    everybody = await find(orthanc.url, Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("*",)),)))
    assert any("Ó" in str(row[PATIENT_NAME]) for row in everybody.rows)


async def test_series_and_instances_are_found_with_all_uids_above_them(
    orthanc: Orthanc, of_anne: list[MadeStudy]
) -> None:
    study = of_anne[0]
    in_study = uid_key(STUDY_UID, study.study_instance_uid)
    in_series = uid_key(SERIES_UID, study.series[0].series_instance_uid)
    questions: list[tuple[Key, ...]] = [(in_study,), (ANNES,)]
    for keys in questions:
        found = await find(orthanc.url, Query(Level.SERIES, keys))
        assert {series.series_instance_uid for series in study.series} <= values(found, SERIES_UID)
        assert all(row.keys() >= {STUDY_UID, PATIENT_ID, PATIENT_BIRTH_DATE} for row in found.rows)
    for keys in [(in_study, in_series), *questions]:
        found = await find(orthanc.url, Query(Level.IMAGE, keys))
        assert set(study.series[0].sop_instance_uids) <= values(found, SOP_UID)
        assert all(row.keys() >= {STUDY_UID, SERIES_UID, PATIENT_ID} for row in found.rows)


async def test_a_list_of_studies_is_found(orthanc: Orthanc, made: MadeTrust) -> None:
    wanted = [study.study_instance_uid for study in made.studies[:3]]
    answer = await find(orthanc.url, Query(Level.STUDY, (uid_key(STUDY_UID, *wanted, "1.2.3"),)))
    assert values(answer, STUDY_UID) == set(wanted)


async def test_alternatives_do_not_make_it_find_nothing(orthanc: Orthanc, of_anne: list[MadeStudy]) -> None:
    several = Key((MODALITIES_IN_STUDY,), "CS", ("CT", "US"))
    assert len((await find(orthanc.url, Query(Level.STUDY, (ANNES, several)))).rows) == len(of_anne)


async def test_an_unknown_patient_is_nothing_found(orthanc: Orthanc) -> None:
    assert not (await find(orthanc.url, Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("9990000999",)),)))).rows


async def test_rows_beyond_the_limit_are_said_to_be_missing(orthanc: Orthanc, of_anne: list[MadeStudy]) -> None:
    whole = await find(orthanc.url, ANNES_STUDIES, matches_max=len(of_anne))
    assert len(whole.rows) == len(of_anne) and not whole.is_truncated
    cut = await find(orthanc.url, ANNES_STUDIES, matches_max=1)
    assert len(cut.rows) == 1 and cut.is_truncated


async def test_every_attribute_it_knows_is_believed(orthanc: Orthanc, made: MadeTrust) -> None:
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        for study in made.studies:
            query = Query(level, (uid_key(STUDY_UID, study.study_instance_uid),), include_all=True)
            assert (await find(orthanc.url, query)).rows


async def test_an_archive_that_has_gone_is_unavailable(tmp_path: Path) -> None:
    with running_orthanc(tmp_path) as gone:
        assert not (await find(gone.url)).rows
    with pytest.raises(PeerUnavailable):
        await find(gone.url)
