"""Peers that mean harm to the DIMSE door: cut off by the standard's words, at little cost, while others are served.

The door is a process of its own, so that what an attack costs it can be read: no hostile input makes it grow by more
than 64 MB (G8), none leaves a descriptor or a fault in its log, and under each another peer's C-ECHO is answered (G7).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from dimse.upper_layer import pdu
from dimse.upper_layer.commands import Command, CommandField, decode_command, encode_command
from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST
from dimse.upper_layer.pdu import AbortReason, AbortSource, PduType
from tests.dimse.besieged import ATTACKER, HANG_S, Besieged, running
from tests.dimse.door import EXPLICIT, STUDY_ROOT, VERIFICATION, client, identifier, proposal
from tests.dimse.scripted import ScriptedPeer, caller
from tests.dimse.storing import CT
from tests.sharing.rows import ANNE

pytestmark = pytest.mark.asyncio(loop_scope="module")

Attack = Callable[[ScriptedPeer], Coroutine[None, None, None]]

GROWTH_BYTES_MAX = 64 * 1024 * 1024
DESCRIPTORS_MAX = 8
"""More than before, once an attack is over: what the interpreter keeps open by itself."""
DEFLATED = "1.2.840.10008.1.2.1.99"
REQUEST = proposal(VERIFICATION, STUDY_ROOT, CT, calling=ATTACKER, syntaxes=(EXPLICIT,))
ECHO_CONTEXT, FIND_CONTEXT, STORE_CONTEXT = 1, 3, 5
ECHO = encode_command(Command(CommandField.C_ECHO_RQ, 1, sop_class_uid=VERIFICATION))
FIND = encode_command(Command(CommandField.C_FIND_RQ, 1, sop_class_uid=STUDY_ROOT, has_data=True, priority=0))
STORE = encode_command(
    Command(CommandField.C_STORE_RQ, 1, sop_class_uid=CT, sop_instance_uid="1.2.3", has_data=True, priority=0)
)
LIMIT = (AbortSource.PROVIDER, AbortReason.NOT_SPECIFIED)
INVALID = (AbortSource.PROVIDER, AbortReason.INVALID_PARAMETER)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Besieged]:
    """The door, as every attack of this module finds it."""
    async with running(tmp_path_factory.mktemp("besieged")) as besieged:
        yield besieged
    assert besieged.log.read_text(encoding="utf-8") == "", "no fault is logged, whatever came"


def p_data(*fragments: tuple[int, int, bytes]) -> bytes:
    """One P-DATA PDU of these fragments."""
    body = b"".join(struct.pack(">IBB", len(data) + 2, context, control) + data for context, control, data in fragments)
    return struct.pack(">BBI", PduType.P_DATA, 0, len(body)) + body


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """A data element in Explicit VR Little Endian, of a short VR."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


async def associated(peer: ScriptedPeer, request: pdu.AssociateRequest = REQUEST) -> None:
    await peer.send(request)
    assert await peer.hear_kind() == PduType.ASSOCIATE_AC


async def cut_off(peer: ScriptedPeer, pieces: Iterator[bytes], abort: tuple[int, int]) -> None:
    """Send on until the door has had enough; it must say this, and nothing more."""
    hearing = asyncio.create_task(peer.hear())
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)
            if hearing.done():
                break
    async with asyncio.timeout(HANG_S):
        kind, body = await hearing
    assert (kind, *body[2:]) == (PduType.ABORT, *abort)
    assert await peer.rest() == b""


# --- hostile input ---


def endless(piece: bytes) -> Iterator[bytes]:
    """The piece, for as long as somebody takes it, but not more than 256 MB."""
    for _ in range(256 * 1024 * 1024 // len(piece)):
        yield piece
    raise AssertionError("nobody stopped it")


NOISE = bytes(100_000)


async def a_request_of_four_gigabytes(peer: ScriptedPeer) -> None:
    await peer.send(b"\x01\0\xff\xff\xff\xff")
    await cut_off(peer, endless(NOISE), LIMIT)


async def data_of_four_gigabytes(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(b"\x04\0\xff\xff\xff\xff")
    await cut_off(peer, endless(NOISE), INVALID)


async def a_fragment_of_four_gigabytes(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(b"\x04\0\0\1\0\0" + b"\xff\xff\xff\xff\1\3")
    await cut_off(peer, endless(NOISE), INVALID)


async def a_release_of_four_gigabytes(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(b"\x05\0\xff\xff\xff\xff")
    await cut_off(peer, endless(NOISE), INVALID)


async def a_command_without_an_end(peer: ScriptedPeer) -> None:
    await associated(peer)
    await cut_off(peer, endless(p_data((ECHO_CONTEXT, IS_COMMAND, bytes(10_000)))), LIMIT)


async def a_command_of_nothing_without_an_end(peer: ScriptedPeer) -> None:
    await associated(peer)
    await cut_off(peer, endless(p_data(*[(ECHO_CONTEXT, IS_COMMAND, b"")] * 1_000)), LIMIT)


async def an_identifier_without_an_end(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND)))
    await cut_off(peer, endless(p_data((FIND_CONTEXT, 0, NOISE))), LIMIT)


async def an_identifier_of_single_bytes_without_an_end(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND)))
    await cut_off(peer, endless(p_data(*[(FIND_CONTEXT, 0, b".")] * 1_000)), LIMIT)


