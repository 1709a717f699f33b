"""DIMSE as the load speaks it: prepared bytes out, headers read in, far cheaper than what is measured.

No code of the product is in it, so that a fault there cannot hide here; the peers are ours or well behaved, so that it
checks little. Upper layer by PS3.8 9.3, command sets by PS3.7 E. Pure but for `Line`, a blocking connection.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

CALLING, CALLED = "BENCH", "ANY-SCP"
VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
ACCEPTED, P_DATA, RELEASE_REPLY = 2, 4, 6
RELEASE_REQUEST = struct.pack(">BxII", 5, 4, 0)
SUCCESS, PENDING = 0x0000, frozenset({0xFF00, 0xFF01})
CONTEXT = 1
"""Every association here has one presentation context."""
TIMEOUT_S = 60.0
RESPONDED_TO = struct.pack("<HHI", 0, 0x0120, 2)
"""The head of Message ID Being Responded To."""
_STATUS = struct.pack("<HHI", 0, 0x0900, 2)
_COMPLETED = struct.pack("<HHI", 0, 0x1021, 2)
_COMMAND, _LAST = 1, 2
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = "2.25.31415926535897932384626434"
_NO_DATA, _WITH_DATA = 0x0101, 0x0001


@dataclass(frozen=True, slots=True)
class Door:
    """Where to associate: a port of loopback, a called AE title; with TLS if an authority is named."""

    port: int
    ae_title: str = CALLED
    ca: str = ""
    certificate: str = ""
    private_key: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """The client's side of TLS, or None for plain TCP."""
        if not self.ca:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = False
        context.load_cert_chain(self.certificate, self.private_key)
        return context


