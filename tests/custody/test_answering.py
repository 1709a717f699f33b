"""Who asks the gateway to answer for what it sent is told what its own archive committed itself to, and no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keeping.work import FORGET, recurring_job
from gateway.model.errors import InvalidRequest, OverCapacity
from gateway.model.work.commitments import (
    CommitmentRequest,
    FailureReason,
    Kept,
    KeptInstance,
    Reference,
    Terms,
    answered,
)
from storage.work import jobs, transactions
from tests.clock import FakeClock
from tests.custody.custody_rig import REGION, RZ1, RZ2, Line, archived, caller_of, custody_of, destination, request_for
from tests.gateway.keeping_rig import Place
from tests.peers.committing import HANG_S, CommittingArchive, Reports, Sender
from tests.storage.cache_rig import CT

ONE, TWO, OTHERS = "1.2.1.1", "1.2.1.2", "1.3.1.1"
ABSENT, FAILED = FailureReason.NO_SUCH_INSTANCE, FailureReason.PROCESSING_FAILURE


@pytest.fixture
def place(tmp_path: Path, clock: FakeClock) -> Place:
    return Place(tmp_path, clock)


async def test_a_sender_is_told_once_its_archive_has_committed_itself_and_not_before(place: Place) -> None:
    archive, line = CommittingArchive(Reports.NEVER), Line(is_open=True)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.take("1.9", ONE, line=line)
        await rig.turn()
        assert not line.told
        assert await asyncio.to_thread(archive.tell, archive.asked.get_nowait()) == 0
        await rig.follow()
        [told] = line.told
        assert (told.transaction_uid, told.committed, told.failed) == ("1.9", (Reference(CT, ONE),), ())


async def test_what_is_not_its_own_does_not_exist_for_who_asks(place: Place) -> None:
    archive, line = CommittingArchive(Reports.ON_THE_SAME), Line(is_open=True)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.push(OTHERS, trust=RZ2, study="1.3")
        await rig.turn()
        await rig.take("1.9", ONE, OTHERS, "1.4.1.1", line=line)
        stranger = Line(is_open=True)
        await rig.take("1.9", ONE, line=stranger, by=caller_of(RZ2))
        await rig.follow()
    [told] = line.told
    assert [each.sop_uid for each in told.committed] == [ONE]
    assert {each.sop_uid: reason for each, reason in told.failed} == {OTHERS: ABSENT, "1.4.1.1": ABSENT}
    assert [reason for _, reason in stranger.told[0].failed] == [ABSENT]


async def test_where_no_archive_takes_anything_back_nothing_is_committed(place: Place) -> None:
    line = Line(is_open=True)
    place.more = [REGION]
    async with custody_of(place) as rig:
        await rig.push(ONE)
        await rig.take("1.9", ONE, line=line)
        await rig.follow()
        assert [reason for _, reason in line.told[0].failed] == [FAILED]
        assert await rig.sole() == {ONE}


async def test_after_a_day_what_is_not_committed_has_failed(place: Place) -> None:
    archive, line = CommittingArchive(Reports.ON_THE_SAME, does_not_commit={TWO}), Line(is_open=True)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.push(TWO)
        await rig.take("1.9", ONE, TWO, line=line)
        await rig.turn(minutes=23 * 60)
        assert not line.told
        await rig.turn(minutes=60)
        [told] = line.told
        assert [each.sop_uid for each in told.committed] == [ONE] and [reason for _, reason in told.failed] == [FAILED]
        assert await rig.sole() == {TWO}


async def test_asked_again_it_is_answered_again_and_nothing_is_doubled(place: Place) -> None:
    archive, line = CommittingArchive(Reports.ON_THE_SAME), Line(is_open=True)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        for _ in range(3):
            await rig.take("1.9", ONE, line=line)
        await rig.turn()
        await rig.follow()
        assert len(line.told) == 1
        await rig.take("1.9", ONE, line=line)
        await rig.follow()
        assert len(line.told) == 2 and line.told[0] == line.told[1]
        with pytest.raises(InvalidRequest, match="in use"):
            await rig.take("1.9", TWO)
    assert archive.asked.qsize() == 1


async def test_too_many_requests_that_wait_are_refused(place: Place) -> None:
    archive = CommittingArchive(Reports.NEVER)
    async with archived(place, archive) as rig:
        await rig.push(ONE)

        async def take(number: int, waiting_max: int) -> None:
            request = request_for(f"1.9.{number}", ONE)
            await rig.kept.store.write(
                lambda tx: transactions.take(tx, "rz1-pacs", RZ1, "RZ1_PACS", request, waiting_max)
            )

        await take(1, 2)
        await take(2, 2)
        await take(2, 2)
        with pytest.raises(OverCapacity):
            await take(3, 2)


async def test_a_sender_that_is_gone_is_told_on_an_association_of_ours_even_after_a_restart(place: Place) -> None:
    sender = Sender(0, "RZ1_SENDER")
    archive = CommittingArchive(Reports.ON_THE_SAME)
    with sender.listening():
        place.more = [destination(sender.port, "none", "sender", "RZ1_SENDER")]
        async with archived(place, archive) as rig:
            await rig.push(ONE)
            await rig.turn()
            # Taken, and the process is gone before anything is decided.
            await rig.take("1.9", ONE)
        async with custody_of(place) as rig:
            await rig.follow()
            told = await asyncio.to_thread(sender.told.get, timeout=HANG_S)
            assert (told.transaction_uid, told.committed, told.failed) == ("1.9", [ONE], {})
            assert await rig.acts() == ["return", "committed", "asked", "answered", "told"]


async def test_a_sender_that_takes_no_report_is_tried_again_until_it_does(place: Place, clock: FakeClock) -> None:
    sender = Sender(0, "RZ1_SENDER")
    sender.answers = 0x0110
    place.more = [REGION]
    with sender.listening():
        place.more.append(destination(sender.port, "none", "sender", "RZ1_SENDER"))
        async with custody_of(place) as rig:
            await rig.take("1.9", ONE)
            await rig.follow()
            assert sender.told.empty()
            sender.answers = 0
            await clock.advance(10.0)
            await rig.follow()
            told = await asyncio.to_thread(sender.told.get, timeout=HANG_S)
            assert told.failed == {ONE: ABSENT} and not await rig.failed_jobs()


async def test_a_sender_without_an_address_that_released_is_told_when_it_asks_again(place: Place) -> None:
    place.more = [REGION]
    line = Line()
    async with custody_of(place) as rig:
        await rig.take("1.9", ONE, line=line)
        await rig.follow()
        [words] = await rig.failed_jobs()
        assert "RZ1" in words and not line.told
        line.is_open = True
        await rig.take("1.9", ONE, line=line)
        await rig.follow()
        assert len(line.told) == 1


async def test_a_foreign_sender_asks_and_is_told_at_the_door(place: Place) -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)
    async with archived(place, archive) as rig:
        await rig.push(ONE)
        await rig.turn()
        sender = Sender(rig.house.port)

        def asking() -> tuple[int, list[str], dict[str, int]]:
            with sender.asking("1.9", (CT, ONE), (CT, TWO), ("1.2.840.10008.5.1.4.1.1.4", "1.2.1.1.9")) as status:
                told = sender.told.get(timeout=HANG_S)
                assert told.is_same_association
                return status, told.committed, told.failed

        under_way = asyncio.create_task(asyncio.to_thread(asking))
        await asyncio.wait_for(rig.custody.desk.has_news.wait(), HANG_S)
        await rig.follow()
        assert await under_way == (0, [ONE], {TWO: ABSENT, "1.2.1.1.9": ABSENT})


async def test_an_instance_of_another_class_than_it_is_said_to_be_is_a_conflict(place: Place) -> None:
    line = Line(is_open=True)
    place.more = [REGION]
    async with custody_of(place) as rig:
        await rig.push(ONE)
        request = CommitmentRequest("1.9", (Reference("1.2.840.10008.5.1.4.1.1.4", ONE),))
        await rig.custody.desk.take(caller_of(RZ1), "RZ1_PACS", request, line)
        await rig.follow()
    assert [reason for _, reason in line.told[0].failed] == [FailureReason.CLASS_INSTANCE_CONFLICT]


# --- the decision ---

kept = st.one_of(st.none(), st.builds(KeptInstance, st.sampled_from(["1.1", "1.2"]), st.sampled_from(Kept)))


@given(st.lists(kept, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_an_answer_names_every_instance_once_and_commits_to_nothing_that_is_not_committed(
    found: list[KeptInstance | None], has_archive: bool, is_late: bool
) -> None:
    request = CommitmentRequest("1", tuple(Reference("1.1", str(number)) for number in range(len(found))))
    known = {str(number): each for number, each in enumerate(found) if each is not None}
    report = answered(request, known, Terms(has_archive=has_archive, is_late=is_late))
    is_awaited = any(each is not None and each == KeptInstance("1.1", Kept.AWAITED) for each in found)
    assert (report is None) is (is_awaited and has_archive and not is_late)
    if report is not None:
        named = [*report.committed, *(reference for reference, _ in report.failed)]
        assert sorted(named, key=lambda each: each.sop_uid) == list(request.instances)
        assert all(known[each.sop_uid] == KeptInstance("1.1", Kept.COMMITTED) for each in report.committed)
        wrongly_failed = {each.sop_uid for each, _ in report.failed} & {
            uid for uid, each in known.items() if each == KeptInstance("1.1", Kept.COMMITTED)
        }
        assert not wrongly_failed


async def test_what_was_committed_and_asked_is_forgotten_in_the_end(place: Place, clock: FakeClock) -> None:
    line = Line(is_open=True)
    place.more = ["[jobs]\nended_kept_days = 1\nretrievals_kept_days = 2"]
    async with archived(place, CommittingArchive(Reports.ON_THE_SAME)) as rig:
        await rig.push(ONE)
        await rig.turn()

        async def told_after(days: int) -> int:
            """How many have failed of what it is told by then."""
            await clock.advance(days * 86_400.0)
            await rig.kept.store.write(lambda tx: jobs.enqueue(tx, recurring_job(FORGET)))
            await rig.follow()
            await rig.take("1.9", ONE, line=line)
            await rig.follow()
            return len(line.told[-1].failed)

        assert [await told_after(1), await told_after(2)] == [0, 1]
