"""Several images on their way at once, and several who wait for one: each counts by what becomes of itself."""

from __future__ import annotations

import asyncio

from gateway.model.work.retrievals import Counts
from gateway.model.work.transfers import InstanceRef
from tests.retrieval.travels import Travels, content, uids
from tests.sharing.rows import ANNE


async def test_what_is_said_of_an_image_counts_after_the_next_one_was_given_too(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    await travels.region.refer(ANNE, to="RZ1")
    async with travels.retrieval() as delivery:
        first, second, third = [item async for item in delivery]
        assert delivery.counts == Counts(remaining=3, completed=0, failed=0, warning=0)
        delivery.sent(second)
        delivery.sent(first, "it changed data elements")
        assert delivery.counts == Counts(remaining=1, completed=1, failed=0, warning=1)
    # What nothing was said of has failed.
    assert delivery.counts == Counts(remaining=0, completed=1, failed=1, warning=1)
    assert [failure.ref for failure in delivery.failures] == [third.ref]


async def test_who_asks_while_an_abandoned_fetch_ends_gets_the_study_all_the_same(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.region.refer(ANNE, to="RZ4")
    begun, ending, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    got: dict[str, bytes] = {}

    async def pace(_ref: InstanceRef) -> None:
        if begun.is_set():
            return
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ending.set()
            await ended.wait()

    travels.region.trust("RZ2").pacs.pace = pace

    async def goes_away() -> None:
        async with travels.retrieval(by="RZ1") as delivery:
            await begun.wait()
            delivery.cancel()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(goes_away())
        await ending.wait()
        async with travels.retrieval(by="RZ4") as delivery:
            ended.set()
            async for item in delivery:
                got[item.ref.sop_uid] = await content(item)
                delivery.sent(item)
    assert got == uids(held)
