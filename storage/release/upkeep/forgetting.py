"""Forget what is kept of a report once its retention is over (SAF-41); the rows that tell of it stay.

The gateway is no record: the trusts keep theirs. A report's texts go together with every copy of them, the documents of
the patient's page and the addressees of what was given; what waits for its patient, is held, or is still to be taken
back is never forgotten. Who a patient was found to be is needed on the day of the trace alone, and whom a document went
to as long as somebody may see it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, delete, exists, select, tuple_, update

from policy.release.circumstances import ReleaseState
from storage.database import Read, Tx
from storage.release.deliveries import UNDELIVERABLE, DeliveryState, report_delivery
from storage.release.patients import patient_document
from storage.release.standing import report_trace
from storage.release.tables import report, report_version

REPORTS_AT_ONCE_MAX = 50
"""Reports whose texts are forgotten in one transaction: each may have some dozen versions."""
ADDRESSEES_AT_ONCE_MAX = 200
FORGOTTEN = b""
"""Stands where something was."""
_GONE = {"sealed": FORGOTTEN, "key_id": FORGOTTEN}
_STILL_AHEAD = (ReleaseState.EMBARGOED.value, ReleaseState.DUE.value, ReleaseState.HELD.value)
_UNDER_WAY = {DeliveryState.WAITING, DeliveryState.PUTTING, DeliveryState.WITHDRAWING} | UNDELIVERABLE
"""Something is still to be done with the text, or with its addressee."""
_SEEN_NO_MORE = (DeliveryState.WITHDRAWN.value, DeliveryState.REPLACED.value)
_NOT_GIVEN = (DeliveryState.NO_ACCOUNT.value, DeliveryState.NOT_FOR.value)


def over(read: Read, before: datetime) -> Sequence[str]:
    """Reports that nothing has changed since then and that nothing waits for, if something of them is kept."""
    of = report_delivery.c
    is_under_way = exists().where(
        of.report_id == report.c.report_id, of.state.in_(sorted(state.value for state in _UNDER_WAY))
    )
    has_text = exists().where(report_version.c.report_id == report.c.report_id, report_version.c.sealed != FORGOTTEN)
    found = (
        select(report.c.report_id)
        .where(report.c.changed_at < before, report.c.state.not_in(_STILL_AHEAD), has_text, ~is_under_way)
        .order_by(report.c.report_id)
        .limit(REPORTS_AT_ONCE_MAX)
    )
    return list(read.connection.execute(found.with_for_update(of=report)).scalars())


def forget_texts(tx: Tx, report_ids: Collection[str], before: datetime, words: str) -> int:
    """Delete what is kept of those of these reports that are `over` still; how many versions that was.

    `words` stand on the patient's page in the place of what was shown.
    """
    still = sorted(set(over(tx, before)).intersection(report_ids))
    shown = patient_document.c.report_id.in_(still) & patient_document.c.is_shown
    gone = {"is_shown": False, "words": words, "withdrawn_at": tx.now, **_GONE}
    tx.connection.execute(update(patient_document).where(shown).values(gone))
    # Nobody is looked for any more to whom it could be given, and nobody who signs up is waited for.
    tx.connection.execute(update(report).where(report.c.report_id.in_(still)).values(look_at=None))
    given = report_delivery.c
    tx.connection.execute(delete(report_delivery).where(given.report_id.in_(still), given.state.in_(_NOT_GIVEN)))
    for table in (report_delivery, report_trace):
        tx.connection.execute(update(table).where(table.c.report_id.in_(still)).values(_GONE))
    texts = report_version.c.report_id.in_(still) & (report_version.c.sealed != FORGOTTEN)
    return tx.connection.execute(update(report_version).where(texts).values(_GONE)).rowcount


def forget_addressees(tx: Tx, before: datetime) -> int:
    """Delete some traced patients, and addressees of what nobody may see any more, since then; how many."""
    traces, given = report_trace.c, report_delivery.c
    is_traced = (traces.at < before) & (traces.sealed != FORGOTTEN)
    is_nobodys = given.state.in_(_SEEN_NO_MORE) | (given.state.in_(_NOT_GIVEN) & (given.attempts == 0))
    is_gone = is_nobodys & (given.changed_at < before) & (given.sealed != FORGOTTEN)
    return _forgotten(tx, report_trace, select(traces.report_id).where(is_traced)) + _forgotten(
        tx, report_delivery, select(given.report_id, given.channel, given.document_key).where(is_gone)
    )


def _forgotten(tx: Tx, table: Table, some: Select[Any]) -> int:
    keys = [tuple(row) for row in tx.connection.execute(some.limit(ADDRESSEES_AT_ONCE_MAX))]
    if keys:
        tx.connection.execute(update(table).where(tuple_(*table.primary_key.columns).in_(keys)).values(_GONE))
    return len(keys)
