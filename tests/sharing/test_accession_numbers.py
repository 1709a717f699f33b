"""Accession numbers collide across trusts: an issuer tells them apart, and nothing is ever united by them (D6, C4)."""

from __future__ import annotations

import pytest

from gateway.model.attributes import ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID, UNIVERSAL_ENTITY_ID
from gateway.model.errors import QueryTooBroad
from gateway.model.imaging import ACCESSION_NUMBER, Attributes, JsonValue, Key, Level, Match, Matches, Query
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, asking_for, row, values

OID = "1.2.826.0.1.3680043.10.1"


@pytest.fixture
async def region(region: Region) -> Region:
    """A123 is Anne's CT at RZ2 and Ben's MR at RZ3; both are in RZ1's care."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.2", of=ANNE, accession="A123", modalities="CT")
    region.trust("RZ3").with_study("1.2.3", of=BEN, accession="A123", name="BAKER^BEN", born="19700102")
    for patient in (ANNE, BEN):
        await region.refer(patient, to="RZ1")
    return region


def by_accession(number: str = "A123", issuer: str = "", tag: str = LOCAL_NAMESPACE_ENTITY_ID) -> Query:
    """A question by accession number, with its issuer if one is named."""
    issued = (Key((ACCESSION_ISSUER, tag), "UT", (issuer,)),) if issuer else ()
    return Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", (number,)), *issued))


def issued(study: str, item: dict[str, JsonValue]) -> Attributes:
    """A row of Anne's whose archive names the issuer of its accession number."""
    return {**row(study, ANNE, accession="A123"), ACCESSION_ISSUER: {"vr": "SQ", "Value": [item]}}


def ut(text: str) -> dict[str, JsonValue]:
    """An unlimited text as an element."""
    return {"vr": "UT", "Value": [text]}


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return sorted(match.study_uid for match in matches.rows)


def issuer(match: Match) -> JsonValue:
    """The issuer of the accession number, as shown."""
    [item] = values(match.attributes, ACCESSION_ISSUER)
    return item


async def test_one_number_of_two_trusts_is_two_studies_each_with_its_issuer(region: Region) -> None:
    found = await region.find(by_accession())
    assert {match.study_uid: issuer(match) for match in found.rows} == {
        "1.2.2": {LOCAL_NAMESPACE_ENTITY_ID: ut("RZ2")},
        "1.2.3": {LOCAL_NAMESPACE_ENTITY_ID: ut("RZ3")},
    }
    assert {match.patient for match in found.rows} == {ANNE, BEN}


@pytest.mark.parametrize("name", ["RZ3", "rz3", " RZ3 "])
async def test_an_issuer_brings_only_its_own_number(region: Region, name: str) -> None:
    assert studies(await region.find(by_accession(issuer=name))) == ["1.2.3"]


async def test_an_issuer_that_nobody_has_brings_nothing(region: Region) -> None:
    assert studies(await region.find(by_accession(issuer="RZ9"))) == []


async def test_any_issuer_is_no_filter(region: Region) -> None:
    assert studies(await region.find(by_accession(issuer="*"))) == ["1.2.2", "1.2.3"]


async def test_archives_are_not_asked_by_issuer(region: Region) -> None:
    """Most keep none, and would find nothing."""
    await region.find(by_accession(issuer="RZ3"))
    [request] = region.trust("RZ3").pacs.requests
    assert [key.path for key in request.query.keys] == [(ACCESSION_NUMBER,)]


async def test_an_issuer_that_an_archive_names_outranks_its_trust(region: Region) -> None:
    region.trust("RZ3").with_row(issued("1.2.4", {LOCAL_NAMESPACE_ENTITY_ID: ut("RZ2")}))
    assert studies(await region.find(by_accession(issuer="RZ2"))) == ["1.2.2", "1.2.4"]


async def test_an_issuer_known_by_its_universal_identifier_is_one(region: Region) -> None:
    region.trust("RZ3").with_row(issued("1.2.4", {UNIVERSAL_ENTITY_ID: ut(OID)}))
    assert studies(await region.find(by_accession(issuer=OID, tag=UNIVERSAL_ENTITY_ID))) == ["1.2.4"]
    assert studies(await region.find(by_accession(issuer="RZ3"))) == ["1.2.3"]


async def test_a_trust_may_have_another_name_as_issuer(region: Region) -> None:
    region.trust("RZ2").issuing("NORTH-RIS")
    assert studies(await region.find(by_accession(issuer="NORTH-RIS"))) == ["1.2.2"]
    assert studies(await region.find(by_accession(issuer="RZ2"))) == []


async def test_an_issuer_filters_a_patients_studies_too(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.4", of=ANNE, accession="A999")
    region.trust("RZ3").with_study("1.2.5", of=ANNE)
    key = Key((ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID), "UT", ("RZ3",))
    assert studies(await region.find(asking_for(ANNE, key))) == ["1.2.4", "1.2.5"]


async def test_an_issuer_alone_pins_nothing(region: Region) -> None:
    with pytest.raises(QueryTooBroad):
        await region.find(Query(Level.STUDY, (Key((ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID), "UT", ("RZ3",)),)))


async def test_a_study_without_an_accession_number_gets_no_issuer(region: Region) -> None:
    region.trust("RZ2").with_study("1.2.6", of=ANNE)
    [match] = [match for match in (await region.find(asking_for(ANNE))).rows if match.study_uid == "1.2.6"]
    assert ACCESSION_ISSUER not in match.attributes
