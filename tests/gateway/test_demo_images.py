"""The demo region's images: real pixels, invented people, and the story's special cases in them."""

import shutil
import subprocess
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread

from gateway.demo.cast import (
    ANNE_HEAD_CT,
    EASTVALE,
    EVE,
    FAITH,
    GRACE_BODY_CT,
    HENRY_NECK_X_RAY,
    JACK,
    JACK_MISFILED,
    KATE,
    NHS_NUMBER_OID,
    PATIENTS,
    SOUTHBRIDGE,
    STUDIES,
    TRUSTS,
)
from gateway.demo.images import MadeStudy, MadeTrust, make_trust, study_instance_uid
from policy.parties import NhsNumber, TrustId

BUNDLED = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeTrust, ...]:
    return made_in(tmp_path_factory.mktemp("region"))


def made_in(folder: Path) -> tuple[MadeTrust, ...]:
    """Every trust's images."""
    return tuple(make_trust(trust, folder / trust.ods_code) for trust in TRUSTS)


def files_of(region: tuple[MadeTrust, ...]) -> list[tuple[MadeStudy, Path, str]]:
    """Every file with its study and the bundled file that it was made from."""
    return [
        (study, file, source)
        for trust in region
        for study in trust.studies
        for series, plan in zip(study.series, study.plan.series, strict=True)
        for file, source in zip(series.files, plan.sources, strict=True)
    ]


def study_at(region: tuple[MadeTrust, ...], ods_code: str, name: str) -> MadeStudy:
    (found,) = (
        study
        for trust in region
        if trust.trust.ods_code == ods_code
        for study in trust.studies
        if study.plan.name == name
    )
    return found


def test_every_nhs_number_is_valid_and_of_the_range_that_is_never_issued() -> None:
    assert all(str(NhsNumber.parse(patient.nhs_number)) == patient.nhs_number for patient in PATIENTS)
    assert all(patient.nhs_number.startswith("999") for patient in PATIENTS)
    assert len({patient.nhs_number for patient in PATIENTS}) == len(PATIENTS)


def test_trust_codes_have_the_form_of_ods_codes() -> None:
    assert [TrustId.parse(trust.ods_code).code for trust in TRUSTS] == ["RZ1", "RZ2", "RZ3"]


def test_files_carry_the_local_number_with_its_issuer_and_the_nhs_number_among_the_others(
    region: tuple[MadeTrust, ...],
) -> None:
    for study, file, _ in files_of(region):
        dataset = dcmread(file)
        patient = study.plan.patient
        assert dataset.PatientID in patient.local_numbers[study.trust.ods_code]
        assert dataset.IssuerOfPatientID == study.trust.local_issuer
        (other,) = dataset.OtherPatientIDsSequence
        assert (other.PatientID, other.IssuerOfPatientID) == (patient.nhs_number, "NHS")
        assert other.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == NHS_NUMBER_OID
        assert dataset.PatientName == patient.dicom_name
        assert dataset.PatientBirthDate == f"{patient.birth_date:%Y%m%d}"


def test_pixels_and_their_encoding_stay_as_they_are_bundled(region: tuple[MadeTrust, ...]) -> None:
    syntaxes = set()
    for _, file, source in files_of(region):
        made, bundled = dcmread(file), dcmread(BUNDLED / source)
        assert made.PixelData == bundled.PixelData
        assert made.file_meta.TransferSyntaxUID == bundled.file_meta.TransferSyntaxUID
        assert made.SOPClassUID == bundled.SOPClassUID == made.file_meta.MediaStorageSOPClassUID
        syntaxes.add(made.file_meta.TransferSyntaxUID)
    assert len(syntaxes) >= 6


def test_no_identity_of_a_bundled_file_is_left(region: tuple[MadeTrust, ...]) -> None:
    for _, file, source in files_of(region):
        made, bundled = dcmread(file), dcmread(BUNDLED / source)
        before = {str(bundled.get("PatientName", "")), str(bundled.get("PatientID", "")), bundled.StudyInstanceUID}
        before |= {bundled.SeriesInstanceUID, bundled.SOPInstanceUID}
        texts = {str(element.value) for element in made.iterall() if not element.tag.is_private}
        assert not texts & {text for text in before if len(text) > 3}


