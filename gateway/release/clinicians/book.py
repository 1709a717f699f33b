"""The reports that a clinician's question may be about, opened and made into documents (SAF-63).

Reads what is kept and opens it with its patients' keys of release, which an opt-out of sharing does not touch: who may
see any of it is decided by the guard, row by row, where these documents are listed. What cannot be opened is left out,
and its trust's part said to be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import structlog

from gateway.instances.reporting.writing import Document
from gateway.model.errors import GatewayError, KeyClosed, NotFound
from gateway.model.reporting.incoming import Content, IncomingReport
from gateway.release.clinicians.documents import documents_of, former_of, objects_gone
from gateway.sharing.retrieval.reported import Documents
from policy.parties import PatientId
from policy.release.reports import Version
from storage.clinical import finding
from storage.database import Read
from storage.release import reports
from storage.release.reports import KeptContent, KeptReport
from storage.store import SqlStore

log = structlog.get_logger(__name__)

FUTURE_TOLERANCE = timedelta(minutes=5)
"""A verification that lies further ahead has no time (SAF-31)."""


PDF_BEGINNING_BYTES = 5
"""Of a document so much is held in a list: enough to tell that there is one."""


class Opens(Protocol):
    """Opens what versions say; raises `GatewayError`."""

    async def open(self, version_id: str) -> IncomingReport:
        """What a version says, without the message that brought it."""

    async def opened(self, kept: KeptContent) -> IncomingReport:
        """The same, of what is at hand sealed."""


@dataclass(frozen=True, slots=True)
class KeptVersions:
    """A report, with its versions and the studies that it stands under."""

    report: KeptReport
    versions: tuple[Version, ...]
    study_uids: tuple[str, ...]
    objects_gone: frozenset[str] = frozenset()
    """The objects that it came as and that are no more what it is, by SOP instance UID."""


class Book:
    """Documents of reports (`gateway.sharing.retrieval.reported.ReportBook`)."""

    def __init__(
        self,
        store: SqlStore,
        contents: Opens,
        *,
        is_open: Callable[[], bool] = lambda: True,
        tolerance: timedelta = FUTURE_TOLERANCE,
    ) -> None:
        """`is_open` says whether the keys of reports can be had at all."""
        self._is_open = is_open
        self._store = store
        self._contents = contents
        self._tolerance = tolerance

    @property
    def is_open(self) -> bool:
        """See `ReportBook`."""
        return self._is_open()

    async def of_studies(self, study_uids: Collection[str]) -> Documents:
        """See `ReportBook`."""
        found = await self._documents(lambda read: finding.of_studies(read, study_uids))
        present = [each for each in found.present if each.study_uid in study_uids]
        return Documents(present, found.former, found.cut)

    async def of_patient(self, known_by: Collection[PatientId]) -> Documents:
        """See `ReportBook`."""
        rows = await self._store.patient_rows(known_by) if known_by else frozenset[str]()
        return await self._documents(lambda read: finding.of_patients(read, rows)) if rows else Documents()

    async def of_accession(self, number: str) -> Documents:
        """See `ReportBook`."""
        return await self._documents(lambda read: finding.of_accession(read, number)) if number else Documents()

    async def of_report(self, report_id: str) -> tuple[KeptVersions, list[Document]]:
        """One report, with its versions that are not forgotten, and its documents.

        Raises `NotFound`, or what keeps it from being opened.
        """

        def one(read: Read) -> list[KeptVersions]:
            found = reports.get(read, report_id)
            return [] if found is None else _with_versions(read, [found])

        kept = await self._store.read(one)
        if not kept:
            raise NotFound("no such report")
        return await self._of(kept[0])

    async def _documents(self, select: finding.Which) -> Documents:
        kept = await self._store.read(lambda read: _with_versions(read, select(read)))
        present: list[Document] = []
        former: set[str] = set()
        cut = {each.report.trust for each in kept[finding.REPORTS_MAX :]}
        for each in kept[: finding.REPORTS_MAX]:
            try:
                known, found = await self._of(each)
            except KeyClosed:
                continue  # erased: absence
            except GatewayError as error:
                log.warning("report not opened", trust=each.report.trust.code, reason=type(error).__name__)
                cut.add(each.report.trust)
                continue
            present += found
            former |= known.objects_gone
            for study_uid in each.study_uids:
                former |= former_of(each.report.report_id, study_uid, known.versions, found)
        return Documents(present, frozenset(former), frozenset(cut))

    async def whole(self, document: Document) -> Document:
        """See `ReportBook`."""
        return replace(document, content=await self._contents.open(document.content_of))

    async def _of(self, kept: KeptVersions) -> tuple[KeptVersions, list[Document]]:
        # One report after the other: those of a patient together may be more than memory should hold.
        sealed = await self._store.read(lambda read: _contents(read, kept.versions))
        opened = {each.version_id: _begun(await self._contents.opened(each)) for each in sealed}
        found = documents_of(kept.report.report_id, kept.study_uids, kept.versions, opened, self._tolerance)
        gone = objects_gone(kept.versions, opened, self._tolerance)
        known = tuple(each for each in kept.versions if each.version_id in opened)
        return replace(kept, versions=known, objects_gone=gone), found


def _with_versions(read: Read, found: Sequence[KeptReport]) -> list[KeptVersions]:
    return [
        KeptVersions(each, reports.versions(read, each.report_id), finding.studies_of(read, each.report_id))
        for each in found
    ]


def _contents(read: Read, versions: Sequence[Version]) -> tuple[KeptContent, ...]:
    found = (reports.content(read, each.version_id) for each in versions)
    # What is forgotten once its retention is over leaves its row (SAF-41).
    return tuple(each for each in found if each is not None and each.sealed)


def _begun(said: IncomingReport) -> IncomingReport:
    """With the beginning of its document alone: a patient may have hundreds."""
    content = said.content
    return replace(said, content=Content(content.text, content.pdf[:PDF_BEGINNING_BYTES])) if content.pdf else said
