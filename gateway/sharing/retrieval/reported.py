"""Reports beside the images: listed as an archive would list them, and written when somebody is to have them (SAF-63).

The gateway keeps reports of trusts, and is their holder for every other trust. So they are told of at every level as
the trust's own rows, pass the guard and the identity rules like all rows, and are put into the sealed cache by the same
road; what is evicted is written again. What a report is no more (superseded, withdrawn) is listed no more, and copies
of it are given up like those of any image that its archive withdrew. Knows neither keys nor feeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from gateway.instances.reporting.reading import REPORT_CLASSES
from gateway.instances.reporting.writing import TRANSFER_SYNTAX, Document, attributes_of, encoded
from gateway.model.errors import GatewayError
from gateway.model.imaging import SOP_UID, Attributes, Level, Query
from gateway.model.work.transfers import InstanceRef, Intake
from gateway.sharing.hearing import Allowance, Witness, Witnessed
from gateway.sharing.identity.reports import as_written, of_exams
from gateway.sharing.merge import texts
from gateway.sharing.retrieval.folding import series_row, study_row
from gateway.sharing.scope import Scope
from policy.parties import PatientId, TrustId

log = structlog.get_logger(__name__)

_NOT_LISTED = frozenset({"00080005", "00080012", "00080013", "00080070"})


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents that a question may be about."""

    present: Sequence[Document] = ()
    former: frozenset[str] = frozenset()
    """Instances that may have been given out, and are no more, by UID."""
    cut: frozenset[TrustId] = frozenset()
    """The trusts of which there are more than are told of, or some that cannot be read."""
    standings: Mapping[str, str] = field(default_factory=dict)
    """By report a name of how it stands: another once anything of it stands otherwise."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is written here of one trust's study."""

    documents: Mapping[str, Document]
    """By SOP instance UID."""
    former: frozenset[str]
    """What may have been listed and is written no more, by UID."""


class ReportBook(Protocol):
    """Where reports are kept, as documents. Raises a `ServiceFault`."""

    @property
    def is_open(self) -> bool:
        """Whether reports can be opened at all, whoever's they are."""

    async def of_studies(self, study_uids: Collection[str]) -> Documents:
        """Of these studies."""

    async def of_patient(self, known_by: Collection[PatientId]) -> Documents:
        """Of the patient whom these identifiers lead to."""

    async def of_accession(self, number: str) -> Documents:
        """Of this accession number, whoever issued it."""

    async def whole(self, document: Document) -> Document:
        """With all that it says; lists hold only the beginning of a PDF. Raises `GatewayError`."""


class Reported:
    """Lists documents, and writes them."""

    def __init__(self, book: ReportBook, trusts: Collection[TrustId]) -> None:
        """`trusts` are those whose reports may be kept: of each of them something is missing if none can be read."""
        self._book = book
        self._trusts = frozenset(trusts)

    async def rows(
        self, question: Query, scope: Scope, known_by: Collection[PatientId], allowance: Allowance
    ) -> Witnessed:
        """Rows by trust at the question's level. Raises nothing: if none can be read, every trust's part is cut."""
        if not self._book.is_open:
            return Witnessed({})  # which `unread` tells of, for every patient alike
        try:
            async with asyncio.timeout(allowance.timeout_s):
                found = await self._of(scope, known_by)
        except (GatewayError, TimeoutError) as error:
            log.warning("reports not listed", reason=type(error).__name__)
            return Witnessed({}, self._trusts)
        rows: dict[TrustId, list[Attributes]] = {}
        for trust, row in _rows(question.level, [each for each in found.present if not each.has_own_form]):
            rows.setdefault(trust, []).append(as_written(row))
        cut = {trust for trust, listed in rows.items() if len(listed) > allowance.matches_max}
        return Witnessed({trust: listed[: allowance.matches_max] for trust, listed in rows.items()}, found.cut | cut)

    @property
    def unread(self) -> frozenset[TrustId]:
        """The trusts of whose reports nothing can be told at this moment, for every patient alike."""
        return frozenset() if self._book.is_open else self._trusts

    async def written(self, trust: TrustId, study_uid: str) -> Written:
        """What is written here of a trust's study; raises a `ServiceFault`."""
        found = await self._book.of_studies([study_uid])
        theirs = (each for each in found.present if each.trust == trust and not each.has_own_form)
        return Written({each.ref.sop_uid: each for each in theirs if each.study_uid == study_uid}, found.former)

    async def made(self, trust: TrustId, study_uid: str) -> Collection[str]:
        """The SOP instance UIDs of that; raises a `ServiceFault`."""
        return (await self.written(trust, study_uid)).documents.keys()

    async def give(self, documents: Sequence[Document], intake: Intake) -> None:
        """Put these where instances go that come; raises as `Taking` does, or a `ServiceFault`."""
        for each in documents:
            ref = each.ref
            async with intake.take(ref.sop_class_uid, ref.sop_uid, TRANSFER_SYNTAX) as taking:
                taking.add(encoded(await self._book.whole(each)))
                await taking.drain()
                await taking.keep()

    async def former(self, study_uids: Collection[str]) -> frozenset[str]:
        """What may have been given out of these studies and is no more; raises a `ServiceFault`."""
        return (await self._book.of_studies(study_uids)).former

    async def _of(self, scope: Scope, known_by: Collection[PatientId]) -> Documents:
        if scope.study_uids:
            return await self._book.of_studies(scope.study_uids)
        if scope.patient is not None:
            return await self._book.of_patient(known_by)
        return await self._book.of_accession(scope.accession_number)


