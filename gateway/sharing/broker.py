"""The one door for images. Every protocol's question comes here, and nothing else reaches a peer or a register.

A question is pinned, guarded, asked of every trust that shares anything with the caller, judged row by row, merged,
paged and recorded; only then is it answered. A trust that fails is named in the answer, unless none answered.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from gateway.model.errors import InvalidRequest, OverCapacity, PeerError, QueryTooBroad
from gateway.model.imaging import (
    JsonValue,
    Level,
    Match,
    Matches,
    Query,
    Source,
    SourceState,
)
from gateway.model.seams import Clock, LocationIndex
from gateway.model.settings import IdentitySettings, Limits, SharingSettings
from gateway.sharing import locate
from gateway.sharing.absence import AbsenceDelays
from gateway.sharing.answers.held import Held, held
from gateway.sharing.answers.sources import Reach, as_shown, check_somebody_answered, in_part, sources_of
from gateway.sharing.answers.tally import source_record
from gateway.sharing.directory import Directory
from gateway.sharing.guard.gate import Gate
from gateway.sharing.guard.passage import Passage, Wish
from gateway.sharing.hearing import HOPS_MAX, Absence, Allowance, Hearing, Witness
from gateway.sharing.identity.conflicts import Judgement, quality_items
from gateway.sharing.identity.origins import Origins
from gateway.sharing.identity.people import Named, People
from gateway.sharing.identity.tracing import Tracing
from gateway.sharing.merge import Candidate, Part, lacking_keys, merge
from gateway.sharing.peers import Peers
from gateway.sharing.scope import Scope
from gateway.sharing.snapshots import Heard, Recent, Snapshot, Snapshots
from policy.access import Action
from policy.parties import Caller, TrustId

log = structlog.get_logger(__name__)

QUALITY_ITEMS_MAX = 50
"""Data-quality items recorded for one question; an archive that sends more has shown enough."""


StillTheirs = Callable[[Sequence[Candidate]], Awaitable[bool]]
"""Whether rows are still the patients' whose they were, by the registers as they stand now; raises a `ServiceFault`."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What of a wish may be had, as it is known at this moment."""

    passage: Passage
    instances: tuple[Held, ...]
    judgement: Judgement
    sources: tuple[Source, ...]
    heard_at: datetime
    """When the trusts were asked, which may be a while ago."""
    whole: frozenset[TrustId] = frozenset()
    """The trusts whose lists are whole, whatever of them may be shown."""
    still_theirs: StillTheirs | None = None
    """Reads again whose rows these are."""


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
        witness: Witness | None = None,
    ) -> None:
        self._gate = gate
        self._people = People(gate.store, directory, identity or IdentitySettings(), tracing)
        self._peers = peers
        self._directory = directory
        self._origins = Origins.of(directory.trusts)
        self._hearing = Hearing(self._people, peers, directory, delays, limits, settings, clock, locations, witness)
        self._limits = limits
        self._clock = clock
        self._snapshots = Snapshots(limits, new_token)
        self._recent = Recent(limits)
        self._usual = Allowance(limits.peer_matches_max, limits.find_timeout_s)
        self._for_listing = Allowance(limits.listing_matches_max, limits.listing_timeout_s)
        self._under_way: Counter[TrustId] = Counter()

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """Find what this caller may know of, at every trust but its own (or at `query.only_trust` alone).

        Raises `InvalidRequest`, `NotFound`, `Denied`, a `ServiceFault`, or a `PeerError` when every trust that was
        asked failed. `snapshot` continues the page order of an earlier answer while it lives (DEC-35).
        """
        absence = Absence(self._clock.monotonic())
        named = await self._named(caller, query)
        async with self._place(caller.principal.trust):
            try:
                async with self._guarded(caller, query, named) as (passage, settled):
                    matches = await self._answer(passage, caller, settled(), snapshot, absence)
            except PeerError:
                await self._hearing.let_absence_wait(absence)
                raise
            await self._hearing.let_absence_wait(absence)
            return matches

    @contextlib.asynccontextmanager
    async def survey(
        self, caller: Caller, query: Query, *, recipient: TrustId, names: Callable[[Candidate], bool]
    ) -> AsyncIterator[Survey]:
        """What this caller may have, of what the query finds at level IMAGE and `names` picks from it.

        The passage lasts as long as the context, and its outcome is recorded on leaving; where there is nothing, it is
        recorded before this begins, and comes as late as any absence. Raises as `find` does.
        """
        absence = Absence(self._clock.monotonic())
        named = await self._named(caller, query)
        try:
            async with self._guarded(caller, query, named, Action.RETRIEVE, recipient) as (passage, settled):
                async with self._place(caller.principal.trust):
                    survey = await self._surveyed(passage, caller, settled(), names)
                absence.is_empty = not survey.instances
                if survey.instances:
                    yield survey
                    return
        except PeerError:
            await self._hearing.let_absence_wait(absence)
            raise
        await self._hearing.let_absence_wait(absence)
        yield survey

    async def _named(self, caller: Caller, query: Query) -> Named:
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
        return named

    @contextlib.asynccontextmanager
    async def _guarded(
        self,
        caller: Caller,
        query: Query,
        named: Named,
        action: Action = Action.SEE,
        recipient: TrustId | None = None,
    ) -> AsyncIterator[tuple[Passage, Callable[[], Named]]]:
        """Pass the guard; with the passage comes who the patient is, once lookups have said what they know."""

        def wish() -> Wish:
            return Wish(caller, named.scope.patient, query.only_trust, _question(query), action, recipient)

        async def settle() -> Wish:
            nonlocal named
            named = await self._people.looked_up(caller, query)
            return wish()

        async with self._gate.guard(wish(), None if named.pending is None else settle) as passage:
            yield passage, lambda: named

    async def _surveyed(
        self, passage: Passage, caller: Caller, named: Named, names: Callable[[Candidate], bool]
    ) -> Survey:
        self._people.check(caller, named)
        query, scope = named.query, named.scope
        reach = self._hearing.reach(passage, caller, query)
        asked = self._people.askable(named, reach.askable, is_hidden=passage.is_hidden)
        fingerprint = _fingerprint(caller, query, self._directory.quarantined)
        kept = None if passage.is_hidden else self._recent.find(fingerprint, self._clock.monotonic())
        while True:
            heard = kept or await self._hearing.hear(passage, caller, named, query, asked, self._for_listing, reach)
            await passage.refresh(heard.judgement)
            permitted = await passage.visible([row for row in heard.judgement.accepted if names(row)])
            visible, own_numbers = await self._people.as_now(caller, named, permitted)
            if visible or kept is None:
                break
            # From memory it would come sooner than absence does: what is withheld by now is asked again (SAF-06).
            kept = None
        conflicting = await self._told_conflicts(passage, heard, scope)
        if visible and kept is None and not heard.unread:
            self._recent.keep(fingerprint, heard, self._clock.monotonic())
        instances = tuple(held(visible, own_numbers, self._origins))
        shown, sources = self._told_of_sources(passage, caller, heard, visible, conflicting, reach, asked, scope)
        passage.tally.returned = len(instances)
        passage.tally.sources = source_record((*heard.parts, *_unheard(reach, asked, heard)), heard.judgement, ())
        if not visible:
            check_somebody_answered(self._directory, shown, sources)
        # Where a register withholds nobody was asked, and the parts are feigned.
        answered = () if passage.is_hidden else heard.parts
        whole = frozenset(part.trust for part in answered if part.state is SourceState.ANSWERED)

        async def still_theirs(rows: Sequence[Candidate]) -> bool:
            return len((await self._people.as_now(caller, named, rows))[0]) == len(rows)

        return Survey(passage, instances, heard.judgement, sources, heard.at, whole, still_theirs)

    async def _answer(self, passage: Passage, caller: Caller, named: Named, token: str, absence: Absence) -> Matches:
        self._people.check(caller, named)
        query, scope, began = named.query, named.scope, self._clock.monotonic()
        # Whether a patient is known is decided study by study: archives are asked for studies, and what may be seen of
        # them becomes the patient's row.
        studies = replace(query, level=Level.STUDY) if query.level is Level.PATIENT else query
        reach = self._hearing.reach(passage, caller, query)
        asked = self._people.askable(named, reach.askable, is_hidden=passage.is_hidden)
        fingerprint = _fingerprint(caller, query, self._directory.quarantined)
        kept = None if passage.is_hidden else self._snapshots.find(token, fingerprint, began)
        heard = (
            kept.heard
            if kept is not None
            else await self._hearing.hear(passage, caller, named, studies, asked, self._usual, reach)
        )
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
        shown, sources = self._told_of_sources(passage, caller, heard, visible, conflicting, reach, asked, scope)
        passage.tally.returned = len(page)
        if query.level is not Level.PATIENT:
            passage.tally.disclose_only(page)
        passage.tally.sources = source_record((*heard.parts, *_unheard(reach, asked, heard)), heard.judgement, page)
        absence.is_empty = not rows
        if not rows:
            check_somebody_answered(self._directory, shown, sources)
        return Matches(page, sources, remaining, truncated_at, lacking, token if remaining > 0 else "")

    def _told_of_sources(
        self,
        passage: Passage,
        caller: Caller,
        heard: Heard,
        visible: Sequence[Candidate],
        conflicting: frozenset[TrustId],
        reach: Reach,
        asked: frozenset[TrustId],
        scope: Scope,
    ) -> tuple[tuple[Part, ...], tuple[Source, ...]]:
        """Every trust's part as this caller may know it, and the same in words."""
        asker = caller.principal.trust
        answered = in_part(as_shown(heard.parts, self._hearing.expected(asked, asker), scope, visible), heard.unread)
        showing = {row.trust for row in visible} | conflicting
        shown = (*locate.as_told(answered, heard.left_out, showing), *_unheard(reach, asked, heard))
        extents = {trust: self._peers.extent(trust, asker, caller.purpose) for trust in asked}
        held = {row.trust for row in visible if row.is_kept}
        return shown, sources_of(self._directory, reach, shown, conflicting, extents, held)

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


def _unheard(reach: Reach, asked: frozenset[TrustId], heard: Heard) -> tuple[Part, ...]:
    """The trusts that were not asked, and of which nothing is kept here either."""
    return reach.not_asked(asked | {part.trust for part in heard.parts})


def _fingerprint(caller: Caller, query: Query, quarantined: frozenset[str]) -> str:
    """What a snapshot is bound to: everything that the answer hangs on but the page. Sets in one order.

    A page after a study went into quarantine is asked anew.
    """
    who = caller.principal
    asker = (who.subject, who.kind, who.trust, sorted(who.teams), sorted(who.proven_by), caller.purpose)
    asked = replace(query, include=frozenset(), limit=None, offset=0)
    return repr((asker, asked, sorted(query.include), hash(quarantined)))


def _question(query: Query) -> dict[str, JsonValue]:
    keys: list[JsonValue] = [[".".join(key.path), *key.values] for key in query.keys]
    return {
        "level": query.level.value,
        "keys": keys,
        "limit": query.limit,
        "offset": query.offset,
        "trust": query.only_trust.code if query.only_trust is not None else "",
    }
