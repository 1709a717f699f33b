"""Rows of written reports are judged behind the rows of images, and each alone: no report hides what it is beside.

A report that names the wrong study, or its patient wrongly, is withheld itself and told to its custodian; what archives
list is judged as if it were not there (SAF-08, SAF-63). Where no archive speaks, reports that contradict each other are
all withheld. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from gateway.model.imaging import Attributes, Query
from gateway.model.seams import STUDY_OF_TWO_PATIENTS
from gateway.sharing.identity.conflicts import NO_EVIDENCE, Conflict, Evidence, Judgement, judge
from gateway.sharing.identity.patients import Demographics
from gateway.sharing.merge import Candidate, modalities_of, texts
from gateway.sharing.scope import Scope
from policy.agreements import COMPANIONS
from policy.parties import NhsNumber, TrustId

REPORT_OF_ANOTHER_PATIENT = "report-of-another-patient"
"""A report under a study of somebody else: it puts no study into quarantine."""
_WRITTEN = "4E491010"
_EXAMS = "4E491011"
"""Of the gateway's own block, so that they are never shown."""


def as_written(row: Attributes) -> Attributes:
    """The row, known from now on for one of a document that is written here."""
    return {**row, _WRITTEN: {"vr": "CS", "Value": ["REPORT"]}}


def of_exams(row: Attributes, modalities: Collection[str]) -> Attributes:
    """The row, with what is known of the images that its reports are of, where they are all of one study."""
    return {**row, _EXAMS: {"vr": "CS", "Value": [*sorted(modalities)]}}


def images_beside(rows: Iterable[Candidate]) -> Callable[[Candidate], frozenset[str]]:
    """What images each of these rows accompanies, if it is no image itself: its trust's of the same study, else those
    that its report says it is of.

    Of a report of several studies nobody can say so: what it tells of the one it tells of the others.
    """
    images: dict[tuple[TrustId, str], set[str]] = {}
    for row in rows:
        images.setdefault((row.trust, row.study_uid), set()).update(modalities_of(row.row))

    def beside(row: Candidate) -> frozenset[str]:
        if not COMPANIONS.issuperset(modalities_of(row.row)) or (is_written(row) and _EXAMS not in row.row):
            return frozenset()
        known = frozenset(images.get((row.trust, row.study_uid), ())) - COMPANIONS
        return known or frozenset(texts(row.row, _EXAMS))

    return beside


def is_written(found: Candidate) -> bool:
    """Whether a row is of a document that is written here; no archive can say so of its own."""
    return found.is_kept and _WRITTEN in found.row


def judge_with_reports(
    query: Query,
    scope: Scope,
    candidates: Sequence[Candidate],
    *,
    asker: TrustId | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Judgement:
    """Judge the rows of archives by themselves, and rows of reports by what archives say (`conflicts.judge`)."""
    written = [found for found in candidates if is_written(found)]
    if not written:
        return judge(query, scope, candidates, asker=asker, evidence=evidence)
    archived = [found for found in candidates if not is_written(found)]
    judged = judge(query, scope, archived, asker=asker, evidence=evidence)
    conflicts: list[Conflict] = []
    agreeing: list[Candidate] = []
    for alike in _alike(written):
        beside = judge(query, scope, [*_beside(alike[0], archived), *alike], asker=asker, evidence=evidence)
        conflicts += _of(beside, alike)
        agreeing += [row for row in beside.accepted if row in alike]
    among = judge(query, scope, agreeing, asker=asker, evidence=evidence)
    conflicts += _of(among, agreeing)
    return replace(
        judged,
        accepted=(*judged.accepted, *among.accepted),
        conflicts=(*judged.conflicts, *conflicts),
        doubts=(*judged.doubts, *among.doubts),
    )


def _alike(written: Sequence[Candidate]) -> list[list[Candidate]]:
    """Rows of one study that name their patient alike: what holds for one of them holds for all."""
    groups: dict[tuple[str, NhsNumber | None, Demographics, int], list[Candidate]] = defaultdict(list)
    for row in written:
        groups[row.study_uid, row.patient, row.identity.demographics, id(row.identity)].append(row)
    return list(groups.values())


def _beside(report: Candidate, archived: Sequence[Candidate]) -> list[Candidate]:
    """Whoever archives speak of, each by one row; in the report's own study too."""
    people = {(id(row.identity), row.study_uid == report.study_uid): row for row in archived}
    return list(people.values())


def _of(judgement: Judgement, written: Sequence[Candidate]) -> list[Conflict]:
    """What of these was taken out."""
    ours = {id(row) for row in written}
    found = []
    for conflict in judgement.conflicts:
        rows = tuple(row for row in conflict.rows if id(row) in ours)
        if rows:
            is_of_study = conflict.kind == STUDY_OF_TWO_PATIENTS
            found.append(Conflict(REPORT_OF_ANOTHER_PATIENT if is_of_study else conflict.kind, rows))
    return found
