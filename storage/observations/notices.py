"""Studies that trusts told of by themselves and of which nobody knows yet whose they are (PS3.4 R, SAF-05).

A notification names no patient. Until the trust was asked whose the study is, no negative of that trust can be
believed, whoever it is about: so the rows are durable before the trust is told that it was heard, and while one of them
waits it is asked whatever else is known (`Knowledge.unsettled`). No register: nothing about access hangs on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column, Integer, Table, Text, bindparam, delete, func, select, text, update

from gateway.model.locations import Told
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.tables.columns import Instant, metadata, micros
from storage.tables.prepared import Prepared

UNREAD = ""
"""In place of the study's UID: the trust told of something that could not be taken. Never asked after."""

location_notice = Table(
    "location_notice",
    metadata,
    Column("trust", Text, primary_key=True),
    Column("study_uid", Text, primary_key=True),
    Column("told_at", Instant, nullable=False),
    Column("next_try_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
)

_IS_ONE = (location_notice.c.trust == bindparam("of_trust"), location_notice.c.study_uid == bindparam("of_study"))
_OTHERS = select(func.count()).where(
    location_notice.c.trust == bindparam("of_trust"),
    location_notice.c.study_uid.not_in([bindparam("of_study"), UNREAD]),
)
_TELL = text(
    "INSERT INTO location_notice AS known (trust, study_uid, told_at, next_try_at, tries)"
    " VALUES (:trust, :study_uid, :at, :at, 0)"
    " ON CONFLICT (trust, study_uid) DO UPDATE SET told_at = excluded.told_at,"
    " next_try_at = excluded.next_try_at, tries = 0 WHERE excluded.told_at >= known.told_at"
)
_DUE = (
    select(location_notice)
    .where(location_notice.c.study_uid != UNREAD, location_notice.c.next_try_at <= bindparam("now", type_=Instant))
    .order_by(location_notice.c.next_try_at, location_notice.c.trust, location_notice.c.study_uid)
    .limit(bindparam("count_max"))
)
_DEFER = update(location_notice).where(*_IS_ONE).values(next_try_at=bindparam("until", type_=Instant))
_TRIED = _DEFER.values(tries=location_notice.c.tries + 1)
_SETTLE = delete(location_notice).where(*_IS_ONE, location_notice.c.told_at <= bindparam("until", type_=Instant))
_LAPSE = delete(location_notice).where(location_notice.c.told_at < bindparam("before", type_=Instant))
_UNSETTLED = Prepared(select(location_notice.c.trust).distinct())
_WAITING = select(location_notice.c.trust, func.count().label("rows")).group_by(location_notice.c.trust)


def tell(tx: Tx, trust: TrustId, study_uid: str, at: datetime, waiting_max: int) -> bool:
    """Note that a trust told of a study; False: too many of its studies wait, and only that there was one is noted."""
    others = tx.connection.execute(_OTHERS, {"of_trust": trust.code, "of_study": study_uid}).scalar_one()
    is_kept = study_uid == UNREAD or others < waiting_max
    row = {"trust": trust.code, "study_uid": study_uid if is_kept else UNREAD, "at": micros(at)}
    tx.connection.execute(_TELL, row)
    return is_kept


def claim(tx: Tx, count_max: int, until: datetime) -> list[Told]:
    """Those that are due, the longest due first; nobody else is given them before `until`."""
    due = [
        Told(TrustId(row.trust), row.study_uid, row.told_at, row.tries)
        for row in tx.connection.execute(_DUE, {"now": tx.now, "count_max": count_max})
    ]
    _each(tx, due, until, is_try=False)
    return due


def defer(tx: Tx, notices: Sequence[Told], until: datetime, *, is_try: bool) -> None:
    """Leave them until then; `is_try`: the trust was asked, and does not show them yet."""
    _each(tx, notices, until, is_try=is_try)


def settle(tx: Tx, notice: Told) -> None:
    """Take one off the list, unless the trust told of it again meanwhile."""
    row = {"of_trust": notice.trust.code, "of_study": notice.study_uid, "until": notice.told_at}
    tx.connection.execute(_SETTLE, row)


def lapse(tx: Tx, before: datetime) -> int:
    """Take off the list what was told before then, for it can no longer make a negative wrong; how many those were."""
    return tx.connection.execute(_LAPSE, {"before": before}).rowcount


def waiting(read: Read) -> dict[TrustId, int]:
    """How many wait, of each trust that has any."""
    return {TrustId(row.trust): row.rows for row in read.connection.execute(_WAITING)}


def unsettled(read: Read) -> frozenset[TrustId]:
    """The trusts of which any waits."""
    return frozenset(TrustId(row.trust) for row in _UNSETTLED.rows(read.connection, {}))


def _each(tx: Tx, notices: Sequence[Told], until: datetime, *, is_try: bool) -> None:
    rows = [{"of_trust": each.trust.code, "of_study": each.study_uid, "until": until} for each in notices]
    if rows:
        tx.connection.execute(_TRIED if is_try else _DEFER, rows)
