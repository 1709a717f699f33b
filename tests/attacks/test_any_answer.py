"""Whatever an archive sends is refused as a whole or goes all the way to bytes: no row makes us fail (goal G16).

The pure way of an answer, from the bytes of the archive to the bytes for the caller, over generated answers. Rows begin
as good ones of two patients and are spoilt here and there, so that many come far.
"""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.answer import encode, wanted
from dicomweb.dicomjson import Reading, read_rows
from gateway.model.attributes import KIND_OF_VR, Kind, vr_of
from gateway.model.errors import PeerProtocolError
from gateway.model.imaging import JsonValue, Key, Level, Query, SourceState
from gateway.sharing.identity.conflicts import judge, quality_items
from gateway.sharing.identity.patients import age_years
from gateway.sharing.merge import lacking_keys, merge, modalities_of, read_answers
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.scope import pinned_scope
from policy.parties import TrustId
from tests.clock import NOON
from tests.sharing.rows import ANNE, BEN, RZ2, RZ3, asking_for, asking_for_study, row

TAGS = (
    *("0020000D", "0020000E", "00080018", "00100010", "00100020", "00100021", "00100024", "00100030", "00100040"),
    *("00101002", "00080020", "00080030", "00080050", "00080060", "00080061", "00201206", "00201208", "00201209"),
    *("00080005", "00080201", "00081190", "00080056", "00081030", "00400275", "00091001", "00090010"),
)
VRS = "AE AS AT CS DA DS DT FD IS LO LT OB PN SH SQ ST TM UC UI UL UN UR US UT".split()

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "CT", "1.2.3", "9990000018", "NHS", "20260230", "99999999", "0", "-1", "1e9", "\\", "\n"]
    ),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=6),
)
NAMES = st.fixed_dictionaries({}, optional={"Alphabetic": TEXTS, "Ideographic": st.one_of(st.none(), TEXTS)})
SCALARS: st.SearchStrategy[JsonValue] = st.one_of(
    st.none(),
    TEXTS,
    st.text(max_size=6),
    NAMES,
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


def fitting(tag: str) -> st.SearchStrategy[JsonValue]:
    """Elements that may stand under this tag, as far as their shape goes."""
    vr = vr_of(tag) if tag != "00091001" else "LO"
    match KIND_OF_VR[vr]:
        case Kind.PERSON_NAME:
            values = st.lists(st.one_of(st.none(), NAMES), max_size=2)
        case Kind.NUMBER:
            values = st.lists(
                st.one_of(st.none(), st.integers(-5, 10**12), st.sampled_from(["7", " 7 ", "1.5"])), max_size=2
            )
        case Kind.UID:
            values = st.lists(st.sampled_from(["1.1", "1.2", "1.2.3", None]), max_size=2)
        case Kind.SEQUENCE:
            values = st.lists(st.one_of(st.none(), st.builds(lambda number: {**row("", number)}, PATIENTS)), max_size=2)
        case _:
            values = st.lists(st.one_of(st.none(), TEXTS), max_size=3)
    return st.builds(lambda value: {"vr": vr, "Value": value} if value else {"vr": vr}, values)


PATIENTS = st.sampled_from([ANNE, BEN, None])
FITTING = st.sampled_from(TAGS).flatmap(lambda tag: st.tuples(st.just(tag), fitting(tag)))
WILD = st.tuples(
    st.sampled_from(TAGS),
    st.one_of(
        SCALARS, st.builds(lambda vr, value: {"vr": vr, "Value": value}, st.sampled_from(VRS), st.lists(SCALARS))
    ),
)
ROWS = st.builds(
    lambda study, patient, spoilt, left_out: {
        tag: element
        for tag, element in {
            **row(study, patient, series="1.2.3.1", image="1.2.3.1.1", accession="A123", modalities="CT"),
            **dict(spoilt),
        }.items()
        if tag not in left_out
    },
    st.sampled_from(["1.1", "1.2"]),
    PATIENTS,
    st.sampled_from([FITTING] * 19 + [WILD]).flatmap(lambda spoilt: st.lists(spoilt, max_size=3)),
    st.sets(st.sampled_from(TAGS), max_size=2),
)
QUESTIONS = st.sampled_from(
    [
        asking_for(ANNE),
        asking_for(ANNE, Key(("00100030",), "DA", ("19580314",)), Key(("00100010",), "PN", ("*smith*",))),
        asking_for(ANNE, Key(("00080020",), "DA", ("20200101-",)), level=Level.SERIES),
        asking_for_study("1.1", "1.2", level=Level.IMAGE),
        Query(Level.STUDY, (Key(("00080050",), "SH", ("A123",)), Key(("00400275", "00400009"), "SH", ("x*",)))),
    ]
)


def whole_way(trust: TrustId, query: Query, body: bytes) -> bytes:
    """From what the archive sent to what the caller gets, were everything permitted."""
    scope = pinned_scope(query)
    rows = read_rows(body, Reading(trust, depth_max=32))
    answers = [TrustAnswer(trust, SourceState.ANSWERED, rows), TrustAnswer(RZ3, SourceState.ANSWERED, rows)]
    reading = read_answers(query, scope, answers, lambda _trust: "NHS")
    judgement = judge(query, scope, reading.candidates)
    for conflict in judgement.conflicts:
        assert quality_items(conflict)
    for found in judgement.accepted:
        modalities_of(found.row)
        age_years(found.identity.demographics.birth_date, NOON.date())
    lacking_keys(query, scope, judgement.accepted)
    matches = merge(query.level, judgement.accepted)
    assert {match.patient for match in matches} <= {ANNE, BEN}
    if scope.patient is not None:
        assert {match.patient for match in matches} <= {scope.patient}
    return encode(matches, wanted(query, frozenset()), "https://gateway.example/dicom-web")


@settings(max_examples=400)
@given(QUESTIONS, st.lists(ROWS, max_size=5))
def test_any_answer_is_refused_as_a_whole_or_goes_all_the_way(query: Query, rows: list[JsonValue]) -> None:
    try:
        body = orjson.dumps(rows)
    except TypeError:
        return  # not even JSON: an integer beyond 64 bits
    try:
        answered = whole_way(RZ2, query, body)
    except PeerProtocolError:
        return
    assert isinstance(orjson.loads(answered), list)


def test_good_rows_go_all_the_way() -> None:
    body = orjson.dumps([row("1.1"), row("1.2")])
    assert len(orjson.loads(whole_way(RZ2, asking_for(ANNE), body))) == 2
