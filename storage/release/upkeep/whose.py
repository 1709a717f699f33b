"""Whose a report is, by all that its versions say and people found: kept at the report's row for whoever looks there.

Said anew whenever a version comes or a person has settled it. Knows no rule but that of `policy.release.whose`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from policy.release import whose
from policy.release.ordering.instants import order
from policy.release.reports import Version
from storage.database import Tx
from storage.release import holds
from storage.release.tables import report, report_version
from storage.tables.columns import Instant, Json
from storage.tables.prepared import Prepared

_SAYS = Prepared(
    select(
        report_version.c.version_id,
        report_version.c.patient_id,
        report_version.c.birth_date,
        report_version.c.exam_codes,
    ).where(report_version.c.report_id == bindparam("of_report"))
)
_RENEW = Prepared(
    update(report)
    .where(report.c.report_id == bindparam("of_report"))
    .values(
        patient_id=bindparam("to_patient"),
        patient_key=bindparam("to_key"),
        birth_date=bindparam("to_birth_date"),
        exam_codes=bindparam("to_exam_codes", type_=Json),
        changed_at=bindparam("at", type_=Instant),
    )
)


def renew(tx: Tx, report_id: str, told: Sequence[Version]) -> None:
    """Say it anew: the newest version with an NHS number says it where all are of one patient, else the newest.

    A copy that leaves the number out takes nobody's report away from them, and neither does one that named somebody
    else before a person found whose it is. `told` is what feeds said, all of it.
    """
    ordered = sorted(told, key=order)
    said = {each.version_id: each.patient for each in ordered}
    known = holds.as_settled(tx, report_id, ordered)
    counted = whose.counted(known) or known[-1:]
    patients = {each.patient for each in counted}
    is_one = whose.are_one(patients)
    # A version that named another patient is counted for whom it was settled, and its row still leads to that other.
    of_them = [each for each in counted if whose.are_one([each.patient, said[each.version_id]])]
    numbered = [
        each
        for each in of_them
        if is_one and whose.has_nhs_number(each.patient) and whose.has_nhs_number(said[each.version_id])
    ]
    rows = {row.version_id: row for row in _SAYS.rows(tx.connection, {"of_report": report_id})}
    telling = rows[(numbered or of_them or counted)[-1].version_id]
    renewed = {
        "of_report": report_id,
        "to_patient": telling.patient_id,
        "to_key": whose.joined(patients) if is_one else counted[-1].patient,
        "to_birth_date": telling.birth_date,
        "to_exam_codes": rows[ordered[-1].version_id].exam_codes,
        "at": tx.now,
    }
    _RENEW.run(tx.connection, [renewed])
