"""Whose copy of a study speaks, and what an answer says of its holders (C2, C9, SAF-35)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.attributes import ACCESSION_ISSUER, INSTITUTION_CODE, INSTITUTION_NAME, LOCAL_NAMESPACE_ENTITY_ID
from gateway.model.imaging import Attributes, JsonValue, Level, Match
from gateway.sharing.directory import TrustEntry
from gateway.sharing.identity.origins import HOLDERS, HOLDERS_CREATOR, PRIVATE_CREATOR, Custody, Origins, custody
from gateway.sharing.merge import Candidate, merge
from policy.facts import OrganisationKind
from policy.parties import TrustId
from storage.registers.agreements import Clause
from tests.region import Region
from tests.sharing.rows import ANNE, RZ1, RZ2, RZ3, RZ4, asking_for, found, row, values

DESCRIPTION = "00081030"
ENTRIES = [
    TrustEntry(
        trust, f"Trust {trust.code}", OrganisationKind.NHS_HOSPITAL_TRUST, True, "0300", "NHS", own_issuer=issuer
    )
    for trust, issuer in ((RZ1, "NORTHMOOR"), (RZ2, "EASTVALE"), (RZ3, "SOUTHBRIDGE"), (RZ4, ""))
]
ORIGINS = Origins.of([*ENTRIES[:3], replace(ENTRIES[3], accession_issuer="WESTRIS")])
SILENT: Attributes = {}
NUMBERED: Attributes = {"00080050": {"vr": "SH", "Value": ["A1"]}}


def copy(trust: TrustId, instances: int = 10, said: str = "", description: str = "", **more: JsonValue) -> Candidate:
    """A copy of Anne's study at a trust; `said` is the issuer that it names of its accession number."""
    written: Attributes = row("1.2.3", ANNE, **{"accession": "A1", "instances": instances, **more})
    if said:
        written = {**written, ACCESSION_ISSUER: issued_by(said)}
    if description:
        written = {**written, DESCRIPTION: {"vr": "LO", "Value": [description]}}
    return found(trust, written)


def issued_by(issuer: str) -> dict[str, JsonValue]:
    return {"vr": "SQ", "Value": [{LOCAL_NAMESPACE_ENTITY_ID: {"vr": "UT", "Value": [issuer]}}]}


def merged(*copies: Candidate) -> Match:
    [match] = merge(Level.STUDY, copies, origins=ORIGINS)
    return match


def test_the_custodian_speaks_although_another_copy_is_fuller() -> None:
    match = merged(copy(RZ3, 40, said="RZ4"), copy(RZ4, 10))
    assert (match.shown_from, match.holders) == (RZ4, (RZ3, RZ4))


def test_a_trust_is_named_by_its_accession_issuer_its_ods_code_or_the_issuer_of_its_own_numbers() -> None:
    for said in ("WESTRIS", "westris", " RZ4"):
        assert ORIGINS.said_by(RZ3, copy(RZ3, said=said).row) == RZ4
    assert ORIGINS.said_by(RZ3, row(patient=None, patient_id="77", issuer="EASTVALE")) == RZ2
    assert ORIGINS.said_by(RZ2, row(patient=None, patient_id="77", issuer="EASTVALE")) is None
    assert ORIGINS.said_by(RZ3, copy(RZ3, said="SOMEBODY").row) is None


def test_an_issuer_that_two_trusts_use_names_neither() -> None:
    shared = Origins.of([replace(entry, own_issuer="PACS") for entry in ENTRIES])
    assert shared.said_by(RZ3, copy(RZ3, said="PACS").row) is None


def test_the_one_that_claims_a_study_speaks_where_nobody_says_otherwise() -> None:
    assert merged(copy(RZ2, 40), copy(RZ3, 10, said="RZ3")).shown_from == RZ3


def test_a_copy_that_came_from_elsewhere_speaks_last() -> None:
    assert merged(copy(RZ2, 40, said="RZ1"), copy(RZ3, 10)).shown_from == RZ3


