"""One association as its users see it: messages in, messages out, one service at work, and an end that everybody hears.

What arrives is heard beside the service: C-CANCEL, A-ABORT, a release and a vanished peer stop the work at once. An
acceptor serves one request at a time and lets one more wait (operations window 1/1, PS3.7 D.3.3.3). Nothing grows with
what a peer sends: it is read no further than somebody fetches it, and given up when it takes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from dimse.flow.inflow import Inflow
from dimse.flow.outflow import Outflow, Pieces
from dimse.upper_layer import pdu
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.messages import Assembler, Message, MessageLimits, Sink, SinkFor
from dimse.upper_layer.negotiation import Context, Terms, agreed
from dimse.upper_layer.outgoing import Data as Data
from dimse.upper_layer.outgoing import Outgoing as Outgoing
from dimse.upper_layer.outgoing import writes
from dimse.upper_layer.pdata import fragment_bytes_max
from dimse.upper_layer.pdu import AbortReason, PduError
from dimse.upper_layer.wire import Ended, Wire, WireLimits

log = structlog.get_logger(__name__)

RECEIVE_BUFFER_BYTES = 512 * 1024
MESSAGES_WAITING_MAX, BYTES_WAITING_MAX = 512, 4 * 1024 * 1024
"""Received and not yet fetched; beyond either the peer is not read until half of it is fetched."""
REQUESTS_AT_ONCE_MAX = 2
"""One at work, one waiting."""
PEER_PDU_BYTES_MIN = 64
MESSAGE_IDS = 65_536


class AssociationFailure(Exception):
    """There is no association, or none any more."""


class AssociationEnded(AssociationFailure):
    """The association is over; `why` says how, the text what for, in words that may be logged."""

    def __init__(self, why: Ended, text: str) -> None:
        super().__init__(text or why.value)
        self.why = why


class AssociationRejected(AssociationFailure):
    """The other end does not want this association (PS3.8 9.3.4)."""

    def __init__(self, reject: pdu.AssociateReject) -> None:
        super().__init__(f"rejected: result {reject.result}, source {reject.source}, reason {reject.reason}")
        self.reject = reject


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """How much and how long, for one association."""

    wire: WireLimits = field(default_factory=WireLimits)
    messages: MessageLimits = field(default_factory=MessageLimits)
    idle_timeout_s: float = 120.0
    """An acceptor's time without a whole message, while no request is at work."""
    life_max_s: float = 8 * 3600.0
    """An acceptor's time in all; a request at work may finish."""
    send_timeout_s: float = 30.0
    """A peer that takes nothing for as long is given up; also what an answer to our release may take."""
    message_bytes_per_s_min: int = 1_000
    """A message that has been under way for the idle time must have come at least this fast."""


class Acceptor(Protocol):
    """Whom an accepting association asks."""

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        """Take the association or not. May set its `sink_for`."""

    async def serve(self, association: Association) -> None:
        """Serve it until it ends; cancelled when it does. An association still open afterwards is aborted."""


