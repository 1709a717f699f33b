"""Follow sole copies to their end: what archives committed is let go, what they did not is sent and asked again.

What is to be done is read from the tables as a whole, so it does not matter which process heard what, or was killed in
between. One node follows its own copies; who asked for commitment is answered by whichever node finds it decided. A
copy that nobody commits himself to stays, and is alarmed by its age (SAF-21).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from gateway.config.configuration import Configuration
from gateway.custody.archives import Addresses, addresses
from gateway.custody.desk import Desk
from gateway.custody.returning import REGISTER, RETURN, Returning, ReturnTerms
from gateway.keeping.keeping import Keeping
from gateway.keeping.work import kind_of
from gateway.model.errors import ServiceFault
from gateway.model.imaging import JsonValue
from gateway.model.seams import SOLE_COPY, Clock, QualityItem
from gateway.model.work.commitments import Asking, CommitmentReport, SoleCopies, Terms, Transaction, answered
from gateway.model.work.jobs import Lane, NewJob
from policy.parties import TrustId
from storage.database import Tx
from storage.registers.state import Author, record_change
from storage.store import SqlStore
from storage.work import commitments, jobs, transactions

log = structlog.get_logger(__name__)

LOOK_INTERVAL_S = 5.0
LOOK_AGAIN_MAX_S = 60.0
"""A request that waits is looked at so often at least."""
ALARM_INTERVAL_S = 3_600.0
ALARM_TRIES = 4
"""Askings in a row without full success, after which an archive's refusal is alarmed, however young the copy."""
QUALITY_ITEMS_MAX = 50
STUDIES_AT_ONCE_MAX = 100
"""Studies that are queued at one look."""
_ATTEMPTS_MAX = 2

Standing = Mapping[tuple[str, TrustId], Asking]


@dataclass(frozen=True, slots=True)
class CustodyTerms:
    """How long what may take."""

    rest: timedelta
    """Nothing more of a study has come for so long."""
    answer_timeout: timedelta
    again: timedelta
    alarm: timedelta
    answer: timedelta

    @classmethod
    def of(cls, configuration: Configuration) -> CustodyTerms:
        """As the configuration has them."""
        section = configuration.custody
        return cls(
            timedelta(seconds=configuration.limits.store_rest_s),
            timedelta(minutes=section.answer_timeout_minutes),
            timedelta(minutes=section.again_minutes),
            timedelta(hours=section.alarm_hours),
            timedelta(hours=section.answer_hours),
        )

    def is_due(self, copies: SoleCopies, asking: Asking | None, now: datetime) -> bool:
        """Whether a study is to be sent to its archive now, for the first time or again."""
        if now - copies.newest_at < self.rest or copies.in_quarantine == copies.instances:
            return False
        if asking is None or copies.newest_at > asking.asked_at:
            return True
        if asking.answered_at is None:
            return now - asking.asked_at >= self.answer_timeout
        return now - asking.answered_at >= self.again

    def is_alarming(self, copies: SoleCopies, asking: Asking | None, now: datetime) -> bool:
        """Whether somebody has to look why it is one still."""
        return now - copies.oldest_at >= self.alarm or (asking is not None and asking.tries >= ALARM_TRIES)


