"""Keys, cache and jobs as one thing that a node opens: what keeps it closed is said, and the register is followed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.jobs.runner import Work
from gateway.keeping.counting import CountedTime
from gateway.keeping.work import EVICT, FORGET, SHRED, VERIFY, kind_of, recurring_job
from gateway.model.errors import Damaged, KeyClosed, NotFound, RegisterUnavailable, StoreFull, StoreUnavailable
from gateway.model.work.jobs import FailureKind, Job, JobState, Lane, NewJob, Progress
from gateway.model.work.retrievals import Halt
from gateway.model.work.transfers import CachedInstance, KeyDomain, ReceivedHead
from policy.facts import SharingChoice
from policy.optout import CaseEvent
from storage.registers import merges
from storage.work import jobs
from storage.work.ledger import SqlLedger
from tests.clock import NOON, FakeClock, JumpingClock
from tests.gateway.keeping_rig import NODE, Kept, Place
from tests.storage import people
from tests.storage.cache_rig import SOUTH, body, head
from tests.storage.test_ledger import frozen, retrieval

CONTENT = body(400_000)


@pytest.fixture
def place(tmp_path: Path, clock: FakeClock) -> Place:
    return Place(tmp_path, clock)


async def put(kept: Kept, wanted: ReceivedHead, content: bytes = CONTENT) -> CachedInstance:
    """Take an instance in, as the road would."""
    async with kept.keeping.cache.put(wanted) as writing:
        writing.add(content)
        await writing.drain()
        return await writing.commit()


async def read(kept: Kept, instance: CachedInstance) -> bytes:
    """Give it."""
    async with kept.keeping.cache.open(instance) as pieces:
        return b"".join([piece async for piece in pieces])


async def patient_with_a_study(kept: Kept, study: str = "1.2", **other: object) -> tuple[str, CachedInstance]:
    """Anne, and an instance of hers in the cache."""
    anne = await people.patient(kept.store)
    return anne, await put(kept, head(study=study, sop=f"{study}.1.1", patient_row=anne, **other))


async def run_job(kept: Kept, clock: FakeClock, new: NewJob) -> Job:
    """Queue a job and have it run to its end, whatever the plan queues besides.

    A node that stops in the moment in which it claims a job leaves it to the end of the lease, to which time is moved.
    """
    ticket = await kept.store.write(lambda tx: jobs.enqueue(tx, new))
    running, looks = asyncio.create_task(kept.keeping.run()), 0
    try:
        while (job := await kept.store.read(lambda read: jobs.get(read, ticket.job_id))).state.is_open:
            await asyncio.wait([running], timeout=0.01)
            looks += 1
            if looks % 200 == 0:
                await clock.advance(61.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return job


async def test_what_is_kept_is_given_after_a_start(place: Place) -> None:
    async with place.open() as kept:
        assert kept.told == [""]
        _, instance = await patient_with_a_study(kept)
    async with place.open() as kept:
        [found] = await kept.keeping.cache.instances("1.2")
        assert await read(kept, found) == CONTENT
    assert found == instance


def lost(place: Place) -> None:
    place.key_file.unlink()


def cut(place: Place) -> None:
    place.key_file.write_bytes(place.key_file.read_bytes()[:20])


def shown(place: Place) -> None:
    place.key_file.chmod(0o644)


def exchanged(place: Place) -> None:
    text = place.key_file.read_text()
    keys = text.index('"keys"')
    place.key_file.write_text(text[:keys] + '"keys":[{"epoch":"0011223344556677","key":"' + "A" * 43 + '="}]}')


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lost, "the key file cannot be read"),
        (cut, "not a key file"),
        (shown, "set its mode to 600"),
        (exchanged, "does not open the current master key"),
    ],
)
async def test_a_key_file_that_cannot_be_used_is_told_and_images_come_back_with_it(
    place: Place, harm: Callable[[Place], None], words: str
) -> None:
    async with place.open() as kept:
        await patient_with_a_study(kept)
    whole = place.key_file.read_bytes()
    harm(place)
    async with place.open() as kept:
        assert words in kept.fault
        with pytest.raises(RegisterUnavailable, match=words):
            await kept.keeping.cache.instances("1.2")
        with pytest.raises(RegisterUnavailable, match=words):
            kept.keeping.cache.put(head())
        place.key_file.write_bytes(whole)
        place.key_file.chmod(0o600)
        await kept.keeping.look()
        assert kept.fault == ""
        [found] = await kept.keeping.cache.instances("1.2")
        assert await read(kept, found) == CONTENT


async def test_whose_sole_copies_cannot_be_looked_at_is_known_without_keys(place: Place) -> None:
    async with place.open() as kept:
        _, sole = await patient_with_a_study(kept, is_sole_copy=True)
        await patient_with_a_study(kept, study="1.3", source=SOUTH)
        assert await kept.keeping.cache.unread_sources() == frozenset()
    key_file = place.key_file.read_bytes()
    lost(place)
    async with place.open() as kept:
        assert await kept.keeping.cache.unread_sources() == {sole.source}
    place.key_file.write_bytes(key_file)
    place.key_file.chmod(0o600)
    async with place.open() as kept:
        assert await kept.keeping.cache.unread_sources() == frozenset()
        assert set(kept.keeping.cache.sole_studies()) == {"1.2"}


async def test_a_vault_that_is_away_is_told(place: Place, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    place.more = ['[keys]\nwrapper = "vault"', f'[keys.vault]\nurl = "http://127.0.0.1:1"\ntoken_file = "{token}"']
    place.more[-1] += '\nkey = "gateway-keys"'
    async with place.open() as kept:
        assert "Vault cannot be reached" in kept.fault
        with pytest.raises(RegisterUnavailable):
            kept.keeping.cache.using("1.2")


async def test_a_cache_folder_that_cannot_be_used_is_told(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place.more = [f'[cache]\nfolder = "{tmp_path / "file"}"']
    async with place.open() as kept:
        assert "cache.folder: cannot be used" in kept.fault
        with pytest.raises(RegisterUnavailable):
            await kept.keeping.cache.study("1.2")


async def test_a_cache_that_another_process_holds_is_opened_once_that_is_gone(place: Place) -> None:
    async with place.open() as first:
        async with place.open() as second:
            assert "another process adds to it" in second.fault
            await second.keeping.look()
            assert "another process adds to it" in second.fault
        await first.keeping.look()
        assert first.fault == ""
    async with place.open() as second:
        assert second.fault == ""


async def test_two_nodes_on_one_configuration_have_a_cache_each_and_keys_together(place: Place) -> None:
    async with place.open() as north, place.open("node-2") as south:
        assert (north.fault, south.fault) == ("", "")
        anne, _ = await patient_with_a_study(north)
        theirs = await put(south, head(study="1.3", sop="1.3.1.1", patient_row=anne))
        assert await read(south, theirs) == CONTENT
        assert await south.keeping.cache.instances("1.2") == ()
        await north.choose(anne)
        await north.keeping.follow()
        await south.keeping.follow()
        assert await north.keeping.cache.instances("1.2") == await south.keeping.cache.instances("1.3") == ()


async def test_the_disk_is_never_filled_to_the_brim_and_what_is_there_is_given(place: Place) -> None:
    async with place.open() as kept:
        await patient_with_a_study(kept)
    place.more = [f"[cache]\ndisk_reserve_bytes = {2**50}"]
    async with place.open() as kept:
        assert kept.fault == "the disk of the study cache is full but for its reserve"
        with pytest.raises(StoreFull):
            kept.keeping.cache.put(head(sop="1.2.1.2"))
        [found] = await kept.keeping.cache.instances("1.2")
        assert await read(kept, found) == CONTENT


async def test_an_implemented_opt_out_closes_the_shared_cache_in_every_process_and_nothing_else(place: Place) -> None:
    async with place.open() as kept, place.keyring() as another:
        anne, instance = await patient_with_a_study(kept)
        pushed = await put(kept, head(study="1.2", sop="1.2.1.2", patient_row=anne, domain=KeyDomain.PUSH))
        key_id, _ = await another.data_key("1.2", anne, KeyDomain.CACHE)
        assert await another.key(key_id)
        await kept.choose(anne)
        await kept.keeping.follow()
        assert await kept.keeping.cache.instances("1.2") == ()
        with pytest.raises(KeyClosed):
            await read(kept, instance)
        assert isinstance(place.clock, FakeClock)
        await place.clock.advance(0.5)
        with pytest.raises(KeyClosed):
            await another.key(key_id)
        with pytest.raises(KeyClosed):
            await another.data_key("1.9", anne, KeyDomain.CACHE)
        assert await read(kept, pushed) == CONTENT


async def test_nothing_is_taken_in_for_a_patient_between_the_register_and_the_keys(place: Place) -> None:
    async with place.open() as kept:
        anne, _ = await patient_with_a_study(kept)
        await kept.choose(anne)
        place.key_file.unlink()  # the key store itself is still there: closing asks no wrapper
        await kept.keeping.follow()
        with pytest.raises(KeyClosed):
            kept.keeping.cache.put(head(sop="1.2.1.2", patient_row=anne))


async def test_a_restriction_that_is_not_implemented_closes_nothing(place: Place) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept)
        case = await people.case(kept.store, anne)
        await people.move(kept.store, case.case_id, CaseEvent.VERIFY)
        await kept.keeping.follow()
        assert await read(kept, instance) == CONTENT


async def test_an_opt_out_that_came_while_nobody_served_is_followed_before_the_doors_open(place: Place) -> None:
    async with place.open() as kept:
        anne, _ = await patient_with_a_study(kept)
        await kept.choose(anne)  # and the process falls before it looks
    async with place.open() as kept:
        assert await kept.keeping.cache.instances("1.2") == ()
        assert await kept.keeping.keyring.closed_patients(KeyDomain.CACHE) == {anne: False}


async def test_keys_are_closed_although_the_wrapper_is_away_and_the_studies_once_it_is_back(place: Place) -> None:
    async with place.open() as kept:
        anne, _ = await patient_with_a_study(kept)
    away = place.key_file.rename(place.key_file.with_name("away"))
    async with place.open() as kept:
        await kept.choose(anne)
        await kept.keeping.follow()
        assert await kept.keeping.keyring.closed_patients(KeyDomain.CACHE) == {anne: False}
        away.rename(place.key_file)
        await kept.keeping.look()
        assert kept.fault == ""
        study = await kept.keeping.cache.study("1.2")
        assert study is None


async def test_a_key_store_that_falls_in_between_leaves_the_closing_to_the_next_look(place: Place) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept)
        store = place.folder / "var" / "data" / "keys.db"
        await kept.choose(anne)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("GATEWAY_FAULTS", "keyring.close_all.before=raise")
            with pytest.raises(RegisterUnavailable):
                await kept.keeping.follow()
        assert store.exists()
        with pytest.raises(KeyClosed):
            kept.keeping.cache.put(head(sop="1.2.1.2", patient_row=anne))
        await kept.keeping.follow()
        with pytest.raises(KeyClosed):
            await read(kept, instance)


async def test_a_sole_copy_is_kept_for_its_custodian(place: Place) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept, is_sole_copy=True)
        await kept.choose(anne)
        await kept.keeping.follow()
        [kept_key] = await kept.keeping.keyring.kept_keys()
        assert kept_key.custodian == instance.custodian


@pytest.mark.parametrize("is_undone", [True, False], ids=["and opts in again", "and keys are destroyed"])
async def test_a_sole_copy_that_fell_before_it_was_indexed_outlasts_an_opt_out_that_came_meanwhile(
    place: Place, clock: FakeClock, is_undone: bool
) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept, is_sole_copy=True)
        await kept.choose(anne)
    database = place.folder / "var" / "data" / "gateway.db"
    with closing(sqlite3.connect(database)) as fallen, fallen:
        for table in ("cache_instance", "cache_study", "cache_pack"):  # acknowledged, and not indexed when it fell
            fallen.execute(f"DELETE FROM {table}")
    async with place.open() as kept:
        assert await kept.keeping.cache.instances("1.2") == ()
        if is_undone:
            await kept.choose(anne, SharingChoice.OPT_IN)
            await kept.keeping.follow()
            assert await kept.keeping.cache.instances("1.2") == [instance]
            assert await read(kept, instance) == CONTENT
            return
        await clock.advance(25 * 3600)
        assert (await run_job(kept, clock, recurring_job(kind_of(SHRED, NODE)))).state is JobState.DONE
        assert await kept.keeping.keyring.closed_patients(KeyDomain.CACHE) == {anne: True}
        async with kept.keeping.cache.sole_copies.open(instance) as pieces:
            assert b"".join([piece async for piece in pieces]) == CONTENT


async def test_opting_in_again_before_the_keys_are_destroyed_gives_back_what_was_there(place: Place) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept)
        await kept.choose(anne)
        await kept.keeping.follow()
        await kept.choose(anne, SharingChoice.OPT_IN)
        await kept.keeping.follow()
        assert await kept.keeping.cache.instances("1.2") == [instance]
        assert await read(kept, instance) == CONTENT


async def test_after_a_day_the_keys_are_destroyed_and_opting_in_again_brings_back_only_new_copies(
    place: Place, clock: FakeClock
) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept)
        await kept.choose(anne)
        await kept.keeping.follow()
        await clock.advance(20 * 3600)
        await run_job(kept, clock, recurring_job(kind_of(SHRED, NODE)))
        assert await kept.keeping.keyring.closed_patients(KeyDomain.CACHE) == {anne: False}
        await clock.advance(4 * 3600)
        job = await run_job(kept, clock, recurring_job(kind_of(SHRED, NODE)))
        assert job.state is JobState.DONE
        assert await kept.keeping.keyring.closed_patients(KeyDomain.CACHE) == {anne: True}
        await kept.choose(anne, SharingChoice.OPT_IN)
        await kept.keeping.follow()
        assert await kept.keeping.cache.instances("1.2") == ()
        with pytest.raises((KeyClosed, Damaged)):
            await read(kept, instance)
        again = await put(kept, head(study="1.2", sop="1.2.1.1", patient_row=anne))
        assert await kept.keeping.cache.instances("1.2") == [again]


async def test_a_patient_joined_to_one_who_is_opted_out_is_closed_and_parted_is_open_again(place: Place) -> None:
    async with place.open() as kept:
        anne = await people.patient(kept.store)
        ben = await people.patient(kept.store, people.BEN)
        instance = await put(kept, head(patient_row=ben))
        await kept.choose(anne)
        await kept.keeping.follow()
        assert await read(kept, instance) == CONTENT
        basis = merges.MergeBasis.PDS_SUPERSESSION
        merge_id = await kept.store.write(lambda tx: merges.merge(tx, ben, anne, basis, people.CLERK))
        await kept.keeping.follow()
        with pytest.raises(KeyClosed):
            await read(kept, instance)
        await kept.store.write(lambda tx: merges.undo_merge(tx, merge_id, people.CLERK))
        await kept.keeping.follow()
        assert await read(kept, instance) == CONTENT


async def test_a_closing_of_which_the_register_knows_nothing_is_left_closed_and_told(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept)
        await kept.keeping.keyring.close_patient(anne, KeyDomain.CACHE)
        await kept.choose(await people.patient(kept.store, people.BEN))
        await kept.keeping.follow()
        with pytest.raises(KeyClosed):
            await read(kept, instance)
        assert "keys closed without an entry in the register" in capsys.readouterr().out
        await kept.choose(anne, SharingChoice.OPT_IN)
        await kept.keeping.follow()
        assert await read(kept, instance) == CONTENT


async def test_the_register_is_followed_by_itself_within_a_second(place: Place, clock: FakeClock) -> None:
    async with place.open() as kept:
        anne, instance = await patient_with_a_study(kept)
        running = asyncio.create_task(kept.keeping.run())
        try:
            await kept.choose(anne)
            await clock.advance(1.0)
            async with asyncio.timeout(30):
                while await kept.keeping.cache.instances("1.2"):
                    await asyncio.wait([running], timeout=0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        with pytest.raises(KeyClosed):
            await read(kept, instance)


async def test_a_damaged_instance_is_found_and_the_job_says_how_many(place: Place, clock: FakeClock) -> None:
    async with place.open() as kept:
        await patient_with_a_study(kept)
        await put(kept, head(study="1.3", sop="1.3.1.1", patient_row="ben"))
        everything = NewJob(kind_of(VERIFY, NODE), Lane.MEETING, {"everything": True})
        job = await run_job(kept, clock, everything)
        assert (job.state, job.progress.instances_done, job.progress.instances_total) == (JobState.DONE, 2, 2)
        for pack in (place.folder / "var" / "data" / "cache" / NODE).glob("*/*.pack"):
            with pack.open("r+b") as file:
                file.seek(100_000)
                file.write(os.urandom(16))
        job = await run_job(kept, clock, everything)
        assert job.state is JobState.FAILED
        assert job.words.startswith("1 of 2 instances did not open")
        assert len(await kept.keeping.cache.instances("1.2")) + len(await kept.keeping.cache.instances("1.3")) == 1
        again = await run_job(kept, clock, everything)
        assert again.state is JobState.DONE, "what is in quarantine is not looked at again"


async def test_slices_of_the_cache_follow_each_other_until_all_of_it_was_opened(place: Place, clock: FakeClock) -> None:
    place.more = ["[cache]\nverify_instances_max = 2"]
    async with place.open() as kept:
        for number in range(3):
            await put(kept, head(sop=f"1.2.1.{number}"), body(1_000, number))
        looked_at = 0
        for _ in range(4):  # the first begins anywhere, and at the end of all ids it begins anew
            job = await run_job(kept, clock, recurring_job(kind_of(VERIFY, NODE)))
            assert (job.state, job.progress.instances_done <= 2) == (JobState.DONE, True)
            looked_at += job.progress.instances_done
        assert looked_at >= 3


async def test_a_study_is_given_up_by_command_and_everything_but_sole_copies(place: Place, clock: FakeClock) -> None:
    async with place.open() as kept:
        for study in ("1.2", "1.3"):
            await put(kept, head(study=study, sop=f"{study}.1.1"))
        sole = await put(kept, head(study="1.4", sop="1.4.1.1", is_sole_copy=True))
        await run_job(kept, clock, NewJob(kind_of(EVICT, NODE), Lane.MEETING, {"study": "1.3"}))
        assert [len(await kept.keeping.cache.instances(study)) for study in ("1.2", "1.3", "1.4")] == [1, 0, 1]
        await run_job(kept, clock, NewJob(kind_of(EVICT, NODE), Lane.MEETING, {"everything": True}))
        assert [len(await kept.keeping.cache.instances(study)) for study in ("1.2", "1.3", "1.4")] == [0, 0, 1]
        assert await read(kept, sole) == CONTENT


async def test_jobs_and_retrievals_of_long_ago_are_deleted_and_younger_ones_are_not(
    place: Place, clock: FakeClock
) -> None:
    place.more = ["[jobs]\nended_kept_days = 2\nretrievals_kept_days = 3"]
    async with place.open() as kept:
        evict = NewJob(kind_of(EVICT, NODE), Lane.MEETING, {"study": "1.3"})
        old = await run_job(kept, clock, evict)
        await kept.keeping.ledger.freeze(retrieval("r", [frozen(1)]))
        await kept.keeping.ledger.end("r", NOON, None)
        await clock.advance(1.9 * 86_400)
        young = await run_job(kept, clock, evict)
        await run_job(kept, clock, recurring_job(FORGET))
        assert await there(kept, old) and await there(kept, young)
        await clock.advance(0.2 * 86_400)
        await run_job(kept, clock, recurring_job(FORGET))
        assert (await there(kept, old), await there(kept, young)) == (False, True)
        assert (await kept.keeping.ledger.show("r")).counts.total == 1
        await clock.advance(1.0 * 86_400)
        await run_job(kept, clock, recurring_job(FORGET))
        with pytest.raises(NotFound):
            await kept.keeping.ledger.show("r")


async def there(kept: Kept, job: Job) -> bool:
    """Whether a job is still known."""
    return job.job_id in {each.job_id for each in await kept.store.read(jobs.listed)}


async def test_other_kinds_of_work_run_beside_it(place: Place, clock: FakeClock) -> None:
    async def fetch(work: Work) -> None:
        work.advance(Progress(7, 7))

    async with place.open() as kept:
        kept.keeping.handle("fetch", fetch)
        job = await run_job(kept, clock, NewJob("fetch", Lane.INTERACTIVE))
        assert (job.state, job.progress.instances_done) == (JobState.DONE, 7)


async def test_work_on_what_is_not_open_is_tried_again_later(place: Place, clock: FakeClock) -> None:
    async with place.open():
        pass
    place.key_file.unlink()
    async with place.open() as kept:
        ticket = await kept.store.write(lambda tx: jobs.enqueue(tx, recurring_job(kind_of(VERIFY, NODE))))
        running = asyncio.create_task(kept.keeping.run())
        try:
            job = await kept.store.read(lambda read: jobs.get(read, ticket.job_id))
            while job.failure is None:
                await asyncio.wait([running], timeout=0.01)
                job = await kept.store.read(lambda read: jobs.get(read, ticket.job_id))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert (job.state, job.failure) == (JobState.READY, FailureKind.TRANSIENT)
        assert "the key file cannot be read" in job.words


async def test_what_the_last_process_could_not_end_is_ended_at_the_start(place: Place) -> None:
    async with place.open() as kept:
        await SqlLedger(kept.store, NODE).freeze(retrieval("r", [frozen(1)]))
    async with place.open() as kept:
        shown = await kept.keeping.ledger.show("r")
        assert (shown.halted, shown.counts.failed) == (Halt.SERVICE, 1)


async def test_no_wrong_clock_takes_away_the_time_to_undo(place: Place) -> None:
    async with place.open() as kept:
        clock = JumpingClock()
        time = CountedTime(kept.store, clock)
        assert await time.now() == NOON
        clock.ahead = timedelta(days=2)
        await clock.advance(60)
        assert await time.now() - NOON < timedelta(seconds=63)
        begun = CountedTime(kept.store, clock)  # a start changes nothing of that
        assert await begun.now() - NOON < timedelta(seconds=63)
        clock.ahead = -timedelta(hours=1)
        assert await begun.now() == clock.now()


async def test_a_restart_is_believed_and_a_longer_pause_is_caught_up_with_an_hour_a_day(place: Place) -> None:
    async with place.open() as kept:
        clock = FakeClock()
        await CountedTime(kept.store, clock).now()
        await clock.advance(2 * 3_600)
        assert await CountedTime(kept.store, clock).now() == clock.now()
        await clock.advance(3 * 3_600)
        time = CountedTime(kept.store, clock)
        assert clock.now() - await time.now() == timedelta(hours=3)
        await clock.advance(48 * 3_600)
        assert clock.now() - await time.now() == timedelta(hours=1)
        await clock.advance(48 * 3_600)
        assert await time.now() == clock.now()


async def test_nothing_opens_once_it_is_closed(place: Place) -> None:
    async with place.open() as kept:
        pass
    with pytest.raises(StoreUnavailable):
        kept.keeping.cache.put(head())