def associate_request(
    called: str, abstract_syntax: str, transfer_syntax: str, *, calling: str = CALLING, pdu_bytes_max: int = 131_072
) -> bytes:
    """An A-ASSOCIATE-RQ with the one context."""
    context = struct.pack(">BBBB", CONTEXT, 0, 0, 0)
    context += _item(0x30, abstract_syntax.encode()) + _item(0x40, transfer_syntax.encode())
    user = _item(0x51, struct.pack(">I", pdu_bytes_max)) + _item(0x52, _IMPLEMENTATION.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += _item(0x10, _APPLICATION_CONTEXT.encode()) + _item(0x20, context) + _item(0x50, user)
    return struct.pack(">BxI", 1, len(body)) + body


def pdu_bytes_max(accept: bytes) -> int:
    """What the acceptor takes at most, from the body of its A-ASSOCIATE-AC; 0: whatever comes."""
    offset = 68
    while offset < len(accept):
        kind, length = struct.unpack_from(">BxH", accept, offset)
        if kind == 0x50:
            inner = offset + 4
            while inner < offset + 4 + length:
                inner_kind, inner_length = struct.unpack_from(">BxH", accept, inner)
                if inner_kind == 0x51:
                    return int(struct.unpack_from(">I", accept, inner + 4)[0])
                inner += 4 + inner_length
        elif kind == 0x21 and accept[offset + 6]:
            raise RuntimeError(f"the presentation context was refused: {accept[offset + 6]}")
        offset += 4 + length
    raise RuntimeError("the answer to the association request says no maximum length")


def echo_request(message_id: int) -> bytes:
    """A whole C-ECHO request as one PDU."""
    return _message(
        _command(
            (0x0002, _uid(VERIFICATION)),
            (0x0100, _us(0x0030)),
            (0x0110, _us(message_id)),
            (0x0800, _us(_NO_DATA)),
        )
    )


def find_request(message_id: int, identifier: bytes) -> bytes:
    """A whole C-FIND request, command and identifier, as one PDU."""
    return _message(
        _command(
            (0x0002, _uid(STUDY_ROOT_FIND)),
            (0x0100, _us(0x0020)),
            (0x0110, _us(message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(_WITH_DATA)),
        ),
        identifier,
    )


def move_request(message_id: int, destination: str, identifier: bytes, *, priority: int = 0) -> bytes:
    """A whole C-MOVE request, command and identifier, as one PDU."""
    return _message(
        _command(
            (0x0002, _uid(STUDY_ROOT_MOVE)),
            (0x0100, _us(0x0021)),
            (0x0110, _us(message_id)),
            (0x0600, _padded(destination.encode(), b" ")),
            (0x0700, _us(priority)),
            (0x0800, _us(_WITH_DATA)),
        ),
        identifier,
    )


def find_response(message_id: int, status: int, row: bytes) -> bytes:
    """A C-FIND response, pending with a row or final without, as one PDU."""
    return _message(
        _command(
            (0x0002, _uid(STUDY_ROOT_FIND)),
            (0x0100, _us(0x8020)),
            (0x0120, _us(message_id)),
            (0x0800, _us(_WITH_DATA if row else _NO_DATA)),
            (0x0900, _us(status)),
        ),
        row,
    )


def store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """The command of a C-STORE request as one PDU; the data set follows in PDUs of its own."""
    return _message(
        _command(
            (0x0002, _uid(sop_class_uid)),
            (0x0100, _us(0x0001)),
            (0x0110, _us(message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(_WITH_DATA)),
            (0x1000, _uid(sop_instance_uid)),
        )
    )


def data_head(piece_bytes: int, is_last: bool) -> bytes:
    """What stands before one fragment of a data set: the heads of its PDU and its PDV."""
    return struct.pack(">BxIIBB", P_DATA, piece_bytes + 6, piece_bytes + 2, CONTEXT, _LAST if is_last else 0)


def identifier(elements: Sequence[tuple[int, str]]) -> bytes:
    """A data set of text in Implicit VR Little Endian."""
    encoded = b""
    for tag, text in elements:
        value = _uid(text) if tag == 0x0020000D else _padded(text.encode(), b" ")
        encoded += struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    return encoded


@dataclass(slots=True)
class Replies:
    """Responses while they arrive: counts the pending ones and keeps the last final status. Reads heads only."""

    pending: int = 0
    statuses: list[int] = field(default_factory=list)
    """Final statuses, in order."""
    others: list[int] = field(default_factory=list)
    """Types of the PDUs that were no P-DATA."""
    body_bytes: int = 0
    _rest: bytes = b""

    def feed(self, received: bytes) -> None:
        """Take bytes in, cut anywhere."""
        stream = self._rest + received if self._rest else received
        offset, end = 0, len(stream)
        while end - offset >= 6:
            kind, length = struct.unpack_from(">BxI", stream, offset)
            if end - offset - 6 < length:
                break
            if kind == P_DATA:
                self._read_values(stream, offset + 6, offset + 6 + length)
            else:
                self.others.append(kind)
            offset += 6 + length
        self._rest = stream[offset:]

    def _read_values(self, stream: bytes, offset: int, end: int) -> None:
        while offset < end:
            (length,) = struct.unpack_from(">I", stream, offset)
            if stream[offset + 5] & _COMMAND:
                place = stream.rindex(_STATUS, offset, offset + 4 + length) + len(_STATUS)
                (status,) = struct.unpack_from("<H", stream, place)
                if status in PENDING:
                    self.pending += 1
                else:
                    self.statuses.append(status)
            else:
                self.body_bytes += length - 2
            offset += 4 + length


class Line:
    """One association over a blocking socket, requested by us."""

    def __init__(self, door: Door, abstract_syntax: str, transfer_syntax: str, *, is_quick: bool = True) -> None:
        self._is_quick = is_quick
        plain = socket.create_connection(("127.0.0.1", door.port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = door.tls()
        self.socket = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        self.socket.sendall(associate_request(door.ae_title, abstract_syntax, transfer_syntax))
        kind, body = self.read()
        if kind != ACCEPTED:
            raise RuntimeError(f"the association was answered by a PDU of type {kind}: {body.hex()}")
        self.peer_pdu_bytes_max = pdu_bytes_max(body)

    def read(self) -> tuple[int, bytes]:
        """The next PDU: its type and body."""
        kind, length = struct.unpack(">BxI", self._receive(6))
        return kind, self._receive(length)

    def read_status(self) -> int:
        """The status of the response that comes next and is one PDU."""
        kind, body = self.read()
        if kind != P_DATA:
            raise RuntimeError(f"a PDU of type {kind} came instead of a response")
        (status,) = struct.unpack_from("<H", body, body.rindex(_STATUS) + len(_STATUS))
        return int(status)

    def read_move(self) -> tuple[int, int]:
        """Pass over pending C-MOVE responses; status of the last one, and how many sub-operations it says went well."""
        while True:
            kind, body = self.read()
            if kind != P_DATA:
                raise RuntimeError(f"a PDU of type {kind} came instead of a response")
            (status,) = struct.unpack_from("<H", body, body.rindex(_STATUS) + len(_STATUS))
            if status not in PENDING:
                place = body.rfind(_COMPLETED)
                completed = struct.unpack_from("<H", body, place + len(_COMPLETED))[0] if place >= 0 else 0
                return int(status), int(completed)

    def release(self) -> None:
        """End the association in order."""
        self.socket.sendall(RELEASE_REQUEST)
        self.read()
        self.socket.close()

    def _receive(self, length: int) -> bytes:
        received = b""
        while len(received) < length:
            if self._is_quick:
                # An acknowledgement held back makes a peer with Nagle's algorithm on wait 40 ms for it.
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            piece = self.socket.recv(length - len(received))
            if not piece:
                raise RuntimeError("the peer closed the connection")
            received += piece
        return received


def _message(command: bytes, data: bytes = b"") -> bytes:
    values = struct.pack(">IBB", len(command) + 2, CONTEXT, _COMMAND | _LAST) + command
    if data:
        values += struct.pack(">IBB", len(data) + 2, CONTEXT, _LAST) + data
    return struct.pack(">BxI", P_DATA, len(values)) + values


def _command(*elements: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHI", 0, number, len(value)) + value for number, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _uid(text: str) -> bytes:
    return _padded(text.encode(), b"\0")


def _us(number: int) -> bytes:
    return struct.pack("<H", number)


def _padded(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value
