"""A storage service for tests of the layer below: says of every image that it is stored, and counts its bytes."""

from __future__ import annotations

from dimse.server import Identify
from dimse.upper_layer.association import Association
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Context

CT = "1.2.840.10008.5.1.4.1.1.2"


class Counted:
    """Where an image goes: nowhere. Its length is what remains of it."""

    def __init__(self) -> None:
        self._size = 0

    def write(self, piece: memoryview) -> None:
        """See `Sink`."""
        self._size += len(piece)

    def finish(self) -> object:
        """See `Sink`."""
        return self._size

    def abandon(self) -> None:
        """See `Sink`."""


def counted(_context: Context, command: Command) -> Counted | None:
    """The sink of an image; None for other data sets."""
    return Counted() if command.field is CommandField.C_STORE_RQ else None


class Storing:
    """Answers C-STORE."""

    command = CommandField.C_STORE_RQ

    def __init__(self, *transfer_syntaxes: str) -> None:
        self.transfer_syntaxes = transfer_syntaxes
        self.sizes: list[object] = []
        """Of every image, in the order in which they came."""

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """See `Service`."""
        self.sizes.append(message.data)
        await association.send(message.context.context_id, response(message.command, 0))
        return 0
