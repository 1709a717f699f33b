"""A portal that does not answer is left alone for a while, then asked by one, and then by all as before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.channels.resting import FAILURES_MAX, REST_S, RestingChannel
from gateway.model.reporting.channels import Outcome, PatientReport, Receipt, Rendering
from tests.channels.reports import AT, RENDERING, REPORT, SARAH
from tests.release.portal import Portal

HANGS, WORKS = Outcome(Receipt.UNKNOWN, "no answer"), Outcome(Receipt.CONFIRMED)


class Clock:
    """A time that is set by hand."""

    def __init__(self) -> None:
        self.at = AT

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Slow(Portal):
    """A portal during whose answer something else happens."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        if self.meanwhile is not None:
            await self.meanwhile()
        return await super().put(report, rendering)


async def failed(portal: Portal) -> tuple[RestingChannel, Clock]:
    """A channel that has just failed as often in a row as it may."""
    portal.puts = [HANGS] * FAILURES_MAX
    clock = Clock()
    channel = RestingChannel(portal, clock)
    for _ in range(FAILURES_MAX):
        assert await channel.put(REPORT, RENDERING) == HANGS
    return channel, clock


async def test_after_some_failures_in_a_row_it_is_asked_no_more_for_a_while() -> None:
    portal = Portal()
    channel, clock = await failed(portal)
    clock.pass_(REST_S - 1)
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.FAILED
    assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.FAILED
    assert (await channel.account(SARAH)).is_proven
    assert (portal.put_count, portal.words, portal.asked_for) == (FAILURES_MAX, {}, [])


async def test_then_one_goes_and_the_others_once_it_has_answered() -> None:
    portal, during = Slow(), list[Outcome]()
    channel, clock = await failed(portal)
    clock.pass_(REST_S)

    async def meanwhile() -> None:
        during.append(await channel.withdraw("document-1", SARAH, "Gone."))

    portal.meanwhile = meanwhile
    assert await channel.put(REPORT, RENDERING) == WORKS
    assert [each.receipt for each in during] == [Receipt.FAILED]
    assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.CONFIRMED


async def test_what_it_refuses_is_an_answer() -> None:
    refused = Outcome(Receipt.REFUSED, "no")
    portal = Portal(puts=[HANGS, HANGS, refused, HANGS, HANGS])
    channel = RestingChannel(portal, Clock())
    for _ in range(6):
        await channel.put(REPORT, RENDERING)
    assert portal.put_count == 6


async def test_a_clock_that_was_set_back_leaves_it_alone_no_longer() -> None:
    channel, clock = await failed(Portal())
    clock.pass_(-3_600)
    assert await channel.put(REPORT, RENDERING) == WORKS
