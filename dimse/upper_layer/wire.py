"""The protocol machine of one association: the state table of PS3.8 9.2, wired to an asyncio transport and to ARTIM.

Does what `states` says and nothing else: every byte, timer, lost connection and wish of our own is an event. Reads into
a buffer that all connections of a loop share, acknowledges at once, and writes a message in as few system calls as it
takes. What PDUs and fragments mean is for its user.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dimse.upper_layer import pdu
from dimse.upper_layer.pdata import Parser
from dimse.upper_layer.pdu import AbortReason, AbortSource, PduError, PduType
from dimse.upper_layer.states import Action, Event, State, step

LINGER_S = 2.0
"""How long we wait for the peer to hang up after a last word of ours: hanging up at once could lose that word."""
LITTLE_BYTES = 8 * 1024
"""Read at once while nobody is there to take what follows a command."""
WRITE_WATERMARK_BYTES = 512 * 1024
"""More than this waiting for the network stops further writes."""

# With a peer that leaves Nagle's algorithm on, each message waits 40 ms for our delayed acknowledgement. The option
# does not stick: it must be set again after every read.
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)

_EVENT_OF = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ_PDU,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_PDU,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_PDU,
    PduType.RELEASE_RQ: Event.RELEASE_RQ_PDU,
    PduType.RELEASE_RP: Event.RELEASE_RP_PDU,
    PduType.ABORT: Event.ABORT_PDU,
}


class Ended(StrEnum):
    """How an association came to its end."""

    RELEASED = "released"
    REJECTED = "rejected"
    ABORTED_BY_PEER = "aborted-by-peer"
    ABORTED_HERE = "aborted-here"
    CONNECTION_LOST = "connection-lost"


class User(Protocol):
    """Who uses the association service (PS3.8 7). Exactly one `ended` comes, and nothing after it."""

    def requested(self, request: pdu.AssociateRequest) -> None:
        """The peer wants an association; `Wire.respond` answers."""

    def confirmed(self, accept: pdu.AssociateAccept) -> None:
        """The peer took ours; raises `PduError` for terms that were never proposed."""

    def rejected(self, reject: pdu.AssociateReject) -> None:
        """The peer refused ours; `ended` follows."""

    def fragment(self, context_id: int, control: int, piece: memoryview, is_end: bool) -> None:
        """A piece of a fragment; raises `PduError`."""

    def writable(self) -> None:
        """The network takes more again."""

    def ended(self, why: Ended, text: str) -> None:
        """It is over."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How long PDUs may be, and how long we wait."""

    associate_bytes_max: int = 256 * 1024
    """Any PDU but P-DATA, whose limit is the one that was advertised."""
    artim_timeout_s: float = 15.0
    """From the connection to a whole A-ASSOCIATE-RQ."""


