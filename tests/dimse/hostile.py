"""What peers that mean harm send to a DIMSE door, and how it must answer: lengths, floods, and ends that never come.

Each attack is a coroutine over one connection; whoever runs them sees to what they cost and to whom else is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace

import pytest

from dimse.upper_layer import pdu
from dimse.upper_layer.commands import Command, CommandField, decode_command, encode_command
from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST
from dimse.upper_layer.pdu import AbortReason, AbortSource, PduType
from tests.dimse.door import EXPLICIT, STUDY_ROOT, VERIFICATION, proposal
from tests.dimse.scripted import HANG_S, ScriptedPeer
from tests.dimse.storing import CT
from tests.sharing.rows import ANNE

DEFLATED = "1.2.840.10008.1.2.1.99"
ECHO_CONTEXT, FIND_CONTEXT, STORE_CONTEXT = 1, 3, 5
ECHO = encode_command(Command(CommandField.C_ECHO_RQ, 1, sop_class_uid=VERIFICATION))
FIND = encode_command(Command(CommandField.C_FIND_RQ, 1, sop_class_uid=STUDY_ROOT, has_data=True, priority=0))
STORE = encode_command(
    Command(CommandField.C_STORE_RQ, 1, sop_class_uid=CT, sop_instance_uid="1.2.3", has_data=True, priority=0)
)
LIMIT = (AbortSource.PROVIDER, AbortReason.NOT_SPECIFIED)
INVALID = (AbortSource.PROVIDER, AbortReason.INVALID_PARAMETER)


@dataclass(frozen=True, slots=True)
class Attacker:
    """One connection, and the titles under which it may have an association."""

    peer: ScriptedPeer
    calling: str
    called: str

    def request(self, *abstract_syntaxes: str, syntax: str = EXPLICIT) -> pdu.AssociateRequest:
        """Its request; for echo, find and store unless it says other."""
        contexts = abstract_syntaxes or (VERIFICATION, STUDY_ROOT, CT)
        return proposal(*contexts, calling=self.calling, called=self.called, syntaxes=(syntax,))

    async def associate(self, request: pdu.AssociateRequest | None = None) -> None:
        """Have an association."""
        await self.peer.send(request or self.request())
        assert await self.peer.hear_kind() == PduType.ASSOCIATE_AC


Attack = Callable[[Attacker], Coroutine[None, None, None]]


def p_data(*fragments: tuple[int, int, bytes]) -> bytes:
    """One P-DATA PDU of these fragments."""
    body = b"".join(struct.pack(">IBB", len(data) + 2, context, control) + data for context, control, data in fragments)
    return struct.pack(">BBI", PduType.P_DATA, 0, len(body)) + body


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """A data element in Explicit VR Little Endian, of a short VR."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


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


async def a_request_of_four_gigabytes(attacker: Attacker) -> None:
    await attacker.peer.send(b"\x01\0\xff\xff\xff\xff")
    await cut_off(attacker.peer, endless(NOISE), LIMIT)


async def data_of_four_gigabytes(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(b"\x04\0\xff\xff\xff\xff")
    await cut_off(attacker.peer, endless(NOISE), INVALID)


async def a_fragment_of_four_gigabytes(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(b"\x04\0\0\1\0\0" + b"\xff\xff\xff\xff\1\3")
    await cut_off(attacker.peer, endless(NOISE), INVALID)


async def a_release_of_four_gigabytes(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(b"\x05\0\xff\xff\xff\xff")
    await cut_off(attacker.peer, endless(NOISE), INVALID)


async def a_command_without_an_end(attacker: Attacker) -> None:
    await attacker.associate()
    await cut_off(attacker.peer, endless(p_data((ECHO_CONTEXT, IS_COMMAND, bytes(10_000)))), LIMIT)


async def a_command_of_nothing_without_an_end(attacker: Attacker) -> None:
    await attacker.associate()
    await cut_off(attacker.peer, endless(p_data(*[(ECHO_CONTEXT, IS_COMMAND, b"")] * 1_000)), LIMIT)


async def an_identifier_without_an_end(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND)))
    await cut_off(attacker.peer, endless(p_data((FIND_CONTEXT, 0, NOISE))), LIMIT)


async def an_identifier_of_single_bytes_without_an_end(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND)))
    await cut_off(attacker.peer, endless(p_data(*[(FIND_CONTEXT, 0, b".")] * 1_000)), LIMIT)


