"""Hold every report whose patient changed after it was verified, until a person has looked (SAF-33, REL-36).

A hold of identity keeps back what waits, and takes back what was released, on every channel: the planner sees to both.
Looked at often, because a merge that is undone may mean that somebody reads another person's report at this moment.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog

from gateway.jobs.runner import Work
from policy.release.circumstances import Hold, HoldKind
from policy.release.terms import LONDON
from storage.database import Tx
from storage.registers.state import Author
from storage.release import holds
from storage.release.upkeep import identities
from storage.release.upkeep.identities import Changed
from storage.store import SqlStore

log = structlog.get_logger(__name__)

IDENTITIES = "reports-identities"
"""The kind of the job that looks."""
IDENTITIES_INTERVAL_S = 30.0
REVIEW_AFTER = timedelta(days=1)
"""Whose report it is cannot wait."""
BY = "gateway"
JOINED, UNDONE = "the patient was merged since verification", "a merge of the patient was undone since verification"

Replan = Callable[[Tx, str, Author], object]
"""Plans a report anew, in the name of whoever changed it."""


class Identities:
    """The job."""

    def __init__(self, store: SqlStore, replan: Replan) -> None:
        self._store = store
        self._replan = replan

    async def __call__(self, work: Work) -> None:
        """Look once; what is left is looked at by the next run."""
        await self.look(work.job.job_id)

    async def look(self, request_id: str) -> int:
        """Hold what is to be held; how many reports that is."""
        found = await self._store.read(identities.changed)
        for each in found:
            await self._store.write(partial(self._held, changed=each, request_id=request_id))
        if found:
            undone = sum(each.is_undone for each in found)
            log.error("reports held because their patient changed", alarm=True, reports=len(found), undone=undone)
        return len(found)

    def _held(self, tx: Tx, changed: Changed, request_id: str) -> None:
        if identities.is_asked(tx, changed.hold_id):
            return
        reason = UNDONE if changed.is_undone else JOINED
        review_on = (tx.now.astimezone(LONDON) + REVIEW_AFTER).date()
        hold = Hold(changed.hold_id, HoldKind.IDENTITY, BY, BY, reason, tx.now, review_on)
        holds.place(tx, changed.report_id, hold)
        self._replan(tx, changed.report_id, Author(BY, request_id, reason))
