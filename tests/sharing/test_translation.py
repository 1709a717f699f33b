"""Translating identifiers, as algebra: only what is recorded translates, and two people never become one (IDN-06)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.imaging import ISSUER_OF_PATIENT_ID, PATIENT_ID, Key, Level, Query
from gateway.model.seams import CrossReference, LinkedNumber
from gateway.sharing.directory import PatientIdAsked, TrustEntry
from gateway.sharing.identity.patients import Demographics, RowIdentity
from gateway.sharing.identity.translation import (
    Asked,
    asked_local,
    identifiers_to_look_up,
    nhs,
    own_numbers_of,
    questions,
    translated,
)
from gateway.sharing.scope import Scope
from policy.facts import OrganisationKind
from policy.parties import NhsNumber, PatientId, TrustId
from tests.sharing.rows import ANNE, BEN, CLARA, RZ2, asking_for

NUMBERS = (ANNE, BEN, CLARA)
LOCALS = (PatientId("RZ2", "1"), PatientId("RZ2", "2"), PatientId("RZ3", "1"))


def entry(issuer: str = "NHS", own: str = "", asked: PatientIdAsked = PatientIdAsked.BOTH) -> TrustEntry:
    """RZ2, with these issuers."""
    return TrustEntry(RZ2, "Trust", OrganisationKind.NHS_HOSPITAL_TRUST, True, "", issuer, asked, own)


def by(value: str, issuer: str = "") -> Query:
    """A question by Patient ID."""
    named = (Key((ISSUER_OF_PATIENT_ID,), "LO", (issuer,)),) if issuer else ()
    return Query(Level.STUDY, (Key((PATIENT_ID,), "LO", (value,)), *named))


@st.composite
def registers(draw: st.DrawFn) -> dict[PatientId, CrossReference]:
    """A register in which some numbers are one person's, and some local numbers are linked."""
    survivor_of = {number: draw(st.sampled_from(NUMBERS[: place + 1])) for place, number in enumerate(NUMBERS)}
    people: dict[NhsNumber, CrossReference] = {}
    for survivor in NUMBERS:
        former = frozenset(each for each, stays in survivor_of.items() if stays == survivor and each != survivor)
        people[survivor] = CrossReference(survivor, former=former)
    known = {nhs(each): people[survivor_of[each]] for each in NUMBERS if draw(st.booleans())}
    for local in LOCALS:
        owner = draw(st.sampled_from((None, *NUMBERS)))
        if owner is not None:
            known[local] = people[owner]
    return known


IDENTITIES = st.builds(
    lambda carried, local: RowIdentity(
        next(iter(carried)) if len(carried) == 1 else None,
        tuple(local),
        Demographics(),
        frozenset(carried),
        is_contradicted=len(carried) > 1,
    ),
    st.sets(st.sampled_from(NUMBERS), max_size=2),
    st.lists(st.sampled_from(LOCALS), unique=True, max_size=3),
)


@given(IDENTITIES, registers())
def test_a_row_names_whom_all_of_its_numbers_lead_to_or_nobody(
    identity: RowIdentity, known: dict[PatientId, CrossReference]
) -> None:
    leads = {
        person.number if (person := known.get(each)) is not None else NhsNumber(each.value)
        for each in identifiers_to_look_up(identity, entry())
        if each in known or each.issuer == "NHS"
    }
    found = translated(identity, entry(), known)
    assert found.nhs_number == (next(iter(leads)) if len(leads) == 1 else None)
    assert found.is_contradicted == (len(leads) > 1)
    assert (found.carried, found.local_ids) == (identity.carried, identity.local_ids)


@given(IDENTITIES, registers())
def test_translating_again_changes_nothing(identity: RowIdentity, known: dict[PatientId, CrossReference]) -> None:
    once = translated(identity, entry(), known)
    assert translated(once, entry(), known) == once


@given(IDENTITIES)
def test_where_nothing_is_recorded_nothing_is_translated(identity: RowIdentity) -> None:
    assert translated(identity, entry(), {}) is identity


def test_a_number_of_a_third_trust_is_not_even_looked_up() -> None:
    identity = RowIdentity(None, LOCALS, Demographics())
    assert identifiers_to_look_up(identity, entry()) == frozenset(LOCALS[:2])


@pytest.mark.parametrize(
    ("issuer", "own", "expected"),
    [
        ("NHS", "", {"RZ2"}),
        ("", "", {"RZ2"}),
        ("EAST-PAS", "", {"RZ2", "EAST-PAS"}),
        ("NHS", "EAST-PAS", {"RZ2", "EAST-PAS"}),
        ("OLD-PAS", "EAST-PAS", {"RZ2", "EAST-PAS", "OLD-PAS"}),
    ],
)
def test_a_trusts_own_numbers_are_known_by_its_issuers(issuer: str, own: str, expected: set[str]) -> None:
    assert entry(issuer, own).own_issuers == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (by("H-77"), Asked(PatientId("EAST-PAS", "H-77"), None)),
        (by("*H-77*"), Asked(PatientId("EAST-PAS", "H-77"), None)),
        (by(" H-77 "), Asked(PatientId("EAST-PAS", "H-77"), None)),
        (by("H-77", "RZ2"), Asked(PatientId("RZ2", "H-77"), None)),
        (by(ANNE.digits), Asked(PatientId("EAST-PAS", ANNE.digits), ANNE)),
        (by(ANNE.digits, "EAST-PAS"), Asked(PatientId("EAST-PAS", ANNE.digits), None)),
        (by(ANNE.digits, "NHS"), None),
        (by("H-77", "RZ3"), None),
        (by("H-77*"), None),
        (by("*"), None),
        (Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("1", "2")),)), None),
        (Query(Level.STUDY, ()), None),
    ],
)
def test_what_a_patient_id_names(query: Query, expected: Asked | None) -> None:
    assert asked_local(query, own_numbers_of(entry("EAST-PAS"))) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (PatientIdAsked.NHS_NUMBER, [ANNE.digits, BEN.digits]),
        (PatientIdAsked.LOCAL, ["1"]),
        (PatientIdAsked.BOTH, [ANNE.digits, BEN.digits, "1"]),
    ],
)
def test_an_archive_is_asked_by_the_numbers_that_it_may_know(asked: PatientIdAsked, expected: list[str]) -> None:
    linked = (LinkedNumber(PatientId("RZ2", "1"), "cli"), LinkedNumber(PatientId("RZ3", "9"), "cli"))
    person = CrossReference(ANNE, former=frozenset({BEN}), local=linked)
    found = questions(asking_for(ANNE), Scope(ANNE, (), ""), person, entry(asked=asked))
    assert [query.keys[0].values[0] for query in found] == expected


def test_a_question_that_names_no_patient_is_asked_once_as_it_is() -> None:
    query = Query(Level.STUDY, ())
    assert questions(query, Scope(None, ("1.2.3",), ""), None, entry(asked=PatientIdAsked.LOCAL)) == (query,)


def test_every_trust_has_an_issuer_of_its_own() -> None:
    plain = TrustEntry(TrustId("RJ1"), "Trust", OrganisationKind.NHS_HOSPITAL_TRUST, True, "")
    assert asked_local(by("77"), own_numbers_of(plain)) == Asked(PatientId("RJ1", "77"), None)
