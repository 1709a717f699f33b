"""The images that all contenders answer from: the same hundred studies, for Orthanc as files, for the archive as rows.

Two sets of a hundred: one patient with a hundred studies, and a hundred patients with one each; so the same question
(`PatientID=` one NHS number) has a hundred matches in one and a single match in the other. All numbers are of the 999
range. Pure.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from gateway.model.imaging import JsonValue
from policy.parties import InvalidIdentifier, NhsNumber

_ROOT_UID = "2.25.31415926535897932384626433"
_REGIONS = ("Head", "Thorax", "Abdomen", "Pelvis", "Knee RT")
_FIRST_DAY = date(2019, 3, 1)


@dataclass(frozen=True, slots=True)
class Study:
    """One study of one series of one instance, as far as a study-level answer shows it."""

    number: int
    patient: NhsNumber

    @property
    def uid(self) -> str:
        """Its Study Instance UID."""
        return f"{_ROOT_UID}.{self.number}"

    @property
    def description(self) -> str:
        """Its Study Description."""
        return f"CT {_REGIONS[self.number % len(_REGIONS)]} with contrast"

    @property
    def day(self) -> str:
        """Its Study Date."""
        return (_FIRST_DAY + timedelta(days=self.number % 2_500)).strftime("%Y%m%d")

    @property
    def name(self) -> str:
        """The patient's name, one for each patient."""
        return f"BENCHMARK^P{self.patient.digits[3:9]}"


def of_one_patient(count: int, first_number: int = 1) -> list[Study]:
    """So many studies of the first patient."""
    patient = next(_numbers())
    return [Study(first_number + index, patient) for index in range(count)]


def of_many_patients(count: int, first_number: int = 100_001) -> list[Study]:
    """One study for each of so many further patients."""
    numbers = _numbers()
    next(numbers)
    return [Study(first_number + index, next(numbers)) for index in range(count)]


def question(patient: NhsNumber) -> str:
    """The path of a study-level question that names one patient."""
    return f"/dicom-web/studies?PatientID={patient.digits}"


def rows(studies: Iterable[Study]) -> str:
    """The DICOM JSON answer that a trust's archive would give (PS3.18 Table 10.6.3-3)."""
    return json.dumps([_row(study) for study in studies], separators=(",", ":"))


def elements(row: Mapping[str, JsonValue]) -> dict[int, str]:
    """A row as text by tag, as C-FIND carries it."""
    texts = {}
    for tag, element in row.items():
        assert isinstance(element, dict) and isinstance(element["Value"], list)
        value = element["Value"][0]
        texts[int(tag, 16)] = str(value["Alphabetic"] if isinstance(value, dict) else value)
    return texts


def file(study: Study) -> bytes:
    """A header-only CT instance of the study, as a DICOM file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"{study.uid}.1.1")
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{study.uid}.1.1"
    dataset.SeriesInstanceUID = f"{study.uid}.1"
    dataset.StudyInstanceUID = study.uid
    dataset.StudyDate, dataset.StudyTime = study.day, "101500"
    dataset.AccessionNumber = f"A{study.number:08}"
    dataset.Modality = "CT"
    dataset.ReferringPhysicianName = "REFERRER^ANY"
    dataset.StudyDescription = study.description
    dataset.PatientName = study.name
    dataset.PatientID = study.patient.digits
    dataset.PatientBirthDate, dataset.PatientSex = "19580412", "F"
    dataset.StudyID = str(study.number)
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


def _row(study: Study) -> dict[str, JsonValue]:
    def element(vr: str, *values: JsonValue) -> JsonValue:
        return {"vr": vr, "Value": list(values)}

    return {
        "00080005": element("CS", "ISO_IR 192"),
        "00080020": element("DA", study.day),
        "00080030": element("TM", "101500"),
        "00080050": element("SH", f"A{study.number:08}"),
        "00080056": element("CS", "ONLINE"),
        "00080061": element("CS", "CT"),
        "00080090": element("PN", {"Alphabetic": "REFERRER^ANY"}),
        "00081030": element("LO", study.description),
        "00081190": element("UR", f"http://localhost/dicom-web/studies/{study.uid}"),
        "00100010": element("PN", {"Alphabetic": study.name}),
        "00100020": element("LO", study.patient.digits),
        "00100021": element("LO", "NHS"),
        "00100030": element("DA", "19580412"),
        "00100040": element("CS", "F"),
        "0020000D": element("UI", study.uid),
        "00200010": element("SH", str(study.number)),
        "00201206": element("IS", 1),
        "00201208": element("IS", 1),
    }


def _numbers() -> Iterator[NhsNumber]:
    """The synthetic NHS numbers in order, as long as there are any."""
    for stem in range(999_000_001, 999_999_999):
        for check in range(10):
            try:
                yield NhsNumber.parse(f"{stem}{check}")
            except InvalidIdentifier:
                continue
