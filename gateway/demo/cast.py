"""Who and what the demo region is made of: three trusts, their patients and their studies.

Typed constants, so that the demo, its check and the tests name people (`ANNE`) instead of numbers. Everything is
invented: NHS numbers of the 999 range that is never issued, ODS codes of the right form that no trust bears.
Northmoor is the trust whose clinicians ask in the story; Eastvale and Southbridge hold what they ask for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from types import MappingProxyType
from typing import Final

NHS_NUMBER_ISSUER: Final = "NHS"
NHS_NUMBER_OID: Final = "2.16.840.1.113883.2.1.4.1"


@dataclass(frozen=True, slots=True)
class Trust:
    """One hospital trust: its ODS code, its PACS and the issuer of its local patient numbers."""

    ods_code: str
    name: str
    ae_title: str
    local_issuer: str
    character_set: str


@dataclass(frozen=True, slots=True)
class Patient:
    """One person as the trusts know them; `local_numbers` maps an ODS code to the hospital numbers held there."""

    nhs_number: str
    family_name: str
    given_name: str
    birth_date: date
    sex: str
    role: str
    local_numbers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def dicom_name(self) -> str:
        """The name as a DICOM PN value: family, then given."""
        return f"{self.family_name}^{self.given_name}"


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """One series: what it is called and which of pydicom's bundled files become its images, in order."""

    description: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """One study of the story. The first of `trusts` made it, the others hold a copy with the same UIDs."""

    name: str
    patient: Patient
    trusts: tuple[Trust, ...]
    study_date: date
    study_time: time
    accession_number: str
    description: str
    referring_physician: str
    series: tuple[SeriesPlan, ...]
    local_number: str = ""
    """Which hospital number it is filed under, where a patient has several at the trust; empty means the first."""


NORTHMOOR: Final = Trust("RZ1", "Northmoor Hospitals NHS Trust", "NORTHMOOR_PACS", "NORTHMOOR-PAS", "ISO_IR 192")
EASTVALE: Final = Trust("RZ2", "Eastvale University NHS Trust", "EASTVALE_PACS", "EASTVALE-PAS", "ISO_IR 100")
SOUTHBRIDGE: Final = Trust(
    "RZ3", "Southbridge NHS Foundation Trust", "SOUTHBRIDGE_PACS", "SOUTHBRIDGE-PAS", "ISO_IR 100"
)
TRUSTS: Final = (NORTHMOOR, EASTVALE, SOUTHBRIDGE)