class Custody:
    """The sole copies of one node. `follow` each reload; `run` beside everything else."""

    def __init__(
        self,
        configuration: Configuration,
        store: SqlStore,
        keeping: Keeping,
        clock: Clock,
        *,
        new_uid: Callable[[], str],
        show: Callable[[Sequence[SoleCopies], datetime], None],
    ) -> None:
        """`show` is told of all sole copies at each look."""
        self._show = show
        self._store = store
        self._keeping = keeping
        self._clock = clock
        self._node = configuration.gateway.node
        self._terms = CustodyTerms.of(configuration)
        self._addresses = addresses(configuration)
        self.desk = Desk(store, clock, configuration.limits, self._now_addresses, node=self._node)
        returning = Returning(
            ReturnTerms(self._node, self._terms.answer_timeout, configuration.limits),
            store,
            keeping.cache,
            self._now_addresses,
            self.desk.heard,
            new_uid=new_uid,
        )
        self._kind = kind_of(RETURN, self._node)
        keeping.handle(self._kind, returning)
        keeping.handle(transactions.TELL, self.desk.tell)
        self._queued_at_s: dict[tuple[str, TrustId], float] = {}
        self._looked_at_s: dict[str, tuple[float, float]] = {}
        """For each request that waits, when it was looked at, and after how long it is again."""
        self._alarmed_at_s = float("-inf")

    def follow(self, configuration: Configuration) -> None:
        """Send and tell where a new configuration says; raises `ConfigurationError` for certificates."""
        self._addresses = addresses(configuration)

    async def run(self) -> None:
        """Look when something was heard and every few seconds, for ever."""
        while True:
            try:
                await self.look()
            except ServiceFault as fault:
                log.warning("sole copies not followed", reason=str(fault))
            await self._news()

    async def look(self) -> None:
        """Do at once what `run` does in time; raises a `ServiceFault`."""
        if self.desk.has_news.is_set():
            self.desk.has_news.clear()
            self._looked_at_s.clear()
        await self._decide()
        await self._confirm()
        found = await self._store.read(partial(commitments.sole_copies, place=self._node))
        standing = await self._store.read(partial(commitments.askings, place=self._node))
        self._show(found, self._clock.now())
        await self._send_back(found, standing)
        await self._alarm(found, standing)

    async def _confirm(self) -> None:
        """Let go what archives committed themselves to."""
        await self._keeping.cache.sole_copies.indexed()
        found = await self._store.read(partial(commitments.confirmed, place=self._node))
        for study_uid, object_ids in found.items():
            await self._keeping.cache.sole_copies.confirm(study_uid, frozenset(object_ids))
        if found:
            log.info("sole copies committed", studies=len(found), instances=sum(map(len, found.values())))

    async def _decide(self) -> None:
        """Answer the requests for which it is known what to say."""
        with contextlib.suppress(ServiceFault):  # without a cache nothing new was sent here either
            await self._keeping.cache.sole_copies.indexed()
        waiting = await self._store.read(transactions.undecided)
        now_s = self._clock.monotonic()
        self._looked_at_s = {
            each.transaction_id: self._looked_at_s[each.transaction_id]
            for each in waiting
            if each.transaction_id in self._looked_at_s
        }
        for each in waiting:
            looked_at_s, pause_s = self._looked_at_s.get(each.transaction_id, (float("-inf"), LOOK_INTERVAL_S / 2))
            if now_s - looked_at_s < pause_s:
                continue
            self._looked_at_s[each.transaction_id] = now_s, min(2 * pause_s, LOOK_AGAIN_MAX_S)
            report = await self._answer(each)
            if report is not None:
                await self._store.write(partial(self._decided, transaction=each, report=report))
                self._keeping.runner.wake()

    async def _answer(self, waiting: Transaction) -> CommitmentReport | None:
        known = await self._store.read(partial(transactions.known, trust=waiting.trust, request=waiting.request))
        is_late = self._clock.now() - waiting.received_at >= self._terms.answer
        terms = Terms(has_archive=waiting.trust in self._addresses.archives, is_late=is_late)
        return answered(waiting.request, known, terms)

    def _decided(self, tx: Tx, transaction: Transaction, report: CommitmentReport) -> None:
        transactions.decide(tx, transaction.transaction_id, report)
        author = Author(self._node, transaction.transaction_id, "storage commitment")
        detail: dict[str, JsonValue] = {"committed": len(report.committed), "failed": len(report.failed)}
        record_change(tx, author, REGISTER, "answered", transaction.transaction_id, detail)

    async def _send_back(self, found: Sequence[SoleCopies], standing: Standing) -> None:
        """Queue what is due; of each study one job is open at a time."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        known = {(each.study_uid, each.custodian) for each in found}
        self._queued_at_s = {key: at_s for key, at_s in self._queued_at_s.items() if key in known}
        due: list[tuple[str, TrustId]] = []
        for each in found:
            key = each.study_uid, each.custodian
            queued_at_s = self._queued_at_s.get(key)
            was_queued = queued_at_s is not None and now_s - queued_at_s < self._terms.again.total_seconds()
            is_new = queued_at_s is not None and now - each.newest_at < timedelta(seconds=now_s - queued_at_s)
            if each.custodian not in self._addresses.archives or (was_queued and not is_new):
                continue
            if self._terms.is_due(each, standing.get(key), now):
                due.append(key)
        for key in due[:STUDIES_AT_ONCE_MAX]:
            self._queued_at_s[key] = now_s
            study_uid, custodian = key
            new = NewJob(
                self._kind,
                Lane.BACKGROUND,
                {"study": study_uid, "custodian": custodian.code},
                dedupe_key=f"{self._kind}/{custodian.code}/{study_uid}",
                attempts_max=_ATTEMPTS_MAX,
            )
            await self._store.write(partial(jobs.enqueue, new=new))
        if due:
            self._keeping.runner.wake()

    async def _alarm(self, found: Sequence[SoleCopies], standing: Standing) -> None:
        """Say once an hour, trust by trust, what nobody commits himself to; custodians get their items."""
        now = self._clock.now()
        alarming = [
            each for each in found if self._terms.is_alarming(each, standing.get((each.study_uid, each.custodian)), now)
        ]
        if not alarming or self._clock.monotonic() - self._alarmed_at_s < ALARM_INTERVAL_S:
            return
        self._alarmed_at_s = self._clock.monotonic()
        for trust in sorted({each.custodian for each in alarming}):
            of_trust = [each for each in alarming if each.custodian == trust]
            oldest = min(of_trust, key=lambda each: each.oldest_at)
            asking = standing.get((oldest.study_uid, trust))
            log.error(
                "sole copies not committed",
                alarm=True,
                trust=trust.code,
                studies=len(of_trust),
                instances=sum(each.instances for each in of_trust),
                held_bytes=sum(each.held_bytes for each in of_trust),
                oldest_hours=round((now - oldest.oldest_at).total_seconds() / 3_600, 1),
                tries=asking.tries if asking is not None else 0,
                reason=self._why(oldest, asking),
            )
        items = [
            QualityItem(
                SOLE_COPY,
                each.custodian,
                each.study_uid,
                None,
                {"instances": each.instances, "since": each.oldest_at.isoformat()},
            )
            for each in alarming[:QUALITY_ITEMS_MAX]
        ]
        await self._store.report_quality(items, now)

    def _why(self, copies: SoleCopies, asking: Asking | None) -> str:
        if copies.custodian not in self._addresses.archives:
            return "no [[destination]] with custody for this trust"
        if copies.in_quarantine:
            return "in quarantine"
        if asking is None:
            return "its archive does not take them"
        return asking.words or "its archive has not answered"

    async def _news(self) -> None:
        waiting = asyncio.create_task(self._clock.sleep(LOOK_INTERVAL_S))
        heard = asyncio.create_task(self.desk.has_news.wait())
        try:
            await asyncio.wait((waiting, heard), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            heard.cancel()

    def _now_addresses(self) -> Addresses:
        return self._addresses
