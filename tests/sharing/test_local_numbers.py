"""Hospitals' own numbers, translated both ways by what somebody recorded and nothing else (D3, D4, SAF-34, IDN-07)."""

from __future__ import annotations

import pytest

from gateway.model.errors import Denied, InvalidRequest, QueryTooBroad, RegisterUnavailable
from gateway.model.imaging import ISSUER_OF_PATIENT_ID as ISSUER
from gateway.model.imaging import (
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    Attributes,
    JsonValue,
    Key,
    Level,
    Match,
    Matches,
    NotAskedReason,
    Query,
)
from gateway.model.settings import IdentitySettings, PatientIdShown
from gateway.sharing.directory import PatientIdAsked
from gateway.sharing.identity.translation import NUMBERS_ASKED_MAX
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, asking_for, asking_for_study, row, values

THERE, HERE = "0001234", "H-77"
"""Anne's number at RZ2, whose archive files under its own numbers, and at RZ1, which asks."""


async def described(region: Region, asked_by: PatientIdAsked = PatientIdAsked.BOTH) -> Region:
    """Anne in RZ1's care; RZ2 files her study under its own number, RZ3 another under the NHS number."""
    region.trust("RZ1").filing_under("RZ1-PAS")
    region.trust("RZ2").filing_under("RZ2", asked_by=asked_by)
    region.trust("RZ2").with_row(row("1.2.2", None, patient_id=THERE))
    region.trust("RZ3").with_study("1.2.3", of=ANNE)
    await region.refer(ANNE, to="RZ1")
    return region


@pytest.fixture
async def region(region: Region) -> Region:
    """RZ2 is asked by both numbers."""
    return await described(region)


def by(value: str, issuer: str = "", *, born: str = "") -> Query:
    """A question by a Patient ID, with its issuer if one is given."""
    named = (Key((ISSUER,), "LO", (issuer,)),) if issuer else ()
    stated = (Key((PATIENT_BIRTH_DATE,), "DA", (born,)),) if born else ()
    return Query(Level.STUDY, (Key((PATIENT_ID,), "LO", (value,)), *named, *stated))


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return [match.study_uid for match in matches.rows]


def conflicts(matches: Matches) -> list[str]:
    """The trusts at which something could not be shown."""
    return [source.trust.code for source in matches.sources if source.has_identity_conflict]


def shown(match: Match) -> tuple[str, str]:
    """The Patient ID of a row, as issuer and value."""
    return str(values(match.attributes, ISSUER)[0]), str(values(match.attributes, PATIENT_ID)[0])


def others(match: Match) -> list[tuple[str, str]]:
    """Issuer and value of the other numbers shown."""
    items: list[Attributes] = [item for item in values(match.attributes, OTHER_PATIENT_IDS) if isinstance(item, dict)]  # type: ignore[misc]  # items are elements
    return [(str(values(item, ISSUER)[0]), str(values(item, PATIENT_ID)[0])) for item in items]


def asked_by_number(region: Region, code: str) -> list[str]:
    """The patient numbers that a trust's archive was asked for."""
    keys = [request.query.key(PATIENT_ID) for request in region.trust(code).pacs.requests]
    return sorted(key.values[0] for key in keys if key is not None)


# --- an archive that files under its own numbers ---


async def test_an_archive_that_files_under_its_own_numbers_is_asked_by_those(region: Region) -> None:
    await region.link(ANNE, "RZ2", THERE)
    found = await region.find(asking_for(ANNE))
    assert studies(found) == ["1.2.2", "1.2.3"]
    assert asked_by_number(region, "RZ2") == [THERE, ANNE.digits]
    assert asked_by_number(region, "RZ3") == [ANNE.digits]
    assert shown(found.rows[0]) == ("NHS", ANNE.digits)
    assert others(found.rows[0]) == [("RZ2", THERE)]


async def test_without_a_link_a_number_of_its_own_is_nobodys(region: Region) -> None:
    """Name and birth date are Anne's; that is no evidence (IDN-07)."""
    found = await region.find(asking_for(ANNE))
    assert (studies(found), asked_by_number(region, "RZ2")) == (["1.2.3"], [ANNE.digits])
    assert studies(await region.find(asking_for_study("1.2.2"))) == []


async def test_a_patient_with_two_numbers_there_is_asked_by_each_and_shown_once(region: Region) -> None:
    region.trust("RZ2").with_row(row("1.2.2", None, patient_id="0009999"), row("1.2.4", None, patient_id="0009999"))
    for value in (THERE, "0009999"):
        await region.link(ANNE, "RZ2", value)
    found = await region.find(asking_for(ANNE))
    assert studies(found) == ["1.2.2", "1.2.3", "1.2.4"]
    assert others(found.rows[0]) == [("RZ2", THERE), ("RZ2", "0009999")]


async def test_so_many_numbers_there_are_asked_and_no_more(region: Region) -> None:
    for number in range(NUMBERS_ASKED_MAX + 1):
        await region.link(ANNE, "RZ2", f"{number:04}")
    found = await region.find(asking_for(ANNE))
    assert len(asked_by_number(region, "RZ2")) == NUMBERS_ASKED_MAX
    assert {source.trust.code: source.state.value for source in found.sources}["RZ2"] == "truncated"