async def an_image_of_single_bytes_without_an_end(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(p_data((STORE_CONTEXT, IS_COMMAND | IS_LAST, STORE)))
    await cut_off(attacker.peer, endless(p_data(*[(STORE_CONTEXT, 0, b".")] * 1_000)), LIMIT)


async def requests_without_an_end(attacker: Attacker) -> None:
    """All at once, without waiting for an answer or reading one."""
    await attacker.associate()
    commands = [Command(CommandField.C_ECHO_RQ, number, sop_class_uid=VERIFICATION) for number in range(1, 10_000)]
    flood = b"".join(p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, encode_command(each))) for each in commands)
    with contextlib.suppress(ConnectionError):
        await attacker.peer.send(flood)
    heard = await attacker.peer.rest()
    assert heard == b"" or heard.endswith(pdu.encode(pdu.Abort(*LIMIT)))


async def association_requests_without_an_end(attacker: Attacker) -> None:
    """Each is answered with an A-ABORT, none of which is read."""
    await attacker.associate()
    with contextlib.suppress(ConnectionError):
        await attacker.peer.send(*[pdu.encode(attacker.request())] * 20_000)
    await attacker.peer.rest()


async def cancels_without_an_end(attacker: Attacker) -> None:
    await attacker.associate()
    cancels = [Command(CommandField.C_CANCEL_RQ, number) for number in range(1, 20_000)]
    await attacker.peer.send(
        b"".join(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, encode_command(each))) for each in cancels),
        p_data((ECHO_CONTEXT, IS_COMMAND | IS_LAST, ECHO)),
    )
    assert await attacker.peer.hear_kind() == PduType.P_DATA


async def responses_that_nobody_waits_for(attacker: Attacker) -> None:
    await attacker.associate()
    answered = Command(CommandField.C_FIND_RSP, 1, sop_class_uid=STUDY_ROOT, status=0xFF00)
    await cut_off(
        attacker.peer,
        endless(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, encode_command(answered)))),
        (AbortSource.USER, 0),
    )


async def answers_that_are_never_read(attacker: Attacker) -> None:
    """Twelve megabytes of rows, asked for and left lying: more than the network holds."""
    await attacker.associate()
    keys = {0x00080052: (b"CS", b"STUDY "), 0x0020000D: (b"UI", b""), 0x00100020: (b"LO", ANNE.digits.encode())}
    keys |= dict.fromkeys(range(1576960, 1576960 + 300), (b"LO", b""))
    question = b"".join(element(tag, *keys[tag]) for tag in sorted(keys))
    await attacker.peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND), (FIND_CONTEXT, IS_LAST, question)))
    cancel = encode_command(Command(CommandField.C_CANCEL_RQ, 99))
    async with asyncio.timeout(HANG_S):
        with pytest.raises(ConnectionError):
            while True:  # whether it is gone is seen only by sending on
                await attacker.peer.send(p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, cancel)))
                await asyncio.sleep(0.05)


async def refused(attacker: Attacker, identifier: bytes, syntax: str = EXPLICIT) -> None:
    """Ask with this identifier, which must be refused with A900, and not at the cost of the association."""
    await attacker.associate(attacker.request(VERIFICATION, STUDY_ROOT, syntax=syntax))
    pieces = [identifier[start : start + 100_000] for start in range(0, len(identifier), 100_000)]
    await attacker.peer.send(
        p_data((FIND_CONTEXT, IS_COMMAND | IS_LAST, FIND)),
        *[p_data((FIND_CONTEXT, 0, piece)) for piece in pieces],
        p_data((FIND_CONTEXT, IS_LAST, b"")),
    )
    kind, body = await attacker.peer.hear()
    assert kind == PduType.P_DATA
    assert decode_command(body[6:]).status == 0xA900
    await attacker.peer.send(pdu.ReleaseRequest())
    assert await attacker.peer.hear_kind() == PduType.RELEASE_RP


