"""C-MOVE: to whom images may be sent for a caller, and that they are (PS3.4 C.4.2; SAF-13).

A destination that nobody here knows is A801; one that is known and not this caller's is not authorised, with or without
such a study. What the destination's organisation may receive is decided behind `Retrievals`. Images are sent over as
many associations as the destination takes; one that is gone for good ends the retrieval.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace

import structlog

from dimse.awaited import Originator
from dimse.scp.endings import DESTINATION_NOT_ALLOWED, DESTINATION_UNKNOWN, RetrieveStatus
from dimse.scp.profiles import MoveDestination, OnDisconnect
from dimse.scp.retrieve_scp import CarrierFor, DestinationRefused, Request, told
from dimse.scu.send import NotSent, Sender, Transcoder
from dimse.status import Ending
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Delivery, Destination, Item

log = structlog.get_logger(__name__)


def moving(
    limits: Limits, known_titles: Callable[[], Collection[str]], transcoder: Transcoder | None = None
) -> CarrierFor:
    """What carries out C-MOVE; `known_titles` are the AE titles of all destinations, whoever may name them."""

    def carrier_for(request: Request) -> Moving:
        to, terms = _allowed(request, known_titles()), request.association.terms
        originator = Originator(terms.calling_ae_title, request.message.command.message_id)
        may_outlive_caller = request.profile.on_disconnect is OnDisconnect.FINISH
        return onward(to, limits, transcoder, originator, may_outlive_caller=may_outlive_caller)

    return carrier_for


def onward(
    to: MoveDestination,
    limits: Limits,
    transcoder: Transcoder | None,
    originator: Originator | None = None,
    *,
    may_outlive_caller: bool = True,
) -> Moving:
    """The way to a destination; without an `originator` nobody's C-MOVE asks for it any more."""
    limits = replace(limits, store_associations_max=to.associations_max)
    return Moving(to, limits, originator, transcoder, to.destination, may_outlive_caller)


@dataclass(frozen=True, slots=True)
class Moving:
    """A `Carrier` to another application entity."""

    to: MoveDestination
    limits: Limits
    originator: Originator | None
    transcoder: Transcoder | None
    destination: Destination | None
    """Named also where it is the caller's own title, so that the ledger says where its images went."""
    may_outlive_caller: bool
    may_be_cut: bool = True
    """Only its own associations are."""

    async def carry(self, delivery: Delivery) -> None:
        """See `Carrier`."""
        classes = {ref.sop_class_uid for ref in delivery.refs}
        items, turn = aiter(delivery), asyncio.Lock()
        sender = Sender(self.to.receiver, classes, self.limits, originator=self.originator, transcoder=self.transcoder)
        try:
            async with sender, asyncio.TaskGroup() as lines:
                for _ in range(self.to.associations_max):
                    lines.create_task(_send(sender, delivery, items, turn))
        except ExceptionGroup as failures:
            # Whichever line met it first: what ends the delivery ends all of them.
            raise failures.exceptions[0] from None


async def _send(sender: Sender, delivery: Delivery, items: AsyncIterator[Item], turn: asyncio.Lock) -> None:
    """Send one image after the other, until there are no more or nothing can be sent there any more."""
    while True:
        async with turn:
            item = await anext(items, None)
        if item is None:
            return
        outcome = await sender.send(item)
        told(delivery, item, outcome)
        if isinstance(outcome, NotSent) and outcome.is_final:
            return


def _allowed(request: Request, known_titles: Collection[str]) -> MoveDestination:
    title = request.message.command.move_destination
    found = request.profile.destinations.get(title)
    if found is not None:
        return found
    is_known = title in known_titles
    caller = request.caller.principal.subject
    log.warning("move destination refused", caller=caller, asked=title, is_known=is_known)
    ending = Ending(RetrieveStatus.DESTINATION_UNKNOWN, DESTINATION_UNKNOWN)
    if is_known:
        ending = Ending(RetrieveStatus.NOT_AUTHORISED, DESTINATION_NOT_ALLOWED)
    raise DestinationRefused(ending, title, is_known=is_known)
