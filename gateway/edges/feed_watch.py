"""Watch every feed of reports: who says nothing for too long, and whose counts differ from what came (SAF-32).

Both are alarms, repeated while they last: a report that never arrived alerts no referrer and reaches no patient, and
nothing else would tell. Looks at rows alone, so that every process sees the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol

import structlog

from gateway.config.configuration import Configuration
from gateway.config.release.feeds import ReportFeedEntry
from gateway.feeds.hl7.times import london
from gateway.feeds.watching import Difference, Told, differences
from gateway.model.errors import ServiceFault
from gateway.model.reporting.seams import MessageState
from gateway.model.seams import Clock
from policy.parties import TrustId
from policy.release.terms import LONDON
from storage.database import Read
from storage.release import feeds, listing, messages
from storage.store import SqlStore

log = structlog.get_logger(__name__)

WATCH_INTERVAL_S = 60.0
REPEATED_EVERY = timedelta(hours=1)
DAYS_COMPARED = 14
ALARMS_KEPT_MAX = 10_000
_KEPT = frozenset({MessageState.FILED, MessageState.IGNORED, MessageState.REPLAYED})


class ShowsSilence(Protocol):
    """Who keeps the figures."""

    def silent(self, feeds: Mapping[str, bool]) -> None:
        """Whether each feed says nothing for too long."""


@dataclass(frozen=True, slots=True)
class FeedState:
    """How one feed stands."""

    entry: ReportFeedEntry
    heard_at: datetime | None
    is_silent: bool
    differences: tuple[Difference, ...]
    is_count_missing: bool
    """Yesterday's count is expected by now, and nobody told it."""


class FeedWatch:
    """Alarms for feeds. `run` for as long as the node does."""

    def __init__(
        self, store: SqlStore, configuration: Callable[[], Configuration], figures: ShowsSilence, clock: Clock
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._figures = figures
        self._clock = clock
        self._since = clock.now()
        self._alarmed: dict[tuple[str, ...], datetime] = {}

    async def run(self) -> None:
        """Look again and again."""
        while True:
            try:
                await self.look()
            except ServiceFault as error:
                log.info("feeds not looked at", error=type(error).__name__)
            await self._clock.sleep(WATCH_INTERVAL_S)

    async def look(self) -> None:
        """Look once, and alarm where it is time to."""
        entries, now = self._configuration().report_feed, self._clock.now()
        self._since = min(self._since, now)  # it may have begun by a clock that ran ahead
        found = await self._store.read(lambda read: states(read, entries, now, self._since))
        self._figures.silent({each.entry.name: each.is_silent for each in found})
        for each in found:
            feed, trust = each.entry.name, each.entry.trust.code
            if each.is_silent and self._is_due("silent", feed):
                heard = each.heard_at.isoformat() if each.heard_at is not None else "never"
                log.error("feed silent", alarm=True, feed=feed, trust=trust, heard_at=heard)
            if each.is_count_missing and self._is_due("missing", feed):
                log.error("feed count missing", alarm=True, feed=feed, trust=trust)
            for day in each.differences:
                if self._is_due("differ", feed, day.day.isoformat()):
                    counts = {"day": day.day.isoformat(), "told": day.told, "filed": day.filed}
                    log.error("feed counts differ", alarm=True, feed=feed, trust=trust, **counts)

    def _is_due(self, *alarm: str) -> bool:
        now, last = self._clock.now(), self._alarmed.get(alarm)
        if last is not None and abs(now - last) < REPEATED_EVERY:
            return False
        if len(self._alarmed) >= ALARMS_KEPT_MAX:
            self._alarmed.clear()
        self._alarmed[alarm] = now
        return True


def states(read: Read, entries: Sequence[ReportFeedEntry], now: datetime, since: datetime) -> tuple[FeedState, ...]:
    """How every feed stands; one that was never heard of, or is said to be in what is still to come, from `since`."""
    heard = messages.heard(read)
    today = now.astimezone(LONDON).date()
    told: dict[tuple[TrustId, str], list[Told]] = {}
    for each in feeds.told(read, today - timedelta(days=DAYS_COMPARED)):
        if each.day < today:
            told.setdefault((each.trust, each.feed), []).append(Told(each.day, each.count))
    found = []
    for entry in entries:
        name = (entry.trust, entry.heard_as)
        heard_at, counts = heard.get(name), told.get(name, [])
        if heard_at is not None and heard_at > now + messages.HEARD_AHEAD_MAX:
            heard_at = None
        of_feed = {each.day: _filed(read, name, each.day) for each in counts}
        found.append(
            FeedState(
                entry,
                heard_at,
                entry.silence.is_too_long(heard_at or since, now),
                differences(counts, of_feed),
                _is_missing(entry, counts, now),
            )
        )
    return tuple(found)


def _filed(read: Read, feed: tuple[TrustId, str], day: date) -> int:
    """A feed's messages of a London day, dead letters and what a person dismissed left out."""
    begin, end = (london(datetime.combine(each, time())) for each in (day, day + timedelta(days=1)))
    return sum(count for state, count in listing.brought(read, *feed, begin, end).items() if state in _KEPT)


def _is_missing(entry: ReportFeedEntry, counts: Sequence[Told], now: datetime) -> bool:
    wall = now.astimezone(LONDON)
    if entry.counted_by is None or wall.time() < entry.counted_by:
        return False
    return all(each.day != wall.date() - timedelta(days=1) for each in counts)
