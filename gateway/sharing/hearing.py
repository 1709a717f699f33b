"""Hearing of the region: whom a question is for, what they say to it, and how long silence takes.

A trust that need not be asked is left out, and where a register withholds, nobody is asked: then the time that asking
would have taken is imitated, so that nothing of the difference is left to be measured (SAF-06).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from gateway.model.errors import ServiceFault
from gateway.model.imaging import SOP_UID, Attributes, Level, NotAskedReason, Query
from gateway.model.locations import Sighting
from gateway.model.seams import Clock, LocationIndex, PeerRequest
from gateway.model.settings import Limits, SharingSettings
from gateway.sharing import locate
from gateway.sharing.absence import AbsenceDelays, Profile, next_on_grid
from gateway.sharing.answers.sources import Reach
from gateway.sharing.directory import Directory
from gateway.sharing.guard.passage import Passage
from gateway.sharing.identity.conflicts import Judgement
from gateway.sharing.identity.people import Named, People, known_by
from gateway.sharing.locate import LeftOut
from gateway.sharing.merge import Part, texts
from gateway.sharing.peers import Peers, TrustAnswer
from gateway.sharing.scope import Scope, for_peers
from gateway.sharing.snapshots import Heard
from policy.parties import Caller, PatientId, TrustId

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a trust may take for its answer."""

    matches_max: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Rows by trust, and the trusts of which more is held than they tell of."""

    rows: Mapping[TrustId, Sequence[Attributes]]
    cut: frozenset[TrustId] = frozenset()


class Witness(Protocol):
    """Who knows what holders said of studies, where they do not say it now. Raises nothing."""

    async def rows(
        self, study_uids: Collection[str], silent: Collection[TrustId]
    ) -> Mapping[TrustId, Sequence[Attributes]]:
        """By trust: rows at level IMAGE of what came from the `silent` ones, but for sole copies."""

    async def sole(
        self, question: Query, scope: Scope, known_by: Collection[PatientId], allowance: Allowance
    ) -> Witnessed:
        """Every trust's sole copies that may answer the question, at its level; its patient is `known_by` these."""

    async def unread(self) -> frozenset[TrustId]:
        """The trusts of whose sole copies nothing can be told at this moment; the same for every patient."""


NO_ANSWERS = Judgement((), ())
HOPS_MAX = 1
"""Gateways that a question may have passed before this one (DEC-01)."""


@dataclass(slots=True)
class Absence:
    """Whether the answer under way turned out to have no rows, and since when it is made."""

    began: float
    is_empty: bool = False


