"""Asking trusts for the sake of knowing where imaging is, and of nothing else (SAF-05, C7).

The question goes the way of every other: the registers say by which numbers a trust may know a patient, every row is
read by the identity rules, and a record stands in the audit before anybody is asked. Nobody is shown anything of it,
and of who opted out the index is left as if somebody had been asked (SAF-06). When to ask is the callers' affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.imaging import PATIENT_ID, STUDY_UID, JsonValue, Key, Level, Query, SourceState
from gateway.model.seams import LocationIndex, PeerRequest
from gateway.model.settings import Limits
from gateway.sharing import locate
from gateway.sharing.guard.gate import Gate
from gateway.sharing.identity.people import People
from gateway.sharing.merge import Part
from gateway.sharing.peers import Peers
from gateway.sharing.scope import for_peers
from policy.parties import NhsNumber, TrustId

SAMPLES_MAX = 100
"""Patients asked for in one sampling of locations."""

Written = Callable[[TrustId, str], Awaitable[Collection[str]]]
"""What is held here of a trust's study, by SOP instance UID; raises a `ServiceFault`."""
_HEARD = frozenset({SourceState.ANSWERED, SourceState.TRUNCATED})


@dataclass(frozen=True, slots=True)
class Sought:
    """What a trust said of a study of its own."""

    is_heard: bool
    """Whether it answered at all; else nothing below means anything."""
    patients: frozenset[NhsNumber] = frozenset()
    """Whose the study is, by what its rows carry: more than one where they disagree."""
    is_settled: bool = False
    """Whether asking again would teach nothing more: the study is there, and whose it is can be said or never will be.

    A row whose identifiers contradict each other is not: it may be the study of either.
    """


class Sampling:
    """Asks trusts for the location index alone."""

    def __init__(
        self,
        gate: Gate,
        peers: Peers,
        people: People,
        locations: LocationIndex,
        limits: Limits,
        *,
        left_alone: Callable[[], frozenset[TrustId]] = frozenset,
        written: Written | None = None,
    ) -> None:
        """`left_alone` names the trusts whose archives are not to be asked anything now; `written` is what this gateway
        itself holds of a trust's study beside its archive.
        """
        self._written = written
        self._gate = gate
        self._peers = peers
        self._people = people
        self._locations = locations
        self._limits = limits
        self._left_alone = left_alone

    @property
    def trusts(self) -> frozenset[TrustId]:
        """Every trust that can be asked."""
        return self._peers.trusts

    def heard_from(self, trust: TrustId) -> None:
        """A trust spoke to us, so it may be up again."""
        self._peers.heard_from(trust)

    async def sample(self, patients: Sequence[NhsNumber], trusts: Collection[TrustId], request_id: str) -> None:
        """Ask these trusts for these patients, one patient after the other.

        At most `SAMPLES_MAX` patients. Of who opted out nobody is asked. Raises a `ServiceFault` when the registers or
        the audit fail.
        """
        sampled = (self._peers.trusts & frozenset(trusts)) - self._left_alone()
        numbers = patients[:SAMPLES_MAX]
        if not sampled or not numbers:
            return
        opted_out = await self._gate.opted_out(numbers)
        digits: list[JsonValue] = [number.digits for number in numbers if number not in opted_out]
        await self._record(sampled, request_id, {"patients": digits})
        for number in numbers:
            query = Query(Level.STUDY, (Key((PATIENT_ID,), "LO", (number.digits,)),))
            named, asked_at = await self._people.pinned(query), self._gate.clock.now()
            patient = named.scope.patient or number
            asked = self._people.askable(named, sampled, is_hidden=number in opted_out)
            if number in opted_out:
                expected = [Part(answer.trust, answer.state) for answer in self._peers.expected(asked)]
                self._locations.note(locate.sampled(patient, None, expected, asked_at))
                continue
            request = PeerRequest(for_peers(query, named.scope), request_id, 1, self._limits.peer_matches_max)
            for answer in await self._peers.ask_each(self._people.requests(named, request, asked)):
                reading, judgement = await self._people.judged(answer.trust, named, query, [answer])
                self._locations.note(locate.sampled(patient, judgement, reading.parts, asked_at))

    async def seek(self, trust: TrustId, study_uid: str, request_id: str) -> Sought:
        """Ask one trust whose a study of its own is; raises a `ServiceFault` when the registers or the audit fail.

        No register decides anything here: what is learnt of who opted out is learnt the same way and in the same time,
        and no answer to anybody hangs on it (`locate.as_told`). A trust that is left alone for a while is not asked.
        """
        if trust not in self._peers.trusts - self._left_alone():
            return Sought(is_heard=False)
        if self._peers.expected([trust])[0].state is SourceState.BACKING_OFF:
            return Sought(is_heard=False)
        query = Query(Level.STUDY, (Key((STUDY_UID,), "UI", (study_uid,)),))
        named = await self._people.pinned(query)
        await self._record([trust], request_id, {"studies": [study_uid]})
        request = PeerRequest(for_peers(query, named.scope), request_id, 1, self._limits.peer_matches_max)
        answers = await self._peers.ask(request, [trust])
        reading, judgement = await self._people.judged(trust, named, query, answers)
        if not all(part.state in _HEARD for part in reading.parts):
            return Sought(is_heard=False)
        rows = [*judgement.accepted, *(row for conflict in judgement.conflicts for row in conflict.rows)]
        patients = frozenset(row.patient for row in rows if row.patient is not None)
        is_contradicted = any(row.patient is None and row.identity.is_contradicted for row in rows)
        return Sought(True, patients, bool(reading.candidates) and not is_contradicted)

    async def instances(self, trust: TrustId, study_uid: str, request_id: str) -> frozenset[str] | None:
        """What a trust has of a study, by SOP instance UID, here or there; None: the whole list cannot be had now.

        For what is kept here of it, and asked for nobody: whose it is, and who may have it, is decided when somebody
        wants it. Raises a `ServiceFault` when the registers or the audit fail.
        """
        written = frozenset(await self._written(trust, study_uid)) if self._written is not None else frozenset[str]()
        if trust not in self._peers.trusts:
            return written or None
        if trust in self._left_alone() or self._peers.expected([trust])[0].state is SourceState.BACKING_OFF:
            return None
        query = Query(Level.IMAGE, (Key((STUDY_UID,), "UI", (study_uid,)),))
        named = await self._people.pinned(query)
        await self._record([trust], request_id, {"studies": [study_uid], "for": "kept copies"})
        limits = self._limits
        request = PeerRequest(for_peers(query, named.scope), request_id, 1, limits.listing_matches_max)
        answers = await self._peers.ask_each({trust: (request,)}, timeout_s=limits.listing_timeout_s)
        reading, _ = await self._people.judged(trust, named, query, answers)
        if any(part.state is not SourceState.ANSWERED for part in reading.parts):
            return None
        return written.union(row.sop_uid for row in reading.candidates)

    async def _record(self, trusts: Collection[TrustId], request_id: str, what: Mapping[str, JsonValue]) -> None:
        codes: list[JsonValue] = [trust.code for trust in sorted(trusts)]
        body = {**what, "trusts": codes}
        now = self._gate.clock.now()
        await self._gate.store.append_audit(AuditEntry(AuditEvent.LOCATION_SAMPLE, now, request_id, body))
