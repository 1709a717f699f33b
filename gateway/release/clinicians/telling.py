"""Tell everybody who received a report that it is no more what it was, and give up copies of that (SAF-62).

Queued in the transaction that changed a report, so that nothing is forgotten however a process ends. What of it may
have been given out and stands no more so follows from its versions alone; who got it stands in the ledger of
retrievals, and in the list of whom FHIR was given. Each recipient is told of one thing once, by an item that its
trust's staff see; the text itself is in their hands, and stays there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial

import structlog

from gateway.jobs.runner import JobFailed, Work
from gateway.model.imaging import JsonValue
from gateway.model.seams import RECEIVED_AND_WITHDRAWN, Clock, QualityItem
from gateway.model.work.jobs import FailureKind, Lane, NewJob, Progress
from gateway.model.work.transfers import Standing, StudyCache
from gateway.release.clinicians.versions import KeptVersions, ToleranceOf, versions_of
from policy.parties import TrustId
from storage.clinical import readers
from storage.database import Read, Tx
from storage.registers import quality
from storage.release import reports
from storage.store import SqlStore
from storage.work import jobs, recipients
from storage.work.recipients import Received

log = structlog.get_logger(__name__)

CHANGED = "report-changed"
ATTEMPTS_MAX = 500
"""Pauses grow to a quarter of an hour: some days."""
NO_MORE_SO = "its trust has corrected, completed, moved or withdrawn the report"


def queue(tx: Tx, report_id: str) -> None:
    """Have those told who received a report, in the transaction that changes it; nobody has its first version yet."""
    if len(reports.versions(tx, report_id)) > 1:
        moved(tx, report_id)


def moved(tx: Tx, report_id: str) -> None:
    """The same where a report comes to stand under another study, its first version too."""
    detail: dict[str, JsonValue] = {"report": report_id}
    key = f"{CHANGED}/{report_id}"
    jobs.enqueue(tx, NewJob(CHANGED, Lane.BACKGROUND, detail, key, follows_running=True, attempts_max=ATTEMPTS_MAX))


class Telling:
    """The handler of `CHANGED`. Opens nothing: who has a version that is damaged or forgotten is told all the same."""

    def __init__(self, store: SqlStore, tolerance_of: ToleranceOf, cache: StudyCache, clock: Clock) -> None:
        self._store = store
        self._tolerance_of = tolerance_of
        self._cache = cache
        self._clock = clock

    async def __call__(self, work: Work) -> None:
        """Give up what is kept of what it was, then tell; whatever an earlier attempt has done of it."""
        match work.job.detail:
            case {"report": str(report_id)}:
                pass
            case _:
                raise JobFailed(FailureKind.PERMANENT, "it names no report")
        kept = await self._store.read(partial(self._kept, report_id=report_id))
        if kept is None:
            raise JobFailed(FailureKind.PERMANENT, "there is no such report")
        for study_uid in kept.ever_under:
            await self._give_up(study_uid, kept.former(study_uid), kept.report.trust)
        told = 0
        for study_uid in kept.ever_under:
            told += await self._store.write(partial(self._tell, report_id=report_id, study_uid=study_uid))
        told += await self._store.write(partial(self._tell_readers, report_id=report_id))
        if told:
            log.warning("received report changed", trust=kept.report.trust.code, recipients=told)
        work.advance(Progress(len(kept.ever_under), len(kept.ever_under)))

    async def _give_up(self, study_uid: str, former: Collection[str], trust: TrustId) -> None:
        for each in await self._cache.instances(study_uid):
            if each.ref.sop_uid in former and each.source == trust:
                await self._cache.stand(each, Standing.QUARANTINED, NO_MORE_SO)

    def _kept(self, read: Read, report_id: str) -> KeptVersions | None:
        report = reports.get(read, report_id)
        return None if report is None else versions_of(read, report, self._tolerance_of(report.trust))

    def _held(self, tx: Tx, report_id: str) -> KeptVersions:
        """As it stands, until the transaction ends: what comes meanwhile has a telling of its own."""
        report = reports.hold(tx, report_id)
        return versions_of(tx, report, self._tolerance_of(report.trust))

    def _tell(self, tx: Tx, report_id: str, study_uid: str) -> int:
        """Tell whom the ledger names, whom it is about to be handed out to as well; how many trusts."""
        kept = self._held(tx, report_id)
        source = kept.report.trust
        received = recipients.received(tx, study_uid, source) + recipients.in_doubt(tx, study_uid, source)
        items = []
        for recipient, some in sorted(recipients.by_recipient(received, kept.former(study_uid)).items()):
            asked_at: dict[str, datetime] = {}
            for each in some:
                asked_at[each.sop_uid] = max(each.asked_at, asked_at.get(each.sop_uid, each.asked_at))
            new = {uid for uid, at in sorted(asked_at.items()) if readers.tell_of(tx, report_id, uid, recipient, at)}
            if new:
                items.append(_item(kept, recipient, study_uid, [each for each in some if each.sop_uid in new]))
        quality.report(tx, items, self._clock.now())
        return len(items)

    def _tell_readers(self, tx: Tx, report_id: str) -> int:
        """Tell whom FHIR was given; how many trusts."""
        kept = self._held(tx, report_id)
        outdated = readers.outdated(tx, report_id, kept.standing)
        readers.tell(tx, report_id, kept.standing, outdated)
        items = [_item(kept, recipient, kept.study_uids[0], ()) for recipient in outdated]
        quality.report(tx, items, self._clock.now())
        return len(items)


def _item(kept: KeptVersions, recipient: TrustId, study_uid: str, some: Sequence[Received]) -> QualityItem:
    retrievals: list[JsonValue] = [*dict.fromkeys(each.retrieval_id for each in some)]
    detail: dict[str, JsonValue] = {
        "source": kept.report.trust.code,
        "why": NO_MORE_SO,
        "report": kept.report.report_id,
        "versions": len(kept.versions),
        "instances": len({each.sop_uid for each in some}),
        "retrievals": retrievals[:20],
    }
    # A report that left a study is told of although no version of it is new.
    occasion = "/".join([kept.report.report_id, str(len(kept.versions)), *kept.left])
    return QualityItem(RECEIVED_AND_WITHDRAWN, recipient, study_uid, None, detail, occasion)
