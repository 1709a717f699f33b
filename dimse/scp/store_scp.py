"""C-STORE as SCP: an instance comes in piece by piece, and is durable before it is answered (PS3.4 B, DEC-36).

What an archive sends on a C-MOVE of ours goes to whoever waits for it; all else is a push of the caller's, and goes
where `Receives` says. Whether it is kept is decided there, and nothing is ever called stored that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from dimse.awaited import Awaiting, Originator
from dimse.flow.storing import let_go, take_in
from dimse.scp.endings import StoreStatus, store_ending
from dimse.server import Identify
from dimse.sop_classes import TRANSFER_SYNTAXES
from dimse.status import Ending
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from gateway.model.errors import GatewayError
from gateway.model.work.transfers import Intake
from policy.parties import Caller

log = structlog.get_logger(__name__)

Reception = Callable[[Caller], Intake]
"""Where goes what a caller pushes; the intake's `take` raises what refuses it."""


class StoreService:
    """The C-STORE service of one gateway, for every storage class."""

    command = CommandField.C_STORE_RQ
    transfer_syntaxes = TRANSFER_SYNTAXES

    def __init__(self, awaiting: Awaiting, reception: Reception) -> None:
        self._awaiting = awaiting
        self._reception = reception

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Answer one C-STORE-RQ; returns its status. Raises `AssociationFailure` when nobody listens any more.

        A reload or a revocation counts from the next instance on.
        """
        try:
            caller = await identify()
            refusal = await take_in(association, message, self._intake(caller, message.command))
            end = Ending(StoreStatus.SUCCESS) if refusal is None else store_ending(refusal)
        except AssociationFailure:
            raise
        except GatewayError as error:
            end = store_ending(error)
        except Exception as error:  # outermost frame of a request: a bug is its failure alone
            log.exception("store failed", error=type(error).__name__)
            end = store_ending(error)
        await let_go(association, message)
        last = response(message.command, end.status)
        last = replace(last, offending_elements=end.offending, error_comment=end.comment)
        await association.send(message.context.context_id, last)
        return end.status

    def _intake(self, caller: Caller, command: Command) -> Intake:
        originator = None
        if command.move_originator_ae_title and command.move_originator_message_id is not None:
            originator = Originator(command.move_originator_ae_title, command.move_originator_message_id)
        awaited = self._awaiting.intake_for(caller.principal.trust, command.sop_instance_uid, originator)
        return awaited if awaited is not None else self._reception(caller)