def test_where_two_claim_a_study_the_fullest_copy_speaks() -> None:
    assert merged(copy(RZ2, 10, said="RZ2"), copy(RZ3, 40, said="RZ3")).shown_from == RZ3
    assert merged(copy(RZ2, 40), copy(RZ3, 10)).shown_from == RZ2
    assert merged(copy(RZ3, 10), copy(RZ2, 10)).shown_from == RZ2


def test_a_trust_cannot_make_itself_custodian_of_what_another_copy_says_is_elsewheres() -> None:
    assert merged(copy(RZ3, 99, said="RZ3"), copy(RZ4, 10, said="RZ2"), copy(RZ2, 10)).shown_from == RZ2


def test_the_custodian_speaks_for_every_series_of_its_study() -> None:
    """Only the study's first series says where it came from."""
    series = [
        found(trust, {**row("1.2.3", series=f"1.2.3.{n}"), **named}, Level.SERIES)
        for trust, n, named in (
            (RZ2, 1, SILENT),
            (RZ3, 1, {**NUMBERED, ACCESSION_ISSUER: issued_by("RZ4")}),
            (RZ4, 1, SILENT),
            (RZ2, 2, SILENT),
            (RZ4, 2, SILENT),
        )
    ]
    assert [match.shown_from for match in merge(Level.SERIES, series, origins=ORIGINS)] == [RZ4, RZ4]


def test_copies_whose_headers_differ_are_versions_and_no_conflict() -> None:
    match = merged(
        copy(RZ2, description="CT HEAD"), copy(RZ3, description="CT brain"), copy(RZ4, description="CT HEAD ")
    )
    assert (match.shown_from, match.versions) == (RZ2, (RZ3,))
    assert values(match.attributes, DESCRIPTION) == ["CT HEAD"]


@pytest.mark.parametrize(
    "other",
    [
        copy(RZ3, description="CT"),
        copy(RZ3, 99, modalities="CT,SR"),
        copy(RZ3, name="SMITH^ANNE^^"),
        found(RZ3, row("1.2.3", patient=None, patient_id="77", issuer="SOUTHBRIDGE", accession="A1", instances=10)),
        copy(RZ3, said="RZ3"),
    ],
    ids=["says more", "holds more", "empty name parts", "own number", "accession issuer"],
)
def test_what_copies_rightly_differ_in_makes_no_version(other: Candidate) -> None:
    of_anne = replace(other, identity=copy(RZ2).identity)
    assert merged(copy(RZ2), of_anne).versions == ()


def test_a_row_says_whose_copy_it_shows_and_who_holds_one() -> None:
    match = merged(copy(RZ3, 10), copy(RZ2, 40))
    [item] = values(match.attributes, INSTITUTION_CODE)
    assert isinstance(item, dict)
    code = {tag: values(item, tag)[0] for tag in item}  # type: ignore[arg-type]  # elements
    assert code == {
        "00080100": "RZ2",
        "00080102": "99ODS",
        "00080104": "Trust RZ2",
        "0008010C": "2.16.840.1.113883.2.1.3.2.4.18.48",
    }
    assert values(match.attributes, INSTITUTION_NAME) == ["Trust RZ2"]
    assert values(match.attributes, HOLDERS_CREATOR) == [PRIVATE_CREATOR]
    assert values(match.attributes, HOLDERS) == ["RZ2", "RZ3"]


def test_an_institution_that_the_archive_names_stays_and_its_word_on_holders_does_not() -> None:
    forged: Attributes = {
        HOLDERS_CREATOR: {"vr": "LO", "Value": [PRIVATE_CREATOR]},
        HOLDERS: {"vr": "SH", "Value": ["RZ4"]},
        "4E4910FF": {"vr": "SH", "Value": ["RZ4"]},
        INSTITUTION_CODE: {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["RZ4"]}}]},
        INSTITUTION_NAME: {"vr": "LO", "Value": ["EASTVALE INFIRMARY"]},
    }
    match = merged(found(RZ2, {**row("1.2.3"), **forged}))
    assert values(match.attributes, HOLDERS) == ["RZ2"] and "4E4910FF" not in match.attributes
    assert values(match.attributes, INSTITUTION_NAME) == ["EASTVALE INFIRMARY"]
    assert "RZ4" not in str(match.attributes)


