"""One C-STORE as service class user: an instance out of the cache, piece by piece, and what its receiver says.

On an association of our own, or on a caller's that asked by C-GET. Never a whole instance in memory, and never a word
of the receiver's in what we say: its comment may hold anything. PS3.4 B.2, PS3.7 9.1.1 and 9.3.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from dimse.awaited import Originator
from dimse.scu.contexts import accepted_syntaxes, context_for
from dimse.sop_classes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, name_of
from dimse.upper_layer.association import Association, AssociationEnded
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.outgoing import WRITE_BYTES
from dimse.upper_layer.wire import Ended
from gateway.model.errors import Damaged, GatewayError
from gateway.model.work.retrievals import Item

_MEDIUM = 0x0000
_SUCCESS = 0x0000
_WARNINGS = {
    0x0107: "it does not know some data elements",
    0x0116: "it finds values out of range",
    0xB000: "it changed data elements",
    0xB006: "it discarded data elements",
    0xB007: "it finds that the instance does not match its SOP class",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """The receiver has it."""

    warning: str = ""
    """What it remarked, in our words; empty: nothing."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The receiver does not have it, as far as is known."""

    words: str
    """Why; safe to show."""
    is_final: bool = False
    """Whether nothing else can be sent there either."""


Outcome = Sent | NotSent


class Transcoder(Protocol):
    """Makes an instance fit for a receiver that does not take it as it is stored."""

    async def transcoded(self, item: Item, accepted: Collection[str]) -> Item | None:
        """The same instance in one of these transfer syntaxes; None: it cannot be had so without loss."""


async def store(
    association: Association,
    item: Item,
    *,
    originator: Originator | None = None,
    transcoder: Transcoder | None = None,
    response_timeout_s: float = 120.0,
    we_are_requestor: bool = True,
) -> Outcome:
    """Send one instance and hear what became of it. One at a time on an association.

    Raises `AssociationFailure` where the association ends before the answer: it may be tried on another. An instance
    that cannot be read to its end is not sent, and its association is aborted if it had begun.
    """
    terms, ref = association.terms, item.ref
    context = context_for(terms, ref.sop_class_uid, item.transfer_syntax, we_are_requestor=we_are_requestor)
    if context is None:
        accepted = accepted_syntaxes(terms, ref.sop_class_uid, we_are_requestor=we_are_requestor)
        if not accepted:
            return NotSent(f"the destination does not take {name_of(ref.sop_class_uid)}")
        changed = await _transcoded(item, accepted, transcoder)
        if changed is not None:
            item = changed
            context = context_for(terms, ref.sop_class_uid, item.transfer_syntax, we_are_requestor=we_are_requestor)
        if context is None:
            return NotSent(f"the destination does not take {name_of(item.transfer_syntax)}")
    command = Command(
        CommandField.C_STORE_RQ,
        association.next_message_id(),
        sop_class_uid=ref.sop_class_uid,
        has_data=True,
        priority=_MEDIUM,
        sop_instance_uid=ref.sop_uid,
        move_originator_ae_title=originator.ae_title if originator is not None else "",
        move_originator_message_id=originator.message_id if originator is not None else None,
    )
    data_bytes, is_padded = item.data_bytes, False
    if data_bytes % 2 and item.transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        data_bytes, is_padded = data_bytes + 1, True
    try:
        async with item.open() as opened:
            pieces = _padded(opened) if is_padded else opened
            if data_bytes > WRITE_BYTES:
                await association.send_stream(context.context_id, command, data_bytes, pieces)
            else:
                # One write for all of it: a third of the price of three.
                await association.send(context.context_id, command, await _whole(pieces, data_bytes))
    except GatewayError:
        return NotSent("the instance could not be read")
    return _outcome(await _status(association, command.message_id, response_timeout_s))


async def _transcoded(item: Item, accepted: Collection[str], transcoder: Transcoder | None) -> Item | None:
    if transcoder is None:
        return None
    try:
        return await transcoder.transcoded(item, accepted)
    except GatewayError:
        return None


async def _padded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A deflated data set of odd length, as files of some toolkits are: DCMTK aborts at an odd fragment (PS3.5 A.5)."""
    async for piece in pieces:
        yield piece
    yield b"\0"


async def _whole(pieces: AsyncIterator[bytes], data_bytes: int) -> list[bytes]:
    """All pieces of a short instance; raises `Damaged` where they are not as long as announced."""
    found = [piece async for piece in pieces]
    if sum(map(len, found)) != data_bytes:
        raise Damaged("an instance is not as long as it should be")
    return found or [b""]


async def _status(association: Association, message_id: int, timeout_s: float) -> int:
    # A plain timer: `asyncio.timeout` costs twice as much, and aborting is all there is to do.
    overdue = asyncio.get_running_loop().call_later(timeout_s, association.abort, "no answer to a C-STORE")
    try:
        answer = (await association.receive()).command
    finally:
        overdue.cancel()
    if answer.field is not CommandField.C_STORE_RSP or answer.message_id != message_id or answer.status is None:
        association.abort("an answer to something that was not asked")
        raise AssociationEnded(Ended.ABORTED_HERE, "an answer to something that was not asked")
    return answer.status


def _outcome(status: int) -> Outcome:
    if status == _SUCCESS:
        return Sent()
    if status in _WARNINGS or status >> 12 == 0xB:
        return Sent(f"{status:04X}: {_WARNINGS.get(status, 'it remarks something')}")
    return NotSent(f"the destination answered {status:04X}: {_why(status)}")


def _why(status: int) -> str:
    """PS3.4 B.2.3 and PS3.7 C."""
    match status >> 8, status:
        case 0xA7, _:
            return "out of resources"
        case 0xA9, _:
            return "the instance does not match its SOP class"
        case _, 0x0111:
            # PS3.7 C.5: a failure. What it keeps may be an older version of the image, and nothing says which.
            return "it has an instance of this UID, and did not take this one"
        case _, 0x0122:
            return "it does not support the SOP class"
        case _, 0x0124:
            return "not authorised"
        case family, _ if 0xC0 <= family <= 0xCF:
            return "it cannot understand the instance"
        case _:
            return "it did not take the instance"
