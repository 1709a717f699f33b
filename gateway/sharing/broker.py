"""The one door for images. Every protocol's question comes here, and nothing else reaches a peer or a register.

A question is pinned, guarded, asked of every trust that shares anything with the caller, judged row by row, merged,
paged and recorded; only then is it answered. A trust that fails is named in the answer, unless none answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.model.errors import InvalidRequest, OverCapacity, PeerError, QueryTooBroad, ServiceFault
from gateway.model.imaging import (
    JsonValue,
    Level,
    Match,
    Matches,
    Query,
)
from gateway.model.locations import Sighting
from gateway.model.seams import Clock, LocationIndex, PeerRequest
from gateway.model.settings import IdentitySettings, Limits, SharingSettings
from gateway.sharing import locate
from gateway.sharing.absence import AbsenceDelays, Profile, next_on_grid
from gateway.sharing.answers.sources import Reach, check_somebody_answered, sources_of
from gateway.sharing.answers.tally import source_record
from gateway.sharing.directory import Directory
from gateway.sharing.guard.gate import Gate
from gateway.sharing.guard.passage import Passage, Wish
from gateway.sharing.identity.conflicts import Judgement, quality_items
from gateway.sharing.identity.origins import Origins
from gateway.sharing.identity.people import Named, People
from gateway.sharing.identity.tracing import Tracing
from gateway.sharing.locate import LeftOut
from gateway.sharing.merge import Part, as_shown, lacking_keys, merge
from gateway.sharing.peers import Peers, TrustAnswer
from gateway.sharing.scope import Scope, for_peers
from gateway.sharing.snapshots import Heard, Snapshot, Snapshots
from policy.parties import Caller, TrustId

log = structlog.get_logger(__name__)

NO_ANSWERS = Judgement((), ())
HOPS_MAX = 1
"""Gateways that a question may have passed before this one (DEC-01)."""
QUALITY_ITEMS_MAX = 50
"""Data-quality items recorded for one question; an archive that sends more has shown enough."""


@dataclass(slots=True)
class _Absence:
    """Whether the answer under way turned out to have no rows, and since when it is made."""

    began: float
    is_empty: bool = False


class Broker:
    """Finds studies, series and instances across trusts for callers who may know of them."""

    def __init__(
        self,
        gate: Gate,
        peers: Peers,
        directory: Directory,
        delays: AbsenceDelays,
        limits: Limits,
        settings: SharingSettings,
        clock: Clock,
        *,
        new_token: Callable[[], str],
        locations: LocationIndex | None = None,
        identity: IdentitySettings | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._gate = gate
        self._people = People(gate.store, directory, identity or IdentitySettings(), tracing)
        self._peers = peers
        self._directory = directory
        self._origins = Origins.of(directory.trusts)
        self._delays = delays
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._locations = locations
        self._snapshots = Snapshots(limits, new_token)
        self._under_way: Counter[TrustId] = Counter()

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """Find what this caller may know of, at every trust but its own (or at `query.only_trust` alone).

        Raises `InvalidRequest`, `NotFound`, `Denied`, a `ServiceFault`, or a `PeerError` when every trust that was
        asked failed. `snapshot` continues the page order of an earlier answer while it lives (DEC-35).
        """
        absence = _Absence(self._clock.monotonic())
        if caller.hops > HOPS_MAX:
            raise InvalidRequest("this question has passed another gateway already")
        if query.only_trust is not None:
            self._directory.trust(query.only_trust)
        try:
            named = await self._people.named(caller, query)
        except QueryTooBroad:
            await self._gate.too_broad(caller, _question(query))
            raise
        self._peers.heard_from(caller.principal.trust)

        async def settle() -> Wish:
            nonlocal named
            named = await self._people.looked_up(caller, query)
            return _wish(caller, query, named)

        async with self._place(caller.principal.trust):
            is_settled = named.pending is None
            try:
                async with self._gate.guard(_wish(caller, query, named), None if is_settled else settle) as passage:
                    matches = await self._answer(passage, caller, named, snapshot, absence)
            except PeerError:
                await self._let_absence_wait(absence)
                raise
            await self._let_absence_wait(absence)
            return matches

    async def _answer(self, passage: Passage, caller: Caller, named: Named, token: str, absence: _Absence) -> Matches:
        self._people.check(caller, named)
        query, scope, began = named.query, named.scope, self._clock.monotonic()
        # Whether a patient is known is decided study by study: archives are asked for studies, and what may be seen of
        # them becomes the patient's row.
        studies = replace(query, level=Level.STUDY) if query.level is Level.PATIENT else query
        reach, asker = self._reach(passage, caller, query), caller.principal.trust
        asked = self._people.askable(named, reach.askable, is_hidden=passage.is_hidden)
        fingerprint = _fingerprint(caller, query, self._directory.quarantined)
        kept = None if passage.is_hidden else self._snapshots.find(token, fingerprint, began)
        heard = kept.heard if kept is not None else await self._hear(passage, caller, named, studies, asked)
        await passage.refresh(heard.judgement)
        permitted = await passage.visible(heard.judgement.accepted)
        visible, own_numbers = await self._people.as_now(caller, named, permitted)
        conflicting = await self._told_conflicts(passage, heard, scope)
        # Of the rows that are shown alone: a key that a hidden row lacks would tell that there is one.
        lacking = lacking_keys(query, scope, visible) if heard.has_lacking_rows else ()
        rows = merge(query.level, visible, own_numbers, self._origins)
        page, remaining, truncated_at = self._page(rows, query)
        if kept is None and remaining > 0:
            token = self._snapshots.keep(Snapshot(fingerprint, heard, began + self._limits.snapshot_max_s), began)
        not_asked = reach.not_asked(asked)
        answered = as_shown(heard.parts, self._expected(asked, asker), scope, visible)
        showing = {row.trust for row in visible} | conflicting
        shown = (*locate.as_told(answered, heard.left_out, showing), *not_asked)
        extents = {trust: self._peers.extent(trust, asker, caller.purpose) for trust in asked}
        sources = sources_of(self._directory, reach, shown, conflicting, extents)
        passage.tally.returned = len(page)
        if query.level is not Level.PATIENT:
            passage.tally.disclose_only(page)
        passage.tally.sources = source_record((*heard.parts, *not_asked), heard.judgement, page)
        absence.is_empty = not rows
        check_somebody_answered(self._directory, shown, sources)
        return Matches(page, sources, remaining, truncated_at, lacking, token if remaining > 0 else "")

    async def _hear(
        self, passage: Passage, caller: Caller, named: Named, studies: Query, asked: frozenset[TrustId]
    ) -> Heard:
        """Ask the trusts that have to be asked; for whom a register withholds, let it look and last as if they were."""
        # Found before anything that hangs on a register, so that it is the same for whoever is withheld.
        scope = named.scope
        left_out = await self._left_out(caller, scope, asked)
        question = for_peers(studies, scope)
        began, began_at = self._clock.monotonic(), self._clock.now()
        if passage.is_hidden:
            expected = self._expected(asked, caller.principal.trust)
            await self._let_asking_take_its_time(expected)
            self._note(locate.feigned(question, scope, expected, left_out, began_at))
            return Heard(NO_ANSWERS, expected, False, left_out)
        asker = caller.principal.trust
        request = PeerRequest(
            question, caller.request_id, caller.hops + 1, self._limits.peer_matches_max, asker, caller.purpose
        )
        requests = self._people.requests(named, request, asked - left_out.unasked)
        answers = await self._ask(requests, self._expected(left_out.unasked, asker))
        reading, judgement = await self._people.judged(asker, named, studies, answers)
        for answer, part in zip(answers, reading.parts, strict=True):
            if part.state is not answer.state:
                log.warning("rows not used", trust=part.trust.code, state=part.state.value, rows=part.rows)
        if not left_out.unasked and not any(part.rows for part in reading.parts):
            self._delays.question_was_empty(_profile(reading.parts), self._clock.monotonic() - began)
        self._note(locate.learnt(question, scope, judgement, reading.parts, left_out, began_at))
        why = {answer.trust: answer.reason for answer in answers}
        answered = (replace(part, reason=why[part.trust]) for part in reading.parts)
        parts = sorted((*answered, *map(locate.unasked_part, left_out.unasked)), key=lambda part: part.trust)
        told = frozenset(answer.trust for answer in answers if answer.has_identity_conflict)
        return Heard(judgement, tuple(parts), reading.has_lacking_rows, left_out, told)

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
        self, requests: Mapping[TrustId, Sequence[PeerRequest]], unasked: Sequence[Part]
    ) -> Sequence[TrustAnswer]:
        """Ask, for as long as it would take if the others were asked too: what is spared is theirs, not the caller's.

        Otherwise a patient of whom there is nothing would be told by the haste of the answer from one who is withheld.
        """
        if not unasked:
            return await self._peers.ask_each(requests)
        async with asyncio.TaskGroup() as tasks:
            answers = tasks.create_task(self._peers.ask_each(requests))
            tasks.create_task(self._let_asking_take_its_time(unasked))
        return answers.result()

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

    def _reach(self, passage: Passage, caller: Caller, query: Query) -> Reach:
        coverage = {trust: passage.coverage(trust) for trust in self._candidates_for(caller, query)}
        sharing = [trust for trust, extent in coverage.items() if not extent.is_nothing]
        down = self._directory.announced(sharing, self._clock.now())
        beyond = self._directory.behind_gateways if caller.hops >= HOPS_MAX else frozenset()
        return Reach(coverage, self._peers.trusts, down, beyond)

    def _expected(self, trusts: Iterable[TrustId], asker: TrustId) -> tuple[Part, ...]:
        return tuple(Part(answer.trust, answer.state) for answer in self._peers.expected(trusts, asker))

    async def _told_conflicts(self, passage: Passage, heard: Heard, scope: Scope) -> frozenset[TrustId]:
        """Report every conflict to its custodians; the trusts at which the caller is told of one (SAF-08)."""
        judgement = heard.judgement
        items = [item for each in (*judgement.conflicts, *judgement.doubts) for item in quality_items(each)]
        if len(items) > QUALITY_ITEMS_MAX:
            log.warning("conflicts left unreported", items=len(items) - QUALITY_ITEMS_MAX)
        await self._gate.report(items[:QUALITY_ITEMS_MAX])
        told = set(passage.told_by_gateways(heard.conflicts_told, scope.patient))
        for conflict in judgement.conflicts:
            passage.tally.withheld += len(conflict.rows)
            told |= passage.told_at(conflict, scope.patient)
        return frozenset(told)

    def _page(self, rows: Sequence[Match], query: Query) -> tuple[tuple[Match, ...], int, int | None]:
        whole = rows[: self._limits.matches_max]
        truncated_at = self._limits.matches_max if len(rows) > len(whole) else None
        limit = len(whole) if query.limit is None else query.limit
        page = tuple(whole[query.offset : query.offset + limit])
        return page, max(0, len(whole) - query.offset - len(page)), truncated_at

    async def _let_asking_take_its_time(self, parts: Sequence[Part]) -> None:
        """Stand in for the asking of trusts when nobody is asked: as long as it lately took to hear of nothing.

        All other steps are the same whether a register withholds or nothing exists, so only this one is imitated.
        """
        if self._settings.absence_timing:
            await self._sleep(self._delays.draw(_profile(parts)))

    async def _let_absence_wait(self, absence: _Absence) -> None:
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

    @contextlib.asynccontextmanager
    async def _place(self, trust: TrustId) -> AsyncIterator[None]:
        """Hold one of the places for questions under way; raises `OverCapacity` at once when there is none."""
        if self._under_way.total() >= self._limits.queries_at_once_max:
            raise OverCapacity("too many questions are under way")
        if self._under_way[trust] >= self._limits.queries_per_caller_at_once_max:
            raise OverCapacity("too many questions of this trust are under way")
        self._under_way[trust] += 1
        try:
            yield
        finally:
            self._under_way[trust] -= 1


def _profile(parts: Sequence[Part]) -> Profile:
    return frozenset((part.trust, part.state) for part in parts)


def _fingerprint(caller: Caller, query: Query, quarantined: frozenset[str]) -> str:
    """What a snapshot is bound to: everything that the answer hangs on but the page. Sets in one order.

    A page after a study went into quarantine is asked anew.
    """
    who = caller.principal
    asker = (who.subject, who.kind, who.trust, sorted(who.teams), sorted(who.proven_by), caller.purpose)
    asked = replace(query, include=frozenset(), limit=None, offset=0)
    return repr((asker, asked, sorted(query.include), hash(quarantined)))


def _wish(caller: Caller, query: Query, named: Named) -> Wish:
    return Wish(caller, named.scope.patient, query.only_trust, _question(query))


def _question(query: Query) -> dict[str, JsonValue]:
    keys: list[JsonValue] = [[".".join(key.path), *key.values] for key in query.keys]
    return {
        "level": query.level.value,
        "keys": keys,
        "limit": query.limit,
        "offset": query.offset,
        "trust": query.only_trust.code if query.only_trust is not None else "",
    }
