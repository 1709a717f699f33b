"""Imaging that exists must never be taken for none: whatever was not asked, not believed or cut off is named (SAF-04).

A list without rows may look the same whether a patient has no imaging or has opted out. It may never look so because a
trust was left out, failed, was cut short, or sent something that could not be used.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model.errors import PeerError, PeerUnavailable
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    PATIENT_BIRTH_DATE,
    SERIES_UID,
    STUDY_UID,
    Attributes,
    Key,
    Level,
    Query,
)
from gateway.sharing.identity.conflicts import judge
from gateway.sharing.scope import pinned_scope
from policy.parties import TrustId
from tests.attacks.house import EVERYTHING, House, found_by, housed, states
from tests.sharing.rows import ANNE, BEN, CLARA, RZ1, RZ2, RZ3, RZ4, asking_for, asking_for_study, found, row


def without(whole: Attributes, tag: str) -> Attributes:
    return {key: element for key, element in whole.items() if key != tag}


@pytest.mark.parametrize("level", [Level.SERIES, Level.IMAGE])
async def test_rows_that_cannot_be_placed_make_their_trusts_part_incomplete(house: House, level: Level) -> None:
    whole = row(series="1.2.3.1", image="1.2.3.1.1")
    house.archives[RZ2].rows = [without(whole, SERIES_UID)]
    house.archives[RZ3].rows = [whole]
    matches = await house.find(asking_for(ANNE, level=level))
    assert states(matches) == {RZ2: "truncated", RZ3: "answered"}
    assert found_by(matches) == [("1.2.3", (RZ3,))]


async def test_a_row_without_the_accession_number_that_was_asked_for_is_no_answer_and_is_told(house: House) -> None:
    """Nobody can say that it is the examination meant, and the next archive may ignore keys it does not know."""
    house.archives[RZ2].rows = [row(accession="A123")]
    house.archives[RZ3].rows = [row("1.2.4")]
    matches = await house.find(Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", ("A123",)),)))
    assert found_by(matches) == [("1.2.3", (RZ2,))]
    assert states(matches) == {RZ2: "answered", RZ3: "truncated"}


def test_the_rows_that_agree_stay_when_the_question_excludes_another_persons() -> None:
    query = asking_for(ANNE, Key((PATIENT_BIRTH_DATE,), "DA", ("19580314",)))
    rows = [found(RZ2, row("1.1")), found(RZ3, row("1.2", name="MARSH^LEONARD", born="19380430"))]
    judgement = judge(query, pinned_scope(query), rows)
    assert [candidate.study_uid for candidate in judgement.accepted] == ["1.1"]


async def test_no_trust_is_named_twice_or_left_out(house: House) -> None:
    matches = await house.find(asking_for(ANNE))
    assert [source.trust for source in matches.sources] == [RZ2, RZ3]
    assert RZ1 not in states(matches)
    assert TrustId("RZ9") not in states(matches)


async def test_a_trust_that_answers_in_part_is_told_even_if_no_other_answers(house: House) -> None:
    house.archives[RZ2].is_truncated = True
    house.archives[RZ3].error = PeerUnavailable(RZ3, "no connection")
    matches = await house.find(asking_for(ANNE))
    assert states(matches) == {RZ2: "truncated", RZ3: "unreachable"}


async def test_an_enrolled_trust_without_an_archive_is_named_as_not_asked(sqlite_url: str) -> None:
    async with housed(sqlite_url, trusts=(RZ1, RZ2, RZ3, RZ4)) as house:
        house.build(connectors=[house.archives[RZ2], house.archives[RZ3]])
        matches = await house.find(asking_for(ANNE))
    assert states(matches) == {RZ2: "answered", RZ3: "answered", RZ4: "not-asked"}
    assert {source.desk_phone for source in matches.sources if source.trust == RZ4} == {"0300 555 RZ4"}


async def test_a_question_for_a_trust_that_cannot_be_asked_is_not_answered_with_an_empty_list(
    sqlite_url: str,
) -> None:
    async with housed(sqlite_url, trusts=(RZ1, RZ2, RZ4)) as house:
        house.build(connectors=[house.archives[RZ2]])
        with pytest.raises(PeerError, match="0300 555 RZ4"):
            await house.find(Query(Level.STUDY, asking_for(ANNE).keys, only_trust=RZ4))


async def test_a_region_without_any_archive_answers_no_list_at_all(house: House) -> None:
    house.build(connectors=[])
    with pytest.raises(PeerError, match="0300 555 RZ2"):
        await house.find(asking_for(ANNE))


async def test_a_trust_that_shares_nothing_is_coverage_and_not_a_gap(sqlite_url: str) -> None:
    async with housed(sqlite_url, trusts=(RZ1, RZ2, RZ4)) as house:
        await house.shares(RZ4)
        house.build(connectors=[house.archives[RZ2]])
        everywhere = await house.find(asking_for(ANNE))
        there = await house.find(replace(asking_for(ANNE), only_trust=RZ4))
    assert states(everywhere) == {RZ2: "answered", RZ4: "not-shared"}
    assert states(there) == {RZ4: "not-shared"}


async def test_a_patients_conflict_is_told_although_the_other_patient_in_it_opted_out(house: House) -> None:
    """Else Anne's study vanished without a word. The other's trust is not named: that would show that he is known."""
    await house.opts_out(BEN)
    house.archives[RZ2].rows = [row("1.1")]
    house.archives[RZ3].rows = [row("1.1", BEN)]
    matches = await house.find(asking_for_study("1.1"))
    assert found_by(matches) == []
    assert {source.trust for source in matches.sources if source.has_identity_conflict} == {RZ2}


async def test_a_conflict_that_does_not_concern_the_patient_is_not_told_with_the_patients_own(house: House) -> None:
    house.archives[RZ2].rows = [row("1.1"), row("1.5", CLARA)]
    house.archives[RZ3].rows = [row("1.1", None, name=""), row("1.5", BEN)]
    matches = await house.find(asking_for(ANNE))
    assert found_by(matches) == [("1.1", (RZ2,))]
    assert {source.trust for source in matches.sources if source.has_identity_conflict} == {RZ3}
    await house.opts_out(BEN)
    again = await house.find(asking_for(ANNE))
    assert again == matches


async def test_one_persons_rows_are_compared_with_each_other_although_the_question_excludes_a_third(
    house: House,
) -> None:
    """A birth date in the question settles that one row is another's; it does not settle that the others agree."""
    house.archives[RZ2].rows = [row("1.1"), row("1.2", name="MARSH^LEONARD", born="19380430")]
    house.archives[RZ3].rows = [row("1.3", name="OKAFOR^GRACE", born="")]
    matches = await house.find(asking_for(ANNE, Key((PATIENT_BIRTH_DATE,), "DA", ("19580314",))))
    assert found_by(matches) == []
    assert {source.trust for source in matches.sources if source.has_identity_conflict} == {RZ2, RZ3}