async def an_image_of_single_bytes_without_an_end(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(p_data((STORE_CONTEXT, IS_COMMAND | IS_LAST, STORE)))
    await cut_off(peer, endless(p_data(*[(STORE_CONTEXT, 0, b".")] * 1_000)), LIMIT)


async def requests_without_an_end(peer: ScriptedPeer) -> None:
    """All at once, without waiting for an answer or reading one."""
    await associated(peer)
    commands = [Command(CommandField.C_ECHO_RQ, number, sop_class_uid=VERIFICATION) for number in range(1, 10_000)]
    flood = b"".join(p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, encode_command(each))) for each in commands)
    with contextlib.suppress(ConnectionError):
        await peer.send(flood)
    heard = await peer.rest()
    assert heard == b"" or heard.endswith(pdu.encode(pdu.Abort(*LIMIT)))


async def association_requests_without_an_end(peer: ScriptedPeer) -> None:
    """Each is answered with an A-ABORT, none of which is read."""
    await associated(peer)
    with contextlib.suppress(ConnectionError):
        await peer.send(*[pdu.encode(REQUEST)] * 20_000)
    await peer.rest()


async def cancels_without_an_end(peer: ScriptedPeer) -> None:
    await associated(peer)
    cancels = [Command(CommandField.C_CANCEL_RQ, number) for number in range(1, 20_000)]
    await peer.send(
        b"".join(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, encode_command(each))) for each in cancels),
        p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, ECHO)),
    )
    assert await peer.hear_kind() == PduType.P_DATA


async def responses_that_nobody_waits_for(peer: ScriptedPeer) -> None:
    await associated(peer)
    answered = Command(CommandField.C_FIND_RSP, 1, sop_class_uid=STUDY_ROOT, status=0xFF00)
    await cut_off(
        peer, endless(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, encode_command(answered)))), (AbortSource.USER, 0)
    )


async def answers_that_are_never_read(peer: ScriptedPeer) -> None:
    """Twelve megabytes of rows, asked for and left lying: more than the network holds."""
    await associated(peer)
    keys = {0x00080052: (b"CS", b"STUDY "), 0x0020000D: (b"UI", b""), 0x00100020: (b"LO", ANNE.digits.encode())}
    keys |= dict.fromkeys(range(1576960, 1576960 + 300), (b"LO", b""))
    question = b"".join(element(tag, *keys[tag]) for tag in sorted(keys))
    await peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND), (FIND_CONTEXT, IS_LAST, question)))
    cancel = encode_command(Command(CommandField.C_CANCEL_RQ, 99))
    async with asyncio.timeout(HANG_S):
        with pytest.raises(ConnectionError):
            while True:  # whether it is gone is seen only by sending on
                await peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, cancel)))
                await asyncio.sleep(0.05)


async def refused(peer: ScriptedPeer, identifier_: bytes, syntax: str = EXPLICIT) -> None:
    """Ask with this identifier, which must be refused with A900, and not at the cost of the association."""
    await associated(peer, proposal(VERIFICATION, STUDY_ROOT, calling=ATTACKER, syntaxes=(syntax,)))
    pieces = [identifier_[start : start + 100_000] for start in range(0, len(identifier_), 100_000)]
    await peer.send(
        p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND)),
        *[p_data((FIND_CONTEXT, 0, piece)) for piece in pieces],
        p_data((FIND_CONTEXT, IS_LAST, b"")),
    )
    kind, body = await peer.hear()
    assert kind == PduType.P_DATA
    assert decode_command(body[6:]).status == 0xA900
    await peer.send(pdu.ReleaseRequest())
    assert await peer.hear_kind() == PduType.RELEASE_RP


async def an_identifier_that_inflates_a_thousandfold(peer: ScriptedPeer) -> None:
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    await refused(peer, stream.compress(bytes(200_000_000)) + stream.flush(), DEFLATED)


async def an_identifier_of_sequences_in_sequences(peer: ScriptedPeer) -> None:
    inside = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    await refused(peer, inside * 12_000)


async def an_identifier_of_many_elements(peer: ScriptedPeer) -> None:
    await refused(peer, b"".join(element(0x00100000 + number, b"LO", b"") for number in range(0x7000)))


async def an_identifier_of_many_values(peer: ScriptedPeer) -> None:
    values = b"\\".join(b"1.2.%d" % number for number in range(9_000))[:65_534]
    await refused(peer, element(0x00080052, b"CS", b"STUDY ") + element(0x0020000D, b"UI", values))


