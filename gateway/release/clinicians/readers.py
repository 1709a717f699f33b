"""Who is given which reports: written down, and audited, before anything leaves (SAF-62).

Whoever is written down holds the report's row, as whatever changes a report does. So either the change comes later, and
its telling finds who was given what stood before; or it came first, between reading and writing down, and then a
telling is queued here.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.imaging import JsonValue
from gateway.model.work.retrievals import FrozenInstance
from gateway.release.clinicians.book import Book
from gateway.release.clinicians.telling import moved
from gateway.release.clinicians.versions import KeptVersions, ToleranceOf, versions_of
from gateway.sharing.reading.reports import Kept, ReadReport
from gateway.sharing.retrieval.reported import may_be_report
from policy.parties import Caller
from storage.clinical import finding, readers
from storage.database import Tx
from storage.release import reports as kept_reports
from storage.store import SqlStore


class Readers:
    """Writes down who is given what."""

    def __init__(self, store: SqlStore, tolerance_of: ToleranceOf) -> None:
        self._store = store
        self._tolerance_of = tolerance_of

    async def given(self, caller: Caller, reports: Sequence[ReadReport]) -> None:
        """See `gateway.sharing.reading.reports.Given`."""

        def write(tx: Tx) -> None:
            # In one order, so that two processes that hold the same reports wait for each other.
            for each in sorted(reports, key=lambda report: report.report_id):
                readers.give(tx, each.report_id, each.standing, caller.principal.trust)
                if self._held(tx, each.report_id).standing != each.standing:
                    moved(tx, each.report_id)
            tx.chain.append(AuditEntry(AuditEvent.REPORT_READ, tx.now, caller.request_id, _told(caller, reports)))

        await self._store.write(write)

    def frozen(self, tx: Tx, instances: Sequence[FrozenInstance]) -> None:
        """Follow the ledger, in the transaction that freezes these: what stands so no more by now is told of.

        From its list to its ledger a retrieval takes a while, and a telling in between finds no recipient.
        """
        suspects = [each.ref for each in instances if may_be_report(each.ref) or not each.ref.sop_class_uid]
        if not suspects:
            return
        uids, studies = {each.sop_uid for each in suspects}, {each.study_uid for each in suspects}
        found = finding.ever_of_studies(tx, studies)
        for report_id in sorted(each.report_id for each in found):
            kept = self._held(tx, report_id)
            if any(not kept.former(study_uid).isdisjoint(uids) for study_uid in studies.intersection(kept.ever_under)):
                moved(tx, report_id)

    async def studies_of(self, report_id: str) -> tuple[str, ...]:
        """The studies that a report stands under; of one that is unknown, a study that does not exist."""
        return await self._store.read(lambda read: finding.studies_of(read, report_id))

    def _held(self, tx: Tx, report_id: str) -> KeptVersions:
        report = kept_reports.hold(tx, report_id)
        return versions_of(tx, report, self._tolerance_of(report.trust))


def kept_for_reading(book: Book, written: Readers) -> Kept:
    """Where reports are, for whoever asks for them as reports."""
    return Kept(book, written.given, written.studies_of)


def _told(caller: Caller, reports: Sequence[ReadReport]) -> dict[str, JsonValue]:
    read: list[JsonValue] = [
        {"report": each.report_id, "standing": each.standing, "trust": each.documents[0].trust.code} for each in reports
    ]
    return {
        "by": caller.principal.subject,
        "trust": caller.principal.trust.code,
        "purpose": caller.purpose.value,
        "reports": read,
    }
