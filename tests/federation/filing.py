"""What the foreign archives of the mixed region hold, and the truth that every answer is held to.

Westhaven's archive files under numbers of its own, Anne under two, which only links make theirs; Oakfield's files under
the NHS number. Both hold a copy of the head CT that Eastvale and Southbridge hold, and studies of
their own. Harbourside's speaks from a script, and its rows are made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread

from gateway.demo import cast
from gateway.demo.cast import ANNE, BEN, EASTVALE, EVE, GRACE, SOUTHBRIDGE, Patient, StudyPlan, Trust
from gateway.demo.images import MadeStudy, study_instance_uid
from gateway.model.imaging import PATIENT_ID, STUDY_UID, Element
from tests.peers import dcmqrscp, dimse_archive, orthanc
from tests.peers.dimse_archive import element

WESTHAVEN: Final = Trust("RZ4", "Westhaven NHS Trust", dcmqrscp.AE_TITLE, "WESTHAVEN-PAS", "ISO_IR 100")
OAKFIELD: Final = Trust("RZ5", "Oakfield NHS Trust", orthanc.AE_TITLE, "OAKFIELD-PAS", "ISO_IR 192")
HARBOURSIDE: Final = Trust("RZ6", "Harbourside NHS Trust", dimse_archive.AE_TITLE, "HARBOURSIDE-PAS", "ISO_IR 100")
FOREIGN: Final = (WESTHAVEN, OAKFIELD, HARBOURSIDE)

WESTHAVENS_NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    ANNE.nhs_number: ("W-4711", "W-4712"),
    BEN.nhs_number: ("W-4720",),
    EVE.nhs_number: ("W-4750",),
    GRACE.nhs_number: ("W-4770",),
}
TWO_PATIENTS_UID: Final = "2.25.3141592653589793"
"""Grace's at Westhaven and Henry's at Oakfield, which cannot be."""


@dataclass(frozen=True, slots=True)
class Filing:
    """One of the region's studies as a foreign archive files it."""

    plan: StudyPlan
    """Whose images these are."""
    study_uid: str
    patient_id: str
    issuer: str
    declares_charset: bool = True


def own(plan: StudyPlan, trust: Trust) -> str:
    """The UID of a study that this trust alone holds."""
    return f"{study_instance_uid(plan)}.{trust.ods_code[-1]}"


def _westhavens(plan: StudyPlan, study_uid: str = "", number: int = 0, *, declares_charset: bool = True) -> Filing:
    patient_id = WESTHAVENS_NUMBERS[plan.patient.nhs_number][number]
    return Filing(plan, study_uid or study_instance_uid(plan), patient_id, WESTHAVEN.local_issuer, declares_charset)


def _oakfields(plan: StudyPlan, study_uid: str = "") -> Filing:
    return Filing(plan, study_uid or study_instance_uid(plan), plan.patient.nhs_number, "NHS")


FILED_AT_WESTHAVEN: Final = (
    _westhavens(cast.ANNE_HEAD_CT),
    _westhavens(cast.ANNE_BODY_CT, own(cast.ANNE_BODY_CT, WESTHAVEN), 1),
    _westhavens(cast.BEN_BODY_CT),
    _westhavens(cast.EVE_HEAD_CT, own(cast.EVE_HEAD_CT, WESTHAVEN), declares_charset=False),
    _westhavens(cast.GRACE_BODY_CT, TWO_PATIENTS_UID),
)
FILED_AT_OAKFIELD: Final = (
    _oakfields(cast.ANNE_HEAD_CT),
    _oakfields(cast.ANNE_HEART_US, own(cast.ANNE_HEART_US, OAKFIELD)),
    _oakfields(cast.BEN_ABDOMEN_US),
    _oakfields(cast.EVE_HEAD_CT, own(cast.EVE_HEAD_CT, OAKFIELD)),
    _oakfields(cast.HENRY_NECK_X_RAY, TWO_PATIENTS_UID),
)
HARBOURSIDES: Final = "2.25.2718281828459045"
"""The one study that Harbourside has, an MR of Anne's."""

TRUTH: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    ANNE.nhs_number: {
        EASTVALE.ods_code: frozenset(map(study_instance_uid, (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT))),
        SOUTHBRIDGE.ods_code: frozenset(map(study_instance_uid, (cast.ANNE_HEAD_CT, cast.ANNE_HEART_US))),
        WESTHAVEN.ods_code: frozenset(
            (study_instance_uid(cast.ANNE_HEAD_CT), own(cast.ANNE_BODY_CT, WESTHAVEN)),
        ),
        OAKFIELD.ods_code: frozenset((study_instance_uid(cast.ANNE_HEAD_CT), own(cast.ANNE_HEART_US, OAKFIELD))),
        HARBOURSIDE.ods_code: frozenset((HARBOURSIDES,)),
    },
    EVE.nhs_number: {
        # Eastvale holds an MR of hers, and shares none.
        SOUTHBRIDGE.ods_code: frozenset((study_instance_uid(cast.EVE_HEAD_CT),)),
        WESTHAVEN.ods_code: frozenset((own(cast.EVE_HEAD_CT, WESTHAVEN),)),
        OAKFIELD.ods_code: frozenset((own(cast.EVE_HEAD_CT, OAKFIELD),)),
    },
    BEN.nhs_number: {},
    cast.FAITH.nhs_number: {},
}
"""By NHS number and ODS code, the studies that Northmoor is to find there. Ben has opted out, Faith has none."""


def found(patient: Patient, *without: Trust) -> frozenset[str]:
    """What Northmoor is to find of a patient when these trusts bring nothing."""
    left_out = {trust.ods_code for trust in without}
    return frozenset().union(*(uids for code, uids in TRUTH[patient.nhs_number].items() if code not in left_out))


def write(filings: Sequence[Filing], made: Sequence[MadeStudy], folder: Path) -> Iterator[Path]:
    """Write the images of these studies as they are filed; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for filing in filings:
        study = next(each for each in made if each.plan is filing.plan)
        for file in (file for series in study.series for file in series.files):
            dataset = dcmread(file)
            dataset.decode()
            dataset.PatientID, dataset.IssuerOfPatientID = filing.patient_id, filing.issuer
            del dataset.OtherPatientIDsSequence
            if filing.study_uid != study.study_instance_uid:
                end = filing.study_uid.rpartition(".")[2]
                dataset.StudyInstanceUID = filing.study_uid
                dataset.SeriesInstanceUID += f".{end}"
                dataset.SOPInstanceUID += f".{end}"
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            if not filing.declares_charset:
                del dataset.SpecificCharacterSet  # what is written is Latin-1 all the same
            path = folder / f"{dataset.SOPInstanceUID}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            yield path


def scripted_row(study_uid: str = HARBOURSIDES, patient: Patient = ANNE) -> dict[str, Element]:
    """A study as Harbourside's archive knows it, under the NHS number."""
    row = dimse_archive.study(1, patient.nhs_number)
    row |= {
        PATIENT_ID: element("LO", patient.nhs_number),
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": patient.dicom_name}]},
        "00100030": element("DA", f"{patient.birth_date:%Y%m%d}"),
        "00100040": element("CS", patient.sex),
        "00080061": element("CS", "MR"),
        STUDY_UID: element("UI", study_uid),
    }
    return row
