"""Rows as archives answer them, and the candidates they become; each test says only what matters to it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    Attributes,
    Element,
    JsonValue,
    Key,
    Level,
    Query,
)
from gateway.sharing.identity.patients import identity_of
from gateway.sharing.merge import Candidate, candidate
from policy.parties import NhsNumber, TrustId

ANNE, BEN, CLARA = NhsNumber("9990000018"), NhsNumber("9990000026"), NhsNumber("9990000034")
RZ1, RZ2, RZ3, RZ4 = TrustId("RZ1"), TrustId("RZ2"), TrustId("RZ3"), TrustId("RZ4")

INSTANCES_OF_STUDY = "00201208"

TAGS = {
    "study": (STUDY_UID, "UI"),
    "series": (SERIES_UID, "UI"),
    "image": (SOP_UID, "UI"),
    "patient_id": (PATIENT_ID, "LO"),
    "issuer": (ISSUER_OF_PATIENT_ID, "LO"),
    "name": (PATIENT_NAME, "PN"),
    "born": (PATIENT_BIRTH_DATE, "DA"),
    "sex": (PATIENT_SEX, "CS"),
    "date": (STUDY_DATE, "DA"),
    "accession": (ACCESSION_NUMBER, "SH"),
    "modality": (MODALITY, "CS"),
    "modalities": (MODALITIES_IN_STUDY, "CS"),
    "instances": (INSTANCES_OF_STUDY, "IS"),
}


def row(study: str = "1.2.3", patient: NhsNumber | None = ANNE, **attributes: JsonValue) -> Attributes:
    """A row of an archive that files under NHS numbers; `modalities="CT,SR"` gives several values.

    It is about a Smith, Anne, born in 1958, unless `name` and `born` say other; empty ones are left out.
    """
    written: dict[str, JsonValue] = {"study": study, "name": "SMITH^ANNE", "born": "19580314", **attributes}
    if patient is not None:
        written = {"patient_id": patient.digits, "issuer": "NHS", **written}
    found: dict[str, Element] = {}
    for key, value in written.items():
        tag, vr = TAGS[key]
        if key in ("name", "born") and value == "":
            continue
        values: list[JsonValue] = [{"Alphabetic": value}] if vr == "PN" else [value]
        if key == "modalities" and isinstance(value, str):
            values = list(value.split(","))
        found[tag] = {"vr": vr, "Value": values}
    return found


def found(trust: TrustId, row: Attributes, level: Level = Level.STUDY, default_issuer: str = "") -> Candidate:
    """A row as a candidate of this trust."""
    entry = candidate(level, trust, identity_of(row, default_issuer), row)
    assert entry is not None
    return entry


def values(attributes: Attributes, tag: str) -> Sequence[JsonValue]:
    """The values of an attribute, none if it is absent or empty."""
    listed = attributes.get(tag, {}).get("Value")
    return listed if isinstance(listed, list) else []


def asking_for(
    patient: NhsNumber, *keys: Key, level: Level = Level.STUDY, at: str | None = None, born: str = ""
) -> Query:
    """A question by NHS number, of one trust alone if `at` names it, with a birth date beside it if one is given."""
    stated = (Key((PATIENT_BIRTH_DATE,), "DA", (born,)),) if born else ()
    only_trust = TrustId(at) if at is not None else None
    return Query(level, (Key((PATIENT_ID,), "LO", (patient.digits,)), *stated, *keys), only_trust=only_trust)


def asking_for_study(*uids: str, level: Level = Level.STUDY, at: str | None = None) -> Query:
    """A question by study UID, of one trust alone if `at` names it."""
    only_trust = TrustId(at) if at is not None else None
    return Query(level, (Key((STUDY_UID,), "UI", uids),), only_trust=only_trust)