def test_a_patients_own_row_names_no_institution() -> None:
    [match] = merge(Level.PATIENT, [copy(RZ2), copy(RZ3)], origins=ORIGINS)
    assert not match.attributes.keys() & {INSTITUTION_NAME, INSTITUTION_CODE, HOLDERS, HOLDERS_CREATOR}


TRUSTS = [RZ1, RZ2, RZ3, RZ4]
SAYINGS = st.lists(st.tuples(st.sampled_from(TRUSTS), st.sampled_from([None, *TRUSTS])), max_size=8)


@given(SAYINGS, st.randoms(use_true_random=False), st.integers(1, 3))
def test_custody_never_hangs_on_order_or_on_how_often_a_copy_comes(
    said: list[tuple[TrustId, TrustId | None]], shuffling: random.Random, times: int
) -> None:
    shuffled = said * times
    shuffling.shuffle(shuffled)
    assert custody(shuffled) == custody(said)


@given(SAYINGS)
def test_there_is_one_custodian_or_none_and_it_never_says_that_its_copy_is_foreign(
    said: list[tuple[TrustId, TrustId | None]],
) -> None:
    standing = custody(said)
    custodians = [holder for holder, how in standing.items() if how is Custody.CUSTODIAN]
    assert len(custodians) <= 1 and standing.keys() == {holder for holder, _ in said}
    assert not any(holder in custodians and origin not in (None, holder) for holder, origin in said)


@given(SAYINGS, st.sampled_from(TRUSTS))
def test_a_claim_moves_no_custody_that_others_testify_to(
    said: list[tuple[TrustId, TrustId | None]], claimant: TrustId
) -> None:
    """As long as other copies name a holder, what a trust that none of them names says of itself changes nothing."""
    before = custody(said)
    custodians = {holder for holder, how in before.items() if how is Custody.CUSTODIAN}
    testified = {origin for holder, origin in said if origin not in (None, holder)}
    if custodians & testified and claimant not in testified:
        after = custody([*said, (claimant, claimant)])
        assert {holder for holder, how in after.items() if how is Custody.CUSTODIAN} == custodians


async def test_the_audit_says_whose_copy_was_shown_and_whose_differs(region: Region) -> None:
    described: Attributes = {DESCRIPTION: {"vr": "LO", "Value": ["CT HEAD"]}}
    region.trust("RZ1")
    region.trust("RZ2").with_row({**row("1.2.3"), **described, ACCESSION_ISSUER: issued_by("RZ3"), **NUMBERED})
    region.trust("RZ3").with_row({**row("1.2.3"), DESCRIPTION: {"vr": "LO", "Value": ["CT brain"]}})
    await region.refer(ANNE, to="RZ1")
    [match] = (await region.find(asking_for(ANNE))).rows
    assert values(match.attributes, DESCRIPTION) == ["CT brain"]
    [outcome] = await region.records("query-outcome")
    body = outcome["body"]
    assert isinstance(body, dict) and isinstance(body["sources"], list)
    told = {source["trust"]: source for source in body["sources"] if isinstance(source, dict)}
    assert told["RZ2"]["versions"] == ["1.2.3"] and "shown" not in told["RZ2"]
    assert told["RZ3"]["shown"] == ["1.2.3"] and "versions" not in told["RZ3"]


async def test_a_copy_that_may_not_be_seen_takes_no_part(region: Region) -> None:
    """Neither as a holder, nor as the custodian whose copy would have spoken, nor as a version."""
    region.trust("RZ1")
    shown = {**row("1.2.3", instances=1), **NUMBERED, ACCESSION_ISSUER: issued_by("RZ3")}
    region.trust("RZ2").with_row(shown)
    region.trust("RZ3").with_row({**row("1.2.3", instances=9), DESCRIPTION: {"vr": "LO", "Value": ["hidden"]}})
    region.trust("RZ3").sharing(Clause(age_max_years=17))
    await region.refer(ANNE, to="RZ1")
    [match] = (await region.find(asking_for(ANNE))).rows
    assert region.trust("RZ3").pacs.asked_for(ANNE)
    assert (match.shown_from, match.holders, match.versions) == (RZ2, (RZ2,), ())
    assert values(match.attributes, HOLDERS) == ["RZ2"] and "hidden" not in str(match)