def test_file_meta_information_agrees_with_the_object(region: tuple[MadeTrust, ...]) -> None:
    for _, file, _ in files_of(region):
        dataset = dcmread(file)
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_no_instance_uid_is_used_twice_within_a_trust(region: tuple[MadeTrust, ...]) -> None:
    for trust in region:
        uids = [uid for study in trust.studies for series in study.series for uid in series.sop_instance_uids]
        assert len(uids) == len(set(uids))


def test_the_same_bytes_are_made_each_time(tmp_path: Path) -> None:
    first, again = made_in(tmp_path / "a"), made_in(tmp_path / "b")
    assert [file.read_bytes() for _, file, _ in files_of(first)] == [
        file.read_bytes() for _, file, _ in files_of(again)
    ]
    assert study_instance_uid(ANNE_HEAD_CT) == study_at(first, "RZ2", ANNE_HEAD_CT.name).study_instance_uid


def test_a_copied_study_has_the_same_uids_at_both_trusts_and_each_trusts_own_patient_number(
    region: tuple[MadeTrust, ...],
) -> None:
    here, there = study_at(region, "RZ2", ANNE_HEAD_CT.name), study_at(region, "RZ3", ANNE_HEAD_CT.name)
    assert here.study_instance_uid == there.study_instance_uid
    assert [series.sop_instance_uids for series in here.series] == [series.sop_instance_uids for series in there.series]
    ids = [dcmread(study.series[0].files[0]).PatientID for study in (here, there)]
    assert ids == ["E0088123", "77-1203"]


def test_two_patients_share_an_accession_number_at_different_trusts() -> None:
    assert GRACE_BODY_CT.accession_number == HENRY_NECK_X_RAY.accession_number
    assert GRACE_BODY_CT.trusts == (EASTVALE,) and HENRY_NECK_X_RAY.trusts == (SOUTHBRIDGE,)


def test_one_nhs_number_carries_two_identities_and_one_patient_two_local_numbers(
    region: tuple[MadeTrust, ...],
) -> None:
    assert JACK.nhs_number == JACK_MISFILED.nhs_number and JACK.birth_date != JACK_MISFILED.birth_date
    numbers = {dcmread(file).PatientID for study, file, _ in files_of(region) if study.plan.patient is KATE}
    assert numbers == {"77-1210", "77-3350"}


def test_faith_has_no_studies() -> None:
    assert FAITH in PATIENTS and all(plan.patient is not FAITH for plan in STUDIES)


def test_accents_are_written_in_the_character_set_of_each_trust(region: tuple[MadeTrust, ...]) -> None:
    eve = [(study.trust, file) for study, file, _ in files_of(region) if study.plan.patient is EVE]
    for trust, file in eve:
        dataset = dcmread(file)
        assert dataset.SpecificCharacterSet == trust.character_set
        assert EVE.dicom_name.encode("latin-1") in file.read_bytes()
    assert eve


@pytest.mark.peer
def test_dcmtk_reads_every_file(region: tuple[MadeTrust, ...]) -> None:
    dcmdump = shutil.which("dcmdump", path="/usr/bin")
    if dcmdump is None:
        pytest.skip("dcmdump of DCMTK is not installed")
    files = [str(file) for _, file, _ in files_of(region)]
    dump = subprocess.run([dcmdump, "+P", "PatientID", *files], check=False, capture_output=True, text=True, timeout=60)
    # Some bundled files have a compressed frame of odd length, which DCMTK warns of; they stay as they are.
    errors = [line for line in dump.stderr.splitlines() if "is not a multiple of 2" not in line]
    assert (dump.returncode, errors) == (0, [])
    assert dump.stdout.count("9990000018") == sum(
        study.plan.patient.given_name == "Anne" for study, _, _ in files_of(region)
    )
