"""Make the demo region's images: real pixels from pydicom's bundled test files under invented identities.

Only what identifies is replaced (patient, dates, accession, people, UIDs); pixel data stays byte for byte, compressed
files included. Every UID is derived from its place in the region, so that two runs of a demo, or a demo and its test,
agree on them. Knows the cast and pydicom, nothing of the gateway.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from gateway.demo.cast import NHS_NUMBER_ISSUER, NHS_NUMBER_OID, STUDIES, Patient, StudyPlan, Trust

_BUNDLED: Final = Path(pydicom.data.__file__).parent / "test_files"
_STALE: Final = (
    # Who was examined, by whom and on whose machine; and references to objects that are not part of the region.
    "OtherPatientIDs", "OtherPatientNames", "PatientAge", "PatientAddress", "PatientTelephoneNumbers",
    "AdditionalPatientHistory", "PatientComments", "EthnicGroup", "IssuerOfPatientIDQualifiersSequence",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "OperatorsName", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "RequestingService", "StudyComments", "ImageComments",
    "ReferencedStudySequence", "ReferencedPerformedProcedureStepSequence", "ReferencedImageSequence",
    "SourceImageSequence", "RequestedProcedureDescription", "StorageMediaFileSetUID", "StorageMediaFileSetID",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MadeSeries:
    """One series as written: its UID and its instances' UIDs and files, in order."""

    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class MadeStudy:
    """One study as it lies in one trust's data folder."""

    plan: StudyPlan
    trust: Trust
    study_instance_uid: str
    series: tuple[MadeSeries, ...]


@dataclass(frozen=True, slots=True)
class MadeTrust:
    """One trust's data folder and the studies in it."""

    trust: Trust
    folder: Path
    studies: tuple[MadeStudy, ...]


def make_trust(trust: Trust, data_folder: Path) -> MadeTrust:
    """Write one trust's images into its data folder, the same bytes each time.

    Raises `FileNotFoundError` if a source file is not bundled with the installed pydicom; nothing is downloaded.
    """
    studies = tuple(_make_study(plan, trust, data_folder) for plan in STUDIES if trust in plan.trusts)
    return MadeTrust(trust, data_folder, studies)


def study_instance_uid(plan: StudyPlan) -> str:
    """The Study Instance UID that `make_trust` gives this study."""
    return _uid(plan.name)


def _uid(*path: str) -> str:
    """A UUID-derived UID (PS3.5 B.2) that depends on nothing but the place in the region."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(('image-sharing-gateway', 'region', *path))).int}"


def _make_study(plan: StudyPlan, trust: Trust, data_folder: Path) -> MadeStudy:
    study_folder = data_folder / plan.name
    study_folder.mkdir(parents=True, exist_ok=True)
    series_made = []
    for series_number, series in enumerate(plan.series, start=1):
        series_uid = _uid(plan.name, str(series_number))
        uids, files = [], []
        for instance_number, source in enumerate(series.sources, start=1):
            dataset = dcmread(_BUNDLED / source)
            dataset.decode()
            _put_patient(dataset, plan, trust)
            _put_study(dataset, plan, trust)
            dataset.StudyInstanceUID = study_instance_uid(plan)
            dataset.SeriesInstanceUID = series_uid
            dataset.SOPInstanceUID = _uid(plan.name, str(series_number), str(instance_number))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            if "FrameOfReferenceUID" in dataset:
                dataset.FrameOfReferenceUID = _uid(plan.name, str(series_number), "frame-of-reference")
            dataset.SeriesNumber, dataset.SeriesDescription = series_number, series.description
            dataset.InstanceNumber = instance_number
            file = study_folder / f"{series_number}-{instance_number}.dcm"
            _write(dataset, file)
            uids.append(str(dataset.SOPInstanceUID))
            files.append(file)
        series_made.append(MadeSeries(series_uid, tuple(uids), tuple(files)))
    return MadeStudy(plan, trust, study_instance_uid(plan), tuple(series_made))


def _put_patient(dataset: Dataset, plan: StudyPlan, trust: Trust) -> None:
    """Identity as hospitals carry it: the local number first, the NHS number among the other identifiers."""
    patient = plan.patient
    for keyword in _STALE:
        if keyword in dataset:
            del dataset[keyword]
    dataset.SpecificCharacterSet = trust.character_set
    dataset.PatientName = patient.dicom_name
    dataset.PatientID = plan.local_number or patient.local_numbers[trust.ods_code][0]
    dataset.IssuerOfPatientID = trust.local_issuer
    dataset.OtherPatientIDsSequence = [_nhs_number_item(patient)]
    dataset.PatientBirthDate = patient.birth_date.strftime("%Y%m%d")
    dataset.PatientSex = patient.sex


def _nhs_number_item(patient: Patient) -> Dataset:
    qualifiers = Dataset()
    qualifiers.UniversalEntityID = NHS_NUMBER_OID
    qualifiers.UniversalEntityIDType = "ISO"
    item = Dataset()
    item.PatientID = patient.nhs_number
    item.IssuerOfPatientID = NHS_NUMBER_ISSUER
    item.TypeOfPatientID = "TEXT"
    item.IssuerOfPatientIDQualifiersSequence = [qualifiers]
    return item


def _put_study(dataset: Dataset, plan: StudyPlan, trust: Trust) -> None:
    """The study's own facts. A copy keeps the accession number and institution of the trust that made it."""
    maker = plan.trusts[0]
    study_date, study_time = plan.study_date.strftime("%Y%m%d"), plan.study_time.strftime("%H%M%S")
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = maker.ods_code
    dataset.AccessionNumber = plan.accession_number
    dataset.IssuerOfAccessionNumberSequence = [issuer]
    dataset.StudyID = plan.accession_number
    dataset.StudyDescription = plan.description
    dataset.ReferringPhysicianName = plan.referring_physician
    dataset.InstitutionName = maker.name
    dataset.TimezoneOffsetFromUTC = "+0000"
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PerformedProcedureStepStartDate"):
        setattr(dataset, keyword, study_date)
    for keyword in ("StudyTime", "SeriesTime", "PerformedProcedureStepStartTime"):
        setattr(dataset, keyword, study_time)
    request = Dataset()
    request.ScheduledProcedureStepID = f"{plan.accession_number}-1"
    request.RequestedProcedureID = plan.accession_number
    dataset.RequestAttributesSequence = [request]


def _write(dataset: FileDataset, file: Path) -> None:
    # Group length elements are retired, and stale as soon as one attribute of their group has changed length.
    for tag in [element.tag for element in dataset if element.tag.element == 0]:
        del dataset[tag]
    dataset.save_as(file, enforce_file_format=True)
