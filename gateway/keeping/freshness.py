"""Keep what is kept true to its sources: compare it with what archives list, drop what they withdrew, tell who has it.

Three ways lead here: a retrieval that heard a holder's list, an archive that tells of a study by itself, and a slice of
what was not compared for longest, again and again (SAF-37). What grew is fetched by whoever wants it next. What was
withdrawn is given to nobody from that moment; those who received it are told by a durable job, which asks the archive
once more before it alarms anybody, and goes on until it is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import structlog

from gateway.jobs.runner import Handler, JobFailed, Work
from gateway.keeping.work import kind_of
from gateway.model.errors import GatewayError, PeerUnavailable
from gateway.model.imaging import JsonValue
from gateway.model.seams import RECEIVED_AND_WITHDRAWN, Clock, QualityItem
from gateway.model.work.jobs import FailureKind, Lane, NewJob, Progress
from gateway.model.work.transfers import CachedInstance, Standing, StudyCache
from gateway.sharing.freshness import comparing
from gateway.sharing.locations.sampling import Sampling
from policy.parties import TrustId
from storage.cache import census
from storage.store import SqlStore
from storage.work import jobs, recipients

log = structlog.get_logger(__name__)

COMPARE, TELL = "cache-compare", "images-withdrawn"
CONFIRMED_AFTER = timedelta(minutes=5)
"""An archive that lists a study in part, in the middle of being filed anew, is asked again after this."""
SETTLED_AFTER = timedelta(seconds=30)
"""An archive finds a study later than it tells of it."""
COMPARED_AFTER = timedelta(hours=6)
"""A study that was compared since then is left: four times within the day for which a copy stands in for its holder."""
TELL_ATTEMPTS_MAX = 500
"""Pauses grow to a quarter of an hour: some days, for an archive may be away as long."""
NO_MORE_LISTED, REJECTED = "its archive lists it no more", "its archive has rejected it"
RETRIEVALS_NAMED_MAX = 20


class Withdrawals:
    """Gives up what a source withdrew, and has its recipients told."""

    def __init__(self, store: SqlStore, cache: StudyCache, clock: Clock) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock

    async def __call__(self, gone: Sequence[CachedInstance], *, is_rejected: bool = False) -> None:
        """Give these up. First the job, which outlives whatever happens next; raises nothing."""
        told = {(each.ref.study_uid, each.source) for each in gone}
        try:
            for study_uid, trust in sorted(told):
                uids = [each.ref.sop_uid for each in gone if (each.ref.study_uid, each.source) == (study_uid, trust)]
                new = self._telling_rejected(study_uid, trust, uids) if is_rejected else self._telling(study_uid, trust)
                await self._store.write(partial(jobs.enqueue, new=new))
            for each in gone:
                await self._cache.stand(each, Standing.QUARANTINED, REJECTED if is_rejected else NO_MORE_LISTED)
        except GatewayError as error:
            log.warning("withdrawn images not given up", instances=len(gone), error=type(error).__name__)
            return
        log.info("withdrawn images given up", trusts=sorted({trust.code for _, trust in told}), instances=len(gone))

    def _telling(self, study_uid: str, trust: TrustId) -> NewJob:
        return NewJob(
            TELL,
            Lane.BACKGROUND,
            {"study": study_uid, "trust": trust.code},
            dedupe_key=f"{TELL}/{trust.code}/{study_uid}",
            run_at=self._clock.now() + CONFIRMED_AFTER,
            attempts_max=TELL_ATTEMPTS_MAX,
            follows_running=True,
        )

    def _telling_rejected(self, study_uid: str, trust: TrustId, sop_uids: Sequence[str]) -> NewJob:
        """A note is certain, and each names others: nobody is asked again, and no job stands for another."""
        detail: dict[str, JsonValue] = {"study": study_uid, "trust": trust.code, "rejected": [*sop_uids]}
        return NewJob(TELL, Lane.BACKGROUND, detail, attempts_max=TELL_ATTEMPTS_MAX)


class Freshness:
    """The handlers, and who hears what archives tell of studies by themselves."""

    def __init__(
        self,
        store: SqlStore,
        cache: StudyCache,
        withdraw: Withdrawals,
        sampling: Callable[[], Sampling],
        clock: Clock,
        *,
        node: str,
        studies_max: int,
    ) -> None:
        """`sampling` gives who may ask at this moment, or raises a `ServiceFault`."""
        self._store = store
        self._cache = cache
        self._withdraw = withdraw
        self._sampling = sampling
        self._clock = clock
        self._node = node
        self._studies_max = studies_max

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By kind: comparing is this node's, for what is kept is; telling is anybody's."""
        return {self.kind: self._compare, TELL: self._tell}

    @property
    def kind(self) -> str:
        """Of the jobs that compare, which recur."""
        return kind_of(COMPARE, self._node)

    async def told_of(self, study_uid: str) -> None:
        """Its archive tells of a study: compare it soon, if anything of it is kept. Raises nothing."""
        try:
            if await self._cache.study(study_uid) is None:
                return
            detail: dict[str, JsonValue] = {"study": study_uid}
            soon = self._clock.now() + SETTLED_AFTER
            key = f"{self.kind}/{study_uid}"
            new = NewJob(self.kind, Lane.BACKGROUND, detail, key, follows_running=True, run_at=soon)
            await self._store.write(partial(jobs.enqueue, new=new))
        except GatewayError as error:
            log.warning("kept study not compared", error=type(error).__name__)

    async def _compare(self, work: Work) -> None:
        study_uid = work.job.detail.get("study")
        studies = [study_uid] if isinstance(study_uid, str) else await self._uncompared()
        unheard = 0
        for number, each in enumerate(studies, start=1):
            unheard += not await self._is_compared(each, work.job.job_id)
            work.advance(Progress(number, len(studies)))
        if unheard and isinstance(study_uid, str):
            raise JobFailed(FailureKind.TRANSIENT, "its archive could not be asked")

    async def _uncompared(self) -> list[str]:
        before = self._clock.now() - COMPARED_AFTER
        some = partial(census.uncompared, place=self._node, before=before, count_max=self._studies_max)
        return await self._store.read(some)

    async def _is_compared(self, study_uid: str, request_id: str) -> bool:
        """Compare one study with every archive that something of it came from; whether all of them answered."""
        kept = [each for each in await self._cache.instances(study_uid) if not each.is_sole_copy]
        heard_at, listed = self._clock.now(), {}
        sources = sorted({each.source for each in kept})
        for trust in sources:
            uids = await self._sampling().instances(trust, study_uid, request_id)
            if uids is not None:
                listed[trust] = uids
        if gone := comparing.withdrawn(kept, listed, heard_at):
            await self._withdraw(gone)
        if new := comparing.grown(kept, listed):
            log.info("kept study has grown", instances=len(new))
        if len(listed) < len(sources):
            return False
        await self._cache.validated(study_uid, heard_at)
        return True

    async def _tell(self, work: Work) -> None:
        """Tell those who received what a trust's archive still lists no more."""
        match work.job.detail:
            case {"study": str(study_uid), "trust": str(code)}:
                trust = TrustId(code)
            case _:
                raise JobFailed(FailureKind.PERMANENT, "it names no study and no trust")
        received = await self._store.read(partial(recipients.received, study_uid=study_uid, source=trust))
        if not received:
            return
        rejected = work.job.detail.get("rejected")
        if isinstance(rejected, list):
            gone, why = {str(uid) for uid in rejected}, REJECTED
        else:
            gone, why = await self._unlisted(work, study_uid, trust, received), NO_MORE_LISTED
        items = [
            QualityItem(RECEIVED_AND_WITHDRAWN, recipient, study_uid, None, _detail(trust, why, some))
            for recipient, some in sorted(recipients.by_recipient(received, gone).items())
        ]
        if items:
            await self._store.report_quality(items, self._clock.now())
            log.warning("received images withdrawn", trust=trust.code, instances=len(gone), recipients=len(items))
        work.advance(Progress(len(gone), len(gone)))

    async def _unlisted(
        self, work: Work, study_uid: str, trust: TrustId, received: Sequence[recipients.Received]
    ) -> set[str]:
        listed = await self._sampling().instances(trust, study_uid, work.job.job_id)
        if listed is None:
            raise PeerUnavailable(trust, "its archive could not be asked what it withdrew")
        return {each.sop_uid for each in received} - listed


def _detail(source: TrustId, why: str, some: Sequence[recipients.Received]) -> dict[str, JsonValue]:
    """What its recipient has to know to find them; which instances they are stands in the ledger."""
    retrievals: list[JsonValue] = [*dict.fromkeys(each.retrieval_id for each in some)]
    return {
        "source": source.code,
        "why": why,
        "instances": len({each.sop_uid for each in some}),
        "retrievals": retrievals[:RETRIEVALS_NAMED_MAX],
    }
