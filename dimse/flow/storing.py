"""A C-STORE request into an `Intake`: durable before it is answered, whoever sent it (PS3.4 B.2, DEC-36).

The same for what an archive sends on a C-GET of ours and for what comes to our door. What the intake refuses costs that
instance alone: the rest of its data set is let go, and the answer says so.
"""

from __future__ import annotations

from dimse.flow.inflow import Broken
from dimse.upper_layer.association import Association, AssociationEnded
from dimse.upper_layer.messages import Message
from dimse.upper_layer.wire import Ended
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.work.transfers import Intake


async def take_in(association: Association, message: Message, intake: Intake) -> GatewayError | None:
    """Put the instance of a C-STORE request into `intake`; returns once it is durable, or why it was not kept.

    Then all of its data set has come, and it can be answered. Raises `AssociationEnded`.
    """
    command, inflow = message.command, message.inflow
    try:
        async with intake.take(
            command.sop_class_uid, command.sop_instance_uid, message.context.transfer_syntax
        ) as taking:
            if inflow is None:
                raise InvalidRequest("an instance came without a data set")
            await inflow.into(taking)
            await taking.keep()
        return None
    except GatewayError as error:
        refusal = error
    except Broken:
        raise _ended(association) from None
    await let_go(association, message)
    return refusal


async def let_go(association: Association, message: Message) -> None:
    """Take in nothing of what is still to come of an instance; returns once all has. Raises `AssociationEnded`."""
    if message.inflow is not None:
        try:
            await message.inflow.dropped()
        except Broken:
            raise _ended(association) from None


def _ended(association: Association) -> AssociationEnded:
    end = association.end
    return AssociationEnded(end.why if end is not None else Ended.CONNECTION_LOST, str(end or "in mid-message"))
