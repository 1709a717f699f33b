"""C-STORE at the door, over real sockets: kept before it is answered, whole, and never called stored when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from dimse.awaited import Originator
from dimse.scp.profiles import CallerProfile
from dimse.status import MissingSources
from dimse.upper_layer.association import Association, AssociationLimits
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.pdu import AssociateRequest, Roles
from dimse.upper_layer.requestor import associate
from gateway.model import errors
from gateway.model.work.transfers import Intake
from gateway.sharing.directory import Directory
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import TrustId
from tests.dimse.door import HANG_S, OURS, PACS, THEIRS, VERIFICATION, WORKSTATION, Doorkeeper
from tests.dimse.lending import Lending, lending
from tests.dimse.library import CT, EXPLICIT, Library, Stack

JPEG_2000, IMPLICIT = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2"
PROFILE = CallerProfile(MissingSources.COMMENT)
RZ1 = TrustId("RZ1")


def proposal(*contexts: tuple[str, tuple[str, ...]], roles: tuple[Roles, ...] = ()) -> AssociateRequest:
    """A request to send CT images, or what a test says."""
    return propose(
        THEIRS,
        OURS,
        contexts or ((CT, (EXPLICIT,)), (VERIFICATION, (IMPLICIT,))),
        pdu_bytes_max=131_072,
        roles=roles,
        implementation_class_uid=WORKSTATION,
    )


class Sender:
    """One who sends."""

    def __init__(self, association: Association) -> None:
        self.association = association

    async def store(
        self, sop_uid: str, content: bytes, sop_class_uid: str = CT, origin: Originator | None = None
    ) -> Command:
        """Send an instance; what is answered."""
        await self.begin(sop_uid, content, sop_class_uid, origin)
        async with asyncio.timeout(HANG_S):
            return (await self.association.receive()).command

    async def begin(
        self, sop_uid: str, content: bytes | None, sop_class_uid: str = CT, origin: Originator | None = None
    ) -> None:
        """Send an instance, and wait for nothing."""
        contexts = self.association.terms.contexts
        number = next(number for number, each in contexts.items() if each.abstract_syntax == CT)
        command = Command(
            CommandField.C_STORE_RQ,
            self.association.next_message_id(),
            sop_class_uid=sop_class_uid,
            has_data=content is not None,
            priority=0,
            sop_instance_uid=sop_uid,
            move_originator_ae_title=origin.ae_title if origin else "",
            move_originator_message_id=origin.message_id if origin else None,
        )
        await self.association.send(number, command, content)


@asynccontextmanager
async def sending(intake: Intake, request: AssociateRequest | None = None) -> AsyncIterator[tuple[Sender, Lending]]:
    """One who sends to a door that takes images into `intake`."""
    async with lending(Library(), PROFILE, intake=intake) as door:
        association = await associate(
            "127.0.0.1", door.house.port, request or proposal(), AssociationLimits(), tls=None, connect_timeout_s=HANG_S
        )
        try:
            yield Sender(association), door
        finally:
            association.abort()


def denied(telling: Telling) -> errors.Denied:
    reason = Reason("a-rule", Effect.FORBID, "kind-receives-no-images", "no images", telling)
    return errors.Denied(Decision("d1", Effect.FORBID, (reason,), "rules"), "", "")


@pytest.mark.parametrize("data_bytes", [0, 1, 100_000, 3_000_001])
async def test_what_is_sent_is_kept_to_the_byte(data_bytes: int) -> None:
    stack, content = Stack(), bytes(range(256)) * (data_bytes // 256 + 1)
    async with sending(stack) as (sender, door):
        answer = await sender.store("1.2.3", content[:data_bytes])
        assert (answer.status, answer.sop_instance_uid, answer.sop_class_uid) == (0x0000, "1.2.3", CT)
    assert stack.kept == {"1.2.3": (CT, EXPLICIT, content[:data_bytes])}
    assert ("C_STORE_RQ", 0) in door.house.figures.answered


async def test_nothing_is_called_stored_before_it_is_kept() -> None:
    stack = Stack()
    stack.may_keep.clear()
    async with sending(stack) as (sender, _):
        await sender.begin("1.2.3", b"x" * 1_000)
        answer = asyncio.create_task(sender.association.receive())
        await asyncio.wait_for(stack.is_asked_to_keep.wait(), HANG_S)
        assert not answer.done() and not stack.kept
        stack.may_keep.set()
        assert (await answer).command.status == 0x0000 and "1.2.3" in stack.kept


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (errors.Conflicting("other pixels"), 0x0111),
        (errors.StoreFull("the disk is full"), 0xA700),
        (errors.AuditUnavailable("disk full"), 0xA700),
        (errors.InvalidRequest("another instance than was announced"), 0xA900),
        (errors.Unwanted("nobody waits for it"), 0x0124),
        (denied(Telling.CALLER), 0x0124),
        (denied(Telling.NOBODY), 0x0124),
        (errors.NotFound("no such trust"), 0xC000),
        (KeyError("SMITH^ANNE"), 0xC001),
    ],
)
@pytest.mark.parametrize("where", ["before it comes", "once it is there"])
async def test_what_is_not_kept_is_not_called_stored_and_costs_only_itself(
    refusal: Exception, status: int, where: str
) -> None:
    stack = Stack(refusal=refusal) if where == "once it is there" else Stack(refuses=refusal)
    async with sending(stack) as (sender, _):
        answer = await sender.store("1.2.3", bytes(3_000_000))
        assert answer.status == status and "SMITH" not in answer.error_comment
        stack.refusal = stack.refuses = None
        assert (await sender.store("1.2.4", b"next")).status == 0x0000
    assert list(stack.kept) == ["1.2.4"]


async def test_an_instance_whose_sender_goes_away_is_not_kept() -> None:
    stack = Stack()
    async with lending(Library(), PROFILE, intake=stack) as door:
        sender = await associate(
            "127.0.0.1", door.house.port, proposal(), AssociationLimits(), tls=None, connect_timeout_s=HANG_S
        )
        stack.may_keep.clear()
        await Sender(sender).begin("1.2.3", b"x" * 100)
        await asyncio.wait_for(stack.is_asked_to_keep.wait(), HANG_S)
        sender.abort()
        await asyncio.wait_for(stack.is_left.wait(), HANG_S)
    assert stack.lost == 1 and not stack.kept


async def test_a_message_without_an_instance_or_of_another_class_is_refused() -> None:
    stack = Stack()
    async with sending(stack) as (sender, _):
        await sender.begin("1.2.3", None)
        assert (await sender.association.receive()).command.status == 0xA900
        mr = "1.2.840.10008.5.1.4.1.1.4"
        assert (await sender.store("1.2.3", bytes(2_000_000), sop_class_uid=mr)).status == 0x0122
        assert (await sender.store("1.2.4", b"next")).status == 0x0000
    assert list(stack.kept) == ["1.2.4"]


async def test_who_agreed_to_receive_only_cannot_send() -> None:
    stack = Stack()
    async with sending(stack, proposal((CT, (EXPLICIT,)), roles=(Roles(CT, False, True),))) as (sender, _):
        assert (await sender.store("1.2.3", bytes(2_000_000))).status == 0x0122
    assert not stack.kept


async def test_images_come_in_the_transfer_syntax_that_their_sender_has_them_in() -> None:
    stack = Stack()
    async with sending(stack, proposal((CT, (JPEG_2000, EXPLICIT, IMPLICIT)))) as (sender, _):
        assert (await sender.store("1.2.3", b"codestream")).status == 0x0000
    assert stack.kept["1.2.3"] == (CT, JPEG_2000, b"codestream")


async def test_whose_system_sends_is_judged_again_after_each_reload() -> None:
    stack, keeper = Stack(), Doorkeeper(PACS)
    async with lending(Library(), PROFILE, intake=stack, keeper=keeper) as door:
        association = await associate(
            "127.0.0.1", door.house.port, proposal(), AssociationLimits(), tls=None, connect_timeout_s=HANG_S
        )
        sender = Sender(association)
        await sender.store("1.2.3", b"before")
        await sender.store("1.2.4", b"before")
        keeper.directory = Directory([], [replace(PACS, trust=TrustId("RZ2"))])
        await door.house.door.rejudge()
        await sender.store("1.2.5", b"after")
        association.abort()
    assert [caller.principal.trust.code for caller in door.senders] == ["RZ1", "RZ1", "RZ2"]


# --- what an archive sends because it was asked ---


@pytest.mark.parametrize("names_originator", [True, False])
async def test_what_was_asked_for_goes_to_whoever_asked_and_the_rest_is_a_push(names_originator: bool) -> None:
    pushed, awaited = Stack(), Stack()
    async with sending(pushed) as (sender, door):
        with door.awaiting.expecting(RZ1, OURS, {"1.2.3"}, awaited) as errand:
            origin = errand.originator if names_originator else None
            assert (await sender.store("1.2.3", b"asked for", origin=origin)).status == 0x0000
            assert (await sender.store("1.2.4", b"pushed")).status == 0x0000
        assert (await sender.store("1.2.3", b"pushed later")).status == 0x0000
    assert {uid: kept[2] for uid, kept in awaited.kept.items()} == {"1.2.3": b"asked for"}
    assert {uid: kept[2] for uid, kept in pushed.kept.items()} == {"1.2.4": b"pushed", "1.2.3": b"pushed later"}


async def test_what_another_trust_was_asked_for_cannot_be_slipped_in() -> None:
    pushed, awaited = Stack(), Stack()
    async with sending(pushed) as (sender, door):
        with door.awaiting.expecting(TrustId("RZ2"), OURS, {"1.2.3"}, awaited) as errand:
            await sender.store("1.2.3", b"slipped in", origin=errand.originator)
    assert not awaited.kept and "1.2.3" in pushed.kept
