"""Requests of ours on associations that others opened: who waits for which response (PS3.7 D.3.3.3, window 1/1).

A response comes among the requests that a door serves, so the door hands it over here first. One request at a time on
an association; the other end may release instead of answering, and then nobody waits any longer.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from weakref import WeakKeyDictionary

from dimse.upper_layer.association import Association, AssociationEnded
from dimse.upper_layer.commands import Command
from dimse.upper_layer.messages import Message
from dimse.upper_layer.wire import Ended


class Asked:
    """What was asked of those who opened the associations of one door."""

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[Association, tuple[int, asyncio.Future[Message]]] = WeakKeyDictionary()

    async def ask(
        self, association: Association, context_id: int, command: Command, data: bytes, *, timeout_s: float
    ) -> Message:
        """Send a request and hear its response; the message id is given here.

        Raises `AssociationEnded`, also where something is asked there already, and `TimeoutError`.
        """
        if association in self._waiting:
            raise AssociationEnded(Ended.ABORTED_HERE, "something is asked there already")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        command = replace(command, message_id=association.next_message_id())
        self._waiting[association] = command.message_id, answer
        over = asyncio.ensure_future(association.over())
        try:
            async with asyncio.timeout(timeout_s):
                await association.send(context_id, command, data)
                await asyncio.wait((answer, over), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise await over
            return answer.result()
        finally:
            over.cancel()
            self._waiting.pop(association, None)

    def heard(self, association: Association, message: Message) -> bool:
        """Hand a message over to who waits for it; False: nobody does."""
        waiting = self._waiting.get(association)
        if waiting is None or message.command.is_request or message.command.message_id != waiting[0]:
            return False
        if not waiting[1].done():
            waiting[1].set_result(message)
        return True
