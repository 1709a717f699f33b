"""Rows of studies and series, folded from what is kept of their instances as an archive would list them (PS3.4 C.3.4).

A row speaks of one study or series at one trust. What differs from instance to instance within it is left out, what a
query computes is computed: how many there are, and of which kinds. Knows neither cache nor policy. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.model.attributes import (
    ACCESSION_ISSUER,
    BODY_PART,
    INSTITUTION_NAME,
    PATIENT_ID_QUALIFIERS,
    PERFORMED_DATE,
    PERFORMED_TIME,
    REFERRING_PHYSICIAN,
    REQUEST_ATTRIBUTES,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    STUDY_DESCRIPTION,
    STUDY_ID,
    TIMEZONE_OFFSET,
)
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Attributes,
    Element,
    JsonValue,
)
from gateway.model.work.transfers import InstanceRef

SOP_CLASSES_IN_STUDY, STUDY_SERIES, STUDY_INSTANCES, SERIES_INSTANCES = "00080062", "00201206", "00201208", "00201209"

_OF_PATIENT = (
    *(PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_ID_QUALIFIERS, PATIENT_BIRTH_DATE, "00100032"),
    *(PATIENT_SEX, OTHER_PATIENT_IDS, "00101010", "00101020", "00101030", "00104000"),
)
_OF_STUDY = (
    *(STUDY_UID, STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, ACCESSION_ISSUER, REFERRING_PHYSICIAN, STUDY_ID),
    *(STUDY_DESCRIPTION, "00081032", "00081060", INSTITUTION_NAME, TIMEZONE_OFFSET),
)
_OF_SERIES = (
    *(SERIES_UID, MODALITY, SERIES_NUMBER, SERIES_DESCRIPTION, BODY_PART, "00080021", "00080031", "00181030"),
    *("00200060", PERFORMED_DATE, PERFORMED_TIME, REQUEST_ATTRIBUTES),
)
STUDY_TAGS = frozenset((*_OF_PATIENT, *_OF_STUDY))
"""What all instances of a study have in common."""
SERIES_TAGS = STUDY_TAGS.union(_OF_SERIES)
"""And those of a series."""


def series_row(said: Attributes, refs: Sequence[InstanceRef]) -> Attributes:
    """The row of a series of these instances, one of which says this of itself."""
    row = {tag: element for tag, element in said.items() if tag in SERIES_TAGS}
    return {**row, SERIES_INSTANCES: _count(len(refs))}


def study_row(series: Sequence[Attributes], refs: Sequence[InstanceRef]) -> Attributes:
    """The row of a study of these instances; of each series one instance says what is in `series`, never empty.

    The first that says anything of an attribute speaks.
    """
    row: dict[str, Element] = {}
    for said in series:
        for tag, element in said.items():
            if tag in STUDY_TAGS and (tag not in row or not row[tag].get("Value")):
                row[tag] = element
    modalities = sorted({text for said in series for text in _texts(said, MODALITY)})
    if modalities:
        row[MODALITIES_IN_STUDY] = _of("CS", modalities)
    row[SOP_CLASSES_IN_STUDY] = _of("UI", sorted({ref.sop_class_uid for ref in refs}))
    row[STUDY_SERIES] = _count(len({ref.series_uid for ref in refs}))
    row[STUDY_INSTANCES] = _count(len(refs))
    return row


def image_row(said: Attributes, of_series: Mapping[str, Element]) -> Attributes:
    """The row of an instance that says this, and of whose series more is known."""
    common = {tag: element for tag, element in of_series.items() if tag in SERIES_TAGS}
    return {**common, **said}


def _count(number: int) -> Element:
    return {"vr": "IS", "Value": [number]}


def _of(vr: str, texts: Sequence[str]) -> Element:
    values: list[JsonValue] = list(texts)
    return {"vr": vr, "Value": values}


def _texts(row: Attributes, tag: str) -> list[str]:
    values = row.get(tag, {}).get("Value")
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
