"""Fragments become messages: a command set, and the data set that follows it into memory or into a sink (PS3.7 6.3).

One message at a time and in one presentation context, as the standard has it; whatever else comes ends the
association. Commands and data sets kept here have limits; a data set that a sink takes passes piece by piece and is
never whole in memory. A message whose sink is an `Inflow` is told of with its command, before its data set. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dimse.flow.inflow import Inflow
from dimse.upper_layer.commands import Command, CommandError, decode_command
from dimse.upper_layer.negotiation import Context
from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST
from dimse.upper_layer.pdu import AbortReason, PduError

STREAMED_FRAGMENT_BYTES_MIN = 256
"""Fragments of a streamed data set must carry as much on the average, beyond the first `fragments_max`."""


class Sink(Protocol):
    """Takes a data set while it arrives."""

    def write(self, piece: memoryview) -> None:
        """The next bytes. The view is only good until this returns."""

    def finish(self) -> object:
        """All is here; what this returns becomes `Message.data`."""

    def abandon(self) -> None:
        """The rest will not come."""


SinkFor = Callable[[Context, Command], Sink | None]
"""Chooses the sink of a command's data set; None: it is kept in memory."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: `data` is the data set's bytes, what its sink made of it, or an `Inflow`; None: it has none."""

    context: Context
    command: Command
    data: object = None

    @property
    def data_set(self) -> bytes:
        """The data set that was kept in memory; empty if there is none."""
        return self.data if isinstance(self.data, bytes) else b""

    @property
    def inflow(self) -> Inflow | None:
        """The data set that is still on its way; None: it is not, or there is none."""
        return self.data if isinstance(self.data, Inflow) else None


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """How long messages may be."""

    command_bytes_max: int = 64 * 1024
    fragments_max: int = 4_096
    """Fragments of one command, or of one data set kept in memory."""
    data_bytes_max: int = 1024 * 1024
    """A data set kept in memory."""


class Assembler:
    """Puts the fragments of one association together."""

    def __init__(self, contexts: Mapping[int, Context], limits: MessageLimits, sink_for: SinkFor | None) -> None:
        self._contexts = contexts
        self._limits = limits
        self._sink_for = sink_for
        self._buffer = bytearray()
        self._fragments = 0
        self._context: Context | None = None
        self._command: Command | None = None
        self._last_body = b""
        self._last_command: Command | None = None
        self._sink: Sink | None = None
        self.bytes_of_message = 0
        """Bytes that came of the message under way; 0 between messages."""

    def fragment(self, context_id: int, control: int, piece: memoryview, is_end: bool) -> Message | None:
        """Take a piece of a fragment; returns the message that it completes or announces. Raises `PduError`."""
        context = self._context
        if context is None:
            context = self._context = self._contexts.get(context_id)
            if context is None:
                raise PduError("a fragment is of no accepted presentation context", AbortReason.INVALID_PARAMETER)
        elif context.context_id != context_id:
            raise PduError("a message changes its presentation context", AbortReason.INVALID_PARAMETER)
        if bool(control & IS_COMMAND) is not (self._command is None):
            raise PduError("a command and its data set do not follow each other", AbortReason.INVALID_PARAMETER)
        self.bytes_of_message += len(piece)
        if self._command is None:
            return self._of_command(context, control, piece, is_end)
        return self._of_data(context, self._command, control, piece, is_end)

    def abandon(self) -> None:
        """The rest of the message under way will not come."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abandon()

    def _of_command(self, context: Context, control: int, piece: memoryview, is_end: bool) -> Message | None:
        if len(self._buffer) + len(piece) > self._limits.command_bytes_max:
            raise PduError("a command set is longer than its limit", AbortReason.NOT_SPECIFIED)
        self._buffer += piece
        if not is_end:
            return None
        self._count_fragment()
        if not control & IS_LAST:
            return None
        try:
            command = self._decoded(bytes(self._buffer))
        except CommandError as error:
            raise PduError(str(error), AbortReason.INVALID_PARAMETER) from None
        self._buffer.clear()
        self._fragments = 0
        if not command.has_data:
            return self._whole(Message(context, command))
        self._command = command
        self._sink = self._sink_for(context, command) if self._sink_for is not None else None
        return Message(context, command, self._sink) if isinstance(self._sink, Inflow) else None

    def _decoded(self, body: bytes) -> Command:
        """The command; the pending responses of a find are equal to the byte, and read once."""
        if self._last_command is None or body != self._last_body:
            self._last_command, self._last_body = decode_command(body), body
        return self._last_command

    def _of_data(
        self, context: Context, command: Command, control: int, piece: memoryview, is_end: bool
    ) -> Message | None:
        sink = self._sink
        if sink is not None:
            sink.write(piece)
        elif len(self._buffer) + len(piece) > self._limits.data_bytes_max:
            raise PduError("a data set is longer than its limit", AbortReason.NOT_SPECIFIED)
        else:
            self._buffer += piece
        if not is_end:
            return None
        self._count_fragment()
        if not control & IS_LAST:
            return None
        if sink is None:
            data: object = bytes(self._buffer)
            self._buffer.clear()
        else:
            self._sink = None
            data = sink.finish()
        message = self._whole(Message(context, command, data))
        return None if isinstance(sink, Inflow) else message

    def _count_fragment(self) -> None:
        self._fragments += 1
        if self._fragments <= self._limits.fragments_max:
            return
        if self._sink is None or self.bytes_of_message < self._fragments * STREAMED_FRAGMENT_BYTES_MIN:
            raise PduError("a message has too many fragments", AbortReason.NOT_SPECIFIED)

    def _whole(self, message: Message) -> Message:
        self._context = self._command = None
        self._fragments = self.bytes_of_message = 0
        return message
