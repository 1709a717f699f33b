"""Reports asked for as reports, by whoever speaks FHIR: guarded, judged and recorded as images are (SAF-63).

Nothing is asked of an archive: the gateway keeps what its trusts' reporting systems sent. Everything else is as for
images: the patient is pinned and looked up, the attempt is durable before anything is read, every report is a row that
the identity rules and the policy decide, and the outcome is durable before anything leaves. Absence is the same
whatever its reason: what a register withholds is read all the same, and shown to nobody (SAF-06).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from gateway.instances.reporting.writing import Document, attributes_of
from gateway.model.errors import InvalidRequest, OverCapacity, StoreUnavailable
from gateway.model.imaging import PATIENT_ID, STUDY_UID, Attributes, JsonValue, Key, Level, Query, SourceState
from gateway.model.seams import Clock
from gateway.model.settings import SharingSettings
from gateway.sharing.absence import next_on_grid
from gateway.sharing.answers.tally import source_record
from gateway.sharing.directory import Directory
from gateway.sharing.guard.gate import Gate
from gateway.sharing.guard.passage import Passage, Wish
from gateway.sharing.hearing import HOPS_MAX
from gateway.sharing.identity.people import Named, People, known_by
from gateway.sharing.identity.reports import of_exams
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.retrieval.reported import Documents, ReportBook
from policy.access import Action
from policy.parties import Caller, NhsNumber, TrustId


@dataclass(frozen=True, slots=True)
class ReadReport:
    """A report that its caller may have: what of it may be read, as it stands now."""

    report_id: str
    standing: str
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class ReadReports:
    """What there is for its caller, the newest first."""

    found: tuple[ReadReport, ...] = ()
    is_cut: bool = False
    """Whether something could not be read that is kept of a trust of which something is found."""


Given = Callable[[Caller, Sequence[ReadReport]], Awaitable[None]]
"""Writes down durably who is given which reports, before they leave; raises a `ServiceFault`.

