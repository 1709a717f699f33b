"""What a reload finds under way goes on: the old core is closed after its last transfer, sitting and sending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from gateway.core import Core, Door
from gateway.metrics import Figures
from gateway.model.work.retrievals import Counts
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.conduct.ledger import Budgets, Ledger
from gateway.sharing.conduct.watch import Watch
from gateway.sharing.identity.tracing import Tracing
from gateway.sharing.intake.reception import Reception
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore
from tests.clock import settle
from tests.retrieval.pushing import LITTLE, REF
from tests.retrieval.travels import CT, STUDY, Travels, encoded, whole
from tests.sharing.rows import ANNE

SOPS = ("1.2.3.1", "1.2.3.2", "1.2.3.3")


@pytest.fixture
async def core(travels: Travels, store: SqlStore) -> AsyncIterator[Core]:
    """What stands before a reload; RZ2 holds a study of Anne, who is in RZ1's care."""
    region, clock = travels.region, travels.clock
    travels.hold("RZ2", *SOPS)
    await region.refer(ANNE, to="RZ1")
    await region.prepare()
    region.locations = Notebook(store, clock, Pseudonyms(bytes(32)), max_age_days=100)
    watch = Watch(region.broker, Ledger(bytes(16)), Budgets(), region.store, clock, Figures())
    yield Core(
        region.directory,
        region.peers,
        region.gate,
        region.broker,
        watch,
        Tracing([], store, region.identity, clock),
        region.sampling,
        travels.road,
        Reception(region.gate, region.directory, region.store, travels.cache, clock, region.limits),
    )


async def pass_time(travels: Travels, seconds: int) -> None:
    """Let time pass second by second."""
    for _ in range(seconds):
        await travels.clock.advance(1)
        await travels.region.until_idle()


def is_closed(travels: Travels) -> bool:
    """Whether the connections of the core of before are closed."""
    return travels.region.trust("RZ2").pacs.is_closed


async def transfers(travels: Travels, event: str) -> list[dict[str, object]]:
    """What was recorded of transfers that are over."""
    bodies = [cast(dict[str, dict[str, object]], each["body"]) for each in await travels.region.records(event)]
    return [body["transfers"] for body in bodies]


async def test_a_retrieval_that_a_reload_finds_under_way_brings_everything(travels: Travels, core: Core) -> None:
    door, go_on = Door(), asyncio.Event()
    door.lead_to(core)

    async def pace(ref: InstanceRef) -> None:
        if ref.sop_uid != SOPS[0]:
            await go_on.wait()

    travels.region.trust("RZ2").pacs.pace = pace
    got = []
    async with door.retrieve(travels.region.caller("RZ1"), whole(STUDY)) as delivery:
        images = aiter(delivery)
        item = await anext(images)
        got.append(item.ref.sop_uid)
        delivery.sent(item)
        retiring = asyncio.create_task(core.retire(travels.clock, travels.region.limits))
        await pass_time(travels, 60)
        assert not is_closed(travels)
        go_on.set()
        async for item in images:
            got.append(item.ref.sop_uid)
            delivery.sent(item)
    assert got == [*SOPS]
    await pass_time(travels, 1)
    await asyncio.wait_for(retiring, 30)
    assert is_closed(travels)


async def test_a_sitting_that_a_reload_finds_ridden_on_is_recorded_when_it_is_over(
    travels: Travels, core: Core
) -> None:
    door = Door()
    door.lead_to(core)
    caller = travels.region.caller("RZ1")
    async with door.retrieve(caller, whole(STUDY)) as first:
        async for item in first:
            first.sent(item)
    async with door.retrieve(caller, whole(STUDY)) as delivery:
        images = aiter(delivery)
        delivery.sent(await anext(images))
        retiring = asyncio.create_task(core.retire(travels.clock, travels.region.limits))
        await pass_time(travels, 60)
        assert len(await travels.region.records("retrieve-outcome")) == 1
        async for item in images:
            delivery.sent(item)
    await pass_time(travels, 10)
    await asyncio.wait_for(retiring, 30)
    shown = await travels.ledger.show(delivery.retrieval_id)
    assert shown.counts == Counts(remaining=0, completed=3, failed=0, warning=0)
    _, outcome = await transfers(travels, "retrieve-outcome")
    assert outcome["studies"] == [{"study": STUDY, "source": "RZ2", "sent": 3}]


async def test_a_sitting_that_is_closed_ends_with_its_last_rider(travels: Travels, core: Core) -> None:
    caller = travels.region.caller("RZ1")
    await travels.brought()
    async with core.road.retrieve(caller, whole(STUDY)) as delivery:
        images = aiter(delivery)
        delivery.sent(await anext(images))
        closing = asyncio.create_task(core.road.close())
        await settle()
        async for item in images:
            delivery.sent(item)
    await asyncio.wait_for(closing, 30)
    shown = await travels.ledger.show(delivery.retrieval_id)
    assert shown.counts == Counts(remaining=0, completed=3, failed=0, warning=0)


async def test_an_instance_that_a_reload_finds_on_its_way_in_is_counted(travels: Travels, core: Core) -> None:
    door, body = Door(), encoded(REF, ANNE.digits, pixels=300_000)
    door.lead_to(core)
    async with door.reception(travels.region.caller("RZ2")).take(CT, REF.sop_uid, LITTLE) as taking:
        taking.add(body[:200_000])
        await settle()
        await taking.drain()
        retiring = asyncio.create_task(core.retire(travels.clock, travels.region.limits))
        await pass_time(travels, 60)
        taking.add(body[200_000:])
        await taking.keep()
    await pass_time(travels, 15)
    await asyncio.wait_for(retiring, 30)
    assert await transfers(travels, "store-outcome") == [{"kept": 1}]


async def test_a_transfer_that_never_ends_does_not_keep_an_old_core_for_ever(travels: Travels, core: Core) -> None:
    door = Door()
    door.lead_to(core)
    limits = replace(travels.region.limits, retrieve_total_timeout_s=60)
    async with door.retrieve(travels.region.caller("RZ1"), whole(STUDY)):
        retiring = asyncio.create_task(core.retire(travels.clock, limits))
        await pass_time(travels, 59)
        assert not is_closed(travels)
        await pass_time(travels, 1)
        await asyncio.wait_for(retiring, 30)
    assert is_closed(travels)
