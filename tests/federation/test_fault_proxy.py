"""The fault proxy itself: what a seed chooses is told again by the same seed, and each fault is what its name says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.fault_proxy import FaultProxy
from tests.peers.faults import (
    AFTER_BYTES_MAX,
    DELAY_S_MAX,
    GARBAGE,
    STALL_S_MAX,
    TRICKLED_BYTES_MAX,
    Direction,
    Fault,
    Plan,
    always,
    seeded,
)

HANG_S = 30.0
CONTENT = b"0123456789"
seeds = st.integers(0, 2**63)
directions = st.sampled_from(Direction)


@given(seeds, st.text(max_size=4), st.integers(0, 10_000), directions)
def test_a_plan_depends_on_nothing_but_seed_place_connection_and_direction(
    seed: int, place: str, connection: int, direction: Direction
) -> None:
    before = seeded(seed, place)
    for other in range(3):
        before(other, Direction.ANSWERING)  # whoever else connects, and when, changes nothing
    assert before(connection, direction) == seeded(seed, place)(connection, direction)


def test_a_plan_is_the_same_in_another_process() -> None:
    program = "from tests.peers.faults import *; print(seeded(42, 'RZ4')(7, Direction.ANSWERING))"
    printed = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    }
    assert printed == {str(seeded(42, "RZ4")(7, Direction.ANSWERING))}


@given(seeds, st.integers(0, 10_000), directions)
def test_every_plan_is_bounded(seed: int, connection: int, direction: Direction) -> None:
    plan = seeded(seed, "RZ4")(connection, direction)
    assert 0 <= plan.after_bytes < AFTER_BYTES_MAX
    assert 0 <= plan.lasts_s <= max(DELAY_S_MAX, STALL_S_MAX)
    assert 0 <= plan.bytes_hit <= TRICKLED_BYTES_MAX


def test_every_fault_and_honesty_are_drawn_and_places_and_directions_differ() -> None:
    drawn = Counter(seeded(1, "RZ4")(number, Direction.ASKING).fault for number in range(1_000))
    assert set(drawn) == set(Fault)
    assert 400 < drawn[Fault.NONE] < 600
    plans = {
        (place, direction): [seeded(1, place)(number, direction) for number in range(20)]
        for place in ("RZ4", "RZ5")
        for direction in Direction
    }
    assert len({str(each) for each in plans.values()}) == len(plans)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


@asynccontextmanager
async def before_an_echo() -> AsyncIterator[tuple[FaultProxy, list[bytes]]]:
    """A proxy before a server that gives back what it hears; and what that server heard of each connection."""
    heard: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        try:
            while content := await reader.read(1024):
                received += content
                writer.write(content)
                await writer.drain()
            writer.write_eof()
        except ConnectionError:
            pass
        finally:
            heard.append(received)
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy, heard


async def said(port: int, content: bytes = CONTENT) -> bytes:
    """Say this and hear what comes back until the connection ends."""
    async with asyncio.timeout(HANG_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        back = b""
        try:
            writer.write(content)
            writer.write_eof()
            while piece := await reader.read(1024):
                back += piece
        except ConnectionError:
            pass
        finally:
            writer.close()
        return back


@pytest.mark.parametrize(
    ("plan", "comes_back"),
    [
        (Plan(), CONTENT),
        (Plan(Fault.DELAY, 3, lasts_s=0.01), CONTENT),
        (Plan(Fault.TRICKLE, 3, bytes_hit=4), CONTENT),
        (Plan(Fault.CUT, 3), CONTENT[:3]),
        (Plan(Fault.HALF_CLOSE, 3), CONTENT[:3]),
        (Plan(Fault.STALL, 3, lasts_s=0.01), CONTENT[:3]),
        (Plan(Fault.GARBLE, 3, bytes_hit=2), CONTENT[:3] + bytes([GARBAGE]) * 2 + CONTENT[5:]),
        (Plan(Fault.CUT, len(CONTENT)), CONTENT),
    ],
    ids=lambda value: str(value.fault) if isinstance(value, Plan) else "",
)
async def test_each_fault_is_what_its_name_says_in_the_answer(plan: Plan, comes_back: bytes) -> None:
    async with before_an_echo() as (proxy, _):
        await proxy.behave(always(answering=plan))
        assert await said(proxy.port) == comes_back
        hit = plan.fault is not Fault.NONE and plan.after_bytes < len(CONTENT)
        assert proxy.met == ({plan.fault: 1} if hit else {})


async def test_a_half_closed_question_is_answered_as_far_as_it_came() -> None:
    async with before_an_echo() as (proxy, heard):
        await proxy.behave(always(asking=Plan(Fault.HALF_CLOSE, 4)))
        assert await said(proxy.port) == CONTENT[:4]
    assert heard == [CONTENT[:4]]


async def test_a_reset_is_heard_by_both_ends() -> None:
    async with before_an_echo() as (proxy, _):
        await proxy.behave(always(answering=Plan(Fault.RESET)))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(CONTENT)
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(HANG_S):
                await reader.read()
        writer.close()


async def test_a_proxy_that_is_down_refuses_and_is_back_on_the_same_port() -> None:
    async with before_an_echo() as (proxy, _):
        port = proxy.port
        async with proxy.down():
            with pytest.raises(ConnectionRefusedError):
                await said(port)
        assert await said(port) == CONTENT
        assert proxy.port == port


async def test_a_proxy_that_is_deaf_neither_takes_nor_refuses() -> None:
    async with before_an_echo() as (proxy, _):
        async with proxy.deaf():
            connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", proxy.port))
            done, _ = await asyncio.wait({connecting}, timeout=0.2)
            assert not done
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        assert await said(proxy.port) == CONTENT


async def test_connections_are_numbered_from_the_latest_change_on() -> None:
    async with before_an_echo() as (proxy, _):
        numbers: list[int] = []

        def plans(connection: int, _direction: Direction) -> Plan:
            numbers.append(connection)
            return Plan()

        for _ in range(2):
            await proxy.behave(plans)
            assert await said(proxy.port) == await said(proxy.port)
    assert numbers == [0, 0, 1, 1] * 2
