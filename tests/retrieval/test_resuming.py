"""A retrieval that ended with something missing is gone on with: what is missing alone, and by what may be had now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest

from gateway.jobs.runner import JobFailed, Runner, RunnerSettings
from gateway.keeping.resuming import Resuming
from gateway.model.errors import Denied, InvalidRequest
from gateway.model.work.jobs import Claim, FailureKind, Job, JobState, Lane, Progress, RetryTerms
from gateway.model.work.retrievals import Brought, Delivery, Destination, RetrieveWish
from policy.identity import CallerBinding
from policy.parties import Caller, PrincipalKind, PurposeOfUse, TrustId
from policy.trusts import Stage
from storage.registers import patients, relationships, trusts
from storage.registers.agreements import Clause
from storage.work import jobs, overview, resumption
from storage.work.book import SqlJobBook
from tests.region import CLERK
from tests.retrieval.travels import STUDY, Travels, whole
from tests.sharing.rows import ANNE

RZ1_WS = Destination("RZ1_WS", TrustId("RZ1"))
TO_RZ1_WS = RetrieveWish(whole(STUDY).level, study_uids=(STUDY,), destination=RZ1_WS)
ALL_THREE = ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


class Asked:
    """The door of one region (`gateway.keeping.resuming.Asks`)."""

    def __init__(self, travels: Travels) -> None:
        self._travels = travels

    def acting_for(self, subject: str, purpose: str, request_id: str) -> Caller:
        """See `Directory.acting_for`."""
        return self._travels.region.directory.acting_for(subject, purpose, request_id)

    def retrieve(self, caller: Caller, wish: RetrieveWish) -> AbstractAsyncContextManager[Delivery]:
        """See `Road.retrieve`."""
        return self._travels.road.retrieve(caller, wish)

    async def bring(self, caller: Caller, wish: RetrieveWish) -> Brought:
        """See `Road.bring`."""
        return await self._travels.road.bring(caller, wish)


@dataclass
class Workstation:
    """Takes what is sent to it (`gateway.keeping.resuming.Onward`)."""

    got: list[str]
    destination: Destination = RZ1_WS
    takes_at_most: int = 1_000
    behind_each: Callable[[], Awaitable[None]] | None = None

    async def carry(self, delivery: Delivery) -> None:
        """Take each, as many as there is room for."""
        async for item in delivery:
            if len(self.got) >= self.takes_at_most:
                delivery.failed(item, "the receiver has no room")
                continue
            self.got.append(item.ref.sop_uid)
            delivery.sent(item)
            if self.behind_each is not None:
                await self.behind_each()


class Errand:
    """A job in its handler's hands (`gateway.jobs.runner.Work`)."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = Progress()

    def advance(self, progress: Progress) -> None:
        """See `Work`."""
        self.progress = progress


@pytest.fixture
def workstation() -> Workstation:
    """Where RZ1's images are sent."""
    return Workstation([])


@pytest.fixture
def resuming(travels: Travels, workstation: Workstation) -> Resuming:
    """The handler, in a region where RZ1's PACS may have images sent to its workstation."""
    travels.region.callers.append(CallerBinding("rz1-pacs", TrustId("RZ1"), certificate_name="pacs.rz1"))
    way = {RZ1_WS.ae_title: workstation}
    return Resuming(travels.region.sql, travels.ledger, Asked(travels), lambda _, title: way.get(title), travels.clock)


async def broken_off(travels: Travels, wish: RetrieveWish | None = None) -> str:
    """A retrieval of three instances that its archive broke off behind the first; its id."""
    travels.hold("RZ2", *ALL_THREE)
    await travels.region.refer(ANNE, to="RZ1")
    pacs = travels.region.trust("RZ2").pacs
    pacs.sends_at_most = 1
    got, delivery = await travels.brought(wish)
    assert list(got) == ["1.2.3.1"]
    pacs.sends_at_most = None
    return delivery.retrieval_id


