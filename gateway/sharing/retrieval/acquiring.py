"""Fetching into the cache, each instance once, however many wait for it (C13).

Whoever wants instances rides along: what another retrieval has asked for already is not asked for again, and what a
holder fails to send is asked of the next one. Permission is not asked here, for every rider has its own. When nobody
waits for what is under way any more, its fetch is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from gateway.model.errors import Conflicting, GatewayError, PeerError, StoreUnavailable, Unwanted
from gateway.model.imaging import JsonValue, Level
from gateway.model.seams import CONTENT_DIFFERS, SENT_OTHERWISE, QualityItem
from gateway.model.work.precedence import RightOfWay, Urgency
from gateway.model.work.retrievals import NOT_KEPT
from gateway.model.work.transfers import (
    CacheClass,
    CachedInstance,
    Described,
    Fetcher,
    FetchRequest,
    InstanceRef,
    KeyDomain,
    ReceivedHead,
    StudyCache,
    Taking,
    Target,
)
from gateway.sharing.intake.arriving import Arriving, Awaited
from gateway.sharing.intake.versions import Versions
from gateway.sharing.retrieval.reported import Reported, may_be_report
from policy.parties import TrustId

log = structlog.get_logger(__name__)

Tell = Callable[[Collection[QualityItem]], Awaitable[None]]
"""Tells custodians what they must put right."""
NOT_SENT = "the archive did not send it"
NO_HOLDER = "no archive could send it"


@dataclass(frozen=True, slots=True)
class Holding:
    """One holder's copy of an instance, as it was listed."""

    trust: TrustId
    patient_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance that somebody waits for, and who may send it, the best first."""

    ref: InstanceRef
    holdings: tuple[Holding, ...]
    custodian: TrustId
    patient_row: str
    is_behind_gateway: bool = False
    """Whether another gateway stands between us and a holder."""


Listed = Mapping[TrustId, Collection[InstanceRef]]
"""Everything that each holder listed of the studies, whoever may have it."""


@dataclass(frozen=True, slots=True)
class Got:
    """What became of it: it is in the cache, or the words that say why not."""

    sop_uid: str
    cached: CachedInstance | None
    words: str = ""


@dataclass(slots=True, eq=False)
class Rider:
    """One retrieval's place: what it waits for arrives in `got`, in the order in which it comes."""

    waiting: set[str] = field(default_factory=set)
    got: deque[Got] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, got: Got) -> None:
        """Take what has come."""
        if got.sop_uid in self.waiting:
            self.waiting.discard(got.sop_uid)
            self.got.append(got)
            self.news.set()

    async def next(self) -> Got | None:
        """The next one that came; None once nothing is waited for any more."""
        while not self.got:
            if not self.waiting:
                return None
            self.news.clear()
            await self.news.wait()
        return self.got.popleft()


@dataclass(slots=True, eq=False)
class _Pending:
    """An instance under way."""

    wanted: Wanted
    holdings: deque[Holding]
    riders: set[Rider]
    errand: _Errand
    words: str = NO_HOLDER