One that came to stand otherwise since it was read is told of to whoever is written down.
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where reports are, and where it is written down who got them."""

    book: ReportBook
    given: Given
    studies_of: Callable[[str], Awaitable[tuple[str, ...]]]
    """The studies that a report stands under, by its id; of one that is unknown, a study that does not exist."""


class Counts(Protocol):
    """Who counts what callers ask; see `gateway.sharing.conduct.watch.Watch`."""

    async def counted(
        self,
        caller: Caller,
        query: Query,
        ask: Callable[[], Awaitable[ReadReports]],
        found: Callable[[ReadReports], Sequence[object]],
    ) -> ReadReports:
        """Count a question that is asked so; raises as asking does."""


class ReportReading:
    """Answers for reports."""

    def __init__(
        self,
        gate: Gate,
        people: People,
        directory: Directory,
        kept: Kept,
        settings: SharingSettings,
        clock: Clock,
        *,
        at_once_max: int,
        watch: Counts | None = None,
    ) -> None:
        """`watch` counts what each caller asks (SAF-39)."""
        self._watch = watch
        self._at_once_max, self._under_way = at_once_max, 0
        self._gate = gate
        self._people = people
        self._directory = directory
        self._kept = kept
        self._settings = settings
        self._clock = clock

    async def of_patient(self, caller: Caller, patient: NhsNumber) -> ReadReports:
        """The patient's reports that this caller may have.

        Raises `InvalidRequest`, `Denied`, or a `ServiceFault`.
        """
        query = Query(Level.IMAGE, (Key((PATIENT_ID,), "LO", (patient.digits,)),))
        return await self._asked(caller, query, {"reports_of": patient.digits}, "")

    async def of_id(self, caller: Caller, report_id: str) -> ReadReport | None:
        """The report, if there is one that this caller may have; raises as `of_patient`."""
        # All of them: it is shown only where it may be seen with each of its studies.
        query = Query(Level.IMAGE, (Key((STUDY_UID,), "UI", await self._kept.studies_of(report_id)),))
        reports = await self._asked(caller, query, {"report": report_id}, report_id)
        return reports.found[0] if reports.found else None

    async def whole(self, report: ReadReport) -> ReadReport:
        """The same with its documents whole; lists hold only their beginnings. Raises a `ServiceFault`."""
        documents = [await self._kept.book.whole(each) for each in report.documents]
        return replace(report, documents=tuple(documents))

    async def _asked(
        self, caller: Caller, query: Query, question: Mapping[str, JsonValue], report_id: str
    ) -> ReadReports:
        if caller.hops > HOPS_MAX:
            raise InvalidRequest("this question has passed another gateway already")
        if self._under_way >= self._at_once_max:
            raise OverCapacity("too many questions are under way")
        self._under_way += 1
        try:
            if self._watch is None:
                return await self._guarded(caller, query, question, report_id)
            asking = partial(self._guarded, caller, query, question, report_id)
            return await self._watch.counted(caller, query, asking, lambda reports: reports.found)
        finally:
            self._under_way -= 1

    async def _guarded(
        self, caller: Caller, query: Query, question: Mapping[str, JsonValue], report_id: str
    ) -> ReadReports:
        began = self._clock.monotonic()
        named = await self._people.named(caller, query)

        def wish() -> Wish:
            return Wish(caller, named.scope.patient, None, question, Action.RETRIEVE)

        async def settle() -> Wish:
            nonlocal named
            named = await self._people.looked_up(caller, query)
            return wish()

        async with self._gate.guard(wish(), None if named.pending is None else settle) as passage:
            reports = await self._found(passage, caller, named, report_id)
            if reports.found:
                await self._kept.given(caller, reports.found)
        if not reports.found and self._settings.absence_timing:
            await self._clock.sleep(next_on_grid(self._clock.monotonic() - began, self._settings.absence_grid_ms))
        return reports

    async def _found(self, passage: Passage, caller: Caller, named: Named, report_id: str) -> ReadReports:
        self._people.check(caller, named)
        if not self._kept.book.is_open:
            raise StoreUnavailable("reports cannot be opened at this moment")
        asker = caller.principal.trust
        kept = await self._documents(named)
        theirs = [each for each in kept.present if self._may_be_asked(each.trust, asker)]
        wanted = [each for each in theirs if report_id in ("", each.report_id)]
        answers = [] if passage.is_hidden else _answers(wanted, kept.cut)
        reading, judgement = await self._people.judged(asker, named, named.query, answers)
        await passage.refresh(judgement)
        permitted = await passage.visible(judgement.accepted)
        visible, _ = await self._people.as_now(caller, named, permitted)
        passage.tally.sources = source_record(reading.parts, judgement, ())
        shown = _shown(wanted, {row.sop_uid for row in visible})
        found = [ReadReport(each, kept.standings[each], tuple(some)) for each, some in shown.items()]
        passage.tally.returned = len(found)
        found.sort(key=lambda each: (-each.documents[0].stated_at.timestamp(), each.report_id))
        # That a report cannot be read says that there is one: only of a trust of whose this caller may have some.
        is_cut = any(row.trust in kept.cut for row in visible)
        return ReadReports(tuple(found), is_cut)

    async def _documents(self, named: Named) -> Documents:
        if named.scope.patient is not None:
            return await self._kept.book.of_patient(known_by(named))
        return await self._kept.book.of_studies(named.scope.study_uids)

    def _may_be_asked(self, trust: TrustId, asker: TrustId) -> bool:
        return trust != asker and trust in self._directory.enrolled - self._directory.retired


def _shown(documents: Sequence[Document], visible: Collection[str]) -> dict[str, list[Document]]:
    """By report what may be read of it: of a report of several studies only what may be seen with each of them."""
    alike: dict[tuple[str, str, str], list[Document]] = {}
    for each in documents:
        alike.setdefault((each.report_id, each.version_id, each.form.value), []).append(each)
    shown: dict[str, list[Document]] = {}
    for (report_id, _, _), some in alike.items():
        if all(each.ref.sop_uid in visible for each in some):
            shown.setdefault(report_id, []).append(some[0])
    return shown


def _answers(documents: Sequence[Document], cut: Collection[TrustId]) -> list[TrustAnswer]:
    """Each trust's reports, as a witness tells of what is kept."""
    rows: dict[TrustId, list[Document]] = {}
    for each in documents:
        rows.setdefault(each.trust, []).append(each)
    return [
        TrustAnswer(
            trust,
            SourceState.ANSWERED,
            kept=[_row(each) for each in some],
            is_kept_cut=trust in cut,
        )
        for trust, some in sorted(rows.items())
    ]


def _row(document: Document) -> Attributes:
    row = attributes_of(document)
    return of_exams(row, {document.content.exam.modality} - {""}) if document.is_of_one_study else row
