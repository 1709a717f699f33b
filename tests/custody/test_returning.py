"""Sole copies go back to their custodian's archive, and stay sole until that has committed itself to them (SAF-21)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.model.seams import SOLE_COPY
from gateway.model.work.commitments import CommitmentReport, Reference
from gateway.model.work.transfers import CacheClass, Standing
from policy.parties import TrustId
from storage.cache.upkeep import INDEX_PAUSE_S
from storage.registers.quality import open_items
from tests.clock import FakeClock
from tests.custody.custody_rig import RZ1, STUDY, archived, content_of
from tests.gateway.keeping_rig import Place
from tests.gateway.test_metrics import samples
from tests.peers.committing import HANG_S, CommittingArchive, Reports, request_of
from tests.storage import people
from tests.storage.cache_rig import CT

ONE, TWO = "1.2.1.1", "1.2.1.2"


@pytest.fixture
def place(tmp_path: Path, clock: FakeClock) -> Place:
    return Place(tmp_path, clock)


@pytest.mark.parametrize("reports", [Reports.ON_THE_SAME, Reports.BY_OWN_ASSOCIATION])
async def test_what_its_archive_committed_itself_to_is_no_sole_copy_any_more(place: Place, reports: Reports) -> None:
    archive = CommittingArchive(reports)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.push(TWO)
        await rig.turn()
        assert await asyncio.to_thread(archive.answered.get, timeout=HANG_S) == 0
        await rig.follow()
        assert not await rig.sole()
    assert archive.stored == {ONE: content_of(ONE), TWO: content_of(TWO)}


async def test_nothing_goes_back_while_the_study_still_comes_in(place: Place, clock: FakeClock) -> None:
    archive = CommittingArchive()
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await clock.advance(5.0)
        await rig.follow()
        assert not archive.stored


async def test_an_archive_that_never_answers_is_sent_it_again_and_then_alarmed_and_nothing_is_evicted(
    place: Place, clock: FakeClock
) -> None:
    archive = CommittingArchive(Reports.NEVER)
    place.more.append("[cache]\ninteractive_bytes_max = 0")
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        await rig.turn(minutes=30)
        assert archive.asked.qsize() == 1
        await rig.turn(minutes=31)
        assert archive.asked.qsize() == 2
        assert not await rig.kept.store.read(open_items)
        await rig.turn(minutes=24 * 60)
        [item] = [each.item for each in await rig.kept.store.read(open_items)]
        assert (item.kind, item.custodian, item.study_uid, item.patient) == (SOLE_COPY, RZ1, STUDY, None)
        assert await rig.sole() == {ONE}
        assert [each.ref.sop_uid for each in await rig.kept.keeping.cache.instances(STUDY)] == [ONE]


async def test_what_an_archive_does_not_commit_itself_to_stays_and_is_asked_again_after_a_while(place: Place) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME, does_not_commit={TWO})
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.push(TWO)
        await rig.turn()
        assert await rig.sole() == {TWO}
        await rig.turn(minutes=10)
        assert archive.asked.qsize() == 1
        archive.does_not_commit.clear()
        await rig.turn(minutes=10)
        assert not await rig.sole()
    archive.asked.get_nowait()
    assert [str(each.ReferencedSOPInstanceUID) for each in archive.asked.get_nowait().ReferencedSOPSequence] == [TWO]


@pytest.mark.parametrize("archive", [CommittingArchive(answers_action=0x0213), CommittingArchive(stores=0xA700)])
async def test_an_archive_that_refuses_is_tried_again(place: Place, archive: CommittingArchive) -> None:
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        assert await rig.sole() == {ONE}
        archive.answers_action = archive.stores = 0
        archive.reports = Reports.ON_THE_SAME
        await rig.turn(minutes=16)
        assert not await rig.sole()


async def test_a_report_that_nobody_asked_for_or_from_another_trust_changes_nothing(place: Place) -> None:
    archive = CommittingArchive(Reports.NEVER)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        asked = archive.asked.get_nowait()
        assert await asyncio.to_thread(archive.tell, request_of("1.2.3.4", (CT, ONE))) == 0x0115
        stranger = replace(archive, ae_title="RZ2_PACS")
        assert await asyncio.to_thread(stranger.tell, asked) == 0x0115
        await rig.follow()
        assert await rig.sole() == {ONE}
        # Of instances that it was not asked for the archive says in vain that it has them.
        more = request_of(str(asked.TransactionUID), (CT, "1.2.9.9"))
        assert await asyncio.to_thread(archive.tell, more) == 0
        await rig.follow()
        assert await rig.sole() == {ONE}


async def test_a_late_answer_counts_and_a_second_one_changes_nothing(place: Place) -> None:
    archive = CommittingArchive(Reports.NEVER)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        await rig.turn(minutes=61)
        first = archive.asked.get_nowait()
        for _ in range(2):
            assert await asyncio.to_thread(archive.tell, first) == 0
            await rig.follow()
            assert not await rig.sole()


async def test_a_version_that_came_meanwhile_is_a_sole_copy_still(place: Place) -> None:
    archive = CommittingArchive(Reports.NEVER)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        await rig.push(ONE, seed=1)
        assert await asyncio.to_thread(archive.tell, archive.asked.get_nowait()) == 0
        await rig.follow()
        assert await rig.sole() == {ONE}
        assert await rig.standing(ONE) == [Standing.SUPERSEDED, Standing.CURRENT]
        await rig.turn()
        assert await asyncio.to_thread(archive.tell, archive.asked.get_nowait()) == 0
        await rig.follow()
        assert not await rig.sole() and archive.stored == {ONE: content_of(ONE, 1)}


@pytest.mark.parametrize(("status", "is_believed"), [(0x0000, True), (0x0111, False), (0xB000, False), (0xA700, False)])
async def test_an_archive_trusted_on_its_word_is_believed_in_success_alone(
    place: Place, status: int, is_believed: bool
) -> None:
    archive = CommittingArchive(stores=status)
    async with archived(place, archive, custody="stored") as rig:
        await rig.push(ONE)
        await rig.turn()
        assert bool(await rig.sole()) is not is_believed
    assert archive.asked.empty()


async def test_sole_copies_of_who_opted_out_go_back_all_the_same_and_their_key_is_given_up(place: Place) -> None:
    archive = CommittingArchive(Reports.NEVER)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.kept.choose(await people.patient(rig.kept.store))
        await rig.kept.keeping.follow()
        assert len(await rig.kept.keeping.keyring.kept_keys()) == 1
        assert not await rig.kept.keeping.cache.instances(STUDY)
        await rig.turn()
        assert archive.stored == {ONE: content_of(ONE)}
        assert len(await rig.kept.keeping.keyring.kept_keys()) == 1
        assert await asyncio.to_thread(archive.tell, archive.asked.get_nowait()) == 0
        await rig.follow()
        assert not await rig.sole() and not await rig.kept.keeping.keyring.kept_keys()


async def test_a_committed_study_gives_way_like_any_other(place: Place) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)
    place.more.append("[cache]\ninteractive_bytes_max = 0")
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        study = await rig.kept.keeping.cache.study(STUDY)
        assert study is not None and study.cache_class is CacheClass.INTERACTIVE
        tending = asyncio.create_task(rig.kept.keeping.run())
        async with asyncio.timeout(HANG_S):
            while await rig.kept.keeping.cache.instances(STUDY):
                await rig.clock.advance(INDEX_PAUSE_S)
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def test_what_archives_commit_themselves_to_stands_in_the_audit(place: Place) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        report = CommitmentReport(str(archive.asked.get_nowait().TransactionUID), (Reference(CT, ONE),))
        await rig.custody.desk.heard(TrustId("RZ1"), report)  # heard again: recorded again
        acts = await rig.acts()
    assert acts == ["return", "committed", "committed"]


async def test_figures_tell_how_many_sole_copies_there_are_and_how_old_the_oldest_is(
    place: Place, clock: FakeClock
) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)
    async with archived(place, archive) as rig:
        kept = [await rig.push(ONE)]
        await clock.advance(5.0)
        kept.append(await rig.push("1.3.1.1", study="1.3"))
        await clock.advance(4.0)
        await rig.custody.look()
        shown = samples(rig.figures)
        assert shown["gateway_sole_copies|RZ1"] == 2 and shown["gateway_sole_copy_oldest_seconds|RZ1"] == 9.0
        assert shown["gateway_sole_copy_bytes|RZ1"] > sum(each.plain_bytes for each in kept)
        await rig.turn()
        assert "gateway_sole_copies|RZ1" not in samples(rig.figures)
