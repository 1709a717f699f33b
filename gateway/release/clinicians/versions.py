"""A report as its rows alone tell of it: how it stands, and what of it may have been given out that stands so no more.

None of it needs a key or a text: that somebody has an old version is told even where that version is damaged or long
forgotten. All of it follows from the versions that there are, so two transactions that hold the report's row agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.instances.reporting.writing import OBJECTS, Marking
from gateway.release.clinicians.documents import former_of, objects_gone, standing_of, standings
from policy.parties import TrustId
from policy.release.reports import Version
from storage.clinical import finding
from storage.database import Read
from storage.release import links, reports
from storage.release.reports import KeptReport

ToleranceOf = Callable[[TrustId], timedelta]
"""How far ahead of its receipt a trust's verification may lie (SAF-31): `verification_future_tolerance_minutes`."""
_STANDS = (Marking.CURRENT, Marking.PRELIMINARY)
_SOURCES = frozenset(each.value for each in OBJECTS)


@dataclass(frozen=True, slots=True)
class KeptVersions:
    """A report, with its versions and the studies that it stands under."""

    report: KeptReport
    versions: tuple[Version, ...]
    study_uids: tuple[str, ...]
    tolerance: timedelta
    """A verification that lies further ahead has no time (SAF-31)."""
    objects: Mapping[str, str] = field(default_factory=dict)
    """Which versions came as which object, by SOP instance UID."""
    left: tuple[str, ...] = ()
    """The studies that it stood under until a person said that it is not of them."""

    @property
    def standing(self) -> str:
        """Names how it stands: another once something of it stands otherwise."""
        return standing_of(self.versions, self.tolerance, self.left)

    @property
    def standing_now(self) -> frozenset[str]:
        """The versions that nothing has taken the place of, and those whose text they show."""
        shown = [each for each in standings(self.versions, self.tolerance) if each.marking in _STANDS]
        return frozenset(name for each in shown for name in (each.version.version_id, each.content_of))

    @property
    def ever_under(self) -> tuple[str, ...]:
        """Its studies, those that it stood under by mistake, and where it stood before it was linked to one."""
        return tuple(dict.fromkeys((*self.study_uids, *self.left, finding.own_study_uid(self.report.report_id))))

    def former(self, study_uid: str) -> frozenset[str]:
        """The instances that it may have been in a study, and is there no more, by UID."""
        present = standings(self.versions, self.tolerance) if study_uid in self.study_uids else []
        former = former_of(self.report.report_id, study_uid, self.versions, present)
        return former | objects_gone(self.versions, self.objects, self.tolerance)


def versions_of(read: Read, report: KeptReport, tolerance: timedelta) -> KeptVersions:
    """The report, with all that its rows say."""
    report_id = report.report_id
    versions, objects = reports.versions(read, report_id), finding.objects_of(read, report_id, _SOURCES)
    study_uids, left = finding.studies_of(read, report_id), links.left_by(read, report_id)
    return KeptVersions(report, versions, study_uids, tolerance, objects, left)


def studies_with(read: Read, report_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
    """The studies that these reports stand or stood under, with every instance that they may be written as, by UID."""
    found: dict[str, frozenset[str]] = {}
    for report_id in report_ids:
        versions = reports.versions(read, report_id)
        linked = (*finding.studies_of(read, report_id), *links.left_by(read, report_id))
        for study_uid in dict.fromkeys((*linked, finding.own_study_uid(report_id))):
            written = former_of(report_id, study_uid, versions, ())
            found[study_uid] = found.get(study_uid, frozenset()) | written
    return found
