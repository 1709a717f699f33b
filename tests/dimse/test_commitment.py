"""Storage commitment on the wire: what is read and written, and the door's manners, against pydicom and pynetdicom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from dimse.commitment import (
    CommitmentStatus,
    UnreadableCommitment,
    encode_report,
    encode_request,
    event_type_of,
    parse_report,
    parse_request,
)
from dimse.flow.asked import Asked
from dimse.scp.commitment_scp import CommitmentService, Line, ReportService, commitment_sink
from dimse.scu.commitment import NotAsked, ask, report
from dimse.scu.send import Receiver
from dimse.sop_classes import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dimse.upper_layer.commands import Command, CommandField, decode_command, encode_command
from dimse.upper_layer.messages import Sink
from dimse.upper_layer.negotiation import Context
from gateway.model.errors import GatewayError, InvalidRequest, OverCapacity, StoreUnavailable
from gateway.model.settings import Limits
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest, Reference
from policy.parties import Caller, TrustId
from tests.dimse.door import (
    EXPLICIT,
    HANG_S,
    IMPLICIT,
    OURS,
    PACS,
    THEIRS,
    Client,
    Doorkeeper,
    House,
    Shelf,
    client,
    opened,
    proposal,
)
from tests.peers.committing import CommittingArchive, Reports, Sender, committing, request_of

CT = "1.2.840.10008.5.1.4.1.1.2"
DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
SYNTAXES = [IMPLICIT, EXPLICIT, DEFLATED, BIG]
BYTES_MAX = 64 * 1024
LIMITS = Limits(commitment_bytes_max=BYTES_MAX, commitment_instances_max=100, commitment_linger_s=10.0)
ONE, TWO = Reference(CT, "1.2.3"), Reference(CT, "1.2.4")
REQUEST = CommitmentRequest("1.9", (ONE, TWO))

uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=5).map(lambda numbers: ".".join(map(str, numbers)))
references = st.builds(Reference, uids, uids)
distinct = st.lists(references, min_size=1, max_size=20, unique_by=lambda each: each.sop_uid).map(tuple)


def written(dataset: Dataset, syntax: str) -> bytes:
    """As pydicom writes it."""
    body = encode(dataset, syntax == IMPLICIT, syntax != BIG, syntax == DEFLATED)
    assert body is not None
    return body


def read(body: bytes, syntax: str) -> Dataset:
    """As pydicom reads it."""
    return decode(BytesIO(body), syntax == IMPLICIT, syntax != BIG, syntax == DEFLATED)


# --- what is read and written ---


@given(uids, distinct, st.sampled_from(SYNTAXES))
def test_a_request_is_read_as_it_was_written(uid: str, instances: tuple[Reference, ...], syntax: str) -> None:
    request = CommitmentRequest(uid, instances)
    assert parse_request(encode_request(request, syntax), syntax, BYTES_MAX) == request


@given(uids, distinct, st.lists(st.integers(0, 0xFFFF), max_size=20), st.sampled_from(SYNTAXES))
def test_a_report_is_read_as_it_was_written(
    uid: str, instances: tuple[Reference, ...], reasons: list[int], syntax: str
) -> None:
    failed = tuple(zip(instances, reasons, strict=False))
    told = CommitmentReport(uid, instances[len(failed) :], failed)
    assert parse_report(encode_report(told, syntax), syntax, BYTES_MAX) == told


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pydicom_and_we_read_each_other(syntax: str) -> None:
    pairs = [(each.sop_class_uid, each.sop_uid) for each in REQUEST.instances]
    assert parse_request(written(request_of("1.9", *pairs), syntax), syntax, BYTES_MAX) == REQUEST
    told = read(encode_report(CommitmentReport("1.9", (ONE,), ((TWO, 0x0112),)), syntax), syntax)
    assert told.TransactionUID == "1.9" and told.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert told.FailedSOPSequence[0].FailureReason == 0x0112
    assert "FailedSOPSequence" not in read(encode_report(CommitmentReport("1.9", (ONE,)), syntax), syntax)


def test_what_is_named_both_as_committed_and_as_failed_has_failed() -> None:
    told = parse_report(encode_report(CommitmentReport("1.9", (ONE, TWO), ((TWO, 0),)), EXPLICIT), EXPLICIT, BYTES_MAX)
    assert told.committed == (ONE,) and [each for each, _ in told.failed] == [TWO]


def broken_requests() -> list[Dataset]:
    pairs = (CT, "1.2.3"), (CT, "1.2.4")
    broken = [request_of("1.9", *pairs) for _ in range(6)]
    del broken[0].TransactionUID
    broken[1].ReferencedSOPSequence = []
    del broken[2].ReferencedSOPSequence
    broken[3].ReferencedSOPSequence[1].ReferencedSOPInstanceUID = "1.2.3"
    del broken[4].ReferencedSOPSequence[0].ReferencedSOPClassUID
    broken[5].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = ""
    return broken


@pytest.mark.parametrize("number", range(6))
def test_a_request_that_does_not_say_what_for_is_refused(number: int) -> None:
    with pytest.raises(UnreadableCommitment) as refused:
        parse_request(written(broken_requests()[number], EXPLICIT), EXPLICIT, BYTES_MAX)
    assert "1.2.3" not in str(refused.value)


@given(st.binary(max_size=300), st.sampled_from(SYNTAXES))
def test_bytes_that_are_no_commitment_are_refused_and_nothing_else_happens(body: bytes, syntax: str) -> None:
    for parse in (parse_request, parse_report):
        with suppress(UnreadableCommitment):
            parse(body, syntax, BYTES_MAX)


def test_event_and_action_types_travel_in_the_command() -> None:
    command = Command(CommandField.N_ACTION_RQ, 7, "1.2", sop_instance_uid="1.3", action_type=1, has_data=True)
    assert decode_command(encode_command(command)) == command
    event = Command(CommandField.N_EVENT_REPORT_RSP, 7, "1.2", sop_instance_uid="1.3", event_type=2, status=0)
    assert decode_command(encode_command(event)) == event


# --- the door ---


@dataclass
class Notebook:
    """A desk that writes down what it is given, and raises what a test says."""

    taken: list[tuple[str, str, CommitmentRequest]] = field(default_factory=list)
    heard: list[tuple[TrustId, CommitmentReport]] = field(default_factory=list)
    lines: asyncio.Queue[Line] = field(default_factory=asyncio.Queue)
    error: GatewayError | None = None

    async def take(self, caller: Caller, ae_title: str, request: CommitmentRequest, line: Line) -> None:
        """See `Commits`."""
        if self.error is not None:
            raise self.error
        self.taken.append((caller.principal.subject, ae_title, request))
        self.lines.put_nowait(line)

    async def hear(self, caller: Caller, told: CommitmentReport) -> None:
        """See `Commits`."""
        if self.error is not None:
            raise self.error
        self.heard.append((caller.principal.trust, told))


@asynccontextmanager
async def committing_door(desk: Notebook) -> AsyncIterator[House]:
    """A door with the service of commitment."""
    asked = Asked()

    def sink_for(context: Context, command: Command) -> Sink | None:
        return commitment_sink(context, command, BYTES_MAX)

    async with opened(
        Shelf(),
        Doorkeeper(PACS),
        limits=LIMITS,
        services={STORAGE_COMMITMENT: CommitmentService(desk, asked, LIMITS, asyncio.to_thread)},
        sink_for=sink_for,
        scp_roles=(STORAGE_COMMITMENT,),
        reports={STORAGE_COMMITMENT: ReportService(desk, LIMITS, asyncio.to_thread)},
        asked=asked,
    ) as house:
        yield house


async def answer_to(asker: Client, command: Command, body: bytes | None) -> Command:
    """What the door says to one message."""
    await asker.association.send(asker.context(STORAGE_COMMITMENT), command, body)
    async with asyncio.timeout(HANG_S):
        return (await asker.association.receive()).command


def action(number: int = 1, *, action_type: int = 1, instance: str = STORAGE_COMMITMENT_INSTANCE) -> Command:
    """An N-ACTION-RQ."""
    return Command(
        CommandField.N_ACTION_RQ,
        number,
        STORAGE_COMMITMENT,
        has_data=True,
        sop_instance_uid=instance,
        action_type=action_type,
    )


def event(number: int = 1, event_type: int = 1) -> Command:
    """An N-EVENT-REPORT-RQ."""
    return Command(
        CommandField.N_EVENT_REPORT_RQ,
        number,
        STORAGE_COMMITMENT,
        has_data=True,
        sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
        event_type=event_type,
    )


BODY = encode_request(REQUEST, EXPLICIT)


@pytest.mark.parametrize(
    ("command", "body", "error", "status"),
    [
        (action(), BODY, None, CommitmentStatus.SUCCESS),
        (action(action_type=2), BODY, None, CommitmentStatus.NO_SUCH_ACTION),
        (action(instance="1.2.3"), BODY, None, CommitmentStatus.NO_SUCH_INSTANCE),
        (action(), b"\x08\x00", None, CommitmentStatus.INVALID_ARGUMENT),
        (action(), bytes(BYTES_MAX + 2), None, CommitmentStatus.RESOURCE_LIMITATION),
        (action(), BODY, InvalidRequest("in use"), CommitmentStatus.INVALID_ARGUMENT),
        (action(), BODY, OverCapacity("too many"), CommitmentStatus.RESOURCE_LIMITATION),
        (action(), BODY, StoreUnavailable("the disk is full"), CommitmentStatus.PROCESSING_FAILURE),
        (event(), BODY, None, CommitmentStatus.SUCCESS),
        (event(event_type=3), BODY, None, CommitmentStatus.NO_SUCH_EVENT_TYPE),
        (event(), BODY, InvalidRequest("the transaction is not known"), CommitmentStatus.INVALID_ARGUMENT),
        (event(), BODY, StoreUnavailable("the disk is full"), CommitmentStatus.PROCESSING_FAILURE),
    ],
)
async def test_what_is_asked_and_reported_has_one_answer_and_the_association_goes_on(
    command: Command, body: bytes, error: GatewayError | None, status: CommitmentStatus
) -> None:
    desk = Notebook(error=error)
    async with committing_door(desk) as house, client(house.port, proposal(STORAGE_COMMITMENT)) as asker:
        assert (await answer_to(asker, command, body)).status == status
        assert bool(desk.taken or desk.heard) is (status == CommitmentStatus.SUCCESS)
        desk.error = None
        assert (await answer_to(asker, action(2), BODY)).status == CommitmentStatus.SUCCESS


async def test_one_instance_more_than_the_limit_is_too_much() -> None:
    desk = Notebook()
    many = tuple(Reference(CT, f"1.2.{number}") for number in range(LIMITS.commitment_instances_max + 1))
    async with committing_door(desk) as house, client(house.port, proposal(STORAGE_COMMITMENT)) as asker:
        body = encode_request(CommitmentRequest("1.9", many), EXPLICIT)
        assert (await answer_to(asker, action(1), body)).status == CommitmentStatus.RESOURCE_LIMITATION
        body = encode_request(CommitmentRequest("1.9", many[1:]), EXPLICIT)
        assert (await answer_to(asker, action(2), body)).status == CommitmentStatus.SUCCESS


async def test_a_foreign_sender_is_told_on_its_own_association_while_that_is_open() -> None:
    desk = Notebook()
    async with committing_door(desk) as house:
        sender = Sender(house.port)

        def asking() -> int:
            with sender.asking("1.9", (CT, "1.2.3"), (CT, "1.2.4")) as status:
                told = sender.told.get(timeout=HANG_S)
                assert (told.event_type, told.committed, told.failed) == (2, ["1.2.3"], {"1.2.4": 0x0112})
                return status

        under_way = asyncio.create_task(asyncio.to_thread(asking))
        line = await asyncio.wait_for(desk.lines.get(), HANG_S)
        assert await line(CommitmentReport("1.9", (ONE,), ((TWO, 0x0112),)))
        assert await under_way == 0
        assert desk.taken == [("rz1-pacs", THEIRS, REQUEST)]
        # It has released by now: nobody is told there any more.
        assert not await line(CommitmentReport("1.9", (ONE, TWO)))


async def test_a_sender_that_answers_a_report_with_a_failure_has_not_taken_it() -> None:
    desk = Notebook()
    async with committing_door(desk) as house:
        sender = Sender(house.port)
        sender.answers = 0x0110
        is_over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def asking() -> None:
            with sender.asking("1.9", (CT, "1.2.3")):
                asyncio.run_coroutine_threadsafe(is_over.wait(), loop).result(HANG_S)

        under_way = asyncio.create_task(asyncio.to_thread(asking))
        line = await asyncio.wait_for(desk.lines.get(), HANG_S)
        assert not await line(CommitmentReport("1.9", (ONE,)))
        is_over.set()
        await under_way


async def test_a_foreign_archive_reports_by_an_association_of_its_own() -> None:
    desk = Notebook()
    async with committing_door(desk) as house:
        archive = CommittingArchive(gateway_port=house.port)
        assert await asyncio.to_thread(archive.tell, request_of("1.9", (CT, "1.2.3"))) == 0
    assert desk.heard == [(TrustId("RZ1"), CommitmentReport("1.9", (ONE,)))]


# --- asking others ---


async def nothing(_: CommitmentReport) -> None:
    raise AssertionError("nothing is reported in this test")


@asynccontextmanager
async def archive_of(archive: CommittingArchive) -> AsyncIterator[Receiver]:
    """A foreign archive that listens."""
    with committing(archive):
        yield Receiver(archive.ae_title, "127.0.0.1", archive.port, OURS)


async def test_an_archive_that_reports_on_the_same_association_is_heard_there() -> None:
    archive, heard = CommittingArchive(Reports.ON_THE_SAME, does_not_commit={"1.2.4"}), []

    async def hears(told: CommitmentReport) -> None:
        heard.append(told)

    async with archive_of(archive) as receiver:
        await ask(receiver, REQUEST, LIMITS, hears)
    assert heard == [CommitmentReport("1.9", (ONE,), ((TWO, 0x0110),))]
    assert archive.answered.get(timeout=HANG_S) == 0


async def test_a_report_that_is_not_believed_is_answered_with_a_failure() -> None:
    archive = CommittingArchive(Reports.ON_THE_SAME)

    async def hears(told: CommitmentReport) -> None:
        raise InvalidRequest("the transaction is not known")

    async with archive_of(archive) as receiver:
        await ask(receiver, REQUEST, Limits(commitment_linger_s=0.5), hears)
        assert archive.answered.get(timeout=HANG_S) == CommitmentStatus.INVALID_ARGUMENT


async def test_an_archive_that_never_reports_is_left_after_a_while() -> None:
    archive = CommittingArchive(Reports.NEVER)
    async with archive_of(archive) as receiver:
        await ask(receiver, REQUEST, Limits(commitment_linger_s=0.01), nothing)
    assert archive.asked.get_nowait().TransactionUID == "1.9"


async def test_an_archive_that_refuses_is_not_asked() -> None:
    archive = CommittingArchive(answers_action=0x0213)
    async with archive_of(archive) as receiver:
        with pytest.raises(NotAsked, match="0213"):
            await ask(receiver, REQUEST, LIMITS, nothing)
    with pytest.raises(NotAsked, match="cannot be reached"):
        await ask(receiver, REQUEST, LIMITS, nothing)


async def test_a_report_of_ours_is_taken_by_a_foreign_sender() -> None:
    sender = Sender(0)
    with sender.listening():
        receiver = Receiver(THEIRS, "127.0.0.1", sender.port, OURS)
        await report(receiver, CommitmentReport("1.9", (ONE,)), LIMITS)
        told = sender.told.get(timeout=HANG_S)
        assert (told.event_type, told.committed, told.is_same_association) == (1, ["1.2.3"], False)
        sender.answers = 0x0110
        with pytest.raises(NotAsked, match="0110"):
            await report(receiver, CommitmentReport("1.9", (ONE,)), LIMITS)


def test_a_report_with_failures_says_so_in_its_type() -> None:
    assert [event_type_of(CommitmentReport("1", (ONE,))), event_type_of(CommitmentReport("1", (), ((ONE, 1),)))] == [
        1,
        2,
    ]