def _numbers(**by_ods_code: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType(by_ods_code)


# Tables read better by rows than one argument a line.
# fmt: off
ANNE: Final = Patient(
    "9990000018", "WHITFIELD", "Anne", date(1958, 3, 14), "F", "known at all three trusts; allowed to be shared",
    _numbers(RZ1=("1002341",), RZ2=("E0088123",), RZ3=("77-1203",)),
)
BEN: Final = Patient(
    "9990000026", "CARTER", "Ben", date(1971, 9, 2), "M", "has opted out of sharing between trusts",
    _numbers(RZ1=("1002342",), RZ2=("E0088124",), RZ3=("77-1204",)),
)
CLARA: Final = Patient(
    "9990000034", "DUFFY", "Clara", date(1984, 12, 27), "F", "no trust but her own has a care relationship",
    _numbers(RZ2=("E0088125",), RZ3=("77-1205",)),
)
DAVID: Final = Patient(
    "9990000042", "OKAFOR", "David", date(2019, 6, 5), "M", "a child",
    _numbers(RZ2=("E0088126",), RZ3=("77-1206",)),
)
EVE: Final = Patient(
    "9990000050", "Ó BRIAIN-NÚÑEZ", "Ève Zoë", date(1990, 1, 31), "F", "a name with accents",
    _numbers(RZ2=("E0088127",), RZ3=("77-1207",)),
)
FAITH: Final = Patient("9990000069", "NWOSU", "Faith", date(1966, 7, 19), "F", "no studies anywhere")
GRACE: Final = Patient(
    "9990000077", "PATEL", "Grace", date(1949, 11, 8), "F", "her accession number is also Henry's, elsewhere",
    _numbers(RZ2=("0001234",)),
)
HENRY: Final = Patient(
    "9990000085", "SMITH-JONES", "Henry", date(1953, 2, 20), "M", "his accession number is also Grace's, elsewhere",
    _numbers(RZ3=("1234",)),
)
IVY: Final = Patient(
    "9990000093", "LINDQVIST", "Ivy", date(1995, 5, 23), "F", "one of her studies is labelled sensitive",
    _numbers(RZ2=("E0088128",), RZ3=("77-1208",)),
)
JACK: Final = Patient(
    "9990000107", "THORNE", "Jack", date(1962, 10, 11), "M", "another man's study is filed under his NHS number",
    _numbers(RZ3=("77-1209",)),
)
JACK_MISFILED: Final = Patient(
    "9990000107", "MARSH", "Leonard", date(1938, 4, 30), "M", "the other man, under Jack's NHS number at Eastvale",
    _numbers(RZ2=("E0088129",)),
)
KATE: Final = Patient(
    "9990000115", "O'NEILL", "Kate", date(1978, 8, 16), "F", "two hospital numbers at one trust",
    _numbers(RZ3=("77-1210", "77-3350")),
)
PATIENTS: Final = (ANNE, BEN, CLARA, DAVID, EVE, FAITH, GRACE, HENRY, IVY, JACK, KATE)

_NECK_X_RAY: Final = tuple(
    SeriesPlan(f"Cervical spine {view}", (f"dicomdirtests/77654033/{source}",))
    for view, source in (("lateral", "CR1/6154"), ("AP", "CR2/6247"), ("odontoid", "CR3/6278"))
)
_HEAD_SLICES: Final = tuple(f"dicomdirtests/77654033/CT2/{number}" for number in (17106, 17136, 17166, 17196))
_BODY_SLICES: Final = tuple(f"dicomdirtests/98892001/CT5N/{number}" for number in (2062, 2392, 2693, 3023, 3353))
_BRAIN_SLICES: Final = tuple(f"dicomdirtests/98892003/MR2/{number}" for number in (4950, 4981, 5011))

ANNE_NECK_X_RAY: Final = StudyPlan(
    "anne-neck-x-ray", ANNE, (NORTHMOOR,), date(2025, 11, 3), time(9, 12, 30), "N25110301",
    "XR cervical spine", "HOLLIS^Margaret^^Dr", _NECK_X_RAY,
)
ANNE_HEAD_CT: Final = StudyPlan(
    "anne-head-ct", ANNE, (EASTVALE, SOUTHBRIDGE), date(2026, 2, 17), time(22, 41, 5), "E26021744",
    "CT head", "ADEYEMI^Tunde^^Dr",
    (SeriesPlan("Head 5 mm", _HEAD_SLICES), SeriesPlan("Head plain", ("693_J2KI.dcm",))),
)
ANNE_BODY_CT: Final = StudyPlan(
    "anne-body-ct", ANNE, (EASTVALE,), date(2024, 6, 28), time(14, 3, 0), "E24062810",
    "CT abdomen with contrast", "D'ARCY^Zoë^^Dr", (SeriesPlan("Portal venous", ("CT_small.dcm",)),),
)
ANNE_LIVER_MR: Final = StudyPlan(
    "anne-liver-mr", ANNE, (EASTVALE,), date(2024, 7, 9), time(11, 30, 0), "E24070902",
    "MR liver", "ADEYEMI^Tunde^^Dr", (SeriesPlan("T1 VIBE, marked lesion", ("examples_overlay.dcm",)),),
)
ANNE_HEART_US: Final = StudyPlan(
    "anne-heart-us", ANNE, (SOUTHBRIDGE,), date(2026, 5, 6), time(16, 20, 45), "S-260506-7",
    "US heart", "VAUGHAN^Seán^^Dr",
    (SeriesPlan("Parasternal cine", ("examples_ybr_color.dcm",)), SeriesPlan("Stills", ("examples_jpeg2k.dcm",))),
)
BEN_NECK_X_RAY: Final = StudyPlan(
    "ben-neck-x-ray", BEN, (NORTHMOOR,), date(2026, 1, 8), time(10, 0, 0), "N26010803",
    "XR cervical spine", "HOLLIS^Margaret^^Dr", _NECK_X_RAY,
)
BEN_BODY_CT: Final = StudyPlan(
    "ben-body-ct", BEN, (EASTVALE,), date(2026, 3, 12), time(8, 55, 10), "E26031201",
    "CT chest and abdomen", "ADEYEMI^Tunde^^Dr", (SeriesPlan("Body 5 mm", _BODY_SLICES),),
)
BEN_ABDOMEN_US: Final = StudyPlan(
    "ben-abdomen-us", BEN, (SOUTHBRIDGE,), date(2026, 4, 1), time(13, 15, 0), "S-260401-2",
    "US abdomen", "VAUGHAN^Seán^^Dr", (SeriesPlan("Abdomen", ("examples_rgb_color.dcm",)),),
)
CLARA_BRAIN_MR: Final = StudyPlan(
    "clara-brain-mr", CLARA, (EASTVALE,), date(2025, 8, 21), time(17, 5, 0), "E25082109",
    "MR brain", "ADEYEMI^Tunde^^Dr", (SeriesPlan("T2 axial", ("MR_small.dcm", "MR_small_RLE.dcm")),),
)
CLARA_BONE_SCAN: Final = StudyPlan(
    "clara-bone-scan", CLARA, (SOUTHBRIDGE,), date(2025, 9, 2), time(12, 0, 0), "S-250902-1",
    "NM whole body bone", "VAUGHAN^Seán^^Dr", (SeriesPlan("Whole body", ("JPGExtended.dcm",)),),
)
DAVID_NECK_X_RAY: Final = StudyPlan(
    "david-neck-x-ray", DAVID, (SOUTHBRIDGE,), date(2026, 6, 14), time(19, 48, 0), "S-260614-5",
    "XR cervical spine", "VAUGHAN^Seán^^Dr", _NECK_X_RAY[:2],
)
DAVID_HIP_US: Final = StudyPlan(
    "david-hip-us", DAVID, (EASTVALE,), date(2019, 7, 30), time(10, 30, 0), "E19073003",
    "US hip", "ADEYEMI^Tunde^^Dr", (SeriesPlan("Hip", ("examples_palette.dcm",)),),
)
EVE_BRAIN_MR: Final = StudyPlan(
    "eve-brain-mr", EVE, (EASTVALE,), date(2026, 8, 3), time(9, 0, 0), "E26080300",
    "MR brain, Ménière's disease", "D'ARCY^Zoë^^Dr", (SeriesPlan("Brain axial", _BRAIN_SLICES),),
)
EVE_HEAD_CT: Final = StudyPlan(
    "eve-head-ct", EVE, (SOUTHBRIDGE,), date(2026, 8, 19), time(2, 17, 33), "S-260819-1",
    "CT head", "VAUGHAN^Seán^^Dr", (SeriesPlan("Head lossless", ("J2K_pixelrep_mismatch.dcm",)),),
)
GRACE_BODY_CT: Final = StudyPlan(
    "grace-body-ct", GRACE, (EASTVALE,), date(2026, 9, 1), time(15, 0, 0), "A123",
    "CT abdomen", "ADEYEMI^Tunde^^Dr", (SeriesPlan("Abdomen", ("CT_small.dcm",)),),
)
HENRY_NECK_X_RAY: Final = StudyPlan(
    "henry-neck-x-ray", HENRY, (SOUTHBRIDGE,), date(2026, 9, 1), time(15, 10, 0), "A123",
    "XR cervical spine", "VAUGHAN^Seán^^Dr", _NECK_X_RAY[:1],
)
IVY_PELVIS_US: Final = StudyPlan(
    "ivy-pelvis-us", IVY, (EASTVALE,), date(2026, 7, 7), time(11, 11, 0), "E26070711",
    "US pelvis", "D'ARCY^Zoë^^Dr", (SeriesPlan("Pelvis", ("examples_palette.dcm",)),),
)
IVY_HEAD_CT: Final = StudyPlan(
    "ivy-head-ct", IVY, (SOUTHBRIDGE,), date(2026, 7, 20), time(20, 2, 0), "S-260720-4",
    "CT head", "VAUGHAN^Seán^^Dr", (SeriesPlan("Head 5 mm", _HEAD_SLICES[:2]),),
)
JACK_BODY_CT: Final = StudyPlan(
    "jack-body-ct", JACK, (SOUTHBRIDGE,), date(2025, 12, 5), time(7, 45, 0), "S-251205-3",
    "CT chest and abdomen", "VAUGHAN^Seán^^Dr", (SeriesPlan("Body 5 mm", _BODY_SLICES[:3]),),
)
JACK_MISFILED_CT: Final = StudyPlan(
    "jack-misfiled-ct", JACK_MISFILED, (EASTVALE,), date(2025, 12, 9), time(18, 30, 0), "E25120915",
    "CT head", "ADEYEMI^Tunde^^Dr", (SeriesPlan("Head 5 mm", _HEAD_SLICES[2:]),),
)
KATE_BRAIN_MR: Final = StudyPlan(
    "kate-brain-mr", KATE, (SOUTHBRIDGE,), date(2023, 3, 3), time(10, 10, 0), "S-230303-8",
    "MR brain", "VAUGHAN^Seán^^Dr", (SeriesPlan("T2 axial", ("MR_small_jp2klossless.dcm",)),),
)
KATE_KNEE_MR: Final = StudyPlan(
    "kate-knee-mr", KATE, (SOUTHBRIDGE,), date(2026, 10, 1), time(8, 30, 0), "S-261001-1",
    "MR knee", "VAUGHAN^Seán^^Dr", (SeriesPlan("PD sagittal", ("MR_small_jpeg_ls_lossless.dcm",)),),
    local_number="77-3350",
)
STUDIES: Final = (
    ANNE_NECK_X_RAY, ANNE_HEAD_CT, ANNE_BODY_CT, ANNE_LIVER_MR, ANNE_HEART_US,
    BEN_NECK_X_RAY, BEN_BODY_CT, BEN_ABDOMEN_US, CLARA_BRAIN_MR, CLARA_BONE_SCAN,
    DAVID_NECK_X_RAY, DAVID_HIP_US, EVE_BRAIN_MR, EVE_HEAD_CT, GRACE_BODY_CT, HENRY_NECK_X_RAY,
    IVY_PELVIS_US, IVY_HEAD_CT, JACK_BODY_CT, JACK_MISFILED_CT, KATE_BRAIN_MR, KATE_KNEE_MR,
)
# fmt: on

SENSITIVE: Final = IVY_PELVIS_US
"""The study that its custodian labels sensitive in the story."""
