"""Rows of one answer may share an identity only when they say exactly the same of their patient."""

import pytest

from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    STUDY_UID,
    Attributes,
    JsonValue,
)
from gateway.sharing.identity.patients import Identities, identity_of

NHS_OID = "2.16.840.1.113883.2.1.4.1"
ANNE: Attributes = {
    PATIENT_ID: {"vr": "LO", "Value": ["9990000018"]},
    ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": ["NHS"]},
    PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": "EXAMPLE^ANNE"}]},
    PATIENT_BIRTH_DATE: {"vr": "DA", "Value": ["19580412"]},
    PATIENT_SEX: {"vr": "CS", "Value": ["F"]},
    STUDY_UID: {"vr": "UI", "Value": ["1.2.3"]},
}
BARE: Attributes = {tag: element for tag, element in ANNE.items() if tag != ISSUER_OF_PATIENT_ID}
QUALIFIED: dict[str, JsonValue] = {"00400032": {"vr": "UT", "Value": [NHS_OID]}}
OTHER: dict[str, JsonValue] = {
    PATIENT_ID: {"vr": "LO", "Value": ["0001234"]},
    ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": ["RZ3"]},
}
DIFFERING: list[Attributes] = [
    {**ANNE, PATIENT_ID: {"vr": "LO", "Value": ["9990000026"]}},
    {**ANNE, ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": ["RZ2"]}},
    {**ANNE, PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": "EXAMPLE^JOAN"}]}},
    {**ANNE, PATIENT_BIRTH_DATE: {"vr": "DA", "Value": ["19580413"]}},
    {**ANNE, PATIENT_SEX: {"vr": "CS", "Value": ["M"]}},
    {**ANNE, OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [OTHER]}},
    BARE,
    {**BARE, "00100024": {"vr": "SQ", "Value": [QUALIFIED]}},
]


@pytest.mark.parametrize("row", DIFFERING)
def test_a_row_that_says_otherwise_of_its_patient_has_an_identity_of_its_own(row: Attributes) -> None:
    for order in ([ANNE, BARE, row], [row, BARE, ANNE]):
        identities = Identities("RZ2")
        assert [identities.of(each) for each in order] == [identity_of(each, "RZ2") for each in order]


def test_rows_that_differ_in_other_things_share_an_identity() -> None:
    identities = Identities("RZ2")
    assert identities.of(ANNE) is identities.of({**ANNE, STUDY_UID: {"vr": "UI", "Value": ["1.2.4"]}})
