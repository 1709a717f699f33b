"""Our own upper layer as a sender: each file mapped into memory, one write a message, one request at a time.

A worker (`python -m bench.rig.dimse.sender`), as the raw sender is. All associations of a load share one event loop,
as they will in the gateway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict

from bench.rig.dimse import wire
from bench.rig.dimse.objects import Instance
from bench.rig.dimse.sending import Load, Sent
from bench.rig.workers import Told, work
from dimse.upper_layer.association import AssociationFailure, AssociationLimits
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.requestor import associate

CONNECT_TIMEOUT_S = 10.0


async def send(load: Load) -> Sent:
    """Send a load; raises `RuntimeError` when a response is no success."""
    parts = load.instances()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(_send(load.door, part))
    return Sent(sum(map(len, parts)), time.perf_counter() - began)


async def _send(door: wire.Door, instances: Sequence[Instance]) -> None:
    contexts = [(wire.CT_IMAGE_STORAGE, (wire.EXPLICIT_LE,))]
    request = propose(wire.CALLING, door.ae_title, contexts, pdu_bytes_max=131_072)
    association = await associate(
        "127.0.0.1", door.port, request, AssociationLimits(), tls=door.tls(), connect_timeout_s=CONNECT_TIMEOUT_S
    )
    for instance in instances:
        command = Command(
            CommandField.C_STORE_RQ,
            association.next_message_id(),
            sop_class_uid=wire.CT_IMAGE_STORAGE,
            has_data=True,
            priority=0,
            sop_instance_uid=instance.sop_instance_uid,
        )
        await association.send(wire.CONTEXT, command, instance.content)
        status = (await association.receive()).command.status
        if status != wire.SUCCESS:
            raise RuntimeError(f"C-STORE was answered by {status}")
    await association.release()


def _perform(told: Told) -> Told:
    try:
        return asdict(asyncio.run(send(Load.told(told))))
    except ExceptionGroup as group:
        failure = group.exceptions[0]
        if isinstance(failure, AssociationFailure):
            raise RuntimeError(str(failure)) from group
        raise failure from group


if __name__ == "__main__":
    work(_perform)
