"""A trust whose staff are told by their own system: a running release, a FHIR server, and the proof (A2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from fhir.resources.R4B.communication import Communication

from gateway.release.module import Outside, ReleaseModule
from gateway.release.outward import open_notifiers
from policy.parties import NhsNumber
from storage.clinical import referrals
from storage.clinical.referrals import KeptReferral
from storage.store import new_id
from tests.channels.reports import Numbers, now
from tests.channels.test_fhir import Portal, connected
from tests.clock import FakeClock
from tests.gateway.keeping_rig import Kept, Place
from tests.release.incoming import SARAH, TEXT, message
from tests.release.release_rig import MONDAY, render, verified

REGION = """
[release]
go_live_at = 2026-01-01T00:00:00Z
channels = ["patients"]
[release.contacts]
notices_channel = "order-comms"
[[trust]]
ods = "RZ1"
name = "North Trust"
[[channel]]
name = "order-comms"
kind = "fhir"
url = "http://127.0.0.1:9/fhir"
plain_on_loopback = true
[[channel]]
name = "patients"
kind = "hl7"
address = "127.0.0.1:2576"
plain_on_loopback = true
"""


@pytest.fixture
def clock() -> FakeClock:
    """A Monday, just after a report was verified."""
    return FakeClock(MONDAY + timedelta(minutes=2))


@pytest.fixture
async def place(tmp_path: Path, clock: FakeClock) -> AsyncIterator[tuple[Place, Kept]]:
    """A node whose keeping is open."""
    made = Place(tmp_path, clock)
    made.more = [REGION]
    async with made.open() as kept:
        yield made, kept


async def referral(kept: Kept, report_id: str) -> KeptReferral:
    """How the report's referrer stands."""
    found = await kept.store.read(lambda read: referrals.current(read, report_id))
    assert found is not None
    return found


async def test_a_trusts_system_takes_its_notices_and_proves_their_dispatch(
    place: tuple[Place, Kept], clock: FakeClock
) -> None:
    made, kept = place
    system, is_up = Portal(), [False]

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"resourceType": "Communication", "id": "17"}, status=201 if is_up[0] else 503)

    system.behaviour = answer
    configuration = made.configuration()
    assert set(open_notifiers(configuration, now, Numbers())) == {"order-comms"}
    async with connected(system) as channel:
        outside = Outside(render, lambda exam: exam.name, {}, lambda _: None, new_id, {"order-comms": channel})
        module = ReleaseModule(configuration, kept.store, kept.keeping, clock, outside)
        await module.begin()
        [report_id] = (await module.intake.take(message(verified(), raw=b"MSH"))).report_ids
        await module.chasing.chase()
        assert (await referral(kept, report_id)).referral.dispatched_at is None
        is_up[0] = True
        await clock.advance(180)
        await module.chasing.chase()
        proven = await referral(kept, report_id)
        await module.close()
    assert proven.referral.dispatched_at is not None
    assert proven.dispatch_reference == "portal: Communication 17, status 201"
    assert not configuration.notices_folder.exists()
    first, again = (orjson.loads(each) for each in system.bodies)
    assert first["identifier"] == again["identifier"]
    assert Communication.model_validate(again).subject is None
    assert isinstance(SARAH.nhs_number, NhsNumber)
    for secret in (SARAH.nhs_number.digits, SARAH.family_name, SARAH.given_name, "1980", TEXT.split()[0]):
        assert not any(secret in each for each in system.bodies), secret
