"""Refusals on record, at most so many of a kind a minute: nobody may fill the audit by being refused.

What is beyond the limit is counted, and the next record of its kind tells how many went unrecorded before it. Decides
nothing and knows no wire; `gate.py` says what is refused and how a record becomes durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from gateway.model.audit import AuditEvent
from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock

Append = Callable[[AuditEvent, str, Mapping[str, JsonValue]], Awaitable[None]]
"""Makes an entry durable; raises `AuditUnavailable`."""


class Refusals:
    """Records refusals through `append`, each kind of event counted by itself."""

    def __init__(self, append: Append, clock: Clock, per_minute_max: int) -> None:
        self._append = append
        self._clock = clock
        self._per_minute_max = per_minute_max
        self._minute = 0
        self._this_minute: Counter[AuditEvent] = Counter()
        self._unrecorded: Counter[AuditEvent] = Counter()

    async def note(self, event: AuditEvent, request_id: str, body: Mapping[str, JsonValue]) -> None:
        """Record one, or only count it; raises `AuditUnavailable`."""
        minute = int(self._clock.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._this_minute = minute, Counter()
        self._this_minute[event] += 1
        if self._this_minute[event] > self._per_minute_max:
            self._unrecorded[event] += 1
            return
        before = self._unrecorded[event]
        await self._append(event, request_id, {**body, "unrecorded_before": before})
        self._unrecorded[event] = max(0, self._unrecorded[event] - before)
