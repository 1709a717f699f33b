"""Which reports a clinician's question may be about: by patient, by study, by accession number, by report.

A report that names no study stands under one of its own, whose UID leads back to it. Knows nothing of who may see any
of it, nor what any of it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, select

from storage.database import Read
from storage.release.reports import KeptReport, get
from storage.release.tables import LinkKind, report, report_study, report_version

REPORTS_MAX = 500
"""Of one question; a patient with more is told of as cut."""
STUDIES_MAX = 100
"""Of one report."""
Which = Callable[[Read], Sequence[KeptReport]]
"""Chooses the reports of a question."""
_OWN_STUDY = re.compile(r"2\.25\.([0-9]{1,39})")
_MARK, _MARK_BITS, _DIGITS = 0x25, 8, 30


def own_study_uid(report_id: str) -> str:
    """The study under which a report stands that names none."""
    return f"2.25.{(int(report_id[:_DIGITS], 16) << _MARK_BITS) | _MARK}"


def is_own_study(read: Read, study_uid: str) -> bool:
    """Whether it is no study of an archive, but the one under which some report stands, or once stood."""
    return bool(_own_reports(read, study_uid))


def of_patients(read: Read, patient_rows: Collection[str]) -> Sequence[KeptReport]:
    """The reports of these patients' rows, the newest first, one more than `REPORTS_MAX` at most."""
    if not patient_rows:
        return ()
    return _reports(read, report.c.patient_id.in_(sorted(patient_rows)))


def of_studies(read: Read, study_uids: Collection[str]) -> Sequence[KeptReport]:
    """The reports of these studies, and those that stand under one of these UIDs for want of a study."""
    if not study_uids:
        return ()
    linked = select(report_study.c.report_id).where(report_study.c.study_uid.in_(sorted(study_uids)))
    found = {each.report_id: each for each in _reports(read, report.c.report_id.in_(linked))}
    for uid in study_uids:
        for each in _own(read, uid):
            found.setdefault(each.report_id, each)
    return tuple(found.values())


def of_accession(read: Read, number: str) -> Sequence[KeptReport]:
    """The reports that name this accession number, of whatever trust."""
    named = select(report_study.c.report_id).where(
        report_study.c.kind == LinkKind.ACCESSION.value, report_study.c.named == number
    )
    return _reports(read, report.c.report_id.in_(named))


def studies_of(read: Read, report_id: str) -> tuple[str, ...]:
    """The studies that a report stands under: those that it is linked to, else its own."""
    linked = (
        select(report_study.c.study_uid)
        .where(report_study.c.report_id == report_id, report_study.c.study_uid.is_not(None))
        .order_by(report_study.c.study_uid)
        .distinct()
        .limit(STUDIES_MAX)
    )
    found = tuple(row.study_uid for row in read.connection.execute(linked))
    return found or (own_study_uid(report_id),)


def objects_of(read: Read, report_id: str, sources: Collection[str]) -> Mapping[str, str]:
    """Which versions of a report came as which DICOM object (`sources` are those kinds), by SOP instance UID."""
    of = report_version.c
    named = select(of.version_id, of.message_id).where(
        of.report_id == report_id, of.has_content, of.source.in_(sorted(sources))
    )
    return {row.version_id: row.message_id for row in read.connection.execute(named)}


def ever_of_studies(read: Read, study_uids: Collection[str]) -> Sequence[KeptReport]:
    """The reports of these studies, and those that once stood under one of them: by mistake, or for want of one."""
    found = {each.report_id: each for each in (*of_studies(read, study_uids), *left(read, study_uids))}
    own = (each for uid in sorted(study_uids) for each in _own_reports(read, uid))
    return tuple({**{each.report_id: each for each in own}, **found}.values())


def left(read: Read, study_uids: Collection[str]) -> Sequence[KeptReport]:
    """The reports of which a person has said that they are not of one of these studies."""
    of = report_study.c
    said = select(of.report_id).where(
        of.kind == LinkKind.PERSON.value, of.named.in_(sorted(study_uids)), of.study_uid.is_(None)
    )
    return _reports(read, report.c.report_id.in_(said))


def _own(read: Read, study_uid: str) -> Sequence[KeptReport]:
    """The reports that stand under this UID for want of a study, at this moment."""
    named = _own_reports(read, study_uid)
    return [each for each in named if studies_of(read, each.report_id) == (study_uid,)]


def _own_reports(read: Read, study_uid: str) -> Sequence[KeptReport]:
    matched = _OWN_STUDY.fullmatch(study_uid)
    number = int(matched.group(1)) if matched else 0
    if number & ((1 << _MARK_BITS) - 1) != _MARK or number >> _MARK_BITS >= 16**_DIGITS:
        return ()
    begins = f"{number >> _MARK_BITS:0{_DIGITS}x}"
    return _reports(read, (report.c.report_id >= begins) & (report.c.report_id < f"{begins}g"))


def _reports(read: Read, which: ColumnElement[bool]) -> Sequence[KeptReport]:
    ids = select(report.c.report_id).where(which).order_by(report.c.changed_at.desc(), report.c.report_id)
    rows = read.connection.execute(ids.limit(REPORTS_MAX + 1)).all()
    return [found for row in rows if (found := get(read, row.report_id)) is not None]
