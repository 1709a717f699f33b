"""Attacks on the DIMSE door of a running gateway: who may connect, what may be said, what it costs (G7, G8, G10)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from dimse.upper_layer import pdu
from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST
from dimse.upper_layer.pdu import PduType
from gateway.demo.callers.answer import Outcome
from gateway.demo.cast import ANNE
from gateway.demo.configuration import AE_TITLES, GATEWAY_AE_TITLE, PACS_CALLER, VIEWER
from tests.attacks.attacked import ATTACKER, HANG_GUARD_S, AttackedRegion
from tests.attacks.test_hostile_archives import GROWTH_BYTES_MAX, forget_peak, resident_bytes
from tests.dimse import hostile
from tests.dimse.door import VERIFICATION, proposal
from tests.dimse.hostile import ECHO, ECHO_CONTEXT, Attack, Attacker, p_data
from tests.dimse.scripted import ScriptedPeer

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASSOCIATIONS_OF_ONE_CALLER = 64
BAD = [None, "of another authority", "expired", "not yet valid", "revoked"]
OVER_THE_LIMIT = pdu.encode(pdu.LOCAL_LIMIT_EXCEEDED)[6:]
STRANGER = pdu.encode(pdu.CALLING_AE_TITLE_NOT_RECOGNISED)[6:]


def attacker(peer: ScriptedPeer, caller: str = VIEWER) -> Attacker:
    """A peer under a caller's title."""
    return Attacker(peer, AE_TITLES[caller], GATEWAY_AE_TITLE)


async def echo(peer: ScriptedPeer) -> int:
    """What comes to a C-ECHO; 0: the end."""
    await peer.send(p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, ECHO)))
    return await peer.hear_kind()


async def is_let_in(region: AttackedRegion, certificate: str | None, version: ssl.TLSVersion | None = None) -> bool:
    """Whether a C-ECHO over such a connection is answered."""
    try:
        async with region.dimse_peer(certificate, version=version) as peer, asyncio.timeout(HANG_GUARD_S):
            await peer.send(attacker(peer).request(VERIFICATION))
            return await peer.hear_kind() == PduType.ASSOCIATE_AC and await echo(peer) == PduType.P_DATA
    except (ssl.SSLError, ConnectionError):
        return False


async def others_are_served(region: AttackedRegion) -> None:
    """The viewer of Northmoor echoes and finds, on an association of its own."""
    assert await is_let_in(region, VIEWER)
    async with asyncio.timeout(HANG_GUARD_S):
        async with region.workstation(VIEWER) as workstation:
            found = await workstation.studies(PatientID=ANNE.nhs_number)
    assert found.outcome is Outcome.ANSWERED and found.studies


# --- who may connect ---


@pytest.mark.parametrize("certificate", BAD, ids=str)
async def test_a_bad_certificate_gets_no_association(attacked: AttackedRegion, certificate: str | None) -> None:
    assert await is_let_in(attacked, VIEWER)
    assert not await is_let_in(attacked, certificate)


