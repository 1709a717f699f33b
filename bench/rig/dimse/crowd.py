"""The same crowd of trusts by C-FIND: one port of loopback, the called AE title says which trust is asked.

An answer is written beforehand, its pending responses and the final one in a single piece of bytes in which only the
message id and the presentation context are set anew. The association is negotiated by the product's codec, once for
each connection; a question is searched for its Patient ID and not decoded.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.rig.dimse import wire
from dimse.upper_layer.negotiation import Offer, negotiate
from dimse.upper_layer.pdu import AssociateRequest, PduType, decode, encode

_FIND_REQUEST = struct.pack("<HHIH", 0, 0x0100, 2, 0x0020)
_MESSAGE_ID = struct.pack("<HHI", 0, 0x0110, 2)
_PATIENT_ID = struct.pack("<HH", 0x0010, 0x0020)
_TITLE = slice(4, 20)
"""Where the called AE title stands in the body of an A-ASSOCIATE-RQ."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is said to one question, after how long."""

    delay_s: float
    answer: bytes
    message_ids: tuple[int, ...]
    """Where the message id stands in it."""
    contexts: tuple[int, ...]
    """Where the presentation context stands in it."""

    def to(self, message_id: int, context: int) -> bytes:
        """The answer to this very message."""
        answer = bytearray(self.answer)
        for place in self.message_ids:
            struct.pack_into("<H", answer, place, message_id)
        for place in self.contexts:
            answer[place] = context
        return bytes(answer)


Answers = Callable[[str, str], Prepared | None]
"""What a trust (its AE title) says of a patient; None: never anything."""


def prepare(delay_s: float, rows: list[dict[int, str]]) -> Prepared:
    """The answer with these rows, text by tag."""
    answer, message_ids, contexts = b"", [], []
    for row in (*rows, None):
        status = wire.SUCCESS if row is None else min(wire.PENDING)
        data = wire.identifier(sorted(row.items())) if row is not None else b""
        message = wire.find_response(0, status, data)
        place = message.index(wire.RESPONDED_TO) + len(wire.RESPONDED_TO)
        message_ids.append(len(answer) + place)
        contexts.append(len(answer) + 10)
        if data:
            contexts.append(len(answer) + len(message) - len(data) - 2)
        answer += message
    return Prepared(delay_s, answer, tuple(message_ids), tuple(contexts))


class Connection(asyncio.Protocol):
    """One association, one question at a time on it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._title = ""
        self._received = b""
        self._command, self._identifier = b"", b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        while len(self._received) >= 6:
            kind, length = struct.unpack_from(">BxI", self._received)
            if len(self._received) < 6 + length:
                return
            body, self._received = self._received[6 : 6 + length], self._received[6 + length :]
            match kind:
                case PduType.ASSOCIATE_RQ:
                    self._transport.write(self._admit(body))
                case PduType.P_DATA:
                    self._read(body)
                case PduType.RELEASE_RQ:
                    self._transport.write(struct.pack(">BxII", wire.RELEASE_REPLY, 4, 0))
                    self._transport.close()
                case _:
                    self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _admit(self, body: bytes) -> bytes:
        request = decode(PduType.ASSOCIATE_RQ, body)
        assert isinstance(request, AssociateRequest)
        self._title = body[_TITLE].decode("ascii").strip()
        syntaxes: Mapping[str, tuple[str, ...]] = {wire.STUDY_ROOT_FIND: (wire.IMPLICIT_LE,)}
        return encode(negotiate(request, Offer(frozenset({self._title}), syntaxes, pdu_bytes_max=131_072)))

    def _read(self, body: bytes) -> None:
        """Gather the fragments of a command or an identifier; the identifier's last one ends the question."""
        offset = 0
        while offset < len(body):
            length, context, control = struct.unpack_from(">IBB", body, offset)
            piece = body[offset + 6 : offset + 4 + length]
            offset += 4 + length
            if control & 1:
                self._command += piece
                if control & 2 and _FIND_REQUEST not in self._command:
                    self._command = b""  # a C-CANCEL, whose question is answered in any case
            else:
                self._identifier += piece
                if control & 2:
                    self._answer(context)

    def _answer(self, context: int) -> None:
        place = self._command.index(_MESSAGE_ID) + len(_MESSAGE_ID)
        (message_id,) = struct.unpack_from("<H", self._command, place)
        prepared = self._answers(self._title, _patient_of(self._identifier))
        self._command, self._identifier = b"", b""
        if prepared is not None:
            assert self._transport is not None
            loop, answer = asyncio.get_running_loop(), prepared.to(message_id, context)
            self._timer = loop.call_later(prepared.delay_s, self._transport.write, answer)


def _patient_of(identifier: bytes) -> str:
    """The Patient ID that is asked for, in Implicit VR Little Endian; empty if there is none."""
    place = identifier.find(_PATIENT_ID)
    if place < 0:
        return ""
    (length,) = struct.unpack_from("<I", identifier, place + 4)
    return identifier[place + 8 : place + 8 + length].decode("ascii").strip()
