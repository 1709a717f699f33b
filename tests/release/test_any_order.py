"""In whatever order, however often and however late a report's messages come: the patient sees the same in the end.

And on no day on the way what is unverified, under embargo or known to be superseded; nobody is told of a version twice.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.release.circumstances import ReleaseState
from policy.release.reports import Said
from tests.clock import FakeClock
from tests.release.portal import Portal
from tests.release.release_rig import MONDAY, opened, verified

DAY = timedelta(days=1)
EMBARGO = 28 * DAY
TEXTS = {"draft": -1, "one": 0, "two": 3, "added": 5}
"""What each message says, and on which day it was stated."""
MESSAGES = {
    "draft": verified(MONDAY - DAY, "draft", said=Said.PRELIMINARY, verification=None),
    "one": verified(MONDAY, "one"),
    "two": verified(MONDAY + 3 * DAY, "two", said=Said.CORRECTED),
    "added": verified(MONDAY + 5 * DAY, "added", said=Said.APPENDED),
}
LAST_DAY = 110


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, str]]:
    """On which day which message comes: each once at least, none before it was stated."""
    names = [*MESSAGES, *draw(st.lists(st.sampled_from(sorted(MESSAGES)), max_size=4))]
    comes = [(draw(st.integers(max(0, TEXTS[name]), 45)), draw(st.integers(0, 99)), name) for name in names]
    return [(day, name) for day, _, name in sorted(comes)]


@given(arrivals())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_order_ends_alike_and_shows_nothing_wrong_on_the_way(
    migrated_file: Path, comes: list[tuple[int, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(migrated_file, Path(folder) / "gateway.db")
        asyncio.run(_follow(Path(folder), comes))


async def _follow(folder: Path, comes: Sequence[tuple[int, str]]) -> None:
    portal, clock = Portal(), FakeClock(MONDAY)
    known: set[str] = set()
    report_id = ""
    async with opened(folder, f"sqlite:///{folder / 'gateway.db'}", portal, clock=clock) as rig:
        days = sorted({day for day, _ in comes} | set(range(27, LAST_DAY, 3)))
        for day in days:
            await rig.on(MONDAY + day * DAY + timedelta(hours=1))
            for number, (_, name) in enumerate(each for each in comes if each[0] == day):
                report_id = await rig.file(MESSAGES[name], f"{name}-{day}-{number}")
                known.add(name)
                await rig.work()
                _check(portal, known, clock.now())
            await rig.look()
            _check(portal, known, clock.now())
        assert portal.texts == [["two", "added"]]
        assert (await rig.report(report_id)).state is ReleaseState.RELEASED
        notices = Counter(each.version_id for each in await rig.notices(report_id))
        assert set(notices.values()) == {1}
        assert len(portal.told) <= len(notices)


def _check(portal: Portal, known: set[str], now: datetime) -> None:
    """What the patient reads at this moment, against what is known at this moment."""
    shown = [text for texts in portal.texts for text in texts]
    assert len(portal.shown) <= 1
    assert set(shown) <= known - {"draft"}
    assert not ("one" in shown and "two" in known), "it is known to be superseded"
    for text in shown:
        assert now >= MONDAY + TEXTS[text] * DAY + EMBARGO, f"{text} is under embargo"
