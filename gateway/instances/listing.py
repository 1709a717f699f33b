"""What a query would say of an instance, from its header: enough to tell whose it is, and which (PS3.4 C.6)."""

from __future__ import annotations

from gateway.instances.charsets import known
from gateway.instances.encoding.json_values import JsonValues
from gateway.instances.encoding.values import declared_terms
from gateway.instances.header import (
    ACCESSION_NUMBER,
    BIRTH_DATE,
    CHARACTER_SET,
    INSTANCE_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_NUMBER,
    SERIES_UID,
    SEX,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_DATE,
    STUDY_UID,
    Header,
)
from gateway.model.imaging import Attributes, Element

_VRS = {
    SOP_CLASS_UID: "UI",
    SOP_INSTANCE_UID: "UI",
    STUDY_DATE: "DA",
    ACCESSION_NUMBER: "SH",
    MODALITY: "CS",
    PATIENT_NAME: "PN",
    PATIENT_ID: "LO",
    ISSUER_OF_PATIENT_ID: "LO",
    BIRTH_DATE: "DA",
    SEX: "CS",
    STUDY_UID: "UI",
    SERIES_UID: "UI",
    SERIES_NUMBER: "IS",
    INSTANCE_NUMBER: "IS",
}

ROW_TAGS = frozenset(f"{tag:08X}" for tag in _VRS)
"""What a row says at most."""


def row_of(header: Header) -> Attributes:
    """The instance's row at level IMAGE; attributes that it does not have, or that cannot be read, are left out."""
    values = JsonValues(
        known(declared_terms(header.values.get(CHARACTER_SET, b""))), is_little=not header.is_big_endian
    )
    row: dict[str, Element] = {}
    for tag, vr in _VRS.items():
        found = values.read(vr, header.values[tag]) if header.values.get(tag) else None
        if found:
            row[f"{tag:08X}"] = {"vr": vr, "Value": found}
    return row
