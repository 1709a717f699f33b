"""A recorded stream of HL7 through the real intake: shuffled, repeated and broken off, it comes to the same report."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.feeds.hl7.receiving import Reports
from gateway.release.naming import report_id_of
from policy.release.lifecycle import fold
from policy.release.reports import Lifecycle, Said, Standing
from storage.engines import DatabaseSettings
from storage.release import messages, reports
from storage.store import SqlStore, new_id
from tests.clock import FakeClock
from tests.feeds.intakes import MemoryFigures
from tests.feeds.messages import FEED, HEADER, TRUST, line, message, result
from tests.release.rig import Rig
from tests.storage.keyrings import Place

STREAM = (
    ("20260601091602", result("#", "P", at="20260601080000"), line("Heart size normal.", "P")),
    ("20260601091603", result("#", "F", at="20260601091500"), line("", "U")),
    ("20260601100100", result("#", "C", at="20260601100000"), line("Heart enlarged.", "C")),
    ("20260602100100", result("#", "F", at="20260602100000"), line("Rib fracture.", "B")),
)
"""When each is sent, and what it says: the draft leaves with the text that it became."""


@pytest.fixture
async def rig(sqlite_url: str, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    settings = DatabaseSettings(sqlite_url)
    keyring = Place(tmp_path / "keys", clock).keyring()
    async with SqlStore(settings, node="north", clock=clock) as store, keyring as keys:
        yield Rig(store, keys)


def sent(number: str, steps: Sequence[int], stream: Sequence[tuple[str, ...]] = STREAM) -> list[bytes]:
    """These messages of the stream, as one report's of this number."""
    return [
        message(
            *(segment.replace("#", number) for segment in segments),
            header=HEADER.replace("|M1|", f"|{number}-{step}|").replace("20260601091600", sent_at),
        )
        for step, (sent_at, *segments) in ((step, stream[step]) for step in steps)
    ]


async def outcome(rig: Rig, number: str) -> Lifecycle:
    found = await rig.store.read(lambda read: reports.versions(read, report_id_of(TRUST, number)))
    return fold(found, timedelta(minutes=5))


def shown(found: Lifecycle) -> object:
    """What stands, without the names that the report's number is part of."""
    current = found.current
    return (
        found.standing,
        current and (current.said, current.text_digest, current.verification),
        [(each.said, each.text_digest, each.verification) for each in found.addenda],
        len(found.superseded),
        found.first_verified_at,
        found.clock_started_at,
        found.problems,
    )


STANDS = (Standing.RECEIVED, *[Standing.VERIFIED] * 3)
"""What stands once so many of the stream are there."""


@pytest.mark.parametrize("count", range(1, len(STREAM) + 1))
async def test_any_order_and_any_repetition_comes_to_the_same_report(rig: Rig, count: int) -> None:
    speaker = Reports(FEED, rig.intake, rig.store.clock, MemoryFigures(), new_id=new_id)
    found = set()
    for case, order in enumerate(itertools.permutations(range(count))):
        number = f"A{case}"
        for raw in sent(number, [*order, order[0], order[-1]]):
            (answer,) = await speaker.answer(raw)
            assert b"\rMSA|AA|" in answer
        found.add(repr(shown(await outcome(rig, number))))
    assert len(found) == 1
    last = await outcome(rig, "A0")
    assert last.standing is STANDS[count - 1]
    if count == len(STREAM):
        assert last.current is not None and last.current.said is Said.CORRECTED
        assert [each.said for each in last.addenda] == [Said.APPENDED]
    assert await rig.store.read(messages.dead_letters) == ()


AGAIN = (
    ("20260601120000", result("#", at="20260601091500"), line("Heart size normal.")),
    ("20260601100000", result("#", "P", at="20260601091500"), line("Heart size normal.", "P")),
    ("20260601091602", result("#", at="20260601091500"), line("Heart size normal.")),
)
"""A text that is sent again after it was taken back with the time of its verification."""


async def test_a_text_that_is_sent_again_counts_from_when_it_was_sent_first_whichever_comes_first(rig: Rig) -> None:
    speaker = Reports(FEED, rig.intake, rig.store.clock, MemoryFigures(), new_id=new_id)
    for case, order in enumerate(itertools.permutations(range(len(AGAIN)))):
        for raw in sent(f"B{case}", order, AGAIN):
            (answer,) = await speaker.answer(raw)
            assert b"\rMSA|AA|" in answer
        assert (await outcome(rig, f"B{case}")).standing is Standing.BEING_CORRECTED