class Association:
    """One association, of either role. Made by `accepting` or by `requestor.associate`."""

    def __init__(self, limits: AssociationLimits, acceptor: Acceptor | None = None) -> None:
        self.wire: Wire
        self.sink_for: SinkFor | None = None
        """Set before it is established; where data sets go while they arrive."""
        self.takes_inflows = False
        """Set before it is established; C-STORE is received with its command, and its data set as `Inflow`."""
        self.terms: Terms
        """What was agreed; once established."""
        self._limits = limits
        self._acceptor = acceptor
        self._loop = asyncio.get_running_loop()
        self._request: pdu.AssociateRequest | None = None
        self._assembler: Assembler | None = None
        self._fragment_bytes = 0
        self._messages: deque[Message] = deque()
        self._bytes_waiting = 0
        self._is_full = self._is_held = False
        self._requests: dict[int, asyncio.Event] = {}
        """Requests of the peer that have no final response yet, each with whether it was cancelled."""
        self._message_waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._end: AssociationEnded | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._confirmed: asyncio.Future[bool] = self._loop.create_future()
        """Whether there is an association. No exception: what it was raised through would hold this for ever."""
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._began = self._heard_at = self._message_began = self._loop.time()
        self._last_message_id = 0
        self._rejected: pdu.AssociateReject | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self._end is None and self.wire.is_established

    @property
    def end(self) -> AssociationEnded | None:
        """How it ended; None: it has not."""
        return self._end

    @property
    def peer_address(self) -> str:
        """The other end's IP address."""
        return self.wire.peer_address[0]

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS connection; None: it is plain."""
        return self.wire.ssl_object

    def next_message_id(self) -> int:
        """An id for a request of ours: 1 to 65535, then again from 1."""
        self._last_message_id = self._last_message_id % (MESSAGE_IDS - 1) + 1
        return self._last_message_id

    def cancelled(self, message_id: int) -> asyncio.Event:
        """Set when C-CANCEL comes for this request of the peer, which is at work."""
        return self._requests[message_id]

    async def receive(self) -> Message:
        """The next message, C-CANCEL apart; raises `AssociationEnded` once it is over and all is fetched."""
        while not self._messages:
            if self._end is not None:
                raise AssociationEnded(self._end.why, str(self._end))
            self._message_waiter = self._loop.create_future()
            await self._message_waiter
        message = self._messages.popleft()
        self._bytes_waiting -= len(message.data_set)
        if self._is_full and self._has_room(2):
            self._pace(is_full=False, is_held=self._is_held)
        return message

    async def send(self, context_id: int, command: Command, data: Data | Sequence[Data] | None = None) -> None:
        """Send one message, in one write if it is short; returns when the network has room for the next one.

        Raises `AssociationEnded`. A peer that takes nothing for `send_timeout_s` is aborted.
        """
        await self.send_batch(context_id, [(command, data)])

    async def send_batch(self, context_id: int, messages: Iterable[Outgoing]) -> None:
        """Send several messages in as few writes as possible. As `send`."""
        async with self._sending:
            for buffers in writes(context_id, messages, self._fragment_bytes):
                await self._write(buffers)
        self._heard_at = self._loop.time()

    async def send_stream(self, context_id: int, command: Command, data_bytes: int, pieces: Pieces) -> None:
        """Send one message whose data set comes in pieces, `data_bytes` in all. As `send`; nothing leaves before the
        first piece is there, and where a later one fails to come the association is aborted. Raises `Damaged`.
        """
        outflow = Outflow(context_id, command, data_bytes, self._fragment_bytes)
        async with self._sending:
            try:
                async for buffers in outflow.writes(pieces):
                    await self._write(buffers)
            finally:
                if outflow.is_begun and not outflow.is_whole:
                    self.abort("a data set could not be sent to its end")
        self._heard_at = self._loop.time()

    def answered(self, message_id: int) -> None:
        """Say that a request of the peer has its final response: the next one may come."""
        self._requests.pop(message_id, None)

    async def release(self) -> None:
        """Release in order, or abort if the peer does not answer that; returns when it is over."""
        self.wire.request_release()
        try:
            async with asyncio.timeout(self._limits.wire.artim_timeout_s):
                await asyncio.shield(self._over)
        except TimeoutError:
            self.wire.abort("no answer to the release")

    def abort(self, text: str = "") -> None:
        """Abort it now."""
        self.wire.abort(text)

    async def over(self) -> AssociationEnded:
        """Wait for its end."""
        await asyncio.shield(self._over)
        assert self._end is not None
        return self._end

    async def established(self) -> None:
        """As requestor: wait for the acceptor's answer; raises `AssociationRejected` or `AssociationEnded`."""
        if not await asyncio.shield(self._confirmed):
            if self._rejected is not None:
                raise AssociationRejected(self._rejected)
            assert self._end is not None
            raise AssociationEnded(self._end.why, str(self._end))

    # What the wire tells.

    def requested(self, request: pdu.AssociateRequest) -> None:
        """See `wire.User`."""
        assert self._acceptor is not None
        self._request = request
        self._task = self._loop.create_task(self._accept(self._acceptor, request))
        self._task.add_done_callback(self._served)

    def confirmed(self, accept: pdu.AssociateAccept) -> None:
        """See `wire.User`."""
        assert self._request is not None
        self._establish(agreed(self._request, accept, we_are_requestor=True))
        self._confirmed.set_result(True)

    def rejected(self, reject: pdu.AssociateReject) -> None:
        """See `wire.User`."""
        self._rejected = reject

    def fragment(self, context_id: int, control: int, piece: memoryview, is_end: bool) -> None:
        """See `wire.User`."""
        assembler = self._assembler
        assert assembler is not None
        if not assembler.bytes_of_message:
            self._message_began = self._loop.time()
        message = assembler.fragment(context_id, control, piece, is_end)
        if message is not None:
            self._arrived(message)

    def writable(self) -> None:
        """See `wire.User`."""
        _wake(self._write_waiter)

    def ended(self, why: Ended, text: str) -> None:
        """See `wire.User`."""
        self._end = AssociationEnded(why, text)
        if self._watch is not None:
            self._watch.cancel()
        if self._assembler is not None:
            self._assembler.abandon()
            self._assembler = None  # it asks this object for sinks: a circle that only the collector would find
        if not self._confirmed.done():
            self._confirmed.set_result(False)
        self._over.set_result(None)
        _wake(self._message_waiter)
        _wake(self._write_waiter)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _accept(self, acceptor: Acceptor, request: pdu.AssociateRequest) -> None:
        try:
            answer = await acceptor.admit(self, request)
            if isinstance(answer, pdu.AssociateAccept) and self._end is None:
                self._establish(agreed(request, answer, we_are_requestor=False))
            self.wire.respond(answer)
            if self.is_open:
                self._confirmed.set_result(True)
                self._look()
                await acceptor.serve(self)
        except AssociationFailure:
            pass  # it is over, and everybody was told
        except PduError as error:
            self.wire.abort(str(error), is_limit=True)
        except Exception as error:  # outermost frame of an association: a bug is its end alone
            log.exception("association failed", error=type(error).__name__)
        finally:
            self.wire.abort("the service is over")

    def _served(self, _task: asyncio.Task[None]) -> None:
        self._task = None

    def _establish(self, terms: Terms) -> None:
        if 0 < terms.peer_pdu_bytes_max < PEER_PDU_BYTES_MIN:
            raise PduError("the peer's longest PDU cannot hold a message", AbortReason.INVALID_PARAMETER)
        self.terms = terms
        self._fragment_bytes = fragment_bytes_max(terms.peer_pdu_bytes_max)
        self._assembler = Assembler(terms.contexts, self._limits.messages, self._sink)
        self.wire.read_much(not self.takes_inflows)
        self._heard_at = self._loop.time()

    def _arrived(self, message: Message) -> None:
        self._heard_at = self._loop.time()
        command = message.command
        if command.is_cancel:
            if (cancelled := self._requests.get(command.message_id)) is not None:
                cancelled.set()
            return
        if command.is_request:
            if len(self._requests) >= REQUESTS_AT_ONCE_MAX or command.message_id in self._requests:
                raise PduError("more requests at once than agreed", AbortReason.NOT_SPECIFIED)
            self._requests[command.message_id] = asyncio.Event()
        self._messages.append(message)
        self._bytes_waiting += len(message.data_set)
        if not self._is_full and not self._has_room(1):
            self._pace(is_full=True, is_held=self._is_held)
        _wake(self._message_waiter)

    def _sink(self, context: Context, command: Command) -> Sink | None:
        if self.takes_inflows and command.field is CommandField.C_STORE_RQ:
            return Inflow(self._hold, self.wire.read_much)
        return self.sink_for(context, command) if self.sink_for is not None else None

    def _hold(self, is_held: bool) -> None:
        self._pace(is_full=self._is_full, is_held=is_held)

    def _pace(self, *, is_full: bool, is_held: bool) -> None:
        """Read as long as there is room for messages and whoever takes a data set keeps up."""
        was_paused, self._is_full, self._is_held = self._is_full or self._is_held, is_full, is_held
        if was_paused is not (is_full or is_held):
            (self.wire.resume_reading if was_paused else self.wire.pause_reading)()

    def _has_room(self, share: int) -> bool:
        return len(self._messages) < MESSAGES_WAITING_MAX // share and self._bytes_waiting < BYTES_WAITING_MAX // share

    async def _write(self, buffers: Sequence[bytes | memoryview]) -> None:
        while self.wire.is_write_paused and self._end is None:
            await self._writable()
        if self._end is not None or not self.wire.is_established:
            why = self._end or AssociationEnded(Ended.RELEASED, "a release is under way")
            raise AssociationEnded(why.why, str(why))
        self.wire.write(buffers)

    async def _writable(self) -> None:
        self._write_waiter = self._loop.create_future()
        try:
            async with asyncio.timeout(self._limits.send_timeout_s):
                await self._write_waiter
        except TimeoutError:
            self.wire.abort("the peer takes nothing", is_limit=True)

    def _look(self) -> None:
        """End an association that is too old, says nothing, or dribbles."""
        now, limits = self._loop.time(), self._limits
        assembler = self._assembler
        is_at_work = bool(self._requests)
        if now - self._began > limits.life_max_s and not is_at_work:
            self.wire.abort("open for too long", is_limit=True)
        elif assembler is not None and assembler.bytes_of_message and not (self._is_full or self._is_held):
            under_way_s = now - self._message_began
            if under_way_s > limits.idle_timeout_s:
                is_slow = assembler.bytes_of_message < under_way_s * limits.message_bytes_per_s_min
                if is_slow:
                    self.wire.abort("a message comes too slowly", is_limit=True)
        elif now - self._heard_at > limits.idle_timeout_s and not is_at_work:
            self.wire.abort("idle for too long", is_limit=True)
        if self._end is None:
            self._watch = self._loop.call_later(min(limits.idle_timeout_s, limits.life_max_s) / 4, self._look)


def accepting(acceptor: Acceptor, limits: AssociationLimits) -> Callable[[], asyncio.BufferedProtocol]:
    """What makes an accepting association's protocol for each new connection; all share one receive buffer."""
    shared = memoryview(bytearray(RECEIVE_BUFFER_BYTES))

    def new_protocol() -> asyncio.BufferedProtocol:
        association = Association(limits, acceptor)
        association.wire = Wire(association, limits.wire, shared)
        return association.wire

    return new_protocol


def requesting(
    request: pdu.AssociateRequest, limits: AssociationLimits, receive_buffer: memoryview
) -> tuple[Association, Wire]:
    """A requestor's association and its protocol, not connected yet."""
    association = Association(limits)
    association._request = request
    association.wire = Wire(association, limits.wire, receive_buffer, request)
    return association, association.wire


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
