"""C-STORE as it arrives: told of with its command, passed on piece by piece, answered when it is kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimse.flow.inflow import DRAIN_BYTES, HELD_BYTES_MAX, Inflow
from dimse.flow.storing import take_in
from dimse.upper_layer.association import RECEIVE_BUFFER_BYTES, Association, AssociationEnded
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.messages import Message
from gateway.model.errors import InvalidRequest
from gateway.model.work.transfers import Intake
from tests.dimse.intakes import MemoryIntake
from tests.dimse.pair import CT, Listening, answer, associated, context_of, listening, raw_peer, written

HANG_S = 30.0


def store(number: int) -> Command:
    """A C-STORE request of instance 1.2.`number`."""
    return Command(
        CommandField.C_STORE_RQ, number, sop_class_uid=CT, has_data=True, priority=0, sop_instance_uid=f"1.2.{number}"
    )


@asynccontextmanager
async def taking_in(intake: Intake, ended: list[str] | None = None) -> AsyncIterator[Listening]:
    """An acceptor that puts what it is sent into an intake."""

    async def serve(association: Association, message: Message) -> None:
        try:
            refusal = await take_in(association, message, intake)
        except AssociationEnded as error:
            if ended is not None:
                ended.append(error.why.value)
            raise
        await answer(association, message, 0 if refusal is None else 0xC000)

    async with listening(serve) as acceptor:
        acceptor.takes_inflows = True
        yield acceptor


async def test_instances_arrive_to_the_byte_one_after_the_other() -> None:
    intake = MemoryIntake()
    contents = {f"1.2.{number}": os.urandom(size) for number, size in ((1, 3_000_001), (2, 0), (3, 1), (4, 700_000))}
    async with taking_in(intake) as acceptor:
        association = await associated(acceptor.port)
        for number in range(1, 5):
            await association.send(context_of(association, CT), store(number), contents[f"1.2.{number}"])
            assert (await association.receive()).command.status == 0
        await association.release()
    assert {uid: kept.content for uid, kept in intake.kept.items()} == contents


@pytest.mark.parametrize("how", ["unwanted", "unreadable"])
async def test_an_instance_that_is_refused_costs_only_itself(how: str) -> None:
    intake = MemoryIntake(wanted={"1.2.2"}) if how == "unwanted" else MemoryIntake(unreadable={"1.2.1"})
    async with taking_in(intake) as acceptor:
        association = await associated(acceptor.port)
        for number, status in ((1, 0xC000), (2, 0)):
            await association.send(context_of(association, CT), store(number), bytes(5_000_000))
            assert (await association.receive()).command.status == status
        association.abort()
    assert list(intake.kept) == ["1.2.2"]


async def test_an_instance_that_is_cut_is_not_kept() -> None:
    intake, ended = MemoryIntake(), list[str]()
    async with taking_in(intake, ended) as acceptor, raw_peer(acceptor.port) as peer:
        await peer.associate()
        await peer.send(written(store(1), bytes(2_000_000), context_id=5)[:-1])
        peer.hang_up()
        async with asyncio.timeout(HANG_S):
            await acceptor.associations[0].over()
    assert not intake.kept


class Slow:
    """Takes what comes, and says that it keeps up only when a test lets it."""

    def __init__(self) -> None:
        self.taken = 0
        self.drains = asyncio.Semaphore(0)
        self.draining = asyncio.Event()

    def add(self, piece: bytes | memoryview) -> None:
        self.taken += len(piece)

    async def drain(self) -> None:
        self.draining.set()
        await self.drains.acquire()


async def test_a_taker_that_falls_behind_holds_the_sender_back() -> None:
    slow, whole = Slow(), 40_000_000
    done = asyncio.Event()

    async def serve(association: Association, message: Message) -> None:
        assert message.inflow is not None
        await message.inflow.into(slow)
        done.set()
        await answer(association, message)

    async with listening(serve) as acceptor:
        acceptor.takes_inflows = True
        association = await associated(acceptor.port)
        sending = asyncio.create_task(association.send(context_of(association, CT), store(1), bytes(whole)))
        async with asyncio.timeout(HANG_S):
            await slow.draining.wait()
            for _ in range(200):  # whatever the network may still deliver
                await asyncio.sleep(0)
            assert slow.taken <= HELD_BYTES_MAX + DRAIN_BYTES + 2 * RECEIVE_BUFFER_BYTES
            for _ in range(whole // DRAIN_BYTES + 1):
                slow.drains.release()
            await done.wait()
            await sending
        assert slow.taken == whole
        association.abort()


# The data set alone, without an association.


class Ledger:
    def __init__(self, refuse_at: int) -> None:
        self.content = b""
        self._refuse_at = refuse_at

    def add(self, piece: bytes | memoryview) -> None:
        if len(self.content) >= self._refuse_at:
            raise InvalidRequest("not what was announced")
        self.content += piece

    async def drain(self) -> None:
        return None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=400_000), max_size=8),
    st.integers(0, 8),
    st.integers(0, 2_000_000),
)
def test_however_it_arrives_it_is_passed_on_whole_or_refused_once(
    pieces: list[bytes], before: int, refuse_at: int
) -> None:
    holds: list[bool] = []
    reads: list[bool] = []

    async def run() -> None:
        inflow, taker = Inflow(holds.append, reads.append), Ledger(refuse_at)
        for piece in pieces[:before]:
            inflow.write(memoryview(piece))
        reading = asyncio.create_task(inflow.into(taker))
        await asyncio.sleep(0)
        for piece in pieces[before:]:
            inflow.write(memoryview(piece))
            await asyncio.sleep(0)
        inflow.finish()
        whole = b"".join(pieces)
        try:
            await reading
        except InvalidRequest:
            assert whole.startswith(taker.content) and len(taker.content) >= refuse_at
        else:
            assert taker.content == whole
        await inflow.dropped()

    asyncio.run(run())
    assert not holds or not holds[-1]
    assert not reads[-1]
    assert all(one is not other for one, other in pairwise(holds))
