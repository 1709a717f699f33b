"""A study that was met under two patients stays withheld until its custodians say whose it is (SAF-08).

Whoever asks by an NHS number meets one of the two copies alone, so what another question has shown must last.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model.imaging import Matches, Query
from policy.parties import TrustId
from storage.registers import quality, trusts
from tests.region import OFFICER, Region
from tests.sharing.rows import ANNE, BEN, asking_for, asking_for_study

STUDY, ANOTHER = "1.2.3", "1.2.9"


@pytest.fixture
async def region(region: Region) -> Region:
    """One study is Anne's at RZ2 and Ben's at RZ3, both of whom RZ1 looks after; RZ2 has another one of Anne."""
    region.trust("RZ1").with_study(STUDY, of=ANNE)
    region.trust("RZ2").with_study(STUDY, of=ANNE).with_study(ANOTHER, of=ANNE)
    region.trust("RZ3").with_study(STUDY, of=BEN, name="BAKER^BEN", born="19700102")
    await region.refer(ANNE, to="RZ1")
    await region.refer(BEN, to="RZ1")
    return region


async def asked(region: Region, query: Query, *, by: str = "RZ1") -> tuple[list[str], list[str]]:
    """The studies shown, and the trusts named as having something that could not be; the registers followed before."""
    region.roll = await region.sql.read(trusts.roll)
    found: Matches = await region.find(query, by=by)
    conflicts = [source.trust.code for source in found.sources if source.has_identity_conflict]
    return [match.study_uid for match in found.rows], conflicts


async def resolved(region: Region, custodian: str) -> None:
    """Let a custodian say that it put its item right."""
    [item] = await region.sql.read(lambda read: quality.open_items(read, TrustId(custodian)))
    await region.sql.write(lambda tx: quality.resolve(tx, item.item_id, OFFICER))


async def custodians(region: Region) -> list[str]:
    """Who has something to put right."""
    return [item.custodian.code for item in await region.quality()]


async def test_a_study_met_under_two_patients_is_withheld_from_questions_that_meet_one_of_them(region: Region) -> None:
    assert await asked(region, asking_for(ANNE)) == ([STUDY, ANOTHER], [])
    assert await asked(region, asking_for_study(STUDY)) == ([], ["RZ2", "RZ3"])
    assert await asked(region, asking_for(ANNE)) == ([ANOTHER], ["RZ2"])
    assert await asked(region, asking_for(BEN)) == ([], ["RZ3"])
    assert await custodians(region) == ["RZ2", "RZ3"]


async def test_it_is_withheld_while_the_other_trust_is_down(region: Region) -> None:
    await asked(region, asking_for_study(STUDY))
    region.trust("RZ3").down()
    assert await asked(region, asking_for_study(STUDY)) == ([], ["RZ2"])


async def test_it_is_shown_again_once_the_last_custodian_has_said_whose_it_is(region: Region) -> None:
    await asked(region, asking_for_study(STUDY))
    await resolved(region, "RZ2")
    assert await asked(region, asking_for(ANNE)) == ([ANOTHER], ["RZ2"])
    assert await custodians(region) == ["RZ3"]  # asking opens no item that was resolved
    region.trust("RZ3").pacs.rows.clear()
    await resolved(region, "RZ3")
    assert await asked(region, asking_for(ANNE)) == ([STUDY, ANOTHER], [])
    assert await asked(region, asking_for_study(STUDY)) == ([STUDY], [])


async def test_a_conflict_that_was_resolved_and_is_met_again_is_quarantined_again(region: Region) -> None:
    await asked(region, asking_for_study(STUDY))
    for custodian in ("RZ2", "RZ3"):
        await resolved(region, custodian)
    assert await asked(region, asking_for_study(STUDY)) == ([], ["RZ2", "RZ3"])
    assert await asked(region, asking_for(ANNE)) == ([ANOTHER], ["RZ2"])
    assert await custodians(region) == ["RZ2", "RZ3"]


async def test_a_custodian_may_look_at_its_own_copy(region: Region) -> None:
    await asked(region, asking_for_study(STUDY))
    await region.refer(ANNE, to="RZ2")
    own = replace(asking_for(ANNE), only_trust=TrustId("RZ2"))
    assert (await asked(region, own, by="RZ2"))[0] == [STUDY, ANOTHER]


async def test_an_opted_out_patients_study_in_quarantine_is_told_to_nobody(region: Region) -> None:
    await asked(region, asking_for_study(STUDY))
    await region.opt_out(ANNE)
    await region.opt_out(BEN)
    assert await asked(region, asking_for_study(STUDY)) == ([], [])
    assert await asked(region, asking_for(ANNE)) == ([], [])


async def test_every_node_learns_of_it_by_the_version_of_the_registers(region: Region) -> None:
    await region.prepare()
    before = await region.sql.register_version()
    await asked(region, asking_for_study(STUDY))
    opened = await region.sql.register_version()
    await asked(region, asking_for_study(STUDY))
    assert before < opened == await region.sql.register_version()
    await resolved(region, "RZ2")
    assert await region.sql.register_version() > opened


async def test_another_kind_of_item_quarantines_nothing(region: Region) -> None:
    region.trust("RZ4").with_study("1.2.10", of=ANNE, name="BAKER^BEN", born="19700102")
    assert (await asked(region, asking_for(ANNE, born="19580314")))[1] == ["RZ4"]
    assert await region.sql.read(quality.quarantined) == frozenset()


async def test_a_page_after_a_study_went_into_quarantine_is_asked_anew(region: Region) -> None:
    region.roll = await region.sql.read(trusts.roll)
    first = await region.find(replace(asking_for(ANNE), limit=1))
    assert [match.study_uid for match in first.rows] == [STUDY]
    await asked(region, asking_for_study(STUDY))
    region.roll = await region.sql.read(trusts.roll)
    again = await region.find(replace(asking_for(ANNE), limit=1), snapshot=first.snapshot)
    assert [match.study_uid for match in again.rows] == [ANOTHER]


async def test_more_than_fit_leave_those_of_longest_standing_in_quarantine(region: Region) -> None:
    region.trust("RZ2").with_study("1.2.1", of=ANNE)
    region.trust("RZ3").with_study("1.2.1", of=BEN, name="BAKER^BEN", born="19700102")
    await asked(region, asking_for_study(STUDY))
    await region.clock.advance(1)
    await asked(region, asking_for_study("1.2.1"))
    assert await region.sql.read(quality.quarantined) == {STUDY, "1.2.1"}
    assert await region.sql.read(lambda read: quality.quarantined(read, studies_max=1)) == {STUDY}