async def an_identifier_that_inflates_a_thousandfold(attacker: Attacker) -> None:
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    await refused(attacker, stream.compress(bytes(200_000_000)) + stream.flush(), DEFLATED)


async def an_identifier_of_sequences_in_sequences(attacker: Attacker) -> None:
    inside = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    await refused(attacker, inside * 12_000)


async def an_identifier_of_many_elements(attacker: Attacker) -> None:
    await refused(attacker, b"".join(element(0x00100000 + number, b"LO", b"") for number in range(0x7000)))


async def an_identifier_of_many_values(attacker: Attacker) -> None:
    values = b"\\".join(b"1.2.%d" % number for number in range(9_000))[:65_534]
    await refused(attacker, element(0x00080052, b"CS", b"STUDY ") + element(0x0020000D, b"UI", values))


async def an_identifier_of_wildcards(attacker: Attacker) -> None:
    """Whatever is matched against it must not try every way."""
    pattern = b"*a" * 30 + b"*b"
    await refused(
        attacker,
        element(0x00080052, b"CS", b"STUDY ")
        + element(0x00100010, b"PN", pattern)
        + element(0x00100020, b"LO", b"*" * 60_000),
    )


async def a_request_of_many_items(attacker: Attacker) -> None:
    encoded = pdu.encode(attacker.request())
    body = encoded[6:] + b"\x77\0\0\0" * 50_000
    await attacker.peer.send(encoded[:2] + struct.pack(">I", len(body)) + body)
    await cut_off(attacker.peer, iter(()), INVALID)


async def a_request_of_a_hundred_and_thirty_contexts(attacker: Attacker) -> None:
    context = b"\x30\0\0\x111.2.840.10008.1.1\x40\0\0\x111.2.840.10008.1.2"
    items = [struct.pack(">BxHBxxx", 0x20, len(context) + 4, 2 * n % 256 + 1) + context for n in range(130)]
    encoded = pdu.encode(attacker.request())
    body = encoded[6:74] + encoded[74:99] + b"".join(items) + encoded[encoded.index(b"\x50\0\0") :]
    await attacker.peer.send(encoded[:2] + struct.pack(">I", len(body)) + body)
    await cut_off(attacker.peer, iter(()), INVALID)


async def a_request_with_a_context_twice(attacker: Attacker) -> None:
    encoded = pdu.encode(attacker.request())
    at = encoded.index(b"\x20\0\0", 74)
    end = at + 4 + struct.unpack_from(">H", encoded, at + 2)[0]
    body = encoded[6:end] + encoded[at:]
    await attacker.peer.send(encoded[:2] + struct.pack(">I", len(body)) + body)
    await cut_off(attacker.peer, iter(()), INVALID)


async def a_request_without_titles(attacker: Attacker) -> None:
    await attacker.peer.send(replace(attacker.request(), calling_ae_title=""))
    assert await attacker.peer.hear() == (PduType.ASSOCIATE_RJ, b"\0\1\1\3")


async def a_request_with_a_megabyte_of_identity(attacker: Attacker) -> None:
    identity = pdu.UserIdentity(5, True, b"a" * 65_000)
    request = attacker.request()
    await attacker.associate(replace(request, user=replace(request.user, identity=identity)))


async def a_reset_in_the_middle_of_a_pdu(attacker: Attacker) -> None:
    await attacker.associate()
    await attacker.peer.send(
        p_data((STORE_CONTEXT, IS_COMMAND | IS_LAST, STORE)), p_data((STORE_CONTEXT, 0, NOISE))[:-1]
    )
    attacker.peer.hang_up(with_reset=True)


ATTACKS: tuple[Attack, ...] = (
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
)