@dataclass(slots=True, eq=False)
class _Errand:
    """The fetching of some instances of one study, from holder to holder."""

    study_uid: str
    asking: FetchRequest
    """For whom it is fetched; trust and target are filled in holder by holder."""
    listed: Listed
    pending: dict[str, _Pending] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Acquiring:
    """Every fetch under way in this process."""

    def __init__(self, fetcher: Fetcher, cache: StudyCache, tell: Tell, reported: Reported | None = None) -> None:
        """`reported` writes what of a trust this gateway itself holds: its reports."""
        self._reported = reported
        self._fetcher = fetcher
        self._cache = cache
        self._versions = Versions(cache)
        self._tell = tell
        self._pending: dict[str, _Pending] = {}
        self._errands: set[_Errand] = set()
        self.right_of_way = RightOfWay()

    @contextlib.asynccontextmanager
    async def riding(self, wanted: Collection[Wanted], listed: Listed, asking: FetchRequest) -> AsyncIterator[Rider]:
        """Wait for these, all of studies that the rider may have; leaving gives up what nobody else waits for."""
        rider = Rider({each.ref.sop_uid for each in wanted})
        new: dict[str, list[Wanted]] = {}
        for each in wanted:
            under_way = self._pending.get(each.ref.sop_uid)
            if under_way is not None and _may_join(under_way, each, asking):
                under_way.riders.add(rider)
                under_way.errand.asking.urgency.raise_to(asking.urgency.lane)
            else:
                new.setdefault(each.ref.study_uid, []).append(each)
        for study_uid, of_study in new.items():
            errands = replace(asking, urgency=Urgency(asking.urgency.lane))
            self._begin(rider, of_study, _Errand(study_uid, errands, listed))
        try:
            yield rider
        finally:
            await self._leave(rider)

    def _begin(self, rider: Rider, wanted: Iterable[Wanted], errand: _Errand) -> None:
        for each in wanted:
            entry = _Pending(each, deque(each.holdings), {rider}, errand)
            errand.pending[each.ref.sop_uid] = entry
            self._pending.setdefault(each.ref.sop_uid, entry)
        self._errands.add(errand)
        errand.task = asyncio.create_task(self._run(errand))

    async def _leave(self, rider: Rider) -> None:
        rider.waiting.clear()
        idle = []
        for errand in list(self._errands):
            for entry in errand.pending.values():
                entry.riders.discard(rider)
            if errand.task is not None and not any(entry.riders for entry in errand.pending.values()):
                for entry in errand.pending.values():
                    self._withdraw(entry)  # whoever asks while it ends must not join it
                if not errand.task.cancelling():  # a second one would cut short how it takes leave of its archive
                    errand.task.cancel()
                idle.append(errand.task)
        if idle:
            await asyncio.wait(idle)

    async def _run(self, errand: _Errand) -> None:
        try:
            async with self._cache.using(errand.study_uid):
                while errand.pending:
                    groups = self._groups(errand)
                    async with asyncio.TaskGroup() as tasks:
                        for trust, entries in groups.items():
                            tasks.create_task(self._fetch(errand, trust, entries))
        finally:
            self._errands.discard(errand)
            for entry in list(errand.pending.values()):
                self._end(entry, Got(entry.wanted.ref.sop_uid, None, entry.words))

    def _groups(self, errand: _Errand) -> Mapping[TrustId, list[_Pending]]:
        """Whom to ask for what next; an instance that nobody is left to ask for has failed."""
        groups: dict[TrustId, list[_Pending]] = {}
        for entry in list(errand.pending.values()):
            if entry.holdings:
                groups.setdefault(entry.holdings[0].trust, []).append(entry)
            else:
                self._end(entry, Got(entry.wanted.ref.sop_uid, None, entry.words))
        return groups

    async def _fetch(self, errand: _Errand, trust: TrustId, entries: Sequence[_Pending]) -> None:
        refs = tuple(entry.wanted.ref for entry in entries)
        words, intake = NOT_SENT, _Intake(self, errand, trust)
        try:
            not_there = await self._give_reports(errand, trust, refs, intake)
            refs = tuple(ref for ref in refs if ref.sop_uid not in not_there)
            if refs:
                await self._fetcher.fetch(_request(errand, trust, refs, not_there), intake)
            missing = sum(ref.sop_uid in errand.pending and bool(errand.pending[ref.sop_uid].holdings) for ref in refs)
            if missing or intake.unasked:
                await self._flag(errand, trust, {"missing": missing, "unasked": intake.unasked})
        except PeerError as error:
            words = str(error)
        except StoreUnavailable:
            # It would fail at any other holder as well.
            for entry in entries:
                entry.words = NOT_KEPT
                entry.holdings.clear()
            return
        except GatewayError as error:
            words = str(error)
        except Exception as error:  # noqa: BLE001  # outermost frame of one fetch: a bug is its failure alone
            log.error("fetching failed", trust=trust.code, error=type(error).__name__)
        for entry in entries:
            if entry.holdings and entry.holdings[0].trust == trust:
                entry.holdings.popleft()
            entry.words = entry.words if entry.words not in (NO_HOLDER, NOT_SENT) else words

    async def _give_reports(
        self, errand: _Errand, trust: TrustId, refs: Sequence[InstanceRef], intake: _Intake
    ) -> Collection[str]:
        """Write what of these are reports; of the study the UIDs that its archive is not to be asked for."""
        listed = errand.listed.get(trust, ())
        if self._reported is None or not any(may_be_report(ref) for ref in listed):
            return ()
        written = await self._reported.written(trust, errand.study_uid)
        documents = [written.documents[ref.sop_uid] for ref in refs if ref.sop_uid in written.documents]
        await self._reported.give(documents, intake)
        return written.former.union(written.documents)

    async def _flag(self, errand: _Errand, trust: TrustId, detail: dict[str, JsonValue]) -> None:
        """Tell a trust that its archive does not send what it lists, or other images than it was asked for."""
        log.warning("archive sends otherwise than it lists", trust=trust.code, **detail)
        await self._tell([QualityItem(SENT_OTHERWISE, trust, errand.study_uid, None, detail)])

    def entry(self, errand: _Errand, sop_uid: str) -> _Pending | None:
        """What of this errand is still to come."""
        return errand.pending.get(sop_uid)

    def put(
        self, entry: _Pending, trust: TrustId, sop_class_uid: str, transfer_syntax: str
    ) -> contextlib.AbstractAsyncContextManager[Taking]:
        """A place in the cache for it."""
        return self._put(entry, trust, sop_class_uid, transfer_syntax)

    @contextlib.asynccontextmanager
    async def _put(
        self, entry: _Pending, trust: TrustId, sop_class_uid: str, transfer_syntax: str
    ) -> AsyncIterator[Taking]:
        wanted = entry.wanted
        # DCMTK's archive lists no SOP classes; what is sent says its own, and is held to it.
        ref = wanted.ref if wanted.ref.sop_class_uid else replace(wanted.ref, sop_class_uid=sop_class_uid)
        head = ReceivedHead(
            ref,
            transfer_syntax,
            trust,
            wanted.custodian,
            wanted.patient_row,
            KeyDomain.CACHE,
            CacheClass.INTERACTIVE,
            is_waited_for=True,
        )
        listed = next(holding for holding in wanted.holdings if holding.trust == trust)
        async with self._cache.put(head) as writing:

            async def keep(described: Described) -> None:
                is_custodians = trust == wanted.custodian
                cached = await self._versions.keep(ref, writing, described, is_custodians=is_custodians)
                self._end(entry, Got(wanted.ref.sop_uid, cached))

            try:
                stand_back = partial(self.right_of_way.stand_back, entry.errand.asking.urgency)
                yield Arriving(Awaited(ref, listed.patient_id), transfer_syntax, writing, keep, stand_back)
            except GatewayError as error:
                entry.words = str(error)
                if isinstance(error, Conflicting):
                    entry.holdings.clear()
                    await self._told(wanted, {trust, wanted.custodian, error.kept_from or trust})
                log.warning("instance not taken", trust=trust.code, reason=str(error))
                raise

    async def _told(self, wanted: Wanted, concerned: Collection[TrustId]) -> None:
        """Tell everybody whose content it is that they do not agree."""
        detail: dict[str, JsonValue] = {"instance": wanted.ref.sop_uid}
        study_uid = wanted.ref.study_uid
        await self._tell([QualityItem(CONTENT_DIFFERS, each, study_uid, None, detail) for each in sorted(concerned)])

    def _end(self, entry: _Pending, got: Got) -> None:
        sop_uid = got.sop_uid
        entry.errand.pending.pop(sop_uid, None)
        self._withdraw(entry)
        for rider in entry.riders:
            rider.hear(got)

    def _withdraw(self, entry: _Pending) -> None:
        """Nobody joins it from now on."""
        if self._pending.get(entry.wanted.ref.sop_uid) is entry:
            del self._pending[entry.wanted.ref.sop_uid]


