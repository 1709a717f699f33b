"""Tell everybody who received a report that it is no more what it was, and give up copies of that (SAF-62).

Queued in the transaction that changed a report, so that nothing is forgotten however a process ends. What of it may
have been given out and stands no more so follows from its versions alone; who got it stands in the ledger of
retrievals, and in the list of whom FHIR was given. Each recipient is told of one thing once, by an item that its
trust's staff see; the text itself is in their hands, and stays there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog

from gateway.instances.reporting.writing import Document
from gateway.jobs.runner import JobFailed, Work
from gateway.model.errors import NotFound
from gateway.model.imaging import JsonValue
from gateway.model.seams import RECEIVED_AND_WITHDRAWN, Clock, QualityItem
from gateway.model.work.jobs import FailureKind, Lane, NewJob, Progress
from gateway.model.work.transfers import Standing, StudyCache
from gateway.release.clinicians.book import Book, KeptVersions
from gateway.release.clinicians.documents import former_of, standing_of
from policy.parties import TrustId
from storage.clinical import finding, readers
from storage.database import Tx
from storage.registers import quality
from storage.release import reports
from storage.store import SqlStore
from storage.work import jobs, recipients
from storage.work.recipients import Received

log = structlog.get_logger(__name__)

CHANGED = "report-changed"
ATTEMPTS_MAX = 500
"""Pauses grow to a quarter of an hour: some days."""
NO_MORE_SO = "its trust has corrected, completed or withdrawn the report"


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
    """The handler of `CHANGED`."""

    def __init__(self, store: SqlStore, book: Book, cache: StudyCache, clock: Clock) -> None:
        self._store = store
        self._book = book
        self._cache = cache
        self._clock = clock

    async def __call__(self, work: Work) -> None:
        """Give up what is kept of what it was, then tell; whatever an earlier attempt has done of it."""
        match work.job.detail:
            case {"report": str(report_id)}:
                pass
            case _:
                raise JobFailed(FailureKind.PERMANENT, "it names no report")
        try:
            kept, present = await self._book.of_report(report_id)
        except NotFound:
            raise JobFailed(FailureKind.PERMANENT, "there is no such report") from None
        # Where it stood before it was linked to a study counts as well.
        studies = dict.fromkeys((*kept.study_uids, finding.own_study_uid(report_id)))
        told = 0
        for study_uid in studies:
            there = [each for each in present if each.study_uid == study_uid]
            former = former_of(report_id, study_uid, kept.versions, there) | kept.objects_gone
            await self._give_up(study_uid, former, kept.report.trust)
            told += await self._store.write(partial(self._tell, kept=kept, study_uid=study_uid, former=former))
        told += await self._store.write(partial(self._tell_readers, kept=kept, present=present))
        if told:
            log.warning("received report changed", trust=kept.report.trust.code, recipients=told)
        work.advance(Progress(len(studies), len(studies)))

    async def _give_up(self, study_uid: str, former: set[str], trust: TrustId) -> None:
        for each in await self._cache.instances(study_uid):
            if each.ref.sop_uid in former and each.source == trust:
                await self._cache.stand(each, Standing.QUARANTINED, NO_MORE_SO)

    def _tell(self, tx: Tx, kept: KeptVersions, study_uid: str, former: set[str]) -> int:
        """Tell whom the ledger names; how many trusts."""
        report_id, source = kept.report.report_id, kept.report.trust
        received = recipients.received(tx, study_uid, source)
        items = []
        for recipient, some in sorted(recipients.by_recipient(received, former).items()):
            uids = {each.sop_uid for each in some}
            new = {uid for uid in sorted(uids) if readers.tell_of(tx, report_id, uid, recipient)}
            if new:
                items.append(_item(kept, recipient, study_uid, [each for each in some if each.sop_uid in new]))
        quality.report(tx, items, self._clock.now())
        return len(items)

    def _tell_readers(self, tx: Tx, kept: KeptVersions, present: Sequence[Document]) -> int:
        """Tell whom FHIR was given; how many trusts."""
        report_id, now = kept.report.report_id, standing_of(present)
        outdated = readers.outdated(tx, report_id, now)
        readers.tell(tx, report_id, now, outdated)
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
    occasion = f"{kept.report.report_id}/{len(kept.versions)}"
    return QualityItem(RECEIVED_AND_WITHDRAWN, recipient, study_uid, None, detail, occasion)