async def an_identifier_of_wildcards(peer: ScriptedPeer) -> None:
    """Whatever is matched against it must not try every way."""
    pattern = b"*a" * 30 + b"*b"
    await refused(
        peer,
        element(0x00080052, b"CS", b"STUDY ")
        + element(0x00100010, b"PN", pattern)
        + element(0x00100020, b"LO", b"*" * 60_000),
    )


async def a_request_of_many_items(peer: ScriptedPeer) -> None:
    encoded = pdu.encode(REQUEST)
    body = encoded[6:] + b"\x77\0\0\0" * 50_000
    await peer.send(encoded[:2] + struct.pack(">I", len(body)) + body)
    await cut_off(peer, iter(()), INVALID)


async def a_request_of_a_hundred_and_thirty_contexts(peer: ScriptedPeer) -> None:
    context = b"\x30\0\0\x111.2.840.10008.1.1\x40\0\0\x111.2.840.10008.1.2"
    items = [struct.pack(">BxHBxxx", 0x20, len(context) + 4, 2 * n % 256 + 1) + context for n in range(130)]
    encoded = pdu.encode(REQUEST)
    body = encoded[6:74] + encoded[74:99] + b"".join(items) + encoded[encoded.index(b"\x50\0\0") :]
    await peer.send(encoded[:2] + struct.pack(">I", len(body)) + body)
    await cut_off(peer, iter(()), INVALID)


async def a_request_with_a_context_twice(peer: ScriptedPeer) -> None:
    encoded = pdu.encode(REQUEST)
    at = encoded.index(b"\x20\0\0", 74)
    end = at + 4 + struct.unpack_from(">H", encoded, at + 2)[0]
    body = encoded[6:end] + encoded[at:]
    await peer.send(encoded[:2] + struct.pack(">I", len(body)) + body)
    await cut_off(peer, iter(()), INVALID)


async def a_request_without_titles(peer: ScriptedPeer) -> None:
    await peer.send(replace(REQUEST, calling_ae_title=""))
    assert await peer.hear() == (PduType.ASSOCIATE_RJ, b"\0\1\1\3")


async def a_request_with_a_megabyte_of_identity(peer: ScriptedPeer) -> None:
    identity = pdu.UserIdentity(5, True, b"a" * 65_000)
    await associated(peer, replace(REQUEST, user=replace(REQUEST.user, identity=identity)))


async def a_reset_in_the_middle_of_a_pdu(peer: ScriptedPeer) -> None:
    await associated(peer)
    await peer.send(p_data((STORE_CONTEXT, IS_COMMAND | IS_LAST, STORE)), p_data((STORE_CONTEXT, 0, NOISE))[:-1])
    peer.hang_up(with_reset=True)


ATTACKS: list[Attack] = [
    a_request_of_four_gigabytes,
    data_of_four_gigabytes,
    a_fragment_of_four_gigabytes,
    a_release_of_four_gigabytes,
    a_command_without_an_end,
    a_command_of_nothing_without_an_end,
    an_identifier_without_an_end,
    an_identifier_of_single_bytes_without_an_end,
    an_image_of_single_bytes_without_an_end,
    requests_without_an_end,
    association_requests_without_an_end,
    cancels_without_an_end,
    responses_that_nobody_waits_for,
    answers_that_are_never_read,
    an_identifier_that_inflates_a_thousandfold,
    an_identifier_of_sequences_in_sequences,
    an_identifier_of_many_elements,
    an_identifier_of_many_values,
    an_identifier_of_wildcards,
    a_request_of_many_items,
    a_request_of_a_hundred_and_thirty_contexts,
    a_request_with_a_context_twice,
    a_request_without_titles,
    a_request_with_a_megabyte_of_identity,
    a_reset_in_the_middle_of_a_pdu,
]


async def others_are_served(door: Besieged) -> None:
    """Another peer's whole association: C-ECHO, a query of its own, a release."""
    async with asyncio.timeout(HANG_S), client(door.port) as other:
        assert await other.echo() == 0x0000
        await other.association.release()


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
        attacking = asyncio.create_task(attack(peer))
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
        assert door.descriptors() >= descriptors + 1_000
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
        await asyncio.gather(*map(associated, idle))
        dripping = [asyncio.create_task(drip(peer)) for peer in slow]
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


async def drip(peer: ScriptedPeer) -> None:
    """An association and an echo, byte by byte."""
    for byte in pdu.encode(REQUEST):
        await peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await peer.hear_kind() == PduType.ASSOCIATE_AC
    for byte in p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, ECHO)):
        await peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await peer.hear_kind() == PduType.P_DATA


async def test_a_thousand_resets_leave_nothing_behind(door: Besieged) -> None:
    descriptors, before = door.descriptors(), door.resident_bytes()
    for number in range(1_000):
        peer = await silent(door.port)
        await peer.send(pdu.encode(REQUEST)[: 1 + number % 300])
        peer.hang_up(with_reset=True)
    await others_are_served(door)
    await until_gone(door, descriptors)
    assert door.resident_bytes() - before <= GROWTH_BYTES_MAX
