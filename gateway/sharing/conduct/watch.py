"""Stand before the one door and see what each caller asks over time: what passes a budget is told, never refused.

Each trust's questions are counted by how they ended, refusals included. An alert goes into the audit and the log and is
counted. It may be late or lost where the audit is down, for then every question is refused anyway; a question never
waits for more than its record, and never fails because of it (SAF-39).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import structlog

from gateway.model.asking import single_value
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import Denied, GatewayError, QueryTooBroad, ServiceFault
from gateway.model.imaging import PATIENT_ID, STUDY_UID, JsonValue, Matches, Query
from gateway.model.seams import Clock, Store
from gateway.sharing.broker import Survey
from gateway.sharing.conduct.ledger import Budgets, Ledger, Passed
from gateway.sharing.merge import Candidate
from policy.parties import Caller, TrustId

log = structlog.get_logger(__name__)

T = TypeVar("T")
STRANGER_RULE = "require-care-relationship"
"""The rule by which a caller is told that it has no relationship with whom it names."""


class Finds(Protocol):
    """The one door for images."""

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """See `gateway.sharing.broker.Broker.find`."""


class Surveys(Protocol):
    """The same door, asked for images."""

    def survey(
        self, caller: Caller, query: Query, *, recipient: TrustId, names: Callable[[Candidate], bool]
    ) -> AbstractAsyncContextManager[Survey]:
        """See `gateway.sharing.broker.Broker.survey`."""


class Asked(Finds, Surveys, Protocol):
    """The door in both ways."""


class CountsConduct(Protocol):
    """Who keeps the figures."""

    def budget_passed(self, caller: str, excess: str) -> None:
        """A caller passed a budget."""

    def caller_answered(self, trust: TrustId, outcome: str, duration_s: float) -> None:
        """A question of a trust's caller was answered, whatever was withheld, or refused with an error's name."""


class Watch:
    """The door with somebody beside it who counts."""

    def __init__(
        self, door: Asked, ledger: Ledger, budgets: Budgets, store: Store, clock: Clock, figures: CountsConduct
    ) -> None:
        self._door: Finds = door
        self._surveys: Surveys = door
        self._ledger = ledger
        self._budgets = budgets
        self._store = store
        self._clock = clock
        self._figures = figures

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """Ask as `Broker.find` does, and raise as it does."""
        began, outcome = self._clock.monotonic(), "error"
        try:
            matches = await self._counted(caller, query, snapshot)
            outcome = "answered"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except GatewayError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._figures.caller_answered(caller.principal.trust, outcome, self._clock.monotonic() - began)
        return matches

    async def _counted(self, caller: Caller, query: Query, snapshot: str) -> Matches:
        return await self.counted(caller, query, lambda: self._door.find(caller, query, snapshot), lambda it: it.rows)

    async def counted(
        self, caller: Caller, query: Query, ask: Callable[[], Awaitable[T]], found: Callable[[T], Sequence[object]]
    ) -> T:
        """Count a question that is asked so, and by what was `found`; raises as asking does."""
        name, patient = caller.principal.subject, single_value(query, PATIENT_ID)
        key = query.key(STUDY_UID)
        study_uids = key.values if key is not None else ()
        ledger, budgets, now_s = self._ledger, self._budgets, self._clock.monotonic()
        await self._tell(caller, ledger.asked(name, patient, study_uids, budgets, now_s))
        try:
            answer = await ask()
        except QueryTooBroad:
            await self._tell(caller, ledger.asked_too_broadly(name, budgets, now_s))
            raise
        except Denied as error:
            if patient and any(reason.rule == STRANGER_RULE for reason in error.decision.told):
                await self._tell(caller, ledger.told_stranger(name, patient, budgets, now_s))
            raise
        if study_uids and not found(answer):
            await self._tell(caller, ledger.missed(name, budgets, now_s))
        return answer

    @contextlib.asynccontextmanager
    async def survey(
        self, caller: Caller, query: Query, *, recipient: TrustId, names: Callable[[Candidate], bool]
    ) -> AsyncIterator[Survey]:
        """Survey as `Broker.survey` does, and raise as it does.

        A viewer asks for one study many times, so what it has is no question more; what it guesses at is counted.
        """
        name, patient, now_s = caller.principal.subject, single_value(query, PATIENT_ID), self._clock.monotonic()
        async with contextlib.AsyncExitStack() as passing:
            surveying = self._surveys.survey(caller, query, recipient=recipient, names=names)
            try:
                survey = await passing.enter_async_context(surveying)
            except Denied as error:
                if patient and any(reason.rule == STRANGER_RULE for reason in error.decision.told):
                    await self._tell(caller, self._ledger.told_stranger(name, patient, self._budgets, now_s))
                raise
            if not survey.instances:
                await self._tell(caller, self._ledger.missed(name, self._budgets, now_s))
            yield survey

    async def _tell(self, caller: Caller, passed: Sequence[Passed]) -> None:
        who = caller.principal
        for each in passed:
            kind = "enumeration" if each.excess.is_enumeration else "rate-budget"
            self._figures.budget_passed(each.caller, each.excess.value)
            log.warning(
                "caller beyond its budget",
                alarm=each.excess.is_enumeration,
                caller=each.caller,
                trust=who.trust.code,
                excess=each.excess.value,
                budget=each.budget,
            )
            body: dict[str, JsonValue] = {
                "alert": kind,
                "caller": each.caller,
                "trust": who.trust.code,
                "purpose": caller.purpose.value,
                "excess": each.excess.value,
                "budget": each.budget,
            }
            try:
                await self._store.append_audit(
                    AuditEntry(AuditEvent.SECURITY_ALERT, self._clock.now(), caller.request_id, body)
                )
            except ServiceFault:
                log.error("alert not recorded", alarm=True, caller=each.caller, excess=each.excess.value)
