"""What trusts tell of new studies by themselves: taken, then looked into until it is known whose they are (C7, SAF-05).

A notification names a study and no patient. It is written down before the trust is told that it was heard; then that
trust, and nobody else, is asked for the study in the background, and what it truly is becomes knowledge of the index.
Until then, and where too many wait or one cannot be read, nothing that is known of the trust leaves it unasked. Nobody
waits for it, no register decides in it, and it never ends: what fails is told, counted and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Protocol

import structlog

from gateway.model.errors import InvalidRequest, OverCapacity, ServiceFault
from gateway.model.locations import Notice, Told
from gateway.model.seams import Clock, NoticeBook
from gateway.model.settings import Limits, SharingSettings
from gateway.sharing import locate
from gateway.sharing.locations.sampling import Sampling
from policy.parties import Caller, PrincipalKind, TrustId

log = structlog.get_logger(__name__)

NOTICES_AT_ONCE_MAX = 64
"""Notices that are looked into in one go."""
CLAIMED_S = 120.0
"""Meanwhile they are nobody else's; a node that died gives them back so late."""
LOOK_INTERVAL_S = 5.0
"""How often it is looked for what is due: what a trust showed late, or another node left."""
RETRY_FIRST_S = 10.0
"""An archive that does not show a study yet is asked again after this, then after twice as long, and so on."""
RETRY_S_MAX = 300.0
HEARTBEAT_INTERVAL = timedelta(seconds=10)
"""Heartbeats of a trust that come closer are not written down."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_UNREAD = ""


class Heard(StrEnum):
    """What became of a notice: for figures."""

    TAKEN = "taken"
    UNAVAILABLE = "unavailable"
    """Nothing of the study can be had: there is nothing to learn."""
    UNREADABLE = "unreadable"
    DROPPED = "dropped"
    """Too many of the trust's wait already."""
    SETTLED = "settled"
    """It is known whose the study is."""


class CountsNotices(Protocol):
    """Who keeps the figures."""

    def notice_heard(self, trust: TrustId, result: str) -> None:
        """What became of a notice of this trust."""

    def notices_lapsed(self, count: int) -> None:
        """So many were given up."""

    def notices_waiting(self, by_trust: Mapping[TrustId, int]) -> None:
        """How many wait, of each trust that has any."""


