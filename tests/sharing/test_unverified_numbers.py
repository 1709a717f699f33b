"""An unverified NHS number does not match across trusts by itself (IDN-01, C1); doubts are flagged (IDN-02)."""

from __future__ import annotations

import pytest

from gateway.model.errors import Denied, InvalidRequest
from gateway.model.imaging import PATIENT_NAME, Attributes, Key, Matches
from gateway.model.settings import IdentitySettings
from storage.registers.patients import NumberStatus
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, asking_for, asking_for_study, row

BORN = "19580314"
UNVERIFIED = [status for status in NumberStatus if status is not NumberStatus.VERIFIED]
WORDS = "not verified here: state the patient's birth date"


async def described(region: Region, status: str) -> Region:
    """Anne in RZ1's care, with a number of this status, and a study of hers at RZ2."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.2", of=ANNE)
    await region.number(ANNE, status=status)
    await region.refer(ANNE, to="RZ1")
    return region


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return [match.study_uid for match in matches.rows]


def conflicts(matches: Matches) -> list[str]:
    """The trusts at which something could not be shown."""
    return [source.trust.code for source in matches.sources if source.has_identity_conflict]


async def kinds(region: Region) -> set[str]:
    """The kinds of the open quality items."""
    return {item.kind for item in await region.quality()}


@pytest.mark.parametrize("status", UNVERIFIED)
async def test_a_number_that_is_not_verified_needs_the_birth_date_beside_it(region: Region, status: str) -> None:
    await described(region, status)
    with pytest.raises(InvalidRequest, match=WORDS):
        await region.find(asking_for(ANNE))
    assert not region.trust("RZ2").pacs.requests
    assert studies(await region.find(asking_for(ANNE, born=BORN))) == ["1.2.2"]


@pytest.mark.parametrize("status", ["01", ""], ids=["verified", "nobody recorded it"])
async def test_a_number_that_is_verified_or_only_the_callers_word_is_enough(region: Region, status: str) -> None:
    await described(region, status)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2"]


async def test_a_region_may_take_nobodys_word_and_may_accept_more(store: SqlStore, clock: FakeClock) -> None:
    strict = Region(store, clock, identity=IdentitySettings(accepts_unrecorded_status=False))
    await described(strict, "")
    with pytest.raises(InvalidRequest, match=WORDS):
        await strict.find(asking_for(ANNE))


async def test_further_statuses_can_be_accepted(store: SqlStore, clock: FakeClock) -> None:
    region = await described(Region(store, clock, identity=IdentitySettings(("01", "02"))), "02")
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2"]


async def test_another_birth_date_is_no_evidence_and_is_told(region: Region) -> None:
    await described(region, "02")
    found = await region.find(asking_for(ANNE, born="19700102"))
    assert (studies(found), conflicts(found)) == ([], ["RZ2"])


async def test_a_row_without_a_birth_date_is_withheld_and_told(region: Region) -> None:
    await described(region, "02")
    region.trust("RZ2").with_row(row("1.2.3", ANNE, born=""))
    found = await region.find(asking_for(ANNE, born=BORN))
    assert (studies(found), conflicts(found)) == (["1.2.2"], ["RZ2"])
    assert await kinds(region) == {"nhs-number-not-verified"}


async def test_the_asking_trusts_own_link_is_evidence(region: Region) -> None:
    await described(region, "02")
    await region.link(ANNE, "RZ1", "H-77", source="RZ1")
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2"]


async def test_a_linked_number_on_the_row_is_evidence_for_that_row(region: Region) -> None:
    await described(region, "02")
    region.trust("RZ2").with_row(row("1.2.3", None, patient_id="0001234", issuer="RZ2"))
    await region.link(ANNE, "RZ2", "0001234", source="RZ2")
    found = await region.find(asking_for_study("1.2.2", "1.2.3"))
    assert (studies(found), conflicts(found)) == (["1.2.3"], ["RZ2"])


async def test_it_is_the_same_for_somebody_who_opted_out(region: Region) -> None:
    await described(region, "02")
    await region.opt_out(ANNE)
    with pytest.raises(InvalidRequest, match=WORDS):
        await region.find(asking_for(ANNE))
    assert (await region.find(asking_for(ANNE, born=BORN))).rows == ()


async def test_no_care_relationship_is_told_before_it(region: Region) -> None:
    await described(region, "01")
    await region.number(BEN, status="02")
    with pytest.raises(Denied):
        await region.find(asking_for(BEN))


async def test_the_surviving_numbers_status_counts(region: Region) -> None:
    await described(region, "01")
    await region.number(BEN, status="02")
    await region.supersede(BEN, by=ANNE)
    assert studies(await region.find(asking_for(BEN))) == ["1.2.2"]


# --- doubts: shown, and flagged to the custodian (IDN-02, IDN-03, IDN-08) ---

DOUBTFUL = {
    "another day of birth": row("1.2.3", ANNE, born="19580315"),
    "another surname": row("1.2.3", ANNE, name="JONES^ANNE"),
    "names swapped": row("1.2.3", ANNE, name="ANNE^SMITH"),
    "a twin's given name": row("1.2.3", ANNE, name="SMITH^BETH"),
}


@pytest.mark.parametrize("doubtful", DOUBTFUL.values(), ids=DOUBTFUL.keys())
async def test_what_is_tolerated_is_shown_and_flagged(region: Region, doubtful: Attributes) -> None:
    await described(region, "01")
    region.trust("RZ3").with_row(doubtful)
    found = await region.find(asking_for(ANNE))
    assert (studies(found), conflicts(found)) == (["1.2.2", "1.2.3"], [])
    assert await kinds(region) == {"demographics-doubtful"}
    assert {item.custodian.code for item in await region.quality()} == {"RZ2", "RZ3"}


async def test_a_doubt_against_the_question_is_flagged_too(region: Region) -> None:
    """One letter of the day mistyped at either side; name and sex agree."""
    await described(region, "01")
    named = Key((PATIENT_NAME,), "PN", ("SMITH^ANNE",))
    assert studies(await region.find(asking_for(ANNE, named, born="19580315"))) == ["1.2.2"]
    assert await kinds(region) == {"demographics-doubtful"}


@pytest.mark.parametrize(
    "plain", [row("1.2.3", ANNE, born=""), row("1.2.3", ANNE, name=""), row("1.2.3", ANNE, name="Smith^A")]
)
async def test_what_is_only_missing_is_nothing_to_put_right(region: Region, plain: Attributes) -> None:
    await described(region, "01")
    region.trust("RZ3").with_row(plain)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.2", "1.2.3"]
    assert await kinds(region) == set()


async def test_twins_under_numbers_of_their_own_stay_two(region: Region) -> None:
    """They share birth date, family name and address; only the number tells them apart (IDN-08)."""
    await described(region, "01")
    region.trust("RZ2").with_row(row("1.2.8", BEN, name="SMITH^ANNA"))
    await region.refer(BEN, to="RZ1")
    assert studies(await region.find(asking_for(ANNE, born=BORN))) == ["1.2.2"]
    assert studies(await region.find(asking_for(BEN, born=BORN))) == ["1.2.8"]
