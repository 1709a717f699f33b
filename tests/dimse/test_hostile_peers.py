"""Peers that mean harm to the DIMSE door: cut off by the standard's words, at little cost, while others are served.

The door is a process of its own, so that what an attack costs it can be read: no hostile input makes it grow by more
than 64 MB (G8), none leaves a descriptor or a fault in its log, and under each another peer's C-ECHO is answered (G7).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dimse.upper_layer import pdu
from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST
from dimse.upper_layer.pdu import PduType
from tests.dimse.besieged import ATTACKER, Besieged, running
from tests.dimse.door import OURS, client, identifier
from tests.dimse.hostile import ATTACKS, ECHO, ECHO_CONTEXT, Attack, Attacker, p_data
from tests.dimse.scripted import HANG_S, ScriptedPeer, caller
from tests.sharing.rows import ANNE

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROWTH_BYTES_MAX = 64 * 1024 * 1024
DESCRIPTORS_MAX = 8
"""More than before, once an attack is over: what the interpreter keeps open by itself."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Besieged]:
    """The door, as every attack of this module finds it."""
    async with running(tmp_path_factory.mktemp("besieged")) as besieged:
        yield besieged
    assert besieged.log.read_text(encoding="utf-8") == "", "no fault is logged, whatever came"


async def others_are_served(door: Besieged) -> None:
    """Another peer's whole association: C-ECHO, a query of its own, a release."""
    async with asyncio.timeout(HANG_S), client(door.port) as other:
        assert await other.echo() == 0x0000
        await other.association.release()


async def until_open(door: Besieged, count: int) -> None:
    """Wait until the door has taken so many connections."""
    async with asyncio.timeout(HANG_S):
        while door.descriptors() < count:
            await others_are_served(door)


async def until_gone(door: Besieged, before: int) -> None:
    """Wait until the door has closed what attackers left."""
    async with asyncio.timeout(HANG_S):
        while door.descriptors() > before + DESCRIPTORS_MAX:
            await others_are_served(door)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.replace("_", " "))
async def test_an_attack_is_cut_off_at_little_cost_while_others_are_served(door: Besieged, attack: Attack) -> None:
    await others_are_served(door)
    before, descriptors = door.resident_bytes(), door.descriptors()
    door.forget_peak()
    async with caller(door.port, receive_bytes=4_096) as peer:
        attacking = asyncio.create_task(attack(Attacker(peer, ATTACKER, OURS)))
        await others_are_served(door)
        async with asyncio.timeout(2 * HANG_S):
            await attacking
    assert door.resident_bytes("VmHWM") - before <= GROWTH_BYTES_MAX
    await until_gone(door, descriptors)
    await others_are_served(door)


# --- many at once ---


async def silent(port: int) -> ScriptedPeer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return ScriptedPeer(reader, writer)


async def test_a_thousand_connections_that_say_nothing_leave_others_served(door: Besieged) -> None:
    descriptors = door.descriptors()
    peers = [peer for _ in range(10) for peer in await asyncio.gather(*(silent(door.port) for _ in range(100)))]
    try:
        await until_open(door, descriptors + 1_000)
        await others_are_served(door)
        for peer in peers[::2]:
            await peer.send(b"\x01")
        await others_are_served(door)
    finally:
        for peer in peers:
            peer.hang_up(with_reset=True)
    await until_gone(door, descriptors)


async def test_idle_silent_and_slow_peers_together_leave_others_served(door: Besieged) -> None:
    """G7: 300 idle associations, 300 silent connections and 30 that send byte by byte, all of one peer."""
    await others_are_served(door)
    before, descriptors = door.resident_bytes(), door.descriptors()
    peers = [peer for _ in range(6) for peer in await asyncio.gather(*(silent(door.port) for _ in range(105)))]
    idle, slow = peers[:300], peers[600:]
    try:
        await asyncio.gather(*(Attacker(peer, ATTACKER, OURS).associate() for peer in idle))
        dripping = [asyncio.create_task(drip(Attacker(peer, ATTACKER, OURS))) for peer in slow]
        await others_are_served(door)
        async with asyncio.timeout(HANG_S), client(door.port) as other:
            found = await other.find(identifier("STUDY", PatientID=ANNE.digits, StudyInstanceUID=None))
            assert found.end[0] == 0x0000 and found.rows
        assert not any(task.done() for task in dripping)
        await asyncio.gather(*dripping)  # slow is no crime: they get their echo
        assert door.resident_bytes() - before <= GROWTH_BYTES_MAX
    finally:
        for peer in peers:
            peer.hang_up(with_reset=True)
    await until_gone(door, descriptors)


async def drip(attacker: Attacker) -> None:
    """An association and an echo, byte by byte."""
    for byte in pdu.encode(attacker.request()):
        await attacker.peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await attacker.peer.hear_kind() == PduType.ASSOCIATE_AC
    for byte in p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, ECHO)):
        await attacker.peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await attacker.peer.hear_kind() == PduType.P_DATA


async def test_a_thousand_resets_leave_nothing_behind(door: Besieged) -> None:
    descriptors, before = door.descriptors(), door.resident_bytes()
    for number in range(1_000):
        peer = await silent(door.port)
        await peer.send(pdu.encode(Attacker(peer, ATTACKER, OURS).request())[: 1 + number % 300])
        peer.hang_up(with_reset=True)
    await others_are_served(door)
    await until_gone(door, descriptors)
    assert door.resident_bytes() - before <= GROWTH_BYTES_MAX