async def test_a_linked_row_still_passes_the_demographic_check(region: Region) -> None:
    region.trust("RZ2").with_row(row("1.2.5", None, patient_id=THERE, name="BAKER^BEN", born="19700102"))
    await region.link(ANNE, "RZ2", THERE)
    found = await region.find(asking_for(ANNE, born="19580314"))
    assert studies(found) == ["1.2.2", "1.2.3"]
    assert conflicts(found) == ["RZ2"]


async def test_a_number_is_a_link_only_in_its_own_trusts_mouth(region: Region) -> None:
    """RZ3's archive says that its row is RZ2's patient 0001234: nobody vouches for that."""
    region.trust("RZ3").with_row(row("1.2.6", None, patient_id=THERE, issuer="RZ2"))
    await region.link(ANNE, "RZ2", THERE)
    assert studies(await region.find(asking_for_study("1.2.6"))) == []
    assert studies(await region.find(asking_for_study("1.2.2"))) == ["1.2.2"]


async def test_a_row_whose_numbers_lead_to_two_people_names_neither(region: Region) -> None:
    region.trust("RZ2").with_row(
        {**row("1.2.7", ANNE), OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [_item("RZ2", "0005555")]}}
    )
    assert "1.2.7" in studies(await region.find(asking_for(ANNE)))
    await region.refer(BEN, to="RZ4")
    await region.link(BEN, "RZ2", "0005555")
    found = await region.find(asking_for(ANNE))
    assert "1.2.7" not in studies(found)
    assert conflicts(found) == ["RZ2"]
    assert "identifiers-disagree" in {item.kind for item in await region.quality()}


async def test_a_link_that_is_taken_back_pins_nothing_any_more(region: Region) -> None:
    local = await region.link(ANNE, "RZ2", THERE)
    await region.unlink(local)
    assert studies(await region.find(asking_for_study("1.2.2"))) == []


@pytest.mark.parametrize("is_opted_out", [False, True])
async def test_an_archive_without_a_number_of_the_patient_is_named_as_not_asked(
    store: SqlStore, clock: FakeClock, is_opted_out: bool
) -> None:
    region = await described(Region(store, clock), PatientIdAsked.LOCAL)
    if is_opted_out:
        # That RZ2 has a number for her would tell of a visit there: she looks like one of whom it knows nothing.
        await region.link(ANNE, "RZ2", THERE)
        await region.opt_out(ANNE)
    found = await region.find(asking_for(ANNE))
    assert {source.trust.code: source.state.value for source in found.sources} == {
        "RZ2": "not-asked",
        "RZ3": "answered",
    }
    [source] = [source for source in found.sources if source.trust.code == "RZ2"]
    assert source.not_asked_because is NotAskedReason.NO_LINKED_NUMBER
    assert not region.trust("RZ2").pacs.requests


async def test_an_archive_of_local_numbers_alone_is_not_asked_by_the_nhs_number(
    store: SqlStore, clock: FakeClock
) -> None:
    region = await described(Region(store, clock), PatientIdAsked.LOCAL)
    await region.link(ANNE, "RZ2", THERE)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2", "1.2.3"]
    assert asked_by_number(region, "RZ2") == [THERE]


async def test_one_question_of_several_that_fails_makes_its_trusts_part_incomplete(region: Region) -> None:
    await region.link(ANNE, "RZ2", THERE)
    region.trust("RZ2").pacs.failing_for(ANNE.digits)
    found = await region.find(asking_for(ANNE))
    assert studies(found) == ["1.2.2", "1.2.3"]
    assert {source.trust.code: source.state.value for source in found.sources}["RZ2"] == "truncated"


# --- a caller who asks by the own hospital's number ---


@pytest.mark.parametrize("issuer", ["", "RZ1-PAS", "RZ1", "rz1-pas"])
async def test_a_caller_may_ask_by_its_own_hospitals_number(region: Region, issuer: str) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE)
    await region.link(ANNE, "RZ1", HERE)
    assert studies(await region.find(by(HERE, issuer))) == ["1.2.3"]
    assert asked_by_number(region, "RZ3") == [ANNE.digits]


async def test_a_number_that_is_linked_to_nobody_is_refused_in_words(region: Region) -> None:
    """Never an empty list; in the same words for a number of somebody without an NHS number (D10)."""
    with pytest.raises(InvalidRequest, match="not linked to an NHS number") as unknown:
        await region.find(by(HERE))
    await region.register_local("RZ1-PAS", HERE)
    with pytest.raises(InvalidRequest) as unlinked:
        await region.find(by(HERE))
    assert str(unlinked.value) == str(unknown.value)
    assert HERE not in str(unknown.value)


async def test_a_number_of_somebody_who_opted_out_looks_like_one_without_imaging(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE)
    await region.opt_out(ANNE)
    found = await region.find(by(HERE))
    assert (found.rows, conflicts(found)) == ((), [])


