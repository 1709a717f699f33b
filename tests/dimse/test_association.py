"""One association over real sockets: messages of any length both ways, and every way in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from dimse.upper_layer import pdu
from dimse.upper_layer.association import (
    Association,
    AssociationEnded,
    AssociationLimits,
    AssociationRejected,
)
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.pdu import AbortReason, AbortSource, PduType
from dimse.upper_layer.requestor import NotConnected
from dimse.upper_layer.wire import Ended, WireLimits
from tests.dimse.pair import (
    CT,
    ECHO,
    STUDY_FIND,
    VERIFICATION,
    answer,
    associated,
    context_of,
    listening,
    proposal,
    raw_peer,
    written,
)

FIND = Command(CommandField.C_FIND_RQ, 7, sop_class_uid=STUDY_FIND, priority=0, has_data=True)
STORE = Command(CommandField.C_STORE_RQ, 1, sop_class_uid=CT, sop_instance_uid="1.2.3", priority=0, has_data=True)
FIND_CONTEXT = 3
SOON = AssociationLimits(wire=WireLimits(artim_timeout_s=0.05), idle_timeout_s=0.1, send_timeout_s=0.1)


async def echo(association: Association) -> int | None:
    """Ask for an echo; its status."""
    command = replace(ECHO, message_id=association.next_message_id())
    await association.send(context_of(association, VERIFICATION), command)
    return (await association.receive()).command.status


async def never(_association: Association, _message: Message) -> None:
    """A service that is at work for ever."""
    await asyncio.Event().wait()


# --- messages ---


async def test_an_echo_is_answered_and_the_association_released() -> None:
    async with listening() as acceptor:
        association = await associated(acceptor.port)
        assert [await echo(association) for _ in range(3)] == [0, 0, 0]
        await association.release()
        assert (await association.over()).why is Ended.RELEASED
        assert (await acceptor.associations[0].over()).why is Ended.RELEASED


@pytest.mark.parametrize("pdu_bytes", [64, 4_096, 16_384, 131_072, 0])
@pytest.mark.parametrize("size", [0, 1, 58, 100_001])
async def test_a_data_set_arrives_as_it_was_sent_whatever_pdus_it_travels_in(pdu_bytes: int, size: int) -> None:
    sent = bytes(range(256)) * (size // 256) + bytes(size % 256)
    arrived: list[object] = []

    async def keep(association: Association, message: Message) -> None:
        arrived.append(message.data)
        await association.send(
            message.context.context_id, response(message.command, 0, has_data=True), message.data_set
        )
        association.answered(message.command.message_id)

    async with listening(keep) as acceptor:
        acceptor.offer = replace(acceptor.offer, pdu_bytes_max=pdu_bytes)
        association = await associated(acceptor.port, proposal(pdu_bytes_max=pdu_bytes))
        # The acceptor of `pair` offers its own length, so only the way back has the one under test.
        await association.send(context_of(association, CT), STORE, sent)
        assert (await association.receive()).data == sent
        await association.send(context_of(association, CT), replace(STORE, message_id=2), [sent, sent])
        assert (await association.receive()).data == sent + sent
        association.abort()
    assert arrived == [sent, sent + sent]


async def test_a_data_set_of_many_megabytes_is_held_by_nobody() -> None:
    class Counting:
        size = 0

        def write(self, piece: memoryview) -> None:
            self.size += len(piece)

        def finish(self) -> object:
            return self.size

        def abandon(self) -> None:
            raise AssertionError

    sizes: list[object] = []

    async def count(association: Association, message: Message) -> None:
        sizes.append(message.data)
        await answer(association, message)

    async with listening(count, sink_for=lambda _context, _command: Counting()) as acceptor:
        association = await associated(acceptor.port)
        await association.send(context_of(association, CT), STORE, [bytes(3_000_001)] * 10)
        assert (await association.receive()).command.status == 0
        association.abort()
    assert sizes == [30_000_010]


async def test_many_responses_leave_in_one_batch() -> None:
    async def find(association: Association, message: Message) -> None:
        pending = response(message.command, 0xFF00, has_data=True)
        rows = [(pending, str(number).encode()) for number in range(3_000)]
        await association.send_batch(message.context.context_id, [*rows, (response(message.command, 0), None)])
        association.answered(message.command.message_id)

    async with listening(find) as acceptor:
        association = await associated(acceptor.port)
        await association.send(FIND_CONTEXT, FIND, b"")
        rows = []
        while (message := await association.receive()).command.is_pending:
            rows.append(message.data)
        assert rows == [str(number).encode() for number in range(3_000)]
        association.abort()


async def test_a_second_request_waits_and_a_third_ends_the_association() -> None:
    at_work = asyncio.Event()

    async def work(_association: Association, _message: Message) -> None:
        at_work.set()
        await asyncio.Event().wait()

    async with listening(work) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.associate()
        await peer.send(written(ECHO), written(replace(ECHO, message_id=2)))
        await at_work.wait()
        assert acceptor.associations[0].is_open
        await peer.send(written(replace(ECHO, message_id=3)))
        kind, body = await peer.hear()
        assert (kind, *body[2:]) == (PduType.ABORT, AbortSource.PROVIDER, AbortReason.NOT_SPECIFIED)
        await acceptor.cancelled.wait()


async def test_a_message_id_cannot_be_used_twice_at_once() -> None:
    async with listening(never) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.associate()
        await peer.send(written(ECHO), written(ECHO))
        assert (await peer.hear())[0] == PduType.ABORT


# --- hearing beside the service ---


async def test_a_cancel_is_heard_while_the_service_works() -> None:
    async def until_cancelled(association: Association, message: Message) -> None:
        await association.cancelled(message.command.message_id).wait()
        await answer(association, message, 0xFE00)

    async with listening(until_cancelled) as acceptor:
        association = await associated(acceptor.port)
        await association.send(FIND_CONTEXT, FIND, b"")
        await association.send(FIND_CONTEXT, Command(CommandField.C_CANCEL_RQ, 99))
        await association.send(FIND_CONTEXT, Command(CommandField.C_CANCEL_RQ, FIND.message_id))
        assert (await association.receive()).command.status == 0xFE00
        assert association.is_open
        association.abort()


@pytest.mark.parametrize("how", ["abort", "release", "hang up", "reset"])
async def test_a_peer_that_goes_stops_the_work(how: str) -> None:
    at_work = asyncio.Event()

    async def work(_association: Association, _message: Message) -> None:
        at_work.set()
        await asyncio.Event().wait()

    async with listening(work) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.associate()
        await peer.send(written(ECHO))
        await at_work.wait()
        match how:
            case "abort":
                await peer.send(pdu.Abort(AbortSource.USER, 0))
            case "release":
                await peer.send(pdu.ReleaseRequest())
                assert (await peer.hear())[0] == PduType.RELEASE_RP
            case _:
                peer.hang_up(with_reset=how == "reset")
        await acceptor.cancelled.wait()
        expected = {"abort": Ended.ABORTED_BY_PEER, "release": Ended.RELEASED}.get(how, Ended.CONNECTION_LOST)
        assert (await acceptor.associations[0].over()).why is expected


async def test_a_data_set_cut_off_is_abandoned() -> None:
    abandoned = asyncio.Event()

    class Half:
        def write(self, piece: memoryview) -> None:
            pass

        def finish(self) -> object:
            raise AssertionError

        def abandon(self) -> None:
            abandoned.set()

    async with (
        listening(sink_for=lambda _context, _command: Half()) as acceptor,
        raw_peer(acceptor.port) as peer,
    ):
        await peer.associate()
        await peer.send(written(STORE, bytes(1_000), context_id=5)[:-1])
        peer.hang_up()
        await abandoned.wait()


async def test_who_waits_for_a_message_hears_of_the_end() -> None:
    async with listening(never) as acceptor:
        association = await associated(acceptor.port)
        waiting = asyncio.create_task(association.receive())
        await asyncio.sleep(0)
        acceptor.associations[0].abort()
        with pytest.raises(AssociationEnded) as ended:
            await waiting
        assert ended.value.why is Ended.ABORTED_BY_PEER
        with pytest.raises(AssociationEnded):
            await association.send(FIND_CONTEXT, FIND, b"")


async def test_what_came_before_the_end_is_still_received() -> None:
    async def answer_and_abort(association: Association, message: Message) -> None:
        await answer(association, message)
        association.abort()

    async with listening(answer_and_abort) as acceptor:
        association = await associated(acceptor.port)
        await association.send(1, ECHO)
        await association.over()
        assert (await association.receive()).command.status == 0
        with pytest.raises(AssociationEnded):
            await association.receive()


async def test_a_bug_in_a_service_ends_its_association_alone(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(_association: Association, _message: Message) -> None:
        raise ZeroDivisionError

    async with listening(broken) as acceptor:
        association, other = await associated(acceptor.port), await associated(acceptor.port)
        await association.send(1, ECHO)
        with pytest.raises(AssociationEnded):
            await association.receive()
        assert other.is_open
        other.abort()
    assert "ZeroDivisionError" in capsys.readouterr().out


# --- limits in time ---


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with listening(limits=SOON) as acceptor, raw_peer(acceptor.port) as peer:
        assert await peer.hear() == (0, b"")


async def test_half_a_request_is_not_waited_for() -> None:
    async with listening(limits=SOON) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.send(pdu.encode(proposal())[:-1])
        assert await peer.hear() == (0, b"")


async def test_an_idle_association_is_ended_and_one_at_work_is_not() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def until_told(association: Association, message: Message) -> None:
        started.set()
        await go_on.wait()
        await answer(association, message)

    async with listening(until_told, SOON) as acceptor:
        working, idle = await associated(acceptor.port), await associated(acceptor.port)
        await working.send(1, ECHO)
        await started.wait()
        assert (await idle.over()).why is Ended.ABORTED_BY_PEER
        assert working.is_open
        go_on.set()
        assert (await working.receive()).command.status == 0
        await working.over()


async def test_an_association_has_a_longest_life() -> None:
    async with listening(limits=AssociationLimits(life_max_s=0.1)) as acceptor:
        association = await associated(acceptor.port)
        with contextlib.suppress(AssociationEnded):
            while True:
                assert await echo(association) == 0
        assert str(acceptor.associations[0].end) == "open for too long"


async def test_a_message_that_dribbles_is_not_waited_for() -> None:
    limits = AssociationLimits(idle_timeout_s=0.1)
    async with listening(limits=limits) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.associate()
        hearing = asyncio.create_task(peer.hear())
        for byte in written(STORE, bytes(5_000), context_id=5):
            if hearing.done():
                break
            await peer.send(bytes((byte,)))
            await asyncio.wait([hearing], timeout=0.001)
        assert (await hearing)[0] == PduType.ABORT


async def test_a_peer_that_takes_nothing_is_given_up() -> None:
    async def much(association: Association, message: Message) -> None:
        for _ in range(1_000):
            await association.send(message.context.context_id, response(message.command, 0xFF00), bytes(1_000_000))

    async with listening(much, replace(SOON, idle_timeout_s=60.0)) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.associate()
        await peer.send(written(ECHO))
        ended = await acceptor.associations[0].over()
        assert (ended.why, str(ended)) == (Ended.ABORTED_HERE, "the peer takes nothing")


# --- asking for an association ---


async def test_a_rejection_says_why() -> None:
    async with listening(reject=pdu.LOCAL_LIMIT_EXCEEDED) as acceptor:
        with pytest.raises(AssociationRejected) as rejected:
            await associated(acceptor.port)
        assert rejected.value.reject == pdu.LOCAL_LIMIT_EXCEEDED
    async with listening() as acceptor:
        with pytest.raises(AssociationRejected) as rejected:
            await associated(acceptor.port, proposal(called="ELSEWHERE"))
        assert rejected.value.reject == pdu.CALLED_AE_TITLE_NOT_RECOGNISED


async def test_a_peer_whose_pdus_can_hold_no_message_is_refused() -> None:
    async with listening() as acceptor:
        association = await associated(acceptor.port, proposal(pdu_bytes_max=64))
        assert association.is_open
        association.abort()
        with pytest.raises(AssociationEnded) as ended:
            await associated(acceptor.port, proposal(pdu_bytes_max=63))
        assert ended.value.why is Ended.ABORTED_BY_PEER


async def test_nobody_there_is_a_failure_in_words() -> None:
    async with listening() as acceptor:
        port = acceptor.port
    with pytest.raises(NotConnected, match="no connection"):
        await associated(port)


# --- with another toolkit ---


@contextlib.contextmanager
def another_scp(status: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Another toolkit as acceptor; its port, and the data sets it got."""
    got: list[bytes] = []

    def store(event: evt.Event) -> int:
        got.append(event.encoded_dataset(include_meta=False))
        return status

    ae = AE("GATEWAY")
    for syntax in (VERIFICATION, CT):
        ae.add_supported_context(syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert isinstance(server, ThreadedAssociationServer) and server.socket is not None
    try:
        yield int(server.socket.getsockname()[1]), got
    finally:
        ae.shutdown()


async def test_another_toolkit_takes_what_we_send() -> None:
    sent = bytes(range(250)) * 2_000
    with another_scp() as (port, got):
        association = await associated(port)
        assert await echo(association) == 0
        await association.send(context_of(association, CT), STORE, sent)
        assert (await association.receive()).command.status == 0
        await association.release()
        assert got == [sent]


@pytest.mark.parametrize("pdu_bytes", [0, 4_096, 16_384, 131_072])
async def test_another_toolkit_sends_what_we_take(pdu_bytes: int) -> None:
    arrived: list[bytes] = []

    async def keep(association: Association, message: Message) -> None:
        arrived.append(message.data_set)
        await answer(association, message)

    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID, image.PixelData = CT, "1.2.3", bytes(700_000)
    image["PixelData"].VR = "OW"

    def send(port: int) -> list[int]:
        ae = AE("OTHER")
        ae.maximum_pdu_size = pdu_bytes
        ae.add_requested_context(CT, "1.2.840.10008.1.2")
        ae.add_requested_context(VERIFICATION)
        other = ae.associate("127.0.0.1", port, ae_title="GATEWAY")
        assert other.is_established
        image.file_meta = _meta()
        statuses = [other.send_c_store(image).Status, other.send_c_echo().Status]
        other.release()
        return statuses

    async with listening(keep) as acceptor:
        assert await asyncio.to_thread(send, acceptor.port) == [0, 0]
        assert (await acceptor.associations[0].over()).why is Ended.RELEASED
    assert len(arrived[0]) > 700_000


def _meta() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = "1.2.840.10008.1.2"  # type: ignore[assignment]  # pydicom takes text
    return meta