class Hearing:
    """Asks the trusts of a region, or lasts as if it did."""

    def __init__(
        self,
        people: People,
        peers: Peers,
        directory: Directory,
        delays: AbsenceDelays,
        limits: Limits,
        settings: SharingSettings,
        clock: Clock,
        locations: LocationIndex | None,
        witness: Witness | None,
    ) -> None:
        self._people = people
        self._peers = peers
        self._directory = directory
        self._delays = delays
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._locations = locations
        self._witness = witness

    async def hear(
        self,
        passage: Passage,
        caller: Caller,
        named: Named,
        studies: Query,
        asked: frozenset[TrustId],
        allowance: Allowance,
        reach: Reach,
    ) -> Heard:
        """Ask the trusts that have to be asked; for whom a register withholds, let it look and last as if they were."""
        # Found before anything that hangs on a register, so that it is the same for whoever is withheld.
        scope = named.scope
        left_out = await self._left_out(caller, scope, asked)
        question = for_peers(studies, scope)
        unread = frozenset[TrustId]() if self._witness is None else await self._witness.unread()
        began, began_at = self._clock.monotonic(), self._clock.now()
        if passage.is_hidden:
            expected = self.expected(asked, caller.principal.trust)
            await self._let_asking_take_its_time(expected)
            self._note(locate.feigned(question, scope, expected, left_out, began_at))
            return Heard(NO_ANSWERS, expected, False, left_out, began_at, unread=unread)
        asker = caller.principal.trust
        request = PeerRequest(
            question, caller.request_id, caller.hops + 1, allowance.matches_max, asker, caller.purpose
        )
        requests = self._people.requests(named, request, asked - left_out.unasked)
        resting = (*reach.not_asked(asked), *map(locate.unasked_part, left_out.unasked))
        async with asyncio.TaskGroup() as tasks:
            # Beside each other: what reading here takes does not show, and nobody waits for it.
            asking = tasks.create_task(self._ask(requests, self.expected(left_out.unasked, asker), allowance.timeout_s))
            held = tasks.create_task(self._sole(named, studies, allowance))
        answers = await self._with_kept(asking.result(), held.result(), studies, scope, resting)
        reading, judgement = await self._people.judged(asker, named, studies, answers)
        for answer, part in zip(answers, reading.parts, strict=True):
            if part.state is not answer.state:
                log.warning("rows not used", trust=part.trust.code, state=part.state.value, rows=part.rows)
        if not left_out.unasked and not any(part.rows for part in reading.parts):
            self._delays.question_was_empty(_profile(reading.parts), self._clock.monotonic() - began)
        self._note(locate.learnt(question, scope, judgement, reading.parts, left_out, began_at))
        why = {answer.trust: answer.reason for answer in answers}
        answered = (replace(part, reason=why[part.trust]) for part in reading.parts)
        unheard = left_out.unasked - why.keys()
        parts = sorted((*answered, *map(locate.unasked_part, unheard)), key=lambda part: part.trust)
        told = frozenset(answer.trust for answer in answers if answer.has_identity_conflict)
        return Heard(judgement, tuple(parts), reading.has_lacking_rows, left_out, began_at, told, unread)

    async def _left_out(self, caller: Caller, scope: Scope, asked: frozenset[TrustId]) -> LeftOut:
        """Who need not be asked (SAF-05); nobody, whenever that cannot be known."""
        patient = scope.patient
        if self._locations is None or patient is None or not self._settings.location_feeds:
            return locate.NOBODY
        if not locate.may_leave_out(scope, caller.purpose):
            return locate.NOBODY
        try:
            knowledge = await self._locations.known(patient)
        except ServiceFault:
            log.warning("location index not read")
            return locate.NOBODY
        expected = {answer.trust: answer.state for answer in self._peers.expected(asked, caller.principal.trust)}
        return locate.left_out(knowledge, expected, self._settings, self._clock.now())

    async def _ask(
        self, requests: Mapping[TrustId, Sequence[PeerRequest]], unasked: Sequence[Part], timeout_s: float
    ) -> Sequence[TrustAnswer]:
        """Ask, for as long as it would take if the others were asked too: what is spared is theirs, not the caller's.

        Otherwise a patient of whom there is nothing would be told by the haste of the answer from one who is withheld.
        """
        if not unasked:
            return await self._peers.ask_each(requests, timeout_s=timeout_s)
        async with asyncio.TaskGroup() as tasks:
            answers = tasks.create_task(self._peers.ask_each(requests, timeout_s=timeout_s))
            tasks.create_task(self._let_asking_take_its_time(unasked))
        return answers.result()

    async def _sole(self, named: Named, question: Query, allowance: Allowance) -> Witnessed:
        if self._witness is None:
            return Witnessed({})
        return await self._witness.sole(question, named.scope, known_by(named), allowance)

    async def _with_kept(
        self,
        answers: Sequence[TrustAnswer],
        sole: Witnessed,
        question: Query,
        scope: Scope,
        not_asked: Sequence[Part],
    ) -> Sequence[TrustAnswer]:
        """The answers, with sole copies, and of images what is kept of trusts that gave none; they stay missing.

        A trust that was not asked, being down by plan or without an archive, is there if anything of it is kept.
        """
        if self._witness is None:
            return answers
        resting = [
            TrustAnswer(part.trust, part.state, reason=part.reason)
            for part in not_asked
            if part.reason is not NotAskedReason.BEHIND_GATEWAY
        ]
        kept: Mapping[TrustId, Sequence[Attributes]] = {}
        if question.level is Level.IMAGE:
            silent = {answer.trust for answer in answers if answer.state.is_missing and not answer.rows}
            kept = await self._witness.rows(scope.study_uids, silent | {answer.trust for answer in resting})
        there = kept.keys() | sole.rows.keys() | sole.cut
        return [
            replace(
                answer,
                kept=_lacking(answer, (*kept.get(answer.trust, ()), *sole.rows.get(answer.trust, ()))),
                is_kept_cut=answer.trust in sole.cut,
            )
            if answer.trust in there
            else answer
            for answer in (*answers, *(answer for answer in resting if answer.trust in there))
        ]

    def _note(self, sightings: Sequence[Sighting]) -> None:
        if self._locations is not None and sightings:
            self._locations.note(sightings)

    def _candidates_for(self, caller: Caller, query: Query) -> list[TrustId]:
        """The trusts this question is for: the one named, else every trust of the region but the caller's own (DEC-01).

        An enrolled trust without an archive here is among them: it may hold imaging, and nobody has asked it.
        """
        if query.only_trust is not None:
            return [query.only_trust]
        known = (self._directory.enrolled | self._peers.trusts) - self._directory.retired
        return sorted(known - {caller.principal.trust})

    def reach(self, passage: Passage, caller: Caller, query: Query) -> Reach:
        coverage = {trust: passage.coverage(trust) for trust in self._candidates_for(caller, query)}
        sharing = [trust for trust, extent in coverage.items() if not extent.is_nothing]
        down = self._directory.announced(sharing, self._clock.now())
        beyond = self._directory.behind_gateways if caller.hops >= HOPS_MAX else frozenset()
        return Reach(coverage, self._peers.trusts, down, beyond)

    def expected(self, trusts: Iterable[TrustId], asker: TrustId) -> tuple[Part, ...]:
        return tuple(Part(answer.trust, answer.state) for answer in self._peers.expected(trusts, asker))

    async def _let_asking_take_its_time(self, parts: Sequence[Part]) -> None:
        """Stand in for the asking of trusts when nobody is asked: as long as it lately took to hear of nothing.

        All other steps are the same whether a register withholds or nothing exists, so only this one is imitated.
        """
        if self._settings.absence_timing:
            await self._sleep(self._delays.draw(_profile(parts)))

    async def let_absence_wait(self, absence: Absence) -> None:
        """Send answers without rows on a coarse grid, whatever the reason (SAF-06).

        Comes last, behind the outcome's record, so that nothing of what differs is left to be measured.
        """
        if absence.is_empty and self._settings.absence_timing:
            elapsed_s = self._clock.monotonic() - absence.began
            await self._sleep(next_on_grid(elapsed_s, self._settings.absence_grid_ms))

    async def _sleep(self, delay_s: float) -> None:
        began = self._clock.monotonic()
        await self._clock.sleep(delay_s)
        self._delays.timer_was_late(self._clock.monotonic() - began - delay_s)


def _lacking(answer: TrustAnswer, kept: Sequence[Attributes]) -> Sequence[Attributes]:
    """The kept rows that an answer lacks; an archive that lists an instance speaks for it."""
    listed = {text for row in answer.rows for text in texts(row, SOP_UID)}
    return [row for row in kept if listed.isdisjoint(texts(row, SOP_UID))] if listed else kept


def _profile(parts: Sequence[Part]) -> Profile:
    return frozenset((part.trust, part.state) for part in parts)
