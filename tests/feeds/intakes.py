"""An intake that keeps messages in memory, and fails when it is told to."""

import asyncio
from datetime import datetime

from gateway.model.errors import StoreUnavailable
from gateway.model.reporting.seams import FeedMessage, MessageState, Taken
from policy.parties import TrustId


class MemoryIntake:
    """Every message once, by its name; the seam of the real one."""

    def __init__(self) -> None:
        self.messages: list[FeedMessage] = []
        self._names: set[str] = set()
        self.is_down = False
        self.is_broken = False
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.is_asked = asyncio.Event()
        self.heard: list[tuple[str, datetime]] = []

    async def take(self, message: FeedMessage) -> Taken:
        self.is_asked.set()
        await self.may_go_on.wait()
        if self.is_down:
            raise StoreUnavailable("the database is gone")
        if self.is_broken:
            raise RuntimeError("a mistake of ours")
        is_new = not message.message_id or message.message_id not in self._names
        self._names.add(message.message_id)
        if is_new:
            self.messages.append(message)
        if message.problem:
            return Taken(MessageState.DEAD, is_new)
        state = MessageState.FILED if message.reports else MessageState.IGNORED
        return Taken(state, is_new, tuple(each.report_number for each in message.reports))

    async def heard_from(self, trust: TrustId, feed: str, at: datetime) -> None:
        self.heard.append((feed, at))


class MemoryFigures:
    """What was counted."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def message_taken(self, feed: str, outcome: str, duration_s: float) -> None:
        self.outcomes.append(outcome)
