"""Forget what reports say once its retention is over (SAF-41): the sealed texts go, the rows that tell of them stay.

The gateway is no record: the trusts keep theirs. What waits for its patient, or is held, is never forgotten.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from policy.release.circumstances import ReleaseState
from storage.database import Tx
from storage.release.tables import report, report_version

FORGOTTEN_AT_ONCE_MAX = 200
FORGOTTEN = b""
"""Stands where a version's content was."""
_STILL_AHEAD = (ReleaseState.EMBARGOED.value, ReleaseState.DUE.value, ReleaseState.HELD.value)


def forget_texts(tx: Tx, before: datetime) -> int:
    """Delete the content of some versions of reports that nothing has changed since then; how many versions."""
    some = (
        select(report_version.c.version_id)
        .join(report, report.c.report_id == report_version.c.report_id)
        .where(
            report.c.changed_at < before,
            report.c.state.not_in(_STILL_AHEAD),
            report_version.c.sealed != FORGOTTEN,
        )
        .limit(FORGOTTEN_AT_ONCE_MAX)
    )
    version_ids = list(tx.connection.execute(some).scalars())
    if version_ids:
        forgotten = update(report_version).where(report_version.c.version_id.in_(version_ids))
        tx.connection.execute(forgotten.values(sealed=FORGOTTEN, key_id=FORGOTTEN))
    return len(version_ids)
