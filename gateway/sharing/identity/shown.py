"""The identity that a caller is shown (SAF-34; domain.md C4).

The caller's own hospital number stands as Patient ID only where the caller's own trust said that it is this person's;
else the NHS number does, with its issuer. Every other number, the source's own and superseded ones, is kept in Other
Patient IDs. UIDs and demographics stay those of the source. Pure.
"""

from __future__ import annotations

from gateway.model.imaging import ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_ID, Element, JsonValue
from gateway.model.seams import CrossReference
from gateway.sharing.identity.patients import RowIdentity
from gateway.sharing.identity.translation import OwnNumbers
from policy.parties import NHS_NUMBER_ISSUER, NhsNumber, PatientId


def own_number(person: CrossReference, hospital: OwnNumbers) -> PatientId | None:
    """The number under which this trust files the person, by its own word; None without one, or with several.

    None as well for a trust that files under several hospitals' numbers since it took another one over: which of them a
    caller's system takes a bare number for is not known here, and the same number is another patient's at the other.
    """
    if len(hospital.numberings) > 1:
        return None
    own = {
        linked.patient_id
        for linked in person.local
        if hospital.is_own_word(linked.source) and linked.patient_id.issuer in hospital.issuers
    }
    return own.pop() if len(own) == 1 else None


def shown_identity(identity: RowIdentity, own: PatientId | None = None) -> dict[str, Element]:
    """The identity attributes that stand in place of the row's own; none for a row that names no person."""
    if identity.nhs_number is None:
        return {}
    number = _nhs(identity.nhs_number)
    if own is None and not identity.local_ids and identity.carried == {identity.nhs_number}:
        return _patient_id(number)  # nearly every row
    patient_id = own or number
    others = dict.fromkeys(
        (
            *([] if own is None else [number]),
            *(_nhs(former) for former in sorted(identity.carried - {identity.nhs_number})),
            *identity.local_ids,
        )
    )
    others.pop(patient_id, None)
    shown = _patient_id(patient_id)
    if others:
        shown[OTHER_PATIENT_IDS] = {"vr": "SQ", "Value": [_item(other) for other in others]}
    return shown


def _patient_id(identifier: PatientId) -> dict[str, Element]:
    return {
        PATIENT_ID: {"vr": "LO", "Value": [identifier.value]},
        ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": [identifier.issuer]},
    }


def _item(identifier: PatientId) -> dict[str, JsonValue]:
    issuer: JsonValue = {"vr": "LO", "Value": [identifier.issuer]} if identifier.issuer else {"vr": "LO"}
    return {PATIENT_ID: {"vr": "LO", "Value": [identifier.value]}, ISSUER_OF_PATIENT_ID: issuer}


def _nhs(number: NhsNumber) -> PatientId:
    return PatientId(NHS_NUMBER_ISSUER, number.digits)
