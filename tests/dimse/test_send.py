"""Sending images by C-STORE: to DCMTK's storescp in its good and bad modes, and to a receiver that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from dimse.awaited import Originator
from dimse.scu.send import NotSent, Outcome, Receiver, Sender, Sent
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association
from dimse.upper_layer.messages import Message
from gateway.demo.ports import free_port
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Item
from gateway.model.work.transfers import InstanceRef
from tests.dimse.intakes import MemoryIntake
from tests.dimse.items import MemoryItem, item_of, items_in, real_files
from tests.dimse.pair import CT, EXPLICIT, IMPLICIT, answer, listening
from tests.dimse.test_inflow import taking_in
from tests.peers.dcmtk import storescp

LIMITS = replace(Limits(), store_patience_s=0.3, store_response_timeout_s=20.0)


def receiver(port: int, called: str = "GATEWAY") -> Receiver:
    """An application entity on this machine."""
    return Receiver(called, "127.0.0.1", port, "SENDER")


def ct(number: int, size: int = 100_000, transfer_syntax: str = EXPLICIT) -> MemoryItem:
    """A CT image, as far as its receiver can see."""
    return MemoryItem(InstanceRef("1.2", "1.2.3", f"1.2.3.{number}", CT), transfer_syntax, bytes([number]) * size)


async def sent(port: int, *items: MemoryItem, limits: Limits = LIMITS, called: str = "GATEWAY") -> list[Outcome]:
    """Send these one after the other."""
    classes = {item.ref.sop_class_uid for item in items}
    async with asyncio.timeout(60), Sender(receiver(port, called), classes, limits) as sender:
        return [await sender.send(item) for item in items]


Behaviour = Callable[[Association, Message], Awaitable[None]]


def statuses(*given: int) -> Behaviour:
    """Answers with one status after the other."""
    left = iter(given)

    async def serve(association: Association, message: Message) -> None:
        await answer(association, message, next(left))

    return serve


@pytest.mark.peer
async def test_every_transfer_syntax_arrives_to_the_byte(tmp_path: Path) -> None:
    items = [item_of(path) for path in real_files()]
    assert len({item.transfer_syntax for item in items}) > 9
    async with storescp(tmp_path, "+xa", "+B") as port:  # all transfer syntaxes, written as they come
        for sop_class in {item.ref.sop_class_uid for item in items}:
            of_class = [item for item in items if item.ref.sop_class_uid == sop_class]
            assert await sent(port, *of_class) == [Sent()] * len(of_class)
    arrived = items_in(tmp_path)
    for item in items:
        got = arrived[item.ref.sop_uid]
        padding = b"\0" * (len(item.content) % 2)  # one of the files is deflated to an odd length
        assert (got.transfer_syntax, got.content) == (item.transfer_syntax, item.content + padding)


@pytest.mark.peer
async def test_a_receiver_of_uncompressed_images_alone_takes_those_and_no_others(tmp_path: Path) -> None:
    items = [item_of(path) for path in real_files()]
    async with storescp(tmp_path, "+xi") as port:
        outcomes = await sent(port, *items)
    for item, outcome in zip(items, outcomes, strict=True):
        assert isinstance(outcome, Sent) is (item.transfer_syntax == IMPLICIT)
    assert "does not take JPEG" in " ".join(outcome.words for outcome in outcomes if isinstance(outcome, NotSent))


@pytest.mark.peer
async def test_a_receiver_that_aborts_at_every_instance_is_given_up_for_each_alone(tmp_path: Path) -> None:
    async with storescp(tmp_path, "--abort-after") as port:
        outcomes = await sent(port, ct(1), ct(2))
    assert outcomes == [NotSent("the destination ends the association at this instance")] * 2


@pytest.mark.peer
async def test_a_receiver_that_aborts_in_mid_instance_is_given_up_for_each_alone(tmp_path: Path) -> None:
    async with storescp(tmp_path, "--abort-during") as port:
        outcomes = await sent(port, ct(1, 5_000_000))
    assert outcomes == [NotSent("the destination ends the association at this instance")]


@pytest.mark.peer
async def test_a_receiver_that_refuses_associations_is_left_alone_at_once(tmp_path: Path) -> None:
    async with storescp(tmp_path, "--refuse") as port:
        outcomes = await sent(port, ct(1), ct(2), limits=replace(LIMITS, store_patience_s=1_000.0))
    assert outcomes == [NotSent("the destination refuses our associations", is_final=True)] * 2


async def test_a_receiver_that_is_not_there_is_given_up_when_patience_ends() -> None:
    outcomes = await sent(free_port(), ct(1), ct(2))
    assert outcomes == [NotSent("the destination cannot be reached", is_final=True)] * 2


async def test_a_receiver_that_comes_back_in_time_gets_everything() -> None:
    intake = MemoryIntake()
    async with taking_in(intake) as acceptor:
        acceptor.reject = pdu.TEMPORARY_CONGESTION

        admit = acceptor.admit

        async def admit_the_next(
            association: Association, request: pdu.AssociateRequest
        ) -> pdu.AssociateAccept | pdu.AssociateReject:
            answered = await admit(association, request)
            acceptor.reject = None
            return answered

        acceptor.admit = admit_the_next  # type: ignore[method-assign]  # it is busy, once
        outcomes = await sent(acceptor.port, ct(1), ct(2), limits=replace(LIMITS, store_patience_s=30))
    assert outcomes == [Sent()] * 2 and len(intake.kept) == 2


async def test_warnings_are_deliveries_and_failures_are_not() -> None:
    said = (0xB000, 0xB006, 0xB007, 0xA700, 0xA900, 0xC123, 0x0122, 0x0124, 0x0111, 0x0117)
    async with listening(statuses(*said)) as acceptor:
        outcomes = await sent(acceptor.port, *(ct(number) for number, _ in enumerate(said)))
    assert [isinstance(outcome, Sent) for outcome in outcomes] == [True] * 3 + [False] * 7
    assert all(isinstance(outcome, NotSent) or outcome.warning for outcome in outcomes)
    assert not any(isinstance(outcome, NotSent) and outcome.is_final for outcome in outcomes)


async def test_a_receiver_that_has_another_instance_of_the_uid_has_not_been_sent_this_one() -> None:
    async with listening(statuses(0x0111)) as acceptor:
        [outcome] = await sent(acceptor.port, ct(1))
    words = "the destination answered 0111: it has an instance of this UID, and did not take this one"
    assert outcome == NotSent(words)


async def test_the_receiver_is_told_which_move_an_instance_is_part_of() -> None:
    commands = []

    async def note(association: Association, message: Message) -> None:
        commands.append(message.command)
        await answer(association, message)

    async with (
        listening(note) as acceptor,
        Sender(receiver(acceptor.port), {CT}, LIMITS, originator=Originator("WARD", 77)) as sender,
    ):
        await sender.send(ct(1))
    assert (commands[0].move_originator_ae_title, commands[0].move_originator_message_id) == ("WARD", 77)


@pytest.mark.parametrize("is_lone", [False, True])
async def test_several_associations_send_at_once_and_a_receiver_of_one_gets_one(is_lone: bool) -> None:
    intake = MemoryIntake()
    async with taking_in(intake) as acceptor:
        admit = acceptor.admit

        async def admit_one(
            association: Association, request: pdu.AssociateRequest
        ) -> pdu.AssociateAccept | pdu.AssociateReject:
            others = any(other.is_open for other in acceptor.associations)
            answered = await admit(association, request)
            return pdu.LOCAL_LIMIT_EXCEEDED if others else answered

        if is_lone:
            acceptor.admit = admit_one  # type: ignore[method-assign]  # it takes no second one
        async with asyncio.timeout(30), Sender(receiver(acceptor.port), {CT}, LIMITS) as sender:
            outcomes = await asyncio.gather(*(sender.send(ct(number, 900_000)) for number in range(20)))
    assert outcomes == [Sent()] * 20
    assert {uid: kept.content[0] for uid, kept in intake.kept.items()} == {
        f"1.2.3.{number}": number for number in range(20)
    }


async def test_an_instance_that_is_damaged_is_not_sent_and_the_next_one_is() -> None:
    intake = MemoryIntake()
    async with taking_in(intake) as acceptor:
        at_once = replace(ct(1, 3_000_000), cut_at=0)
        midway = replace(ct(2, 3_000_000), cut_at=2_000_000)
        outcomes = await sent(acceptor.port, at_once, midway, ct(3))
    assert outcomes == [NotSent("the instance could not be read")] * 2 + [Sent()]
    assert list(intake.kept) == ["1.2.3.3"]


async def test_a_class_that_is_not_taken_is_named() -> None:
    async with listening() as acceptor:
        item = replace(ct(1), ref=replace(ct(1).ref, sop_class_uid="1.2.840.10008.5.1.4.1.1.4"))
        outcomes = await sent(acceptor.port, item)
    assert outcomes == [NotSent("the destination does not take MR Image Storage")]


async def test_what_is_not_taken_as_it_is_stored_is_transcoded_if_that_can_be() -> None:
    jpeg = "1.2.840.10008.1.2.4.70"

    class ToExplicit:
        async def transcoded(self, item: Item, accepted: Collection[str]) -> Item | None:
            if item.ref.sop_uid == "1.2.3.2" or EXPLICIT not in accepted:
                return None
            return replace(ct(1), content=b"unpacked", transfer_syntax=EXPLICIT)

    intake = MemoryIntake()
    async with (
        taking_in(intake) as acceptor,
        Sender(receiver(acceptor.port), {CT}, LIMITS, transcoder=ToExplicit()) as sender,
    ):
        outcomes = [await sender.send(ct(number, transfer_syntax=jpeg)) for number in (1, 2)]
    assert outcomes[0] == Sent() and isinstance(outcomes[1], NotSent)
    assert intake.kept["1.2.3.1"].content == b"unpacked"


async def test_a_receiver_that_does_not_answer_is_given_up() -> None:
    async def nothing(_association: Association, _message: Message) -> None:
        await asyncio.Event().wait()

    async with listening(nothing) as acceptor:
        outcomes = await sent(acceptor.port, ct(1), limits=replace(LIMITS, store_response_timeout_s=0.05))
    assert outcomes == [NotSent("the destination ends the association at this instance")]


async def test_being_cancelled_leaves_no_half_sent_association_to_the_next() -> None:
    arrived = asyncio.Event()

    async def stall_once(association: Association, message: Message) -> None:
        if not arrived.is_set():
            arrived.set()
            await asyncio.Event().wait()
        await answer(association, message)

    async with (
        listening(stall_once) as acceptor,
        asyncio.timeout(30),
        Sender(receiver(acceptor.port), {CT}, LIMITS) as sender,
    ):
        stalled = asyncio.create_task(sender.send(ct(1)))
        await arrived.wait()
        stalled.cancel()
        await asyncio.wait([stalled])
        assert await sender.send(ct(2)) == Sent()
    assert len(acceptor.associations) == 2