class WithReports:
    """A witness that tells of reports too (`gateway.sharing.hearing.Witness`)."""

    def __init__(self, witness: Witness, reported: Reported) -> None:
        self._witness = witness
        self._reported = reported

    async def rows(
        self, study_uids: Collection[str], silent: Collection[TrustId]
    ) -> Mapping[TrustId, Sequence[Attributes]]:
        """See `Witness`: of what is kept of silent trusts nothing that a report was and is no more."""
        kept = await self._witness.rows(study_uids, silent)
        if not kept:
            return kept
        try:
            former = await self._reported.former(study_uids)
        except GatewayError as error:
            log.warning("reports not listed", reason=type(error).__name__)
            return {}
        return {trust: [row for row in rows if former.isdisjoint(texts(row, SOP_UID))] for trust, rows in kept.items()}

    async def sole(
        self, question: Query, scope: Scope, known_by: Collection[PatientId], allowance: Allowance
    ) -> Witnessed:
        """See `Witness`."""
        sole = await self._witness.sole(question, scope, known_by, allowance)
        reported = await self._reported.rows(question, scope, known_by, allowance)
        rows = {trust: [*listed] for trust, listed in sole.rows.items()}
        for trust, listed in reported.rows.items():
            rows.setdefault(trust, []).extend(listed)
        return Witnessed(rows, sole.cut | reported.cut)

    async def unread(self) -> frozenset[TrustId]:
        """See `Witness`."""
        return await self._witness.unread() | self._reported.unread


def may_be_report(ref: InstanceRef) -> bool:
    """Whether an instance may be a document that is written here, or an object that a report was and is no more."""
    return ref.sop_class_uid in REPORT_CLASSES


def _rows(level: Level, documents: Sequence[Document]) -> list[tuple[TrustId, Attributes]]:
    listed = [(each, _listed(each)) for each in documents]
    if level is Level.IMAGE:
        return [(each.trust, _of_exams(row, [each])) for each, row in listed]
    groups: dict[tuple[TrustId, str], list[tuple[Document, Attributes]]] = {}
    for each, row in listed:
        uid = each.ref.series_uid if level is Level.SERIES else each.study_uid
        groups.setdefault((each.trust, uid), []).append((each, row))
    found: list[tuple[TrustId, Attributes]] = []
    for (trust, _), group in groups.items():
        refs, rows = [each.ref for each, _ in group], [row for _, row in group]
        folded = series_row(rows[0], refs) if level is Level.SERIES else study_row(rows, refs)
        found.append((trust, _of_exams(folded, [each for each, _ in group])))
    return found


def _of_exams(row: Attributes, documents: Sequence[Document]) -> Attributes:
    if not all(each.is_of_one_study for each in documents):
        return row
    return of_exams(row, {each.content.exam.modality for each in documents} - {""})


def _listed(document: Document) -> Attributes:
    return {tag: element for tag, element in attributes_of(document).items() if tag not in _NOT_LISTED}