async def resumed(travels: Travels, retrieval_id: str) -> Errand:
    """The job that goes on with it."""
    found = await travels.ledger.show(retrieval_id)
    [ticket] = await travels.region.sql.write(partial(resumption.begin, found=found, author=CLERK))
    return Errand(await travels.region.sql.read(partial(jobs.get, job_id=ticket.job_id)))


async def run_to_the_end(travels: Travels, resuming: Resuming) -> None:
    """Have a process run what is queued, until one job has ended."""
    ended = asyncio.Event()

    class Book(SqlJobBook):
        """Says when a job has ended."""

        async def finish(self, held: Claim) -> bool:
            """See `JobBook`."""
            is_told = await super().finish(held)
            ended.set()
            return is_told

        async def fail(self, held: Claim, kind: FailureKind, words: str, terms: RetryTerms) -> bool:
            """See `JobBook`."""
            is_told = await super().fail(held, kind, words, terms)
            ended.set()
            return is_told

    handlers, settings = {resumption.RESUME: resuming}, RunnerSettings(lease_s=60)
    runner = Runner(Book(travels.region.sql), handlers, travels.clock, owner="south", settings=settings)
    async with runner.running(), asyncio.timeout(30):
        while not ended.is_set():
            await travels.clock.advance(5)
            await asyncio.sleep(0.01)


async def missing(travels: Travels, retrieval_id: str) -> list[str]:
    """What is still to be delivered of it."""
    found = await travels.ledger.show(retrieval_id)
    left = await travels.region.sql.read(partial(resumption.missing, found=found))
    return [each.frozen.ref.sop_uid for each in left]