@pytest.mark.parametrize("certificate", ["stranger", PACS_CALLER, "gateway"])
async def test_a_certificate_with_the_title_of_another_is_nobody(attacked: AttackedRegion, certificate: str) -> None:
    async with attacked.dimse_peer(certificate) as peer:
        await peer.send(attacker(peer, VIEWER).request(VERIFICATION))
        assert await peer.hear() == (PduType.ASSOCIATE_RJ, STRANGER)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_not_spoken(attacked: AttackedRegion, version: ssl.TLSVersion) -> None:
    assert not await is_let_in(attacked, VIEWER, version)
    assert await is_let_in(attacked, VIEWER, ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    "said",
    [pdu.encode(proposal()), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(5_000)],
    ids=["dicom", "http", "noughts"],
)
async def test_whoever_speaks_no_tls_is_answered_nothing_readable(attacked: AttackedRegion, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", attacked.dimse_port)
    received = b""
    async with asyncio.timeout(HANG_GUARD_S):
        with suppress(ConnectionError):
            writer.write(said)
            received = await reader.read()
    writer.transport.abort()
    assert len(received) < 100 and not received.startswith((b"\x02", b"\x03", b"HTTP"))


# --- what may be said, and what it costs ---


ATTACKS: tuple[Attack, ...] = (
    hostile.a_request_of_four_gigabytes,
    hostile.data_of_four_gigabytes,
    hostile.a_command_without_an_end,
    hostile.a_command_of_nothing_without_an_end,
    hostile.an_identifier_without_an_end,
    hostile.an_identifier_of_single_bytes_without_an_end,
    hostile.requests_without_an_end,
    hostile.association_requests_without_an_end,
    hostile.cancels_without_an_end,
    hostile.responses_that_nobody_waits_for,
    hostile.an_identifier_that_inflates_a_thousandfold,
    hostile.an_identifier_of_sequences_in_sequences,
    hostile.an_identifier_of_many_elements,
    hostile.an_identifier_of_many_values,
    hostile.an_identifier_of_wildcards,
    hostile.a_request_of_many_items,
    hostile.a_request_with_a_context_twice,
)


def faults(region: AttackedRegion) -> int:
    """How many faults the gateway has logged."""
    return (region.folder / "gateway.log").read_text(encoding="utf-8").count('"level":"error"')


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.replace("_", " "))
async def test_an_attack_is_cut_off_at_little_cost_while_others_are_served(
    attacked: AttackedRegion, attack: Attack
) -> None:
    await others_are_served(attacked)
    before, faults_before = resident_bytes(attacked), faults(attacked)
    forget_peak(attacked)
    async with attacked.dimse_peer(PACS_CALLER, ATTACKER) as peer:
        attacking = asyncio.create_task(attack(attacker(peer, PACS_CALLER)))
        await others_are_served(attacked)
        async with asyncio.timeout(2 * HANG_GUARD_S):
            await attacking
    assert resident_bytes(attacked, "VmHWM") - before <= GROWTH_BYTES_MAX
    assert faults(attacked) == faults_before


# --- many at once ---


async def test_idle_silent_and_slow_peers_of_one_caller_leave_others_served(attacked: AttackedRegion) -> None:
    """One caller fills its own share and no other's; past it there is a rejection, at once."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(attacked.dimse_peer(PACS_CALLER, ATTACKER))
            for _ in range(ASSOCIATIONS_OF_ONE_CALLER + 10)
        ]
        for peer in opened[:ASSOCIATIONS_OF_ONE_CALLER]:
            await attacker(peer, PACS_CALLER).associate()
        for peer in opened[ASSOCIATIONS_OF_ONE_CALLER:]:
            await peer.send(attacker(peer, PACS_CALLER).request())
            assert await peer.hear() == (PduType.ASSOCIATE_RJ, OVER_THE_LIMIT)
        for _ in range(100):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", attacked.dimse_port), source_address=(ATTACKER, 0))
            )
        slow = [await stack.enter_async_context(attacked.dimse_peer(PACS_CALLER, ATTACKER)) for _ in range(10)]
        dripping = [asyncio.create_task(drip(each)) for each in slow]
        await others_are_served(attacked)
        await asyncio.gather(*dripping)
    await others_are_served(attacked)


async def drip(peer: ScriptedPeer) -> None:
    """A request byte by byte; it ends as all of this caller do now."""
    for byte in pdu.encode(attacker(peer, PACS_CALLER).request()):
        await peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await peer.hear() == (PduType.ASSOCIATE_RJ, OVER_THE_LIMIT)


async def test_after_all_that_the_gateway_has_no_more_descriptors_open(attacked: AttackedRegion) -> None:
    assert attacked.gateway is not None
    descriptors = partial(open_descriptors, attacked.gateway.pid)
    await others_are_served(attacked)
    before = descriptors()
    for attack in (hostile.data_of_four_gigabytes, hostile.a_reset_in_the_middle_of_a_pdu):
        async with attacked.dimse_peer(PACS_CALLER, ATTACKER) as peer:
            await attack(attacker(peer, PACS_CALLER))
    async with asyncio.timeout(HANG_GUARD_S):
        while descriptors() > before + 8:
            await others_are_served(attacked)


def open_descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
