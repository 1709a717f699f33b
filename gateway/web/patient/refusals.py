"""Write down who was refused what, and whether a proxy may look at all.

A refusal of somebody who is proved is always recorded. Of those who prove nothing, and could send rubbish without end,
so many a minute are, and the next one tells how many were left out. A browser is told neither.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from gateway.model.audit import AuditEntry, AuditEvent, AuditRecord
from gateway.model.imaging import JsonValue
from gateway.model.reporting.reading import Looking
from gateway.model.seams import Clock
from policy.release.clock import birthday
from policy.release.terms import Calendar

PROXY_AGE_END: Final = 13
"""No proxy sees reports from this birthday on: reviewed to the 16th (SAF-65), and suspended from there (domain.md A7).

A token does not tell since when somebody acts for the patient, so one for an adult cannot be told from a parent's."""
UNPROVEN_A_MINUTE_MAX: Final = 60


class AuditBook(Protocol):
    """Where refusals are kept."""

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """Append; returns when durable, raises a `ServiceFault`."""


class Refusals:
    """Everything that this page refused."""

    def __init__(self, book: AuditBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._minute = 0
        self._in_minute = 0
        self._left_out = 0

    async def of_looking(self, looking: Looking, rule: str, why: str) -> None:
        """Somebody who is proved was refused; raises a `ServiceFault`."""
        body: dict[str, JsonValue] = {
            "door": "patient-page",
            "rule": rule,
            "refusal": why,
            "patient": looking.patient.nhs_number.digits,
        }
        if looking.is_proxy:
            body["by"] = looking.actor
        await self._append(looking.request_id, body)

    async def of_nobody(self, request_id: str, rule: str, why: str) -> None:
        """Somebody who proved nothing was refused; raises a `ServiceFault`."""
        minute = int(self._clock.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._in_minute = minute, 0
        if self._in_minute >= UNPROVEN_A_MINUTE_MAX:
            self._left_out += 1
            return
        self._in_minute += 1
        body: dict[str, JsonValue] = {"door": "patient-page", "rule": rule, "refusal": why}
        left_out, self._left_out = self._left_out, 0
        if left_out:
            body["left_out"] = left_out
        await self._append(request_id, body)

    async def _append(self, request_id: str, body: dict[str, JsonValue]) -> None:
        await self._book.append_audit(AuditEntry(AuditEvent.REPORT_REFUSED, self._clock.now(), request_id, body))


def may_look(looking: Looking, now: datetime) -> bool:
    """Whether whoever looks may see anything of the patient at this instant, by what their token says."""
    return not looking.is_proxy or now < birthday(looking.patient.birth_date, PROXY_AGE_END, Calendar())
