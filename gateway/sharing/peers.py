"""Asking the other trusts: all at once, each with a deadline and a limit, and each failure named.

A peer that is down, slow or lying is an ordinary outcome and costs the others nothing: its part of the answer is a
state (`SourceState`), never an exception. After a few failures in a row a peer is left alone for a growing while; any
answer from it ends that. A probe asks every peer now and then for a study that cannot exist: it keeps the states true
while no caller asks, and shows how long absence takes there (SAF-06). Only this module decides about retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import (
    PATIENT_ID,
    STUDY_UID,
    Attributes,
    Key,
    Level,
    NotAskedReason,
    Query,
    Source,
    SourceState,
)
from gateway.model.locations import PeerStanding
from gateway.model.seams import Clock, Observer, PeerConnector, PeerRequest, StandingBook
from gateway.model.settings import Limits
from gateway.model.work.transfers import FetchRequest, Intake
from gateway.sharing.answers.standing import Standing
from policy.parties import PurposeOfUse, TrustId

log = structlog.get_logger(__name__)

_STATES: Mapping[type[PeerError], SourceState] = {
    PeerUnavailable: SourceState.UNREACHABLE,
    PeerTimeout: SourceState.TIMED_OUT,
    PeerRefused: SourceState.REFUSED,
    PeerProtocolError: SourceState.INVALID_ANSWER,
}
PROBED_BEFORE_S = 0.05
"""So long before the end of a pause a probe begins: no caller finds out by waiting that a trust is still down."""

_HEARD = frozenset({SourceState.ANSWERED, SourceState.TRUNCATED})


@dataclass(frozen=True, slots=True)
class TrustAnswer:
    """One trust's part: its state, its rows as sent, and how long it took."""

    trust: TrustId
    state: SourceState
    rows: Sequence[Attributes] = ()
    duration_s: float = 0.0
    reason: NotAskedReason | None = None
    """Why it was not asked."""
    has_identity_conflict: bool = False
    """The gateway that fronts it says that something could not be shown (SAF-08)."""
    kept: Sequence[Attributes] = ()
    """Rows of what this gateway holds in its stead (SAF-21, SAF-37)."""
    is_kept_cut: bool = False
    """Whether more is held in its stead than these tell of."""

    def failure(self, detail: str, missing: tuple[Source, ...] = ()) -> PeerError:
        """This part as an error, told from its state alone: so a failure known and a failure met look the same."""
        kind = next((kind for kind, state in _STATES.items() if state is self.state), PeerUnavailable)
        return kind(self.trust, detail, missing)


@dataclass(frozen=True, slots=True)
class _Question:
    """One question under way to several peers."""

    request: PeerRequest
    left_alone: Collection[TrustId]
    """Whom it does not wait for: found at its start, so that all that it asks of one trust goes out, or nothing."""
    at_once: asyncio.Semaphore
    timeout_s: float
    asked_at: dict[TrustId, float] = field(default_factory=dict)
    """When each trust was really asked, behind those of our own questions that were before this one."""


