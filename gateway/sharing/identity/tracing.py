"""What services beyond the registers say of a patient: asked before a question, kept for a while, believed no further.

A superseded number is recorded in the register, so that opt-outs of either number hold from that question on (C2);
hospitals' numbers and surnames only live in the cache. A lookup that fails, or takes too long, changes nothing: the
question goes on as the registers say. The same for every patient, whatever they chose and whatever exists (SAF-06).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from gateway.model.errors import ServiceFault
from gateway.model.seams import Clock, CrossReference, LinkedNumber, PatientLookup, SupersessionBook, Trace, TraceState
from gateway.model.settings import IdentitySettings
from gateway.sharing.identity.patients import folded_surname
from policy.parties import NHS_NUMBER_ISSUER, NhsNumber, PatientId

log = structlog.get_logger(__name__)

FAILED = Trace(TraceState.FAILED)


@dataclass(frozen=True, slots=True)
class Traced:
    """What all lookups together say of one identifier."""

    number: NhsNumber | None = None
    is_invalidated: bool = False
    surnames: frozenset[str] = frozenset()
    """Folded, as rows' names are."""
    local: tuple[LinkedNumber, ...] = ()

    def added_to(self, person: CrossReference) -> CrossReference:
        """What the register says, with the numbers that only the lookups know; where they disagree it stands alone."""
        if self.number not in (None, person.number, *person.former):
            return person
        known = {linked.patient_id for linked in person.local}
        more = tuple(linked for linked in self.local if linked.patient_id not in known)
        return replace(person, local=(*person.local, *more))


NOTHING = Traced()


@dataclass(slots=True)
class _Kept:
    traced: Traced
    until: float
    is_asked_for: bool = True
    """Whether the lookups were asked for this very identifier; else it came with another one of the person."""


@dataclass(slots=True)
class _Standing:
    """A lookup, and until when it is left alone."""

    lookup: PatientLookup
    paused_until: float = field(default=0.0)


class Tracing:
    """Asks the lookups, each identifier at most once in its age, and keeps what they said."""

    def __init__(
        self, lookups: Sequence[PatientLookup], book: SupersessionBook, settings: IdentitySettings, clock: Clock
    ) -> None:
        self._standings = [_Standing(lookup) for lookup in lookups]
        self._book = book
        self._settings = settings
        self._clock = clock
        self._kept: OrderedDict[PatientId, _Kept] = OrderedDict()

    def is_due(self, identifier: PatientId) -> bool:
        """Whether some lookup can be asked about an identifier, and none was in its age."""
        self.known(identifier)  # forgets what is too old
        kept, now = self._kept.get(identifier), self._clock.monotonic()
        is_known = kept is not None and kept.is_asked_for
        return not is_known and any(standing.paused_until <= now for standing in self._standings)

    async def trace(self, identifier: PatientId, request_id: str) -> None:
        """Learn what the lookups know of an identifier, unless that is known; never raises, and never takes long."""
        if not self.is_due(identifier):
            return
        traces = await asyncio.gather(*(self._ask(standing, identifier, request_id) for standing in self._standings))
        for standing, trace in zip(self._standings, traces, strict=True):
            if trace.state is TraceState.SUPERSEDED and trace.number is not None:
                await self._record(identifier, trace.number, standing.lookup.name, request_id)
        if any(trace.state is not TraceState.FAILED for trace in traces):
            names = [standing.lookup.name for standing in self._standings]
            self._keep(identifier, _together(identifier, dict(zip(names, traces, strict=True))))
            self._keep_for_others(self._kept[identifier].traced)

    def known(self, identifier: PatientId) -> Traced:
        """What was said of an identifier, as long as it may be believed."""
        kept = self._kept.get(identifier)
        if kept is not None and kept.until <= self._clock.monotonic():
            del self._kept[identifier]
            kept = None
        return kept.traced if kept is not None else NOTHING

    async def close(self) -> None:
        """Close every lookup."""
        await asyncio.gather(*(standing.lookup.close() for standing in self._standings))

    async def _ask(self, standing: _Standing, identifier: PatientId, request_id: str) -> Trace:
        if standing.paused_until > self._clock.monotonic():
            return FAILED
        asking = asyncio.create_task(standing.lookup.trace(identifier, request_id))
        deadline = asyncio.create_task(self._clock.sleep(self._settings.lookup_timeout_s))
        try:
            await asyncio.wait((asking, deadline), return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and (error := asking.exception()) is not None:
                log.error("lookup failed unexpectedly", lookup=standing.lookup.name, error=type(error).__name__)
                trace = FAILED
            else:
                trace = asking.result() if asking.done() else FAILED
        finally:
            asking.cancel()
            deadline.cancel()
        if trace.state is TraceState.FAILED:
            standing.paused_until = self._clock.monotonic() + self._settings.lookup_pause_s
            log.warning("lookup left alone", lookup=standing.lookup.name, pause_s=self._settings.lookup_pause_s)
        return trace

    async def _record(self, identifier: PatientId, survivor: NhsNumber, source: str, request_id: str) -> None:
        try:
            await self._book.supersede(NhsNumber(identifier.value), survivor, source=source, request_id=request_id)
        except ServiceFault:
            # The question's own reading of the registers tells whether they can be believed.
            log.warning("supersession not recorded", source=source)

    def _keep_for_others(self, traced: Traced) -> None:
        """What was said of one identifier of a person is known of the others that it named."""
        if traced.number is not None:
            others = [PatientId(NHS_NUMBER_ISSUER, traced.number.digits), *(each.patient_id for each in traced.local)]
            for other in others:
                if other not in self._kept:
                    self._keep(other, traced, is_asked_for=False)

    def _keep(self, identifier: PatientId, traced: Traced, *, is_asked_for: bool = True) -> None:
        until = self._clock.monotonic() + self._settings.lookup_max_age_minutes * 60
        self._kept[identifier] = _Kept(traced, until, is_asked_for)
        while len(self._kept) > self._settings.lookups_kept_max:
            self._kept.popitem(last=False)


def _together(asked: PatientId, traces: Mapping[str, Trace]) -> Traced:
    """Several lookups' words as one; NHS numbers that differ are nobody's (IDN-06), but for one that gave way."""
    numbers = {trace.number for trace in traces.values() if trace.number is not None}
    if any(trace.state is TraceState.SUPERSEDED for trace in traces.values()):
        numbers = {number for number in numbers if number.digits != asked.value}
    if len(numbers) > 1:
        return NOTHING
    surnames = {folded_surname(surname) for trace in traces.values() for surname in trace.surnames}
    return Traced(
        number=next(iter(numbers), None),
        is_invalidated=any(trace.state is TraceState.INVALIDATED for trace in traces.values()),
        surnames=frozenset(surnames - {""}),
        local=tuple(LinkedNumber(local, name) for name, trace in traces.items() for local in trace.local),
    )