async def test_the_same_series_uid_of_two_patients_is_withheld_at_both(house: House) -> None:
    house.archives[RZ2].rows = [row("1.1", accession="A123", series="1.9")]
    house.archives[RZ3].rows = [row("1.2", BEN, accession="A123", series="1.9")]
    matches = await house.find(Query(Level.SERIES, (Key((ACCESSION_NUMBER,), "SH", ("A123",)),)))
    assert found_by(matches) == []
    assert {source.trust for source in matches.sources if source.has_identity_conflict} == {RZ2, RZ3}


async def test_a_trusts_own_images_without_an_nhs_number_are_its_own_to_find(house: House) -> None:
    """An archive found through the gateway must not seem emptier to its own hospital than it is (SAF-12)."""
    await house.shares(RZ2, *EVERYTHING)
    house.archives[RZ2].rows = [row("1.1", None, patient_id="0001234", issuer="RZ2")]
    own = await house.find(Query(Level.STUDY, (Key((STUDY_UID,), "UI", ("1.1",)),), only_trust=RZ2), trust=RZ2)
    assert found_by(own) == [("1.1", (RZ2,))]
    others = await house.find(Query(Level.STUDY, (Key((STUDY_UID,), "UI", ("1.1",)),), only_trust=RZ2))
    assert found_by(others) == []