class Peers:
    """The trusts that have an archive behind a connector."""

    def __init__(
        self,
        connectors: Iterable[PeerConnector],
        limits: Limits,
        clock: Clock,
        observer: Observer,
        *,
        on_empty: Callable[[TrustId, SourceState, float], None],
        book: StandingBook | None = None,
        left_alone: Callable[[], frozenset[TrustId]] = frozenset,
        beyond: Collection[TrustId] = (),
        asking: Callable[[], Sequence[TrustId]] = tuple,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._observer = observer
        self._on_empty = on_empty
        self._book = book
        self._left_alone = left_alone
        self._beyond = frozenset(beyond)
        self._asking = asking
        self._probes = 0
        self._paused = asyncio.Event()
        """Set when a trust is left alone: it has to be probed at the end of its pause."""
        self.probed = asyncio.Event()
        """Set once every trust has been asked: before that nobody can say what a trust would do (SAF-06)."""
        self._clinging: set[asyncio.Task[TrustAnswer]] = set()
        self._standings = {
            connector.trust: Standing(connector, asyncio.Semaphore(limits.peer_requests_at_once_max))
            for connector in connectors
        }

    @property
    def trusts(self) -> frozenset[TrustId]:
        """Every trust that can be asked."""
        return frozenset(self._standings)

    def expected(self, trusts: Iterable[TrustId], asker: TrustId | None = None) -> list[TrustAnswer]:
        """What an empty answer of these trusts would look like now, by their last known states, asking nobody."""
        now = self._clock.monotonic()
        return [TrustAnswer(trust, self._standings[trust].expected(asker, now)) for trust in sorted(trusts)]

    def extent(self, trust: TrustId, asker: TrustId, purpose: PurposeOfUse) -> frozenset[str] | None:
        """The only modalities that the gateway in front of a trust shows this asker, as it last said; None: any.

        Remembered, so that it is the same whether a question was answered, found nothing, or was withheld (SAF-06).
        """
        standing = self._standings.get(trust)
        if standing is None:
            return None
        asked_so = (asker, purpose) if (asker, purpose) in standing.extents else (asker, PurposeOfUse.TREAT)
        return standing.extents.get(asked_so)

    async def ask(
        self, request: PeerRequest, trusts: Iterable[TrustId], *, is_probe: bool = False
    ) -> list[TrustAnswer]:
        """Ask these trusts at once; an answer for each, by ODS code, within the deadline whatever they do.

        A probe asks those in back-off too.
        """
        return await self.ask_each(dict.fromkeys(trusts, (request,)), is_probe=is_probe)

    async def ask_each(
        self,
        requests: Mapping[TrustId, Sequence[PeerRequest]],
        *,
        is_probe: bool = False,
        timeout_s: float | None = None,
    ) -> list[TrustAnswer]:
        """Ask each of these trusts all of its requests at once; one answer for each trust, by ODS code.

        A trust of which one request fails has answered in part: what the others brought is kept, and it is named.
        They have `timeout_s`, else `find_timeout_s`.
        """
        timeout_s = timeout_s or self._limits.find_timeout_s
        at_once = asyncio.Semaphore(self._limits.peers_at_once_max)
        began = self._clock.monotonic()
        left_alone = () if is_probe else [trust for trust in requests if self._standings[trust].is_left_alone(began)]
        asking = [
            (trust, _Question(request, left_alone, at_once, timeout_s))
            for trust in sorted(requests)
            for request in requests[trust]
        ]
        trials = [self._standings[trust] for trust in requests if trust not in left_alone]
        trials = [standing for standing in trials if standing.is_failing]
        for standing in trials:
            standing.trials += 1
        tasks = [asyncio.create_task(self._ask_one(question, trust)) for trust, question in asking]
        everybody = asyncio.gather(*tasks, return_exceptions=True)
        deadline = asyncio.create_task(self._clock.sleep(timeout_s))
        try:
            await asyncio.wait((everybody, deadline), return_when=asyncio.FIRST_COMPLETED)
        finally:
            deadline.cancel()
            self._let_go(tasks)
            for standing in trials:
                standing.trials -= 1
        answers: dict[TrustId, list[TrustAnswer]] = {}
        for (trust, question), task in zip(asking, tasks, strict=True):
            answers.setdefault(trust, []).append(self._part(question, trust, task, began))
        return [self._whole(parts, requests[trust][0].matches_max) for trust, parts in answers.items()]

    async def fetch(self, request: FetchRequest, intake: Intake) -> None:
        """Have a trust's archive send instances; raises `PeerError`. Says nothing of how its answers to questions fare:
        an archive that cannot send may well answer, and the other way round.
        """
        began, state = self._clock.monotonic(), "cancelled"
        try:
            await self._standings[request.trust].connector.fetch(request, intake)
            state = "sent"
        except PeerError as error:
            state = next((said.value for kind, said in _STATES.items() if isinstance(error, kind)), "failed")
            log.warning("images not fetched", trust=request.trust.code, state=state, detail=str(error))
            raise
        finally:
            self._observer.peer_sent(request.trust, state, self._clock.monotonic() - began)

    def take_over(self, former: Peers) -> None:
        """Begin with what `former` knew of the trusts that both have."""
        for trust in self.trusts & former.trusts:
            self._standings[trust].take_over(former._standings[trust])

    def restore(self, standings: Iterable[PeerStanding]) -> None:
        """Begin with what was written down of the trusts that are asked; no pause is longer than the longest."""
        for kept in standings:
            standing = self._standings.get(kept.trust)
            if standing is not None:
                left_s = (kept.paused_until - self._clock.now()).total_seconds() if kept.paused_until is not None else 0
                pause_s = min(max(0.0, left_s), self._limits.peer_backoff_max_s)
                standing.restore(kept, self._limits, self._clock.monotonic() + pause_s)

    def heard_from(self, trust: TrustId) -> None:
        """A trust spoke to us, so it may be up again: it is asked at once, but one more failure pauses it as before.

        Counts once in the longest pause: who asks often while its own archive is down must not end every pause.
        """
        standing, now = self._standings.get(trust), self._clock.monotonic()
        if standing is not None and standing.paused_until > now >= standing.heard_at + self._limits.peer_backoff_max_s:
            standing.heard_at, standing.paused_until = now, 0.0
            self._write_down(standing)

    async def close(self) -> None:
        """Close every connector."""
        await asyncio.gather(*(standing.connector.close() for standing in self._standings.values()))

    @contextlib.asynccontextmanager
    async def probing(self, new_uid: Callable[[], str]) -> AsyncIterator[None]:
        """Probe every peer at once and then at intervals while the context is open."""
        task = asyncio.create_task(self._probe_for_ever(new_uid))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def probe(self, new_uid: Callable[[], str], trusts: Collection[TrustId] | None = None) -> None:
        """Ask these peers, or all, for a study that does not exist; in back-off or not."""
        query = Query(Level.STUDY, (Key((STUDY_UID,), "UI", (new_uid(),)),), limit=1)
        request = PeerRequest(query, f"probe-{new_uid()[-12:]}", 0, 1)
        asked = (self.trusts if trusts is None else frozenset(trusts)) - self._left_alone()
        requests: dict[TrustId, Sequence[PeerRequest]] = dict.fromkeys(asked, (request,))
        requests |= dict.fromkeys(asked & self._beyond, self._for_askers(request))
        for answer in await self.ask_each(requests, is_probe=True):
            if answer.state.is_missing:
                log.warning("peer probe failed", trust=answer.trust.code, state=answer.state.value)
        if trusts is None:
            self.probed.set()

    def _for_askers(self, request: PeerRequest) -> tuple[PeerRequest, ...]:
        """A probe as another gateway takes it, which answers every trust by its own agreements.

        At first for each trust that asks here, then for one after the other: each is a question in its audit.
        """
        askers = self._asking()
        if self._probes and askers:
            askers = (askers[self._probes % len(askers)],)
        self._probes += 1
        return tuple(replace(request, asking_trust=asker) for asker in askers)

    async def _probe_for_ever(self, new_uid: Callable[[], str]) -> None:
        while True:
            await self.probe(new_uid)
            ends = self._clock.monotonic() + self._limits.peer_probe_interval_s
            while (now := self._clock.monotonic()) < ends:
                self._paused.clear()
                lapses = {trust: standing.paused_until - PROBED_BEFORE_S for trust, standing in self._failing()}
                if due := [trust for trust, lapse in lapses.items() if lapse <= now]:
                    await self.probe(new_uid, due)
                else:
                    await self._paused_or(min([ends, *lapses.values()]) - now)

    def _failing(self) -> list[tuple[TrustId, Standing]]:
        """The trusts that are left alone between two trials."""
        asked = sorted(self._standings.keys() - self._left_alone())
        return [(trust, self._standings[trust]) for trust in asked if self._standings[trust].is_failing]

    async def _paused_or(self, delay_s: float) -> None:
        waits = [asyncio.create_task(self._clock.sleep(delay_s)), asyncio.create_task(self._paused.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _ask_one(self, question: _Question, trust: TrustId) -> TrustAnswer:
        standing = self._standings[trust]
        if trust in question.left_alone:
            return TrustAnswer(trust, SourceState.BACKING_OFF)
        # The peer's own place first: who waits for a busy peer must not hold a place that another could have.
        async with standing.slots, question.at_once:
            began = question.asked_at[trust] = self._clock.monotonic()
            try:
                answer = await standing.connector.find(question.request)
            except PeerError as error:
                if isinstance(error, PeerRefused) and trust in self._beyond:
                    return self._refused(standing, question.request, error, self._clock.monotonic() - began)
                return self._failed(standing, error, self._clock.monotonic() - began)
            except Exception as error:  # noqa: BLE001  # outermost frame of this trust's task: a bug is its failure alone
                log.error("peer connector failed unexpectedly", trust=trust.code, error=type(error).__name__)
                unbelievable = PeerProtocolError(trust, "the connector failed unexpectedly")
                return self._failed(standing, unbelievable, self._clock.monotonic() - began)
            duration_s = self._clock.monotonic() - began
        standing.answered()
        state = SourceState.TRUNCATED if answer.is_truncated else SourceState.ANSWERED
        self._observer.peer_answered(trust, state.value, duration_s)
        if not answer.rows:
            standing.empty_state = state
            self._on_empty(trust, state, duration_s)
        standing.last_state = standing.empty_state
        self._write_down(standing)
        asker, conflict = question.request.asking_trust, False
        if answer.told is not None and asker is not None:
            standing.refused.discard(asker)
            standing.extents[asker, question.request.purpose] = answer.told.shared_modalities
            conflict = answer.told.has_identity_conflict
        return TrustAnswer(trust, state, answer.rows, duration_s, has_identity_conflict=conflict)

    def _let_go(self, tasks: Iterable[asyncio.Task[TrustAnswer]]) -> None:
        """Give up what is still asked, and wait for no connector that clings to it: it keeps its place until then."""
        for task in tasks:
            if task.cancel():
                self._clinging.add(task)
                task.add_done_callback(self._clinging.discard)

    def _part(self, question: _Question, trust: TrustId, task: asyncio.Task[TrustAnswer], began: float) -> TrustAnswer:
        if task.done() and not task.cancelled():
            return task.result()
        # A trust that had less than half of the time has shown nothing: our own queue took the rest.
        if self._clock.monotonic() - question.asked_at.get(trust, math.inf) < question.timeout_s / 2:
            log.warning("peer not asked", trust=trust.code, reason="too many questions are under way to it")
            return TrustAnswer(trust, SourceState.NOT_ASKED, reason=NotAskedReason.BUSY)
        error = PeerTimeout(trust, f"no answer within {question.timeout_s:g} s")
        return self._failed(self._standings[trust], error, self._clock.monotonic() - began)

    def _whole(self, parts: Sequence[TrustAnswer], matches_max: int) -> TrustAnswer:
        """One trust's answers to several questions as one."""
        if len(parts) == 1:
            return parts[0]
        states = {part.state for part in parts}
        rows = [row for part in parts for row in part.rows]
        worst = next((part.state for part in parts if part.state not in _HEARD), None)
        if worst is not None and states.isdisjoint(_HEARD):
            state = worst
        elif states == {SourceState.ANSWERED} and len(rows) <= matches_max:
            state = SourceState.ANSWERED
        else:
            state = SourceState.TRUNCATED
        duration_s = max(part.duration_s for part in parts)
        reason = next((part.reason for part in parts if part.state is state), None)
        conflict = any(part.has_identity_conflict for part in parts)
        return TrustAnswer(parts[0].trust, state, rows[:matches_max], duration_s, reason, conflict)

    def _refused(self, standing: Standing, request: PeerRequest, error: PeerRefused, duration_s: float) -> TrustAnswer:
        """Another gateway refuses one asker or one patient, and goes on answering all others."""
        before = standing.empty_state
        answer = self._failed(standing, error, duration_s)
        standing.last_state = before
        if request.asking_trust is not None and request.query.key(PATIENT_ID) is None:
            standing.refused.add(request.asking_trust)
        return answer

    def _failed(self, standing: Standing, error: PeerError, duration_s: float) -> TrustAnswer:
        state = next((state for kind, state in _STATES.items() if isinstance(error, kind)), SourceState.UNREACHABLE)
        trust = standing.connector.trust
        if standing.failed(state, self._limits, self._clock.monotonic()):
            self._paused.set()
        self._write_down(standing)
        self._observer.peer_answered(trust, state.value, duration_s)
        self._on_empty(trust, state, duration_s)
        log.warning("peer failed", trust=trust.code, state=state.value, detail=str(error))
        return TrustAnswer(trust, state, duration_s=duration_s)

    def _write_down(self, standing: Standing) -> None:
        """Let the standing outlive the process, if it is another one than before."""
        present = standing.present(self._clock.now(), self._clock.monotonic())
        if self._book is not None and present != standing.written:
            standing.written = present
            self._book.write_down(present)