async def test_what_is_missing_is_sent_to_where_it_was_going_and_nothing_twice(
    travels: Travels, resuming: Resuming, workstation: Workstation
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    assert await missing(travels, retrieval_id) == ALL_THREE[1:]
    errand = await resumed(travels, retrieval_id)
    await resuming(errand)
    assert workstation.got == ALL_THREE[1:] and errand.progress == Progress(2, 2)
    assert await missing(travels, retrieval_id) == []
    await resuming(errand)
    assert workstation.got == ALL_THREE[1:]


async def test_a_second_attempt_begins_behind_what_the_first_delivered(
    travels: Travels, resuming: Resuming, workstation: Workstation
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)
    workstation.takes_at_most = 1
    with pytest.raises(JobFailed, match="1 of 2 instances are still missing") as failed:
        await resuming(errand)
    assert failed.value.kind is FailureKind.TRANSIENT
    workstation.takes_at_most = 2
    await resuming(errand)
    assert workstation.got == ALL_THREE[1:]


async def test_what_a_caller_fetched_by_itself_is_brought_to_hand_and_delivered_to_nobody(
    travels: Travels, resuming: Resuming
) -> None:
    retrieval_id = await broken_off(travels)
    errand = await resumed(travels, retrieval_id)
    await resuming(errand)
    assert errand.progress == Progress(2, 2)
    assert [each.ref.sop_uid for each in await travels.cache.instances(STUDY)] == ALL_THREE
    # Nobody has them: the ledger does not say so, and the retrieval still lacks them.
    assert await missing(travels, retrieval_id) == ALL_THREE[1:]
    fetches = len(travels.region.trust("RZ2").pacs.fetches)
    assert len((await travels.brought())[0]) == 3
    assert len(travels.region.trust("RZ2").pacs.fetches) == fetches
    outcomes = await travels.region.records("retrieve-outcome")
    assert any(errand.job.job_id in str(outcome) for outcome in outcomes)


async def test_what_is_cut_again_while_it_is_brought_to_hand_is_tried_again(
    travels: Travels, resuming: Resuming
) -> None:
    retrieval_id = await broken_off(travels)
    errand = await resumed(travels, retrieval_id)
    pacs = travels.region.trust("RZ2").pacs
    pacs.sends_at_most = 1
    with pytest.raises(JobFailed, match="1 of 2 instances are still missing") as failed:
        await resuming(errand)
    assert failed.value.kind is FailureKind.TRANSIENT and errand.progress == Progress(1, 2)
    await resuming(errand)
    assert [each.ref.sop_uid for each in await travels.cache.instances(STUDY)] == ALL_THREE


async def test_who_may_not_have_it_any_more_gets_none_of_the_rest(
    travels: Travels, resuming: Resuming, workstation: Workstation
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)
    await travels.region.opt_out(ANNE)
    with pytest.raises(JobFailed, match="may not be had"):
        await resuming(errand)
    assert workstation.got == []
    stopped = await travels.region.sql.read(partial(jobs.get, job_id=errand.job.job_id))
    assert stopped.state is JobState.CANCELLED


async def relationship_ended(travels: Travels) -> None:
    """Anne is in RZ1's care no more."""
    row = await travels.region.sql.patient_row(patients.nhs(ANNE))
    [found] = await travels.region.sql.read(partial(relationships.of_patient, patient_id=row))
    await travels.region.end(found.relationship_id)


async def agreement_without_ct(travels: Travels) -> None:
    """RZ2 shares ultrasound alone from now on."""
    await travels.region.agree("RZ2", Clause(modalities=frozenset({"US"})))


async def holder_suspended(travels: Travels) -> None:
    """RZ2 takes part no more."""
    await suspended(travels, "RZ2")


async def caller_suspended(travels: Travels) -> None:
    """RZ1 takes part no more."""
    await suspended(travels, "RZ1")


async def suspended(travels: Travels, trust: str) -> None:
    sql = travels.region.sql
    await sql.write(lambda tx: trusts.suspend(tx, TrustId(trust), Stage.PUSH, CLERK))
    travels.region.roll = await sql.read(trusts.roll)


NOT_HAD = (FailureKind.PERMANENT, "2 of 2 instances are at no archive any more, or may not be had")


@pytest.mark.parametrize(
    ("withdraw", "told"),
    [
        (relationship_ended, NOT_HAD),
        (agreement_without_ct, NOT_HAD),
        (holder_suspended, NOT_HAD),
        (caller_suspended, (FailureKind.POLICY, "your organisation is not an enrolled NHS hospital trust")),
    ],
)
async def test_what_is_withdrawn_before_a_job_begins_stops_it_there_and_its_words_say_so(
    travels: Travels,
    resuming: Resuming,
    workstation: Workstation,
    withdraw: Callable[[Travels], Awaitable[None]],
    told: tuple[FailureKind, str],
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)
    fetches = len(travels.region.trust("RZ2").pacs.fetches)
    await withdraw(travels)
    await run_to_the_end(travels, resuming)
    ended = await travels.region.sql.read(partial(jobs.get, job_id=errand.job.job_id))
    assert ended.state is JobState.FAILED and (ended.failure, ended.words) == told
    assert workstation.got == [] and len(travels.region.trust("RZ2").pacs.fetches) == fetches


async def test_an_opt_out_between_two_images_ends_the_rest_for_good(
    travels: Travels, resuming: Resuming, workstation: Workstation
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)

    async def opt_out() -> None:
        await travels.region.opt_out(ANNE)
        travels.version += 1

    workstation.behind_each = opt_out
    with pytest.raises(JobFailed) as failed:
        await resuming(errand)
    assert failed.value.kind is FailureKind.POLICY
    assert workstation.got == ["1.2.3.2"]


async def test_a_caller_or_a_destination_that_is_no_more_ends_it(
    travels: Travels, resuming: Resuming, workstation: Workstation
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)
    nowhere = Resuming(travels.region.sql, travels.ledger, Asked(travels), lambda _caller, _title: None, travels.clock)
    with pytest.raises(JobFailed, match="sent there any more"):
        await nowhere(errand)
    travels.region.callers.clear()
    with pytest.raises(JobFailed, match="nobody can act for this caller") as failed:
        await resuming(errand)
    assert failed.value.kind is FailureKind.POLICY and workstation.got == []


async def test_nobody_acts_for_another_gateway_nor_for_a_purpose_that_was_taken_away(travels: Travels) -> None:
    region = travels.region
    region.callers += [
        CallerBinding("other", TrustId("RZ9"), PrincipalKind.GATEWAY, certificate_name="gateway.rz9"),
        CallerBinding("rz1-pacs", TrustId("RZ1"), certificate_name="pacs.rz1"),
    ]
    with pytest.raises(InvalidRequest):
        region.directory.acting_for("other", "TREAT", "r")
    with pytest.raises(InvalidRequest):
        region.directory.acting_for("rz1-pacs", "BTG", "r")
    caller = region.directory.acting_for("rz1-pacs", "TREAT", "r")
    assert (caller.purpose, caller.principal.trust) == (PurposeOfUse.TREAT, TrustId("RZ1"))
    assert caller.principal.proven_by == {"https", "certificate"}


async def test_while_the_archive_is_away_it_waits_and_where_nobody_has_it_a_person_is_asked(
    travels: Travels, resuming: Resuming
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)
    pacs = travels.region.trust("RZ2").pacs
    rows = list(pacs.rows)
    pacs.rows[:] = rows[:2]
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    with pytest.raises(JobFailed, match="at no archive any more") as failed:
        await resuming(errand)
    assert failed.value.kind is FailureKind.PERMANENT
    pacs.rows[:] = rows
    pacs.down()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    with pytest.raises(JobFailed, match="still missing") as failed:
        await resuming(errand)
    assert failed.value.kind is FailureKind.TRANSIENT


async def test_only_what_ended_with_something_missing_is_resumed_and_once_at_a_time(travels: Travels) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    first, second = await resumed(travels, retrieval_id), await resumed(travels, retrieval_id)
    assert first.job.job_id == second.job.job_id and first.job.lane is Lane.INTERACTIVE
    assert first.job.patient_row
    _, whole_one = await travels.brought()
    with pytest.raises(InvalidRequest, match="everything of the retrieval was delivered"):
        await resumed(travels, whole_one.retrieval_id)
    async with travels.retrieval() as delivery:
        async for _ in delivery:
            with pytest.raises(InvalidRequest, match="still under way"):
                await resumed(travels, delivery.retrieval_id)


async def test_what_its_caller_wanted_no_bytes_of_is_no_failure_and_not_resumed(travels: Travels) -> None:
    travels.hold("RZ2", *ALL_THREE)
    await travels.region.refer(ANNE, to="RZ1")
    ids = []
    for _ in ("alone", "with others"):
        async with travels.retrieval() as delivery:
            delivery.spare()
            ids.append(delivery.retrieval_id)
    await travels.road.close()
    failed = partial(overview.recent, only_open=False, only_failed=True, limit=10)
    assert await travels.region.sql.read(failed) == []
    for retrieval_id in ids:
        with pytest.raises(InvalidRequest, match="wanted no more"):
            await resumed(travels, retrieval_id)


async def test_another_process_goes_on_when_the_lease_of_one_that_fell_is_over(
    travels: Travels, resuming: Resuming, workstation: Workstation
) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    errand = await resumed(travels, retrieval_id)
    sql, lease = travels.region.sql, timedelta(seconds=60)
    # The first process claims it, delivers one and falls: nothing of it is ended, and nobody gives it back.
    claim = partial(jobs.claim, owner="fell", lane=Lane.INTERACTIVE, limit=1, lease=lease, kinds=[resumption.RESUME])
    [held] = await sql.write(lambda tx: claim(tx, lease_now=tx.now))
    workstation.takes_at_most = 1
    with pytest.raises(JobFailed):
        await resuming(Errand(held))
    workstation.takes_at_most = 1_000
    await run_to_the_end(travels, resuming)
    ended = await sql.read(partial(jobs.get, job_id=errand.job.job_id))
    assert (ended.state, ended.owner, workstation.got) == (JobState.DONE, "south", ALL_THREE[1:])


async def test_a_stranger_is_still_refused(travels: Travels, resuming: Resuming) -> None:
    retrieval_id = await broken_off(travels, TO_RZ1_WS)
    await resumed(travels, retrieval_id)
    with pytest.raises(Denied):
        await travels.brought(RetrieveWish(whole(STUDY).level, patient=ANNE, study_uids=(STUDY,)), by="RZ3")
