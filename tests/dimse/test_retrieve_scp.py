"""C-MOVE and C-GET at the door, over real sockets: what the caller hears while images travel, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from dimse.scp.endings import NOT_ALL_SENT
from dimse.scp.profiles import CallerProfile, OnDisconnect
from dimse.sop_classes import PATIENT_ROOT_GET, PATIENT_ROOT_MOVE, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dimse.status import MissingSources, Refusal
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import IMPLEMENTATION_CLASS_UID
from dimse.upper_layer.wire import Ended
from gateway.demo.ports import free_port
from gateway.model import errors
from gateway.model.imaging import Level, Source, SourceState
from gateway.model.work.jobs import Lane
from gateway.model.work.retrievals import Destination, Halt, RetrieveWish
from gateway.sharing.directory import Directory
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import NhsNumber, TrustId
from tests.dimse.door import ALIASES, HANG_S, PACS, THEIRS, Doorkeeper, identifier
from tests.dimse.intakes import MemoryIntake
from tests.dimse.lending import EVERY_LIMIT, Told, asking, borrower, destination, lending, profile_for
from tests.dimse.library import CT, EXPLICIT, Library, images
from tests.dimse.pair import answer, listening
from tests.dimse.test_inflow import taking_in

ANNE = NhsNumber.parse("9434765919")
STUDY = identifier("STUDY", StudyInstanceUID="1.2.3")
THIRD, ELSEWHERE = "THIRD_PACS", TrustId("RZ2")
GETS_CT = asking((CT, (EXPLICIT,)))
NOWHERE = profile_for(destination(1))
QUICK = replace(EVERY_LIMIT, retrieve_pending_interval_s=0.01, store_patience_s=0.2)
SLOW = Source(TrustId("RZ3"), "Southbridge", SourceState.TIMED_OUT, "020 7946 0003")
FAILURE = replace(NOWHERE, missing_sources=MissingSources.FAILURE)


async def got(library: Library, profile: CallerProfile = NOWHERE, question: Dataset = STUDY) -> Told:
    """What a C-GET is told from beginning to end."""
    async with lending(library, profile) as door, borrower(door.house.port, GETS_CT) as caller:
        return await caller.retrieve(question, STUDY_ROOT_GET)


@asynccontextmanager
async def filing(intake: MemoryIntake) -> AsyncIterator[int]:
    """A destination that files what it is sent, under either title; its port."""
    async with taking_in(intake) as acceptor:
        acceptor.offer = replace(acceptor.offer, ae_titles=frozenset({THEIRS, THIRD}))
        yield acceptor.port


async def moved(
    library: Library, question: Dataset = STUDY, to: str = THEIRS, model: str = STUDY_ROOT_MOVE
) -> tuple[Told, MemoryIntake]:
    """What a C-MOVE is told from beginning to end, and what its destination got."""
    intake = MemoryIntake()
    async with filing(intake) as port:
        allowed = profile_for(destination(port), destination(port, THIRD, ELSEWHERE))
        async with lending(library, allowed) as door, borrower(door.house.port) as caller:
            return await caller.retrieve(question, model, to), intake


def adds_up(told: Told, total: int) -> bool:
    """Whether every response accounts for the whole set, and the last one has nothing remaining."""
    sums = [each.remaining + each.completed + each.failed + each.warning for each in told.pending]  # type: ignore[operator]  # every pending response has its counters
    _, *last = told.counts
    return sums == [total] * len(sums) and sum(number or 0 for number in last) == total and told.counts[0] is None


def contents(library: Library) -> dict[str, bytes]:
    """By UID what every image holds."""
    return {item.ref.sop_uid: item.content for item in library.items}


# --- what arrives, and what is told of it ---


async def test_a_study_comes_back_on_the_association_that_asked_for_it() -> None:
    library = Library(images(7, data_bytes=300_000))
    async with lending(library, NOWHERE) as door, borrower(door.house.port, GETS_CT) as caller:
        told = await caller.retrieve(STUDY, STUDY_ROOT_GET)
        assert caller.received == contents(library)
        # And the association is in order: the next request is answered as well.
        assert (await caller.retrieve(STUDY, STUDY_ROOT_GET)).end == (0x0000, "")
    assert told.end == (0x0000, "") and told.counts == (None, 7, 0, 0) and adds_up(told, 7)
    assert told.pending[0].remaining == 7


@pytest.mark.parametrize("associations_max", [1, 3])
async def test_a_study_goes_to_the_destination_and_the_caller_hears_of_it(associations_max: int) -> None:
    library, intake = Library(images(20, data_bytes=300_000)), MemoryIntake()
    async with filing(intake) as port:
        profile = profile_for(destination(port, associations_max=associations_max))
        async with lending(library, profile) as door, borrower(door.house.port) as caller:
            told = await caller.retrieve(STUDY)
    assert {uid: kept.content for uid, kept in intake.kept.items()} == contents(library)
    assert told.end == (0x0000, "") and told.counts == (None, 20, 0, 0) and adds_up(told, 20)
    assert told.pending[0].remaining == 20 and library.loan.sent_uids == list(contents(library))


async def test_nothing_that_may_be_had_is_success_of_nothing() -> None:
    told, intake = await moved(Library(images(3)), identifier("STUDY", StudyInstanceUID="1.9"))
    assert told.end == (0x0000, "") and told.counts == (None, 0, 0, 0) and not told.pending and not intake.kept
    told = await got(Library())
    assert told.end == (0x0000, "") and told.counts == (None, 0, 0, 0) and not told.pending


async def test_the_wish_reaches_the_core_as_the_caller_put_it() -> None:
    library = Library()
    images_of = identifier("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", SOPInstanceUID=["1.4", "1.5"])
    await moved(library, images_of)
    await moved(library, identifier("PATIENT", PatientID=ANNE.digits), model=PATIENT_ROOT_MOVE)
    await moved(library, to=THIRD)
    own = Destination(THEIRS, TrustId("RZ1"))
    assert [wish for _, wish in library.asked] == [
        RetrieveWish(
            Level.IMAGE, study_uids=("1.2",), series_uids=("1.2.3",), sop_uids=("1.4", "1.5"), destination=own
        ),
        RetrieveWish(Level.PATIENT, patient=ANNE, destination=own),
        RetrieveWish(Level.STUDY, study_uids=("1.2.3",), destination=Destination(THIRD, ELSEWHERE)),
    ]
    assert {caller.principal.subject for caller, _ in library.asked} == {"rz1-pacs"}


async def test_a_patients_images_come_by_nhs_number_and_an_image_alone_where_relational_retrieval_is_agreed() -> None:
    library = Library(images(3))
    relational = asking((CT, (EXPLICIT,)), relational=True)
    async with lending(library, NOWHERE) as door, borrower(door.house.port, relational) as caller:
        whole = await caller.retrieve(identifier("PATIENT", PatientID=ANNE.spaced), PATIENT_ROOT_GET)
        assert whole.counts == (None, 3, 0, 0)
        one = library.items[1].ref.sop_uid
        alone = await caller.retrieve(identifier("IMAGE", SOPInstanceUID=one), STUDY_ROOT_GET)
        assert alone.counts == (None, 1, 0, 0)
    told = await got(library, question=identifier("IMAGE", SOPInstanceUID=one))
    assert told.last.status == 0xA900 and told.last.offending_elements == ("0020000D", "0020000E")


async def test_who_calls_a_trusts_own_title_retrieves_from_that_trust_alone() -> None:
    library = Library()
    async with lending(library, NOWHERE) as door:
        for called in ("RZ2_ONLY", "GATEWAY"):
            request = replace(GETS_CT, called_ae_title=called)
            async with borrower(door.house.port, request) as caller:
                await caller.retrieve(STUDY, STUDY_ROOT_GET)
    assert [wish.only_trust for _, wish in library.asked] == [ALIASES["RZ2_ONLY"], None]


@pytest.mark.parametrize(
    ("priority", "may_be_urgent", "lane"),
    [
        (0, True, Lane.INTERACTIVE),
        (1, True, Lane.EMERGENCY),
        (1, False, Lane.INTERACTIVE),
        (2, False, Lane.BACKGROUND),
    ],
)
async def test_high_priority_is_an_emergency_only_of_those_who_may_say_so(
    priority: int, may_be_urgent: bool, lane: Lane
) -> None:
    library = Library()
    profile = replace(NOWHERE, may_be_urgent=may_be_urgent)
    async with lending(library, profile) as door, borrower(door.house.port, GETS_CT) as caller:
        await caller.ask(STUDY, STUDY_ROOT_GET, priority=priority)
        await caller.hear()
    assert [wish.lane for _, wish in library.asked] == [lane]


# --- what fails ---


async def test_images_that_fail_are_named_and_the_others_arrive() -> None:
    library = Library(images(6))
    first, second, third, *others = contents(library)
    library.lost = {first}
    async with lending(library, NOWHERE) as door, borrower(door.house.port, GETS_CT) as caller:
        caller.answers = {second: 0xA700, third: 0xB000}
        told = await caller.retrieve(STUDY, STUDY_ROOT_GET)
        assert set(caller.received) == {second, third, *others}
    assert told.end == (0xB000, NOT_ALL_SENT) and told.counts == (None, 3, 2, 1) and adds_up(told, 6)
    assert told.failed_uids == [first, second]


async def test_an_image_of_a_class_or_syntax_that_the_caller_does_not_take_fails_alone() -> None:
    library = Library(images(3))
    item = library.items[1]
    library.items = [library.items[0], replace(item, transfer_syntax="1.2.840.10008.1.2.4.90"), library.items[2]]
    told = await got(library)
    assert told.last.status == 0xB000 and told.counts == (None, 2, 1, 0) and told.failed_uids == [item.ref.sop_uid]
    assert [failure.words for failure in library.loan.failures] == [
        "the destination does not take JPEG 2000 Image Compression (Lossless Only)"
    ]


async def test_a_caller_who_took_no_role_gets_nothing_and_is_told_of_each() -> None:
    library = Library(images(2))
    async with lending(library, NOWHERE) as door, borrower(door.house.port, asking()) as caller:
        told = await caller.retrieve(STUDY, STUDY_ROOT_GET)
    assert told.end == (0xA702, NOT_ALL_SENT) and sorted(told.failed_uids) == sorted(contents(library))


async def test_a_destination_that_is_not_there_fails_the_whole_set() -> None:
    library = Library(images(3))
    profile = profile_for(destination(free_port()))
    async with lending(library, profile, limits=QUICK) as door, borrower(door.house.port) as caller:
        told = await caller.retrieve(STUDY)
    assert told.end == (0xA702, NOT_ALL_SENT) and told.counts == (None, 0, 3, 0) and adds_up(told, 3)
    assert len(told.failed_uids) == 3


async def test_a_transfer_that_policy_stops_looks_like_one_that_a_network_stops() -> None:
    library = Library(images(4), halts_after=2, halts_as=Halt.POLICY)
    stopped = await got(library)
    lost = Library(images(4))
    lost.lost = set(list(contents(lost))[2:])
    failed = await got(lost)
    assert stopped.end == failed.end == (0xB000, NOT_ALL_SENT)
    assert stopped.counts == failed.counts == (None, 2, 2, 0) and stopped.failed_uids == failed.failed_uids


async def test_a_fault_in_the_middle_is_told_with_what_is_missing() -> None:
    library = Library(images(3), fault_after=1, fault=errors.AuditUnavailable("disk full"))
    for told in (await got(library), (await moved(library))[0]):
        assert told.end == (0xB000, "not all sent; not recorded") and told.counts == (None, 1, 2, 0)
        assert len(told.failed_uids) == 2


@pytest.mark.parametrize(("after", "status"), [(0, 0xA702), (1, 0xB000)])
async def test_absence_that_is_noticed_in_the_middle_is_never_success(after: int, status: int) -> None:
    library = Library(images(3), fault_after=after, fault=errors.KeyClosed("the study is closed"))
    for told in (await got(library), (await moved(library))[0]):
        assert told.end == (status, NOT_ALL_SENT) and told.counts == (None, after, 3 - after, 0)
        assert len(told.failed_uids) == 3 - after


async def test_a_long_list_of_failures_can_be_read() -> None:
    library = Library(images(2_500))
    library.lost = set(list(contents(library))[1:])
    told = await got(library)
    assert told.failed_uids == list(contents(library))[1:] and told.counts == (None, 1, 2_499, 0)


async def test_more_images_than_the_counters_hold_are_refused_in_words() -> None:
    most = images(65_536, data_bytes=1)
    told = await got(Library(most))
    assert told.end == (0xA701, "more than 65,535 images: retrieve series by series")
    assert told.counts == (None, 0, 0, 0) and not told.pending


# --- refusals and faults before anything is sent ---


def denied(telling: Telling) -> errors.Denied:
    reason = Reason("a-rule", Effect.FORBID, "no-care-relationship", "none is recorded", telling)
    return errors.Denied(Decision("d1", Effect.FORBID, (reason,), "rules"), "", "020 7946 0001")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (denied(Telling.CALLER), (0x0124, "no care relationship recorded; ring 020 7946 0001")),
        (denied(Telling.NOBODY), (0x0000, "")),
        (errors.RegisterUnavailable("opt-outs"), (0xA702, "sharing not checked")),
        (errors.AuditUnavailable("disk full"), (0xA702, "not recorded")),
        (errors.OverCapacity("too many retrievals are under way"), (0xA702, "too many retrievals are under way")),
        (errors.PeerTimeout(TrustId("RZ3"), "slow", (SLOW,)), (0xC000, "no answer: RZ3 020 7946 0003")),
        (errors.NotFound("no such trust"), (0x0000, "")),
        (KeyError("SMITH^ANNE"), (0xC001, "")),
    ],
)
async def test_a_refusal_or_fault_is_told_and_a_bug_shows_nothing(error: Exception, end: tuple[int, str]) -> None:
    told = await got(Library(error=error))
    assert told.end == end and told.counts == (None, 0, 0, 0) and not told.pending


async def test_a_caller_who_chose_silence_hears_of_nothing() -> None:
    told = await got(Library(error=denied(Telling.CALLER)), replace(NOWHERE, refusal=Refusal.SILENT))
    assert told.end == (0x0000, "") and told.counts == (None, 0, 0, 0)


@pytest.mark.parametrize("study_uid", ["1.2.3", "1.9"])
async def test_a_destination_that_may_not_be_named_is_refused_with_or_without_such_a_study(study_uid: str) -> None:
    library, question = Library(images(1)), identifier("STUDY", StudyInstanceUID=study_uid)
    unknown, _ = await moved(library, question, to="NOBODY")
    others, _ = await moved(library, question, to="OTHERS_PACS")
    assert unknown.end == (0xA801, "this move destination is not known here")
    assert others.end == (0x0124, "this move destination is not allowed for you")
    assert unknown.counts == others.counts == (None, 0, 0, 0) and not library.asked


async def test_another_gateway_is_told_to_ask_by_wado_rs() -> None:
    library = Library(images(1))
    user = replace(GETS_CT.user, implementation_class_uid=IMPLEMENTATION_CLASS_UID)
    async with lending(library, NOWHERE) as door, borrower(door.house.port, replace(GETS_CT, user=user)) as caller:
        told = await caller.retrieve(STUDY, STUDY_ROOT_GET)
    assert told.end == (0xA900, "a gateway is asked by WADO-RS: DIMSE has no hop count") and not library.asked


# --- missing trusts (SAF-04) ---


@pytest.mark.parametrize("count", [0, 2])
async def test_a_missing_trust_is_told_as_the_caller_chose_and_success_never_hides_it(count: int) -> None:
    library = Library(images(count), sources=(SLOW,))
    words = "missing: RZ3 020 7946 0003"
    assert (await got(library)).end == (0x0000, words)
    assert (await got(library, replace(NOWHERE, missing_sources=MissingSources.ROW))).end == (0x0000, words)
    assert (await got(library, FAILURE)).end == (0xB000 if count else 0xC000, words)


# --- slow archives, C-CANCEL, and callers who are gone ---


async def test_a_slow_archive_does_not_keep_the_caller_in_the_dark() -> None:
    library = Library(images(2), gates={1: asyncio.Event()})
    async with lending(library, NOWHERE, limits=QUICK) as door, borrower(door.house.port, GETS_CT) as caller:
        await caller.ask(STUDY, STUDY_ROOT_GET)
        hearing = asyncio.create_task(caller.hear())
        for _ in range(5):
            await caller.until_pending()
        library.gates[1].set()
        told = await hearing
    assert told.end == (0x0000, "") and adds_up(told, 2) and len(told.pending) >= 5
    assert {each.completed for each in told.pending} == {0, 1}


async def test_a_caller_hears_that_it_is_waited_for_before_the_set_is_known() -> None:
    library = Library(images(1), opens=asyncio.Event())
    assert library.opens is not None
    async with lending(library, NOWHERE, limits=QUICK) as door, borrower(door.house.port, GETS_CT) as caller:
        await caller.ask(STUDY, STUDY_ROOT_GET)
        hearing = asyncio.create_task(caller.hear())
        await caller.until_pending()
        library.opens.set()
        told = await hearing
    assert told.end == (0x0000, "") and told.pending[0].remaining is None
    assert told.pending[-1].remaining is not None


@pytest.mark.parametrize("model", [STUDY_ROOT_MOVE, STUDY_ROOT_GET])
async def test_a_cancel_stops_before_the_next_image_and_says_what_remains(model: str) -> None:
    library, intake = Library(images(5), gates={2: asyncio.Event()}), MemoryIntake()
    async with (
        filing(intake) as port,
        lending(library, profile_for(destination(port))) as door,
        borrower(door.house.port, GETS_CT) as caller,
    ):
        message_id = await caller.ask(STUDY, model)
        hearing = asyncio.create_task(caller.hear())
        await library.is_waiting.wait()
        await caller.cancel(message_id, model)
        told = await hearing
        assert told.end == (0xFE00, "") and told.counts == (3, 2, 0, 0)
        # And the next request is answered.
        library.gates.clear()
        assert (await caller.retrieve(STUDY, model)).counts == (None, 5, 0, 0)


async def test_a_cancel_before_anything_is_known_ends_it_too() -> None:
    library = Library(images(5), opens=asyncio.Event())
    limits = replace(QUICK, cancel_timeout_s=0.01)
    async with lending(library, NOWHERE, limits=limits) as door, borrower(door.house.port, GETS_CT) as caller:
        message_id = await caller.ask(STUDY, STUDY_ROOT_GET)
        await library.is_asked.wait()
        await caller.cancel(message_id, STUDY_ROOT_GET)
        told = await caller.hear()
        await asyncio.wait_for(library.is_over.wait(), HANG_S)
    assert told.end == (0xFE00, "") and not library.loans


async def test_a_cancel_is_answered_although_the_destination_hangs() -> None:
    library, stuck = Library(images(3)), asyncio.Event()

    async def hang(_association: Association, _message: Message) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with listening(hang) as acceptor:
        acceptor.offer = replace(acceptor.offer, ae_titles=frozenset({THEIRS}))
        limits = replace(EVERY_LIMIT, cancel_timeout_s=0.01)
        profile = profile_for(destination(acceptor.port))
        async with lending(library, profile, limits=limits) as door, borrower(door.house.port) as caller:
            message_id = await caller.ask(STUDY)
            await asyncio.wait_for(stuck.wait(), HANG_S)
            await caller.cancel(message_id)
            told = await caller.hear()
    assert told.end == (0xFE00, "") and told.counts == (3, 0, 0, 0)


async def test_a_caller_who_never_answers_an_image_is_given_up() -> None:
    library = Library(images(3))
    limits = replace(EVERY_LIMIT, store_response_timeout_s=0.05)
    async with lending(library, NOWHERE, limits=limits) as door, borrower(door.house.port, GETS_CT) as caller:
        await caller.ask(STUDY, STUDY_ROOT_GET)
        await asyncio.wait_for(library.is_over.wait(), HANG_S)
        assert (await asyncio.wait_for(caller.association.over(), HANG_S)).why is Ended.ABORTED_BY_PEER
    assert library.loan.counts.completed == 0 and library.loan.counts.failed == 3


def with_one_damaged(data_bytes: int, *, cut_at: int) -> Library:
    first, second, third = (replace(item, piece_bytes=100_000) for item in images(3, data_bytes=data_bytes))
    return Library([first, replace(second, cut_at=cut_at), third])


async def test_a_short_image_that_is_damaged_costs_only_itself_for_nothing_of_it_is_sent() -> None:
    library = with_one_damaged(600_000, cut_at=400_000)
    async with lending(library, NOWHERE) as door, borrower(door.house.port, GETS_CT) as caller:
        await caller.ask(STUDY, STUDY_ROOT_GET)
        told = await caller.hear()
    assert told.last.status == 0xB000 and told.counts == (None, 2, 1, 0)
    assert set(caller.received) == {library.items[0].ref.sop_uid, library.items[2].ref.sop_uid}


async def test_an_image_that_is_damaged_while_it_is_sent_ends_a_get_and_costs_a_move_only_itself() -> None:
    library = with_one_damaged(2_000_000, cut_at=1_500_000)
    library.items = [replace(library.items[0], content=bytes(100)), *library.items[1:]]
    broken = library.items[1].ref.sop_uid
    told, intake = await moved(library)
    assert told.last.status == 0xB000 and told.failed_uids == [broken] and broken not in intake.kept
    assert told.counts == (None, 2, 1, 0)
    async with lending(library, NOWHERE) as door, borrower(door.house.port, GETS_CT) as caller:
        await caller.ask(STUDY, STUDY_ROOT_GET)
        with pytest.raises(AssociationFailure):
            await caller.hear()
        assert set(caller.received) == {library.items[0].ref.sop_uid}
        await asyncio.wait_for(library.is_over.wait(), HANG_S)
    assert library.loan.counts.completed == 1


@pytest.mark.parametrize("model", [STUDY_ROOT_MOVE, STUDY_ROOT_GET])
async def test_a_caller_who_is_gone_stops_the_work(model: str) -> None:
    library, intake = Library(images(5), gates={2: asyncio.Event()}), MemoryIntake()
    async with (
        filing(intake) as port,
        lending(library, profile_for(destination(port))) as door,
        borrower(door.house.port, GETS_CT) as caller,
    ):
        await caller.ask(STUDY, model)
        hearing = asyncio.create_task(caller.hear())
        await library.is_waiting.wait()
        hearing.cancel()
        caller.association.abort()
        await asyncio.wait_for(library.is_over.wait(), HANG_S)
    assert len(library.loan.sent_uids) == 2 and library.loan.counts.failed == 3


async def test_a_destination_gets_the_rest_where_its_caller_asked_for_that() -> None:
    library, intake = Library(images(5), gates={2: asyncio.Event()}), MemoryIntake()
    async with filing(intake) as port:
        profile = replace(profile_for(destination(port)), on_disconnect=OnDisconnect.FINISH)
        async with lending(library, profile) as door:
            async with borrower(door.house.port) as caller:
                await caller.ask(STUDY)
                hearing = asyncio.create_task(caller.hear())
                await library.is_waiting.wait()
                hearing.cancel()
                caller.association.abort()
                await asyncio.wait_for(caller.association.over(), HANG_S)
            library.gates[2].set()
            await asyncio.wait_for(library.is_over.wait(), HANG_S)
    assert set(intake.kept) == set(contents(library)) and library.loan.counts.completed == 5


async def test_what_goes_on_for_a_caller_who_is_gone_ends_with_the_gateway() -> None:
    library, intake = Library(images(5), gates={2: asyncio.Event()}), MemoryIntake()
    async with filing(intake) as port:
        profile = replace(profile_for(destination(port)), on_disconnect=OnDisconnect.FINISH)
        async with lending(library, profile) as door:
            async with borrower(door.house.port) as caller:
                await caller.ask(STUDY)
                hearing = asyncio.create_task(caller.hear())
                await library.is_waiting.wait()
                hearing.cancel()
            door.move.close()
            await asyncio.wait_for(library.is_over.wait(), HANG_S)
    assert library.loan.counts.completed == 2 and library.loan.counts.failed == 3


async def test_what_a_caller_began_does_not_go_on_once_it_is_sent_away() -> None:
    library, intake, keeper = Library(images(5), gates={2: asyncio.Event()}), MemoryIntake(), Doorkeeper(PACS)
    async with filing(intake) as port:
        profile = replace(profile_for(destination(port)), on_disconnect=OnDisconnect.FINISH)
        async with lending(library, profile, keeper=keeper) as door, borrower(door.house.port) as caller:
            await caller.ask(STUDY)
            hearing = asyncio.create_task(caller.hear())
            await library.is_waiting.wait()
            keeper.directory = Directory([], [])
            await door.house.door.rejudge()
            await asyncio.wait_for(library.is_over.wait(), HANG_S)
            await asyncio.gather(hearing, return_exceptions=True)
    assert library.loan.counts.completed == 2 and library.loan.counts.failed == 3


async def test_the_destination_is_told_whose_move_it_is() -> None:
    library, seen = Library(images(2)), list[Command]()

    async def note(association: Association, message: Message) -> None:
        seen.append(message.command)
        await answer(association, message)

    async with listening(note) as acceptor:
        acceptor.offer = replace(acceptor.offer, ae_titles=frozenset({THEIRS}))
        profile = profile_for(destination(acceptor.port))
        async with lending(library, profile) as door, borrower(door.house.port) as caller:
            message_id = await caller.ask(STUDY)
            await caller.hear()
    assert [(each.move_originator_ae_title, each.move_originator_message_id) for each in seen] == [
        (THEIRS, message_id)
    ] * 2
