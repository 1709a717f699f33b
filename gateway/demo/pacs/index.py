"""What the simulated PACS holds: a folder of DICOM files, indexed in memory when it starts.

Rows for both doors come from here, one set for each query level, each row with the attributes of its own level and of
those above. Pixels are never read for it; an instance's bytes stay in its file. Objects that are stored later go to
the folder's `received` and into the index. Used by the event loop and by pynetdicom's threads.
"""

import re
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH_MAX: Final = 64
_UNFINISHED: Final = ".part"


class NotAnInstance(ValueError):
    """Bytes that are no DICOM object with the UIDs of PS3.3 C.12.1."""


class Level(IntEnum):
    """Query levels from the top; a row knows everything of the levels above its own."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


_KEPT: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.PATIENT: (
        "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence", "PatientBirthDate", "PatientSex",
    ),
    Level.STUDY: (
        "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "StudyID",
        "StudyDescription", "ReferringPhysicianName", "InstitutionName", "TimezoneOffsetFromUTC",
    ),
    Level.SERIES: (
        "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "Laterality",
        "SeriesDate", "SeriesTime", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
        "RequestAttributesSequence",
    ),
    Level.IMAGE: (
        "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
    ),
}  # fmt: skip
_COMPUTED: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.PATIENT: (
        "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances",
    ),
    Level.STUDY: (
        "ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
        "InstanceAvailability",
    ),
    Level.SERIES: ("NumberOfSeriesRelatedInstances",),
    Level.IMAGE: (),
}  # fmt: skip
UNIQUE_KEYS: Final[Mapping[Level, str]] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


SUPPORTED: Final[Mapping[Level, frozenset[int]]] = {
    level: frozenset(
        _tag(keyword) for above in Level if above <= level for keyword in (*_KEPT[above], *_COMPUTED[above])
    )
    for level in Level
}
"""The attributes that can be matched and returned at each level."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored object: where it lies, how it is encoded, and the attributes that rows are made of."""

    file: Path
    transfer_syntax_uid: str
    attributes: Dataset

    def uid(self, level: Level) -> str:
        """The unique key of that level."""
        return str(self.attributes[UNIQUE_KEYS[level]].value)


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to a query: the attributes, and the same as DICOM JSON."""

    level: Level
    attributes: Dataset
    json: Mapping[str, object]


def make_row(level: Level, attributes: Dataset) -> Row:
    """A row with its JSON worked out once."""
    return Row(level, attributes, attributes.to_json_dict())


class Index:
    """All instances of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._instances: dict[str, Instance] = {}
        self._rows: dict[Level, tuple[Row, ...]] = {}

    def load(self) -> None:
        """Read the headers of every DICOM file below the folder; files of other kinds are passed over."""
        for file in sorted(self._folder.rglob("*")):
            if file.is_file() and file.suffix != _UNFINISHED:
                try:
                    self._put(_read(file))
                except NotAnInstance:
                    continue

    def add(self, instance: Instance, content: bytes) -> Instance:
        """Keep one object, given as `read_instance` returns it, with its bytes; it replaces one of the same UID."""
        received = self._folder / "received"
        received.mkdir(parents=True, exist_ok=True)
        file = received / f"{instance.uid(Level.IMAGE)}.dcm"
        unfinished = file.with_suffix(f".{threading.get_ident()}{_UNFINISHED}")
        unfinished.write_bytes(content)
        unfinished.replace(file)
        stored = Instance(file, instance.transfer_syntax_uid, instance.attributes)
        self._put(stored)
        return stored

    def instances(self) -> list[Instance]:
        """Every instance, ordered by study date, then by series and instance number."""
        with self._lock:
            return sorted(self._instances.values(), key=_order)

    def rows(self, level: Level) -> tuple[Row, ...]:
        """One row for each entity of the level, in a fixed order."""
        with self._lock:
            known = self._rows.get(level)
            held = tuple(self._instances.values())
        if known is None:
            known = tuple(_rows(sorted(held, key=_order), level))
            with self._lock:
                if len(held) == len(self._instances):
                    self._rows[level] = known
        return known

    def count(self, level: Level) -> int:
        """How many entities of that level are held."""
        return len(self.rows(level))

    def _put(self, instance: Instance) -> None:
        with self._lock:
            self._instances[instance.uid(Level.IMAGE)] = instance
            self._rows = {}