class Wire(asyncio.BufferedProtocol):
    """One end of a connection; the requestor's if `request` is given. Made by `association`."""

    def __init__(
        self,
        user: User,
        limits: WireLimits,
        receive_buffer: memoryview,
        request: pdu.AssociateRequest | None = None,
    ) -> None:
        self._user = user
        self._limits = limits
        # asyncio's TLS reads into slices of it: of anything but a memoryview they would be copies.
        self._receive_buffer = self._next_buffer = receive_buffer
        self._request = request
        self._state = State.STA1
        self._parser: Parser
        """From the connection to its end."""
        self._transport: asyncio.Transport | None = None
        self._peer_address = ("", 0)
        self._socket: socket.socket | None = None
        self._is_plain = True
        self._is_ended = False
        self._artim: asyncio.TimerHandle | None = None
        self.is_write_paused = False
        self.received_bytes = 0
        """All that came: a sign of life."""
        self.hung_up = asyncio.Event()
        """Set once the connection is closed, which may be a while after the association's end."""
        if request is not None:
            self._on(Event.ASSOCIATE_REQUEST)

    @property
    def is_established(self) -> bool:
        """Whether messages may be sent."""
        return self._state is State.STA6

    @property
    def peer_address(self) -> tuple[str, int]:
        """The other end's IP address and port; blank and 0 while unknown."""
        return self._peer_address

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS connection; None: it is plain, or closed."""
        found = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return found if isinstance(found, ssl.SSLObject) else None

    def respond(self, answer: pdu.AssociateAccept | pdu.AssociateReject) -> None:
        """Answer the peer's request. Without effect once it has gone."""
        if self._state is State.STA3:
            is_accept = isinstance(answer, pdu.AssociateAccept)
            event = Event.ASSOCIATE_RESPONSE_ACCEPT if is_accept else Event.ASSOCIATE_RESPONSE_REJECT
            self._on(event, answer)

    def request_release(self) -> None:
        """Ask the peer to release. Without effect unless established."""
        if self._state is State.STA6:
            self._on(Event.RELEASE_REQUEST)

    def abort(self, text: str = "", *, is_limit: bool = False) -> None:
        """Abort as the user, or as the provider for a limit of ours. Without effect once it is over."""
        if self._state is State.STA2 and self._transport is not None:
            self._transport.abort()
        elif self._state not in (State.STA1, State.STA2, State.STA13):
            source = AbortSource.PROVIDER if is_limit else AbortSource.USER
            self._on(Event.ABORT_REQUEST, _Wish(pdu.Abort(source, AbortReason.NOT_SPECIFIED), text))

    def pause_reading(self) -> None:
        """Let the peer wait."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def read_much(self, is_much: bool) -> None:
        """Read as much at once as there is room for, or little: what comes with a command waits for its taker."""
        self._next_buffer = self._receive_buffer if is_much else self._receive_buffer[:LITTLE_BYTES]

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send P-DATA PDUs; nothing is copied that the network takes at once. Only while established."""
        self._on(Event.P_DATA_REQUEST)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._is_plain and self._socket is not None and not transport.get_write_buffer_size():
            try:
                sent = os.writev(self._socket.fileno(), buffers)
            except OSError:  # the network is busy, or gone: the transport finds out which
                sent = 0
            transport.write(b"".join(_behind(buffers, sent)))
        else:
            transport.write(b"".join(buffers))

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._parser = Parser(self, other_bytes_max=self._limits.associate_bytes_max)
        self._transport = transport
        name = transport.get_extra_info("peername")
        self._peer_address = (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)
        self._socket = transport.get_extra_info("socket")
        self._is_plain = transport.get_extra_info("ssl_object") is None
        transport.set_write_buffer_limits(high=WRITE_WATERMARK_BYTES)
        self._acknowledge_quickly()
        self._on(Event.TRANSPORT_INDICATION if self._request is None else Event.TRANSPORT_CONNECTED)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._next_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received_bytes += nbytes
        try:
            self._parser.feed(self._next_buffer[:nbytes])
        except PduError as error:
            self._on(Event.INVALID_PDU, error)
        self._acknowledge_quickly()

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self._user.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is not State.STA1:
            self._on(Event.TRANSPORT_CLOSED)
        self._stop_artim()
        self._tell_end(Ended.CONNECTION_LOST, type(exc).__name__ if exc is not None else "the peer hung up")
        self.hung_up.set()
        # Nothing comes any more. Else only the collector of cycles would find an association that is over, and over TLS
        # each of them holds hundreds of kilobytes.
        del self._user, self._parser
        self._transport = self._socket = None

    def _acknowledge_quickly(self) -> None:
        if _QUICKACK is not None and self._socket is not None:
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            except OSError:  # closed meanwhile
                self._socket = None

    # What the parser hears.

    def p_data_begins(self) -> None:
        """A P-DATA PDU: an event like any other, before its first fragment is looked at."""
        if self._state is not State.STA6:  # there it changes nothing (DT-2), and it comes with every PDU
            self._on(Event.P_DATA_PDU)

    def fragment(self, context_id: int, control: int, piece: memoryview, is_end: bool) -> None:
        """A piece of a fragment."""
        if self._state in (State.STA6, State.STA7):
            self._user.fragment(context_id, control, piece, is_end)

    def other_pdu(self, pdu_type: PduType, body: bytes) -> None:
        """A whole PDU of another type."""
        content = pdu.decode(pdu_type, body)
        if self._state is State.STA5 and isinstance(content, pdu.AssociateAccept):
            # Before the step: terms that cannot be are an invalid PDU.
            self._user.confirmed(content)
        self._on(_EVENT_OF[pdu_type], content)

    # The machine.

    def _on(self, event: Event, subject: object = None) -> None:
        found = step(self._state, event)
        self._state = found.next_states[0]
        if found.action is Action.AR_8 and self._request is None:
            self._state = found.next_states[1]
        self._do(found.action, event, subject)

    def _do(self, action: Action, event: Event, subject: object) -> None:
        match action:
            case Action.DT_1 | Action.DT_2 | Action.AR_6 | Action.AR_7 | Action.AA_6 | Action.AE_1 | Action.AE_3:
                pass  # written, heard, ignored, or told elsewhere: the step was all
            case Action.AE_2:
                assert self._request is not None
                self._advertise(self._request)
            case Action.AE_4:
                assert isinstance(subject, pdu.AssociateReject)
                self._user.rejected(subject)
                self._close(Ended.REJECTED, "")
            case Action.AE_5:
                self._start_artim(self._limits.artim_timeout_s)
            case Action.AE_6:
                self._stop_artim()
                assert isinstance(subject, pdu.AssociateRequest)
                self._user.requested(subject)
            case Action.AE_7:
                assert isinstance(subject, pdu.AssociateAccept)
                self._advertise(subject)
            case Action.AE_8:
                assert isinstance(subject, pdu.AssociateReject)
                self._send(subject)
                self._linger(Ended.REJECTED, "")
            case Action.AR_1:
                self._send(pdu.ReleaseRequest())
            case Action.AR_2:
                self._on(Event.RELEASE_RESPONSE)
            case Action.AR_3:
                self._close(Ended.RELEASED, "")
            case Action.AR_4:
                self._send(pdu.ReleaseReply())
                self._linger(Ended.RELEASED, "")
            case Action.AR_5 | Action.AA_5:
                self._stop_artim()
            case Action.AR_8:
                if self._state is State.STA9:
                    self._on(Event.RELEASE_RESPONSE)
            case Action.AR_9:
                self._send(pdu.ReleaseReply())
            case Action.AR_10:
                self._on(Event.RELEASE_RESPONSE)
            case Action.AA_1 | Action.AA_8:
                abort, text = _abort(event, subject)
                self._send(abort)
                self._linger(Ended.ABORTED_HERE, text)
            case Action.AA_7:
                self._send(_abort(event, subject)[0])  # ARTIM runs on, else the peer could keep the connection
            case Action.AA_2:
                text = subject.text if isinstance(subject, _Wish) else ""
                self._close(Ended.ABORTED_BY_PEER if event is Event.ABORT_PDU else Ended.ABORTED_HERE, text)
            case Action.AA_3:
                self._close(Ended.ABORTED_BY_PEER, "")
            case Action.AA_4:
                self._stop_artim()

    def _advertise(self, content: pdu.AssociateRequest | pdu.AssociateAccept) -> None:
        self._parser.p_data_bytes_max = content.user.pdu_bytes_max
        self._send(content)

    def _send(self, content: pdu.Pdu) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pdu.encode(content))

    def _close(self, why: Ended, text: str) -> None:
        self._stop_artim()
        self._parser.stop()
        if self._transport is not None:
            self._transport.close()
        self._tell_end(why, text)

    def _linger(self, why: Ended, text: str) -> None:
        """All is said: the peer hangs up, or we do after a while."""
        self._start_artim(min(LINGER_S, self._limits.artim_timeout_s))
        self.resume_reading()
        self._tell_end(why, text)

    def _tell_end(self, why: Ended, text: str) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._user.ended(why, text)

    def _start_artim(self, timeout_s: float) -> None:
        self._stop_artim()
        self._artim = asyncio.get_running_loop().call_later(timeout_s, self._artim_expired)

    def _stop_artim(self) -> None:
        if self._artim is not None:
            self._artim.cancel()
            self._artim = None

    def _artim_expired(self) -> None:
        self._artim = None
        self._on(Event.ARTIM_EXPIRED)
        # A peer that takes nothing would keep what waits for it, and so the connection, for ever.
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class _Wish:
    """An abort of our own, and why in words."""

    abort: pdu.Abort
    text: str


def _abort(event: Event, subject: object) -> tuple[pdu.Abort, str]:
    """What an A-ABORT says (DEC-31), and why in words."""
    match subject:
        case PduError():
            return pdu.Abort(AbortSource.PROVIDER, subject.reason), str(subject)
        case _Wish():
            return subject.abort, subject.text
        case _:
            return pdu.Abort(AbortSource.PROVIDER, AbortReason.UNEXPECTED_PDU), f"unexpected {event.name}"


def _behind(buffers: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of `buffers` behind the first `sent` bytes."""
    if sent == sum(map(len, buffers)):  # nearly always
        return []
    for number, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[number + 1 :]]
        sent -= len(buffer)
    return []