class Notices:
    """Takes notices at the door, and looks into them in the background (`run`)."""

    def __init__(
        self,
        book: NoticeBook,
        sampling: Callable[[], Sampling],
        settings: SharingSettings,
        limits: Limits,
        clock: Clock,
        figures: CountsNotices,
        *,
        new_id: Callable[[], str],
        told_of: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`sampling` gives who may ask at this moment, or raises a `ServiceFault`; `told_of` hears of each study."""
        self._book = book
        self._sampling = sampling
        self._limits = limits
        self._clock = clock
        self._figures = figures
        self._new_id = new_id
        self._told_of = told_of
        # A negative lives so long, and a trust's word outlives as long an archive that does not find the study yet.
        self._life = timedelta(minutes=2 * settings.index_negative_max_age_minutes)
        self._is_news = asyncio.Event()
        self._beat_at: dict[TrustId, datetime] = {}
        """When each trust's latest heartbeat was written down."""

    async def take(self, caller: Caller, notice: Notice) -> None:
        """Take a notice of the caller's trust; returns when it is durable.

        Raises `InvalidRequest` for who may not send one, `OverCapacity` where too many of the trust's wait, and
        `StoreUnavailable`: then the trust has to be told that it was not heard.
        """
        trust = self._notifier(caller)
        if not notice.is_available:
            await self._book.heard(trust, self._clock.now())
            self._figures.notice_heard(trust, Heard.UNAVAILABLE)
            await self._follow(notice)
            return
        try:
            await self._told(trust, notice.study_uid)
        except OverCapacity:
            self._figures.notice_heard(trust, Heard.DROPPED)
            log.warning("availability notice dropped", trust=trust.code)
            raise
        self._figures.notice_heard(trust, Heard.TAKEN)
        self._is_news.set()
        await self._follow(notice)

    async def not_read(self, caller: Caller) -> None:
        """Note that the caller's trust told of something that cannot be read; raises as `take` does."""
        trust = self._notifier(caller)
        await self._told(trust, _UNREAD)
        self._figures.notice_heard(trust, Heard.UNREADABLE)
        log.warning("availability notice not read", trust=trust.code)

    async def heartbeat(self, caller: Caller) -> None:
        """Note that the caller's trust has nothing new to tell, unless it said so just now; raises as `take` does."""
        trust, at = self._notifier(caller), self._clock.now()
        if at - self._beat_at.get(trust, _LONG_AGO) >= HEARTBEAT_INTERVAL:
            await self._book.heard(trust, at)
            self._beat_at[trust] = at

    async def run(self) -> None:
        """Look into what is due, for ever."""
        while True:
            self._is_news.clear()
            try:
                while await self._look_into_some():
                    pass
            except ServiceFault as error:
                log.warning("availability notices wait", reason=str(error))
            except Exception as error:  # noqa: BLE001  # outermost frame of the task: a bug must not end it unseen
                log.error("availability notices not looked into", error=type(error).__name__)
            await self._until_due()

    async def _follow(self, notice: Notice) -> None:
        if self._told_of is not None:
            await self._told_of(notice.study_uid)

    def _notifier(self, caller: Caller) -> TrustId:
        """The trust that the caller speaks for, if it may tell us of studies; it is up, whatever we thought of it."""
        if caller.principal.kind not in (PrincipalKind.SYSTEM, PrincipalKind.SERVICE):
            raise InvalidRequest("only a trust's system tells of studies")
        sampling, trust = self._sampling(), caller.principal.trust
        if trust not in sampling.trusts:
            raise InvalidRequest("no archive of your trust is known here")
        sampling.heard_from(trust)
        return trust

    async def _told(self, trust: TrustId, study_uid: str) -> None:
        await self._book.told(trust, study_uid, self._clock.now(), self._limits.location_notices_waiting_max)

    async def _look_into_some(self) -> bool:
        """Look into the longest due; whether there were any."""
        waiting = await self._book.waiting()
        self._figures.notices_waiting(waiting)
        if not waiting:
            return False
        now = self._clock.now()
        if lapsed := await self._book.lapse(now - self._life):
            self._figures.notices_lapsed(lapsed)
            log.info("availability notices lapsed", notices=lapsed)
        claimed = await self._book.claim(NOTICES_AT_ONCE_MAX, now + timedelta(seconds=CLAIMED_S))
        claimed.sort(key=lambda told: told.trust)
        async with asyncio.TaskGroup() as tasks:
            for trust, of_trust in groupby(claimed, key=lambda told: told.trust):
                tasks.create_task(self._look_into(trust, list(of_trust)))
        return bool(claimed)

    async def _look_into(self, trust: TrustId, notices: Sequence[Told]) -> None:
        """Ask a trust for its studies, one after the other, as long as it answers."""
        for position, told in enumerate(notices):
            try:
                sought = await self._sampling().seek(trust, told.study_uid, self._new_id())
                if not sought.is_heard:
                    await self._later(notices[position:], RETRY_FIRST_S, is_try=False)
                    return
                if sought.is_settled:
                    now = self._clock.now()
                    learnt = [locate.notified(patient, trust, now) for patient in sorted(sought.patients)]
                    await self._book.settle(told, learnt)
                    self._figures.notice_heard(trust, Heard.SETTLED)
                else:
                    await self._later([told], min(RETRY_FIRST_S * 2.0 ** min(told.tries, 16), RETRY_S_MAX), is_try=True)
            except ServiceFault as error:
                # They are claimed, and due again when that ends.
                log.warning("availability notices wait", trust=trust.code, reason=str(error))
                return

    async def _later(self, notices: Sequence[Told], delay_s: float, *, is_try: bool) -> None:
        await self._book.defer(notices, self._clock.now() + timedelta(seconds=delay_s), is_try=is_try)

    async def _until_due(self) -> None:
        """Return as soon as there is news, or it is time to look again."""
        news = asyncio.create_task(self._is_news.wait())
        time = asyncio.create_task(self._clock.sleep(LOOK_INTERVAL_S))
        try:
            await asyncio.wait((news, time), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            time.cancel()
