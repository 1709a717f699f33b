"""Instances that a trust sends by itself, as a wire brings them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.model.work.transfers import InstanceRef
from gateway.sharing.intake.reception import Reception
from tests.clock import settle
from tests.retrieval.travels import CT, STUDY, Travels

LITTLE = "1.2.840.10008.1.2.1"
REF = InstanceRef(STUDY, "1.2.3.1", "1.2.3.1.1", CT)


@asynccontextmanager
async def receiving(travels: Travels) -> AsyncIterator[Reception]:
    """Where trusts send; describe the region first."""
    await travels.region.prepare()
    region = travels.region
    opened = Reception(region.gate, region.directory, region.store, travels.cache, travels.clock, region.limits)
    yield opened
    await opened.close()


async def send(reception: Reception, travels: Travels, body: bytes, ref: InstanceRef = REF, by: str = "RZ2") -> None:
    """Send an instance in pieces, as a wire does."""
    async with reception.of(travels.region.caller(by)).take(ref.sop_class_uid, ref.sop_uid, LITTLE) as taking:
        for at in range(0, len(body), 500):
            taking.add(body[at : at + 500])
            if at % 50_000 == 0:
                await settle()
                await taking.drain()
        await taking.keep()
