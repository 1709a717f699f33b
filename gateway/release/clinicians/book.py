"""The reports that a clinician's question may be about, opened and made into documents (SAF-63).

Reads what is kept and opens it with its patients' keys of release, which an opt-out of sharing does not touch: who may
see any of it is decided by the guard, row by row, where these documents are listed. What cannot be opened is left out,
and its trust's part said to be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from gateway.instances.reporting.writing import Document
from gateway.model.errors import Damaged, GatewayError, KeyClosed
from gateway.model.reporting.incoming import Content, IncomingReport
from gateway.release.clinicians.documents import documents_of
from gateway.release.clinicians.versions import KeptVersions, ToleranceOf, versions_of
from gateway.sharing.retrieval.reported import Documents
from policy.parties import PatientId
from policy.release.reports import Version
from storage.clinical import finding
from storage.database import Read
from storage.release import reports
from storage.release.reports import KeptContent
from storage.store import SqlStore

log = structlog.get_logger(__name__)

PDF_BEGINNING_BYTES = 5
"""Of a document so much is held in a list: enough to tell that there is one."""


class Opens(Protocol):
    """Opens what versions say; raises `GatewayError`."""

    async def open(self, version_id: str) -> IncomingReport:
        """What a version says, without the message that brought it."""

    async def opened(self, kept: KeptContent) -> IncomingReport:
        """The same, of what is at hand sealed."""


class Book:
    """Documents of reports (`gateway.sharing.retrieval.reported.ReportBook`)."""

    def __init__(
        self,
        store: SqlStore,
        contents: Opens,
        tolerance_of: ToleranceOf,
        *,
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_open` says whether the keys of reports can be had at all."""
        self._is_open = is_open
        self._store = store
        self._contents = contents
        self._tolerance_of = tolerance_of

    @property
    def is_open(self) -> bool:
        """See `ReportBook`."""
        return self._is_open()

    async def of_studies(self, study_uids: Collection[str]) -> Documents:
        """See `ReportBook`."""
        found = await self._documents(lambda read: finding.of_studies(read, study_uids))
        left = await self._store.read(lambda read: self._left(read, study_uids))
        present = [each for each in found.present if each.study_uid in study_uids]
        return replace(found, present=present, former=found.former | left)

    async def of_patient(self, known_by: Collection[PatientId]) -> Documents:
        """See `ReportBook`."""
        rows = await self._store.patient_rows(known_by) if known_by else frozenset[str]()
        return await self._documents(lambda read: finding.of_patients(read, rows)) if rows else Documents()

    async def of_accession(self, number: str) -> Documents:
        """See `ReportBook`."""
        return await self._documents(lambda read: finding.of_accession(read, number)) if number else Documents()

    async def _documents(self, select: finding.Which) -> Documents:
        kept = await self._store.read(
            lambda read: [versions_of(read, each, self._tolerance_of(each.trust)) for each in select(read)]
        )
        present: list[Document] = []
        former: set[str] = set()
        standings: dict[str, str] = {}
        cut = {each.report.trust for each in kept[finding.REPORTS_MAX :]}
        for each in kept[: finding.REPORTS_MAX]:
            for study_uid in each.study_uids:
                former |= each.former(study_uid)
            try:
                found, damaged = await self._of(each)
            except KeyClosed:
                continue  # erased: absence
            except GatewayError as error:
                log.warning("report not opened", reason=type(error).__name__, **_named(each))
                cut.add(each.report.trust)
                continue
            present += found
            if damaged:
                log.error("version not opened", alarm=True, versions=len(damaged), **_named(each))
                cut.add(each.report.trust)
            standings[each.report.report_id] = each.standing
        return Documents(present, frozenset(former), frozenset(cut), standings)

    def _left(self, read: Read, study_uids: Collection[str]) -> frozenset[str]:
        """What may have been given out of these studies of reports that are not of them after all, by UID."""
        found = [versions_of(read, each, self._tolerance_of(each.trust)) for each in finding.left(read, study_uids)]
        gone = (each.former(study) for each in found for study in each.left if study in study_uids)
        return frozenset[str]().union(*gone)

    async def whole(self, document: Document) -> Document:
        """See `ReportBook`."""
        return replace(document, content=await self._contents.open(document.content_of))

    async def _of(self, kept: KeptVersions) -> tuple[list[Document], list[str]]:
        """What can be read of it, and which of its past versions are damaged; raises where one is that stands."""
        # One report after the other: those of a patient together may be more than memory should hold.
        sealed = await self._store.read(lambda read: _contents(read, kept.versions))
        opened: dict[str, IncomingReport] = {}
        damaged: list[str] = []
        for each in sealed:
            try:
                opened[each.version_id] = _begun(await self._contents.opened(each))
            except Damaged:
                # What is past is missed by nobody as the current one would be: that is given as before.
                if each.version_id in kept.standing_now:
                    raise
                damaged.append(each.version_id)
        found = documents_of(kept.report.report_id, kept.study_uids, kept.versions, opened, kept.tolerance)
        return found, damaged


def _named(kept: KeptVersions) -> dict[str, str]:
    return {"report": kept.report.report_id, "trust": kept.report.trust.code}


def _contents(read: Read, versions: Sequence[Version]) -> tuple[KeptContent, ...]:
    found = (reports.content(read, each.version_id) for each in versions)
    # What is forgotten once its retention is over leaves its row (SAF-41).
    return tuple(each for each in found if each is not None and each.sealed)


def _begun(said: IncomingReport) -> IncomingReport:
    """With the beginning of its document alone: a patient may have hundreds."""
    content = said.content
    return replace(said, content=Content(content.text, content.pdf[:PDF_BEGINNING_BYTES])) if content.pdf else said