class _Intake:
    """Where one fetch puts what a trust sends (`gateway.model.work.transfers.Intake`)."""

    def __init__(self, acquiring: Acquiring, errand: _Errand, trust: TrustId) -> None:
        self._acquiring = acquiring
        self._errand = errand
        self._trust = trust
        self.unasked = 0
        """Instances that were refused because nobody had asked for them."""

    def take(
        self, sop_class_uid: str, sop_uid: str, transfer_syntax: str
    ) -> contextlib.AbstractAsyncContextManager[Taking]:
        """See `Intake`."""
        entry = self._acquiring.entry(self._errand, sop_uid)
        if entry is None or not any(holding.trust == self._trust for holding in entry.wanted.holdings):
            self.unasked += 1
            log.info("instance not waited for", trust=self._trust.code)
            raise Unwanted("nobody waits for this instance")
        return self._acquiring.put(entry, self._trust, sop_class_uid, transfer_syntax)


def _may_join(under_way: _Pending, wanted: Wanted, asking: FetchRequest) -> bool:
    """A rider joins only what comes from a holder that it may have it from, and is asked for in its own trust's name:
    another gateway judges by that (DEC-01).
    """
    is_asked_alike = under_way.errand.asking.asking_trust == asking.asking_trust
    return under_way.wanted.holdings == wanted.holdings and (is_asked_alike or not wanted.is_behind_gateway)


def _request(
    errand: _Errand, trust: TrustId, refs: Sequence[InstanceRef], not_there: Collection[str] = ()
) -> FetchRequest:
    """Ask for whole series, or the whole study, where nothing else would come with them.

    What is `not_there`, by UID, the trust's archive has not got, whoever listed it.
    """
    classes = frozenset(ref.sop_class_uid for ref in refs)
    theirs = (ref for ref in errand.listed.get(trust, ()) if ref.sop_uid not in not_there)
    listed = [ref for ref in theirs if ref.study_uid == errand.study_uid]
    wanted, series = {ref.sop_uid for ref in refs}, tuple(dict.fromkeys(ref.series_uid for ref in refs))
    is_whole_study = wanted == {ref.sop_uid for ref in listed}
    is_whole_series = wanted == {ref.sop_uid for ref in listed if ref.series_uid in series}
    target = Target(Level.STUDY, errand.study_uid) if is_whole_study else Target(Level.SERIES, errand.study_uid, series)
    return replace(
        errand.asking,
        trust=trust,
        target=target,
        refs=() if is_whole_study or is_whole_series else tuple(refs),
        sop_classes=frozenset() if "" in classes else classes,
    )