def is_uid(text: str) -> bool:
    """True if the text has the form of a UID (PS3.5 9.1); nothing else ever becomes part of a file's name."""
    return len(text) <= _UID_LENGTH_MAX and _UID.fullmatch(text) is not None


def read_instance(content: bytes) -> Instance:
    """An object from a DICOM file's bytes, not yet kept anywhere; raises `NotAnInstance`."""
    return _read(BytesIO(content))


def _read(source: Path | BytesIO) -> Instance:
    wanted = ["SpecificCharacterSet", *(keyword for level in Level for keyword in _KEPT[level])]
    try:
        dataset: FileDataset = dcmread(source, stop_before_pixels=True, specific_tags=wanted)
        dataset.decode()
        transfer_syntax_uid = str(dataset.file_meta.TransferSyntaxUID)
        uids = [str(dataset[UNIQUE_KEYS[level]].value) for level in Level if level is not Level.PATIENT]
        uids.append(str(dataset.SOPClassUID))
    except (InvalidDicomError, AttributeError, KeyError, ValueError, EOFError, struct.error) as error:
        raise NotAnInstance("no DICOM object, or one without its UIDs") from error
    if not all(is_uid(uid) for uid in uids):
        raise NotAnInstance("a UID is not made of numbers and dots")
    attributes = Dataset()
    for element in dataset:
        if element.keyword != "SpecificCharacterSet":
            attributes.add(element)
    return Instance(source if isinstance(source, Path) else Path(), transfer_syntax_uid, attributes)


def _order(instance: Instance) -> tuple[str, str, int, str, int, str]:
    held = instance.attributes
    return (
        str(held.get("StudyDate", "")), instance.uid(Level.STUDY),
        int(held.get("SeriesNumber") or 0), instance.uid(Level.SERIES),
        int(held.get("InstanceNumber") or 0), instance.uid(Level.IMAGE),
    )  # fmt: skip


def _rows(instances: Sequence[Instance], level: Level) -> Iterable[Row]:
    """One row for each group of instances that share this level's entity."""
    by_patient, by_study, by_series = _grouped(instances, 0), _grouped(instances, 1), _grouped(instances, 2)
    for path, members in _grouped(instances, level).items():
        attributes = Dataset()
        for above in Level:
            if above <= level:
                for keyword in _KEPT[above]:
                    if keyword in members[0].attributes:
                        attributes.add(members[0].attributes[keyword])
        patient = by_patient[path[:1]]
        attributes.NumberOfPatientRelatedStudies = len(_grouped(patient, 1))
        attributes.NumberOfPatientRelatedSeries = len(_grouped(patient, 2))
        attributes.NumberOfPatientRelatedInstances = len(patient)
        if level >= Level.STUDY:
            study = by_study[path[:2]]
            attributes.ModalitiesInStudy = sorted({str(one.attributes.get("Modality", "OT")) for one in study})
            attributes.SOPClassesInStudy = sorted({str(one.attributes.SOPClassUID) for one in study})
            attributes.NumberOfStudyRelatedSeries = len(_grouped(study, 2))
            attributes.NumberOfStudyRelatedInstances = len(study)
            attributes.InstanceAvailability = "ONLINE"
        if level >= Level.SERIES:
            attributes.NumberOfSeriesRelatedInstances = len(by_series[path[:3]])
        yield make_row(level, attributes)


def _grouped(instances: Sequence[Instance], level: int) -> dict[tuple[str, ...], list[Instance]]:
    groups: defaultdict[tuple[str, ...], list[Instance]] = defaultdict(list)
    for instance in instances:
        patient = f"{instance.attributes.get('PatientID', '')}\\{instance.attributes.get('IssuerOfPatientID', '')}"
        path = (patient, *(instance.uid(above) for above in (Level.STUDY, Level.SERIES, Level.IMAGE)))
        groups[path[: level + 1]].append(instance)
    return groups
