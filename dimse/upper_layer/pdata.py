"""The byte stream of an association: PDUs apart, P-DATA fragments handed on piece by piece, messages cut into P-DATA.

The hot path. A received byte is looked at once: headers are read where they lie, and what a fragment carries goes to
the listener as views of the receive buffer, however the network cut it (PS3.8 9.3.5, Annex E). Type and length of a PDU
are judged before any of its body is read, so memory grows with bytes received, never with bytes announced. Pure: no
socket, no clock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Protocol

from dimse.upper_layer.pdu import AbortReason, PduError, PduType

PDU_HEADER_BYTES = 6
PDV_HEADER_BYTES = 6
IS_COMMAND, IS_LAST = 0x01, 0x02
"""Bits of the message control header (PS3.8 E.2)."""

_PDU_HEADER = struct.Struct(">BBI")
_PDV_HEADER = struct.Struct(">IBB")
_P_DATA_HEADER = struct.Struct(">BBIIBB")
_BOTH_HEADERS_BYTES = _P_DATA_HEADER.size
_TYPES = frozenset(PduType)
_OF_FOUR_BYTES = frozenset({PduType.ASSOCIATE_RJ, PduType.RELEASE_RQ, PduType.RELEASE_RP, PduType.ABORT})
_UNLIMITED_FRAGMENT_BYTES = 1024 * 1024
"""What we put into one PDU for a peer that takes any length."""


class Hears(Protocol):
    """Who is told what the stream holds. Any of these may raise `PduError`."""

    def p_data_begins(self) -> None:
        """A P-DATA-TF PDU begins; its fragments follow."""

    def fragment(self, context_id: int, control: int, piece: memoryview, is_end: bool) -> None:
        """A piece of a fragment; `is_end`: its last. The view is only good until this returns."""

    def other_pdu(self, pdu_type: PduType, body: bytes) -> None:
        """A whole PDU of any other type, without its header."""


class Parser:
    """A push parser: feed it what came, it tells `hears`. After a `PduError` it is deaf: nothing can be made out."""

    def __init__(self, hears: Hears, *, other_bytes_max: int, p_data_bytes_max: int = 0) -> None:
        self._hears = hears
        self.p_data_bytes_max = p_data_bytes_max
        """Content of a P-DATA PDU, as it was advertised; 0: any."""
        self._other_bytes_max = other_bytes_max
        self._header = bytearray()
        self._p_data_left = 0
        """Bytes of the P-DATA PDU under way behind the fragment under way."""
        self._piece_left = 0
        self._context_id = self._control = 0
        self._pdu_type = PduType.ABORT
        self._body: bytearray | None = None
        self._body_left = 0
        self._is_deaf = False

    @property
    def is_between_pdus(self) -> bool:
        """Whether the next byte begins a PDU."""
        return not (self._p_data_left or self._piece_left or self._body_left or self._header)

    def stop(self) -> None:
        """Hear no more."""
        self._is_deaf = True

    def feed(self, received: memoryview) -> None:
        """Take what came next; raises `PduError`."""
        try:
            self._feed(received)
        except PduError:
            self._is_deaf = True
            raise

    def _feed(self, received: memoryview) -> None:
        at, end = 0, len(received)
        while at < end and not self._is_deaf:
            if self._piece_left:
                taken = min(self._piece_left, end - at)
                self._piece_left -= taken
                self._hears.fragment(self._context_id, self._control, received[at : at + taken], not self._piece_left)
                at += taken
            elif self._body_left:
                taken = min(self._body_left, end - at)
                self._body_left -= taken
                self._take_body(received[at : at + taken])
                at += taken
            else:
                header = self._header
                if not header and end - at >= _BOTH_HEADERS_BYTES and self._begins_usually(received, at):
                    at += _BOTH_HEADERS_BYTES
                elif header or end - at < PDU_HEADER_BYTES:
                    taken = min(PDU_HEADER_BYTES - len(header), end - at)
                    header += received[at : at + taken]
                    at += taken
                    if len(header) < PDU_HEADER_BYTES:
                        return
                    whole, start = bytes(header), 0
                    header.clear()
                    self._begin(whole, start)
                else:
                    self._begin(received, at)
                    at += PDU_HEADER_BYTES

    def _begins_usually(self, received: memoryview, at: int) -> bool:
        """Read both headers of a P-DATA PDU that holds one fragment, as nearly all do; else leave them as they lie.

        With a peer's PDUs of 16 KB there are thirty of them in a CT image: what they cost twice is seen.
        """
        if self._p_data_left:
            return False
        number, _, length, fragment_length, context_id, control = _P_DATA_HEADER.unpack_from(received, at)
        if number != PduType.P_DATA or fragment_length != length - 4 or fragment_length <= 2:
            return False
        if length > self.p_data_bytes_max and self.p_data_bytes_max:
            return False
        self._hears.p_data_begins()
        self._context_id, self._control, self._piece_left = context_id, control, fragment_length - 2
        return True

    def _begin(self, source: bytes | memoryview, at: int) -> None:
        """Read the header that lies there, of a fragment or of a PDU: both are six bytes long."""
        if self._p_data_left:
            self._begin_fragment(*_PDV_HEADER.unpack_from(source, at))
        else:
            number, _, length = _PDU_HEADER.unpack_from(source, at)
            self._begin_pdu(number, length)

    def _begin_fragment(self, length: int, context_id: int, control: int) -> None:
        # The length counts the context id and the control header, four bytes of its own stand before them.
        if length < 2 or length + 4 > self._p_data_left:
            raise PduError("a fragment does not fit into its PDU", AbortReason.INVALID_PARAMETER)
        self._p_data_left -= length + 4
        if 0 < self._p_data_left < PDV_HEADER_BYTES:
            raise PduError("the fragments do not fill their PDU", AbortReason.INVALID_PARAMETER)
        self._context_id, self._control, self._piece_left = context_id, control, length - 2
        if not self._piece_left:
            # Legal, and sent by toolkits as the last fragment: it says only that all has been said.
            self._hears.fragment(context_id, control, memoryview(b""), True)

    def _begin_pdu(self, number: int, length: int) -> None:
        if number not in _TYPES:
            raise PduError("a PDU has an unknown type", AbortReason.UNRECOGNISED_PDU)
        self._pdu_type = PduType(number)
        if self._pdu_type is PduType.P_DATA:
            if length < PDV_HEADER_BYTES:
                raise PduError("a P-DATA PDU holds no fragment", AbortReason.INVALID_PARAMETER)
            if self.p_data_bytes_max and length > self.p_data_bytes_max:
                raise PduError("a P-DATA PDU is longer than agreed", AbortReason.INVALID_PARAMETER)
            self._p_data_left = length
            self._hears.p_data_begins()
            return
        if self._pdu_type in _OF_FOUR_BYTES and length != 4:
            raise PduError("a PDU of fixed length has another", AbortReason.INVALID_PARAMETER)
        if length > self._other_bytes_max:
            raise PduError("a PDU is longer than its limit", AbortReason.NOT_SPECIFIED)
        if not length:
            raise PduError("a PDU is empty", AbortReason.INVALID_PARAMETER)
        self._body_left = length

    def _take_body(self, piece: memoryview) -> None:
        if self._body is None and not self._body_left:
            self._hears.other_pdu(self._pdu_type, bytes(piece))
            return
        if self._body is None:
            self._body = bytearray()
        self._body += piece
        if not self._body_left:
            body, self._body = bytes(self._body), None
            self._hears.other_pdu(self._pdu_type, body)


def fragment_bytes_max(peer_pdu_bytes_max: int) -> int:
    """What one fragment to this peer may carry: an even number, as PS3.8 E.2 wants; 0 means any length."""
    if not peer_pdu_bytes_max:
        return _UNLIMITED_FRAGMENT_BYTES
    return max(2, min(peer_pdu_bytes_max - PDV_HEADER_BYTES, _UNLIMITED_FRAGMENT_BYTES) & ~1)


def in_p_data(
    context_id: int, command: bytes, data: Sequence[memoryview], fragment_bytes: int
) -> Iterator[bytes | memoryview]:
    """A message as the buffers of its P-DATA PDUs, in order and without a copy; one fragment a PDU.

    The views of `data` must be of bytes, contiguous. A message without a data set has no `data` at all, one with an
    empty data set has an empty view.
    """
    yield from _fragments(context_id, IS_COMMAND, [memoryview(command)], fragment_bytes)
    if data:
        yield from _fragments(context_id, 0, data, fragment_bytes)


def in_one_piece(context_id: int, command: bytes, data: bytes | None) -> bytes:
    """A message whose command and data set fit into a fragment each, copied together: `in_p_data` for short ones.

    The rows of an answer are a hundred such messages; a buffer each costs a third of their four.
    """
    size = len(command)
    head = _P_DATA_HEADER.pack(PduType.P_DATA, 0, size + PDV_HEADER_BYTES, size + 2, context_id, IS_COMMAND | IS_LAST)
    if data is None:
        return head + command
    size = len(data)
    data_head = _P_DATA_HEADER.pack(PduType.P_DATA, 0, size + PDV_HEADER_BYTES, size + 2, context_id, IS_LAST)
    return b"".join((head, command, data_head, data))


def _fragments(
    context_id: int, kind: int, buffers: Sequence[memoryview], fragment_bytes: int
) -> Iterator[bytes | memoryview]:
    left = sum(map(len, buffers))
    sources = iter(buffers)
    source = next(sources)
    while True:
        size = min(left, fragment_bytes)
        left -= size
        control = kind if left else kind | IS_LAST
        yield _P_DATA_HEADER.pack(PduType.P_DATA, 0, size + PDV_HEADER_BYTES, size + 2, context_id, control)
        while size:
            while not source:
                source = next(sources)
            piece = source[:size]
            source = source[size:]
            size -= len(piece)
            yield piece
        if not left:
            return
