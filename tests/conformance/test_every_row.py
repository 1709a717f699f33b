"""What holds for each row of every answer, first or last, whatever archives said, by both protocols: coercion in one
pass (C10), unique keys always and nothing that was not asked for (C11), holders as the gateway knows them (C9).
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.answer import encode, wanted
from dimse.elements import Reading, decode_dataset, encode_dataset
from dimse.identifier import Answerer, parse_identifier
from dimse.sop_classes import EXPLICIT_VR_LITTLE_ENDIAN, STUDY_ROOT_FIND
from gateway.model.attributes import ACCESSION_ISSUER, INSTITUTION_CODE, INSTITUTION_NAME, vr_of
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_DATE,
    STUDY_UID,
    Attributes,
    Element,
    Level,
    Match,
    Query,
)
from gateway.model.settings import Limits
from gateway.sharing.identity.origins import HOLDERS, HOLDERS_CREATOR
from gateway.sharing.merge import PATIENT_COUNTS, SOURCE_ONLY, merge
from policy.parties import TrustId
from tests.sharing.rows import ANNE, RZ2, RZ3, RZ4, found, row, values

OURS, BASE_URL = "GATEWAY", "https://gateway.example/dicom-web"
DESCRIPTION = "00081030"
OF_THE_GATEWAY = {"00080005", "00080052", "00080054"}
ADDRESSES: Attributes = {
    "00080054": {"vr": "AE", "Value": ["ARCHIVE"]},
    "00080056": {"vr": "CS", "Value": ["ONLINE"]},
    "00081190": {"vr": "UR", "Value": ["https://archive.example/x"]},
    "0040E010": {"vr": "UR", "Value": ["https://archive.example/y"]},
    "0040E011": {"vr": "UI", "Value": ["1.2.666"]},
    "00201200": {"vr": "IS", "Value": [666]},
    HOLDERS_CREATOR: {"vr": "LO", "Value": ["SOMEBODY"]},
    HOLDERS: {"vr": "SH", "Value": ["RZ9"]},
    INSTITUTION_CODE: {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["RZ9"]}}]},
}
SAID = st.dictionaries(st.sampled_from(sorted(ADDRESSES)), st.just(None)).map(
    lambda tags: {tag: ADDRESSES[tag] for tag in tags}
)
ROWS = st.lists(
    st.builds(
        lambda trust, number, said, accession, local: found(
            trust,
            {
                **row(f"1.{number}", ANNE, modalities="CT", **({"accession": "A1"} if accession else {})),
                **said,
                **({"00101000": {"vr": "LO", "Value": ["77"]}} if local else {}),
            },
        ),
        st.sampled_from([RZ2, RZ3, RZ4]),
        st.integers(1, 12),
        SAID,
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)
ASKED_FOR = st.frozensets(
    st.sampled_from(
        [
            PATIENT_NAME,
            PATIENT_ID,
            PATIENT_BIRTH_DATE,
            STUDY_DATE,
            STUDY_UID,
            ACCESSION_NUMBER,
            MODALITIES_IN_STUDY,
            INSTITUTION_NAME,
            INSTITUTION_CODE,
            DESCRIPTION,
            "00080056",
        ]
    )
)


def told_holders(matches: Sequence[Match]) -> list[tuple[TrustId, ...]]:
    return [tuple(TrustId(str(code)) for code in values(match.attributes, HOLDERS)) for match in matches]


@given(ROWS)
def test_every_row_is_coerced_alike(rows: list[object]) -> None:
    matches = merge(Level.STUDY, rows)  # type: ignore[arg-type]  # candidates
    for match in matches:
        shown = match.attributes
        assert {tag: values(shown, tag) for tag in SOURCE_ONLY if tag in shown} == {"00080056": ["NEARLINE"]}
        assert not shown.keys() & {*PATIENT_COUNTS, "00101000"}
        assert (values(shown, PATIENT_ID), values(shown, ISSUER_OF_PATIENT_ID)) == ([ANNE.digits], ["NHS"])
        assert (ACCESSION_NUMBER in shown) == (ACCESSION_ISSUER in shown)
        assert "RZ9" not in str(shown) and "SOMEBODY" not in str(shown)
    assert told_holders(matches) == [match.holders for match in matches]


@given(ROWS, ASKED_FOR)
def test_every_row_by_qido_has_what_the_table_and_the_question_name_and_nothing_else(
    rows: list[object], included: frozenset[str]
) -> None:
    matches = merge(Level.STUDY, rows)  # type: ignore[arg-type]  # candidates
    want = wanted(Query(Level.STUDY, (), included), frozenset())
    written = orjson.loads(encode(matches, want, BASE_URL))
    required = {tag for tag, empty in want.attributes if empty is not None}
    assert [each[STUDY_UID]["Value"] for each in written] == [[match.study_uid] for match in matches]
    for each in written:
        assert required <= each.keys() <= required | included | {"00080201"}
        assert each["00081190"]["Value"] == [f"{BASE_URL}/studies/{each[STUDY_UID]['Value'][0]}"]
        assert {INSTITUTION_NAME, INSTITUTION_CODE} & included <= each.keys()


@given(ROWS, ASKED_FOR)
def test_every_row_by_c_find_has_what_the_identifier_names_and_its_unique_key(
    rows: list[object], requested: frozenset[str]
) -> None:
    matches = merge(Level.STUDY, rows)  # type: ignore[arg-type]  # candidates
    identifier: dict[str, Element] = {tag: {"vr": vr_of(tag)} for tag in requested}
    identifier["00080052"] = {"vr": "CS", "Value": ["STUDY"]}
    body = encode_dataset(identifier, EXPLICIT_VR_LITTLE_ENDIAN, ("ISO_IR 192",))
    asked = parse_identifier(
        body,
        EXPLICIT_VR_LITTLE_ENDIAN,
        STUDY_ROOT_FIND,
        b"\1",
        limits=Limits(),
        is_lenient=False,
        fallback_charset="ISO_IR 100",
    )
    answerer = Answerer(asked, EXPLICIT_VR_LITTLE_ENDIAN, OURS)
    reading = Reading(fallback_charset="ISO_IR 100")
    for match in matches:
        each = decode_dataset(answerer.row(match)[0], EXPLICIT_VR_LITTLE_ENDIAN, reading)
        assert each.keys() - OF_THE_GATEWAY == requested | {STUDY_UID}
        assert values(each, STUDY_UID) == [match.study_uid]
        if INSTITUTION_NAME in requested:
            assert values(each, INSTITUTION_NAME) == [match.shown_from.code if match.shown_from else ""]
        if INSTITUTION_CODE in requested:
            [item] = values(each, INSTITUTION_CODE)
            assert isinstance(item, dict) and item["00080100"] == {"vr": "SH", "Value": [str(match.shown_from)]}
