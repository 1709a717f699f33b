"""The desk for storage commitment: takes in what senders ask, hears what archives report, tells what is decided.

Everything is durable before it is answered, in one transaction with its record. A sender is told on the association
that it asked by, as long as that is open; else on one to its address, tried again for a day by a durable job. Who asks
learns of what its own trust sent here and of nothing else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import structlog

from dimse.scp.commitment_scp import Line
from dimse.scu.commitment import NotAsked, report
from gateway.custody.archives import Addresses
from gateway.custody.returning import REGISTER
from gateway.jobs.runner import JobFailed, Work
from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest
from gateway.model.work.jobs import FailureKind
from policy.parties import Caller, TrustId
from storage.database import Tx
from storage.registers.state import Author, record_change
from storage.store import SqlStore
from storage.work import commitments, transactions

log = structlog.get_logger(__name__)

LINES_MAX = 256
"""Associations remembered by which a sender may be told."""
RELEASE_GRACE_S = 0.5
"""Many senders release as soon as their request is taken, and take nothing more on that association."""


class Desk:
    """See `dimse.scp.commitment_scp.Commits`."""

    def __init__(
        self, store: SqlStore, clock: Clock, limits: Limits, addresses: Callable[[], Addresses], *, node: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._addresses = addresses
        self._node = node
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self.has_news = asyncio.Event()
        """Set when something was taken in or heard, for whoever decides what follows."""

    async def take(self, caller: Caller, ae_title: str, request: CommitmentRequest, line: Line) -> None:
        """See `Commits`."""
        who = caller.principal
        author = Author(who.subject, caller.request_id, "storage commitment")

        def take(tx: Tx) -> str:
            taken = transactions.take(
                tx, who.subject, who.trust, ae_title, request, self._limits.commitment_waiting_max
            )
            record_change(tx, author, REGISTER, "asked", taken, {"instances": len(request.instances)})
            return taken

        transaction_id = await self._store.write(take)
        faultpoint("commitment.taken")
        self._lines[transaction_id] = line
        while len(self._lines) > LINES_MAX:
            self._lines.popitem(last=False)
        self.has_news.set()

    async def hear(self, caller: Caller, report: CommitmentReport) -> None:
        """See `Commits`: an archive reports on an association of its own."""
        await self.heard(caller.principal.trust, report)

    async def heard(self, archive: TrustId, report: CommitmentReport) -> None:
        """Write down what a trust's archive reports; raises `InvalidRequest` for what it was not asked."""
        author = Author(self._node, report.transaction_uid, "storage commitment")
        detail: dict[str, JsonValue] = {
            "archive": archive.code,
            "committed": len(report.committed),
            "failed": len(report.failed),
        }

        def hear(tx: Tx) -> bool:
            is_known = commitments.hear(tx, archive, report)
            if is_known:
                record_change(tx, author, REGISTER, "committed", report.transaction_uid, detail)
            return is_known

        if not await self._store.write(hear):
            log.warning("commitment reported that was not asked", trust=archive.code)
            raise InvalidRequest("the transaction is not known")
        faultpoint("custody.heard")
        self.has_news.set()

    async def tell(self, work: Work) -> None:
        """Tell a sender what became of its request: the handler of such a job."""
        transaction_id = str(work.job.detail.get("transaction", ""))
        found = await self._store.read(partial(transactions.to_tell, transaction_id=transaction_id))
        if found is None:
            return
        transaction, answer = found
        if not await self._told_by_line(transaction_id, answer):
            receiver = self._addresses().senders.get((transaction.trust, transaction.ae_title))
            if receiver is None:
                words = f"no [[destination]] of {transaction.trust} has the AE title of who asked"
                raise JobFailed(FailureKind.PERMANENT, words)
            try:
                await report(receiver, answer, self._limits)
            except NotAsked as error:
                raise JobFailed(FailureKind.TRANSIENT, str(error)) from error
        author = Author(self._node, work.job.job_id, "storage commitment")
        detail: dict[str, JsonValue] = {"committed": len(answer.committed), "failed": len(answer.failed)}

        def told(tx: Tx) -> None:
            transactions.told(tx, transaction_id)
            record_change(tx, author, REGISTER, "told", transaction_id, detail)

        faultpoint("commitment.telling")
        await self._store.write(told)

    async def _told_by_line(self, transaction_id: str, answer: CommitmentReport) -> bool:
        line = self._lines.pop(transaction_id, None)
        if line is None:
            return False
        await self._clock.sleep(RELEASE_GRACE_S)
        return await line(answer)
