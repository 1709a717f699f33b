"""Feeds that fall silent, and counts that differ: alarms while they last, over real rows."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from gateway.config.checks import load
from gateway.config.configuration import Configuration
from gateway.edges.feed_watch import FeedWatch, states
from gateway.feeds.watching import Difference, Told, counts_of, differences
from gateway.model.reporting.seams import MessageState
from policy.parties import TrustId
from storage.release import feeds, messages
from storage.release.messages import NewMessage
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.feeds.test_configuration import FEED, PRINT, written

RX1 = TrustId("RX1")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
YESTERDAY = date(2026, 11, 23)


class Silences:
    """The figures of one moment."""

    def __init__(self) -> None:
        self.shown: dict[str, bool] = {}

    def silent(self, feeds: Mapping[str, bool]) -> None:
        self.shown = dict(feeds)


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return load(written(tmp_path, FEED + PRINT + 'counted_by = "07:00"\n'))


def message(number: int, at: datetime, state: MessageState = MessageState.FILED) -> NewMessage:
    return NewMessage(f"row{number}", RX1, "rx1-ris", f"M{number}", "", "ORU^R01", state, at)


def test_counts_are_compared_day_by_day_and_the_last_word_counts() -> None:
    told = [Told(YESTERDAY, 5), Told(YESTERDAY - timedelta(1), 3), Told(YESTERDAY, 4)]
    found = differences(told, {YESTERDAY: 2, YESTERDAY - timedelta(1): 3})
    assert found == (Difference(YESTERDAY, 4, 2),)
    assert found[0].missing == 2


def test_a_file_of_counts_is_read_line_by_line() -> None:
    assert counts_of("day,count\n2026-06-01, 214\n\n2026-06-02,0\n") == (
        Told(date(2026, 6, 1), 214),
        Told(date(2026, 6, 2), 0),
    )
    for wrong in ("2026-06-01", "2026-06-31,1", "2026-06-01,many", "2026-06-01,9999999999", "2026-06-01,1\nday,count"):
        with pytest.raises(ValueError, match="line"):
            counts_of(wrong)


async def test_a_silent_feed_is_an_alarm_that_repeats_each_hour(store: SqlStore, configuration: Configuration) -> None:
    clock, figures = FakeClock(NOON), Silences()
    watch = FeedWatch(store, lambda: configuration, figures, clock)
    await store.write(lambda tx: messages.hear(tx, RX1, "rx1-ris", NOON))
    with structlog.testing.capture_logs() as logged:
        await watch.look()
        assert figures.shown == {"rx1-ris": False}
        await clock.advance(121 * 60)
        await watch.look()
        await watch.look()
        await clock.advance(3_600)
        await watch.look()
    assert figures.shown == {"rx1-ris": True}
    assert [each["feed"] for each in logged if each["event"] == "feed silent"] == ["rx1-ris", "rx1-ris"]
    await store.write(lambda tx: messages.hear(tx, RX1, "rx1-ris", clock.now()))
    await watch.look()
    assert figures.shown == {"rx1-ris": False}


async def test_a_feed_that_was_never_heard_counts_from_the_start(store: SqlStore, configuration: Configuration) -> None:
    entries = configuration.report_feed
    for since, is_silent in ((NOON - timedelta(minutes=30), False), (NOON - timedelta(hours=3), True)):
        (found,) = await store.read(lambda read, since=since: states(read, entries, NOON, since))  # type: ignore[misc]  # this one's
        assert (found.heard_at, found.is_silent) == (None, is_silent)


async def test_a_clock_that_ran_ahead_for_a_while_hides_no_silence(
    store: SqlStore, configuration: Configuration
) -> None:
    clock, figures = FakeClock(NOON), Silences()
    ahead = FeedWatch(store, lambda: configuration, figures, FakeClock(NOON + timedelta(days=30)))
    watch = FeedWatch(store, lambda: configuration, figures, clock)
    for days, minutes in ((0, 0), (30, 0), (30, -1)):
        at = NOON + timedelta(days=days, minutes=minutes)
        await store.write(lambda tx, at=at: messages.hear(tx, RX1, "rx1-ris", at))  # type: ignore[misc]  # this one's
    assert list((await store.read(messages.heard)).values()) == [NOON + timedelta(days=30)]
    await ahead.look()
    await clock.advance(121 * 60)
    await watch.look()
    assert figures.shown == {"rx1-ris": True}
    await store.write(lambda tx: messages.hear(tx, RX1, "rx1-ris", clock.now()))
    await watch.look()
    assert figures.shown == {"rx1-ris": False}
    await clock.advance(121 * 60)
    await watch.look()
    assert figures.shown == {"rx1-ris": True}


async def test_a_count_that_differs_is_an_alarm_until_all_have_come(
    store: SqlStore, configuration: Configuration
) -> None:
    clock = FakeClock(NOON)
    watch = FeedWatch(store, lambda: configuration, Silences(), clock)
    first = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
    for number, at in enumerate((first, first + timedelta(hours=23, minutes=59), first + timedelta(hours=24))):
        await store.write(lambda tx, number=number, at=at: messages.add(tx, message(number, at)))  # type: ignore[misc]  # this one's
    await store.write(lambda tx: messages.add(tx, message(9, first, MessageState.DEAD)))

    async def logged() -> list[tuple[object, object]]:
        with structlog.testing.capture_logs() as events:
            await watch.look()
        return [(each.get("told"), each.get("filed")) for each in events if each["event"].startswith("feed count")]

    assert await logged() == [(None, None)], "yesterday's count is expected by seven"
    await store.write(lambda tx: feeds.tell(tx, RX1, "rx1-ris", {YESTERDAY: 3}, "Rita Reader"))
    assert await logged() == [(3, 2)]
    assert await logged() == []
    await store.write(lambda tx: feeds.tell(tx, RX1, "rx1-ris", {YESTERDAY: 2}, "Rita Reader"))
    await clock.advance(3_600)
    assert await logged() == []
    (told,) = await store.read(lambda read: feeds.told(read, YESTERDAY))
    assert (told.count, told.told_by) == (2, "Rita Reader")