async def test_no_care_relationship_is_told_for_a_hospitals_number_too(region: Region) -> None:
    await region.link(BEN, "RZ1-PAS", HERE)
    with pytest.raises(Denied):
        await region.find(by(HERE))


async def test_a_number_of_another_hospital_is_not_looked_up(region: Region) -> None:
    await region.link(ANNE, "RZ2", THERE)
    with pytest.raises(InvalidRequest, match="issuer"):
        await region.find(by(THERE, "RZ2"))


async def test_leading_zeros_tell_two_of_its_numbers_apart(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", "0077")
    with pytest.raises(InvalidRequest):
        await region.find(by("77"))


@pytest.mark.parametrize("value", ["H-*", "H?77"])
async def test_a_hospitals_number_is_given_whole(region: Region, value: str) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE)
    with pytest.raises(QueryTooBroad):
        await region.find(by(value))


async def test_a_bare_number_that_may_be_either_is_asked_back(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", BEN.digits)
    with pytest.raises(InvalidRequest, match="send it with its issuer"):
        await region.find(by(BEN.digits))
    assert studies(await region.find(by(BEN.digits, "RZ1-PAS"))) == ["1.2.3"]
    with pytest.raises(Denied):
        await region.find(by(BEN.digits, "NHS"))


async def test_a_bare_nhs_number_is_one_where_no_number_of_the_hospital_contradicts(region: Region) -> None:
    assert studies(await region.find(by(ANNE.digits))) == ["1.2.3"]
    await region.link(ANNE, "RZ1-PAS", ANNE.digits)
    assert studies(await region.find(by(ANNE.digits))) == ["1.2.3"]


async def test_what_is_stated_beside_a_hospitals_number_is_a_check(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE)
    assert conflicts(await region.find(by(HERE, born="19700102"))) == ["RZ3"]


async def test_a_register_that_cannot_be_read_is_a_fault_for_a_hospitals_number(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE)
    await region.prepare()
    await region.lose("patient_identifier")
    for value in (HERE, "H-78"):
        with pytest.raises(RegisterUnavailable):
            await region.find(by(value))


# --- the caller's own number on what it is shown (SAF-34) ---


async def test_the_callers_own_number_is_shown_on_its_own_word(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE, source="RZ1")
    for query in (asking_for(ANNE), asking_for_study("1.2.3"), by(HERE)):
        [match] = (await region.find(query)).rows
        assert shown(match) == ("RZ1-PAS", HERE)
        assert others(match) == [("NHS", ANNE.digits)]
        assert match.patient == ANNE


@pytest.mark.parametrize("source", ["cli", "RZ2", "pixm", "rz1"])
async def test_on_anybody_elses_word_the_nhs_number_is_shown(region: Region, source: str) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE, source=source)
    for query in (asking_for(ANNE), by(HERE)):
        [match] = (await region.find(query)).rows
        assert shown(match) == ("NHS", ANNE.digits)


async def test_one_of_two_own_numbers_is_not_guessed(region: Region) -> None:
    await region.link(ANNE, "RZ1-PAS", HERE, source="RZ1")
    await region.link(ANNE, "RZ1-PAS", "H-78", source="RZ1")
    [match] = (await region.find(asking_for(ANNE))).rows
    assert shown(match) == ("NHS", ANNE.digits)


async def test_another_trusts_number_is_never_shown_as_patient_id(region: Region) -> None:
    await region.link(ANNE, "RZ2", THERE, source="RZ2")
    await region.link(ANNE, "RZ4", "44", source="RZ1")
    assert {shown(match) for match in (await region.find(asking_for(ANNE))).rows} == {("NHS", ANNE.digits)}


async def test_an_own_number_of_a_merge_that_nobody_confirmed_is_not_shown(region: Region) -> None:
    await region.link(BEN, "RZ1-PAS", HERE, source="RZ1")
    merge = await region.claim_one(BEN, survivor=ANNE)
    assert shown((await region.find(asking_for(ANNE))).rows[0]) == ("NHS", ANNE.digits)
    await region.confirm(merge)
    assert shown((await region.find(asking_for(ANNE))).rows[0]) == ("RZ1-PAS", HERE)


async def test_a_system_that_drops_other_patient_ids_is_shown_what_it_asked_by(
    store: SqlStore, clock: FakeClock
) -> None:
    region = await described(Region(store, clock, identity=IdentitySettings(patient_id_shown=PatientIdShown.AS_ASKED)))
    await region.link(ANNE, "RZ1-PAS", HERE, source="RZ1")
    answers = [(await region.find(query)).rows[0] for query in (asking_for(ANNE), by(HERE), asking_for_study("1.2.3"))]
    assert [shown(match)[1] for match in answers] == [ANNE.digits, HERE, HERE]


def _item(issuer: str, value: str) -> dict[str, JsonValue]:
    return {PATIENT_ID: {"vr": "LO", "Value": [value]}, ISSUER: {"vr": "LO", "Value": [issuer]}}
