"""Who is given which reports by FHIR: written down, and audited, before anything leaves (SAF-62)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.imaging import JsonValue
from gateway.release.clinicians.book import Book
from gateway.release.clinicians.documents import standing_of
from gateway.sharing.reading.reports import Kept, ReadReport
from policy.parties import Caller
from storage.clinical import finding, readers
from storage.database import Tx
from storage.store import SqlStore


class Readers:
    """Writes down who is given what."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def given(self, caller: Caller, reports: Sequence[ReadReport]) -> None:
        """See `gateway.sharing.reading.reports.Given`."""

        def write(tx: Tx) -> None:
            for each in reports:
                readers.give(tx, each.report_id, each.standing, caller.principal.trust)
            tx.chain.append(AuditEntry(AuditEvent.REPORT_READ, tx.now, caller.request_id, _told(caller, reports)))

        await self._store.write(write)

    async def study_of(self, report_id: str) -> str:
        """The study that a report stands under; of one that is unknown, a study that does not exist."""
        return (await self._store.read(lambda read: finding.studies_of(read, report_id)))[0]


def kept_for_reading(store: SqlStore, book: Book) -> Kept:
    """Where reports are, for whoever asks for them as reports."""
    written = Readers(store)
    return Kept(book, written.given, standing_of, written.study_of)


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
